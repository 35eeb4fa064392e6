//! Keeps strangers off: decides about each packet before a byte of it is read, from the socket's source address alone
//! (an IPv4 address, an IPv6 /64), in memory that is reserved at start.
//!
//! ```text
//!   admit ── allow, who ──────────────────▶ Exempt   known_rate; over it, and not on a stream, Excess: `admit_excess`
//!     │ deny, banned ─────────────────────▶ Drop
//!     │ known (right answer in 30 days) ──▶ Known    the same; or Watched: `admit_watched`
//!     │ on a stream ──────────────────────▶ Proven   20 a second
//!     │ else unproven: token bucket ──────▶ Unproven, whose answers `may_answer` decides about
//!     │ `unproven_total` is used up ──────▶ Crowded ── `admit_repeated`: Unproven if it comes again, else Peek
//!     └ over the budget ──────────────────▶ Peek ── a fresh nonce: `prove` ──▶ Proven
//! ```
//!
//! An endpoint that has read a packet tells the guard what came of it: [`Guard::succeeded`] (a right answer: the source
//! is known) or [`Guard::charge`] (a wrong answer to a fresh nonce, the only thing that anyone is charged with, and only
//! a source that receives what we send can give it: a forger never gets his victim banned).
//!
//! | file | what |
//! | --- | --- |
//! | `unproven` | token buckets and byte accounts of strangers, 16 bytes a source |
//! | `repeats` | requests that were turned away, to be known when they come again |
//! | `rate` | rates, and buckets of proven and known sources |
//! | `charges` | what right and wrong answers lead to |
//! | `failures` | failures of proven sources within the window and the day |
//! | `bans` | bans in force, by source and by end |
//! | `delays` | (source, user) pairs of known sources that wait |
//! | `misconfigured` | phones with an old password behind known sources, to be shown |
//! | `ranges` | `allow` and `deny` |
//! | `kernel` | what the kernel is to discard for us |
//! | `index`, `recent`, `distinct` | the tables below these |
//!
//! Places kept for what is not here yet: lanes ask the table of known sources.
//!
//! It does not parse, log, keep files or close connections: what it decides is returned, and the endpoint acts.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod bans;
mod charges;
mod delays;
mod distinct;
mod failures;
mod index;
mod kernel;
mod listing;
mod misconfigured;
mod ranges;
mod rate;
mod recent;
mod repeats;
mod unproven;

use std::time::Duration;

use self::bans::{Bans, Evidence};
use self::delays::Delays;
use self::distinct::Distinct;
use self::failures::Failures;
pub use self::kernel::{KernelEntry, KernelMark};
use self::misconfigured::Misconfigured;
use self::ranges::Ranges;
use self::rate::{Bucket, Buckets, Purse, Rate};
use self::recent::Recent;
use self::repeats::Repeats;
use self::unproven::{Budget, Unproven};
use crate::api;
use crate::config::{self, GuardMode};
use crate::limits;
use crate::source::{Offence, Source};
use crate::store::{BanReason, BanRow};
use crate::time::{Instant, Now, UnixTime};

/// How long a source stays known after a right answer.
const KNOWN: Duration = Duration::from_secs(30 * 86_400);
/// A known source is news again so long after the last time.
const KNOWN_NEWS: Duration = Duration::from_secs(3_600);
/// A step of a past ban is forgotten for each of these without another.
const CLEAN_WEEK_S: u64 = 7 * 86_400;

/// What a source is to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing shows that it receives what we send to it: ask [`Guard::may_answer`] before answering.
    Unproven,
    /// This very packet came on a stream or carries a fresh nonce.
    Proven,
    /// A right answer came from it in the last 30 days.
    Known,
    /// Users by address, trunks, lines, `allow`.
    Exempt,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Not read, not answered.
    Drop,
    /// A known source where too many names failed: ask [`Guard::admit_watched`].
    Watched,
    /// Within its own budget, but all strangers together are over theirs: ask [`Guard::admit_repeated`].
    Crowded,
    /// A source that is known or exempt is over `known_rate`, and this may have been forged: ask [`Guard::admit_excess`].
    Excess(Standing),
    /// Over budget: look for a nonce of ours and nothing else; if there is a fresh one, ask [`Guard::prove`].
    Peek,
    /// Read it.
    Admit(Standing),
}

/// What became of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charged {
    /// Counted; so many lie within the window now.
    Counted {
        /// How many.
        failures: u32,
    },
    /// The same answer was counted before: a retransmission.
    Repeated,
    /// A known source: attempts of this user from there wait for so long.
    Delayed {
        /// 1, 2, 4 … 300.
        seconds: u32,
    },
    /// A ban begins, and perhaps wider ones with it (in `mode = observe` they only would: see [`Guard::is_observing`], such
    /// rows are not to be kept). One with reason `scan` drops nobody: see [`Guard::admit_watched`].
    Banned(Vec<BanRow>),
}

/// Hashes under keys from the seed, so that nobody can choose sources that fall into one place.
#[derive(Clone, Debug)]
struct Hasher(ahash::RandomState);

impl Hasher {
    fn new(seed: &[u8; 32]) -> Self {
        let (words, _) = seed.as_chunks::<8>();
        let word = |at: usize| words.get(at).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self(ahash::RandomState::with_seeds(
            word(0),
            word(1),
            word(2),
            word(3),
        ))
    }

    /// Never 0.
    #[inline]
    fn source(&self, source: Source) -> u32 {
        self.source_and_tag(source).0
    }

    /// The same and another one beside it, never 0 either.
    #[inline]
    fn source_and_tag(&self, source: Source) -> (u32, u32) {
        let hash = self.0.hash_one(source.bits());
        ((hash as u32).max(1), ((hash >> 32) as u32).max(1))
    }

    fn pair(&self, source: Source, user: &[u8]) -> u64 {
        self.0.hash_one((source.bits(), user))
    }
}

/// A source that answered right.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Monotonic, so that a jump of the wall clock makes nobody a stranger.
    until: Instant,
    /// When it was news last; `None`: in an earlier run.
    kept: Option<Instant>,
    /// Users that answered right from there.
    accounts: Distinct,
}

impl Known {
    fn until(until: Instant) -> Self {
        Self {
            until,
            kept: None,
            accounts: Distinct::default(),
        }
    }
}

/// What is left of a ban that is over.
#[derive(Clone, Copy, Debug)]
struct Past {
    step: u32,
    /// When it ended.
    ended: UnixTime,
}

/// The guard; see the module.
#[derive(Clone, Debug)]
pub struct Guard {
    config: config::Guard,
    /// When this configuration began, for `deny` entries.
    since: UnixTime,
    allow: Ranges,
    deny: Ranges,
    bans: Bans,
    /// Known sources on the budget of strangers, for reason `scan`.
    watched: Bans,
    past: Recent<Past>,
    known: Recent<Known>,
    failures: Recent<Failures>,
    delays: Delays,
    misconfigured: Misconfigured,
    unproven: Unproven,
    repeats: Repeats,
    /// All of it, and what requests that did not come before may have of it.
    unproven_total: (Rate, Bucket),
    unproven_new: Rate,
    peeks_total: (Rate, Bucket),
    buckets: Buckets,
    hasher: Hasher,
    proven_rate: Rate,
    known_rate: Rate,
    dropped: u64,
    /// Those of them of which nothing was read.
    unread: u64,
    would_drop: u64,
    /// Bans by an administrator.
    commands: u64,
    /// What an administrator said that may take sources off the kernel's list.
    lifts: u64,
}

impl Guard {
    /// A guard with what was kept: `bans` (ended ones too, for their step) and `known` sources with the time of their
    /// last right answer.
    pub fn new(
        now: Now,
        config: &config::Guard,
        seed: &[u8; 32],
        bans: Vec<BanRow>,
        known: Vec<(Source, UnixTime)>,
    ) -> Self {
        let hasher = Hasher::new(seed);
        let proven_rate = Rate::new(Some(limits::PROVEN_RATE), limits::PROVEN_RATE);
        let unproven_total = rate_of_a_second(config.unproven_total);
        let peeks_rate = Rate::new(Some(limits::PEEKS_TOTAL), limits::PEEKS_TOTAL);
        let mut guard = Self {
            since: now.unix,
            allow: Ranges::new(&config.allow),
            deny: Ranges::new(&config.deny),
            bans: Bans::new(hasher.clone(), limits::BANS_MAX),
            watched: Bans::new(hasher.clone(), limits::WATCHED_MAX),
            past: Recent::new(hasher.clone(), limits::PAST_BANS_MAX),
            known: Recent::new(hasher.clone(), limits::KNOWN_SOURCES_MAX),
            failures: Recent::new(hasher.clone(), limits::PROVEN_SOURCES_MAX),
            delays: Delays::new(hasher.clone()),
            misconfigured: Misconfigured::default(),
            unproven: Unproven::new(config.unproven_rate, config.unproven_burst),
            repeats: Repeats::new(hasher.clone()),
            unproven_total: (unproven_total, Bucket::default()),
            unproven_new: unproven_total.leaving(limits::REPEATS_SHARE),
            peeks_total: (peeks_rate, Bucket::default()),
            buckets: Buckets::new(limits::RATED_SOURCES_MAX),
            hasher,
            proven_rate,
            known_rate: rate_of_a_second(config.known_rate),
            dropped: 0,
            unread: 0,
            would_drop: 0,
            commands: 0,
            lifts: 0,
            config: config.clone(),
        };
        guard.restore_known(now, known);
        guard.restore_bans(now, bans);
        guard
    }

    fn restore_known(&mut self, now: Now, mut known: Vec<(Source, UnixTime)>) {
        known.sort_unstable_by_key(|(source, last)| (*last, *source));
        for (source, last) in known {
            if let Some(left) = KNOWN.checked_sub(now.unix.since(last)) {
                let until = now.mono.plus(left);
                self.known.touch(source, || Known::until(until));
            }
        }
    }

    fn restore_bans(&mut self, now: Now, mut rows: Vec<BanRow>) {
        // Those that end last come last: at the bound the others have left.
        rows.sort_unstable_by_key(|row| (row.until, row.source));
        for row in rows {
            if row.until <= now.unix {
                let past = Past {
                    step: row.step,
                    ended: row.until,
                };
                if past.step_now(now) > 0 {
                    self.past.touch(row.source, || past);
                }
            } else if !self.allow.any_within(row.source) {
                // A clock that is behind (no battery, no network yet) must not make a ban last for years.
                let left = row.until.since(now.unix).min(row.until.since(row.since));
                let table = match row.reason {
                    BanReason::Scan => &mut self.watched,
                    _ => &mut self.bans,
                };
                table.insert(row.source, now.mono.plus(left), Evidence::of(&row));
            }
        }
    }

    /// Takes a new configuration. Bans go on, except of sources that are in `allow` now (they end: see
    /// [`Guard::expire`]), and except those that were only observed when `mode` turns to `enforce`.
    pub fn reload(&mut self, now: Now, config: &config::Guard) {
        self.allow = Ranges::new(&config.allow);
        self.deny = Ranges::new(&config.deny);
        self.since = now.unix;
        self.unproven
            .reload(config.unproven_rate, config.unproven_burst);
        self.unproven_total.0 = rate_of_a_second(config.unproven_total);
        self.unproven_new = self.unproven_total.0.leaving(limits::REPEATS_SHARE);
        self.known_rate = rate_of_a_second(config.known_rate);
        self.config = config.clone();
        self.lifts = self.lifts.wrapping_add(1);
        let enforce = config.mode == GuardMode::Enforce;
        let allow = &self.allow;
        for table in [&mut self.bans, &mut self.watched] {
            let lifted: Vec<Source> = table
                .iter()
                .filter(|(source, ban)| allow.any_within(*source) || enforce && ban.observed)
                .map(|(source, _)| source)
                .collect();
            for source in lifted {
                if let Some(ban) = table.remove(source) {
                    // It ends now, without a step, and is reported as any other that ends.
                    let ended = Evidence {
                        step: 0,
                        until: now.unix,
                        ..ban
                    };
                    table.insert(source, now.mono, ended);
                }
            }
        }
    }

    /// Decides about a packet before a byte of it is read. `who`: the source is in the endpoint's table of users by
    /// address and trunks. `stream`: it came on a stream, whose handshake proved the source.
    #[inline]
    pub fn admit(&mut self, now: Now, source: Source, who: bool, stream: bool) -> Admission {
        let admission = match self.config.mode {
            GuardMode::Off => return Admission::Admit(Standing::Known),
            GuardMode::Enforce | GuardMode::Observe => self.decide(now, source, who, stream),
        };
        if matches!(admission, Admission::Admit(_)) {
            return admission;
        }
        if self.is_observing() {
            self.would_drop = self.would_drop.saturating_add(1);
            return Admission::Admit(if stream {
                Standing::Proven
            } else {
                Standing::Unproven
            });
        }
        self.dropped = self.dropped.saturating_add(1);
        let is_unread = admission == Admission::Drop;
        self.unread = self.unread.saturating_add(u64::from(is_unread));
        admission
    }

    #[inline]
    fn decide(&mut self, now: Now, source: Source, who: bool, stream: bool) -> Admission {
        if let Some(range) = self.deny.find(source) {
            self.deny.count_discarded(range);
            return Admission::Drop;
        }
        let (hash, tag) = self.hasher.source_and_tag(source);
        if who || self.allow.contains(source) {
            return self.known_or_exempt(now, (hash, source), Standing::Exempt, stream);
        }
        if self.bans.discard(hash, source, now)
            || self.bans.has_wide() && self.discard_wide(now, source)
        {
            return Admission::Drop;
        }
        let known = self.known.get_hashed(hash, source);
        if known.is_some_and(|known| known.until > now.mono) {
            if self.watched.len() > 0 && self.is_watched(now, (hash, source)) {
                return Admission::Watched;
            }
            return self.known_or_exempt(now, (hash, source), Standing::Known, stream);
        }
        if stream {
            return self.proven(now, (hash, source));
        }
        self.stranger(now, (hash, tag))
    }

    /// What comes on a stream has a bucket of its own beside what may have been forged.
    #[inline]
    fn known_or_exempt(
        &mut self,
        now: Now,
        source: (u32, Source),
        standing: Standing,
        stream: bool,
    ) -> Admission {
        let purse = if stream { Purse::Answering } else { Purse::Any };
        if self.buckets.take(source, purse, self.known_rate, now.mono) {
            Admission::Admit(standing)
        } else if stream {
            Admission::Drop
        } else {
            Admission::Excess(standing)
        }
    }

    /// By the budget of strangers.
    #[inline]
    fn stranger(&mut self, now: Now, hashes: (u32, u32)) -> Admission {
        let any_left = self.unproven_new.has(&self.unproven_total.1, now.mono);
        match self.unproven.admit(now.mono, hashes, any_left) {
            Budget::Within => Admission::Admit(Standing::Unproven),
            Budget::Crowded => Admission::Crowded,
            Budget::Peek if self.peeks_total.0.take(&mut self.peeks_total.1, now.mono) => {
                Admission::Peek
            }
            Budget::Peek | Budget::Over => Admission::Drop,
        }
    }

    #[cold]
    fn discard_wide(&mut self, now: Now, source: Source) -> bool {
        let over = self.bans.find(source, now.mono);
        over.is_some_and(|over| self.bans.discard(self.hasher.source(over), over, now))
    }

    /// Only said, in `mode = observe`, not done.
    #[cold]
    fn is_watched(&self, now: Now, (hash, source): (u32, Source)) -> bool {
        !self.is_observing() && self.watched.contains_hashed(hash, source, now.mono)
    }

    #[inline]
    fn proven(&mut self, now: Now, source: (u32, Source)) -> Admission {
        let rate = self.proven_rate;
        if self.buckets.take(source, Purse::Proven, rate, now.mono) {
            Admission::Admit(Standing::Proven)
        } else {
            Admission::Drop
        }
    }

    /// A packet that found [`Admission::Excess`], so that who forges a peer's address cannot silence it: what is
    /// `answering` (its branch or a tag is one that we gave to that peer and nobody else has seen) has a `known_rate` of
    /// its own; what comes again, as told by its `branch` (see [`Guard::admit_repeated`]), a quarter of that.
    pub fn admit_excess(
        &mut self,
        now: Now,
        source: Source,
        standing: Standing,
        answering: bool,
        branch: Option<&[u8]>,
    ) -> Admission {
        let hashed = (self.hasher.source(source), source);
        let (purse, rate) = if answering {
            (Purse::Answering, self.known_rate)
        } else if branch.is_some_and(|branch| self.repeats.is_repeated(now.mono, source, branch)) {
            (Purse::Repeated, self.known_rate.part(limits::REPEATS_SHARE))
        } else {
            let hashes = self.hasher.source_and_tag(source);
            return self.peek(now, hashes);
        };
        if !self.buckets.take(hashed, purse, rate, now.mono) {
            return Admission::Drop;
        }
        // It was counted when it was too much.
        self.dropped = self.dropped.saturating_sub(1);
        Admission::Admit(standing)
    }

    /// A packet that found [`Admission::Watched`]. `is_live`: it comes from the address and port of a registration, which
    /// goes on as before; the others of that source are strangers until a nonce of ours tells something else.
    pub fn admit_watched(
        &mut self,
        now: Now,
        source: Source,
        stream: bool,
        is_live: bool,
    ) -> Admission {
        let (hash, tag) = self.hasher.source_and_tag(source);
        let admission = match (is_live, stream) {
            (true, _) => self.known_or_exempt(now, (hash, source), Standing::Known, stream),
            (false, true) => self.proven(now, (hash, source)),
            (false, false) => self.stranger(now, (hash, tag)),
        };
        if matches!(admission, Admission::Admit(_)) {
            // It was counted before.
            self.dropped = self.dropped.saturating_sub(1);
        }
        admission
    }

    /// A packet that found [`Admission::Crowded`]. `branch` is that of its topmost Via, if it was found: with the same one
    /// turned away 400 ms ago or longer it is a retransmission, for which a part of `unproven_total` is kept. A phone
    /// repeats what is not answered and so gets in, however many others ask once.
    pub fn admit_repeated(&mut self, now: Now, source: Source, branch: Option<&[u8]>) -> Admission {
        let hashes = self.hasher.source_and_tag(source);
        let (rate, bucket) = &self.unproven_total;
        if branch.is_some_and(|branch| self.repeats.is_repeated(now.mono, source, branch))
            && rate.has(bucket, now.mono)
            && self.unproven.admit(now.mono, hashes, true) == Budget::Within
        {
            // It was counted when it was only crowded.
            self.dropped = self.dropped.saturating_sub(1);
            return Admission::Admit(Standing::Unproven);
        }
        self.peek(now, hashes)
    }

    /// A look for a nonce, of which there are a few for each source, and for all together.
    fn peek(&mut self, now: Now, hashes: (u32, u32)) -> Admission {
        if self.unproven.may_peek(now.mono, hashes)
            && self.peeks_total.0.take(&mut self.peeks_total.1, now.mono)
        {
            Admission::Peek
        } else {
            Admission::Drop
        }
    }

    /// A packet that was peeked at carries a fresh nonce minted for its source: `Admit(Proven)` if its bucket of 20 a
    /// second allows, else `Drop`.
    pub fn prove(&mut self, now: Now, source: Source) -> Admission {
        let hash = self.hasher.source(source);
        let admission = self.proven(now, (hash, source));
        if admission != Admission::Drop {
            // It was counted when it was only to be peeked at.
            self.dropped = self.dropped.saturating_sub(1);
        }
        admission
    }

    /// Whether `bytes_out` may answer `bytes_in` of an Unproven source; if so, they count as sent. No: silence.
    ///
    /// `unproven_total` limits the answers to all such sources; to each, no more bytes go out than came in within a
    /// minute, a first challenge excepted.
    pub fn may_answer(
        &mut self,
        now: Now,
        source: Source,
        bytes_in: usize,
        bytes_out: usize,
    ) -> bool {
        if self.config.mode == GuardMode::Off {
            return true;
        }
        let (rate, bucket) = &mut self.unproven_total;
        let hashes = self.hasher.source_and_tag(source);
        let may = self
            .unproven
            .may_answer(now.mono, hashes, bytes_in, bytes_out, || {
                rate.take(bucket, now.mono)
            });
        if !may && self.is_observing() {
            self.would_drop = self.would_drop.saturating_add(1);
            return true;
        }
        may
    }

    /// Whether whoever receives what we send to it, but is not known, may be told something that he did not answer a
    /// challenge for: a few times, and then as often as an unproven source.
    pub fn may_challenge(&mut self, now: Now, source: Source) -> bool {
        if self.config.mode == GuardMode::Off {
            return true;
        }
        let may = self
            .unproven
            .may_challenge(now.mono, self.hasher.source_and_tag(source));
        if !may && self.is_observing() {
            self.would_drop = self.would_drop.saturating_add(1);
            return true;
        }
        may
    }

    /// A stranger sent what phones do not send (a malformed message, a scanner's name): he gets fewer answers, as if he
    /// had left a challenge unanswered.
    pub fn suspect(&mut self, now: Now, source: Source) {
        let hashes = self.hasher.source_and_tag(source);
        self.unproven.suspect(now.mono, hashes);
    }

    /// Whether everything from it is discarded now, by a ban or `deny`. False while bans are only observed.
    pub fn is_banned(&self, now: Now, source: Source) -> bool {
        self.config.mode == GuardMode::Enforce
            && (self.deny.contains(source)
                || !self.allow.contains(source) && self.bans.find(source, now.mono).is_some())
    }

    /// Whether the guard only says what it would do (`mode = observe`).
    pub fn is_observing(&self) -> bool {
        self.config.mode == GuardMode::Observe
    }

    /// An administrator bans a source, for the configuration's `ban` if nothing else is said. A ban that it has is
    /// replaced; its step stays.
    ///
    /// # Errors
    /// In words: it lies in `allow`, or the guard is off.
    pub fn ban(
        &mut self,
        now: Now,
        source: Source,
        duration: Option<Duration>,
    ) -> Result<Box<BanRow>, String> {
        if self.config.mode == GuardMode::Off {
            return Err("the guard is off".to_owned());
        }
        if self.allow.any_within(source) {
            return Err(format!("{source} is in allow"));
        }
        let duration = duration.unwrap_or(self.config.ban);
        let before = self.bans.get_mut(source).cloned();
        let evidence = Evidence {
            reason: BanReason::Manual,
            failures: before.as_ref().map_or(0, |ban| ban.failures),
            step: match &before {
                Some(ban) => ban.step,
                None => self.past.get(source).map_or(0, |past| past.step_now(now)),
            },
            names: before
                .as_ref()
                .map_or_else(failures::Names::new, |ban| ban.names),
            first_seen: before.as_ref().map_or(now.unix, |ban| ban.first_seen),
            last_seen: before.as_ref().map_or(now.unix, |ban| ban.last_seen),
            since: now.unix,
            until: now.unix.plus(duration),
            observed: self.is_observing(),
        };
        let row = evidence.row(source);
        self.watched.remove(source);
        self.bans.insert(source, now.mono.plus(duration), evidence);
        self.commands = self.commands.wrapping_add(1);
        Ok(Box::new(row))
    }

    /// An administrator lifts a ban; its step and failures are forgotten. False: there was none.
    pub fn unban(&mut self, now: Now, source: Source) -> bool {
        let tables = [&mut self.bans, &mut self.watched];
        let mut was_banned = false;
        for table in tables {
            was_banned |= table.contains(source, now.mono);
            table.remove(source);
        }
        self.lifts = self.lifts.wrapping_add(1);
        self.past.remove(source);
        self.failures.remove(source);
        was_banned
    }

    /// Why packets of `source` would still be dropped if its own ban were lifted, in words: the widest ban around it, or
    /// its entry of `deny`.
    pub fn still_banned(&self, now: Now, source: Source) -> Option<String> {
        let wide = source.widened();
        let wider = [wide.and_then(Source::widened), wide];
        let ban = wider
            .into_iter()
            .flatten()
            .find(|wider| self.bans.contains(*wider, now.mono));
        let denied = || self.deny.covering(source);
        ban.map(|wider| format!("{source} lies in {wider}, which is banned: lift that first"))
            .or_else(|| denied().map(|range| format!("{source} is in deny = {}", range.prefix)))
    }

    /// Bans in force, watched sources included, those of `deny` not.
    pub fn ban_count(&self) -> usize {
        self.bans.len().saturating_add(self.watched.len())
    }

    /// Packets discarded, those that were peeked at in vain included.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Those of them that were discarded for their source alone: nothing was looked for in their bytes.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Packets and answers that `mode = observe` let pass and `enforce` would not.
    pub fn would_drop(&self) -> u64 {
        self.would_drop
    }

    /// When the next ban ends. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        let ends = [self.bans.next_end(), self.watched.next_end()];
        ends.into_iter().flatten().min()
    }

    /// One ban that ended, until `None`.
    pub fn expire(&mut self, now: Now) -> Option<Source> {
        let ended = self.bans.expire(now.mono);
        let (source, ban) = ended.or_else(|| self.watched.expire(now.mono))?;
        if ban.step > 0 && !ban.observed {
            // A clean week begins now, whatever the wall clock said when the ban was made.
            let past = Past {
                step: ban.step,
                ended: now.unix,
            };
            if let Some(place) = self.past.touch(source, || past) {
                *place = past;
            }
        }
        Some(source)
    }
}

impl Past {
    /// The step that is left after the clean weeks since.
    fn step_now(self, now: Now) -> u32 {
        let weeks = now.unix.since(self.ended).as_secs() / CLEAN_WEEK_S;
        self.step
            .saturating_sub(u32::try_from(weeks).unwrap_or(u32::MAX))
    }
}

/// A rate with one second's worth at once.
fn rate_of_a_second(rate: Option<u32>) -> Rate {
    Rate::new(rate, rate.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    pub(super) use super::*;
    use proptest::prelude::*;

    /// A wall clock far from the monotonic one.
    const EPOCH_MS: u64 = 1_790_000_000_000;
    const DAY_S: u64 = 86_400;

    pub(super) fn at_ms(ms: u64) -> Now {
        Now {
            mono: Instant::from_micros(ms * 1000),
            unix: UnixTime::from_millis(EPOCH_MS + ms),
        }
    }

    pub(super) fn at(seconds: u64) -> Now {
        at_ms(seconds * 1000)
    }

    pub(super) fn config() -> config::Guard {
        config::Config::read("", std::path::Path::new("/"))
            .unwrap()
            .guard
    }

    pub(super) fn config_of(lines: &str) -> config::Guard {
        config::Config::read(&format!("[guard]\n{lines}"), std::path::Path::new("/"))
            .unwrap()
            .guard
    }

    pub(super) fn guard_of(lines: &str) -> Guard {
        Guard::new(at(0), &config_of(lines), &[7; 32], Vec::new(), Vec::new())
    }

    pub(super) fn source(n: u32) -> Source {
        Source::of(std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(
            0xc000_0200 + n,
        )))
    }

    pub(super) fn admit(guard: &mut Guard, now: Now, source: Source) -> Admission {
        guard.admit(now, source, false, false)
    }

    /// Fails so often, with answers of its own.
    pub(super) fn fail(
        guard: &mut Guard,
        now: Now,
        source: Source,
        first: u64,
        count: u64,
    ) -> Charged {
        let charge = |n| {
            guard.charge(
                now,
                source,
                |_| false,
                Offence::Credentials,
                b"100",
                first + n,
            )
        };
        (0..count).map(charge).last().unwrap()
    }

    pub(super) fn banned(charged: Charged) -> BanRow {
        match charged {
            Charged::Banned(mut rows) if rows.len() == 1 => rows.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn five_failures_in_a_minute_ban_for_four_hours() {
        let mut guard = guard_of("");
        assert_eq!(
            fail(&mut guard, at(10), source(1), 0, 4),
            Charged::Counted { failures: 4 }
        );
        assert_eq!(
            fail(&mut guard, at(11), source(1), 0, 4),
            Charged::Repeated,
            "retransmissions"
        );
        assert_eq!(
            admit(&mut guard, at(12), source(1)),
            Admission::Admit(Standing::Unproven)
        );
        let row = banned(fail(&mut guard, at(12), source(1), 4, 1));
        assert_eq!(
            (row.reason, row.failures, row.step),
            (BanReason::Credentials, 5, 1)
        );
        assert_eq!(
            (row.users.as_slice(), row.first_seen),
            (["100".to_owned()].as_slice(), at(10).unix)
        );
        assert_eq!(
            (row.since, row.until),
            (at(12).unix, at(12 + 4 * 3600).unix)
        );
        assert!(guard.is_banned(at(12), source(1)));
        assert_eq!(
            guard.admit(at(13), source(1), false, true),
            Admission::Drop,
            "on a stream too"
        );
        assert_eq!(
            admit(&mut guard, at(13), source(2)),
            Admission::Admit(Standing::Unproven)
        );
        assert_eq!((guard.dropped(), guard.unread()), (1, 1));
        let end = 12 + 4 * 3600;
        assert_eq!(guard.next_deadline(), Some(at(end).mono));
        assert_eq!(guard.expire(at(end - 1)), None);
        assert!(
            !guard.is_banned(at(end), source(1)),
            "on time, expired or not"
        );
        assert_eq!(guard.expire(at(end)), Some(source(1)));
        assert_eq!((guard.expire(at(end)), guard.next_deadline()), (None, None));
        assert_eq!(
            fail(&mut guard, at(end), source(1), 100, 4),
            Charged::Counted { failures: 4 },
            "anew"
        );
    }

    #[test]
    fn slow_failures_ban_at_thirty_in_a_day() {
        let mut guard = guard_of("");
        for n in 0..29 {
            assert_eq!(
                fail(&mut guard, at(n * 2_000), source(1), n, 1),
                Charged::Counted { failures: 1 }
            );
        }
        assert_eq!(
            banned(fail(&mut guard, at(29 * 2_000), source(1), 29, 1)).failures,
            30
        );
        let mut guard = guard_of("");
        for n in 0..200 {
            let charged = fail(&mut guard, at(n * 3_000), source(1), n, 1);
            assert_eq!(charged, Charged::Counted { failures: 1 }, "28 a day");
        }
    }

    #[test]
    fn each_repetition_doubles_and_a_clean_week_forgets_one() {
        let mut guard = guard_of("");
        let mut now = 100;
        for (n, hours) in [4, 8, 16, 32, 64, 128, 168, 168].into_iter().enumerate() {
            let row = banned(fail(&mut guard, at(now), source(1), n as u64 * 100, 5));
            assert_eq!(
                row.until.since(row.since),
                Duration::from_secs(hours * 3600),
                "{n}"
            );
            now += hours * 3600;
            assert_eq!(guard.expire(at(now)), Some(source(1)));
        }
        now += 6 * 7 * DAY_S + 1;
        let row = banned(fail(&mut guard, at(now), source(1), 5_000, 5));
        assert_eq!(
            (row.step, row.until.since(row.since)),
            (3, Duration::from_secs(16 * 3600)),
            "8 - 6 weeks"
        );
    }

    #[test]
    fn bans_come_back_after_a_restart() {
        let mut before = guard_of("");
        let row = banned(fail(&mut before, at(10), source(1), 0, 5));
        let ended = BanRow {
            source: source(2),
            until: at(20).unix,
            step: 3,
            ..row.clone()
        };
        let long_ago = BanRow {
            source: source(3),
            until: UnixTime::from_millis(0),
            step: 3,
            ..row.clone()
        };
        // The monotonic clock of the new process begins anew.
        let restarted = Now {
            mono: Instant::from_micros(5),
            unix: at(3_600).unix,
        };
        let rows = vec![row.clone(), ended, long_ago];
        let mut guard = Guard::new(restarted, &config(), &[8; 32], rows, Vec::new());
        assert_eq!(guard.ban_count(), 1);
        assert!(guard.is_banned(restarted, source(1)));
        let left = row.until.since(restarted.unix);
        assert_eq!(guard.next_deadline(), Some(restarted.mono.plus(left)));
        let item = guard.bans(restarted, None, 10).items.remove(0);
        assert_eq!((item.failures, item.until.unwrap().0), (5, row.until));
        let again = banned(fail(&mut guard, restarted, source(2), 0, 5));
        assert_eq!(
            (again.step, again.until.since(again.since)),
            (4, Duration::from_secs(32 * 3600))
        );
        let first = banned(fail(&mut guard, restarted, source(3), 0, 5));
        assert_eq!(first.step, 1, "clean for decades");
        // A clock that is decades behind does not make the ban longer than it was.
        let behind = Now {
            mono: Instant::from_micros(5),
            unix: UnixTime::from_millis(0),
        };
        let guard = Guard::new(behind, &config(), &[8; 32], vec![row], Vec::new());
        assert_eq!(
            guard.next_deadline(),
            Some(behind.mono.plus(Duration::from_secs(4 * 3600)))
        );
    }

    #[test]
    fn known_sources_are_delayed_and_never_banned() {
        let mut guard = guard_of("");
        fail(&mut guard, at(1), source(1), 0, 4);
        assert!(guard.succeeded(at(2), source(1), b"101"), "news");
        assert!(!guard.succeeded(at(3_601), source(1), b"101"));
        assert!(
            guard.succeeded(at(3_602), source(1), b"101"),
            "an hour later"
        );
        let mut now = 4_000;
        for (n, seconds) in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
            .into_iter()
            .enumerate()
        {
            assert_eq!(
                fail(&mut guard, at(now), source(1), 1_000 + n as u64, 1),
                Charged::Delayed { seconds }
            );
            assert_eq!(
                fail(&mut guard, at(now), source(1), 1_000 + n as u64, 1),
                Charged::Repeated
            );
            assert!(guard.is_delayed(at(now), source(1), b"100"));
            assert!(!guard.is_delayed(at(now), source(1), b"101"));
            assert_eq!(
                admit(&mut guard, at(now), source(1)),
                Admission::Admit(Standing::Known)
            );
            now += u64::from(seconds);
        }
        guard.succeeded(at(now), source(1), b"100");
        assert!(!guard.is_delayed(at(now), source(1), b"100"));
        assert_eq!(guard.ban_count(), 0);
        let later = now + 30 * DAY_S;
        assert_eq!(
            admit(&mut guard, at(later - 1), source(1)),
            Admission::Admit(Standing::Known)
        );
        assert_eq!(
            admit(&mut guard, at(later), source(1)),
            Admission::Admit(Standing::Unproven)
        );
        banned(fail(&mut guard, at(later), source(1), 9_000, 5));
    }

    #[test]
    fn known_sources_come_back_after_a_restart() {
        let known = vec![(source(1), at(0).unix), (source(2), at(29 * DAY_S).unix)];
        let now = Now {
            mono: Instant::from_micros(9),
            unix: at(30 * DAY_S).unix,
        };
        let mut guard = Guard::new(now, &config(), &[7; 32], Vec::new(), known);
        assert_eq!(
            admit(&mut guard, now, source(1)),
            Admission::Admit(Standing::Unproven)
        );
        assert_eq!(
            admit(&mut guard, now, source(2)),
            Admission::Admit(Standing::Known)
        );
        let jumped = Now {
            unix: at(9_000 * DAY_S).unix,
            ..now
        };
        assert_eq!(
            admit(&mut guard, jumped, source(2)),
            Admission::Admit(Standing::Known),
            "clock jump"
        );
        assert!(guard.succeeded(now, source(2), b"100"));
    }

    #[test]
    fn rates_of_the_proven_and_the_known() {
        let mut guard = guard_of("known_rate = 50\nallow = 192.0.2.3");
        guard.succeeded(at(1), source(1), b"100");
        for (source, who, stream, standing, expected) in [
            (source(1), false, false, Standing::Known, 50),
            (source(2), false, true, Standing::Proven, 20),
            (source(3), false, false, Standing::Exempt, 50),
            (source(4), true, false, Standing::Exempt, 50),
        ] {
            let admitted = (0..200)
                .filter(|_| guard.admit(at(5), source, who, stream) == Admission::Admit(standing))
                .count();
            assert_eq!(admitted, expected, "{standing:?}");
        }
    }

    #[test]
    fn what_is_forged_in_a_peers_name_leaves_room_for_its_own() {
        let mut guard = guard_of("known_rate = 40");
        let (trunk, now) = (source(4), at(5));
        let excess = Admission::Excess(Standing::Exempt);
        let flood = (0..200).filter(|_| guard.admit(now, trunk, true, false) == excess);
        assert_eq!(flood.count(), 160);
        let dropped = guard.dropped();
        let mut count = |now, answering, branch: &dyn Fn(u32) -> [u8; 4]| {
            (0..200)
                .filter(|number| {
                    let branch = branch(*number);
                    assert_eq!(guard.admit(now, trunk, true, false), excess);
                    guard.admit_excess(now, trunk, Standing::Exempt, answering, Some(&branch))
                        == Admission::Admit(Standing::Exempt)
                })
                .count()
        };
        assert_eq!(count(now, true, &u32::to_be_bytes), 40, "answers to us");
        assert_eq!(
            count(now, false, &|_| *b"same"),
            0,
            "copies that come too soon"
        );
        assert_eq!(count(now, false, &u32::to_le_bytes), 0, "always another");
        assert!(guard.dropped() > dropped);
        // Half a second later it is the flood again that uses up the rate, and the retransmissions get through.
        let later = Now {
            mono: now.mono.plus(Duration::from_millis(500)),
            ..now
        };
        let flood = (0..200).filter(|_| guard.admit(later, trunk, true, false) == excess);
        assert_eq!(flood.count(), 180);
        let mut again = || {
            assert_eq!(guard.admit(later, trunk, true, false), excess);
            guard.admit_excess(later, trunk, Standing::Exempt, false, Some(b"same"))
        };
        assert_eq!(again(), Admission::Admit(Standing::Exempt));
        assert_ne!(
            again(),
            Admission::Admit(Standing::Exempt),
            "once in 400 ms"
        );
        let own = guard.admit(later, trunk, true, true);
        assert_eq!(
            own,
            Admission::Admit(Standing::Exempt),
            "a connection cannot be forged"
        );
    }

    #[test]
    fn a_nonce_of_its_own_helps_a_known_source_that_is_forged() {
        let mut guard = guard_of("known_rate = 40");
        guard.succeeded(at(1), source(1), b"100");
        let mut kinds = (0..200).map(|number: u32| match admit(&mut guard, at(5), source(1)) {
            Admission::Excess(standing) => {
                let branch = number.to_be_bytes();
                guard.admit_excess(at(5), source(1), standing, false, Some(&branch))
            }
            other => other,
        });
        assert!(
            kinds
                .by_ref()
                .take(40)
                .all(|kind| kind == Admission::Admit(Standing::Known))
        );
        assert_eq!(kinds.filter(|kind| *kind == Admission::Peek).count(), 20);
        assert_eq!(
            guard.prove(at(5), source(1)),
            Admission::Admit(Standing::Proven)
        );
    }

    #[test]
    fn over_budget_is_peeked_at_and_a_fresh_nonce_lets_in() {
        let mut guard = guard_of("");
        let kinds: Vec<_> = (0..40)
            .map(|_| admit(&mut guard, at(1), source(1)))
            .collect();
        assert!(
            kinds[..10]
                .iter()
                .all(|kind| *kind == Admission::Admit(Standing::Unproven))
        );
        assert!(kinds[10..30].iter().all(|kind| *kind == Admission::Peek));
        assert!(kinds[30..].iter().all(|kind| *kind == Admission::Drop));
        assert_eq!(guard.dropped(), 30);
        let proven = (0..30)
            .filter(|_| guard.prove(at(1), source(1)) != Admission::Drop)
            .count();
        assert_eq!(proven, 20);
        assert_eq!(guard.dropped(), 10, "those that got in were not dropped");
        banned(fail(&mut guard, at(2), source(1), 0, 5));
        assert_eq!(
            admit(&mut guard, at(3), source(1)),
            Admission::Drop,
            "the banned are not peeked at"
        );
    }

    #[test]
    fn a_flood_of_forged_sources_gets_unproven_total_and_few_peeks() {
        let mut guard = guard_of("");
        let (mut answered, mut peeked) = (0, 0);
        for n in 0..100_000 {
            match admit(&mut guard, at(1), source(n)) {
                Admission::Admit(_) => {
                    answered += u32::from(guard.may_answer(at(1), source(n), 400, 500))
                }
                Admission::Crowded => {
                    let branch = n.to_be_bytes();
                    let admission = guard.admit_repeated(at(1), source(n), Some(&branch));
                    peeked += u32::from(admission == Admission::Peek);
                }
                other => panic!("{other:?}: each is within its own budget"),
            }
        }
        assert_eq!((answered, peeked), (750, 2_000));
        // Half a second later: what came back goes to whoever comes first, what was kept to those that come again.
        let (now, mut first, mut again) = (at_ms(1_500), 0, 0);
        for n in 1_000..3_000u32 {
            let admission = admit(&mut guard, now, source(n));
            if admission == Admission::Crowded {
                let admission = guard.admit_repeated(now, source(n), Some(&n.to_be_bytes()));
                if admission == Admission::Admit(Standing::Unproven) {
                    again += u32::from(guard.may_answer(now, source(n), 400, 500));
                }
            } else {
                first += u32::from(guard.may_answer(now, source(n), 400, 500));
            }
        }
        assert_eq!((first, again), (500, 250));
        assert_eq!(guard.dropped(), 99_250 + 1_250);
        guard.succeeded(at(1), source(5), b"100");
        assert_eq!(
            admit(&mut guard, at(1), source(5)),
            Admission::Admit(Standing::Known)
        );
    }

    #[test]
    fn deny_allow_and_manual_bans() {
        let mut guard = guard_of("allow = 192.0.2.1, 198.51.100.0/24\ndeny = 203.0.113.0/24");
        let denied = "203.0.113.9".parse().unwrap();
        assert_eq!(guard.admit(at(1), denied, true, true), Admission::Drop);
        assert!(guard.is_banned(at(1), denied));
        assert!(
            guard
                .ban(at(1), source(1), None)
                .unwrap_err()
                .contains("allow")
        );
        assert_eq!(
            fail(&mut guard, at(1), source(1), 10, 9),
            Charged::Delayed { seconds: 256 }
        );
        guard.succeeded(at(1), source(2), b"100");
        let row = guard
            .ban(at(2), source(2), Some(Duration::from_secs(60)))
            .unwrap();
        assert_eq!(
            (row.reason, row.until, row.step),
            (BanReason::Manual, at(62).unix, 0)
        );
        assert_eq!(
            admit(&mut guard, at(3), source(2)),
            Admission::Drop,
            "known or not"
        );
        assert_eq!(
            guard.ban(at(3), source(3), None).unwrap().until,
            at(3 + 4 * 3600).unix
        );
        let page = guard.bans(at(4), None, 2);
        let sources: Vec<_> = page.items.iter().map(|ban| ban.source.as_str()).collect();
        assert_eq!(sources, ["192.0.2.3", "192.0.2.2"], "newest first");
        assert_eq!(page.items[1].discarded_estimated, 1);
        let rest = guard.bans(at(4), page.next.as_deref(), 2);
        assert_eq!((rest.items.len(), rest.next), (1, None));
        let deny = &rest.items[0];
        assert_eq!(
            (deny.source.as_str(), deny.reason),
            ("203.0.113.0/24", BanReason::Deny)
        );
        assert_eq!((deny.discarded_estimated, deny.until), (1, None));
        assert_eq!(
            guard.still_banned(at(5), denied).unwrap(),
            "203.0.113.9 is in deny = 203.0.113.0/24"
        );
        assert_eq!(guard.still_banned(at(5), source(2)), None);
        assert!(guard.unban(at(5), source(2)));
        assert!(!guard.unban(at(5), source(2)));
        assert_eq!(
            admit(&mut guard, at(5), source(2)),
            Admission::Admit(Standing::Known)
        );
        // A reload that allows a banned source ends its ban.
        guard.reload(at(6), &config_of("allow = 192.0.2.3"));
        assert_eq!(
            admit(&mut guard, at(6), source(3)),
            Admission::Admit(Standing::Exempt)
        );
        assert_eq!(guard.expire(at(6)), Some(source(3)));
        assert_eq!(guard.ban_count(), 0);
    }

    #[test]
    fn observe_says_and_does_not_do() {
        let mut guard = guard_of("mode = observe\ndeny = 203.0.113.9");
        banned(fail(&mut guard, at(1), source(1), 0, 5));
        assert!(guard.is_observing() && !guard.is_banned(at(1), source(1)));
        assert_eq!(guard.bans(at(1), None, 10).items.len(), 2);
        for n in 0..100 {
            assert!(
                matches!(admit(&mut guard, at(1), source(1)), Admission::Admit(_)),
                "{n}"
            );
            assert!(guard.may_answer(at(1), source(1), 1, 5_000));
        }
        assert_eq!(
            guard.admit(at(1), "203.0.113.9".parse().unwrap(), false, false),
            Admission::Admit(Standing::Unproven)
        );
        assert_eq!(guard.dropped(), 0);
        assert_eq!(
            guard.would_drop(),
            200,
            "101 packets, and all answers but the first"
        );
        assert!(
            matches!(
                fail(&mut guard, at(2), source(1), 50, 5),
                Charged::Counted { .. }
            ),
            "banned once"
        );
        guard.reload(at(3), &config());
        assert!(
            !guard.is_banned(at(3), source(1)),
            "what was only observed is not enforced"
        );
        assert_eq!(guard.expire(at(3)), Some(source(1)));
    }

    #[test]
    fn off_does_nothing() {
        let mut guard = guard_of("mode = off\ndeny = 192.0.2.1");
        for n in 0..100 {
            assert_eq!(
                admit(&mut guard, at(1), source(1)),
                Admission::Admit(Standing::Known)
            );
            assert!(!matches!(
                fail(&mut guard, at(1), source(1), n, 1),
                Charged::Banned(_)
            ));
            assert!(guard.may_answer(at(1), source(1), 1, 5_000));
        }
        assert!(guard.ban(at(1), source(1), None).is_err());
        assert!(!guard.is_banned(at(1), source(1)));
    }

    #[test]
    fn pages_show_each_ban_once() {
        let mut guard = guard_of("deny = 203.0.113.0/24, 198.51.100.1");
        for n in 0..50 {
            guard.ban(at(u64::from(n / 7)), source(n), None).unwrap();
        }
        for limit in [1, 3, 7, 52, 100] {
            let (mut seen, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = guard.bans(at(9), after.as_deref(), limit);
                assert!(page.items.len() <= limit);
                seen.extend(page.items.iter().map(|ban| ban.source.clone()));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen.len(), 52);
            assert_eq!(
                seen.iter().collect::<std::collections::BTreeSet<_>>().len(),
                52
            );
        }
        assert_eq!(guard.bans(at(9), Some("nonsense"), 5).items.len(), 5);
    }

    proptest! {
        /// Forged or not: nobody is banned but by failures of proven sources, and a known source never is.
        #[test]
        fn only_failures_ban(steps in proptest::collection::vec((0u8..5, 0u32..4, 0u64..30_000, 0u64..50), 1..300)) {
            let mut guard = guard_of("");
            let mut now = 1_000;
            let mut failures = [0; 4];
            let mut known = [false; 4];
            for (step, n, pause, fingerprint) in steps {
                now += pause;
                let now = at_ms(now);
                let n_usize = n as usize;
                match step {
                    0 | 1 => { admit(&mut guard, now, source(n)); }
                    2 => { guard.prove(now, source(n)); }
                    3 => {
                        failures[n_usize] += 1;
                        guard.charge(now, source(n), |_| false, Offence::Credentials, b"100", fingerprint);
                    }
                    _ => {
                        if !guard.is_banned(now, source(n)) {
                            guard.succeeded(now, source(n), b"100");
                            known[n_usize] = true;
                        }
                    }
                }
                for probe in 0..4u32 {
                    if guard.is_banned(now, source(probe)) {
                        prop_assert!(failures[probe as usize] >= 5 && !known[probe as usize]);
                    }
                }
            }
        }
    }
}
