//! What must hold for honest phones at the end of any simulation, whatever its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::phone::{Outcome, Phone};
use super::world::World;
use crate::endpoint::Census;
use crate::limits::{BRANCHES_MAX, DESTINATIONS_MAX, LETTERS_MAX, TRANSACTIONS_PER_CALL};
use crate::source::Source;
use crate::store::CallRecord;
use crate::time::{Instant, UnixTime};

/// No source of an honest phone was banned at any time.
///
/// # Errors
/// Which one was.
pub fn nobody_honest_is_banned(world: &World, honest: &[Phone]) -> Result<(), String> {
    let sources: BTreeSet<Source> = (honest.iter())
        .map(|phone| Source::of(phone.address.ip()))
        .collect();
    match world.banned.intersection(&sources).next() {
        Some(source) => Err(format!("an honest source was banned: {source}")),
        None => Ok(()),
    }
}

/// Nobody was told of a missing ACK.
///
/// # Errors
/// Who was.
pub fn nobody_is_accused(honest: &[Phone]) -> Result<(), String> {
    match honest.iter().find(|phone| phone.accused) {
        Some(phone) => Err(format!(
            "the phone at {} was told of a missing ACK",
            phone.address
        )),
        None => Ok(()),
    }
}

/// Every caller knows how his call went, and the records agree: one of each call, kept once while it was up if it was
/// answered, and once when it was over, with all that it must say. Of a call whose caller got no final response there is
/// one record at most.
///
/// # Errors
/// The first thing that is not so.
pub fn every_call_has_its_record(world: &World, honest: &[Phone]) -> Result<(), String> {
    let mut by_call_id: BTreeMap<&str, Vec<&(u32, u32, CallRecord)>> = BTreeMap::new();
    // A call that comes of a transfer is none that anybody began by an INVITE.
    let begun = (world.records.values()).filter(|kept| kept.2.related.is_none());
    for kept in begun {
        let of_call = by_call_id.entry(&kept.2.caller_call_id).or_default();
        of_call.push(kept);
    }
    for phone in honest {
        for (call_id, outcome) in &phone.outcomes {
            let records = by_call_id
                .get(call_id.as_str())
                .map_or(&[][..], Vec::as_slice);
            let is_well = match (outcome, records) {
                (Outcome::Final(200), [(1, 1, record)]) => record.disposition == "answered",
                // Cancelled before the challenge came back: nobody was called.
                (Outcome::Final(401), []) => true,
                (Outcome::Final(status), [(0, 1, record)]) => record.status == Some(*status),
                (Outcome::Cut | Outcome::Timeout, [] | [(_, 1, _)]) => true,
                _ => false,
            };
            if !is_well {
                return Err(format!(
                    "call {call_id} of {}: {outcome:?}, records {records:?}",
                    phone.address
                ));
            }
        }
    }
    for (up, over, record) in world.records.values() {
        let was_answered = record.disposition == "answered";
        let is_whole = record.end.is_some()
            && record.status.is_some()
            && record.ended_by.is_some()
            && record.duration_ms.is_some()
            && record.talk_ms.is_some()
            && record.answer.is_some() == was_answered
            && record.callee_call_id.is_some() == was_answered;
        if *over != 1 || *up != u32::from(was_answered) || !is_whole {
            return Err(format!("kept {up} times up, {over} times over: {record:?}"));
        }
    }
    Ok(())
}

/// What a server that nobody has spoken to for long must not hold: a call, a transaction, a binding, a connection, a timer,
/// a count. Nothing that it wanted to send was dropped.
///
/// # Errors
/// What there is.
pub fn nothing_is_left(world: &World) -> Result<(), String> {
    let census = world.endpoint.census();
    let expected = Census {
        bans: census.bans,
        destinations: census.destinations,
        letters: census.letters,
        looks: census.looks,
        // The configuration's own.
        names_known: census.names_known,
        ..Census::default()
    };
    if census == expected {
        Ok(())
    } else {
        Err(format!("after silence there is left {census:?}"))
    }
}

/// No table is larger than it may be, and nothing that was to be sent was dropped.
///
/// # Errors
/// What there is.
pub fn tables_are_bounded(world: &World, calls_max: usize) -> Result<(), String> {
    let census = world.endpoint.census();
    // One caller and so many branches are counted in a call, and for each of these who answers for it.
    let counted_max = census.calls_live * (1 + 2 * BRANCHES_MAX);
    let is_well = census.calls_live <= calls_max
        && census.counted <= counted_max as u64
        && census.transactions_live <= calls_max * TRANSACTIONS_PER_CALL + 4_096
        && census.destinations <= DESTINATIONS_MAX
        && census.letters <= LETTERS_MAX
        // Media is relayed for calls only.
        && (census.has_calls || (census.media == 0 && world.media_ports().len() == 0))
        && census.misplaced == 0
        && census.outputs_dropped == 0;
    if is_well {
        Ok(())
    } else {
        Err(format!("tables out of bounds: {census:?}"))
    }
}

/// How long a phone may believe in a call that the server has ended: it waits 64·T1 for an ACK and repeats its BYE for as
/// long; then the network's delays.
const HALF_OPEN_MAX: Duration = Duration::from_secs(70);
/// Who was cut off so shortly before may not have been reached.
const SHAKEN: Duration = Duration::from_secs(40);

/// No phone is in a call, or rings for one, that the server has forgotten: both legs end. `shaken`: when each phone was cut
/// off last; since then, and shortly before, it may have missed the end. `rings_max`: how long the server lets a phone
/// ring at most; `None`: it may have missed the CANCEL.
///
/// # Errors
/// Who.
pub fn nobody_is_half_open(
    world: &World,
    phones: &[Phone],
    shaken: &[Option<Instant>],
    rings_max: Option<Duration>,
) -> Result<(), String> {
    let now = world.now();
    // Since when each Call-ID's call is over; `None`: it is not.
    let mut ended: BTreeMap<&[u8], Option<UnixTime>> = BTreeMap::new();
    for (_, _, record) in world.records.values() {
        let callee = record.callee_call_id.iter();
        for call_id in callee.chain([&record.caller_call_id]) {
            // A phone that was transferred is in several calls one after the other.
            let end = ended.entry(call_id.as_bytes()).or_insert(record.end);
            *end = end.zip(record.end).map(|(one, other)| one.max(other));
        }
    }
    for (phone, shaken) in phones.iter().zip(shaken) {
        for open in phone.open_calls().filter(|_| !phone.is_off) {
            let open_for = now.mono.since(open.since);
            let forgotten_for = match ended.get(open.call_id) {
                _ if !open.is_up => rings_max.map(|most| open_for.saturating_sub(most)),
                Some(end) => end.map(|end| now.unix.since(end).min(open_for)),
                // No call was answered by it.
                None => Some(open_for),
            };
            let Some(forgotten_for) = forgotten_for else {
                continue;
            };
            // What ends a call that rings may have been sent as soon as it rang.
            let missed_for = if open.is_up { forgotten_for } else { open_for };
            let was_shaken = shaken.is_some_and(|at| now.mono.since(at) < missed_for + SHAKEN);
            if forgotten_for > HALF_OPEN_MAX && !was_shaken {
                return Err(format!(
                    "the phone {} at {} is left in a call for {forgotten_for:?}: {}, is up: {}",
                    phone.user,
                    phone.address,
                    String::from_utf8_lossy(open.call_id),
                    open.is_up
                ));
            }
        }
    }
    Ok(())
}

/// No honest phone's request was left without a final response, no 2xx of one without its ACK.
///
/// # Errors
/// Whose.
pub fn nothing_honest_is_lost(honest: &[Phone]) -> Result<(), String> {
    match honest.iter().find(|phone| !phone.lost.is_empty()) {
        Some(phone) => Err(format!(
            "the phone {} at {} lost {:?}",
            phone.user, phone.address, phone.lost
        )),
        None => Ok(()),
    }
}

/// The same for phones that are cut off now and then: a final response to whatever they asked is missing only to who was
/// cut off while waiting for it.
///
/// # Errors
/// Whose.
pub fn every_request_is_answered(
    phones: &[Phone],
    shaken: &[Option<Instant>],
) -> Result<(), String> {
    for (phone, shaken) in phones.iter().zip(shaken) {
        let missing = phone.lost.iter().filter(|lost| !lost.is_relayed);
        for lost in missing {
            if shaken.is_none_or(|at| lost.at.since(at) > SHAKEN && at < lost.at) {
                return Err(format!(
                    "the phone {} at {} never got {lost:?}",
                    phone.user, phone.address
                ));
            }
        }
        let timeout = (phone.outcomes.iter()).find(|(_, outcome)| **outcome == Outcome::Timeout);
        if let Some((call_id, _)) = timeout.filter(|_| shaken.is_none()) {
            return Err(format!(
                "the phone {} at {} got no answer to the INVITE of {call_id}",
                phone.user, phone.address
            ));
        }
    }
    Ok(())
}
