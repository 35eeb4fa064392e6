//! Whom a branch rings, and as whom the caller is shown to him.

use std::borrow::Cow;

use super::*;
use crate::limits::FORWARDS_MAX;
use crate::message::compose::append_host;
use crate::message::{Composer, HeaderName};

/// User part of a caller who does not say who he is (RFC 3323 §4.1.1.3).
pub const ANONYMOUS: &[u8] = b"anonymous";
/// Host of such a caller.
const ANONYMOUS_HOST: &str = "anonymous.invalid";

/// Where one branch goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// Request-URI.
    pub uri: Vec<u8>,
    /// Route values (a registration's Path), joined; empty: none.
    pub route: Vec<u8>,
    /// The way there.
    pub flow: Flow,
    /// Our address on it, for Via and Contact.
    pub ours: std::net::SocketAddr,
    /// Who that is.
    pub party: Party,
    /// Which of his phones, if he is called at a binding.
    pub phone: Option<Phone>,
    /// He is a phone behind a NAT.
    pub is_behind_nat: bool,
    /// A connection that he has open to us beside a UDP flow, and our address on it.
    pub stream: Option<(Flow, SocketAddr)>,
    /// To towards him.
    pub to: Identity,
    /// The number that he is shown as the caller's, if it is not the caller's own.
    pub caller_id: Option<Box<[u8]>>,
    /// How the call gets to him, if the caller did not dial him.
    pub forwarding: Option<Box<Forwarding>>,
    /// As what he is rung.
    pub role: Role,
    /// The local user among whose outside calls it counts; `None`: nobody, or it is none.
    pub payer: Option<Party>,
    /// It is a call for help: it is nobody's, whoever sends it on.
    pub is_exempt: bool,
    /// What a line asks for.
    pub line: Option<Box<OnLine>>,
    /// Whom to try if he fails.
    pub alternatives: Option<Box<Alternatives>>,
}

impl Target {
    /// Somebody at the far end of `flow`, and nothing special about him.
    pub fn at((flow, ours): (Flow, SocketAddr), party: Party, uri: Vec<u8>, to: Identity) -> Self {
        Self {
            uri,
            route: Vec::new(),
            flow,
            ours,
            party,
            phone: None,
            is_behind_nat: false,
            stream: None,
            to,
            caller_id: None,
            forwarding: None,
            role: Role::default(),
            payer: None,
            is_exempt: false,
            line: None,
            alternatives: None,
        }
    }

    /// What becomes a dialog if the first request there, whose CSeq number is 1, makes one.
    pub(super) fn dialog(&self, from: &Identity, call_id: &[u8], tag: &[u8]) -> Dialog {
        let mut local = from.name_addr(self.ours.ip());
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(tag);
        Dialog {
            call_id: call_id.into(),
            local,
            remote: self.to.name_addr(self.ours.ip()),
            remote_tag: Box::default(),
            remote_target: self.uri.as_slice().into(),
            route_set: self.route.as_slice().into(),
            local_cseq: 1,
            remote_cseq: None,
            flow: self.flow,
            ours: self.ours,
            contact_user: match &self.line {
                Some(line) => line.contact_user.clone(),
                None => Box::default(),
            },
        }
    }

    /// Whether whoever sends the call on to him has done so before, as an INVITE says that came back to us.
    pub fn has_come_back(&self, request: &Message<'_>, ours: std::net::IpAddr) -> bool {
        let last = (self.forwarding.as_ref()).and_then(|forwarding| forwarding.last());
        // On lines he goes by another name, but a call that is sent on for ever says so too.
        let has_gone_far = || request.values(HeaderName::Diversion).count() >= FORWARDS_MAX;
        last.is_some_and(|last| last.is_named_in(request, ours) || has_gone_far())
    }

    /// How long it rings there; `None`: as everywhere.
    pub(super) fn ring_timeout(&self) -> Option<Duration> {
        self.line.as_ref()?.ring_timeout
    }
}

/// What calls to a line have that others have not.
#[derive(Clone, Debug)]
pub struct OnLine {
    /// User part of our Contact: what its peer knows the line by.
    pub contact_user: Box<[u8]>,
    /// From towards its peer: the account.
    pub from: Identity,
    /// The URI that its registrar calls it by.
    pub identity: Vec<u8>,
    /// How long its calls ring; `None`: as all others.
    pub ring_timeout: Option<Duration>,
}

impl OnLine {
    /// The header lines that say whose call it is (RFC 3325 §9.2), and to keep that from the callee. `buffer` is scratch.
    pub(super) fn presented(&self, is_private: bool, buffer: &mut Vec<u8>) -> Box<[u8]> {
        let mut composer = Composer::lines_into(buffer);
        composer.field("P-Preferred-Identity", &[b"<", &self.identity, b">"]);
        if is_private {
            composer.field("Privacy", &[b"id"]);
        }
        buffer.as_slice().into()
    }
}

/// A number or name as From and To show it. Each callee sees it at the address at which he knows us: what another side
/// reaches us by is none of his business.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Display name as it stands in a header, quotes included; empty: none.
    pub display: Vec<u8>,
    /// User part, unescaped; empty: none.
    pub user: Vec<u8>,
    /// Host, if it is not our address on the way to the callee. Of a telephone number: its context, if there is one.
    pub host: Option<String>,
    /// A telephone number without a host (RFC 3966).
    pub is_tel: bool,
}

impl Identity {
    /// Of whoever does not say who he is (RFC 3323 §4.1.1.3).
    pub fn anonymous() -> Self {
        Self {
            display: b"\"Anonymous\"".to_vec(),
            user: ANONYMOUS.to_vec(),
            host: Some(ANONYMOUS_HOST.to_owned()),
            is_tel: false,
        }
    }

    /// Whether it is that of somebody who does not say who he is.
    pub fn is_anonymous(&self) -> bool {
        self.user.eq_ignore_ascii_case(ANONYMOUS)
            || (self.host.as_deref()).is_some_and(|host| host.eq_ignore_ascii_case(ANONYMOUS_HOST))
    }

    /// Name-addr without a tag.
    pub(super) fn name_addr(&self, ours: std::net::IpAddr) -> Vec<u8> {
        // An ordinary one with its tag fits.
        let mut value = Vec::with_capacity(96);
        if !self.display.is_empty() {
            value.extend_from_slice(&self.display);
            value.push(b' ');
        }
        if self.is_tel {
            value.push(b'<');
            append_tel(&mut value, &self.user, self.host.as_deref());
            value.push(b'>');
            return value;
        }
        value.extend_from_slice(b"<sip:");
        if !self.user.is_empty() {
            crate::message::escape_user(&self.user, &mut value);
            value.push(b'@');
        }
        match &self.host {
            Some(host) => value.extend_from_slice(host.as_bytes()),
            None => append_host(&mut value, ours),
        }
        value.push(b'>');
        value
    }

    /// The same with another number. Who calls anonymously stays so.
    pub(super) fn shown_as(&self, number: Option<&[u8]>) -> Cow<'_, Self> {
        match number {
            Some(number) if !self.is_anonymous() => Cow::Owned(Self {
                user: number.to_vec(),
                ..self.clone()
            }),
            _ => Cow::Borrowed(self),
        }
    }
}

/// Appends the `tel:` URI of a number. One that is not global has a context (RFC 3966 §5.1.5), if there is a domain for it.
pub fn append_tel(value: &mut Vec<u8>, number: &[u8], context: Option<&str>) {
    value.extend_from_slice(b"tel:");
    value.extend_from_slice(number);
    if let Some(context) = context.filter(|_| !number.starts_with(b"+")) {
        value.extend_from_slice(b";phone-context=");
        value.extend_from_slice(context.as_bytes());
    }
}
