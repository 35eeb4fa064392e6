//! Calls that somebody else than their parties ends: an administrator, through HTTP and the command line, or the power.

use serde_json::json;

use super::*;

/// A caller (100) and a callee (101) who are known by their addresses, and the server between them.
struct Line {
    site: Site,
    server: Server,
    token: String,
    caller: UdpSocket,
    callee: UdpSocket,
    calls: u32,
}

impl Line {
    fn new() -> Self {
        let site = Site::new("");
        let base = u32::from(site.address);
        // The quarters of 127.0.0.0/8 beside the one that servers have.
        let [first, second] = [0x00c0_0000, 0x0080_0000].map(|bits| Ipv4Addr::from(base ^ bits));
        site.write(&format!(
            "[user 100]\naddresses = {first}\n[user 101]\naddresses = {second}\n"
        ));
        let server = site.start();
        let [caller, callee] = [first, second].map(|address| {
            let socket = UdpSocket::bind((address, 5060)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(server.sip).unwrap();
            socket
        });
        Self {
            token: site.token(),
            site,
            server,
            caller,
            callee,
            calls: 0,
        }
    }

    /// 100 calls 101, which rings. The caller's INVITE and the callee's.
    fn ring(&mut self) -> (String, String) {
        self.calls += 1;
        let (number, local) = (self.calls, self.caller.local_addr().unwrap());
        let server = self.server.sip;
        let invite = format!(
            "INVITE sip:101@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:100@{server}>;tag=a{number}\r\nTo: <sip:101@{server}>\r\n\
             Call-ID: c{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:100@{local}>\r\nContent-Length: 0\r\n\r\n"
        );
        self.caller.send(invite.as_bytes()).unwrap();
        let received = receive(&self.callee, "INVITE ");
        answer(&self.callee, &received, 180);
        receive(&self.caller, "SIP/2.0 180 ");
        (invite, received)
    }

    /// The same, and 101 answers.
    fn talk(&mut self) {
        let (invite, received) = self.ring();
        answer(&self.callee, &received, 200);
        let answered = receive(&self.caller, "SIP/2.0 200 ");
        let ack = invite
            .replace("INVITE", "ACK")
            .replace("z9hG4bK", "z9hG4bKa");
        let to = format!("To: {}", header(&answered, "To"));
        let ack = ack.replace(&format!("To: <sip:101@{}>", self.server.sip), &to);
        self.caller.send(ack.as_bytes()).unwrap();
        receive(&self.callee, "ACK ");
    }

    fn items(&self, path: &str) -> Vec<serde_json::Value> {
        let text = self
            .server
            .get(&format!("/api/v1/{path}"), Some(&self.token));
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let list: serde_json::Value = serde_json::from_str(body).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// The one call that there is, in this state; its id.
    fn call(&self, state: &str) -> String {
        let calls = self.items("calls");
        assert_eq!(calls.len(), 1);
        assert_eq!(
            (&calls[0]["state"], &calls[0]["caller"]),
            (&state.into(), &"100".into())
        );
        calls[0]["id"].as_str().unwrap().to_owned()
    }

    /// The newest record, once it has this id.
    fn record(&self, id: &str) -> serde_json::Value {
        let begin = Instant::now();
        loop {
            if let Some(record) = self.items("cdrs").into_iter().next()
                && record["id"] == id
            {
                return record;
            }
            assert!(begin.elapsed() < PATIENCE, "no record of {id}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn delete(&self, path: &str) -> String {
        let mut client = TcpStream::connect(self.server.http).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = &self.token;
        write!(
            client,
            "DELETE /api/v1/{path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }
}

/// The next message that begins so; others are passed over.
pub(super) fn receive(socket: &UdpSocket, begin: &str) -> String {
    let mut bytes = [0; 4096];
    loop {
        let length = socket
            .recv(&mut bytes)
            .unwrap_or_else(|error| panic!("no {begin}: {error}"));
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        if text.starts_with(begin) {
            return text;
        }
    }
}

pub(super) fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let lines = || text.lines().filter_map(|line| line.split_once(": "));
    lines().find(|(own, _)| *own == name).unwrap().1
}

/// Answers a request, with the tag of the callee and his Contact.
pub(super) fn answer(socket: &UdpSocket, request: &str, status: u16) {
    let [via, from, to, call_id, cseq] =
        ["Via", "From", "To", "Call-ID", "CSeq"].map(|name| header(request, name));
    let tag = if to.contains(";tag=") { "" } else { ";tag=b" };
    let local = socket.local_addr().unwrap();
    let text = format!(
        "SIP/2.0 {status} X\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to}{tag}\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n\
         Contact: <sip:101@{local}>\r\nContent-Length: 0\r\n\r\n"
    );
    socket.send(text.as_bytes()).unwrap();
}

fn assert_fields(record: &serde_json::Value, wanted: &serde_json::Value) {
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!(&record[field], value, "{field}");
    }
}

/// `DELETE calls/{id}` and `sipkeep hangup` end a call that rings, and one that was answered.
#[test]
fn an_administrator_ends_calls() {
    let mut line = Line::new();
    let (_, received) = line.ring();
    let id = line.call("ringing");
    assert!(
        line.delete(&format!("calls/{id}"))
            .starts_with("HTTP/1.1 200 ")
    );
    receive(&line.caller, "SIP/2.0 480 ");
    let cancel = receive(&line.callee, "CANCEL ");
    assert!(header(&cancel, "Reason").contains("Ended by the administrator"));
    answer(&line.callee, &cancel, 200);
    answer(&line.callee, &received, 487);
    let record = line.record(&id);
    assert_fields(
        &record,
        &json!({
            "disposition": "no_answer",
            "status": 480,
            "ended_by": "server",
            "answer": null,
            "talk_ms": 0,
        }),
    );
    assert!(
        line.delete(&format!("calls/{id}"))
            .starts_with("HTTP/1.1 404 ")
    );

    line.talk();
    let id = line.call("answered");
    let output = line.site.command().args(["hangup", &id]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for socket in [&line.caller, &line.callee] {
        let bye = receive(socket, "BYE ");
        assert!(header(&bye, "Reason").contains("Ended by the administrator"));
        answer(socket, &bye, 200);
    }
    let record = line.record(&id);
    assert_fields(
        &record,
        &json!({
            "disposition": "answered",
            "status": 200,
            "ended_by": "server",
            "answered_by": "101",
            "direction": "internal",
            "caller_call_id": "c2",
        }),
    );
    assert!(line.items("calls").is_empty());
    assert!(line.server.stop().0.success());
}

/// A call that was up when the server was killed leaves one record: `interrupted`, without an end.
#[test]
fn a_call_that_was_up_at_the_power_cut_was_interrupted() {
    let mut line = Line::new();
    line.talk();
    let id = line.call("answered");
    let begin = Instant::now();
    while line.server.status(&line.token)["store"]["pending"] != 0 {
        assert!(begin.elapsed() < PATIENCE, "it is never kept");
        std::thread::sleep(Duration::from_millis(10));
    }
    // While a call is up it is no record yet.
    assert!(line.items("cdrs").is_empty());
    line.server.signal("KILL");
    line.server.child.wait().unwrap();
    line.server = line.site.start();
    let record = line.record(&id);
    assert_fields(
        &record,
        &json!({
            "disposition": "interrupted",
            "ended_by": "server",
            "caller": "100",
            "dialled": "101",
            "answered_by": "101",
            "caller_call_id": "c1",
            "end": null,
            "duration_ms": null,
            "talk_ms": null,
        }),
    );
    assert!(record["answer"].is_string());
    assert_eq!(line.items("cdrs").len(), 1);
    assert!(line.items("calls").is_empty());
}
