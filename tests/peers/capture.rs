//! What the server sends, as tshark sees it: nothing of it may be malformed or make its decoder of SIP and SDP warn.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::harness::{Running, Server, Tool, signal, wait};
use super::kamailio::PROVIDER_PORT;

/// Of Wireshark's expert information, that which is a note (a header that it does not know) or worse.
const NOTE: u32 = 0x0040_0000;

/// A capture from now on until it is dropped; then what was captured is looked at.
pub struct Capture {
    running: Option<Running>,
    server: SocketAddr,
    folder: TempDir,
}

impl Capture {
    pub fn of(server: &Server) -> Self {
        Self::at(server.sip())
    }

    /// Of a server that may not yet run.
    pub fn at(server: SocketAddr) -> Self {
        let folder = TempDir::new().unwrap();
        let mut tool = Tool::of("tshark");
        // It prints the length of each UDP datagram, by which it tells that it has begun, and that it has seen everything.
        let (address, port) = (server.ip(), server.port());
        tool.command
            .args([
                "-q",
                "-i",
                "lo",
                "-f",
                &format!("host {address} and (port {port} or port {PROVIDER_PORT})"),
            ])
            .args(["-P", "-l", "-T", "fields", "-e", "udp.length", "-w"])
            .arg(folder.path().join("capture"));
        let capture = Self {
            running: Some(tool.start()),
            server,
            folder,
        };
        capture.wait_for_keep_alive(b"\r\n\r\n");
        capture
    }

    /// Sends keep-alives, which the server does not answer, until they are captured.
    fn wait_for_keep_alive(&self, bytes: &[u8]) {
        let Some(running) = &self.running else { return };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let length = (bytes.len() + 8).to_string();
        wait(
            Duration::from_secs(60),
            || {
                socket.send_to(bytes, self.server).unwrap();
                running.stdout().lines().any(|line| line == length)
            },
            || format!("tshark captures nothing: {}", running.stdout()),
        );
    }

    /// Ends the capture with whatever was sent so far; later nothing more is captured.
    fn stop(&mut self) {
        if self.running.is_some() {
            self.wait_for_keep_alive(b"\r\n\r\n\r\n");
        }
        if let Some(running) = self.running.take() {
            signal(running.id(), "INT");
            running.finish(Duration::from_secs(10));
        }
    }

    /// Ends the capture; how many of its packets fit a filter.
    pub fn count(&mut self, filter: &str) -> usize {
        self.stop();
        self.find(filter, "sip.CSeq.method").lines().count()
    }

    /// What tshark finds in the capture, a line a packet.
    fn find(&self, filter: &str, field: &str) -> String {
        let mut tool = Tool::of("tshark");
        tool.command
            .arg("-r")
            .arg(self.folder.path().join("capture"))
            .args(["-d", &format!("tcp.port=={PROVIDER_PORT},sip")])
            .args([
                "-Y",
                filter,
                "-T",
                "fields",
                "-e",
                "frame.number",
                "-e",
                field,
            ]);
        tool.run(Duration::from_secs(60)).well().stdout
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let own = format!("sip && ip.src == {}", self.server.ip());
        let sent = self.count(&own);
        assert!(sent > 1, "only {sent} packets captured");
        // A segment that came twice is no fault of the message in it.
        let bad = format!(
            "{own} && !tcp.analysis.flags && (_ws.malformed || _ws.expert.severity >= {NOTE})"
        );
        let found = self.find(&bad, "_ws.expert.message");
        // A header of our own, by which another of us knows a call that has been here.
        let bad: String = found
            .lines()
            .filter(|line| !line.ends_with("\tUnrecognised SIP header (x-sipkeep-passed)"))
            .collect();
        assert!(
            bad.is_empty(),
            "tshark warns of what the server sent:\n{bad}"
        );
    }
}
