//! What is to happen in a seed's half hour, as data: drawn from the seed, written and read as text, so that a failure can be made
//! smaller by leaving something out, and be played again.
//!
//! ```text
//! 1200 register 3; 45000 call 3 7; 60000 way loss 200 30 all; 61000 kill batch-lost 5000; 90000 jump -3600000
//! ```
//!
//! Each entry begins with when it happens, in milliseconds; times within it are milliseconds too, but where `_s` says so.

use std::fmt;
use std::str::FromStr;

use crate::testing::random::Random;
use crate::testing::world::{KillAt, Pause};

/// Phones of users; the carrier stands before them in the list.
pub const PHONES: usize = 20;
/// Phones from this one on are behind a NAT, four behind one.
pub const BEHIND_NAT: usize = 13;
/// Calls, and up to so many more. Some are begun by nobody: a phone is off, a line is not registered.
const CALLS: (u64, u64) = (53, 6);
/// Messages, and subscriptions.
pub const MESSAGES: u64 = 6;
/// Faults at most.
const FAULTS: u64 = 8;
/// Before the first call everybody registers.
const MORNING_MS: u64 = 30_000;
/// Nobody begins a call later.
const EVENING_MS: u64 = 1_080_000;

/// Whether a phone speaks TCP: every fifth does.
pub fn is_stream(phone: usize) -> bool {
    phone % 5 == 4
}

/// What a way does to datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Loses them.
    Loss,
    /// Doubles them.
    Double,
    /// Holds some back, so that others overtake them.
    Reorder,
    /// Takes longer; not per mille but milliseconds.
    Delay,
    /// Changes them.
    Corrupt,
}

const TROUBLES: [(&str, Trouble); 5] = [
    ("loss", Trouble::Loss),
    ("double", Trouble::Double),
    ("reorder", Trouble::Reorder),
    ("delay", Trouble::Delay),
    ("corrupt", Trouble::Corrupt),
];

/// Something that happens. Phones are numbers of the list, 0 the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A phone registers.
    Register(usize),
    /// A phone calls another one, or what stands behind the last in `people::NUMBERS`.
    Call(usize, usize),
    /// The same with a message; to itself it subscribes.
    Write(usize, usize),
    /// A way is bad for so many seconds; `None`: all ways.
    Way {
        /// How.
        trouble: Trouble,
        /// Per mille, or milliseconds.
        much: u32,
        /// For how long.
        lasts_s: u64,
        /// Whose.
        whose: Option<usize>,
    },
    /// Its NAT gives a phone another port. It registers soon, or only when it refreshes.
    Rebind(usize, bool),
    /// The connection of a phone breaks.
    Disconnect(usize),
    /// The power of a phone goes for so long. It still knows its nonce, or not even that.
    Reboot(usize, bool, u64),
    /// Packets in the name of a phone or the carrier: so many a second, for so many seconds.
    Flood(usize, u32, u64),
    /// Somebody guesses passwords for so many seconds.
    Crack(u64),
    /// The same from behind the NAT of a phone.
    Neighbour(usize, u64),
    /// Somebody asks for numbers, from many addresses, for so many seconds.
    Scan(u64),
    /// The disk is full for so many seconds.
    Full(u64),
    /// It takes so long for a batch, for so many seconds.
    Slow(u64, u64),
    /// The process is killed, and begins anew after so long.
    Kill(KillAt, u64),
    /// It is stopped, and begins anew after so long.
    Stop(u64),
    /// The wall clock jumps.
    Jump(i64),
    /// Nothing is heard from it for so long.
    Pause(Pause, u64),
    /// The configuration is read again.
    Reload,
}

impl Deed {
    /// Whether it is one of those that nobody wants.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Register(_) | Self::Call(..) | Self::Write(..))
    }

    /// What it is called where it is counted.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Call(..) => "call",
            Self::Write(..) => "write",
            Self::Way { trouble, .. } => match trouble {
                Trouble::Loss => "way loss",
                Trouble::Double => "way double",
                Trouble::Reorder => "way reorder",
                Trouble::Delay => "way delay",
                Trouble::Corrupt => "way corrupt",
            },
            Self::Rebind(..) => "rebind",
            Self::Disconnect(_) => "disconnect",
            Self::Reboot(..) => "reboot",
            Self::Flood(0, ..) => "flood carrier",
            Self::Flood(..) => "flood phone",
            Self::Crack(_) => "crack",
            Self::Neighbour(..) => "neighbour",
            Self::Scan(_) => "scan",
            Self::Full(_) => "full",
            Self::Slow(..) => "slow",
            Self::Kill(at, _) => match at {
                KillAt::Now => "kill now",
                KillAt::Output(_) => "kill output",
                KillAt::Batch(false) => "kill batch-lost",
                KillAt::Batch(true) => "kill batch-kept",
                KillAt::Committed => "kill committed",
            },
            Self::Stop(_) => "stop",
            Self::Jump(millis) if millis < 0 => "jump back",
            Self::Jump(_) => "jump ahead",
            Self::Pause(Pause::Stopped, _) => "pause stopped",
            Self::Pause(Pause::Asleep, _) => "pause asleep",
            Self::Reload => "reload",
        }
    }

    /// All kinds of those that nobody wants.
    pub const FAULT_KINDS: [&str; 26] = [
        "crack",
        "disconnect",
        "flood carrier",
        "flood phone",
        "full",
        "jump ahead",
        "jump back",
        "kill batch-kept",
        "kill batch-lost",
        "kill committed",
        "kill now",
        "kill output",
        "neighbour",
        "pause asleep",
        "pause stopped",
        "rebind",
        "reboot",
        "reload",
        "scan",
        "slow",
        "stop",
        "way corrupt",
        "way delay",
        "way double",
        "way loss",
        "way reorder",
    ];

    /// Any of them that nobody wants.
    fn any_fault(random: &mut Random) -> Self {
        let phone = 1 + random.below(PHONES as u64) as usize;
        let anybody = random.below(PHONES as u64 + 1) as usize;
        let seconds = random.between(5, 60);
        match random.below(25) {
            0..5 => {
                let trouble = TROUBLES[random.below(TROUBLES.len() as u64) as usize].1;
                let much = match trouble {
                    Trouble::Loss => random.between(30, 400),
                    Trouble::Double | Trouble::Reorder => random.between(50, 500),
                    Trouble::Delay => random.between(50, 1_500),
                    Trouble::Corrupt => random.between(5, 60),
                };
                Self::Way {
                    trouble,
                    much: much as u32,
                    lasts_s: seconds,
                    whose: random.chance(500).then_some(anybody),
                }
            }
            5 | 6 => Self::Rebind(phone, random.chance(600)),
            7 => {
                let streams: Vec<_> = (1..=PHONES).filter(|phone| is_stream(*phone)).collect();
                Self::Disconnect(streams[random.below(streams.len() as u64) as usize])
            }
            8 => Self::Reboot(phone, random.chance(700), random.between(100, 60_000)),
            9 | 10 => {
                let rate = if anybody == 0 {
                    10
                } else {
                    random.between(20, 80)
                };
                Self::Flood(anybody, rate as u32, random.between(3, 8))
            }
            11 => Self::Crack(random.between(15, 60)),
            12 => Self::Scan(random.between(3, 15)),
            13 => Self::Full(seconds),
            14 => Self::Slow(random.between(200, 5_000), seconds),
            15..19 => {
                let at = match random.below(5) {
                    0 => KillAt::Now,
                    1 => KillAt::Output(random.below(40) as u32),
                    2 => KillAt::Batch(false),
                    3 => KillAt::Batch(true),
                    _ => KillAt::Committed,
                };
                Self::Kill(at, random.between(50, 20_000))
            }
            19 => Self::Stop(random.between(50, 10_000)),
            20 => {
                let millis = random.between(1_000, 100_000_000) as i64;
                Self::Jump(if random.chance(500) { millis } else { -millis })
            }
            21 => Self::Pause(Pause::Stopped, random.between(200, 20_000)),
            22 => Self::Pause(Pause::Asleep, random.between(200, 120_000)),
            23 => {
                let behind = random.between(BEHIND_NAT as u64, PHONES as u64);
                Self::Neighbour(behind as usize, random.between(15, 60))
            }
            _ => Self::Reload,
        }
    }
}

/// When what happens, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub entries: Vec<(u64, Deed)>,
}

impl Plan {
    /// The plan of a seed. Of `numbers` that may be called the first are the phones'.
    pub fn draw(seed: u64, numbers: usize) -> Self {
        let mut random = Random::new(seed).fork("plan");
        let mut entries = Vec::new();
        for phone in 1..=PHONES {
            entries.push((random.below(5_000), Deed::Register(phone)));
        }
        let (least, more) = CALLS;
        for _ in 0..least + random.below(more + 1) {
            let at = random.between(MORNING_MS, EVENING_MS);
            let caller = random.below(PHONES as u64 + 1) as usize;
            let callee = random.below(numbers as u64) as usize;
            entries.push((at, Deed::Call(caller, callee)));
        }
        for _ in 0..MESSAGES {
            let at = random.between(MORNING_MS, EVENING_MS);
            let sender = 1 + random.below(PHONES as u64) as usize;
            let receiver = match random.chance(300) {
                true => sender,
                false => 1 + random.below(PHONES as u64) as usize,
            };
            entries.push((at, Deed::Write(sender, receiver)));
        }
        for _ in 0..random.below(FAULTS + 1) {
            let at = random.between(MORNING_MS, EVENING_MS);
            entries.push((at, Deed::any_fault(&mut random)));
        }
        entries.sort_by_key(|(at, _)| *at);
        Self { entries }
    }

    /// Without some of its entries.
    pub fn without(&self, from: usize, count: usize) -> Self {
        let mut entries = self.entries.clone();
        let to = (from + count).min(entries.len());
        entries.drain(from..to);
        Self { entries }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (at, deed)) in self.entries.iter().enumerate() {
            let before = if index > 0 { "; " } else { "" };
            write!(f, "{before}{at} {deed}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let soon = |yes: bool| if yes { "soon" } else { "later" };
        let knows = |yes: bool| if yes { "knowing" } else { "blank" };
        match *self {
            Self::Register(phone) => write!(f, "register {phone}"),
            Self::Call(caller, callee) => write!(f, "call {caller} {callee}"),
            Self::Write(sender, receiver) => write!(f, "write {sender} {receiver}"),
            Self::Way {
                trouble,
                much,
                lasts_s,
                whose,
            } => {
                let word = TROUBLES.iter().find(|(_, own)| *own == trouble);
                let word = word.map_or("", |(word, _)| *word);
                write!(f, "way {word} {much} {lasts_s} ")?;
                match whose {
                    Some(phone) => write!(f, "{phone}"),
                    None => f.write_str("all"),
                }
            }
            Self::Rebind(phone, is_soon) => write!(f, "rebind {phone} {}", soon(is_soon)),
            Self::Disconnect(phone) => write!(f, "disconnect {phone}"),
            Self::Reboot(phone, knows_nonce, off) => {
                write!(f, "reboot {phone} {} {off}", knows(knows_nonce))
            }
            Self::Flood(whose, rate, lasts_s) => write!(f, "flood {whose} {rate} {lasts_s}"),
            Self::Crack(lasts_s) => write!(f, "crack {lasts_s}"),
            Self::Neighbour(phone, lasts_s) => write!(f, "neighbour {phone} {lasts_s}"),
            Self::Scan(lasts_s) => write!(f, "scan {lasts_s}"),
            Self::Full(lasts_s) => write!(f, "full {lasts_s}"),
            Self::Slow(millis, lasts_s) => write!(f, "slow {millis} {lasts_s}"),
            Self::Kill(at, down) => match at {
                KillAt::Now => write!(f, "kill now {down}"),
                KillAt::Output(count) => write!(f, "kill output-{count} {down}"),
                KillAt::Batch(false) => write!(f, "kill batch-lost {down}"),
                KillAt::Batch(true) => write!(f, "kill batch-kept {down}"),
                KillAt::Committed => write!(f, "kill committed {down}"),
            },
            Self::Stop(down) => write!(f, "stop {down}"),
            Self::Jump(millis) => write!(f, "jump {millis}"),
            Self::Pause(Pause::Stopped, lasts) => write!(f, "pause stopped {lasts}"),
            Self::Pause(Pause::Asleep, lasts) => write!(f, "pause asleep {lasts}"),
            Self::Reload => f.write_str("reload"),
        }
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entries = text
            .split(';')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        let mut entries = entries
            .map(|entry| read(entry).ok_or(format!("not an entry of a plan: {entry:?}")))
            .collect::<Result<Vec<_>, String>>()?;
        entries.sort_by_key(|(at, _)| *at);
        Ok(Self { entries })
    }
}

/// A word as a number.
fn number<T: FromStr>(word: Option<&str>) -> Option<T> {
    word?.parse().ok()
}

/// The index of a phone in the list.
fn phone(word: Option<&str>) -> Option<usize> {
    number(word).filter(|index| *index <= PHONES)
}

fn read(entry: &str) -> Option<(u64, Deed)> {
    let mut words = entry.split_ascii_whitespace();
    let at = number(words.next())?;
    let kind = words.next()?;
    let mut next = || words.next();
    let deed = match kind {
        "register" => Deed::Register(phone(next())?),
        "call" => Deed::Call(phone(next())?, number(next())?),
        "write" => Deed::Write(phone(next())?, phone(next())?),
        "way" => {
            let word = next()?;
            let (_, trouble) = TROUBLES.iter().find(|(own, _)| *own == word)?;
            Deed::Way {
                trouble: *trouble,
                much: number(next())?,
                lasts_s: number(next())?,
                whose: match next()? {
                    "all" => None,
                    word => Some(phone(Some(word))?),
                },
            }
        }
        "rebind" => Deed::Rebind(phone(next())?, next()? == "soon"),
        "disconnect" => Deed::Disconnect(phone(next())?),
        "reboot" => Deed::Reboot(phone(next())?, next()? == "knowing", number(next())?),
        "flood" => Deed::Flood(phone(next())?, number(next())?, number(next())?),
        "crack" => Deed::Crack(number(next())?),
        "neighbour" => Deed::Neighbour(phone(next())?, number(next())?),
        "scan" => Deed::Scan(number(next())?),
        "full" => Deed::Full(number(next())?),
        "slow" => Deed::Slow(number(next())?, number(next())?),
        "kill" => {
            let at = match next()? {
                "now" => KillAt::Now,
                "batch-lost" => KillAt::Batch(false),
                "batch-kept" => KillAt::Batch(true),
                "committed" => KillAt::Committed,
                word => KillAt::Output(number(word.strip_prefix("output-"))?),
            };
            Deed::Kill(at, number(next())?)
        }
        "stop" => Deed::Stop(number(next())?),
        "jump" => Deed::Jump(number(next())?),
        "pause" => {
            let pause = match next()? {
                "stopped" => Pause::Stopped,
                "asleep" => Pause::Asleep,
                _ => return None,
            };
            Deed::Pause(pause, number(next())?)
        }
        "reload" => Deed::Reload,
        _ => return None,
    };
    next().is_none().then_some((at, deed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let plan = Plan::draw(seed, 30);
            assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
            let faults = plan.entries.iter().filter(|(_, deed)| deed.is_fault());
            kinds.extend(faults.map(|(_, deed)| deed.kind()));
        }
        assert!(kinds.into_iter().eq(Deed::FAULT_KINDS));
        for wrong in [
            "call 1 2",
            "1 call 1",
            "1 call 1 2 3",
            "1 dance",
            "1 register 21",
        ] {
            assert!(wrong.parse::<Plan>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_plan_without_something_is_shorter() {
        let plan = Plan::draw(1, 30);
        let shorter = plan.without(3, 2);
        assert_eq!(shorter.entries.len() + 2, plan.entries.len());
        assert_eq!(plan.without(0, 1_000), Plan::default());
    }
}
