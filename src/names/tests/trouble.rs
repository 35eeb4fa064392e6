//! Servers that are silent, refuse or cut off, and people who answer in their place.

use super::*;

const ZONE: &str = "example.com 60 A 192.0.2.1\nexample.com 60 SOA 60";

/// Only IPv4 is asked for, so there is one query at a time.
fn one_query(servers: &[&str]) -> World {
    let servers = servers.iter().map(|text| text.parse().unwrap()).collect();
    let servers = Servers {
        servers,
        ..Servers::default()
    };
    let mut world = World::of(servers, Hosts::default(), [true, false]);
    assert_eq!(world.resolve("example.com:5060"), Resolution::Pending);
    world
}

fn servers_asked(world: &mut World, count: usize) -> Vec<u16> {
    let mut asked = Vec::new();
    for _ in 0..count {
        asked.push(world.only().2.port());
        let deadline = seconds(5);
        world.pass(deadline);
    }
    asked
}

#[test]
fn silent_servers_are_asked_in_turn_and_then_given_up() {
    let mut world = one_query(&["192.0.2.53:1", "192.0.2.53:2", "192.0.2.53:3"]);
    assert_eq!(servers_asked(&mut world, 6), [1, 2, 3, 1, 2, 3]);
    assert!(world.open.is_empty());
    let failed = Resolution::Failed(Failure::NoAnswer);
    assert_eq!(world.resolve("example.com:5060"), failed);
    // Who needs no name is not concerned, and for a while nobody is asked again.
    assert_eq!(texts(&world.resolve("192.0.2.1")), ["udp 192.0.2.1:5060"]);
    world.pass(NAME_RETRY - Duration::from_micros(1));
    assert_eq!(world.resolve("example.com:5060"), failed);
    world.pass(Duration::from_micros(1));
    assert_eq!(world.resolve("example.com:5060"), Resolution::Pending);
    // From then on nobody waits for long: what held before holds while they are asked.
    world.pass(NAME_STALE_AFTER);
    assert_eq!(world.resolve("example.com:5060"), failed);
    world.answer(ZONE);
    assert_eq!(
        texts(&world.resolve("example.com:5060")),
        ["udp 192.0.2.1:5060"]
    );
}

#[test]
fn whoever_waits_is_told_by_the_changes() {
    let mut world = one_query(&["192.0.2.53:53"]);
    let before = world.resolver.changes();
    world.pass(seconds(1));
    assert_eq!(world.resolver.changes(), before);
    world.pass(NAME_STALE_AFTER - seconds(1));
    assert_ne!(world.resolver.changes(), before);
    let before = world.resolver.changes();
    world.answer(ZONE);
    assert_ne!(world.resolver.changes(), before);
}

#[test]
fn a_line_outlives_its_name_servers_for_three_days() {
    let mut world = one_query(&["192.0.2.53:53"]);
    world.answer(ZONE);
    let known = ["udp 192.0.2.1:5060"];
    world.pass(seconds(60));
    assert_eq!(world.resolve("example.com:5060"), Resolution::Pending);
    world.pass(NAME_STALE_AFTER);
    assert_eq!(texts(&world.resolve("example.com:5060")), known);
    world.pass(seconds(10));
    // Given up; it is asked again each 30 s, while which it holds at once.
    for _ in 0..10 {
        assert_eq!(texts(&world.resolve("example.com:5060")), known);
        world.pass(NAME_RETRY);
        world.resolve("example.com:5060");
        world.pass(seconds(10));
    }
    world.pass(NAME_STALE);
    assert_eq!(world.resolve("example.com:5060"), Resolution::Pending);
    world.pass(seconds(10));
    let failed = Resolution::Failed(Failure::NoAnswer);
    assert_eq!(world.resolve("example.com:5060"), failed);
}

#[test]
fn a_server_that_swallows_naptr_stops_no_call() {
    let mut world = World::new();
    assert_eq!(world.resolve("example.com"), Resolution::Pending);
    let others: Vec<_> = (world.open.iter())
        .filter(|(_, (_, _, query))| !question(query).contains("NAPTR"))
        .map(|(socket, (_, server, query))| (*socket, *server, answer(ZONE, query)))
        .collect();
    for (socket, server, bytes) in others {
        world.receive(socket, server, &bytes);
    }
    assert_eq!(world.resolve("example.com"), Resolution::Pending);
    world.pass(seconds(10));
    let known = ["udp 192.0.2.1:5060"];
    assert_eq!(texts(&world.resolve("example.com")), known);
    // It is asked again in vain, and nobody waits for that any more.
    world.pass(NAME_RETRY);
    let asked = world.asked.len();
    assert_eq!(texts(&world.resolve("example.com")), known);
    assert_eq!(world.asked[asked..], ["example.com NAPTR"]);
}

#[test]
fn who_needs_no_transport_does_not_wait_for_naptr_that_is_swallowed() {
    let zone = ZONE.replace("60", "600");
    let mut world = World::new();
    let ready = |world: &mut World| texts(&world.resolve("example.com;udp"));
    assert_eq!(world.resolve("example.com;udp"), Resolution::Pending);
    let others: Vec<_> = (world.open.iter())
        .filter(|(_, (_, _, query))| !question(query).contains("NAPTR"))
        .map(|(socket, (_, server, query))| (*socket, *server, answer(&zone, query)))
        .collect();
    assert_eq!(others.len(), 3);
    for (socket, server, bytes) in others {
        world.receive(socket, server, &bytes);
    }
    // It may be on its way still.
    assert_eq!(world.resolve("example.com;udp"), Resolution::Pending);
    let before = world.resolver.changes();
    world.pass(NAME_STALE_AFTER);
    assert_ne!(world.resolver.changes(), before);
    let known = ["udp 192.0.2.1:5060"];
    assert_eq!(ready(&mut world), known);
    // While it is given up, and while it is asked again, all goes on.
    for _ in 0..20 {
        world.pass(seconds(4));
        assert_eq!(ready(&mut world), known);
    }
    let naptr = |asked: &&String| asked.contains("NAPTR");
    let asked = world.asked.iter().filter(naptr).count();
    assert!((2..=6).contains(&asked), "{:?}", world.asked);
}

#[test]
fn naptr_that_comes_late_counts_at_the_next_look() {
    let zone = "example.com 600 NAPTR 1 1 s SIP+D2U _sip._udp.carrier.example
                _sip._udp.carrier.example 600 SRV 1 0 5080 a.carrier.example
                a.carrier.example 600 A 192.0.2.7
                example.com 600 A 192.0.2.1
                example.com 600 SOA 600";
    let mut world = World::new();
    assert_eq!(world.resolve("example.com;udp"), Resolution::Pending);
    let (late, others): (Vec<_>, Vec<_>) = (world.open.iter())
        .map(|(socket, (_, server, query))| (*socket, *server, query.clone()))
        .partition(|(_, _, query)| question(query).contains("NAPTR"));
    for (socket, server, query) in others {
        world.receive(socket, server, &answer(zone, &query));
    }
    world.pass(NAME_STALE_AFTER);
    let resolution = world.resolve("example.com;udp");
    assert_eq!(texts(&resolution), ["udp 192.0.2.1:5060"]);
    // Looked at again soon, whatever the other records say.
    assert_eq!(until(&resolution), world.now.plus(NAME_TTL_MIN));
    for (socket, server, query) in late {
        world.receive(socket, server, &answer(zone, &query));
    }
    assert_eq!(
        world.candidates("example.com;udp", zone),
        ["udp 192.0.2.7:5080"]
    );
}

#[test]
fn an_excuse_and_an_unreachable_server_lead_to_the_next_at_once() {
    let mut world = one_query(&["192.0.2.53:1", "192.0.2.53:2", "192.0.2.53:3"]);
    for code in [1, 2, 4, 5] {
        let (socket, _, server, mut bytes) = world.only();
        bytes[2..4].copy_from_slice(&[0x81, code]);
        world.receive(socket, server, &bytes);
    }
    assert_eq!(world.only().2.port(), 2);
    let (socket, ..) = world.only();
    world.resolver.unreachable(world.now, socket);
    world.carry_out();
    assert_eq!(world.only().2.port(), 3);
    world.answer(ZONE);
    assert_eq!(world.now, Instant::from_micros(1));
    // The one that answered is asked first from now on.
    world.resolve("example.org:5060");
    assert_eq!(world.only().2.port(), 3);
}

#[test]
fn rotate_begins_with_another_server_each_time() {
    let servers = Servers {
        servers: ["192.0.2.53:1", "192.0.2.53:2"]
            .map(|text| text.parse().unwrap())
            .into(),
        rotate: true,
        ..Servers::default()
    };
    let mut world = World::of(servers, Hosts::default(), [true, false]);
    let mut ports = Vec::new();
    for name in ["a", "b", "c"] {
        world.resolve(&format!("{name}:5060"));
        ports.push(world.only().2.port());
        world.answer("");
    }
    assert_eq!(ports, [1, 2, 1]);
}

#[test]
fn what_was_cut_off_is_asked_for_by_tcp() {
    let mut world = one_query(&["192.0.2.53:1", "192.0.2.53:2"]);
    let (socket, over, server, query) = world.only();
    assert_eq!(over, Over::Udp);
    let mut bytes = answer("example.com 60 A 192.0.2.66", &query);
    bytes[2] |= 0x02;
    world.receive(socket, server, &bytes);
    let (socket, over, again, query) = world.only();
    assert_eq!((over, again), (Over::Tcp, server));
    // Cut off there, too: that server is of no use.
    let mut bytes = answer(ZONE, &query);
    bytes[2] |= 0x02;
    world.receive(socket, server, &bytes);
    assert_eq!((world.only().1, world.only().2.port()), (Over::Udp, 2));
    let servers = Servers {
        tcp_only: true,
        ..Servers::default()
    };
    let mut world = World::of(servers, Hosts::default(), [true, false]);
    world.resolve("example.com:5060");
    assert_eq!(world.only().1, Over::Tcp);
}

/// The good answer with one thing wrong.
fn forgeries(query: &[u8]) -> Vec<Vec<u8>> {
    let good = answer("example.com 60 A 192.0.2.66", query);
    let change = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        bytes
    };
    let end = query.len();
    vec![
        change(0, 1),       // id
        change(1, 1),       // id
        change(2, 0x80),    // a query
        change(2, 0x08),    // another opcode
        change(5, 1),       // no question
        change(13, 2),      // another name
        change(end - 3, 2), // another kind
        change(end - 1, 2), // another class
        good[..end - 1].to_vec(),
        Vec::new(),
    ]
}

#[test]
fn what_does_not_answer_the_query_is_as_if_it_had_not_come() {
    let elsewhere: [SocketAddr; 2] = ["192.0.2.53:54", "192.0.2.54:53"].map(|a| a.parse().unwrap());
    let forgery_count = {
        let world = one_query(&["192.0.2.53:53"]);
        forgeries(&world.only().3).len()
    };
    for n in 0..forgery_count {
        let mut world = one_query(&["192.0.2.53:53"]);
        let (socket, _, server, query) = world.only();
        world.receive(socket, server, &forgeries(&query)[n]);
        assert_eq!(world.only().0, socket, "forgery {n}");
        world.answer(ZONE);
        assert_eq!(
            texts(&world.resolve("example.com:5060")),
            ["udp 192.0.2.1:5060"]
        );
    }
    let mut world = one_query(&["192.0.2.53:53"]);
    let (socket, _, _, query) = world.only();
    for from in elsewhere {
        world.receive(socket, from, &answer("example.com 60 A 192.0.2.66", &query));
        assert_eq!(world.only().0, socket);
    }
    let stranger = SocketId(socket.0 + 1);
    world.receive(stranger, elsewhere[0], &query);
    assert_eq!(world.only().0, socket);
}

#[test]
fn whoever_guesses_has_a_few_tries_only() {
    let mut world = one_query(&["192.0.2.53:53"]);
    let (socket, _, server, query) = world.only();
    for _ in 0..NAME_WRONG_ANSWERS_MAX {
        assert_eq!((world.only().0, world.only().1), (socket, Over::Udp));
        world.receive(socket, server, &forgeries(&query)[0]);
    }
    assert_eq!(world.only().1, Over::Tcp);
    // The right answer comes too late on the former socket.
    world.receive(
        socket,
        server,
        &answer("example.com 60 A 192.0.2.66", &query),
    );
    world.answer(ZONE);
    assert_eq!(
        texts(&world.resolve("example.com:5060")),
        ["udp 192.0.2.1:5060"]
    );
}

#[test]
fn letters_in_another_case_are_asked_again_by_tcp_where_they_do_not_matter() {
    let mut world = one_query(&["192.0.2.53:53"]);
    for expected in [Over::Udp, Over::Tcp] {
        let (socket, over, server, query) = world.only();
        assert_eq!(over, expected);
        let mut bytes = answer(ZONE, &query);
        bytes[12..query.len()].make_ascii_lowercase();
        assert_ne!(bytes[12..query.len()], query[12..], "mixed");
        world.receive(socket, server, &bytes);
    }
    assert_eq!(
        texts(&world.resolve("example.com:5060")),
        ["udp 192.0.2.1:5060"]
    );
}

#[test]
fn no_two_tries_are_alike() {
    let mut world = one_query(&["192.0.2.53:53"]);
    let mut queries = Vec::new();
    for n in 0..200 {
        queries.push((world.only().3[..2].to_vec(), world.only().3[12..].to_vec()));
        world.answer("example.com 60 A 192.0.2.1");
        world.pass(seconds(60 + n));
        world.resolve("example.com:5060");
    }
    let different = |mut parts: Vec<Vec<u8>>| {
        parts.sort_unstable();
        parts.dedup();
        parts.len()
    };
    assert!(different(queries.iter().map(|(id, _)| id.clone()).collect()) > 190);
    assert!(different(queries.iter().map(|(_, case)| case.clone()).collect()) > 150);
}

#[test]
fn queries_are_bounded_and_the_next_waits_for_one_to_end() {
    let mut world = World::of(Servers::default(), Hosts::default(), [true, false]);
    for n in 0..NAME_QUERIES_MAX + 8 {
        let pending = world.resolve(&format!("h{n}.example.com:5060"));
        assert_eq!(pending, Resolution::Pending);
        // The same again makes no second one.
        world.resolve(&format!("h{n}.example.com:5060"));
    }
    assert_eq!(world.asked.len(), NAME_QUERIES_MAX);
    let before = world.resolver.changes();
    let (&socket, (_, server, query)) = world.open.first_key_value().unwrap();
    let (server, bytes) = (*server, answer("", query));
    world.receive(socket, server, &bytes);
    assert_ne!(world.resolver.changes(), before);
    world.resolve(&format!("h{NAME_QUERIES_MAX}.example.com:5060"));
    assert_eq!(world.asked.len(), NAME_QUERIES_MAX + 1);
}

#[test]
fn other_servers_are_asked_anew_and_what_was_known_holds_meanwhile() {
    let mut world = one_query(&["192.0.2.53:1"]);
    world.answer(ZONE);
    let known = ["udp 192.0.2.1:5060"];
    let servers = |port: u16| Servers {
        servers: vec![([192, 0, 2, 53], port).into()],
        ..Servers::default()
    };
    let before = world.resolver.changes();
    world
        .resolver
        .configure(world.now, servers(1), Hosts::default());
    assert_eq!(world.resolver.changes(), before, "nothing new");
    assert_eq!(texts(&world.resolve("example.com:5060")), known);
    world
        .resolver
        .configure(world.now, servers(2), Hosts::default());
    assert_ne!(world.resolver.changes(), before);
    assert_eq!(world.resolve("example.com:5060"), Resolution::Pending);
    assert_eq!(world.only().2.port(), 2);
    world.pass(NAME_STALE_AFTER);
    assert_eq!(texts(&world.resolve("example.com:5060")), known);
    let hosts = Hosts::read("192.0.2.7 example.com");
    world.resolver.configure(world.now, servers(2), hosts);
    assert_eq!(
        texts(&world.resolve("example.com:5060")),
        ["udp 192.0.2.7:5060"]
    );
}

#[test]
fn without_servers_this_host_is_asked() {
    let servers = Servers {
        servers: Vec::new(),
        ..Servers::default()
    };
    let mut world = World::of(servers, Hosts::default(), [true, false]);
    world.resolve("example.com:5060");
    assert_eq!(world.only().2, "127.0.0.1:53".parse().unwrap());
}
