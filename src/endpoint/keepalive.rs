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

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
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
/// Places of flows that are gone, beside one for each that is kept, before they are taken out.
const QUEUE_SLACK: usize = 64;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct KeepAlive {
    /// In the order of their times. Those whose phones are gone count for nothing, and are soon taken out.
    queue: VecDeque<Next>,
    /// Those that are kept, by the phone's address: as many as have bindings, at most.
    known: HashMap<SocketAddr, Kept, RandomState>,
    /// Nothing goes before.
    rests_until: Instant,
}

/// A flow that is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Of its place in the queue: another one of this flow's is left from before its phone was gone for a while.
    at: Instant,
    /// What the branch of the last OPTIONS was made from; 0: there was none.
    token: u64,
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
        let at = next.at;
        let kept = self.known.entry(next.flow.remote);
        kept.or_insert(Kept { at, token: 0 }).at = at;
        let place = self.queue.partition_point(|other| other.at <= at);
        self.queue.insert(place, next);
    }

    /// Nobody is registered on this flow any more. Its place in the queue is left for later, but not a second one for each phone.
    fn forget(&mut self, flow: &Flow) {
        self.known.remove(&flow.remote);
        if self.queue.len() > 2 * self.known.len() + QUEUE_SLACK {
            let known = &self.known;
            self.queue.retain(|next| is_place(known, next));
        }
    }

    /// Whether this answers the last OPTIONS that went there.
    pub(super) fn is_answer(&self, flow: &Flow, bytes: &[u8]) -> bool {
        bytes.starts_with(b"SIP/2.0 ")
            && (self.known.get(&flow.remote))
                .map(|kept| kept.token)
                .is_some_and(|token| token != 0 && raw_branch(bytes) == Some(&branch(token)[..]))
    }
}

/// Whether a flow is kept, and this is its place in the queue.
fn is_place(known: &HashMap<SocketAddr, Kept, RandomState>, next: &Next) -> bool {
    (known.get(&next.flow.remote)).is_some_and(|kept| kept.at == next.at)
}

impl Endpoint {
    /// A phone behind a NAT has registered on this flow.
    pub(super) fn keep_phone_alive(&mut self, now: Instant, flow: &Flow) {
        let Some(own) = self.config.registrar.nat_keepalive else {
            return;
        };
        let is_kept = self.keepalive.known.contains_key(&flow.remote);
        if flow.connection.is_none() && !is_kept && self.location.on_flow(flow).is_some() {
            let next = Next {
                at: now.plus(self.keepalive.interval(own)),
                asked: now,
                flow: *flow,
            };
            self.keepalive.queue(next);
        }
    }

    /// Those whose last binding is gone are kept no longer.
    pub(super) fn forget_left(&mut self) {
        while let Some(flow) = self.location.next_left() {
            if self.location.on_flow(&flow).is_none() {
                self.keepalive.forget(&flow);
            }
        }
    }

    /// Those who have registered before: a new configuration, or a restart. They do not all come at once, and who has waited
    /// already does not wait longer for it.
    pub(super) fn keep_all_alive(&mut self, now: Instant) {
        let KeepAlive { queue, known, .. } = &mut self.keepalive;
        let waiting = queue.drain(..).filter(|next| is_place(known, next));
        let waiting: BTreeMap<SocketAddr, Next> =
            waiting.map(|next| (next.flow.remote, next)).collect();
        known.clear();
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
        let mut queue = Vec::from(std::mem::take(&mut self.keepalive.queue));
        for (next, place) in queue.iter_mut().zip(1..) {
            next.at = now.plus(interval * place / count);
            if let Some(before) = waiting.get(&next.flow.remote) {
                (next.at, next.asked) = (before.at.min(next.at), before.asked);
            }
        }
        // In order, so that each goes to the end: there may be a hundred thousand.
        queue.sort_by_key(|next| next.at);
        queue
            .into_iter()
            .for_each(|next| self.keepalive.queue(next));
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
        let mut left = AT_ONCE;
        while left > 0 {
            let due = self.keepalive.queue.front().copied();
            let Some(mut next) = due.filter(|next| next.at <= until) else {
                return;
            };
            self.keepalive.queue.pop_front();
            if !is_place(&self.keepalive.known, &next) {
                continue;
            }
            let Some(binding) = self.location.on_flow(&next.flow) else {
                self.keepalive.known.remove(&next.flow.remote);
                continue;
            };
            // Perhaps on another address of ours than before.
            next.flow = binding.flow();
            left -= 1;
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
        if let Some(kept) = self.keepalive.known.get_mut(&flow.remote) {
            kept.token = token;
        }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::action::Output;
    use crate::config::Config;
    use crate::endpoint::Input;
    use crate::source::Transport;
    use crate::store::{BindingRow, Snapshot};
    use crate::time::{Now, UnixTime};

    fn at(ms: u64) -> Now {
        Now {
            mono: Instant::from_micros(ms * 1_000),
            unix: UnixTime::from_millis(1_772_366_400_000 + ms),
        }
    }

    /// A phone of the same user's, as the file has it.
    fn row(index: u16, is_behind_nat: bool) -> BindingRow {
        let remote = SocketAddr::from(([198, 51, 100, 7], 2_000 + index));
        let local = "192.0.2.1:5060".parse().unwrap();
        BindingRow {
            call_id: remote.to_string().into_bytes().into(),
            since: at(0).unix,
            expires: at(3_600_000).unix,
            is_behind_nat,
            ..BindingRow::plain(&format!("sip:100@{remote}"), local, remote)
        }
    }

    fn config() -> Config {
        let text = "[server]\nlisten = udp:192.0.2.1:5060\n[user 100]\npassword = x-Wonder-71\n\
            [registrar]\nnat_keepalive = 4s\n";
        Config::read_bytes(text.as_bytes(), Path::new("/tmp/x.ini")).unwrap()
    }

    fn endpoint(bindings: Vec<BindingRow>) -> Endpoint {
        let kept = Snapshot {
            bindings,
            ..Snapshot::default()
        };
        let mut endpoint = Endpoint::new(at(0), config(), [7; 32], kept);
        endpoint.clear_outputs();
        endpoint
    }

    /// What goes out at each time until then: to whom, and whether it is an OPTIONS.
    fn run(endpoint: &mut Endpoint, until: u64) -> BTreeMap<u64, Vec<(u16, Vec<u8>)>> {
        let mut all: BTreeMap<u64, Vec<(u16, Vec<u8>)>> = BTreeMap::new();
        while let Some(next) = endpoint.keepalive.next_deadline() {
            let ms = next.as_micros().div_ceil(1_000);
            if ms > until {
                break;
            }
            endpoint.handle_input(at(ms), Input::Tick);
            for output in endpoint.outputs() {
                if let Output::Datagram { flow, bytes } = output {
                    let sent = (flow.remote.port(), bytes.to_vec());
                    all.entry(ms).or_default().push(sent);
                }
            }
            endpoint.clear_outputs();
        }
        all
    }

    #[test]
    fn after_a_restart_they_do_not_all_come_at_once_and_go_on_in_order() {
        let mut phones: Vec<BindingRow> = (0..4_000).map(|index| row(index, true)).collect();
        phones.push(row(5_000, false));
        let mut endpoint = endpoint(phones);
        let sent = run(&mut endpoint, 60_000);
        let mut last: BTreeMap<u16, u64> = BTreeMap::new();
        let mut asked: BTreeMap<u16, u64> = BTreeMap::new();
        let mut rested = 0;
        for (&ms, sent) in &sent {
            assert!(sent.len() <= AT_ONCE && ms >= rested, "{ms}");
            rested = ms + 100;
            for (port, bytes) in sent {
                let passed = ms - last.insert(*port, ms).unwrap_or(0);
                assert!(passed <= 4_400, "{passed} ms");
                if bytes != KEEPALIVE {
                    let passed = ms - asked.insert(*port, ms).unwrap_or(0);
                    assert!(
                        (20_000..=30_200).contains(&passed),
                        "asked after {passed} ms"
                    );
                }
            }
        }
        assert_eq!((last.len(), asked.len()), (4_000, 4_000));
        let queue = &endpoint.keepalive.queue;
        assert!(queue.iter().is_sorted_by_key(|next| next.at));
    }

    /// A NAT does not wait longer because of a new configuration, however often there is one.
    #[test]
    fn with_a_new_configuration_nobody_waits_longer() {
        let mut endpoint = endpoint((0..400).map(|index| row(index, true)).collect());
        let mut last: BTreeMap<u16, u64> = BTreeMap::new();
        for reload in 0..40 {
            let now = 1_500 * (reload + 1);
            for (ms, sent) in run(&mut endpoint, now) {
                for (port, _) in sent {
                    let passed = ms - last.insert(port, ms).unwrap_or(0);
                    assert!(passed <= 4_400, "{passed} ms");
                }
            }
            endpoint.reload(at(now), config());
        }
        assert_eq!(last.len(), 400);
        let first = last.values().min().expect("400");
        assert!(60_000 - first <= 4_400, "the last one at {first}");
    }

    /// A NAT that gives a phone a new port for each REGISTER: the places that it leaves are nobody's.
    #[test]
    fn a_phone_that_moves_all_the_time_takes_no_place_of_others() {
        let mut endpoint = endpoint((0..20).map(|index| row(index, true)).collect());
        let user = endpoint.location.recent().next().expect("a phone").user;
        let contact = |number: u64| format!("sip:roamer@198.51.100.9:{}", 10_000 + number);
        for number in 0..20_000_u64 {
            let now = at(1_000 + number / 2);
            let flow = Flow {
                transport: Transport::Udp,
                local: "192.0.2.1:5060".parse().unwrap(),
                remote: SocketAddr::from(([198, 51, 100, 9], 10_000 + number as u16)),
                connection: None,
            };
            let old = (endpoint.location.entries(user))
                .find(|(_, own)| own.flow().remote.ip() == flow.remote.ip())
                .map(|(id, _)| id);
            let contact = contact(number);
            let new = crate::location::NewBinding {
                contact: contact.as_bytes(),
                params: b"",
                instance: b"",
                reg_id: 0,
                path: b"",
                call_id: b"roamer",
                cseq: number as u32,
                q: 1_000,
                user_agent: b"",
                flow,
                lifetime: Duration::from_secs(3_600),
            };
            let Endpoint {
                location, changes, ..
            } = &mut endpoint;
            assert!(location.put(now, user, old, &new, changes).is_some());
            endpoint.keep_changes();
            endpoint.is_behind_nat(now.mono, user, &flow);
            endpoint.handle_input(now, Input::Tick);
            endpoint.clear_outputs();
            assert_eq!(endpoint.keepalive.known.len(), 21);
            assert!(endpoint.keepalive.queue.len() <= 2 * 21 + QUEUE_SLACK + 1);
        }
        let own = Duration::from_secs(4);
        assert_eq!(endpoint.keepalive.interval(own), own);
        let sent = run(&mut endpoint, 30_000);
        for port in 2_000..2_020 {
            let has_sent = |sent: &&Vec<(u16, Vec<u8>)>| sent.iter().any(|(to, _)| *to == port);
            let times = sent.iter().filter(|(_, sent)| has_sent(sent));
            let times: Vec<u64> = times.map(|(ms, _)| *ms).collect();
            assert!(times.len() >= 4, "{port}: {times:?}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 4_200));
        }
    }

    /// Places of phones that are gone are nobody's turn either.
    #[test]
    fn those_that_are_gone_delay_nobody() {
        let mut endpoint = endpoint((0..200).map(|index| row(index, true)).collect());
        let user = endpoint.location.recent().next().expect("a phone").user;
        let gone: Vec<_> = (endpoint.location.entries(user))
            .filter(|(_, own)| own.flow().remote.port() < 2_199)
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            let Endpoint {
                location, changes, ..
            } = &mut endpoint;
            location.remove(id, changes);
            endpoint.keep_changes();
        }
        assert_eq!(endpoint.keepalive.known.len(), 1);
        assert!(endpoint.keepalive.queue.len() <= 2 + QUEUE_SLACK);
        let sent = run(&mut endpoint, 9_000);
        let ports: Vec<u16> = sent.values().flatten().map(|(port, _)| *port).collect();
        assert!(
            ports.len() >= 2 && ports.iter().all(|port| *port == 2_199),
            "{ports:?}"
        );
    }

    #[test]
    fn the_order_is_kept_where_the_interval_shrinks() {
        let mut endpoint = endpoint((0..20).map(|index| row(index, true)).collect());
        let flow = row(3, true).remote;
        let mut next = *endpoint.keepalive.queue.front().unwrap();
        next.at = Instant::from_micros(9_000_000);
        next.flow.remote = flow;
        // One that was queued when there were many.
        endpoint
            .keepalive
            .queue
            .retain(|own| own.flow.remote != flow);
        endpoint.keepalive.queue.push_back(next);
        endpoint.keepalive.known.insert(
            flow,
            Kept {
                at: next.at,
                token: 0,
            },
        );
        let sent = run(&mut endpoint, 30_000);
        let times = sent
            .iter()
            .filter(|(_, sent)| sent.iter().any(|(port, _)| *port == 2_000));
        let times: Vec<u64> = times.map(|(ms, _)| *ms).collect();
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] <= 4_200),
            "{times:?}"
        );
    }

    #[test]
    fn what_a_phone_answers_is_known_and_what_others_say_is_not() {
        let mut endpoint = endpoint(vec![row(1, true)]);
        let sent = run(&mut endpoint, 30_000);
        let mut asked = sent
            .values()
            .flatten()
            .filter(|(_, bytes)| bytes != KEEPALIVE);
        let (_, options) = asked.next().expect("it is asked");
        let options = String::from_utf8(options.clone()).unwrap();
        assert!(options.starts_with("OPTIONS sip:100@198.51.100.7:2001 SIP/2.0\r\n"));
        let answer = options.replace(
            "OPTIONS sip:100@198.51.100.7:2001 SIP/2.0",
            "SIP/2.0 200 OK",
        );
        let flow = endpoint.location.recent().next().unwrap().flow();
        let is_answer =
            |flow: &Flow, bytes: &str| endpoint.keepalive.is_answer(flow, bytes.as_bytes());
        assert!(is_answer(&flow, &answer));
        assert!(!is_answer(&flow, &options));
        assert!(!is_answer(&flow, &answer.replace("z9hG4bKk", "z9hG4bKk0")));
        let mut other = flow;
        other.remote.set_port(9);
        assert!(!is_answer(&other, &answer));
    }
}
