//! Session timers (RFC 4028): what a leg's peer and we agree on, and when something is to be done for it.
//!
//! We are a user agent on both legs, so each leg has terms of its own, and a refresh on one is none of the other's
//! business.
//!
//! - A caller who knows of session timers gets one, whether he asks for it or not. He refreshes only if he wants to:
//!   what we send ourselves shows that he is still there.
//! - A callee is offered one, and says who refreshes. One who does not answer with `Session-Expires` has none: RFC 4028
//!   §7.2 would have us refresh all the same, but what proves to him that he must not forget us is of no use to him, and
//!   an OPTIONS tells us as much as a re-INVITE would.
//! - A leg without session timer is probed with OPTIONS. So it is for every leg with `session_expires = 0`: nothing of
//!   RFC 4028 is offered, asked for or understood then. A peer who wants refreshes makes them himself (§7.2, §8.1 have
//!   that for whoever does not know the extension), and they are answered as any request is.
//!
//! Does no I/O and knows no call: `refresh` does what is due here.

use std::time::Duration;

use crate::limits::DESCRIPTION_BYTES_MAX;
use crate::message::compose::Composer;
use crate::message::{HeaderName, Message, Method, Params};
use crate::time::Instant;
use crate::transaction::ClientId;

/// The shortest session interval that we accept, in seconds (RFC 4028 §5: none may accept less).
pub const INTERVAL_MIN_S: u32 = 90;

/// A session interval of more seconds watches nobody: the leg is taken for one without.
pub const INTERVAL_MAX_S: u32 = 86_400;

/// How often the peer of a leg without session timer is asked whether he still knows of the call. A phone that lost its
/// power is noticed after this and 64·T1 at most.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(600);

/// A refresh that would cross another request waits for this long.
const CROSSING: Duration = Duration::from_secs(5);

/// Who of the two sides of a request refreshes (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refresher {
    Uac,
    Uas,
}

/// What a session refresh request (INVITE, UPDATE) says of session timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    is_supported: bool,
    interval_s: Option<u32>,
    refresher: Option<Refresher>,
    min_s: u32,
}

/// What a leg's peer and we agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    interval_s: u32,
    /// We refresh, not the peer.
    is_ours: bool,
}

/// A session description as it was sent.
#[derive(Clone, Debug)]
pub struct Description {
    /// Content-Type.
    pub kind: Box<[u8]>,
    /// The body.
    pub body: Box<[u8]>,
}

impl Description {
    /// That of a message; `None`: it has no body.
    pub fn of(message: &Message<'_>) -> Option<Self> {
        let body = message.body();
        let kind = message.value(HeaderName::ContentType).unwrap_or_default();
        (!body.is_empty()).then(|| Self {
            kind: kind.into(),
            body: body.into(),
        })
    }
}

/// A refresh of ours that has no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Its transaction.
    pub client: ClientId,
    /// INVITE or UPDATE.
    pub method: Method,
    /// Its CSeq number.
    pub cseq: u32,
}

/// What a leg's timer is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing as yet.
    Later,
    /// To ask the peer whether he is there.
    Probe,
    /// To refresh the session.
    Refresh,
    /// Nobody has refreshed the session.
    Expired,
}

/// How a leg notices that its peer is gone.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// `None`: by probes.
    terms: Option<Terms>,
    /// With terms: when the session is given up.
    ends: Instant,
    due: Instant,
    /// The earliest moment for which the leg's timer is armed.
    armed: Option<Instant>,
    /// The refresh that is under way.
    pub refresh: Option<Refresh>,
    /// The largest minimum that the peer named with 422, in seconds.
    min_s: u32,
    allows_update: bool,
    /// What a re-INVITE offers again to a peer who takes no UPDATE.
    sent: Option<Box<Description>>,
    /// What takes its place if the peer accepts it.
    offered: Option<Box<Description>>,
}

/// Whether a request within a dialog is a session refresh request (RFC 4028 §4), if it is accepted.
pub fn refreshes(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Update)
}

impl Asked {
    /// Reads a request. What does not parse says nothing.
    pub fn of(request: &Message<'_>) -> Self {
        let value = request
            .value(HeaderName::SessionExpires)
            .and_then(interval_and_refresher);
        let min = request.value(HeaderName::MinSe).and_then(seconds);
        Self {
            is_supported: request
                .values(HeaderName::Supported)
                .chain(request.values(HeaderName::Require))
                .any(|option| option.eq_ignore_ascii_case(b"timer")),
            interval_s: value.map(|(interval_s, _)| interval_s),
            refresher: value.and_then(|(_, refresher)| refresher),
            min_s: min.map_or(0, |(min_s, _)| min_s),
        }
    }

    /// §9: to be refused with 422. Whoever does not know the extension could do nothing about it.
    pub fn is_too_brief(self) -> bool {
        self.is_supported && self.interval_s.is_some_and(|asked| asked < INTERVAL_MIN_S)
    }

    /// What our 2xx says (§9, Table 2); `own_s` is the interval that we want, `None`: none at all.
    pub fn terms(self, own_s: Option<u32>) -> Option<Terms> {
        let least = own_s?.max(self.min_s);
        let interval_s = match self.interval_s {
            // We may shorten it, but not below the minimum that was asked for.
            Some(asked) => asked.min(least),
            None if self.is_supported => least,
            None => return None,
        };
        let terms = Terms {
            interval_s,
            is_ours: !self.is_supported || self.refresher != Some(Refresher::Uac),
        };
        Some(terms).filter(|_| (INTERVAL_MIN_S..=INTERVAL_MAX_S).contains(&interval_s))
    }

    /// The lines of our 2xx; `terms` are what [`Asked::terms`] found.
    pub fn write_answer(
        self,
        composer: &mut Composer<'_>,
        terms: Option<Terms>,
        own_s: Option<u32>,
    ) {
        if own_s.is_none() {
            return;
        }
        composer.field("Supported", &[b"timer"]);
        let Some(terms) = terms else { return };
        terms.write(
            composer,
            if terms.is_ours {
                b";refresher=uas"
            } else {
                b";refresher=uac"
            },
        );
        // §9: a must where he is to refresh, who then knows the extension.
        if self.is_supported {
            composer.field("Require", &[b"timer"]);
        }
    }
}

impl Terms {
    /// What a 2xx to a request of ours says (§7.2).
    fn of_answer(response: &Message<'_>, own_s: Option<u32>) -> Option<Self> {
        own_s?;
        let value = response.value(HeaderName::SessionExpires)?;
        let (interval_s, refresher) = interval_and_refresher(value)?;
        let terms = Self {
            interval_s: interval_s.max(INTERVAL_MIN_S),
            is_ours: refresher != Some(Refresher::Uas),
        };
        Some(terms).filter(|_| interval_s <= INTERVAL_MAX_S)
    }

    fn write(self, composer: &mut Composer<'_>, refresher: &[u8]) {
        composer.field_with("Session-Expires", |line| {
            crate::message::compose::append_number(line, self.interval_s.into());
            line.extend_from_slice(refresher);
        });
    }
}

impl Watch {
    /// Takes over what a message of the peer says of himself.
    pub fn learn(&mut self, message: &Message<'_>) {
        let mut methods = message.values(HeaderName::Allow).peekable();
        if methods.peek().is_some() {
            self.allows_update = methods.any(|method| method == b"UPDATE");
        }
    }

    /// Whether what the peer is sent may have to be offered to him again.
    pub fn keeps_descriptions(&self) -> bool {
        self.terms.is_some() && !self.allows_update
    }

    /// Remembers a session description that the peer is sent and has to accept.
    pub fn offering(&mut self, kind: Option<&[u8]>, body: &[u8]) {
        self.offered = self.keep(kind, body);
    }

    /// Remembers one that holds as it is sent.
    pub fn sending(&mut self, kind: Option<&[u8]>, body: &[u8]) {
        if !body.is_empty() {
            self.sent = self.keep(kind, body);
        }
    }

    /// A refresh may have to offer it again. One too long is not kept: such a peer gets an UPDATE, which he may refuse.
    fn keep(&self, kind: Option<&[u8]>, body: &[u8]) -> Option<Box<Description>> {
        let kind = kind.filter(|_| self.keeps_descriptions())?;
        let fits = !body.is_empty() && kind.len() + body.len() <= DESCRIPTION_BYTES_MAX;
        fits.then(|| {
            Box::new(Description {
                kind: kind.into(),
                body: body.into(),
            })
        })
    }

    /// The session description for a re-INVITE; `None`: the refresh is an UPDATE, without one.
    pub fn description(&self) -> Option<&Description> {
        self.sent.as_deref().filter(|_| !self.allows_update)
    }

    /// The lines of the INVITE that begins a session (§7.1), but `Supported: timer`; `false`: none, that neither.
    pub fn write_first(&self, composer: &mut Composer<'_>, own_s: Option<u32>) -> bool {
        let Some(own_s) = own_s else { return false };
        let terms = Terms {
            interval_s: own_s.max(self.min_s),
            is_ours: true,
        };
        // Who refreshes is left to the callee, as §7.1 recommends.
        self.write_offer(composer, terms, b"");
        true
    }

    /// The lines of a later INVITE or UPDATE (§7.4): who refreshed goes on to do so.
    pub fn write_refresh(&self, composer: &mut Composer<'_>, own_s: Option<u32>) {
        match self.terms {
            _ if own_s.is_none() => {}
            None => {
                composer.field("Supported", &[b"timer"]);
            }
            Some(terms) => {
                let refresher: &[u8] = if terms.is_ours {
                    b";refresher=uac"
                } else {
                    b";refresher=uas"
                };
                let terms = Terms {
                    interval_s: terms.interval_s.max(self.min_s),
                    ..terms
                };
                composer.field("Supported", &[b"timer"]);
                self.write_offer(composer, terms, refresher);
            }
        }
    }

    fn write_offer(&self, composer: &mut Composer<'_>, terms: Terms, refresher: &[u8]) {
        terms.write(composer, refresher);
        composer.number("Min-SE", self.min_s.max(INTERVAL_MIN_S).into());
    }

    /// A 422 (§7.3): whether it names a larger minimum than the last, with which to try again.
    pub fn raise(&mut self, response: &Message<'_>, own_s: Option<u32>) -> bool {
        let named = response.value(HeaderName::MinSe).and_then(seconds);
        let (Some((named, _)), Some(own_s)) = (named, own_s) else {
            return false;
        };
        let is_larger = named > self.min_s.max(own_s) && named <= INTERVAL_MAX_S;
        if is_larger {
            self.min_s = named;
        }
        is_larger
    }

    /// Our 2xx says these terms, or there are none: the time begins anew.
    pub fn begin(&mut self, now: Instant, terms: Option<Terms>) {
        self.terms = terms;
        let Some(Terms {
            interval_s,
            is_ours,
        }) = terms
        else {
            self.due = now.plus(PROBE_INTERVAL);
            return;
        };
        let interval = Duration::from_secs(interval_s.into());
        // §10: whoever was not refreshed says BYE so long before the end that it can still arrive.
        self.ends = now.plus(interval - (interval / 3).min(Duration::from_secs(32)));
        self.due = if is_ours {
            now.plus(interval / 2)
        } else {
            self.ends
        };
    }

    /// The peer's 2xx to a request of ours says which terms there are.
    pub fn agree(&mut self, now: Instant, response: &Message<'_>, own_s: Option<u32>) {
        self.learn(response);
        self.begin(now, Terms::of_answer(response, own_s));
        if let Some(offered) = self.offered.take() {
            self.sent = Some(offered);
        }
    }

    /// Our refresh is under way; its answer, or the end of the session, is what comes next.
    pub fn refreshing(&mut self, refresh: Refresh) {
        self.refresh = Some(refresh);
        // One that was refused is not what the peer goes by.
        self.offered = None;
        if self.terms.is_some() {
            self.due = self.ends;
        }
    }

    /// The leg is in another call now, where its timer is not armed as yet.
    pub fn moved(&mut self) {
        self.armed = None;
    }

    /// A refresh cannot go now, since another request is under way.
    pub fn postpone(&mut self, now: Instant) {
        self.again_at(now.plus(CROSSING));
    }

    /// A refresh met a request of the peer's (491): once more after this time (RFC 3261 §14.1).
    pub fn back_off(&mut self, now: Instant, wait: Duration) {
        self.again_at(now.plus(wait));
    }

    /// A refresh was refused: once more after half of the time that is left.
    pub fn refused(&mut self, now: Instant) {
        self.again_at(now.plus(self.ends.since(now) / 2));
    }

    fn again_at(&mut self, at: Instant) {
        self.due = at.min(self.ends);
    }

    /// When the leg's timer is to be armed, if it is not armed for an earlier time already. A timer cannot be taken
    /// back: one that comes early finds [`Due::Later`].
    pub fn arm(&mut self) -> Option<Instant> {
        if self.armed.is_some_and(|armed| armed <= self.due) {
            return None;
        }
        self.armed = Some(self.due);
        self.armed
    }

    /// Whether the leg's timer that is due then, in whole seconds, is the one that is armed last: others find
    /// [`Due::Later`].
    pub fn awaits(&self, due: Instant) -> bool {
        (self.armed).is_some_and(|armed| armed <= due && due.since(armed) < Duration::from_secs(1))
    }

    /// The leg's timer has fired.
    pub fn fired(&mut self, now: Instant) -> Due {
        if self.armed.is_some_and(|armed| armed <= now) {
            self.armed = None;
        }
        match self.terms {
            _ if now < self.due => Due::Later,
            None => Due::Probe,
            Some(_) if now >= self.ends => Due::Expired,
            Some(_) => Due::Refresh,
        }
    }
}

/// `delta-seconds *(SEMI ...)`; what is more than 32 bits counts as the most there is.
fn seconds(value: &[u8]) -> Option<(u32, Params<'_>)> {
    let end = value
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(value.len());
    let (digits, rest) = value.split_at_checked(end)?;
    let is_whole = rest
        .trim_ascii_start()
        .first()
        .is_none_or(|&byte| byte == b';');
    if digits.is_empty() || !is_whole {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse();
    Some((number.unwrap_or(u32::MAX), Params(rest)))
}

fn interval_and_refresher(value: &[u8]) -> Option<(u32, Option<Refresher>)> {
    let (interval_s, params) = seconds(value)?;
    let refresher = match params.get("refresher") {
        Some(side) if side.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
        Some(side) if side.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
        _ => None,
    };
    Some((interval_s, refresher))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN_S: Option<u32> = Some(1_800);

    /// An INVITE with these lines.
    fn with<T>(lines: &str, read: impl Fn(&Message<'_>) -> T) -> T {
        let text = format!(
            "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n{lines}\r\n"
        );
        read(&crate::message::parse(text.as_bytes()).unwrap())
    }

    fn terms(interval_s: u32, is_ours: bool) -> Option<Terms> {
        Some(Terms {
            interval_s,
            is_ours,
        })
    }

    /// RFC 4028 Table 2, and what the interval becomes.
    #[test]
    fn what_our_answer_says() {
        let supported = "Supported: replaces, timer\r\n";
        for (lines, wanted) in [
            ("", None),
            (supported, terms(1_800, true)),
            ("Session-Expires: 600\r\n", terms(600, true)),
            ("x: 600;refresher=uac\r\n", terms(600, true)),
            ("Session-Expires: 60\r\n", None),
            ("Session-Expires: soon\r\n", None),
        ] {
            assert_eq!(
                with(lines, |m| Asked::of(m).terms(OWN_S)),
                wanted,
                "{lines}"
            );
        }
        for (value, min, wanted) in [
            ("600", "", terms(600, true)),
            ("600;refresher=uas", "", terms(600, true)),
            ("600 ; x ; REFRESHER=UAC", "", terms(600, false)),
            ("90;refresher=uac", "", terms(90, false)),
            ("7200", "", terms(1_800, true)),
            ("7200", "3600;x", terms(3_600, true)),
            ("99999999999", "", terms(1_800, true)),
            ("99999999999", "99999999999", None),
        ] {
            let min = if min.is_empty() {
                String::new()
            } else {
                format!("Min-SE: {min}\r\n")
            };
            let lines = format!("{supported}Session-Expires: {value}\r\n{min}");
            assert_eq!(
                with(&lines, |m| Asked::of(m).terms(OWN_S)),
                wanted,
                "{lines}"
            );
            assert_eq!(with(&lines, |m| Asked::of(m).terms(None)), None);
        }
    }

    #[test]
    fn only_who_knows_of_it_is_told_that_it_is_too_brief() {
        let is_too_brief = |lines: &str| with(lines, |m| Asked::of(m).is_too_brief());
        assert!(is_too_brief("Supported: timer\r\nSession-Expires: 89\r\n"));
        assert!(is_too_brief("Require: Timer\r\nSession-Expires: 0\r\n"));
        assert!(!is_too_brief("Supported: timer\r\nSession-Expires: 90\r\n"));
        assert!(!is_too_brief("Session-Expires: 10\r\n"));
    }

    #[test]
    fn half_of_the_interval_and_its_end() {
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        for (interval_s, is_ours, due_s, ends_s) in [
            (1_800, true, 900, 1_768),
            (1_800, false, 1_768, 1_768),
            (90, true, 45, 60),
            (90, false, 60, 60),
        ] {
            let mut watch = Watch::default();
            watch.begin(at(0), terms(interval_s, is_ours));
            assert_eq!((watch.due, watch.ends), (at(due_s), at(ends_s)));
            assert_eq!(watch.arm(), Some(at(due_s)));
            assert_eq!(watch.arm(), None);
            assert_eq!(watch.fired(at(due_s - 1)), Due::Later);
            let due = if is_ours { Due::Refresh } else { Due::Expired };
            assert_eq!(watch.fired(at(due_s)), due);
        }
        let mut watch = Watch::default();
        watch.begin(at(0), None);
        assert_eq!(watch.fired(at(599)), Due::Later);
        assert_eq!(watch.fired(at(600)), Due::Probe);
    }

    #[test]
    fn refused_refreshes_come_to_an_end() {
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let mut watch = Watch::default();
        watch.begin(at(0), terms(1_800, true));
        let (mut now, mut tries) = (at(900), 0);
        while watch.fired(now) != Due::Expired {
            tries += 1;
            watch.refused(now);
            // The wheel counts in seconds.
            now = at(watch.due.as_micros().div_ceil(1_000_000));
        }
        assert_eq!((now, tries), (at(1_768), 10));
    }

    /// Whoever refreshes again and again leaves one armed timer, not one each time.
    #[test]
    fn refreshes_leave_no_timers() {
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let mut watch = Watch::default();
        let mut armed = 0;
        for second in 0..1_000 {
            watch.begin(at(second), terms(1_800, false));
            armed += u32::from(watch.arm().is_some());
        }
        assert_eq!(armed, 1);
        assert_eq!(watch.fired(at(1_768)), Due::Later);
        assert_eq!(watch.arm(), Some(at(999 + 1_768)));
    }
}
