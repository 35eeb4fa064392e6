//! The server itself in a home: `public_address`, and ports that its router forwards.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::harness::{Network, Server};
use super::super::sipp::users;
use super::phone::{Kind, Phone, TONES, each_hears};
use super::town::{Nat, Town, registered};

/// A phone beside the server, one behind another NAT, one behind a third, and one without. The first one uses the server's
/// inside address, the others that of its router.
#[test]
#[ignore = "needs root, baresip, Linphone and PJSUA2: tests/run peers"]
fn a_server_behind_a_nat_is_reached_from_everywhere() {
    const USERS: [&str; 4] = ["100", "101", "102", "103"];
    const INSIDE: Network = Network::of([192, 168, 178]);
    let town = Town::at(Ipv4Addr::new(203, 0, 113, 2));
    // Its own router has the address that the server has elsewhere.
    let own = town.home_with(1, Nat::Keeps, INSIDE.host(254));
    let (one, other) = (town.home(11, Nat::Keeps), town.home(12, Nat::Random));
    let at = own.room(1);
    own.forwards("udp dport { 5060, 16384-32767 }", at.address);
    own.forwards("tcp dport { 5060, 8080 }", at.address);
    let places = [own.room(10), one.room(10), other.room(10), town.house(30)];
    let kinds = [Kind::Linphone, Kind::Pjsua2, Kind::Baresip, Kind::Baresip];
    let config = format!("public_address = 203.0.113.1\n\n{}", users(&USERS));
    let mut server = at.enter(|| Server::start(INSIDE, &config));
    let start = |server: &Server, at: usize| {
        let who = (USERS[at], TONES[at]);
        Phone::start(kinds[at], server, &places[at], who)
    };
    let inside = start(&server, 0);
    server.network = Town::network();
    let mut phones = [
        inside,
        start(&server, 1),
        start(&server, 2),
        start(&server, 3),
    ];
    town.enter(|| {
        registered(&server, &USERS);
        for round in [[(1, 0), (3, 2)], [(0, 2), (1, 3)], [(3, 0), (2, 1)]] {
            for (caller, callee) in round {
                phones[caller].dial(USERS[callee]);
            }
            for phone in &mut phones {
                phone.is_up();
            }
            std::thread::sleep(Duration::from_millis(700));
            let mut hears = [0; 4];
            for (caller, callee) in round {
                hears[caller] = TONES[callee];
                hears[callee] = TONES[caller];
            }
            each_hears(&mut phones.iter_mut().zip(hears).collect::<Vec<_>>(), 1_500);
            for (caller, _) in round {
                phones[caller].hang_up();
            }
            for phone in &mut phones {
                phone.is_over();
            }
        }
    });
}
