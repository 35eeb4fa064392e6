//! SIPp with the scenarios of this folder's `sipp/`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::harness::{Finished, Running, Tool};

/// No scenario of one call takes longer.
pub const WITHIN: Duration = Duration::from_secs(40);

/// A run of SIPp to be.
pub struct Sipp {
    server: SocketAddr,
    scenario: &'static str,
    address: Ipv4Addr,
    stream: bool,
    user: String,
    password: String,
    service: String,
    caller: String,
    expires: u32,
    status: u16,
    header: String,
    stay_ms: u32,
    answer: Option<&'static str>,
    talk_ms: u32,
    ring_ms: u32,
    echoes: bool,
    many: Option<Many>,
    places: Vec<(&'static str, String)>,
    auth_uri: Option<String>,
}

/// Calls at a time, in place of a single one.
#[derive(Clone, Copy, Debug)]
pub struct Many {
    /// How many in all.
    pub calls: usize,
    /// How many begin in a second.
    pub per_second: usize,
    /// The run ends after this, whatever has come of it.
    pub within: Duration,
}

/// SIPp running, with the folder of its scenario and logs.
pub struct Playing {
    running: Running,
    folder: TempDir,
    scenario: &'static str,
    within: Duration,
}

impl Sipp {
    /// `scenario`: a file of `sipp/` without `.xml`. User 100 on port 5060 of `address`, calling 101, over UDP.
    pub fn new(server: SocketAddr, scenario: &'static str, address: Ipv4Addr) -> Self {
        Self {
            server,
            scenario,
            address,
            stream: false,
            user: "100".into(),
            password: password("100"),
            service: "101".into(),
            caller: "100".into(),
            expires: 300,
            status: 0,
            header: "X-Nothing: beside".into(),
            stay_ms: 0,
            answer: None,
            talk_ms: 1_000,
            ring_ms: 500,
            echoes: false,
            many: None,
            places: Vec::new(),
            auth_uri: None,
        }
    }

    /// Over one TCP connection.
    pub fn tcp(mut self, tcp: bool) -> Self {
        self.stream = tcp;
        self
    }

    /// As this user, with the password of [`password`]; the caller's name too.
    pub fn user(mut self, user: &str) -> Self {
        self.user = user.into();
        self.caller = user.into();
        self.password = password(user);
        self
    }

    /// With another password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = password.into();
        self
    }

    /// Whom to call, or register.
    pub fn service(mut self, service: &str) -> Self {
        self.service = service.into();
        self
    }

    /// The user part of From.
    pub fn caller(mut self, caller: &str) -> Self {
        self.caller = caller.into();
        self
    }

    /// Seconds to register for.
    pub fn expires(mut self, seconds: u32) -> Self {
        self.expires = seconds;
        self
    }

    /// The final response that the scenario waits for.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// A header line beside it.
    pub fn header(mut self, line: &str) -> Self {
        self.header = line.into();
        self
    }

    /// How long to stay on the connection, and the scenario that takes calls there.
    pub fn stay(mut self, ms: u32, answer: &'static str) -> Self {
        self.stay_ms = ms;
        self.answer = Some(answer);
        self
    }

    /// How long a caller who hangs up talks before.
    pub fn talk(mut self, ms: u32) -> Self {
        self.talk_ms = ms;
        self
    }

    /// How long `answer` rings.
    pub fn ring(mut self, ms: u32) -> Self {
        self.ring_ms = ms;
        self
    }

    /// It says what it hears.
    pub fn echo(mut self) -> Self {
        self.echoes = true;
        self
    }

    /// Many calls, of which no messages are kept.
    pub fn many(mut self, many: Many) -> Self {
        self.many = Some(many);
        self
    }

    /// What stands in a place of the scenario that is its own, written `@NAME@`.
    pub fn place(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.places.push((name, text.into()));
        self
    }

    /// The digest URI without its scheme, where it is not the server's address.
    pub fn auth_uri(mut self, uri: &str) -> Self {
        self.auth_uri = Some(uri.into());
        self
    }

    pub fn start(self) -> Playing {
        let folder = TempDir::new().unwrap();
        let scenario = self.write(folder.path(), self.scenario);
        let mut tool = Tool::of("sipp");
        let command = &mut tool.command;
        command
            .current_dir(folder.path())
            .arg(self.server.to_string())
            .args(["-sf", &scenario]);
        command.args(["-i", &self.address.to_string(), "-p", "5060"]);
        command.args(["-nostdin", "-t", if self.stream { "t1" } else { "u1" }]);
        command.args([
            "-au",
            &self.user,
            "-ap",
            &self.password,
            "-s",
            &self.service,
        ]);
        command.args([
            "-key",
            "caller",
            &self.caller,
            "-key",
            "expires",
            &self.expires.to_string(),
        ]);
        command.args(["-trace_err", "-error_file", "errors.log"]);
        // A call that hears nothing is a failed one.
        let within = match self.many {
            None => {
                command.args(["-m", "1", "-trace_msg", "-message_file", "messages.log"]);
                command.args(["-recv_timeout", "20000", "-timeout", "35"]);
                WITHIN
            }
            Some(many) => {
                let calls = many.calls.to_string();
                command.args(["-m", &calls, "-l", &calls]);
                command.args(["-r", &many.per_second.to_string()]);
                // With a packet of five lost each way, six tries would not do in one of 500 calls.
                command.args(["-max_invite_retrans", "9", "-max_non_invite_retrans", "12"]);
                let patience = many.within.as_secs().to_string();
                command.args([
                    "-recv_timeout",
                    &format!("{patience}000"),
                    "-timeout",
                    &patience,
                ]);
                many.within + WITHIN
            }
        };
        command.arg("-timeout_error");
        if self.echoes {
            command.args(["-rtp_echo", "-mi", &self.address.to_string()]);
        }
        if let Some(uri) = &self.auth_uri {
            command.args(["-auth_uri", uri]);
        }
        if let Some(answer) = self.answer {
            command.args(["-oocsf", &self.write(folder.path(), answer)]);
        }
        Playing {
            running: tool.start(),
            folder,
            scenario: self.scenario,
            within,
        }
    }

    /// Copies a scenario with its places filled.
    fn write(&self, folder: &Path, scenario: &str) -> String {
        let file = format!("{scenario}.xml");
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/peers/sipp")
            .join(&file);
        let mut text = fs::read_to_string(&source)
            .unwrap_or_else(|error| panic!("{}: {error}", source.display()))
            .replace("@STATUS@", &self.status.to_string())
            .replace("@HEADER@", &self.header)
            .replace("@STAY@", &self.stay_ms.to_string())
            .replace("@TALK@", &self.talk_ms.to_string())
            .replace("@RING@", &self.ring_ms.to_string());
        for (name, place) in &self.places {
            text = text.replace(&format!("@{name}@"), place);
        }
        fs::write(folder.join(&file), text).unwrap();
        file
    }

    /// Plays it to its end, which must be a good one.
    #[track_caller]
    pub fn run(self) -> String {
        self.start().well()
    }
}

impl Playing {
    /// All messages that it sent and received.
    pub fn messages(&self) -> String {
        fs::read(self.folder.path().join("messages.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until a message with this text went through.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        super::harness::wait(
            Duration::from_secs(10),
            || self.messages().contains(text),
            || format!("{} never saw {text:?}:\n{}", self.scenario, self.messages()),
        );
    }

    /// Waits for the end, which must be a good one; returns the messages.
    #[track_caller]
    pub fn well(self) -> String {
        let (finished, messages, errors) = self.finish();
        assert_eq!(
            finished.code,
            Some(0),
            "SIPp with {}:\n{errors}\n--- messages ---\n{messages}",
            // The screens of SIPp say less than its messages.
            finished
                .stderr
                .lines()
                .last()
                .unwrap_or("the scenario failed")
        );
        // Of a call that came in on a registered connection only the log tells.
        assert!(
            !errors.contains("Aborting call"),
            "SIPp:\n{errors}\n--- messages ---\n{messages}"
        );
        messages
    }

    /// Waits for the end: outcome, messages, errors.
    #[track_caller]
    pub fn finish(self) -> (Finished, String, String) {
        let Self {
            running,
            folder,
            within,
            ..
        } = self;
        let finished = running.finish(within);
        let read = |name| {
            fs::read(folder.path().join(name))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        (finished, read("messages.log"), read("errors.log"))
    }
}

/// The password of a user in the configurations here.
pub fn password(user: &str) -> String {
    format!("secret-{user}-of-the-tests")
}

/// Sections of users with these passwords.
pub fn users(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("[user {name}]\npassword = {}\n\n", password(name)))
        .collect()
}
