//! A domain name (RFC 1035 §3.1) as a value: equal whatever its case (RFC 4343), at most 255 bytes.

use std::fmt;

/// Bytes of a name in the wire format, its end included (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Bytes of one label (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A name in the wire format, without compression, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Box<[u8]>);

impl Name {
    /// Reads a host as a URI has it; a dot at its end is none of its labels. `None`: too long, an empty label, or a byte
    /// that no host has. `_` is let in, which services begin with and some hosts have.
    pub(crate) fn parse(host: &str) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut builder = Builder::default();
        for label in host.split('.') {
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if label.is_empty() || !label.bytes().all(is_host) {
                return None;
            }
            builder.push(label.as_bytes())?;
        }
        builder.finish()
    }

    /// `_sip._udp.example.com` of `example.com` (RFC 2782). `None` if that is too long.
    pub(crate) fn of_service(&self, labels: [&str; 2]) -> Option<Self> {
        let mut builder = Builder::default();
        for label in labels {
            builder.push(label.as_bytes())?;
        }
        builder.bytes.extend_from_slice(&self.0);
        Self::checked(builder.bytes)
    }

    fn checked(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= NAME_BYTES_MAX).then(|| Self(bytes.into_boxed_slice()))
    }

    /// The wire format.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The name without labels, `.`.
    pub(crate) fn is_root(&self) -> bool {
        self.0.len() <= 1
    }

    /// Whether it is `other` or lies below it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let mut rest = &*self.0;
        loop {
            if rest == &*other.0 {
                return true;
            }
            let Some((&length, labels)) = rest.split_first() else {
                return false;
            };
            match labels.get(usize::from(length)..) {
                Some(parent) if length > 0 => rest = parent,
                _ => return false,
            }
        }
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (&length, labels) = rest.split_first()?;
            let (label, parent) = labels.split_at_checked(usize::from(length))?;
            rest = parent;
            (!label.is_empty()).then_some(label)
        })
    }
}

impl fmt::Display for Name {
    /// As people write it; a byte that no host has as `\DDD` (RFC 1035 §5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            for &byte in label {
                match byte {
                    b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' => write!(f, "{}", byte as char)?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

/// A name that grows label by label.
#[derive(Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// One more label; `None` if it is empty or too long, or the name becomes so.
    pub(super) fn push(&mut self, label: &[u8]) -> Option<()> {
        let length = u8::try_from(label.len()).ok()?;
        let room = NAME_BYTES_MAX.saturating_sub(self.bytes.len());
        // Its length and the end of the name need a byte each.
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || label.len() > room.saturating_sub(2)
        {
            return None;
        }
        self.bytes.push(length);
        self.bytes
            .extend(label.iter().map(|byte| byte.to_ascii_lowercase()));
        Some(())
    }

    /// The name.
    pub(super) fn finish(mut self) -> Option<Name> {
        self.bytes.push(0);
        Name::checked(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[test]
    fn names_are_equal_whatever_their_case() {
        assert_eq!(name("SIP.Example.com"), name("sip.example.COM."));
        assert_eq!(name("a.bc").wire(), b"\x01a\x02bc\0");
        assert_eq!(name("_sip._udp.a-1.b").to_string(), "_sip._udp.a-1.b");
    }

    #[test]
    fn what_is_no_host_is_no_name() {
        for text in [
            "", ".", "a..b", ".a", "a b", "a@b", "ä.de", "a\0", "[::1]", "a/b",
        ] {
            assert_eq!(Name::parse(text), None, "{text:?}");
        }
        assert!(Name::parse(&"a".repeat(63)).is_some());
        assert!(Name::parse(&"a".repeat(64)).is_none());
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
        assert_eq!(name(&longest).wire().len(), 255);
        assert!(Name::parse(&format!("{longest}a")).is_none());
        assert!(name(&longest).of_service(["_sip", "_udp"]).is_none());
        assert_eq!(
            name("b.c").of_service(["_sip", "_tcp"]),
            Some(name("_sip._tcp.b.c"))
        );
    }

    #[test]
    fn a_name_lies_within_its_parents() {
        let root = Builder::default().finish().unwrap();
        assert!(root.is_root() && name("a").is_within(&root) && root.is_within(&root));
        assert_eq!(root.to_string(), ".");
        assert!(name("a.b.c").is_within(&name("b.c")));
        assert!(name("b.c").is_within(&name("B.C")));
        assert!(!name("b.c").is_within(&name("a.b.c")));
        assert!(!name("ab.c").is_within(&name("b.c")));
    }

    #[test]
    fn strange_bytes_are_escaped() {
        let mut builder = Builder::default();
        builder.push(b"a.\n\xff").unwrap();
        assert_eq!(builder.finish().unwrap().to_string(), "a\\046\\010\\255");
    }
}
