//! What a REGISTER with contacts asks for (RFC 3261 §10.3 step 7, RFC 3327 §5.3, RFC 5626 §6), read and checked by itself:
//! no binding is looked at here.

use std::cell::OnceCell;
use std::time::Duration;

use crate::config;
use crate::limits::{CONTACTS_MAX, HEADER_LINES_MAX};
use crate::location::Binding;
use crate::message::{Contact, HeaderName, Message, NameAddr, Params, Scheme, Uri};
use crate::source::Flow;

use super::Registered;

/// RFC 3261 §10.3 step 7: an interval of an hour or more is never too brief.
const NEVER_TOO_BRIEF: Duration = Duration::from_secs(3600);

/// A REGISTER with contacts.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    /// Each contact once.
    pub contacts: Vec<Wanted<'a>>,
    /// Path values joined by `, `.
    pub path: Vec<u8>,
    /// Its flow is handled by RFC 5626 §6, and the answer must say so.
    pub is_outbound: bool,
}

/// One contact.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub uri: Uri<'a>,
    /// Header parameters but `q` and `expires`, each with its semicolon, folding undone.
    pub params: Vec<u8>,
    /// 0 if none, or if it does not count.
    pub reg_id: u32,
    pub q: u16,
    /// Zero: to be removed.
    pub lifetime: Duration,
}

impl<'a> Registration<'a> {
    pub(super) fn read(
        request: &Message<'a>,
        flow: &Flow,
        config: &config::Registrar,
        forbidden: &dyn Fn(&Uri<'_>, &Flow) -> bool,
    ) -> Result<Self, Registered> {
        let mut contacts: Vec<Wanted<'a>> = Vec::new();
        let header = request.expires();
        for (count, contact) in request.contact_values().enumerate() {
            if count >= CONTACTS_MAX.max(config.bindings_per_user_max) {
                return Err(Registered::new(403, "Too Many Contacts"));
            }
            let lifetime = lifetime(contact.expires.or(header), config)?;
            let wanted = Wanted::read(&contact, lifetime);
            if !wanted.is_removal() {
                wanted.check(flow, forbidden)?;
            }
            // The same contact twice: the later one counts.
            contacts.retain(|earlier| !wanted.is_same_as(earlier));
            contacts.push(wanted);
        }
        let is_adding = contacts.iter().any(|wanted| !wanted.is_removal());
        let path = path(request, flow, is_adding, forbidden)?;
        let is_outbound = outbound(request, &mut contacts)?;
        Ok(Self {
            contacts,
            path,
            is_outbound,
        })
    }
}

impl<'a> Wanted<'a> {
    fn read(contact: &Contact<'a>, lifetime: Duration) -> Self {
        let mut params = Vec::new();
        for (name, value) in contact.address.params.iter() {
            if name.eq_ignore_ascii_case(b"q") || name.eq_ignore_ascii_case(b"expires") {
                continue;
            }
            params.push(b';');
            params.extend_from_slice(name);
            if let Some(value) = value {
                params.push(b'=');
                // A quoted string may be folded.
                append_unfolded(value, &mut params);
            }
        }
        let mut wanted = Self {
            uri: contact.uri,
            params,
            reg_id: 0,
            q: contact.q,
            lifetime,
        };
        // RFC 5626 §6: a reg-id without an instance is ignored.
        if !wanted.instance().is_empty() {
            wanted.reg_id = Params(&wanted.params).get("reg-id").map_or(0, reg_id);
        }
        wanted
    }

    /// Whether it may be registered at all.
    fn check(
        &self,
        flow: &Flow,
        forbidden: &dyn Fn(&Uri<'_>, &Flow) -> bool,
    ) -> Result<(), Registered> {
        match self.uri.scheme {
            Scheme::Sip => {}
            // RFC 5630 §3.1.3: a SIPS contact promises TLS to the last hop, and there is none.
            Scheme::Sips => return Err(Registered::new(403, "SIPS Contact Needs TLS")),
            Scheme::Tel | Scheme::Other => {
                return Err(Registered::new(403, "Contact Scheme Not Supported"));
            }
        }
        if forbidden(&self.uri, flow) {
            return Err(Registered::new(403, "Contact Not Allowed"));
        }
        Ok(())
    }

    pub(super) fn is_removal(&self) -> bool {
        self.lifetime.is_zero()
    }

    /// RFC 5626 §4.1: the instance, without quotes; empty if none.
    pub(super) fn instance(&self) -> &[u8] {
        Params(&self.params)
            .get("+sip.instance")
            .and_then(|value| value.strip_prefix(b"\"")?.strip_suffix(b"\""))
            .unwrap_or_default()
    }

    /// Whether `binding` is the one this contact means.
    pub(super) fn is_same(&self, binding: &Binding, uri: &ContactUri<'_>) -> bool {
        is_same(
            (self.instance(), self.reg_id),
            (binding.instance(), binding.reg_id),
            || uri.equals(&self.uri),
        )
    }

    fn is_same_as(&self, other: &Wanted<'_>) -> bool {
        is_same(
            (self.instance(), self.reg_id),
            (other.instance(), other.reg_id),
            || self.uri.equals(&other.uri),
        )
    }

    /// Whether this contact, which has no binding yet, takes the place of `binding`: the same phone's call to register came
    /// with another contact before. Two flows of one phone stand side by side, whatever their Call-ID (RFC 5626 §4.2).
    pub(super) fn supersedes(&self, binding: &Binding, call_id: &[u8]) -> bool {
        binding.call_id() == call_id && (self.reg_id == 0 || binding.reg_id == 0)
    }
}

/// The URI of a binding's contact. Parsed when it is compared with another text, which a refresh does not need, and once.
#[derive(Debug)]
pub(super) struct ContactUri<'a> {
    text: &'a [u8],
    parsed: OnceCell<Option<Uri<'a>>>,
}

impl<'a> ContactUri<'a> {
    pub(super) fn of(binding: &'a Binding) -> Self {
        Self {
            text: binding.contact(),
            parsed: OnceCell::new(),
        }
    }

    fn equals(&self, uri: &Uri<'_>) -> bool {
        let parsed = || self.parsed.get_or_init(|| Uri::parse(self.text).ok());
        self.text == uri.raw || parsed().as_ref().is_some_and(|own| uri.equals(own))
    }
}

/// RFC 5626 §6: two bindings with `reg-id` are the same if instance and `reg-id` are, whatever their contacts. Without, RFC 3261
/// §19.1.4 decides over the contacts; so it does between one with and one without, unless their instances differ.
fn is_same(one: (&[u8], u32), other: (&[u8], u32), same_uri: impl FnOnce() -> bool) -> bool {
    // URNs of UUIDs, which compare without case (RFC 4122 §3).
    let same_instance = one.0.eq_ignore_ascii_case(other.0);
    match (one.1, other.1) {
        (0, 0) => same_uri(),
        (0, _) | (_, 0) => (same_instance || one.0.is_empty() || other.0.is_empty()) && same_uri(),
        (one, other) => same_instance && one == other,
    }
}

/// Step 7: how long a binding lasts for which so many seconds were asked.
fn lifetime(requested_s: Option<u32>, config: &config::Registrar) -> Result<Duration, Registered> {
    let Some(requested_s) = requested_s else {
        return Ok(config.expires_default.min(config.expires_max));
    };
    let requested = Duration::from_secs(u64::from(requested_s));
    if requested.is_zero() {
        return Ok(requested);
    }
    if requested < config.expires_min && requested < NEVER_TOO_BRIEF {
        return Err(Registered::new(423, "Interval Too Brief"));
    }
    Ok(requested.min(config.expires_max))
}

/// RFC 5626 §4.2: 1 to 2^31-1; anything else counts as none.
fn reg_id(value: &[u8]) -> u32 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    text.parse()
        .ok()
        .filter(|&number| number < 1 << 31)
        .unwrap_or(0)
}

/// RFC 3327 §5.3: the Path values in order. They are where requests to the user will be routed, so what holds for a contact
/// holds for them.
fn path(
    request: &Message<'_>,
    flow: &Flow,
    is_adding: bool,
    forbidden: &dyn Fn(&Uri<'_>, &Flow) -> bool,
) -> Result<Vec<u8>, Registered> {
    let mut path = Vec::new();
    if !is_adding {
        return Ok(path);
    }
    for (count, value) in request.values(HeaderName::Path).enumerate() {
        let address = NameAddr::parse(value).ok();
        let uri = address
            .map(|address| address.parts())
            .filter(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips));
        let (Some(uri), true) = (uri, count < HEADER_LINES_MAX) else {
            return Err(Registered::new(400, "Bad Path"));
        };
        if forbidden(&uri, flow) {
            return Err(Registered::new(403, "Path Not Allowed"));
        }
        if !path.is_empty() {
            path.extend_from_slice(b", ");
        }
        append_unfolded(value, &mut path);
    }
    Ok(path)
}

/// RFC 5626 §6: whether the flow is handled as outbound. Where it must not be, `reg-id` is taken away.
fn outbound(request: &Message<'_>, contacts: &mut [Wanted<'_>]) -> Result<bool, Registered> {
    if contacts.iter().all(|wanted| wanted.reg_id == 0) {
        return Ok(false);
    }
    let is_supported = request
        .values(HeaderName::Supported)
        .any(|value| value.eq_ignore_ascii_case(b"outbound"));
    // The proxy next to the phone has put its Path value in first, so it is the last one.
    let is_first_hop = request.values(HeaderName::Via).nth(1).is_none();
    let edge_is_outbound = || {
        let last = request.values(HeaderName::Path).last();
        last.and_then(|value| NameAddr::parse(value).ok())
            .is_some_and(|address| address.parts().params.get("ob").is_some())
    };
    if !is_first_hop && !edge_is_outbound() {
        if is_supported {
            return Err(Registered::new(439, "First Hop Lacks Outbound Support"));
        }
        for wanted in contacts {
            wanted.reg_id = 0;
        }
        return Ok(false);
    }
    let mut adding = contacts.iter().filter(|wanted| !wanted.is_removal());
    let has_reg_id = adding.clone().any(|wanted| wanted.reg_id != 0);
    if has_reg_id && adding.nth(1).is_some() {
        return Err(Registered::new(400, "More Than One Contact On A Flow"));
    }
    Ok(has_reg_id && is_supported)
}

/// Without the line ends of folding.
fn append_unfolded(value: &[u8], out: &mut Vec<u8>) {
    out.extend(value.iter().map(|&byte| match byte {
        b'\r' | b'\n' => b' ',
        byte => byte,
    }));
}
