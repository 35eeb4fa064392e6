//! Who is almost a trunk: another port, another transport, another address that looks like it. He is challenged like any
//! stranger, and whatever he sends leaves nothing in any table.

use std::time::Duration;

use sipkeep::endpoint::{Census, Input};

use super::harness::{Request, SERVER, Site};

/// Over UDP on a port, over UDP on any port, over TCP, over IPv6, and an IPv4 address in IPv6 clothes.
const TRUNKS: &str = "[user 102]\npassword = hundred-two-kXq7\n\
    [trunk port]\naddresses = 198.51.100.4:5060\nkeepalive = 0\nincoming = 102\n\
    [trunk any]\naddresses = 198.51.100.5\nkeepalive = 0\nincoming = 102\n\
    [trunk tcp]\naddresses = 198.51.100.6:5060\ntransport = tcp\nkeepalive = 0\nincoming = 102\n\
    [trunk six]\naddresses = [2001:db8::7]:5060\nkeepalive = 0\nincoming = 102\n\
    [trunk mapped]\naddresses = [::ffff:198.51.100.9]:5060\nkeepalive = 0\nincoming = 102\n";

fn site() -> Site {
    let listen =
        format!("udp:{SERVER}, tcp:{SERVER}, udp:[2001:db8::100]:5060, tcp:[2001:db8::100]:5060");
    Site::of(&format!("[server]\nlisten = {listen}\n{TRUNKS}"))
}

fn request(method: &str) -> Request {
    let request = Request::new(method).by("+4930");
    match method {
        "INVITE" => request.sdp(),
        _ => request,
    }
}

/// What is left of requests from there; the connection is closed again.
fn leaves(site: &mut Site, from: &str, is_tcp: bool, texts: &[String]) -> (Vec<Vec<u16>>, Census) {
    let statuses = match is_tcp {
        false => texts
            .iter()
            .map(|text| site.udp(from, text).statuses())
            .collect(),
        true => {
            let connection = site.connect(from, 2);
            let statuses = (texts.iter())
                .map(|text| site.tcp(connection, text).statuses())
                .collect();
            site.input(Input::StreamClosed { connection });
            statuses
        }
    };
    (statuses, site.endpoint.census())
}

#[test]
fn a_trunk_is_known_by_address_port_and_transport() {
    for (from, is_tcp) in [
        ("198.51.100.4:5060", false),
        ("198.51.100.5:5060", false),
        ("198.51.100.5:61000", false),
        // Over TCP a peer's port is drawn anew for each connection.
        ("198.51.100.6:61000", true),
        ("[2001:db8::7]:5060", false),
        ("198.51.100.9:5060", false),
    ] {
        let mut site = site();
        let invite = [request("INVITE").text()];
        let (statuses, census) = leaves(&mut site, from, is_tcp, &invite);
        // 102 has no phone: the call was his all the same.
        assert_eq!(statuses, [[480]], "{from}");
        assert_ne!(census.transactions_live, 0, "{from}");
    }
}

#[test]
fn who_is_almost_a_trunk_is_challenged_and_leaves_nothing() {
    let methods = [
        "INVITE",
        "ACK",
        "CANCEL",
        "BYE",
        "OPTIONS",
        "MESSAGE",
        "PRACK",
        "INFO",
        "UPDATE",
        "NOTIFY",
        "SUBSCRIBE",
        "REFER",
        "PUBLISH",
        "REGISTER",
    ];
    for (from, is_tcp) in [
        ("198.51.100.3:5060", false),
        ("198.51.100.4:5061", false),
        ("198.51.100.4:5060", true),
        ("198.51.100.5:5060", true),
        ("198.51.100.6:5060", false),
        ("[2001:db8::7]:5061", false),
        ("[2001:db8::7]:5060", true),
        ("[2001:db8::8]:5060", false),
        ("[::198.51.100.4]:5060", false),
        ("[64:ff9b::198.51.100.4]:5060", false),
        ("[2002:c633:6404::1]:5060", false),
        ("198.51.100.9:5061", false),
    ] {
        let mut site = site();
        let before = site.endpoint.census();
        let texts = methods.map(|method| request(method).text());
        let (statuses, census) = leaves(&mut site, from, is_tcp, &texts);
        assert_eq!(statuses[0], [401], "{from}");
        for (method, statuses) in methods.iter().zip(&statuses) {
            let is_refused = statuses.iter().all(|status| matches!(status, 401 | 481));
            assert!(
                is_refused && statuses.len() <= 1,
                "{from} {method} {statuses:?}"
            );
        }
        assert_eq!(census, before, "{from}");
        assert_eq!(site.endpoint.next_deadline(), None, "{from}");
        assert!(site.pass(Duration::from_secs(60)).is_silent());
        assert_eq!(site.counts(), (0, 0, 0));
    }
}
