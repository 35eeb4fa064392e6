//! What must hold when a round has settled, when it is over, and when all is.

use super::*;

impl Races {
    /// Whether a phone was cut off in this round: it may have missed whatever was said to it, and said what nobody heard.
    fn is_shaken_now(&self, index: usize) -> bool {
        let begin = self.round.begin;
        self.round.is_restarted || self.shaken[index].is_some_and(|at| at >= begin)
    }

    /// Nothing is under way any more: who is in a call knows it, and nobody else does.
    pub(super) fn check_settled(&mut self) -> Result<(), String> {
        let Fleet { world, phones, .. } = &self.fleet;
        let census = world.endpoint.census();
        let up = (world.records.values())
            .filter(|(_, over, _)| *over == 0)
            .count();
        for clash in &self.round.clashes {
            let index = CLASHES.iter().position(|own| own == clash);
            let count = &mut self.summary.clashes[index.unwrap_or_default()];
            *count = (count.0 + 1, count.1 + usize::from(up > 0));
        }
        let excused = |index| self.is_shaken_now(index);
        // Whoever was cut off may not have heard that he hangs up alone.
        let is_anybody_shaken = (0..phones.len()).any(excused);
        invariants::tables_are_bounded(world, CALLS_MAX)?;
        invariants::nobody_rings(phones, excused)?;
        if census.calls_live != up {
            return Err(format!("{up} records of calls that are up, but {census:?}"));
        }
        if !is_anybody_shaken {
            invariants::both_sides_agree(world, phones, excused)?;
        }
        Ok(())
    }

    /// The server has stopped: nobody is in a call.
    pub(super) fn check_stopped(&self) -> Result<(), String> {
        let world = &self.fleet.world;
        let up = (world.records.values()).find(|(_, over, _)| *over == 0);
        match up {
            Some((_, _, record)) => Err(format!("stopped, but there is {record:?}")),
            None => Ok(()),
        }
    }

    /// Everybody has hung up.
    pub(super) fn check_over(&mut self) -> Result<(), String> {
        let Fleet { world, phones, .. } = &self.fleet;
        let is_restarted = self.round.is_restarted;
        let census = world.endpoint.census();
        if census.has_calls || census.counted + census.moved_legs as u64 + census.pages as u64 > 0 {
            return Err(format!("calls that do not end: {census:?}"));
        }
        if census.media > 0 || world.media_ports().len() > 0 {
            return Err(format!("relays without calls: {census:?}"));
        }
        let begin = self.round.begin;
        let excused = |index| self.is_shaken_now(index);
        for (index, phone) in phones.iter().enumerate() {
            if !phone.is_idle() && !excused(index) || phone.is_in_call() && !phone.is_off {
                let business = phone.business();
                return Err(format!("the phone at {}: {business}", phone.address));
            }
        }
        if !is_restarted {
            invariants::every_call_has_its_record(world, phones)?;
            invariants::every_invite_has_one_final_response(phones, excused)?;
        }
        let shaken: Vec<Option<Instant>> = (self.shaken.iter())
            .map(|at| at.filter(|at| *at >= begin))
            .collect();
        invariants::every_request_is_answered(phones, &shaken)?;
        invariants::records_agree_with_phones(world, phones, excused)?;
        invariants::nobody_honest_is_banned(world, phones)?;
        if (0..phones.len()).all(|index| !excused(index)) {
            invariants::nobody_is_accused(phones)?;
        }
        self.count();
        self.forget();
        Ok(())
    }

    fn count(&mut self) {
        let summary = &mut self.summary;
        let Fleet { world, phones, .. } = &self.fleet;
        for (_, _, record) in world.records.values() {
            summary.transfers += usize::from(record.related.is_some());
        }
        let events = world.events.iter();
        summary.pickups += events.filter(|event| event.name == "pickup").count();
        for phone in phones {
            summary.glares += phone.diary.glares as usize;
            summary.pracks += phone.diary.pracks as usize;
            for story in phone.diary.calls.values() {
                use crate::testing::phone::story::End;
                let is_answered = story.answered.is_some();
                let is_cancelled = story.has(End::Cancelled);
                summary.invites += usize::from(story.is_own);
                summary.answered += usize::from(story.is_own && is_answered);
                summary.cancelled.0 += usize::from(is_cancelled);
                summary.cancelled.1 += usize::from(is_cancelled && is_answered);
                let soon = |at: Instant| at.plus(Duration::from_secs(1));
                let is_late = |since: Instant| {
                    (story.ends.iter()).any(|(at, end)| *end == End::HeardBye && *at < soon(since))
                };
                let is_too_late = !story.is_own && story.answered.is_some_and(is_late);
                summary.too_late += usize::from(is_too_late);
            }
        }
    }

    /// The next round begins with nothing behind it.
    fn forget(&mut self) {
        let Fleet { world, phones, .. } = &mut self.fleet;
        world.records.clear();
        world.ended.clear();
        world.events.clear();
        for phone in phones {
            phone.diary = Default::default();
            phone.outcomes.clear();
            phone.lost.clear();
            phone.accused = false;
        }
    }

    /// Everybody has been silent for long.
    pub(super) fn check_silence(&self) -> Result<(), String> {
        let world = &self.fleet.world;
        invariants::nothing_is_left(world)?;
        let places = world.endpoint.lane_places(world.now(), PLACES_MAX);
        if places != self.places {
            return Err(format!("lanes have places left: {places:?}"));
        }
        Ok(())
    }
}
