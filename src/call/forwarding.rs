//! Who has sent a call on, and how those are told who get it: Diversion (RFC 5806) and History-Info (RFC 7044), with the
//! causes of RFC 4458 §2.

use std::net::IpAddr;
use std::sync::Arc;

use super::target::Identity;
use crate::message::{HeaderName, Message, NameAddr};

/// Why a call goes on to another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// All calls of the user do.
    Always,
    /// He is busy.
    Busy,
    /// He does not want to be disturbed.
    Disturbed,
    /// He does not answer.
    NoAnswer,
    /// None of his phones can be reached.
    Offline,
    /// His phone itself says so (3xx), at once.
    Deflected,
    /// The same after it has rung.
    DeflectedRinging,
}

impl Cause {
    /// The `reason` of Diversion (RFC 5806 §4).
    fn reason(self) -> &'static [u8] {
        match self {
            Self::Always => b"unconditional",
            Self::Busy => b"user-busy",
            Self::NoAnswer => b"no-answer",
            Self::Disturbed => b"do-not-disturb",
            Self::Offline => b"unavailable",
            Self::Deflected | Self::DeflectedRinging => b"deflection",
        }
    }

    /// The `cause` of the URI that it goes on to (RFC 4458 §2), as RFC 7544 §4 has it for these reasons: 404 is "unknown".
    fn number(self) -> &'static [u8] {
        match self {
            Self::Always => b"302",
            Self::Busy => b"486",
            Self::NoAnswer => b"408",
            Self::Offline => b"503",
            Self::Disturbed => b"404",
            Self::Deflected => b"480",
            Self::DeflectedRinging => b"487",
        }
    }

    /// For the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Offline => "offline",
            Self::Disturbed => "do_not_disturb",
            Self::Deflected | Self::DeflectedRinging => "deflected",
        }
    }
}

/// Somebody who has sent the call on.
#[derive(Clone, Debug)]
pub struct Diverted {
    /// The user.
    pub by: Arc<str>,
    /// As others are shown him.
    pub identity: Identity,
    /// Why.
    pub cause: Cause,
}

impl Diverted {
    /// Whether an INVITE says that this one has sent the call on already, which has come back to us (RFC 5806 §8). `ours`:
    /// our address towards whoever sent it.
    pub fn is_named_in(&self, request: &Message<'_>, ours: IpAddr) -> bool {
        let own = self.identity.name_addr(ours);
        let own = NameAddr::parse(&own).map(|own| own.uri).unwrap_or_default();
        (request.values(HeaderName::Diversion))
            .filter_map(|value| NameAddr::parse(value).ok())
            .any(|diverted| diverted.uri == own)
    }
}

/// How a call got to somebody whom the caller did not dial.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// Who has sent it on: at least one, at most [`crate::limits::FORWARDS_MAX`], the last one last.
    pub chain: Vec<Diverted>,
    /// To which number.
    pub number: Box<[u8]>,
    /// As whom the callee's side knows all of them; `None`: as themselves.
    pub told_as: Option<Identity>,
}

impl Forwarding {
    /// Who sent it here.
    pub fn last(&self) -> Option<&Diverted> {
        self.chain.last()
    }

    /// Who sent it here, for records.
    pub fn by(&self) -> Option<String> {
        self.last().map(|last| last.by.to_string())
    }

    fn told<'a>(&'a self, diverted: &'a Diverted) -> &'a Identity {
        self.told_as.as_ref().unwrap_or(&diverted.identity)
    }

    /// The value of Diversion (RFC 5806 §5.1: the last one stands first).
    pub(super) fn diversion(&self, ours: IpAddr) -> Vec<u8> {
        let mut value = Vec::with_capacity(64);
        for diverted in self.chain.iter().rev() {
            if !value.is_empty() {
                value.extend_from_slice(b", ");
            }
            value.extend_from_slice(&self.told(diverted).name_addr(ours));
            value.extend_from_slice(b";reason=");
            value.extend_from_slice(diverted.cause.reason());
        }
        value
    }

    /// The value of History-Info (RFC 7044 §5), which goes on where that of the INVITE ends.
    pub(super) fn history(&self, request: &Message<'_>, ours: IpAddr) -> Vec<u8> {
        let mut index = match last_index(request) {
            Some(index) => [index, b".1"].concat(),
            None => b"1".to_vec(),
        };
        let mut value = Vec::with_capacity(128);
        let mut before: Option<Cause> = None;
        for diverted in &self.chain {
            write_entry(&mut value, self.told(diverted), before, &index, ours);
            value.extend_from_slice(b", ");
            before = Some(diverted.cause);
            index.extend_from_slice(b".1");
        }
        let host = self.last().and_then(|last| self.told(last).host.clone());
        let target = Identity {
            user: self.number.to_vec(),
            host,
            ..Identity::default()
        };
        write_entry(&mut value, &target, before, &index, ours);
        value
    }
}

/// One entry; `cause`: why the call came to this one from the entry above, which `mp` names (RFC 7044 §5.1).
fn write_entry(
    value: &mut Vec<u8>,
    identity: &Identity,
    cause: Option<Cause>,
    index: &[u8],
    ours: IpAddr,
) {
    let name = identity.name_addr(ours);
    let uri = name.strip_suffix(b">").unwrap_or(&name);
    value.extend_from_slice(uri);
    if let Some(cause) = cause {
        value.extend_from_slice(b";cause=");
        value.extend_from_slice(cause.number());
    }
    value.extend_from_slice(b">;index=");
    value.extend_from_slice(index);
    if let (Some(_), Some(above)) = (cause, index.strip_suffix(b".1")) {
        value.extend_from_slice(b";mp=");
        value.extend_from_slice(above);
    }
}

/// The index of the last entry that an INVITE brings; a long one is not gone on with.
fn last_index<'a>(request: &Message<'a>) -> Option<&'a [u8]> {
    let last = request.values(HeaderName::HistoryInfo).last()?;
    let index = NameAddr::parse(last).ok()?.params.get("index")?;
    let is_index = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    (index.len() <= 64 && index.iter().all(is_index)).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diverted(by: &str, cause: Cause) -> Diverted {
        Diverted {
            by: by.into(),
            identity: Identity {
                user: by.as_bytes().to_vec(),
                ..Identity::default()
            },
            cause,
        }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    const INVITE: &str = "INVITE sip:100@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n\
        From: <sip:1@x>;tag=1\r\nTo: <sip:100@x>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n";

    #[test]
    fn the_last_one_stands_first_in_diversion_and_last_in_history() {
        let ours = "192.0.2.1".parse().unwrap();
        let forwarding = Forwarding {
            chain: vec![
                diverted("100", Cause::Always),
                diverted("101", Cause::NoAnswer),
            ],
            number: b"0170#5".as_slice().into(),
            told_as: None,
        };
        assert_eq!(forwarding.by().as_deref(), Some("101"));
        assert_eq!(
            text(forwarding.diversion(ours)),
            "<sip:101@192.0.2.1>;reason=no-answer, <sip:100@192.0.2.1>;reason=unconditional"
        );
        let bytes = format!("{INVITE}\r\n");
        let request = crate::message::parse(bytes.as_bytes()).unwrap();
        assert_eq!(
            text(forwarding.history(&request, ours)),
            "<sip:100@192.0.2.1>;index=1, <sip:101@192.0.2.1;cause=302>;index=1.1;mp=1, \
             <sip:0170%235@192.0.2.1;cause=408>;index=1.1.1;mp=1.1"
        );
        let bytes = format!(
            "{INVITE}History-Info: <sip:7@x>;index=1, <sip:8@x>;index=1.2\r\nDiversion: <sip:101@192.0.2.1>\r\n\r\n"
        );
        let request = crate::message::parse(bytes.as_bytes()).unwrap();
        assert!(
            text(forwarding.history(&request, ours))
                .starts_with("<sip:100@192.0.2.1>;index=1.2.1, ")
        );
        assert!(forwarding.chain[1].is_named_in(&request, ours));
        assert!(!forwarding.chain[0].is_named_in(&request, ours));
    }

    #[test]
    fn each_cause_has_its_words() {
        let all = [
            (Cause::Always, "unconditional", "302"),
            (Cause::Busy, "user-busy", "486"),
            (Cause::NoAnswer, "no-answer", "408"),
            (Cause::Offline, "unavailable", "503"),
            (Cause::Disturbed, "do-not-disturb", "404"),
            (Cause::Deflected, "deflection", "480"),
            (Cause::DeflectedRinging, "deflection", "487"),
        ];
        for (cause, reason, number) in all {
            assert_eq!(cause.reason(), reason.as_bytes());
            assert_eq!(cause.number(), number.as_bytes());
        }
    }
}
