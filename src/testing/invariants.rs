//! What must hold for honest phones at the end of any simulation, whatever its seed.

use std::collections::{BTreeMap, BTreeSet};

use super::phone::{Outcome, Phone};
use super::world::World;
use crate::source::Source;
use crate::store::CallRecord;

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

/// Every caller knows how his call went, and the records agree: one of each call, kept once while it was up if it was
/// answered, and once when it was over. Nobody was told of a missing ACK.
///
/// # Errors
/// The first thing that is not so.
pub fn every_call_has_its_record(world: &World, honest: &[Phone]) -> Result<(), String> {
    let mut by_call_id: BTreeMap<&str, Vec<&(u32, u32, CallRecord)>> = BTreeMap::new();
    for kept in world.records.values() {
        let of_call = by_call_id.entry(&kept.2.caller_call_id).or_default();
        of_call.push(kept);
    }
    for phone in honest {
        if phone.accused {
            return Err(format!(
                "the phone at {} was told of a missing ACK",
                phone.address
            ));
        }
        for (call_id, outcome) in &phone.outcomes {
            let records = by_call_id
                .get(call_id.as_str())
                .map_or(&[][..], Vec::as_slice);
            let is_well = match (outcome, records) {
                (Outcome::Final(200), [(1, 1, record)]) => record.disposition == "answered",
                (Outcome::Final(200), _) => false,
                // Cancelled before the challenge came back: nobody was called.
                (Outcome::Final(401), []) => true,
                (Outcome::Final(_), [(0 | 1, 1, _)]) => true,
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
        if *over != 1 || *up > 1 || (*up == 1) != (record.disposition == "answered") {
            return Err(format!("kept {up} times up, {over} times over: {record:?}"));
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
