//! What must hold, whatever happens to the server, its network and its machine. This is the whole list:
//!
//! | what | where | when |
//! | --- | --- | --- |
//! | every INVITE gets a final answer, every other request too | [`every_request_is_answered`] | calls are over |
//! | every answered call is exactly one record, and that is whole | [`every_answered_call_is_one_record`] | calls are over, on the disk |
//! | the same, and a record of every other call, where no process ended | [`invariants::every_call_has_its_record`] | calls are over |
//! | nobody is left in a call that the server has ended | [`nobody_is_left_in_a_call`] | at any time |
//! | no dialog, transaction, port, timer or count is left over | [`invariants::nothing_is_left`] | after silence |
//! | no table is beyond its bound, no output was dropped | [`invariants::tables_are_bounded`], [`tables_fit_the_office`] | at any time |
//! | an honest source is never banned, nor charged with anything | [`an_honest_source_is_not_banned`], [`an_honest_source_is_not_charged`] | at each ban and event |
//! | who guesses passwords is banned, or held up where honest phones have his address | [`a_cracker_is_banned`], [`a_neighbour_is_held_up`] | at each answer to him |
//! | a banned source gets nothing, over restarts too | [`a_banned_source_gets_nothing`] | at each datagram |
//! | nothing acknowledged over a second, and a sync, before a kill is lost | [`nothing_acknowledged_is_lost`], [`a_registration_lasts`] | at each end of a process |
//! | what was parsed was understood the same everywhere | [`all_read_the_same`] | at each datagram |
//!
//! What is excused is said at each of them: whoever had [`Troubles`] then may have missed what he was sent, whatever belongs to
//! a message that the network has corrupted may have gone wrong, and what was acknowledged in the last moment before a kill may
//! be lost.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::plan;
use crate::api::Event;
use crate::source::Source;
use crate::store::CallRecord;
use crate::store::pending::Pending;
use crate::testing::disk::{INTERRUPTED, Rows};
#[cfg(doc)]
use crate::testing::invariants;
use crate::testing::phone::story::{End, Story};
use crate::testing::phone::{Outcome, Phone};
use crate::testing::reader::{self, Reading};
use crate::testing::world::World;
use crate::time::Instant;

/// From the end of whoever was cut off until he has heard what he missed: 64·T1 and the network's delays.
const SHAKEN: Duration = Duration::from_secs(40);
/// How long an INVITE may be under way: a phone that hears nothing more cancels it after 150 s, and waits 64·T1 then.
const INVITE: Duration = Duration::from_secs(190);
/// How long a phone may believe in a call that the server has ended: it waits 64·T1 for an ACK and repeats its BYE for as
/// long; then the network's delays.
const HALF_OPEN_MAX: Duration = Duration::from_secs(70);
/// How much later than the server a phone may learn that it was answered.
const HEARD: Duration = Duration::from_secs(33);
/// `failures_max` in `failures_window`, as they are by default: whoever is told oftener that he is wrong should have been banned.
const FAILURES_MAX: (usize, Duration) = (5, Duration::from_secs(60));
/// So many in a day ban however slowly they come.
const FAILURES_A_DAY: usize = 30;
/// What the network may draw together.
const DELAYED: Duration = Duration::from_secs(6);
/// A neighbour is told at most so often: six times for each of the four names that he tries, after 1, 2, 4, 8 and 16 s.
const NEIGHBOUR_MAX: (usize, Duration) = (24, Duration::from_secs(37));

/// When somebody may have missed something.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Vec<(Instant, Instant, Option<usize>)>);

impl Troubles {
    /// `whose`: the phone; `None`: everybody's.
    pub fn add(&mut self, from: Instant, until: Instant, whose: Option<usize>) {
        self.0.push((from, until, whose));
    }

    /// Whether this phone had some within this time, or shortly before.
    fn has(&self, whose: usize, from: Instant, until: Instant) -> bool {
        self.0.iter().any(|(begin, end, who)| {
            who.is_none_or(|who| who == whose) && *begin <= until && end.plus(SHAKEN) >= from
        })
    }
}

/// A process that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// When.
    pub at: Instant,
    /// What was acknowledged until then must have been kept.
    pub sure: Instant,
}

/// What is known at the end.
pub struct Facts<'a> {
    /// The server.
    pub world: &'a World,
    /// All of them honest.
    pub phones: &'a [Phone],
    /// What they had.
    pub troubles: &'a Troubles,
    /// Processes that have ended.
    pub ends: &'a [Ended],
    /// Call-IDs of messages that were corrupted.
    pub tainted: &'a BTreeSet<Vec<u8>>,
    /// What did not hold and was excused.
    pub excuses: &'a RefCell<BTreeSet<String>>,
}

impl Facts<'_> {
    /// Something does not hold, and there is an excuse; it may be looked at again and again.
    pub fn excuse(&self, what: impl Into<String>) {
        self.excuses.borrow_mut().insert(what.into());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every INVITE has its final answer, and every other request that the server itself answers: but to whoever had troubles
/// while he waited.
///
/// # Errors
/// Whose has not.
pub fn every_request_is_answered(facts: &Facts<'_>) -> Result<(), String> {
    for (index, phone) in facts.phones.iter().enumerate() {
        for (call_id, outcome) in &phone.outcomes {
            let begun = phone.diary.calls.get(call_id.as_bytes());
            let begun = begun.map_or(Instant::default(), |story| story.begun);
            let is_excused = facts.tainted.contains(call_id.as_bytes())
                || facts.troubles.has(index, begun, begun.plus(INVITE));
            let is_well = match outcome {
                Outcome::Final(_) | Outcome::Cut => true,
                Outcome::Timeout if is_excused => {
                    facts.excuse(call_id);
                    true
                }
                Outcome::Timeout | Outcome::Pending => false,
            };
            if !is_well {
                let address = phone.address;
                return Err(format!(
                    "the INVITE of {call_id} from {address}: {outcome:?}"
                ));
            }
        }
        for lost in phone.lost.iter().filter(|lost| !lost.is_relayed) {
            let waited = match lost.what.contains("nvite(") {
                true => INVITE,
                false => SHAKEN,
            };
            let asked = lost
                .at
                .as_micros()
                .saturating_sub(waited.as_micros() as u64);
            let asked = Instant::from_micros(asked);
            if !facts.troubles.has(index, asked, lost.at) {
                return Err(format!("the phone at {} never got {lost:?}", phone.address));
            }
            facts.excuse(format!("{index} {lost:?}"));
        }
    }
    Ok(())
}

/// Whether a record says all that it must.
fn is_whole(record: &CallRecord) -> bool {
    let was_answered = record.disposition == "answered";
    let is_over = record.end.is_some()
        && record.status.is_some()
        && record.ended_by.is_some()
        && record.duration_ms.is_some()
        && record.talk_ms.is_some()
        && record.answer.is_some() == was_answered;
    record.disposition == INTERRUPTED && record.answer.is_some() || is_over
}

/// Whether a call had surely come to its end before the process ended that it began in.
fn was_over(facts: &Facts<'_>, phone: usize, story: &Story) -> bool {
    let last = facts.ends.iter().find(|end| end.at >= story.begun);
    let mut ends = story.ends.iter().filter_map(|(at, end)| {
        let is_over = matches!(end, End::SaidBye | End::HeardBye);
        is_over.then_some(*at)
    });
    last.is_some_and(|last| {
        ends.any(|at| {
            let heard = at.plus(HEARD);
            heard <= last.sure && !facts.troubles.has(phone, at, heard)
        })
    })
}

/// Every call that a phone was told is answered is exactly one record on the disk. Excused: what was answered so shortly before
/// the end of a process that it may not have been kept; and a caller whose INVITE has met two processes may have been answered
/// by both.
///
/// # Errors
/// Which is not.
pub fn every_answered_call_is_one_record(facts: &Facts<'_>, rows: &Rows) -> Result<(), String> {
    if let Some(record) = rows.records.values().find(|record| !is_whole(record)) {
        return Err(format!("a record that is not whole: {record:?}"));
    }
    let mut begun: BTreeMap<&str, Vec<&CallRecord>> = BTreeMap::new();
    let records = || rows.records.values().map(|record| &**record);
    // A call that comes of a transfer is none that anybody began by an INVITE.
    for record in records().filter(|record| record.related.is_none()) {
        begun
            .entry(&record.caller_call_id)
            .or_default()
            .push(record);
    }
    // Who takes what rings elsewhere is in its record.
    let taken: BTreeSet<&str> = records()
        .filter_map(|own| own.callee_call_id.as_deref())
        .collect();
    for (index, phone) in facts.phones.iter().enumerate() {
        for (call_id, outcome) in &phone.outcomes {
            let story = phone.diary.calls.get(call_id.as_bytes());
            let (Outcome::Final(200..=299), Some(story)) = (outcome, story) else {
                continue;
            };
            if taken.contains(call_id.as_str()) {
                continue;
            }
            let heard = story.answered.unwrap_or(story.begun);
            let may_be_lost = |end: &Ended| heard > end.sure && heard <= end.at.plus(HEARD);
            let is_excused =
                facts.tainted.contains(call_id.as_bytes()) || facts.ends.iter().any(may_be_lost);
            let is_torn = |end: &Ended| story.begun <= end.at && end.at <= heard;
            let most = 1 + facts.ends.iter().filter(|end| is_torn(end)).count();
            let own = begun.get(call_id.as_str()).map_or(&[][..], Vec::as_slice);
            let are_answered = own.iter().all(|record| record.answer.is_some());
            let is_code = |record: &&CallRecord| record.dialled.starts_with('*');
            let is_well = (1..=most).contains(&own.len())
                && (most > 1 || are_answered || own.iter().all(is_code));
            let is_interrupted = own.iter().any(|own| own.disposition == INTERRUPTED);
            let wrong = if !is_well {
                let address = phone.address;
                format!("the answered call {call_id} of {address}: records {own:?}")
            } else if is_interrupted && was_over(facts, index, story) {
                format!("interrupted when it was over: {own:?}")
            } else {
                continue;
            };
            if !is_excused {
                return Err(wrong);
            }
            facts.excuse(call_id);
        }
    }
    Ok(())
}

/// No phone is in a call, or rings for one, that the server has ended so long ago that both sides must know. Excused: who had
/// troubles since, and what the server may know by another Call-ID. `rings_max`: how long the server lets a phone ring.
///
/// # Errors
/// Who is.
pub fn nobody_is_left_in_a_call(facts: &Facts<'_>, rings_max: Duration) -> Result<(), String> {
    let now = facts.world.now();
    // Since when each Call-ID's call is over; `None`: it is not, or nobody knows.
    let mut ended: BTreeMap<&[u8], Option<Instant>> = BTreeMap::new();
    for (_, _, record) in facts.world.records.values() {
        let callee = record.callee_call_id.iter();
        let over_at = facts.world.over_at.get(&record.id).copied();
        for call_id in callee.chain([&record.caller_call_id]) {
            let end = over_at.filter(|_| !facts.tainted.contains(call_id.as_bytes()));
            // A phone that was transferred is in several calls one after the other.
            let known = ended.entry(call_id.as_bytes()).or_insert(end);
            *known = known.zip(end).map(|(one, other)| one.max(other));
        }
    }
    for (index, phone) in facts
        .phones
        .iter()
        .enumerate()
        .filter(|(_, phone)| !phone.is_off)
    {
        for open in phone.open_calls() {
            let open_for = now.mono.since(open.since);
            let forgotten_for = match ended.get(open.call_id) {
                _ if !open.is_up => Some(open_for.saturating_sub(rings_max)),
                Some(end) => end.map(|end| now.mono.since(end).min(open_for)),
                // No call was answered by it.
                None if facts.tainted.is_empty() => Some(open_for),
                None => None,
            };
            let Some(forgotten_for) = forgotten_for.filter(|time| *time > HALF_OPEN_MAX) else {
                continue;
            };
            // What ends a call that rings may have been sent as soon as it rang.
            let missed_for = if open.is_up { forgotten_for } else { open_for };
            let missed = now
                .mono
                .as_micros()
                .saturating_sub(missed_for.as_micros() as u64);
            let had_troubles = (facts.troubles).has(index, Instant::from_micros(missed), now.mono);
            if had_troubles || facts.tainted.contains(open.call_id) {
                facts.excuse(text(open.call_id));
            } else {
                return Err(format!(
                    "the phone {} at {} is left in a call for {forgotten_for:?}: {}, is up: {}",
                    phone.user,
                    phone.address,
                    text(open.call_id),
                    open.is_up
                ));
            }
        }
    }
    Ok(())
}

/// A server that is not right has an answered call twice.
pub fn double_a_record(rows: &mut Rows) {
    let answered = rows
        .records
        .values()
        .find(|record| record.disposition == "answered");
    if let Some(record) = answered.cloned() {
        let id = format!("{}-2", record.id);
        let again = CallRecord {
            id: id.clone(),
            ..(*record).clone()
        };
        rows.records.insert(id, Arc::new(again));
    }
}

/// No table has more in it than so few people can put there, and so many `mishaps` after which a phone is somewhere else.
///
/// # Errors
/// Which has.
pub fn tables_fit_the_office(facts: &Facts<'_>, mishaps: usize) -> Result<(), String> {
    let census = facts.world.endpoint.census();
    let places = facts.phones.len() + mishaps;
    let written = plan::MESSAGES as usize;
    let is_well = census.bindings <= places
        && census.streams <= places
        && census.subscriptions <= written
        && census.pages <= written
        && census.letters <= written;
    match is_well {
        true => Ok(()),
        false => Err(format!("more than {places} phones can do: {census:?}")),
    }
}

/// # Errors
/// It is.
pub fn an_honest_source_is_not_banned(
    honest: &BTreeSet<Source>,
    source: Source,
) -> Result<(), String> {
    match honest.contains(&source) {
        true => Err(format!("an honest source was banned: {source}")),
        false => Ok(()),
    }
}

/// Nothing that an honest source sends counts against it: a nonce that was used before, or before a restart, is no wrong
/// password. Excused, by whoever asks: while the network corrupts what it sends.
///
/// # Errors
/// What it was charged with.
pub fn an_honest_source_is_not_charged(
    honest: &BTreeSet<Source>,
    event: &Event,
) -> Result<(), String> {
    let is_charge = ["failure", "misconfigured", "ban"].contains(&event.name);
    match event.source {
        Some(source) if is_charge && honest.contains(&source) => {
            Err(format!("an honest source was charged: {event:?}"))
        }
        _ => Ok(()),
    }
}

/// Whether more than `most` of these are within a time, shorter by what the network's delay may draw together.
fn are_dense(times: &[Instant], most: usize, within: Duration) -> bool {
    let within = within.saturating_sub(DELAYED);
    (times.windows(most + 1)).any(|some| some[most].since(some[0]) < within)
}

/// `wrong`: when one source has got answers to wrong passwords from one process, in order.
///
/// # Errors
/// It still gets some.
pub fn a_cracker_is_banned(wrong: &[Instant], address: SocketAddr) -> Result<(), String> {
    let (most, within) = FAILURES_MAX;
    match wrong.len() > FAILURES_A_DAY || are_dense(wrong, most, within) {
        true => Err(format!(
            "{address} got {} answers to wrong passwords: it is not banned",
            wrong.len()
        )),
        false => Ok(()),
    }
}

/// The same for somebody behind a NAT with honest phones, whose address is never banned: each of the names that he tries must
/// wait 1, 2, 4 … s.
///
/// # Errors
/// He gets more answers than that.
pub fn a_neighbour_is_held_up(wrong: &[Instant], address: SocketAddr) -> Result<(), String> {
    match are_dense(wrong, NEIGHBOUR_MAX.0, NEIGHBOUR_MAX.1) {
        true => Err(format!(
            "the neighbour {address} got {} answers to wrong passwords: he is not held up",
            wrong.len()
        )),
        false => Ok(()),
    }
}

/// # Errors
/// It was to get something.
pub fn a_banned_source_gets_nothing(is_banned: bool, to: SocketAddr) -> Result<(), String> {
    match is_banned {
        true => Err(format!("something was sent to the banned {to}")),
        false => Ok(()),
    }
}

/// What leaves the server means to a reader who has never seen our parser what it means to us. Excused is the refusal of
/// something malformed, which repeats it.
///
/// # Errors
/// What is read differently.
pub fn all_read_the_same(bytes: &[u8]) -> Result<Option<Reading<'_>>, String> {
    if bytes.iter().all(|byte| b"\r\n\0".contains(byte)) {
        return Ok(None);
    }
    let sent = || format!("of\n{}", text(bytes));
    match reader::agree(bytes) {
        Ok(None) if bytes.starts_with(b"SIP/2.0 4") || bytes.starts_with(b"SIP/2.0 5") => Ok(None),
        Ok(None) => Err(format!(
            "the server would not read what it sent: {}",
            sent()
        )),
        Err(what) => Err(format!("read in two ways, {what} {}", sent())),
        Ok(reading) => Ok(reading),
    }
}

/// The first key of which what was to be kept is not what is there. `touched`: those that have changed since.
fn differs<'a, K: Ord, V>(
    sure: &'a BTreeMap<K, V>,
    found: &'a BTreeMap<K, V>,
    is_touched: impl Fn(&K) -> bool,
    is_same: impl Fn(&V, &V) -> bool,
) -> Option<(&'a K, Option<&'a V>, Option<&'a V>)> {
    let lost = (sure.iter())
        .filter(|(key, row)| !found.get(key).is_some_and(|own| is_same(row, own)))
        .map(|(key, row)| (key, Some(row), found.get(key)));
    let risen = (found.iter())
        .filter(|(key, _)| !sure.contains_key(key))
        .map(|(key, row)| (key, None, Some(row)));
    lost.chain(risen).find(|(key, _, _)| !is_touched(key))
}

/// What the server wanted kept, long enough before its process ended, is on the disk; and nothing that was gone is back.
/// Excused: times and CSeq number of a binding whose refresh was held back.
///
/// # Errors
/// What is not.
pub fn nothing_acknowledged_is_lost(
    sure: &Rows,
    touched: &Pending,
    found: &Rows,
) -> Result<(), String> {
    let mut lost = Vec::new();
    let mut add = |what: Option<String>| lost.extend(what);
    macro_rules! table {
        ($name:ident, $is_same:expr) => {
            add(differs(
                &sure.$name,
                &found.$name,
                |key| touched.$name.contains_key(key),
                $is_same,
            )
            .map(|(key, sure, found)| {
                format!(
                    "{} {key:?}: {sure:?} was kept, {found:?} is there",
                    stringify!($name)
                )
            }));
        };
    }
    table!(bindings, |one, other| {
        let mut as_found = one.row.clone();
        (as_found.cseq, as_found.since) = (other.row.cseq, other.row.since);
        as_found.expires = other.row.expires;
        as_found == other.row
    });
    table!(bans, |one, other| one == other);
    table!(known, |one, other| one <= other);
    table!(destinations, |one, other| one == other);
    table!(features, |one, other| one == other);
    table!(messages, |one, other| one == other);
    table!(records, |one, other| one == other);
    if touched.nonce_key.is_none() && sure.nonce_key != found.nonce_key {
        add(Some("the key of the nonces".to_owned()));
    }
    if touched.line_key.is_none() && sure.line_key != found.line_key {
        add(Some("the key of the lines' Contacts".to_owned()));
    }
    match lost.first() {
        None => Ok(()),
        Some(what) => Err(format!("not on the disk as it was kept: {what}")),
    }
}

/// What a phone was told is registered still is after a restart.
///
/// # Errors
/// It is not.
pub fn a_registration_lasts(
    user: &[u8],
    contact: &[u8],
    registrations: &[crate::api::Registration],
) -> Result<(), String> {
    let (user, contact) = (text(user), text(contact));
    let mut all = registrations.iter();
    match all.any(|own| own.user == user && own.contact == contact) {
        true => Ok(()),
        false => Err(format!(
            "{contact} of {user} is not registered after a restart"
        )),
    }
}
