//! The brake on toll fraud: what a user's stolen password is worth to whoever has it. The guard keeps crackers out; this holds
//! when one has got in.
//!
//! Whoever sells calls to expensive numbers wants many calls at a time, and many numbers, for each number earns little before
//! its carrier notices. So it is these that are bounded for each user: outside calls at a time, and outside numbers in an hour
//! that he never called before.
//!
//! A number counts against the hour once, when its first call goes out, whatever becomes of that call, and is known from then
//! on. Who calls it again and again gains no more than `outside_calls_max` lets him: one call at a time for each of those. So
//! it would keep no fraud out to charge repetitions, but would stop people who redial a busy line. What is refused is neither
//! charged nor remembered, so it is as new the next time. An hour is any hour: the first call to each number counts until
//! sixty minutes after it, over restarts too.
//!
//! Numbers are compared as a trunk is told them. What leads to one telephone by two numbers counts twice: that is on the safe
//! side, and two telephones never share a number.
//!
//! Who is a user by nothing but his address is, over UDP, as safe as the network against forged sources. Whoever forges one
//! never sees an answer, so he acknowledges none: neither one that takes the call, nor one that refuses it. After three such
//! calls within ten minutes the user calls nobody outside for an hour, and longer while they go on. A working phone
//! acknowledges whatever it gets, and gets it eleven times in 32 s. In memory only: a restart forgives.
//!
//! Not here: who answers for a call and how many outside calls he has (`call`), where a number leads (`endpoint`).

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::arithmetic_side_effects
    )
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::config::{Config, GuardMode, Route, User};
use crate::limits::{
    DESTINATION_BYTES_MAX, DESTINATIONS_FORGOTTEN, DESTINATIONS_MAX, DESTINATIONS_PER_USER_MAX,
};
use crate::source::UserId;
use crate::store::{Change, DestinationKey, DestinationRow};
use crate::time::{Instant, Now, UnixTime};

/// How long a new number counts.
const HOUR: Duration = Duration::from_secs(3_600);
/// Calls of a user by address that nobody acknowledges, within this time, ...
const UNHEARD_WINDOW: Duration = Duration::from_secs(600);
/// ... so many, stop him ...
const UNHEARD_MAX: usize = 3;
/// ... for so long.
pub const UNHEARD_STOP: Duration = HOUR;
/// A number that is called every day is written once in that time, for the sake of flash cards.
const WRITTEN_AGAIN: Duration = Duration::from_secs(86_400);
/// Between two lines in the log about one user.
const QUIET: Duration = Duration::from_secs(60);
/// Digits of a number that is never refused: 112, 110, 119, 911, 999, 15 ...
const EMERGENCY_DIGITS: usize = 3;
/// Digits of one that a route is for and no other: what a carrier makes of an emergency number may be longer.
const EXPRESS_DIGITS: usize = 6;

/// What keeps a call from going out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `outside_calls_max`
    Calls,
    /// `new_destinations_per_hour`
    NewNumbers,
    /// Calls that nobody acknowledged: someone forges the user's address.
    Unheard,
}

impl Limit {
    /// The key in config.ini, or what it is that has none.
    pub fn key(self) -> &'static str {
        match self {
            Self::Calls => "outside_calls_max",
            Self::NewNumbers => "new_destinations_per_hour",
            Self::Unheard => "no_ack",
        }
    }
}

/// A number that a user has called.
#[derive(Clone, Copy, Debug)]
struct Called {
    first: UnixTime,
    last: UnixTime,
    /// `last` as it was written last.
    written: UnixTime,
}

#[derive(Clone, Debug, Default)]
struct Caller {
    name: Box<str>,
    numbers: BTreeMap<Box<[u8]>, Called>,
    /// When each of the new numbers of the last hour counts no more, the next one first. Never more than may be new.
    hour: VecDeque<Instant>,
    /// When the log was last told that he was refused something, ...
    told: Option<Instant>,
    /// ... and how often that was since.
    refused: u64,
    /// When calls of his ended without an ACK, no more than [`UNHEARD_MAX`], the latest last, ...
    unheard: VecDeque<Instant>,
    /// ... and until when he calls nobody outside because of it.
    stopped: Option<Instant>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Brake {
    mode: GuardMode,
    calls_max: Option<u32>,
    new_max: Option<u32>,
    /// By their [`UserId`].
    callers: Vec<Caller>,
    /// Numbers of all callers.
    count: usize,
}

impl Brake {
    /// The brake of a configuration, with the numbers that were kept. What is kept no longer, because its user is not in the
    /// file any more or because of a bound, goes to `changes`.
    pub fn new(
        now: Now,
        config: &Config,
        kept: Vec<DestinationRow>,
        changes: &mut Vec<Change>,
    ) -> Self {
        let mut brake = Self {
            mode: config.guard.mode,
            calls_max: config.guard.outside_calls_max,
            new_max: config.guard.new_destinations_per_hour,
            callers: callers(&config.users),
            count: 0,
        };
        let places = places(&config.users);
        for row in kept {
            let place = places.get(row.key.user.as_str());
            match place.and_then(|place| brake.callers.get_mut(*place)) {
                Some(caller) => brake.count = brake.count.saturating_add(caller.restore(row)),
                None => changes.push(Change::DestinationGone(Box::new(row.key))),
            }
        }
        let new_max = brake.new_max();
        for caller in &mut brake.callers {
            caller.restore_hour(now, new_max);
        }
        for place in 0..brake.callers.len() {
            while brake.is_full(place) {
                brake.forget(Some(place), changes);
            }
        }
        brake
    }

    /// A new configuration. Users are the same by their names; numbers of those who are gone are forgotten.
    pub fn reload(&mut self, config: &Config, changes: &mut Vec<Change>) {
        self.mode = config.guard.mode;
        self.calls_max = config.guard.outside_calls_max;
        self.new_max = config.guard.new_destinations_per_hour;
        let places = places(&config.users);
        let old = std::mem::replace(&mut self.callers, callers(&config.users));
        for caller in old {
            match (places.get(&*caller.name)).and_then(|place| self.callers.get_mut(*place)) {
                Some(place) => *place = caller,
                None => {
                    self.count = self.count.saturating_sub(caller.numbers.len());
                    let keys = caller.numbers.keys().map(|number| caller.key(number));
                    changes.extend(keys.map(|key| Change::DestinationGone(Box::new(key))));
                }
            }
        }
    }

    /// Whether it only says what it would refuse (`mode = observe`).
    pub fn is_observing(&self) -> bool {
        self.mode == GuardMode::Observe
    }

    /// How many new numbers in an hour anybody keeps account of.
    fn new_max(&self) -> usize {
        self.new_max.map_or(0, |max| max as usize)
    }

    /// What keeps this user from calling this number while he has `calls` outside calls. Nothing changes by asking.
    pub fn refuses(&self, now: Now, user: UserId, number: &[u8], calls: u32) -> Option<Limit> {
        let caller = self.callers.get(user.0 as usize)?;
        if self.mode == GuardMode::Off {
            return None;
        }
        if caller.stopped.is_some_and(|until| until > now.mono) {
            return Some(Limit::Unheard);
        }
        if self.calls_max.is_some_and(|max| calls >= max) {
            return Some(Limit::Calls);
        }
        let is_new = !caller.numbers.contains_key(number);
        let new = caller.hour.iter().filter(|until| **until > now.mono);
        (is_new && self.new_max.is_some_and(|max| new.count() >= max as usize))
            .then_some(Limit::NewNumbers)
    }

    /// The user's call to this number goes out.
    pub fn goes_out(&mut self, now: Now, user: UserId, number: &[u8], changes: &mut Vec<Change>) {
        let (place, new_max) = (user.0 as usize, self.new_max());
        if self.mode == GuardMode::Off {
            return;
        }
        let Some(caller) = self.callers.get_mut(place) else {
            return;
        };
        if let Some(called) = caller.numbers.get_mut(number) {
            called.last = now.unix;
            if now.unix.since(called.written) >= WRITTEN_AGAIN {
                called.written = now.unix;
                changes.extend(caller.row(number));
            }
            return;
        }
        while caller.hour.front().is_some_and(|until| *until <= now.mono) {
            caller.hour.pop_front();
        }
        // In `mode = observe` there may be more.
        if caller.hour.len() < new_max {
            caller.hour.push_back(now.mono.plus(HOUR));
        }
        if number.len() > DESTINATION_BYTES_MAX {
            return;
        }
        let called = Called {
            first: now.unix,
            last: now.unix,
            written: now.unix,
        };
        caller.numbers.insert(number.into(), called);
        changes.extend(caller.row(number));
        self.count = self.count.saturating_add(1);
        if self.is_full(place) {
            self.forget(Some(place), changes);
        }
        if self.count > DESTINATIONS_MAX {
            self.forget(None, changes);
        }
    }

    /// A call of this user, whom his address alone names, got no ACK over UDP. `true`: that stops his outside calls now.
    pub fn unheard(&mut self, now: Now, user: UserId) -> bool {
        let Some(caller) = self.callers.get_mut(user.0 as usize) else {
            return false;
        };
        if self.mode == GuardMode::Off {
            return false;
        }
        let is_over = |at: &Instant| now.mono.since(*at) >= UNHEARD_WINDOW;
        while caller.unheard.front().is_some_and(is_over) {
            caller.unheard.pop_front();
        }
        caller.unheard.push_back(now.mono);
        if caller.unheard.len() < UNHEARD_MAX {
            return false;
        }
        caller.unheard.clear();
        let was_stopped = caller.stopped.is_some_and(|until| until > now.mono);
        caller.stopped = Some(now.mono.plus(UNHEARD_STOP));
        !was_stopped
    }

    /// The user was refused a call. `Some`: the log is to be told now, of so many refusals since the last time.
    pub fn refused(&mut self, now: Now, user: UserId) -> Option<u64> {
        let caller = self.callers.get_mut(user.0 as usize)?;
        caller.refused = caller.refused.saturating_add(1);
        let is_quiet = |told: Instant| now.mono.since(told) < QUIET;
        if caller.told.is_some_and(is_quiet) {
            return None;
        }
        caller.told = Some(now.mono);
        Some(std::mem::take(&mut caller.refused))
    }

    /// Numbers that are remembered.
    pub fn count(&self) -> usize {
        self.count
    }

    fn is_full(&self, place: usize) -> bool {
        let numbers = self.callers.get(place).map(|caller| caller.numbers.len());
        numbers > Some(DESTINATIONS_PER_USER_MAX)
    }

    /// Forgets those called longest ago of this caller, or of all.
    fn forget(&mut self, of: Option<usize>, changes: &mut Vec<Change>) {
        let callers = self.callers.iter().enumerate();
        let mut numbers: Vec<(UnixTime, usize, &[u8])> = callers
            .filter(|(place, _)| of.is_none_or(|of| of == *place))
            .flat_map(|(place, caller)| {
                let numbers = caller.numbers.iter();
                numbers.map(move |(number, called)| (called.last, place, &**number))
            })
            .collect();
        let forgotten = numbers.len().div_ceil(DESTINATIONS_FORGOTTEN);
        if forgotten < numbers.len() {
            numbers.select_nth_unstable(forgotten);
            numbers.truncate(forgotten);
        }
        numbers.sort_unstable();
        let numbers: Vec<(usize, Box<[u8]>)> = numbers
            .into_iter()
            .map(|(_, place, number)| (place, number.into()))
            .collect();
        for (place, number) in numbers {
            if let Some(caller) = self.callers.get_mut(place)
                && caller.numbers.remove(&number).is_some()
            {
                self.count = self.count.saturating_sub(1);
                changes.push(Change::DestinationGone(Box::new(caller.key(&number))));
            }
        }
    }
}

impl Caller {
    fn key(&self, number: &[u8]) -> DestinationKey {
        DestinationKey {
            user: self.name.to_string(),
            number: number.to_vec(),
        }
    }

    fn row(&self, number: &[u8]) -> Option<Change> {
        let called = self.numbers.get(number)?;
        Some(Change::Destination(Box::new(DestinationRow {
            key: self.key(number),
            first_called: called.first,
            last_called: called.last,
        })))
    }

    /// Takes in what was kept; how many numbers there are more by that.
    fn restore(&mut self, row: DestinationRow) -> usize {
        let called = Called {
            first: row.first_called,
            last: row.last_called,
            written: row.last_called,
        };
        let before = self.numbers.insert(row.key.number.into(), called);
        usize::from(before.is_none())
    }

    /// What was new in the hour before a restart still is. What the clock says is to come is not: a board whose clock starts
    /// in the past would have nothing but new numbers.
    fn restore_hour(&mut self, now: Now, new_max: usize) {
        let firsts = self.numbers.values().map(|called| called.first);
        let mut left: Vec<Duration> = firsts
            .filter(|first| *first <= now.unix)
            .map(|first| HOUR.saturating_sub(now.unix.since(first)))
            .filter(|left| !left.is_zero())
            .collect();
        left.sort_unstable();
        let surplus = left.len().saturating_sub(new_max);
        let until = left.into_iter().skip(surplus);
        self.hour = until.map(|left| now.mono.plus(left)).collect();
    }
}

fn callers(users: &[User]) -> Vec<Caller> {
    let caller = |user: &User| Caller {
        name: user.name.as_str().into(),
        ..Caller::default()
    };
    users.iter().map(caller).collect()
}

fn places(users: &[User]) -> BTreeMap<&str, usize> {
    let names = users.iter().map(|user| user.name.as_str());
    names.zip(0..).collect()
}

/// Whether a call is one for help, which nothing here ever stops or counts: a trunk is told at most three digits, or the file
/// has a route, without a level, for this very number, of which a trunk is told at most six. What costs money has more digits,
/// or is a single number that the file's owner has written down himself.
pub fn is_emergency(dialled: &[u8], told: &[u8], route: &Route) -> bool {
    let is_expressly_routed = route.level.is_none() && dialled == route.prefix.as_bytes();
    let digits_max = match is_expressly_routed {
        true => EXPRESS_DIGITS,
        false => EMERGENCY_DIGITS,
    };
    !told.is_empty() && told.len() <= digits_max && told.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
