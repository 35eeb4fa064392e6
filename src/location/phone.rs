//! Which of a user's phones is at a binding: by this a call finds its phone again when it has registered another way.

use super::{Binding, Location};

/// One of a user's phones, as it was registered when it came into a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phone {
    /// Number of its binding.
    binding: u64,
    /// What names the phone when that binding is gone, hashed: its instance and `reg-id` (RFC 5626 §4.1); of a phone without,
    /// the Call-ID, which is the same in all its REGISTERs (RFC 3261 §10.2.4).
    name: u64,
}

impl Location {
    /// The phone at a binding.
    pub fn phone(&self, binding: &Binding) -> Phone {
        let instance = binding.instance().to_ascii_lowercase();
        let hasher = self.flows.hasher();
        Phone {
            binding: binding.serial,
            name: if instance.is_empty() {
                hasher.hash_one((2u8, binding.call_id()))
            } else {
                hasher.hash_one((3u8, instance, binding.reg_id))
            },
        }
    }

    /// Whether it is this phone that is at `binding` now. A refresh keeps a binding's number, and so does whatever takes its
    /// place; what is at another binding is the phone only if its own is gone (one over a stream goes with its connection).
    pub fn is_at(&self, phone: Phone, binding: &Binding) -> bool {
        let now = self.phone(binding);
        let mut others = self.bindings(binding.user);
        phone.binding == now.binding
            || phone.name == now.name && !others.any(|other| other.serial == phone.binding)
    }
}
