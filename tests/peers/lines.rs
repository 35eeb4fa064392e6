//! Lines at Kamailio: an IMS core, and an ordinary provider.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::baresip::Baresip;
use super::capture::Capture;
use super::dns::DnsServer;
use super::harness::{Network, STOP, Server, assert_fields, wait, write_config};
use super::kamailio::{
    Carrier, IMS_ACCOUNT, IMS_DOMAIN, Kamailio, PASSWORD, PROVIDER_DOMAIN, PROVIDER_PORT,
};
use super::line_registers::{line, wait_for_state};
use super::pjsua2::Pjsua2;
use super::sipp::Sipp;
use super::sound::assert_tone;

const WITHIN: Duration = Duration::from_secs(15);

/// A number that the world answers.
const NUMBER: &str = "+8613800000000";

/// Users 100 and 101 at .2 and .3, and how numbers get outside.
const PHONES: &str = "[user 100]\naddresses = {net}.2:5060\n\n[user 101]\naddresses = {net}.3:5060\n\n\
    [route plus]\nprefix = +\nto = line:carrier\n\n[route outside]\nprefix = 9\nstrip = 1\nto = line:carrier\n\n";

/// The line to the IMS core at .10.
fn ims_line(keys: &str) -> String {
    format!(
        "[line carrier]\naccount = {IMS_ACCOUNT}\nserver = {IMS_DOMAIN}\noutbound_proxy = {{net}}.10:5060\n\
         password = {PASSWORD}\nuser_phone = yes\nincoming = 101\n{keys}\n"
    )
}

/// A line to the provider, found by name or at .10.
fn provider_line(keys: &str) -> String {
    format!(
        "[line carrier]\naccount = 5551000\nserver = {PROVIDER_DOMAIN}\npassword = {PASSWORD}\nincoming = 101\n{keys}\n"
    )
}

/// sipkeep behind a carrier.
struct Office {
    _capture: Capture,
    server: Server,
    carrier: Kamailio,
    names: DnsServer,
}

impl Office {
    /// `line`: its section. No name exists.
    fn open(carrier: &Carrier, line: &str) -> Self {
        Self::with_names(Network::take(), carrier, line, "")
    }

    /// With a name server at .53 that knows these.
    fn with_names(network: Network, carrier: &Carrier, line: &str, zone: &str) -> Self {
        let capture = Capture::at((network.server(), super::harness::SIP_PORT).into());
        let carrier = Kamailio::start(network, 10, carrier);
        let names = DnsServer::start(network.host(53), zone);
        let folder = TempDir::new().unwrap();
        let config = format!("log = debug\n\n{PHONES}{line}");
        write_config(folder.path(), network, &config);
        names.configure(folder.path(), "");
        Self {
            _capture: capture,
            server: Server::start_in(network, folder),
            carrier,
            names,
        }
    }

    /// At the IMS core, registered.
    fn ims(carrier: &Carrier) -> Self {
        let office = Self::open(carrier, &ims_line("auth_user_with_domain = yes\n"));
        office.registered();
        office
    }

    fn registered(&self) {
        wait_for_state(&self.server, "registered", WITHIN);
        assert_eq!(self.carrier.contacts().len(), 1, "{}", self.carrier.log());
    }

    /// SIPp at .host, towards `server`.
    fn sipp(&self, scenario: &'static str, host: u8) -> Sipp {
        Sipp::new(self.server.sip(), scenario, self.server.network.host(host))
    }

    /// User 100 calls a number of the world, which answers with a scenario; what both said.
    fn call_out(&self, number: &str) -> (String, String) {
        let world = self.sipp("answer", 11).start();
        std::thread::sleep(Duration::from_millis(300));
        let said = self
            .sipp("call_plain", 2)
            .caller("100")
            .service(number)
            .run();
        (said, world.well())
    }

    /// The world calls a URI, which user 101 answers; what both said.
    fn call_in(&self, uri: &str) -> (String, String) {
        let phone = self.sipp("answer", 3).start();
        std::thread::sleep(Duration::from_millis(300));
        let said = Sipp::new(
            self.carrier.sip(),
            "world_call",
            self.server.network.host(12),
        )
        .caller(NUMBER)
        .place("URI", uri)
        .run();
        (said, phone.well())
    }

    /// The newest of so many records, all of calls through the line.
    fn record(&self, number: usize, fields: &[(&str, Value)]) {
        let record = self.server.records(number).remove(0);
        assert_fields(
            &record,
            &[
                ("through", json!("line:carrier")),
                ("disposition", json!("answered")),
            ],
        );
        assert_fields(&record, fields);
    }
}

#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn the_ims_core_knows_names_with_a_domain() {
    let office = Office::open(&Carrier::IMS, &ims_line(""));
    let line = wait_for_state(&office.server, "refused", WITHIN);
    assert_fields(
        &line,
        &[
            ("name", json!("carrier")),
            ("account", json!(IMS_ACCOUNT)),
            ("status", json!(403)),
        ],
    );
    assert!(line["next_attempt"].is_string(), "{line:#}");
    assert_eq!(office.carrier.contacts(), [""; 0]);
    let log = office.server.log();
    assert!(log.contains("auth_user_with_domain"), "a hint: {log}");
    let table = office.server.command(&["lines"]).well().stdout;
    assert!(
        table.contains("refused") && table.contains("403"),
        "{table}"
    );

    // The hint is followed.
    let config = format!(
        "log = debug\n\n{PHONES}{}",
        ims_line("auth_user_with_domain = yes\n")
    );
    write_config(office.server.folder.path(), office.server.network, &config);
    office.server.signal("HUP");
    let line = wait_for_state(&office.server, "registered", WITHIN);
    assert_fields(&line, &[("status", json!(200))]);
    let contacts = office.carrier.contacts();
    assert_eq!(contacts.len(), 1, "{contacts:?}");
    let host = format!("@{}:5060", office.server.network.server());
    assert!(contacts[0].contains(&host), "{contacts:?}");
    let table = office.server.command(&["lines"]).well().stdout;
    assert!(
        table.contains("registered") && table.contains(IMS_ACCOUNT),
        "{table}"
    );
    // Its domain is one that nobody can resolve: it is asked for, since it might call, and nothing hangs on the answer.
    let asked = office.names.asked();
    assert!(
        asked.iter().all(|question| question.contains(IMS_DOMAIN)),
        "{asked:?}"
    );
}

#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn calls_through_the_ims_core() {
    let office = Office::ims(&Carrier::IMS);
    let address = format!("{IMS_ACCOUNT}@{IMS_DOMAIN}");
    let (_, heard) = office.call_out(NUMBER);
    for text in [
        &format!("INVITE sip:{NUMBER}@{IMS_DOMAIN};user=phone SIP/2.0"),
        &format!("P-Asserted-Identity: <sip:{address}>"),
        &format!("<sip:{address}"),
    ] {
        assert!(heard.contains(text), "{text}: {heard}");
    }
    // Nothing of the inside is told, and no credentials get further than the core.
    let phone = office.server.network.host(2).to_string();
    let signalling = heard.replace(&format!("c=IN IP4 {phone}"), "");
    let signalling = signalling.replace(&format!("IN IP4 {phone}"), "");
    assert!(!signalling.contains(&format!("{phone}:")), "{heard}");
    assert!(!heard.contains("uthorization"), "{heard}");
    assert_eq!(
        office.carrier.log().matches(": INVITE ").count(),
        2,
        "407 once"
    );
    office.record(
        1,
        &[
            ("direction", json!("outgoing")),
            ("caller", json!("100")),
            ("dialled", json!(NUMBER)),
        ],
    );

    for (number, uri) in [
        (2, format!("tel:{IMS_ACCOUNT}")),
        (3, format!("sip:{address};user=phone")),
    ] {
        let (_, heard) = office.call_in(&uri);
        assert!(heard.contains(NUMBER), "{heard}");
        office.record(
            number,
            &[
                ("direction", json!("incoming")),
                ("caller", json!(NUMBER)),
                ("answered_by", json!("101")),
            ],
        );
    }
    assert!(
        !office.carrier.log().contains("ERROR"),
        "{}",
        office.carrier.log()
    );
}

/// Both ways, where the core and the world ask for reliable provisional responses, which these phones do not know.
#[test]
#[ignore = "needs Kamailio, SIPp and PJSUA2: tests/run peers"]
fn reliable_calls_through_the_ims_core() {
    let office = Office::ims(&Carrier {
        variant: Some("RELIABLE"),
        ..Carrier::IMS
    });
    let network = office.server.network;
    let mut world = Pjsua2::start_at(
        office.carrier.sip(),
        network.host(11),
        (NUMBER, "udp"),
        &["100rel", "unregistered"],
    );
    office
        .sipp("call_plain", 2)
        .caller("100")
        .service(NUMBER)
        .run();
    world.wait_for("confirmed");
    world.wait_for("disconnected 200");
    office.record(1, &[("direction", json!("outgoing"))]);

    let phone = office.sipp("answer", 3).start();
    world.tell(&format!("call sip:{IMS_ACCOUNT}@{IMS_DOMAIN};user=phone"));
    world.wait_for("confirmed");
    std::thread::sleep(Duration::from_millis(500));
    world.tell("hangup");
    world.wait_for("disconnected 200");
    let heard = phone.well();
    assert!(!heard.contains("PRACK "), "{heard}");
    office.record(2, &[("direction", json!("incoming"))]);
    world.quit();
    let log = office.carrier.log();
    assert!(log.matches(": PRACK ").count() >= 2, "{log}");
}

/// It comes again before its registration ends.
#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn a_registration_is_kept_up() {
    let office = Office::ims(&Carrier {
        expires: 20,
        ..Carrier::IMS
    });
    for _ in 0..120 {
        let log = || office.carrier.log();
        assert_eq!(office.carrier.contacts().len(), 1, "{}", log());
        assert_eq!(line(&office.server)["state"], "registered");
        std::thread::sleep(Duration::from_millis(200));
    }
    let registers = office.carrier.log().matches(": REGISTER ").count();
    assert!((3..=10).contains(&registers), "{}", office.carrier.log());

    office.call_out(NUMBER);
    office.record(1, &[]);
}

/// A core that has forgotten it is registered at anew when it refuses a call.
#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn a_core_that_has_forgotten() {
    let mut office = Office::ims(&Carrier::IMS);
    office.carrier.stop();
    office.carrier.start_again();
    assert_eq!(office.carrier.contacts(), [""; 0]);
    (office.sipp("call_refused_plain", 2).caller("100"))
        .service(NUMBER)
        .status(403)
        .run();
    wait(
        // Well before it would have come anyway, after half a minute.
        Duration::from_secs(10),
        || office.carrier.contacts().len() == 1,
        || format!("it never came again:\n{}", office.carrier.log()),
    );
    office.registered();
    office.call_out(NUMBER);
    office.record(2, &[]);
}

/// A minute without the core.
#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn the_core_is_gone_for_a_minute() {
    let mut office = Office::ims(&Carrier {
        expires: 20,
        ..Carrier::IMS
    });
    office.carrier.kill();
    let gone = std::time::Instant::now();
    let line = wait_for_state(&office.server, "unreachable", Duration::from_secs(60));
    assert!(line["next_attempt"].is_string(), "{line:#}");
    std::thread::sleep(Duration::from_secs(60).saturating_sub(gone.elapsed()));
    office.carrier.start_again();
    wait_for_state(&office.server, "registered", Duration::from_secs(60));
    office.call_out(NUMBER);
    office.record(1, &[]);
}

/// The provider at .10 as its SRV records tell; with a first target that nobody listens at, if `has_dead`.
fn by_name(carrier: &Carrier, transport: &str, has_dead: bool) -> Office {
    let network = Network::take();
    let service = match transport {
        "udp" => "_sip._udp.sip.provider.test",
        _ => "_sip._tcp.sip.provider.test",
    };
    let target = |priority, name, host| {
        let host = network.host(host);
        format!("{service} SRV {priority} 0 {PROVIDER_PORT} {name}\n{name} A {host}\n")
    };
    let mut zone = target(20, "b.provider.test", 10);
    if has_dead {
        zone.push_str(&target(10, "a.provider.test", 9));
    }
    let line = provider_line(&format!("transport = {transport}\n"));
    Office::with_names(network, carrier, &line, &zone)
}

/// Calls both ways, an order to register, and the end of it.
fn provider(transport: &str, carrier: &Carrier) {
    let mut office = by_name(carrier, transport, false);
    office.registered();
    office.call_out("94930123");
    office.record(
        1,
        &[
            ("direction", json!("outgoing")),
            ("dialled", json!("94930123")),
        ],
    );
    office.call_in(&format!("sip:5551000@{PROVIDER_DOMAIN}"));
    office.record(2, &[("direction", json!("incoming"))]);

    let registers = office.carrier.log().matches(": REGISTER ").count();
    let (status, answer) = office.server.request("POST", "lines/carrier/register", "");
    assert!((200..300).contains(&status), "{status} {answer}");
    wait(
        WITHIN,
        || office.carrier.log().matches(": REGISTER ").count() > registers,
        || format!("no REGISTER:\n{}", office.carrier.log()),
    );
    office.registered();
    let (status, _) = office.server.request("POST", "lines/nobody/register", "");
    assert_eq!(status, 404);

    office.server.signal("TERM");
    let status = office.server.wait_for_end(STOP);
    assert_eq!(status.code(), Some(0), "{}", office.server.log());
    assert_eq!(
        office.carrier.contacts(),
        [""; 0],
        "{}",
        office.carrier.log()
    );
}

#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn a_provider_over_udp() {
    provider("udp", &Carrier::PROVIDER);
}

/// Every request is challenged, by a nonce that is good for a second only.
#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn a_provider_over_tcp_that_challenges_everything() {
    let carrier = Carrier {
        nonce_expires: 1,
        variant: Some("CHALLENGES_ALL"),
        ..Carrier::PROVIDER
    };
    provider("tcp", &carrier);
}

/// Its connections are closed, and it has forgotten everybody: whoever is called there must have come again.
#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn a_provider_over_tcp_restarts() {
    let mut office = by_name(&Carrier::PROVIDER, "tcp", false);
    office.registered();
    office.carrier.stop();
    office.carrier.start_again();
    wait(
        WITHIN,
        || office.carrier.contacts().len() == 1,
        || format!("it never came again:\n{}", office.server.log()),
    );
    office.call_in(&format!("sip:5551000@{PROVIDER_DOMAIN}"));
    office.record(1, &[("direction", json!("incoming"))]);
}

/// A phone inside and one outside hear each other, whoever calls.
#[test]
#[ignore = "needs Kamailio and baresip: tests/run peers"]
fn sound_through_a_provider() {
    let office = Office::open(
        &Carrier::PROVIDER,
        &format!(
            // What baresip sends on loopback leaves from 127.0.0.1, a place that it never names: no relay would take it.
            "[media]\nrelay = never\n\n[user 102]\npassword = {}\n\n{}",
            super::sipp::password("102"),
            provider_line(&format!("outbound_proxy = {{net}}.10:{PROVIDER_PORT}\n"))
                .replace("incoming = 101", "incoming = 102")
        ),
    );
    office.registered();
    let network = office.server.network;
    let account = format!(
        "<sip:4930123@world.test>;regint=0;outbound=\"sip:{}\"",
        office.carrier.sip()
    );
    let mut world = Baresip::with_account(network.host(11), &account, 700);
    let mut phone = Baresip::start(&office.server, network.host(4), ("102", "udp", 400));
    wait(
        WITHIN,
        || office.server.registered() == ["102"],
        || office.server.log(),
    );
    phone.command("dial", &format!("sip:94930123@{}", network.server()));
    phone.wait_for("CALL_ESTABLISHED", 0);
    world.wait_for("CALL_ESTABLISHED", 0);
    std::thread::sleep(Duration::from_secs(4));
    phone.command("hangup", "");
    world.wait_for("CALL_CLOSED", 0);
    phone.wait_for("CALL_CLOSED", 0);
    assert_tone(&phone.heard(), 700);
    assert_tone(&world.heard(), 400);
    office.record(
        1,
        &[("direction", json!("outgoing")), ("caller", json!("102"))],
    );

    let (seen, seen_by_world) = (phone.said.len(), world.said.len());
    world.command("dial", &format!("sip:5551000@{PROVIDER_DOMAIN}"));
    phone.wait_for("CALL_ESTABLISHED", seen);
    std::thread::sleep(Duration::from_secs(4));
    phone.command("hangup", "");
    world.wait_for("CALL_CLOSED", seen_by_world);
    phone.wait_for("CALL_CLOSED", seen);
    assert_tone(&phone.heard(), 700);
    assert_tone(&world.heard(), 400);
    office.record(
        2,
        &[
            ("direction", json!("incoming")),
            ("caller", json!("4930123")),
        ],
    );
}

fn the_first_target_is_dead(transport: &str) {
    let office = by_name(&Carrier::PROVIDER, transport, true);
    // Where nothing tells that it is dead, it takes 32 s to find out.
    wait_for_state(&office.server, "registered", Duration::from_secs(40));
    office.call_out("94930123");
    office.record(1, &[("direction", json!("outgoing"))]);
    office.call_in(&format!("sip:5551000@{PROVIDER_DOMAIN}"));
    office.record(2, &[("direction", json!("incoming"))]);
}

#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn the_first_target_over_udp_is_dead() {
    the_first_target_is_dead("udp");
}

#[test]
#[ignore = "needs Kamailio and SIPp: tests/run peers"]
fn the_first_target_over_tcp_is_dead() {
    the_first_target_is_dead("tcp");
}
