//! Names on virtual time, against a name server of text.

use std::collections::BTreeMap;

use super::*;
use crate::action::Output;
use crate::source::Transport;
use crate::testing::dns::{NAME_SERVER, Zone, question};

const ZONE: &str = "sip.example.org 60 A 192.0.2.9\nexample.org SOA 60\n";

/// Names with the sockets of their queries.
struct World {
    places: Places,
    out: Outputs,
    now: Instant,
    open: BTreeMap<SocketId, Vec<u8>>,
    /// `name TYPE` of each query.
    asked: Vec<String>,
    events: Vec<String>,
}

impl World {
    fn of(targets: &[&str]) -> Self {
        let mut world = Self {
            places: Places::new(&[7; 32], [true, true]),
            out: Outputs::default(),
            now: Instant::from_micros(1),
            open: BTreeMap::new(),
            asked: Vec::new(),
            events: Vec::new(),
        };
        world.reload(targets);
        world
    }

    /// The same, told whom to ask.
    fn told(targets: &[&str]) -> Self {
        let mut world = Self::of(targets);
        world.configure("");
        world
    }

    /// And all was answered from a zone.
    fn resolved(targets: &[&str], zone: &str) -> Self {
        let mut world = Self::told(targets);
        world.answer(zone);
        world
    }

    fn reload(&mut self, targets: &[&str]) -> Vec<PlaceId> {
        let targets = targets.iter().map(|text| (target(text), true));
        let ids = self.places.reload(self.now, targets, &mut self.out);
        self.carry_out();
        ids
    }

    fn configure(&mut self, hosts: &str) {
        let servers = Servers {
            servers: vec![NAME_SERVER],
            ..Servers::default()
        };
        let hosts = Hosts::read(hosts);
        (self.places).configure(self.now, &servers, &hosts, &mut self.out);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for output in self.out.iter() {
            match output {
                Output::Ask { socket, bytes, .. } => {
                    self.asked.extend(question(bytes));
                    self.open.insert(socket, bytes.to_vec());
                }
                Output::CloseQuery { socket } => {
                    self.open.remove(&socket);
                }
                Output::Event(event) => {
                    let fields =
                        (event.fields().into_iter()).map(|(key, text)| format!("{key}={text}"));
                    let fields: Vec<String> = fields.collect();
                    self.events
                        .push(format!("{} {}", event.level, fields.join(" ")));
                }
                other => panic!("{other:?}"),
            }
        }
        self.out.clear();
    }

    /// The name server answers from a zone until nothing is being asked.
    fn answer(&mut self, zone: &str) {
        let zone = Zone::read(zone).unwrap();
        while let Some((socket, query)) = self.open.pop_first() {
            let answer = zone.answer(&query).unwrap();
            (self.places).receive(self.now, socket, NAME_SERVER, &answer, &mut self.out);
            self.carry_out();
        }
    }

    /// Nobody answers meanwhile.
    fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some(deadline) = self.places.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.places.expire(self.now, &mut self.out);
            self.carry_out();
        }
        self.now = end;
    }

    fn first(&self) -> String {
        self.shown(PlaceId(0))
    }

    fn shown(&self, id: PlaceId) -> String {
        match self.places.candidates(id) {
            Ok(candidates) => {
                let texts: Vec<String> = candidates.iter().map(ToString::to_string).collect();
                texts.join(", ")
            }
            Err(unknown) => unknown.to_string(),
        }
    }

    fn addresses(&self) -> Vec<String> {
        let addresses = self.places.addresses(PlaceId(0));
        addresses.map(|address| address.to_string()).collect()
    }
}

fn target(text: &str) -> Target {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().unwrap())),
        None => (text, None),
    };
    Target {
        host: host.into(),
        port,
        transport: Some(Transport::Udp),
    }
}

fn candidate(address: &str) -> Candidate {
    Candidate {
        transport: Transport::Udp,
        address: address.parse().unwrap(),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_address_is_known_at_once_and_nobody_is_asked() {
    let world = World::told(&["192.0.2.1", "192.0.2.1:5070"]);
    assert!(world.events.is_empty());
    assert_eq!(world.first(), "udp 192.0.2.1:5060");
    assert_eq!(world.shown(PlaceId(1)), "udp 192.0.2.1:5070");
    assert_eq!((world.asked.len(), world.places.next_deadline()), (0, None));
    assert_eq!(world.addresses(), ["192.0.2.1"]);
}

#[test]
fn a_name_is_asked_for_as_soon_as_it_is_known_whom_to_ask() {
    let mut world = World::of(&["sip.example.org"]);
    assert_eq!(world.first(), "no name server has answered yet");
    assert_eq!((world.asked.len(), world.places.next_deadline()), (0, None));
    world.configure("");
    let asked = [
        "_sip._udp.sip.example.org SRV",
        "sip.example.org AAAA",
        "sip.example.org A",
        "sip.example.org NAPTR",
    ];
    assert_eq!(world.asked, asked);
    let before = world.places.changes();
    world.answer(ZONE);
    assert_eq!(world.first(), "udp 192.0.2.9:5060");
    assert_ne!(world.places.changes(), before);
    assert_eq!(world.places.changes_of(PlaceId(0)), 1);
    let told = "INFO name=sip.example.org to=udp 192.0.2.9:5060";
    assert_eq!(world.events, [told]);
}

#[test]
fn one_name_is_one_place() {
    let mut world = World::told(&[]);
    let names = ["a.example.org", "b.example.org", "a.example.org"];
    let ids = world.reload(&names);
    assert_eq!(ids, [PlaceId(0), PlaceId(1), PlaceId(0)]);
    assert_eq!(world.asked.len(), 8);
}

#[test]
fn hosts_come_before_name_servers_and_are_read_again() {
    let mut world = World::of(&["pbx"]);
    world.configure("192.0.2.7 pbx");
    assert_eq!(world.first(), "udp 192.0.2.7:5060");
    world.configure("192.0.2.8 pbx");
    assert_eq!(world.first(), "udp 192.0.2.8:5060");
    assert_eq!(world.asked.len(), 0);
}

#[test]
fn what_is_known_holds_while_it_is_asked_for_again() {
    let mut world = World::resolved(&["sip.example.org:5060"], ZONE);
    world.asked.clear();
    world.pass(seconds(59));
    assert_eq!(world.asked.len(), 0);
    // In the background, when its time is over; not only when somebody needs it.
    world.pass(seconds(1));
    assert_eq!(world.asked, ["sip.example.org AAAA", "sip.example.org A"]);
    let changes = world.places.changes();
    for time in [1, 1, 10, 600] {
        world.pass(seconds(time));
        assert_eq!(world.first(), "udp 192.0.2.9:5060");
    }
    assert_eq!(world.places.changes(), changes);
    world.now = world.now.plus(seconds(3 * 86_400 - 1_000));
    world.pass(seconds(300));
    assert_eq!(world.first(), "udp 192.0.2.9:5060");
    world.pass(seconds(200));
    assert_eq!(world.first(), "no name server answers");
    assert_eq!(world.events.len(), 2, "{:?}", world.events);
    let told = "WARN name=sip.example.org:5060 error=no name server answers";
    assert_eq!(world.events[1], told);
    // And back: somebody is asked all the time.
    while world.open.is_empty() {
        world.pass(seconds(1));
    }
    world.answer(ZONE);
    assert_eq!(world.first(), "udp 192.0.2.9:5060");
}

#[test]
fn another_address_is_taken_when_the_time_of_the_first_is_over() {
    let mut world = World::resolved(&["sip.example.org:5060"], ZONE);
    world.pass(seconds(60));
    let changes = world.places.changes_of(PlaceId(0));
    world.answer("sip.example.org 60 A 192.0.2.10\n");
    assert_eq!(world.first(), "udp 192.0.2.10:5060");
    assert_eq!(world.places.changes_of(PlaceId(0)), changes + 1);
    let told = "DEBUG name=sip.example.org:5060 to=udp 192.0.2.10:5060";
    assert_eq!(world.events[1..], [told]);
}

#[test]
fn an_address_that_is_gone_counts_for_an_hour() {
    let mut world = World::resolved(&["sip.example.org:5060"], ZONE);
    world.pass(seconds(60));
    world.answer("sip.example.org 86400 A 192.0.2.10\n");
    assert_eq!(world.addresses(), ["192.0.2.10", "192.0.2.9"]);
    let changes = world.places.changes();
    world.pass(seconds(3_599));
    assert_eq!(world.addresses(), ["192.0.2.10", "192.0.2.9"]);
    assert_eq!(world.places.changes(), changes);
    world.pass(seconds(1));
    assert_eq!(world.addresses(), ["192.0.2.10"]);
    assert_ne!(world.places.changes(), changes);
}

#[test]
fn addresses_of_a_name_that_always_has_others_are_bounded() {
    let mut world = World::resolved(&["sip.example.org:5060"], ZONE);
    for n in 1..=100 {
        world.pass(seconds(30));
        world.answer(&format!("sip.example.org 30 A 198.51.100.{n}\n"));
    }
    let addresses = world.addresses();
    assert_eq!(addresses.len(), PLACE_ADDRESSES_MAX);
    assert_eq!(addresses[..2], ["198.51.100.100", "198.51.100.99"]);
}

#[test]
fn a_name_without_an_address_is_looked_at_again() {
    let mut world = World::resolved(&["sip.example.org:5060"], "example.org SOA 30");
    let text = "the name has no address that can be reached from here";
    assert_eq!(world.first(), text);
    world.pass(NAME_RETRY);
    assert_eq!(world.open.len(), 2);
    world.answer(ZONE);
    assert_eq!(world.first(), "udp 192.0.2.9:5060");
    // What the owner of the name takes back is gone, but may still call.
    world.pass(seconds(60));
    world.answer("example.org SOA 30");
    assert_eq!(
        (world.first(), world.addresses()),
        (text.into(), vec!["192.0.2.9".into()])
    );
}

#[test]
fn what_is_no_name_is_never_asked_for() {
    let world = World::told(&["a..b"]);
    assert_eq!(world.first(), "neither a name nor an address");
    assert_eq!((world.asked.len(), world.places.next_deadline()), (0, None));
}

#[test]
fn a_reload_keeps_what_is_known_and_forgets_who_is_gone() {
    let mut world = World::resolved(&["a.example.org", "sip.example.org"], ZONE);
    world.asked.clear();
    let ids = world.reload(&["sip.example.org", "192.0.2.3"]);
    assert_eq!(ids, [PlaceId(0), PlaceId(1)]);
    assert_eq!(world.first(), "udp 192.0.2.9:5060");
    assert_eq!(world.shown(PlaceId(1)), "udp 192.0.2.3:5060");
    // All the same it is asked for again.
    assert_eq!(world.asked.len(), 4);
    world.answer("sip.example.org 60 A 192.0.2.10\nexample.org SOA 60");
    assert_eq!(world.first(), "udp 192.0.2.10:5060");
    world.reload(&[]);
    assert_eq!(world.places.next_deadline(), None);
    assert_eq!(world.first(), "no name server has answered yet");
}

const TWO: &str = "_sip._udp.example.org SRV 10 50 5060 a.example.org\n\
    _sip._udp.example.org SRV 10 50 5060 b.example.org\n\
    _sip._udp.example.org SRV 20 50 5060 c.example.org\n\
    example.org SOA 900\na.example.org A 192.0.2.1\nb.example.org A 192.0.2.2\nc.example.org A 192.0.2.3\n";

#[test]
fn what_fails_comes_last_until_its_time_is_over_or_it_works() {
    let mut world = World::resolved(&["example.org"], TWO);
    let mut order: Vec<Candidate> = world.places.candidates(PlaceId(0)).unwrap().to_vec();
    assert_eq!(order[2], candidate("192.0.2.3:5060"));
    let changes = world.places.changes();
    world.places.failed(world.now, order[0], None);
    order.rotate_left(1);
    assert_eq!(world.places.candidates(PlaceId(0)).unwrap(), order);
    assert_eq!(world.places.changes(), changes + 1);
    // The second time it is no news.
    world.places.failed(world.now, order[2], None);
    assert_eq!(world.places.changes(), changes + 1);
    // Its time is over: those of the better priority come first again, the one that works before the other.
    world.pass(seconds(60));
    order.swap(1, 2);
    assert_eq!(world.places.candidates(PlaceId(0)).unwrap(), order);
    // Back at once when it works ...
    world.places.failed(world.now, order[0], None);
    assert_eq!(world.places.candidates(PlaceId(0)).unwrap()[2], order[0]);
    world.places.worked(world.now, order[0]);
    world.pass(seconds(0));
    assert_eq!(world.places.candidates(PlaceId(0)).unwrap()[2], order[2]);
    // ... but held for as long as it has said itself.
    world.places.failed(world.now, order[0], Some(seconds(300)));
    world.pass(seconds(299));
    world.places.worked(world.now, order[0]);
    world.pass(seconds(0));
    assert_eq!(world.places.candidates(PlaceId(0)).unwrap()[2], order[0]);
    world.pass(seconds(1));
    assert_eq!(world.places.candidates(PlaceId(0)).unwrap()[2], order[2]);
    assert_eq!(world.asked.len(), 10);
}

#[test]
fn equals_stay_in_their_order_whatever_order_an_answer_has() {
    let mut world = World::resolved(&["example.org"], TWO);
    let order = world.first();
    let changes = world.places.changes();
    let turned: Vec<&str> = TWO.lines().rev().collect();
    for _ in 0..20 {
        world.pass(seconds(3_600));
        world.answer(&turned.join("\n"));
        assert_eq!(world.first(), order);
    }
    assert_eq!(world.places.changes(), changes);
}

#[test]
fn whoever_looked_for_a_way_to_an_address_is_told_of_it() {
    let mut world = World::resolved(&["sip.example.org", "192.0.2.3"], ZONE);
    let changes = |world: &World| [0, 1].map(|id| world.places.changes_of(PlaceId(id)));
    let [first, second] = changes(&world);
    world.places.is_reached("192.0.2.9".parse().unwrap());
    assert_eq!(changes(&world), [first + 1, second]);
}

#[test]
fn many_names_have_their_turn_though_some_are_never_answered() {
    let names: Vec<String> = (0..100).map(|n| format!("h{n}.example.org:5060")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let zone: String = (0..100)
        .map(|n| format!("h{n}.example.org 600 A 192.0.2.{n}\n"))
        .collect();
    let zone = Zone::read(&zone).unwrap();
    let mut world = World::told(&names);
    assert_eq!(world.open.len(), PLACES_ASKED_MAX * 2);
    // Every tenth name is one whose own servers are silent.
    let is_dead = |query: &[u8]| {
        question(query).unwrap().starts_with(['h']) && {
            let name = question(query).unwrap();
            name.split('.').next().unwrap().ends_with('0')
        }
    };
    let end = world.now.plus(seconds(25));
    while world.now < end {
        let answered: Vec<SocketId> = (world.open.iter())
            .filter(|(_, query)| !is_dead(query))
            .map(|(socket, _)| *socket)
            .collect();
        for socket in answered {
            if let Some(query) = world.open.remove(&socket) {
                let answer = zone.answer(&query).unwrap();
                (world.places).receive(world.now, socket, NAME_SERVER, &answer, &mut world.out);
                world.carry_out();
            }
        }
        world.pass(Duration::from_millis(100));
    }
    for n in 0..100 {
        let shown = world.shown(PlaceId(n));
        match n % 10 {
            0 => assert_eq!(shown, "no name server answers"),
            _ => assert_eq!(shown, format!("udp 192.0.2.{n}:5060")),
        }
    }
}
