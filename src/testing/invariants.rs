//! What must hold for honest phones at the end of any simulation, whatever its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::phone::story::{End, Story};
use super::phone::{Outcome, Phone};
use super::world::World;
use crate::endpoint::Census;
use crate::limits::{BRANCHES_MAX, DESTINATIONS_MAX, LETTERS_MAX, TRANSACTIONS_PER_CALL};
use crate::source::Source;
use crate::store::CallRecord;
use crate::time::{Instant, UnixTime};

/// What the store says of a call that was up when the power went.
const INTERRUPTED: &str = "interrupted";

/// How numbers begin that are dialled for something else than somebody.
const CODE: char = '*';

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
    let taken: BTreeSet<&str> = (world.records.values())
        .filter_map(|kept| kept.2.callee_call_id.as_deref())
        .collect();
    for phone in honest {
        for (call_id, outcome) in &phone.outcomes {
            // It has taken a call that rang elsewhere: that is the record.
            if taken.contains(call_id.as_str()) {
                continue;
            }
            let records = by_call_id
                .get(call_id.as_str())
                .map_or(&[][..], Vec::as_slice);
            let is_well = match (outcome, records) {
                (Outcome::Final(200), [(1, 1, record)]) => {
                    matches!(record.disposition, "answered" | INTERRUPTED)
                }
                // He was answered first and heard in the BYE that there is nothing to take (any more).
                (Outcome::Final(200), [(0, 1, record)]) => {
                    record.dialled.starts_with("*8")
                        && record.status.is_some_and(|status| status >= 400)
                }
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
        if record.disposition == INTERRUPTED && (*up, *over) == (1, 1) {
            continue;
        }
        let was_answered = record.disposition == "answered";
        let is_whole = record.end.is_some()
            && record.status.is_some()
            && record.ended_by.is_some()
            && record.duration_ms.is_some()
            && record.talk_ms.is_some()
            && record.answer.is_some() == was_answered
            // Who answers a code is nobody.
            && record.callee_call_id.is_some()
                == (was_answered && !record.dialled.starts_with(CODE));
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

/// Every INVITE of a phone got exactly one final response, however often that came. `is_excused`: who was cut off, and may
/// have missed it.
///
/// # Errors
/// Whose did not.
pub fn every_invite_has_one_final_response(
    phones: &[Phone],
    is_excused: impl Fn(usize) -> bool,
) -> Result<(), String> {
    for (index, phone) in phones.iter().enumerate() {
        for ((call_id, cseq), finals) in &phone.diary.finals {
            let is_well = finals.len() == 1 || finals.is_empty() && is_excused(index);
            if !is_well {
                return Err(format!(
                    "INVITE {cseq} of {} from {} got {finals:?}",
                    String::from_utf8_lossy(call_id),
                    phone.address
                ));
            }
        }
    }
    Ok(())
}

/// Server and phones agree about which calls are up: every call that is up for a phone is a leg of one that the server has,
/// and every such call is up at both its phones. So a group's call has one member. To be asked when all timers have run out.
///
/// # Errors
/// Which is not.
pub fn both_sides_agree(
    world: &World,
    phones: &[Phone],
    is_excused: impl Fn(usize) -> bool,
) -> Result<(), String> {
    let mut legs: BTreeMap<&[u8], &str> = BTreeMap::new();
    for (_, over, record) in world.records.values() {
        let callee = record.callee_call_id.as_ref();
        for call_id in callee.into_iter().chain([&record.caller_call_id]) {
            if *over == 0 && legs.insert(call_id.as_bytes(), &record.id).is_some() {
                return Err(format!("{call_id} is a leg of two calls: {record:?}"));
            }
        }
    }
    let ours = || (0..).zip(phones).filter(|(index, _)| !is_excused(*index));
    for (_, phone) in ours() {
        for open in phone.open_calls().filter(|open| open.is_up) {
            if !legs.contains_key(open.call_id) {
                let call_id = String::from_utf8_lossy(open.call_id);
                let address = phone.address;
                return Err(format!("{call_id} is up for {address}, not for the server"));
            }
        }
    }
    for (call_id, record) in legs {
        let of_leg = ours().find(|(_, phone)| phone.diary.calls.contains_key(call_id));
        let Some((_, phone)) = of_leg else { continue };
        let is_up = (phone.open_calls()).any(|open| open.is_up && open.call_id == call_id);
        if !is_up {
            let call_id = String::from_utf8_lossy(call_id);
            let address = phone.address;
            return Err(format!(
                "call {record} is up for the server, its leg {call_id} not for {address}"
            ));
        }
    }
    Ok(())
}

/// No phone rings although nothing rings at the server. To be asked when what ends a call has arrived everywhere.
///
/// # Errors
/// Which does.
pub fn nobody_rings(phones: &[Phone], is_excused: impl Fn(usize) -> bool) -> Result<(), String> {
    for (index, phone) in phones.iter().enumerate() {
        let ringing = phone.open_calls().find(|open| !open.is_up);
        if let Some(open) = ringing.filter(|_| !is_excused(index)) {
            let call_id = String::from_utf8_lossy(open.call_id);
            return Err(format!("{} rings for {call_id}", phone.address));
        }
    }
    Ok(())
}

/// How far the clocks of a record and of a phone may be apart: both are cut to milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// What a record says is what phones have seen: its times fit each other and lie between those of the phones, who answered
/// is who the record names, and whoever ended the call by the record did something to that end, unless `is_excused`: he
/// was cut off, which ends a call as well.
///
/// # Errors
/// Which record does not.
pub fn records_agree_with_phones(
    world: &World,
    phones: &[Phone],
    is_excused: impl Fn(usize) -> bool,
) -> Result<(), String> {
    let mut by_call_id: BTreeMap<&[u8], (usize, &Phone, &Story)> = BTreeMap::new();
    for (index, phone) in phones.iter().enumerate() {
        let stories = phone.diary.calls.iter();
        by_call_id.extend(stories.map(|(call_id, story)| (&**call_id, (index, phone, story))));
    }
    let now = world.now();
    let unix = |at: Instant| now.unix.as_millis() as i64 - now.mono.since(at).as_millis() as i64;
    for (_, _, record) in world.records.values() {
        let wrong = |what: &str| Err(format!("{what}: {record:?}"));
        let find = |call_id: &str| by_call_id.get(call_id.as_bytes()).copied();
        let Some(end) = record.end else { continue };
        let (start, answer) = (record.start, record.answer);
        let since = |from: UnixTime| end.since(from).as_millis() as u64;
        let is_about = |one: u64, other: u64| one.abs_diff(other) <= 1;
        let talk = answer.map_or(0, since);
        if start > end || answer.is_some_and(|answer| answer < start || answer > end) {
            return wrong("its times are not in order");
        }
        if !record
            .duration_ms
            .is_some_and(|own| is_about(own, since(start)))
            || !record.talk_ms.is_some_and(|own| is_about(own, talk))
        {
            return wrong("its durations are not its times");
        }
        let caller = find(&record.caller_call_id);
        let callee = (record.callee_call_id.as_deref()).and_then(find);
        if let (Some((_, phone, story)), Some(answer)) = (callee, answer) {
            let answered_by = record.answered_by.as_deref().unwrap_or_default();
            let is_local = record.through.is_none();
            if is_local && answered_by != phone.user {
                return wrong("somebody else has answered");
            }
            let slack = ROUNDING.as_millis() as i64;
            let answer = answer.as_millis() as i64;
            let early = story.answered.filter(|_| !story.is_own);
            if early.is_none_or(|at| answer + slack < unix(at)) && !story.is_own {
                return wrong("answered before anybody did");
            }
            // Who goes on in this call after a transfer had his answer in another.
            let heard = caller.and_then(|(_, _, story)| story.answered.filter(|_| story.is_own));
            if record.related.is_none() && heard.is_some_and(|at| answer > unix(at) + slack) {
                return wrong("answered after its caller knew");
            }
        }
        let has_left = |leg: Option<(usize, &Phone, &Story)>| {
            leg.is_none_or(|(index, _, story)| {
                let is_own = |end: &End| {
                    !matches!(end, End::HeardBye | End::HeardCancel | End::WasRefused(_))
                };
                is_excused(index) || story.ends.iter().any(|(_, end)| is_own(end))
            })
        };
        let is_refusal = |story: &Story| {
            let mut ends = story.ends.iter();
            let has_refused = ends.any(|(_, end)| matches!(end, End::Refused(_)));
            has_refused && !story.has(End::HeardCancel)
        };
        let has_refused = || by_call_id.values().any(|(_, _, story)| is_refusal(story));
        let is_wrong = match record.ended_by {
            Some("caller") => !has_left(caller),
            Some("callee") if answer.is_some() => !has_left(callee),
            Some("callee") => !has_refused(),
            _ => false,
        };
        if is_wrong {
            return wrong("whoever is said to have ended it has not");
        }
    }
    Ok(())
}
