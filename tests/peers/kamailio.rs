//! Kamailio as a carrier: an IMS core, or an ordinary provider; see `kamailio/*.cfg`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{Network, Running, Tool, http, signal, wait};

/// The password of every subscriber of a carrier.
pub const PASSWORD: &str = "secret-of-the-line";

/// The account at the IMS core, and its domain, which no resolver knows.
pub const IMS_ACCOUNT: &str = "+8612345678";
pub const IMS_DOMAIN: &str = "gd.ctcims.cn";

/// The provider's domain, and the port that only its SRV records tell.
pub const PROVIDER_DOMAIN: &str = "sip.provider.test";
pub const PROVIDER_PORT: u16 = 5070;

/// It answers within half a second of its start, on a machine that does nothing else.
const START: Duration = Duration::from_secs(15);

/// What a carrier is like.
#[derive(Clone, Debug)]
pub struct Carrier {
    pub template: &'static str,
    pub port: u16,
    /// Seconds that it grants to every registration, whatever was asked for.
    pub expires: u32,
    /// Seconds after which a nonce is stale.
    pub nonce_expires: u32,
    /// A name that the template asks for with `#!ifdef`.
    pub variant: Option<&'static str>,
}

impl Carrier {
    pub const IMS: Self = Self {
        template: "ims",
        port: 5060,
        expires: 60,
        nonce_expires: 300,
        variant: None,
    };

    pub const PROVIDER: Self = Self {
        template: "provider",
        port: PROVIDER_PORT,
        ..Self::IMS
    };
}

/// A carrier, running or stopped, in a folder of its own.
pub struct Kamailio {
    address: Ipv4Addr,
    port: u16,
    folder: TempDir,
    running: Option<Running>,
    /// What it logged in earlier runs.
    earlier: String,
}

impl Kamailio {
    /// Starts one at `{net}.host` and waits until it answers.
    pub fn start(network: Network, host: u8, carrier: &Carrier) -> Self {
        let address = network.host(host);
        let folder = TempDir::new().unwrap();
        let mut config = format!(
            "#!KAMAILIO\n#!define EXPIRES {}\n#!define NONCE_EXPIRE {}\n",
            carrier.expires, carrier.nonce_expires
        );
        if let Some(variant) = carrier.variant {
            config.push_str(&format!("#!define {variant}\n"));
        }
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/kamailio");
        for name in ["common", carrier.template] {
            let file = templates.join(format!("{name}.cfg"));
            config.push_str(&fs::read_to_string(file).unwrap());
        }
        let config = network.fill(&config.replace("{at}", &address.to_string()));
        fs::write(folder.path().join("kamailio.cfg"), config).unwrap();
        let mut kamailio = Self {
            address,
            port: carrier.port,
            folder,
            running: None,
            earlier: String::new(),
        };
        kamailio.start_again();
        kamailio
    }

    /// Starts it with nothing in its memory, after [`Self::stop`] or [`Self::kill`].
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let folder = self.folder.path();
        let mut tool = Tool::with("/usr/sbin/kamailio", ["-DD", "-E", "-m", "64", "-M", "8"]);
        tool.command
            .arg("-f")
            .arg(folder.join("kamailio.cfg"))
            .arg("-P")
            .arg(folder.join("kamailio.pid"))
            .arg("-Y")
            .arg(folder)
            .arg("-w")
            .arg(folder)
            // Its workers are in this group; what is left of them ends with it.
            .process_group(0);
        self.running = Some(tool.start());
        let deadline = Instant::now() + START;
        while self.ask("core.uptime").is_none() {
            let alive = self.running.as_mut().is_some_and(Running::is_alive);
            assert!(
                alive && Instant::now() < deadline,
                "Kamailio does not answer (alive: {alive}):\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it as an operator does.
    pub fn stop(&mut self) {
        if let Some(running) = &mut self.running {
            if running.is_alive() {
                signal(running.id(), "TERM");
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while running.is_alive() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill();
    }

    /// It is gone, from one moment to the next.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        // It fails if nobody of the group is left.
        let _ = Command::new("kill")
            .args(["-KILL", "--", &format!("-{}", running.id())])
            .stderr(Stdio::null())
            .status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while running.is_alive() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        self.earlier.push_str(&running.stderr());
    }

    /// Where SIP is served.
    pub fn sip(&self) -> SocketAddr {
        SocketAddr::from((self.address, self.port))
    }

    /// All that it logged, a line for each request among it.
    pub fn log(&self) -> String {
        let now = self.running.as_ref().map(Running::stderr);
        format!("{}{}", self.earlier, now.unwrap_or_default())
    }

    /// Contacts that are registered, as URIs.
    pub fn contacts(&self) -> Vec<String> {
        let dump = self.ask("ul.dump").expect("an answer to ul.dump");
        let records = dump["Domains"][0]["Domain"]["AoRs"].as_array();
        let contacts = records.unwrap_or_else(|| panic!("no location table: {dump}"));
        contacts
            .iter()
            .flat_map(|record| record["Info"]["Contacts"].as_array().unwrap())
            .map(|contact| contact["Contact"]["Address"].as_str().unwrap().to_owned())
            .collect()
    }

    /// JSON-RPC; `None` while nobody answers.
    fn ask(&self, method: &str) -> Option<Value> {
        let question = json!({"jsonrpc": "2.0", "method": method, "id": 1}).to_string();
        let at = SocketAddr::from((self.address, 8080));
        let (status, answer) = http(at, "POST", "/RPC", None, &question).ok()?;
        assert_eq!(status, 200, "{method}: {answer}");
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].is_null(), "{method}: {answer}");
        Some(answer["result"].take())
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("--- Kamailio's log ---\n{}", self.log());
        }
    }
}

mod tests {
    use super::super::baresip::Baresip;
    use super::super::sipp::Sipp;
    use super::*;

    /// A subscriber, without sipkeep.
    fn subscriber(kamailio: &Kamailio, network: Network, scenario: &'static str) -> Sipp {
        Sipp::new(kamailio.sip(), scenario, network.host(1)).password(PASSWORD)
    }

    #[test]
    #[ignore = "needs Kamailio and SIPp: tests/run peers"]
    fn the_ims_core_is_strict() {
        let network = Network::take();
        let kamailio = Kamailio::start(network, 10, &Carrier::IMS);
        let register = |user: &str, status| {
            subscriber(&kamailio, network, "line_register")
                .user(user)
                .password(PASSWORD)
                .service(IMS_ACCOUNT)
                .auth_uri(IMS_DOMAIN)
                .place("DOMAIN", IMS_DOMAIN)
                .status(status)
                .run()
        };
        let address = format!("{IMS_ACCOUNT}@{IMS_DOMAIN}");
        let call = |headers: &str| {
            subscriber(&kamailio, network, "line_call")
                .user(&address)
                .password(PASSWORD)
                .caller(IMS_ACCOUNT)
                .service("+8613800000000")
                .auth_uri(&format!("+8613800000000@{IMS_DOMAIN}"))
                .place("DOMAIN", IMS_DOMAIN)
                .place("HEADERS", headers)
        };
        let route = format!("Route: <sip:orig@{}:5060;lr>", network.host(10));
        let identity = format!("P-Preferred-Identity: <sip:{address}>");
        let both = format!("{route}\n      {identity}");

        register(IMS_ACCOUNT, 403);
        assert_eq!(kamailio.contacts(), [""; 0]);
        for refused in [&both, &route, &identity] {
            let (_, messages, _) = call(refused).start().finish();
            assert!(
                messages.contains("SIP/2.0 403 Not Registered"),
                "{messages}"
            );
        }
        let answer = register(&address, 200);
        assert!(answer.contains("Service-Route: <sip:orig@"), "{answer}");
        assert!(answer.contains("expires=60"), "{answer}");
        let contact = format!("sip:{IMS_ACCOUNT}@{}:5060;transport=UDP", network.host(1));
        assert_eq!(kamailio.contacts(), [contact]);

        for (headers, status) in [
            (&route, "403 No Identity"),
            (&identity, "403 No Service-Route"),
        ] {
            let (_, messages, _) = call(headers).start().finish();
            assert!(
                messages.contains(&format!("SIP/2.0 {status}")),
                "{messages}"
            );
        }
        let world = Sipp::new(kamailio.sip(), "answer", network.host(11)).start();
        thread::sleep(Duration::from_millis(300));
        call(&both).run();
        let heard = world.well();
        let asserted = format!("P-Asserted-Identity: <sip:{address}>");
        assert!(heard.contains(&asserted), "{heard}");
        assert!(!heard.contains("uthorization:"), "{heard}");

        // The world calls by either URI; what comes has the registered Contact as its Request-URI.
        for uri in [
            format!("tel:{IMS_ACCOUNT}"),
            format!("sip:{address};user=phone"),
        ] {
            let line = subscriber(&kamailio, network, "answer").start();
            thread::sleep(Duration::from_millis(300));
            Sipp::new(kamailio.sip(), "world_call", network.host(12))
                .caller("+8613800000000")
                .place("URI", uri)
                .run();
            let heard = line.well();
            assert!(
                heard.contains(&format!("\nINVITE sip:{IMS_ACCOUNT}@{}", network.host(1))),
                "{heard}"
            );
        }
    }

    /// A telephone as subscriber, over TCP; all that it sends within the call is challenged.
    #[test]
    #[ignore = "needs Kamailio, SIPp and baresip: tests/run peers"]
    fn the_provider_challenges_every_request() {
        let network = Network::take();
        let carrier = Carrier {
            variant: Some("CHALLENGES_ALL"),
            ..Carrier::PROVIDER
        };
        let kamailio = Kamailio::start(network, 10, &carrier);
        let account = format!(
            "<sip:5551000@{PROVIDER_DOMAIN}>;auth_user=5551000;auth_pass={PASSWORD};regint=60;\
             outbound=\"sip:{};transport=tcp\"",
            kamailio.sip()
        );
        let mut phone = Baresip::with_account(network.host(1), &account, 400);
        wait(
            Duration::from_secs(10),
            || !kamailio.contacts().is_empty(),
            || format!("baresip did not register:\n{}", kamailio.log()),
        );
        let world = Sipp::new(kamailio.sip(), "answer", network.host(11)).start();
        phone.command("dial", &format!("sip:4930123@{PROVIDER_DOMAIN}"));
        phone.wait_for("CALL_ESTABLISHED", 0);
        phone.command("hangup", "");
        world.well();
        let log = kamailio.log();
        for method in ["REGISTER", "INVITE", "BYE"] {
            let mut requests = log
                .lines()
                .filter(|line| line.contains(&format!(": {method} ")));
            assert!(
                requests.any(|line| line.ends_with("user 5551000")),
                "{method}: {log}"
            );
        }
    }
}
