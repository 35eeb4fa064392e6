//! RFC 3263 §4.1, §4.2 and §4.3: what is asked for, and what comes of it.

use super::*;

/// A carrier that says all of it.
const CARRIER: &str = "
    example.com 600 NAPTR 20 50 s SIP+D2U _sip._udp.example.com
    example.com 600 NAPTR 20 40 S sip+d2t _sip._tcp.carrier.example
    example.com 600 NAPTR 10 10 s SIPS+D2T _sips._tcp.example.com
    _sip._udp.example.com 300 SRV 1 0 5060 a.carrier.example
    _sip._udp.example.com 300 SRV 2 0 5062 b.carrier.example
    _sip._tcp.carrier.example 300 SRV 1 0 5080 a.carrier.example
    _sip._tcp.example.com 300 SRV 1 0 5099 wrong.carrier.example
    a.carrier.example 120 A 192.0.2.1
    a.carrier.example 60 AAAA 2001:db8::1
    b.carrier.example 60 A 192.0.2.2
    b.carrier.example 60 A 192.0.2.3
    wrong.carrier.example 60 A 192.0.2.99
    example.com 60 A 192.0.2.98
    example.com 60 SOA 60";

#[test]
fn an_address_asks_nobody() {
    let mut world = World::new();
    for (target, candidate) in [
        ("192.0.2.1", "udp 192.0.2.1:5060"),
        ("192.0.2.1;tcp", "tcp 192.0.2.1:5060"),
        ("192.0.2.1:5070;tcp", "tcp 192.0.2.1:5070"),
        ("[2001:db8::1]", "udp [2001:db8::1]:5060"),
        ("[2001:db8::1]:5070;udp", "udp [2001:db8::1]:5070"),
    ] {
        let resolution = world.resolve(target);
        assert_eq!(texts(&resolution), [candidate], "{target}");
        assert!(matches!(resolution, Resolution::Ready { until: None, .. }));
    }
    assert!(world.asked.is_empty());
}

#[test]
fn what_is_no_host_fails_at_once() {
    let mut world = World::new();
    for target in ["", "a..b", "a b", "[192.0.2.1]", "[::1", "a@b"] {
        let failed = Resolution::Failed(Failure::NotAName);
        assert_eq!(world.resolve(target), failed, "{target}");
    }
}

#[test]
fn naptr_leads_to_srv_leads_to_addresses() {
    let mut world = World::new();
    let candidates = world.candidates("Example.com", CARRIER);
    let expected = [
        "tcp [2001:db8::1]:5080",
        "tcp 192.0.2.1:5080",
        "udp [2001:db8::1]:5060",
        "udp 192.0.2.1:5060",
        "udp 192.0.2.2:5062",
        "udp 192.0.2.3:5062",
    ];
    assert_eq!(candidates, expected);
    // Another time it asks nobody.
    let asked = world.asked.len();
    assert_eq!(world.candidates("example.com", ""), expected);
    assert_eq!(world.asked.len(), asked);
}

#[test]
fn without_naptr_srv_of_our_transports_is_asked() {
    let zone = "_sip._udp.example.com 60 SRV 1 0 5060 a.example.com
                _sip._tcp.example.com 60 SRV 1 0 5061 a.example.com
                a.example.com 60 A 192.0.2.1";
    let candidates = World::new().candidates("example.com", zone);
    assert_eq!(candidates, ["udp 192.0.2.1:5060", "tcp 192.0.2.1:5061"]);
}

#[test]
fn without_srv_the_domain_is_the_host() {
    let zone = "example.com 60 A 192.0.2.1";
    let mut world = World::new();
    let candidates = world.candidates("example.com", zone);
    assert_eq!(candidates, ["udp 192.0.2.1:5060"]);
    // All at once: one round trip.
    let mut asked = world.asked.clone();
    asked.sort();
    let expected = [
        "_sip._tcp.example.com SRV",
        "_sip._udp.example.com SRV",
        "example.com A",
        "example.com AAAA",
        "example.com NAPTR",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn a_transport_asks_for_its_services_only() {
    let mut world = World::new();
    let candidates = world.candidates("example.com;udp", CARRIER);
    assert_eq!(candidates[..1], ["udp [2001:db8::1]:5060"]);
    assert_eq!(candidates.len(), 4);
    let strange = |asked: &String| asked.contains("_tcp");
    assert!(!world.asked.iter().any(strange), "{:?}", world.asked);
    // What it is called NAPTR says, where it says anything.
    let candidates = World::new().candidates("example.com;tcp", CARRIER);
    assert_eq!(candidates, ["tcp [2001:db8::1]:5080", "tcp 192.0.2.1:5080"]);
    let zone = "example.com 60 A 192.0.2.1";
    let mut world = World::new();
    let candidates = world.candidates("example.com;tcp", zone);
    assert_eq!(candidates, ["tcp 192.0.2.1:5060"]);
    let mut asked = world.asked.clone();
    asked.sort();
    let expected = [
        "_sip._tcp.example.com SRV",
        "example.com A",
        "example.com AAAA",
        "example.com NAPTR",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn naptr_that_is_of_no_use_to_a_transport_says_nothing() {
    for naptr in [
        "example.com 60 NAPTR 1 1 s SIP+D2T _sip._tcp.example.com",
        "example.com 60 NAPTR 1 1 s SIPS+D2T _sips._tcp.example.com",
        // It leads to nothing.
        "example.com 60 NAPTR 1 1 s SIP+D2U _sip._udp.gone.example.com",
        "example.com 60 NAPTR 1 1 u E2U+sip .",
    ] {
        let srv =
            "_sip._udp.example.com 60 SRV 1 0 5081 a.example.com\na.example.com 60 A 192.0.2.1";
        for (rest, expected) in [
            (srv, "udp 192.0.2.1:5081"),
            ("example.com 60 A 192.0.2.2", "udp 192.0.2.2:5060"),
        ] {
            let zone = format!("{naptr}\n{rest}");
            let candidates = World::new().candidates("example.com;udp", &zone);
            assert_eq!(candidates, [expected], "{naptr}");
        }
    }
}

#[test]
fn a_port_asks_for_addresses_only() {
    let mut world = World::new();
    let candidates = world.candidates("example.com:5070", CARRIER);
    assert_eq!(candidates, ["udp 192.0.2.98:5070"]);
    assert_eq!(world.asked, ["example.com AAAA", "example.com A"]);
}

#[test]
fn a_domain_can_say_that_it_has_no_sip() {
    let refused = Resolution::Failed(Failure::NotOffered);
    let zone = "_sip._udp.example.com 60 SRV 0 0 0 .
                _sip._tcp.example.com 60 SRV 0 0 0 .
                example.com 60 A 192.0.2.1";
    assert_eq!(World::new().resolve_by("example.com", zone), refused);
    let zone = "example.com 60 NAPTR 1 1 s SIPS+D2T _sips._tcp.example.com
                _sip._udp.example.com 60 SRV 0 0 5060 example.com
                example.com 60 A 192.0.2.1";
    assert_eq!(World::new().resolve_by("example.com", zone), refused);
}

#[test]
fn a_name_without_addresses_says_so() {
    let nothing = Resolution::Failed(Failure::NoAddress);
    assert_eq!(World::new().resolve_by("example.com", ""), nothing);
    let zone = "example.com 60 A 0.0.0.0\nexample.com 60 A 224.0.0.1";
    assert_eq!(World::new().resolve_by("example.com:5060", zone), nothing);
    let zone = "_sip._udp.example.com 60 SRV 0 0 5060 gone.example.com";
    assert_eq!(World::new().resolve_by("example.com;udp", zone), nothing);
}

#[test]
fn only_families_that_we_have_are_asked_for() {
    let zone = "example.com 60 A 192.0.2.1\nexample.com 60 AAAA 2001:db8::1";
    let hosts = "192.0.2.2 own\n2001:db8::2 own";
    for (families, candidate, own, asked) in [
        (
            [true, false],
            "udp 192.0.2.1:5070",
            "udp 192.0.2.2:1",
            "example.com A",
        ),
        (
            [false, true],
            "udp [2001:db8::1]:5070",
            "udp [2001:db8::2]:1",
            "example.com AAAA",
        ),
    ] {
        let mut world = World::of(Servers::default(), Hosts::read(hosts), families);
        assert_eq!(world.candidates("example.com:5070", zone), [candidate]);
        assert_eq!(world.candidates("own:1", ""), [own]);
        assert_eq!(world.asked, [asked]);
    }
}

#[test]
fn names_of_the_hosts_file_ask_nobody() {
    let mut world = World::with(
        &["192.0.2.53:53"],
        "192.0.2.1 pbx.example.com\n::1 pbx.example.com",
    );
    let candidates = world.candidates("PBX.example.com", "");
    assert_eq!(candidates, ["udp [::1]:5060", "udp 192.0.2.1:5060"]);
    assert_eq!(
        world.candidates("pbx.example.com:5070;tcp", ""),
        ["tcp [::1]:5070", "tcp 192.0.2.1:5070"]
    );
    assert!(world.asked.is_empty());
    // A host that SRV leads to, too.
    let zone = "_sip._udp.example.com 60 SRV 1 0 5061 pbx.example.com";
    let candidates = world.candidates("example.com;udp", zone);
    assert_eq!(candidates, ["udp [::1]:5061", "udp 192.0.2.1:5061"]);
}

#[test]
fn hosts_and_candidates_are_bounded() {
    let mut zone = String::new();
    for n in 0..20 {
        zone += &format!("_sip._udp.example.com 60 SRV {n} 0 5060 h{n}.example.com\n");
        for address in 0..4 {
            zone += &format!("h{n}.example.com 60 A 192.0.{n}.{address}\n");
        }
    }
    let mut world = World::new();
    let mut resolution = world.resolve("example.com;udp");
    while resolution == Resolution::Pending {
        // By TCP: it is longer than 512 bytes.
        let (&socket, (_, server, query)) = world.open.first_key_value().unwrap();
        let (server, bytes) = (*server, answer(&zone, query));
        world.receive(socket, server, &bytes);
        resolution = world.resolve("example.com;udp");
    }
    assert_eq!(texts(&resolution).len(), NAME_CANDIDATES_MAX);
    let hosts = |asked: &&String| asked.starts_with('h') && asked.ends_with(" A");
    assert_eq!(world.asked.iter().filter(hosts).count(), NAME_HOSTS_MAX);
}

#[test]
fn what_did_not_work_comes_last_for_a_while() {
    let zone = "_sip._udp.example.com 90000 SRV 1 0 5060 a.example.com
                _sip._udp.example.com 90000 SRV 2 0 5060 b.example.com
                a.example.com 90000 A 192.0.2.1
                b.example.com 90000 A 192.0.2.2
                example.com 90000 SOA 90000";
    let mut world = World::new();
    let [a, b] = ["udp 192.0.2.1:5060", "udp 192.0.2.2:5060"];
    let Resolution::Ready { candidates, .. } = world.resolve_by("example.com;udp", zone) else {
        panic!();
    };
    world.resolver.failed(world.now, candidates[0], None);
    assert_eq!(world.candidates("example.com;udp", zone), [b, a]);
    world.pass(NAME_FAILED_HOLD);
    assert_eq!(world.candidates("example.com;udp", zone), [a, b]);
    // A 503 says for how long. If nothing works all are tried nevertheless.
    world
        .resolver
        .failed(world.now, candidates[0], Some(seconds(10)));
    world.resolver.failed(world.now, candidates[1], None);
    assert_eq!(world.candidates("example.com;udp", zone), [a, b]);
    world.resolver.worked(candidates[1]);
    assert_eq!(world.candidates("example.com;udp", zone), [b, a]);
    world.pass(seconds(10));
    assert_eq!(world.candidates("example.com;udp", zone), [a, b]);
}
