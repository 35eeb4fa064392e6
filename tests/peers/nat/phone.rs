//! Three programs as one kind of telephone: each says a tone of its own, answers every call and can tell what it hears.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::super::baresip::Baresip;
use super::super::harness::Server;
use super::super::linphone::Linphone;
use super::super::pjsua2::Pjsua2;
use super::super::sound::{self, heard_ms, loudest};
use super::ear::Ear;
use super::town::Place;

const WITHIN: Duration = Duration::from_secs(15);

/// Which program.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Baresip,
    Linphone,
    Pjsua2,
}

/// A telephone at its place, registered or about to be.
pub struct Phone {
    pub user: &'static str,
    /// What it says, in hertz.
    pub tone: u32,
    /// Where it finds the server.
    host: Ipv4Addr,
    program: Program,
    /// Hears in its place.
    ear: Option<Ear>,
    /// What it had recorded when it was told to listen.
    mark: usize,
}

enum Program {
    /// With the events that were waited for.
    Baresip(Baresip, usize),
    /// With what it had said by then.
    Linphone(Linphone, usize),
    Pjsua2(Pjsua2, TempDir),
}

impl Phone {
    /// Switches one on.
    pub fn start(kind: Kind, server: &Server, place: &Place, who: (&'static str, u32)) -> Self {
        Self::start_with(kind, server, place, who, ("udp", true))
    }

    /// The same over a transport (Linphone: UDP only), which may ring until it is told to answer.
    pub fn start_with(
        kind: Kind,
        server: &Server,
        place: &Place,
        (user, tone): (&'static str, u32),
        (transport, answers): (&str, bool),
    ) -> Self {
        let program = place.enter(|| match kind {
            Kind::Baresip => {
                let mode = if answers { "auto" } else { "manual" };
                let account = Baresip::account(server, user, transport);
                let account = format!("{account};answermode={mode}");
                Program::Baresip(Baresip::with(place.address, &account, tone), 0)
            }
            Kind::Linphone => {
                let options: &[&str] = if answers { &["-a"] } else { &[] };
                Program::Linphone(Linphone::start_with(server, (user, tone), options), 0)
            }
            Kind::Pjsua2 => {
                let folder = TempDir::new().unwrap();
                let file = folder.path().join("tone.wav");
                fs::write(&file, sound::tone(tone)).unwrap();
                let mode = if answers { "auto" } else { "manual" };
                let options = [&*format!("tone={}", file.display()), mode];
                let who = (user, transport);
                let phone = Pjsua2::launch(server.sip(), place.address, who, &options);
                Program::Pjsua2(phone, folder)
            }
        });
        Self {
            user,
            tone,
            host: server.network.server(),
            program,
            ear: None,
            mark: 0,
        }
    }

    /// baresip in calls that are re-invited: what comes to its place is taken for what it hears.
    pub fn with_ear(mut self, place: &Place) -> Self {
        if let Program::Baresip(..) = self.program {
            self.ear = Some(Ear::at(place));
        }
        self
    }

    #[track_caller]
    pub fn dial(&mut self, number: &str) {
        let host = self.host;
        match &mut self.program {
            Program::Baresip(phone, _) => phone.command("dial", &format!("sip:{number}@{host}")),
            Program::Linphone(phone, _) => {
                phone.running.say(&format!("call sip:{number}@{host}"));
            }
            Program::Pjsua2(phone, _) => phone.tell(&format!("call {number}")),
        }
    }

    /// Waits until the next call of it is up.
    #[track_caller]
    pub fn is_up(&mut self) {
        self.wait_for(["CALL_ESTABLISHED", "connected", "confirmed"]);
    }

    /// Waits until it rings for the next call.
    #[track_caller]
    pub fn rings(&mut self) {
        self.wait_for(["CALL_INCOMING", "Receiving new incoming call", "incoming"]);
    }

    #[track_caller]
    pub fn answer(&mut self) {
        self.tell(["accept", "answer", "answer"], "");
    }

    /// Waits until the next call of it is over.
    #[track_caller]
    pub fn is_over(&mut self) {
        self.wait_for(["CALL_CLOSED", "ended", "disconnected"]);
    }

    #[track_caller]
    pub fn hang_up(&mut self) {
        self.tell(["hangup", "terminate", "hangup"], "");
    }

    #[track_caller]
    pub fn hold(&mut self) {
        self.tell(["hold", "pause", "hold"], "");
    }

    #[track_caller]
    pub fn resume(&mut self) {
        self.tell(["resume", "resume", "resume"], "");
    }

    /// Sends whom it talks to on to a number, without asking there.
    #[track_caller]
    pub fn transfer(&mut self, number: &str) {
        let rest = match &self.program {
            Program::Pjsua2(..) => number.to_owned(),
            _ => format!("sip:{number}@{}", self.host),
        };
        self.tell(["transfer", "transfer", "blind"], &rest);
    }

    /// PJSUA2 asks at a number, while whom it talks to is on hold.
    #[track_caller]
    pub fn consult(&mut self, number: &str) {
        self.tell(["", "", "consult"], number);
    }

    /// PJSUA2 joins the two.
    #[track_caller]
    pub fn join(&mut self) {
        self.tell(["", "", "attended"], "");
    }

    /// Tells each program in its own words, of which only one is there.
    #[track_caller]
    fn tell(&mut self, [baresip, linphone, pjsua2]: [&str; 3], rest: &str) {
        match &mut self.program {
            Program::Baresip(phone, _) => phone.command(baresip, rest),
            Program::Linphone(phone, _) => phone.running.say(format!("{linphone} {rest}").trim()),
            Program::Pjsua2(phone, _) => phone.tell(format!("{pjsua2} {rest}").trim()),
        }
    }

    #[track_caller]
    fn wait_for(&mut self, [baresip, linphone, pjsua2]: [&str; 3]) {
        match &mut self.program {
            Program::Baresip(phone, seen) => {
                phone.wait_for(baresip, *seen);
                let is_it = |said: &Value| said["type"] == baresip;
                *seen += phone.said[*seen..].iter().position(is_it).unwrap() + 1;
            }
            Program::Linphone(phone, seen) => {
                let deadline = Instant::now() + WITHIN;
                loop {
                    let said = phone.running.stdout();
                    if let Some(at) = said[*seen..].find(linphone) {
                        *seen += at + linphone.len();
                        return;
                    }
                    assert!(
                        Instant::now() < deadline,
                        "Linphone never said {linphone:?} after byte {seen}:\n{said}\n{}",
                        phone.running.stderr()
                    );
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Program::Pjsua2(phone, _) => {
                phone.wait_for(pjsua2);
            }
        }
    }

    /// What it hears from now on counts.
    #[track_caller]
    pub fn listen(&mut self) {
        if let Program::Pjsua2(phone, folder) = &mut self.program {
            phone.tell(&format!(
                "record {}",
                folder.path().join("heard.wav").display()
            ));
        } else {
            self.mark = self.recorded().len();
        }
    }

    /// What it has heard since it was told to listen.
    #[track_caller]
    pub fn heard(&mut self) -> Vec<i16> {
        if let Program::Pjsua2(phone, folder) = &mut self.program {
            phone.tell("saved");
            phone.wait_for("saved");
            return sound::samples(&fs::read(folder.path().join("heard.wav")).unwrap());
        }
        self.recorded().split_off(self.mark)
    }

    fn recorded(&self) -> Vec<i16> {
        if let Some(ear) = &self.ear {
            return ear.heard();
        }
        match &self.program {
            Program::Baresip(phone, _) => {
                let files = phone.records();
                let read = |path| sound::samples(&fs::read(path).unwrap());
                files.iter().flat_map(read).collect()
            }
            Program::Linphone(phone, _) => phone.recorded(),
            Program::Pjsua2(..) => Vec::new(),
        }
    }
}

/// All of them listen for so long, and each must hear the tone at its side, at least most of the time.
#[track_caller]
pub fn each_hears(pairs: &mut [(&mut Phone, u32)], listen_ms: usize) {
    for (phone, _) in pairs.iter_mut() {
        phone.listen();
    }
    std::thread::sleep(Duration::from_millis(listen_ms as u64));
    for (phone, tone) in pairs.iter_mut() {
        let samples = phone.heard();
        let ms = heard_ms(&samples, *tone);
        assert!(
            ms >= listen_ms * 2 / 3,
            "{} hears {tone} Hz for {ms} ms of {} in {listen_ms}; others: {}",
            phone.user,
            samples.len() / 8,
            spectrum(&samples)
        );
    }
}

/// All of them listen for so long, and none may hear any tone.
#[track_caller]
pub fn none_hears(phones: &mut [&mut Phone], listen_ms: usize) {
    for phone in phones.iter_mut() {
        phone.listen();
    }
    std::thread::sleep(Duration::from_millis(listen_ms as u64));
    for phone in phones.iter_mut() {
        let samples = phone.heard();
        let heard: usize = (TONES.iter()).map(|tone| heard_ms(&samples, *tone)).sum();
        assert!(heard == 0, "{} hears {}", phone.user, spectrum(&samples));
    }
}

/// The tones of a town in what somebody has heard, for a message.
pub fn spectrum(samples: &[i16]) -> String {
    (TONES.iter())
        .map(|tone| {
            let (ms, loudest) = (heard_ms(samples, *tone), loudest(samples, *tone));
            format!("{tone} Hz {ms} ms at {loudest:.3}; ")
        })
        .collect()
}

/// No one of them is near a multiple of another one's.
pub const TONES: [u32; 7] = [440, 620, 740, 1_030, 1_390, 1_630, 1_940];
