//! sipsak: REGISTER, and OPTIONS from a known source and from a stranger. It sends from 127.0.0.1.

use std::time::Duration;

use super::harness::{Network, Server, Tool};
use super::sipp::{password, users};

fn sipsak(server: &Server, arguments: &[&str]) -> Tool {
    let uri = format!("sip:100@{}:5060", server.network.server());
    let mut tool = Tool::with("sipsak", arguments.iter().copied());
    tool.command.args(["-s", &uri]);
    tool
}

#[test]
#[ignore = "needs sipsak: tests/run peers"]
fn options_of_a_stranger_stay_unanswered() {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100"])));
    let dropped = |server: &Server| server.get("status")["guard"]["dropped"].as_u64().unwrap();
    let before = dropped(&server);
    // It would repeat for 32 s; two seconds show enough.
    let mut running = sipsak(&server, &["-vv"]).start();
    std::thread::sleep(Duration::from_secs(2));
    assert!(running.is_alive(), "{}", running.stdout());
    assert!(
        !running.stdout().contains("SIP/2.0 200"),
        "{}",
        running.stdout()
    );
    // What is not answered is still what was sent: the same program is answered in the test below.
    assert!(dropped(&server) >= before);
}

#[test]
#[ignore = "needs sipsak: tests/run peers"]
fn registers_and_then_asks_options() {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100"])));
    let secret = password("100");
    let contact = "sip:100@127.0.0.1:5099";
    let finished = sipsak(
        &server,
        &[
            "-U", "-C", contact, "-u", "100", "-a", &secret, "-x", "120", "-vvv",
        ],
    )
    .run(Duration::from_secs(20))
    .well();
    assert!(finished.stdout.contains("SIP/2.0 200"), "{finished:#?}");
    let items = server.items("registrations");
    assert_eq!(items.len(), 1, "{items:#?}");
    assert_eq!(items[0]["contact"], contact);
    // Its address is known now.
    let finished = sipsak(&server, &["-vvv"])
        .run(Duration::from_secs(10))
        .well();
    assert!(finished.stdout.contains("SIP/2.0 200"), "{finished:#?}");
    assert!(finished.stdout.contains("Allow:"), "{finished:#?}");
}

#[test]
#[ignore = "needs sipsak: tests/run peers"]
fn an_allowed_address_is_known_from_the_start() {
    let server = Server::start(Network::take(), "\n[guard]\nallow = 127.0.0.1\n");
    let finished = sipsak(&server, &["-vvv"])
        .run(Duration::from_secs(10))
        .well();
    assert!(finished.stdout.contains("SIP/2.0 200"), "{finished:#?}");
}
