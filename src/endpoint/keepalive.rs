//! Phones behind a NAT that have registered over UDP are sent four bytes now and then, so that the NAT does not forget the
//! way to them: CRLFCRLF, which every SIP element discards (RFC 3261 §7.5). It needs no answer, and makes no transaction.
//!
//! The way from outside to a phone lasts for as long as packets take it; how long without any nobody knows but the NAT.
//! Once it is lost only the phone can make another one, by registering again, so a longer interval cannot be tried out. The
//! interval is therefore the file's, a short one, and grows with the number of such phones alone: all of them together get
//! [`NAT_KEEPALIVES_PER_SECOND`] at most, and a tenth of that at a time.
//!
//! Some NATs count only what comes from inside (RFC 4787 REQ-6 asks for no more). So every [`ASKED`] it is an OPTIONS in
//! place of the four bytes: its answer comes from inside. Nothing waits for that, and it is discarded unread.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ahash::RandomState;

use super::Endpoint;
use crate::dialog::Dialog;
use crate::limits::NAT_KEEPALIVES_PER_SECOND;
use crate::location::Binding;
use crate::message::Method;
use crate::source::{Flow, Sink, UserId};
use crate::time::Instant;
use crate::token::hex;
use crate::transport::raw_branch;

/// What is sent.
const KEEPALIVE: &[u8] = b"\r\n\r\n";
/// Those that are due within this time go together.
const TOGETHER: Duration = Duration::from_millis(100);
/// So many of them: the others go the next time.
const AT_ONCE: usize = NAT_KEEPALIVES_PER_SECOND / 10;
/// How long a phone is not asked anything: NATs forget what says nothing for 30 s or more.
const ASKED: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct KeepAlive {
    /// In the order of their times.
    queue: VecDeque<Next>,
    /// What the branch of the last OPTIONS on a flow was made from; 0: there was none.
    known: HashMap<Flow, u64, RandomState>,
    /// Nothing goes before.
    rests_until: Instant,
}

/// A flow that waits for its turn.
#[derive(Clone, Copy, Debug)]
struct Next {
    at: Instant,
    /// When something came or may have come from inside.
    asked: Instant,
    flow: Flow,
}

impl KeepAlive {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            queue: VecDeque::new(),
            known: HashMap::with_hasher(hasher),
            rests_until: Instant::default(),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|next| next.at.max(self.rests_until))
    }

    /// How long a flow waits between two.
    fn interval(&self, own: Duration) -> Duration {
        let least = self.known.len().div_ceil(NAT_KEEPALIVES_PER_SECOND);
        own.max(Duration::from_secs(least as u64))
    }

    /// The interval may have been a longer one when those before were queued.
    fn queue(&mut self, next: Next) {
        let place = self.queue.partition_point(|other| other.at <= next.at);
        self.queue.insert(place, next);
    }

    /// Whether this answers the last OPTIONS that went there.
    pub(super) fn is_answer(&self, flow: &Flow, bytes: &[u8]) -> bool {
        bytes.starts_with(b"SIP/2.0 ")
            && (self.known.get(flow))
                .is_some_and(|token| *token != 0 && raw_branch(bytes) == Some(&branch(*token)[..]))
    }
}

impl Endpoint {
    /// A phone behind a NAT has registered on this flow.
    pub(super) fn keep_phone_alive(&mut self, now: Instant, flow: &Flow) {
        let Some(own) = self.config.registrar.nat_keepalive else {
            return;
        };
        if flow.connection.is_none() && !self.keepalive.known.contains_key(flow) {
            self.keepalive.known.insert(*flow, 0);
            let next = Next {
                at: now.plus(self.keepalive.interval(own)),
                asked: now,
                flow: *flow,
            };
            self.keepalive.queue(next);
        }
    }

    /// Those who have registered before: a new configuration, or a restart. They do not all come at once.
    pub(super) fn keep_all_alive(&mut self, now: Instant) {
        self.keepalive.queue.clear();
        self.keepalive.known.clear();
        let flows = (self.location.recent()).filter(|binding| binding.is_behind_nat());
        let flows: Vec<Flow> = flows.map(Binding::flow).collect();
        for flow in flows {
            self.keep_phone_alive(now, &flow);
        }
        let Some(own) = self.config.registrar.nat_keepalive else {
            return;
        };
        let interval = self.keepalive.interval(own);
        let count = self.keepalive.queue.len() as u32;
        for (next, place) in self.keepalive.queue.iter_mut().zip(1..) {
            next.at = now.plus(interval * place / count);
        }
    }

    /// A phone of this user's is behind a NAT, as it has said: it counts as that from now on.
    pub(super) fn is_behind_nat(&mut self, now: Instant, user: UserId, flow: &Flow) {
        (self.location).set_behind_nat(user, flow, &mut self.changes);
        self.keep_changes();
        self.keep_phone_alive(now, flow);
    }

    /// The same of those who have said so within calls.
    pub(super) fn take_nats(&mut self, now: Instant) {
        while let Some((user, flow)) = self.media.next_behind_nat() {
            if self.location.has_flow(&flow) == Some(user) {
                self.is_behind_nat(now, user, &flow);
            }
        }
    }

    /// Sends those that are due.
    pub(super) fn tick_keepalive(&mut self, now: Instant) {
        let Some(own) = self.config.registrar.nat_keepalive else {
            return;
        };
        if self.keepalive.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        self.keepalive.rests_until = now.plus(TOGETHER);
        let until = now.plus(TOGETHER);
        let interval = self.keepalive.interval(own);
        for _ in 0..AT_ONCE {
            let due = self.keepalive.queue.front().copied();
            let Some(mut next) = due.filter(|next| next.at <= until) else {
                return;
            };
            self.keepalive.queue.pop_front();
            let Some(binding) = self.location.on_flow(&next.flow) else {
                self.keepalive.known.remove(&next.flow);
                continue;
            };
            if now.plus(interval) > next.asked.plus(ASKED) {
                next.asked = now;
                let target = (binding.request_uri().into(), binding.path().into());
                self.ask_phone(&next.flow, target);
            } else {
                self.out.send(&next.flow, KEEPALIVE);
            }
            next.at = now.plus(interval);
            self.keepalive.queue(next);
        }
    }

    /// One OPTIONS to a phone at a Contact, by its Path.
    fn ask_phone(&mut self, flow: &Flow, (contact, path): (Box<[u8]>, Box<[u8]>)) {
        let token = self.tokens.next_u64().max(1);
        self.keepalive.known.insert(*flow, token);
        let call_id = hex::<16>(self.tokens.next_u64());
        let ours = self.contact_address(flow);
        let dialog = Dialog {
            call_id: call_id.into(),
            local: self.own_address(ours),
            remote: [b"<", &contact[..], b">"].concat(),
            remote_tag: Box::default(),
            remote_target: contact,
            route_set: path,
            local_cseq: 1,
            remote_cseq: None,
            flow: *flow,
            ours,
            contact_user: Box::default(),
        };
        let branch = branch(token);
        let mut composer = dialog.compose(&mut self.buffer, Method::Options, 1, &branch);
        composer.field("User-Agent", &[b"sipkeep"]);
        composer.finish(None, b"");
        self.out.send(flow, &self.buffer);
    }
}

/// The branch of an OPTIONS. It is no transaction's: these are longer.
fn branch(token: u64) -> [u8; 24] {
    let mut branch = *b"z9hG4bKk0123456789abcdef";
    let (_, end) = branch.split_at_mut(8);
    end.copy_from_slice(&hex::<16>(token));
    branch
}
