//! The load on a server that will be killed: an office that registers, calls, dials features and writes messages, and remembers
//! what it asked for and what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use sipkeep::testing::random::Random;

use super::history::History;
use crate::peers::desk::{Call, Gone, How, Outcome, Phone};
use crate::peers::harness::Server;

/// Offices of one server.
pub const OFFICES: u32 = 3;
/// Contacts of the user who registers several.
const LINES: u32 = 4;
/// The longest pause between two things that an office does.
pub const PACE: Duration = Duration::from_millis(25);
/// Seconds that a Contact is registered for at most.
pub const LONGEST_S: u32 = 3_600;
/// The longest call.
const TALK: Duration = Duration::from_millis(1_500);
/// Calls of one office that are up at a time.
const UP_MAX: usize = 5;
/// Messages that wait for a user: below what one sender may have waiting.
const LETTERS_MAX: usize = 10;
/// How long the absent user waits for his messages.
const PATIENCE: Duration = Duration::from_secs(10);

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap().as_millis()).unwrap()
}

/// A binding as its phone knows it: it lasts at least until then, in milliseconds since 1970.
pub type Until = u64;

/// What is known of a call.
#[derive(Clone, Debug)]
pub struct Called {
    /// When the caller saw the 200.
    pub answered: Option<Instant>,
    /// How it will have ended once that is over, and when who ended it was told.
    pub ended: Option<(&'static str, Option<Instant>)>,
    /// Its record's disposition as the server has shown it after a kill; `None` in it: it has none.
    pub settled: Option<Option<String>>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    Nowhere,
    Waiting,
    Delivered,
}

/// What a user has dialled: forwarding, do not disturb.
pub type Dialled = (Option<String>, Option<bool>);

/// What was asked for and told, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub registered: u64,
    pub removed: u64,
    pub calls: u64,
    pub features: u64,
    pub letters: u64,
    pub bans: u64,
    pub unbans: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.registered += other.registered;
        self.removed += other.removed;
        self.calls += other.calls;
        self.features += other.features;
        self.letters += other.letters;
        self.bans += other.bans;
        self.unbans += other.unbans;
    }
}

/// Users of an office, whose number is in front: 1 calls 2, 3 has several Contacts, 4 is never there and has messages kept.
pub fn users() -> String {
    (1..=OFFICES)
        .map(|office| {
            let user = |last: u32, more: &str| {
                let password = crate::peers::desk::PASSWORD;
                format!("[user {office}0{last}]\npassword = {password}\n{more}")
            };
            user(1, "") + &user(2, "") + &user(3, "") + &user(4, "store_messages = yes\n")
        })
        .collect()
}

/// Four phones of an office.
pub struct Office {
    pub caller: Phone,
    pub callee: Phone,
    pub several: Phone,
    pub absent: Phone,
    random: Random,
    up: Vec<(Call, Instant)>,
    number: u32,
    /// By user and Contact.
    pub bindings: BTreeMap<(String, String), History<Option<Until>>>,
    /// By the caller's Call-ID.
    pub calls: BTreeMap<String, Called>,
    /// Of the caller.
    pub dialled: History<Dialled>,
    /// By their texts.
    pub letters: BTreeMap<String, History<Letter>>,
    pub counts: Counts,
    end: End,
}

/// When a load ends.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// The server is gone, in the middle of whatever there was.
    pub is_over: Arc<AtomicBool>,
    /// What was begun is to come to its end, and nothing else.
    pub rests: Arc<AtomicBool>,
}

impl End {
    pub fn has_come(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.rests.load(Ordering::Relaxed)
    }
}

impl Office {
    pub fn new(number: u32, server: &Server, random: &Random, end: &End) -> Self {
        let host = server.network.host(10 + u8::try_from(number).unwrap());
        let phone = |last: u32| {
            Phone::udp(
                &format!("{number}0{last}"),
                host,
                server.sip(),
                &end.is_over,
            )
        };
        Self {
            caller: phone(1),
            callee: phone(2),
            several: phone(3),
            absent: phone(4),
            random: random.fork(&format!("office {number}")),
            up: Vec::new(),
            number: 0,
            bindings: BTreeMap::new(),
            calls: BTreeMap::new(),
            dialled: History::new((None, None)),
            letters: BTreeMap::new(),
            counts: Counts::default(),
            end: end.clone(),
        }
    }

    /// Lives until the server is gone, or until it may rest.
    pub fn live(&mut self) {
        self.up.clear();
        if self.live_on() == Err(Gone) {
            assert!(self.end.is_over.load(Ordering::Relaxed));
        }
    }

    fn live_on(&mut self) -> Result<(), Gone> {
        self.register(Who::Callee, 1)?;
        while !self.end.has_come() {
            match self.random.below(100) {
                0..30 => {
                    let line = 1 + self.random.below(u64::from(LINES)) as u32;
                    self.register(Who::Several, line)?;
                }
                30..33 => self.remove_all()?,
                33..40 => self.register(Who::Callee, 1)?,
                40..65 if self.up.len() < UP_MAX => self.call()?,
                65..85 => self.end_a_call(Instant::now())?,
                85..90 => self.dial()?,
                90..96 => self.write()?,
                _ => {}
            }
            std::thread::sleep(self.random.up_to(PACE));
        }
        while !self.up.is_empty() && !self.end.is_over.load(Ordering::Relaxed) {
            self.end_a_call(Instant::now() + TALK)?;
        }
        Ok(())
    }

    /// Registers a Contact, or removes it if it is one of several.
    fn register(&mut self, who: Who, line: u32) -> Result<(), Gone> {
        let seconds = self.random.between(120, u64::from(LONGEST_S)) as u32;
        let phone = match who {
            Who::Callee => &mut self.callee,
            Who::Several => &mut self.several,
        };
        let key = (phone.user.clone(), phone.contact(line));
        let history = self.bindings.entry(key).or_insert(History::new(None));
        let removes = who == Who::Several && history.last().is_some() && self.random.chance(400);
        let until = unix_ms() + u64::from(seconds) * 1_000;
        history.ask((!removes).then_some(until));
        let granted = phone.register(line, if removes { 0 } else { seconds })?;
        history.told();
        assert_eq!(granted, if removes { 0 } else { seconds });
        *match removes {
            true => &mut self.counts.removed,
            false => &mut self.counts.registered,
        } += 1;
        Ok(())
    }

    fn remove_all(&mut self) -> Result<(), Gone> {
        let user = self.several.user.clone();
        let is_its = |(own, _): &&(String, String)| *own == user;
        let keys: Vec<_> = self.bindings.keys().filter(is_its).cloned().collect();
        for key in &keys {
            self.bindings
                .entry(key.clone())
                .and_modify(|history| history.ask(None));
        }
        self.several.unregister_all()?;
        for key in keys {
            self.bindings.entry(key).and_modify(History::told);
            self.counts.removed += 1;
        }
        Ok(())
    }

    fn next_id(&mut self, kind: &str) -> String {
        self.number += 1;
        format!("{kind}{}", self.number)
    }

    fn call(&mut self) -> Result<(), Gone> {
        let how = match self.random.below(10) {
            0 => How::Busy,
            1 => How::Cancelled,
            _ => How::Answered,
        };
        let id = self.next_id("c");
        let dialled = self.callee.user.clone();
        let ended = match how {
            How::Answered => None,
            How::Busy => Some("busy"),
            How::Cancelled => Some("cancelled"),
        };
        // Its Call-ID is known before the server says anything.
        let own = self.caller.call_id(&id);
        let called = self.calls.entry(own).or_insert(Called {
            answered: None,
            ended: ended.map(|ended| (ended, None)),
            settled: None,
        });
        let outcome = self.caller.call(&mut self.callee, &dialled, &id, how)?;
        self.counts.calls += 1;
        let now = Instant::now();
        match outcome {
            Outcome::Up(call) => {
                called.answered = Some(now);
                let time = self.random.up_to(TALK);
                self.up.push((call, now + time));
            }
            Outcome::Refused(id, status) => {
                let wanted = if how == How::Busy { 486 } else { 487 };
                assert_eq!(status, wanted, "{id} {how:?}");
                called.ended = ended.map(|ended| (ended, Some(now)));
            }
        }
        Ok(())
    }

    /// One that was to last until before then.
    fn end_a_call(&mut self, by: Instant) -> Result<(), Gone> {
        let Some(at) = self.up.iter().position(|(_, end)| *end < by) else {
            return Ok(());
        };
        let (call, _) = self.up.swap_remove(at);
        let called = self.calls.get_mut(&call.id).unwrap();
        called.ended = Some(("answered", None));
        match self.random.chance(500) {
            true => self.callee.hang_up(&mut self.caller, &call, true)?,
            false => self.caller.hang_up(&mut self.callee, &call, false)?,
        }
        called.ended = Some(("answered", Some(Instant::now())));
        Ok(())
    }

    fn dial(&mut self) -> Result<(), Gone> {
        let callee = self.callee.user.clone();
        let (forward, silence) = self.dialled.last().clone();
        let (code, becomes) = match self.random.below(4) {
            0 => (format!("*72{callee}"), (Some(callee), silence)),
            1 => ("*73".to_owned(), (None, silence)),
            2 => ("*78".to_owned(), (forward, Some(true))),
            _ => ("*79".to_owned(), (forward, None)),
        };
        self.dialled.ask(becomes);
        let id = self.next_id("f");
        let status = self.caller.dial(&code, &id)?;
        self.dialled.told();
        assert!(status < 300 || status == 480, "{code}: {status}");
        self.counts.features += 1;
        Ok(())
    }

    fn write(&mut self) -> Result<(), Gone> {
        let may_wait = |history: &&History<Letter>| *history.last() == Letter::Waiting;
        if self.letters.values().filter(may_wait).count() >= LETTERS_MAX {
            return Ok(());
        }
        let text = self.next_id(&format!("{} letter ", self.caller.user));
        let history = self.letters.entry(text.clone());
        let history = history.or_insert(History::new(Letter::Nowhere));
        history.ask(Letter::Waiting);
        let to = self.absent.user.clone();
        let status = self.caller.write(&to, &text.replace(' ', "-"), &text)?;
        if status == 480 && self.end.is_over.load(Ordering::Relaxed) {
            // A server that stops keeps no more of them.
            history.told_as(Letter::Nowhere);
            return Ok(());
        }
        assert_eq!(status, 202, "{text}");
        history.told();
        self.counts.letters += 1;
        Ok(())
    }

    /// The absent user comes for what waits for him and goes again; the texts, in order.
    pub fn collect(&mut self, server: &Server) -> Vec<String> {
        self.absent.letters.clear();
        self.absent.register(1, 600).unwrap();
        let begun = Instant::now();
        while server.get(&format!("users/{}", self.absent.user))["messages_waiting"] != 0 {
            self.absent.idle(Duration::from_millis(20));
            assert!(begun.elapsed() < PATIENCE, "messages wait for ever");
        }
        self.absent.unregister_all().unwrap();
        self.absent.idle(Duration::from_millis(20));
        let letters = self.absent.letters.iter();
        letters.map(|(text, _)| text.clone()).collect()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Callee,
    Several,
}
