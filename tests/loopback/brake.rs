//! The brake on toll fraud in the real program: what it remembers outlives `kill -9`, and SIGHUP changes its limits.

use super::records::{answer, header, receive};
use super::*;

/// User 100 by address, and a carrier.
struct Office {
    site: Site,
    server: Server,
    caller: UdpSocket,
    carrier: UdpSocket,
    calls: u32,
}

impl Office {
    fn new() -> Self {
        let site = Site::new("");
        let base = u32::from(site.address);
        let [first, second] = [0x00c0_0000, 0x0080_0000].map(|bits| Ipv4Addr::from(base ^ bits));
        site.write(&Self::config(first, second, 1));
        let server = site.start();
        let [caller, carrier] = [first, second].map(|address| {
            let socket = UdpSocket::bind((address, 5060)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(server.sip).unwrap();
            socket
        });
        Self {
            site,
            server,
            caller,
            carrier,
            calls: 0,
        }
    }

    fn config(caller: Ipv4Addr, carrier: Ipv4Addr, new: u32) -> String {
        format!(
            "[guard]\nnew_destinations_per_hour = {new}\n[user 100]\naddresses = {caller}\n\
             [trunk carrier]\naddresses = {carrier}\n"
        )
    }

    /// Calls a number, which is busy if the call gets there; the final status.
    fn calls(&mut self, number: &str) -> u16 {
        self.calls += 1;
        let (call, local) = (self.calls, self.caller.local_addr().unwrap());
        let server = self.server.sip;
        let invite = format!(
            "INVITE sip:9{number}@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{call};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:100@{server}>;tag=a{call}\r\nTo: <sip:9{number}@{server}>\r\n\
             Call-ID: brake{call}\r\nCSeq: 1 INVITE\r\nContact: <sip:100@{local}>\r\nContent-Length: 0\r\n\r\n"
        );
        self.caller.send(invite.as_bytes()).unwrap();
        let mut response = receive(&self.caller, "SIP/2.0 ");
        if response.starts_with("SIP/2.0 100 ") {
            let received = receive(&self.carrier, "INVITE ");
            assert!(received.starts_with(&format!("INVITE sip:{number}@")));
            answer(&self.carrier, &received, 486);
            receive(&self.carrier, "ACK ");
            response = receive(&self.caller, "SIP/2.0 4");
        }
        let to = header(&response, "To");
        let ack = invite.replace("INVITE", "ACK").replace(
            &format!("To: <sip:9{number}@{server}>"),
            &format!("To: {to}"),
        );
        self.caller.send(ack.as_bytes()).unwrap();
        response[8..11].parse().unwrap()
    }

    /// The table as `sqlite3` prints it; `None` where there is no such program.
    fn table(&self) -> Option<String> {
        let output = Command::new("sqlite3")
            .arg(self.site.folder.path().join("sipkeep.db"))
            .arg(
                "SELECT user, number, first_called = last_called FROM destinations ORDER BY number",
            )
            .output();
        match output {
            Ok(output) => {
                assert!(output.status.success(), "{output:?}");
                Some(String::from_utf8(output.stdout).unwrap())
            }
            Err(error) => {
                let is_needed = std::env::var("CI").as_deref() == Ok("true");
                assert!(!is_needed, "sqlite3 is needed: {error}");
                eprintln!("not looked at: sqlite3 cannot be run: {error}");
                None
            }
        }
    }
}

#[test]
fn numbers_that_were_called_are_known_after_a_power_cut() {
    let mut office = Office::new();
    assert_eq!(office.calls("004420"), 486);
    assert_eq!(office.calls("004421"), 403);
    assert_eq!(office.calls("004420"), 486);
    let IpAddr::V4(address) = office.caller.local_addr().unwrap().ip() else {
        panic!("not IPv4")
    };
    (office.server).wait_for_log(&format!(
        "event=outside_limit user=100 number=004421 source={address} limit=new_destinations_per_hour \
         refused=1 mode=enforce"
    ));
    let token = office.site.token();
    let begin = Instant::now();
    while office.server.status(&token)["store"]["pending"] != 0 {
        assert!(begin.elapsed() < PATIENCE, "it is never kept");
        std::thread::sleep(Duration::from_millis(10));
    }
    office.server.signal("KILL");
    office.server.child.wait().unwrap();
    office.server = office.site.start();
    if let Some(table) = office.table() {
        assert_eq!(table, "100|004420|1\n");
    }
    assert_eq!(office.calls("004420"), 486, "an old friend");
    assert_eq!(office.calls("004421"), 403, "in the same hour");

    let IpAddr::V4(carrier) = office.carrier.local_addr().unwrap().ip() else {
        panic!("not IPv4")
    };
    office.site.write(&Office::config(address, carrier, 2));
    office.server.signal("HUP");
    office.server.wait_for_log("event=reload");
    assert_eq!(office.calls("004421"), 486);
    assert_eq!(office.calls("004422"), 403);
    assert_eq!(office.calls("112"), 486, "a call for help");
    assert!(office.server.stop().0.success());
}
