//! What of an answer counts, and for how long.

use super::*;
use proptest::prelude::*;

#[test]
fn aliases_are_followed_within_an_answer_and_beyond() {
    let zone = "example.com 60 CNAME www.example.org
                www.example.org 30 CNAME host.example.net
                host.example.net 90 A 192.0.2.1";
    let mut world = World::new();
    let resolution = world.resolve_by("example.com:5060", zone);
    assert_eq!(texts(&resolution), ["udp 192.0.2.1:5060"]);
    assert_eq!(until(&resolution), world.now.plus(seconds(30)));
    // A server that does not follow them is asked again.
    let mut world = World::of(Servers::default(), Hosts::default(), [true, false]);
    assert_eq!(world.resolve("example.com:5060"), Resolution::Pending);
    world.answer("example.com 60 CNAME www.example.org");
    assert_eq!(world.resolve("example.com:5060"), Resolution::Pending);
    world.answer("www.example.org 60 A 192.0.2.2");
    assert_eq!(
        texts(&world.resolve("example.com:5060")),
        ["udp 192.0.2.2:5060"]
    );
    assert_eq!(world.asked, ["example.com A", "www.example.org A"]);
}

#[test]
fn aliases_in_a_circle_end() {
    let zone = "a.example.com 60 CNAME b.example.com\nb.example.com 60 CNAME a.example.com";
    let nothing = Resolution::Failed(Failure::NoAddress);
    assert_eq!(World::new().resolve_by("a.example.com:5060", zone), nothing);
    let mut chain = String::new();
    for n in 0..20 {
        chain += &format!("h{n}.example.com 60 CNAME h{}.example.com\n", n + 1);
    }
    chain += "h20.example.com 60 A 192.0.2.1\nh4.example.com 60 A 192.0.2.4";
    let resolution = World::new().resolve_by("h15.example.com:5060", &chain);
    assert_eq!(texts(&resolution), ["udp 192.0.2.1:5060"]);
}

#[test]
fn what_the_question_does_not_lead_to_is_not_believed() {
    let mut world = World::of(Servers::default(), Hosts::default(), [true, false]);
    world.resolve("example.com:5060");
    let (socket, _, server, query) = world.only();
    let mut packet = simple_dns::Packet::parse(&query).unwrap().into_reply();
    packet.answers = vec![
        record("bank.example 60 A 192.0.2.66"),
        record("example.com 60 A 192.0.2.1"),
        record("example.com 60 CNAME bank.example"),
    ];
    packet.additional_records = vec![record("other.example 60 A 192.0.2.66")];
    packet.name_servers = vec![record("third.example 60 A 192.0.2.66")];
    world.receive(socket, server, &packet.build_bytes_vec().unwrap());
    assert_eq!(
        texts(&world.resolve("example.com:5060")),
        ["udp 192.0.2.1:5060"]
    );
    for name in ["bank.example", "other.example", "third.example"] {
        let pending = world.resolve(&format!("{name}:5060"));
        assert_eq!(pending, Resolution::Pending, "{name}");
    }
}

#[test]
fn an_answer_holds_for_its_time_within_bounds() {
    for (ttl, holds) in [
        (60, seconds(60)),
        (0, NAME_TTL_MIN),
        (u32::MAX, NAME_TTL_MIN), // RFC 2181 §8
        (u32::MAX >> 1, NAME_TTL_MAX),
    ] {
        let zone = format!("example.com {ttl} A 192.0.2.1");
        let mut world = World::of(Servers::default(), Hosts::default(), [true, false]);
        let resolution = world.resolve_by("example.com:5060", &zone);
        assert_eq!(until(&resolution), world.now.plus(holds), "{ttl}");
        world.pass(holds - Duration::from_micros(1));
        assert_ne!(world.resolve("example.com:5060"), Resolution::Pending);
        world.pass(Duration::from_micros(1));
        assert_eq!(world.resolve("example.com:5060"), Resolution::Pending);
        assert_eq!(world.asked.len(), 2);
    }
}

#[test]
fn nothing_is_remembered_too_for_as_long_as_its_soa_says() {
    for (zone, holds) in [
        ("example.com 3600 SOA 120", seconds(120)),
        ("example.com 100 SOA 120", seconds(100)),
        ("com 86400 SOA 86400", NAME_NEGATIVE_TTL_MAX),
        ("com 0 SOA 0", NAME_TTL_MIN),
        ("", NAME_NEGATIVE_TTL),
        ("elsewhere.example 600 SOA 600", NAME_NEGATIVE_TTL),
    ] {
        let mut world = World::of(Servers::default(), Hosts::default(), [true, false]);
        let nothing = Resolution::Failed(Failure::NoAddress);
        assert_eq!(world.resolve_by("www.example.com:5060", zone), nothing);
        world.pass(holds - Duration::from_micros(1));
        assert_eq!(world.resolve("www.example.com:5060"), nothing, "{zone}");
        world.pass(Duration::from_micros(1));
        assert_eq!(world.resolve("www.example.com:5060"), Resolution::Pending);
    }
}

/// A name, and how often it ends with a pointer in what the library writes, is its business.
fn library_record(kind: u8, n: u8, ttl: u32) -> simple_dns::ResourceRecord<'static> {
    let line = match kind % 5 {
        0 => format!("h{n}.example.com {ttl} A 192.0.2.{n}"),
        1 => format!("h{n}.example.com {ttl} AAAA 2001:db8::{n}"),
        2 => format!("h{n}.example.com {ttl} CNAME h{}.example.com", n / 2),
        3 => format!(
            "h{n}.example.com {ttl} SRV {n} {n} {n} h{}.example.com",
            n / 3
        ),
        _ => format!("h{n}.example.com {ttl} NAPTR {n} 1 s SIP+D2U _sip._udp.h{n}.example.com"),
    };
    record(Box::leak(line.into_boxed_str()))
}

proptest! {
    /// Against another library: what it writes we read, record for record.
    #[test]
    fn answers_are_read_as_they_were_written(
        values in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u32>()), 0..12),
        is_compressed in any::<bool>()
    ) {
        use super::super::wire::{Data, Kind, compose, head};
        let name = name::Name::parse("example.com").unwrap();
        let query = compose(77, name.wire(), Kind::Srv);
        let mut packet = simple_dns::Packet::parse(&query).unwrap().into_reply();
        packet.answers = values.iter().map(|&(kind, n, ttl)| library_record(kind, n, ttl)).collect();
        let bytes = match is_compressed {
            true => packet.build_bytes_vec_compressed().unwrap(),
            false => packet.build_bytes_vec().unwrap(),
        };
        let (likeness, read) = head(&bytes, &query);
        prop_assert_eq!(likeness, super::super::wire::Likeness::Same);
        let (records, authority) = read.unwrap().records().unwrap();
        prop_assert_eq!(authority, None);
        prop_assert_eq!(records.len(), values.len());
        for (record, (_, n, ttl)) in records.iter().zip(values) {
            prop_assert_eq!(record.ttl, if ttl >> 31 == 0 { ttl } else { 0 });
            prop_assert_eq!(record.owner.to_string(), format!("h{n}.example.com"));
            match &record.data {
                Data::A(v4) => prop_assert_eq!(v4.octets(), [192, 0, 2, n]),
                Data::Aaaa(v6) => prop_assert_eq!(v6.to_string(), format!("2001:db8::{n}").parse::<std::net::Ipv6Addr>().unwrap().to_string()),
                Data::Cname(to) => prop_assert_eq!(to.to_string(), format!("h{}.example.com", n / 2)),
                Data::Srv(srv) => {
                    prop_assert_eq!((srv.priority, srv.weight, srv.port), (n.into(), n.into(), n.into()));
                    prop_assert_eq!(srv.host.to_string(), format!("h{}.example.com", n / 3));
                }
                Data::Naptr(naptr) => {
                    prop_assert_eq!((naptr.order, naptr.preference), (n.into(), 1));
                    prop_assert_eq!((&*naptr.flags, &*naptr.service), (&b"s"[..], &b"SIP+D2U"[..]));
                    prop_assert_eq!(naptr.replacement.to_string(), format!("_sip._udp.h{n}.example.com"));
                    prop_assert!(!naptr.has_regexp);
                }
            }
        }
    }

    /// No bytes behind a good head do harm, nor does any change of a good answer.
    #[test]
    fn any_bytes_end_in_an_answer_or_another_try(
        tail in proptest::collection::vec(any::<u8>(), 0..200),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        has_head in any::<bool>()
    ) {
        let mut world = World::new();
        world.resolve("example.com");
        let sockets: Vec<_> = world.open.iter().map(|(id, open)| (*id, open.clone())).collect();
        for (socket, (_, server, query)) in sockets {
            let mut bytes = answer("example.com 60 CNAME a.example.com\na.example.com 60 A 192.0.2.1", &query);
            if has_head {
                bytes.truncate(query.len());
                bytes.extend(&tail);
            }
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            world.receive(socket, server, &bytes);
        }
        world.resolve("example.com");
        world.pass(seconds(100));
        world.resolve("example.com");
        prop_assert!(world.resolver.sizes().0 <= NAME_QUERIES_MAX);
    }
}

#[test]
fn pointers_that_lead_nowhere_or_in_circles_are_malformed() {
    use super::super::wire::{Kind, compose, head};
    let name = name::Name::parse("example.com").unwrap();
    let query = compose(1, name.wire(), Kind::A);
    let at = query.len() as u8;
    for (owner, is_good) in [
        (vec![0xc0, 12], true),
        (vec![1, b'a', 0xc0, 12], true),
        (vec![0xc0, at], false),               // itself
        (vec![1, b'a', 0xc0, at], false),      // its own beginning
        (vec![0xc0, at + 2, 0xc0, at], false), // onward
        (vec![0xc0, 0xff], false),
        (vec![0x40, 12], false),
        (vec![0x80, 12], false),
        (vec![64; 70], false),
    ] {
        let mut bytes = query.clone();
        bytes[2] = 0x80;
        bytes[7] = 1;
        bytes.extend(&owner);
        bytes.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        let records = head(&bytes, &query).1.unwrap().records();
        assert_eq!(records.is_some(), is_good, "{owner:x?}");
    }
    // More records than anybody has, announced or there.
    let mut bytes = query.clone();
    bytes[2] = 0x80;
    bytes[6..8].copy_from_slice(&1_000u16.to_be_bytes());
    for _ in 0..1_000 {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    }
    assert_eq!(head(&bytes, &query).1.unwrap().records(), None);
}
