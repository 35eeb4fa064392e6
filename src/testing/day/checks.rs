//! What must hold during a day and after it.

use super::setup::transport_of;
use super::*;
use crate::source::LineId;

/// 64·T1 (RFC 3261 §17.1.2.2): what a transaction without an answer takes.
const TIMER_F: Duration = Duration::from_secs(32);
/// The longest wait between two tries to register.
const BACK_OFF_MAX: Duration = Duration::from_secs(1_800);
/// The longest that a carrier asks for by Retry-After, and a little more.
const PUT_OFF_MAX: Duration = Duration::from_secs(330);
/// The most REGISTERs of one line within a span: one grant of a minute is refreshed every half minute, each time with an
/// answer to a new challenge; after failures there are 5 s, 10 s, 20 s.
const REGISTERS_MAX: [(Duration, usize); 2] = [
    (Duration::from_secs(60), 12),
    (Duration::from_secs(3_600), 320),
];

/// How long a line may take to be registered after its carrier is there again, or after its last grant is over.
///
/// It waits 5 s after a first failure, twice as long after each further one, a fifth more or less: so the wait that it is
/// in when its carrier comes back is at most half as long again as the time for which it has tried in vain, and
/// [`BACK_OFF_MAX`] at most. Or it waits as a 503 has told it, before the carrier went. Then it tries: an attempt that
/// was begun before, and one that is challenged, for a nonce that is too old too, and asked for a longer time.
///
/// Where the way loses a third, one try in a thousand fails although the carrier is there: then it waits again.
pub(super) fn back_within(absence: Duration, is_harmless: bool) -> Duration {
    let wait = (absence * 3 / 2 + Duration::from_secs(30)).clamp(PUT_OFF_MAX, BACK_OFF_MAX);
    let tries = if is_harmless { 1 } else { 3 };
    (wait + TIMER_F * 5) * tries
}

impl Day {
    /// What must hold at any time.
    pub(super) fn look(&mut self) -> Result<(), String> {
        for (carrier, account) in lines() {
            if !self.fleet.phones[carrier].is_off {
                self.look_at(carrier, account)?;
            }
        }
        let Fleet { world, phones, .. } = &self.fleet;
        invariants::tables_are_bounded(world, CALLS_MAX)?;
        invariants::nobody_is_half_open(world, phones, &self.shaken, None)?;
        let places = world.endpoint.lane_places(world.now(), 64);
        // Lanes are queues of datagrams.
        for carrier in (0..CARRIERS).filter(|own| transport_of(*own) == Transport::Udp) {
            // After a power cut nobody may have said yet where the carrier's name leads.
            let has_begun_anew = self.power_cut.is_some_and(|at| at <= self.now());
            if has_begun_anew && !self.knows_where(carrier) {
                continue;
            }
            let address = carrier_address(carrier).ip();
            if !(places.iter()).any(|place| place.address == address && place.lane == Lane::Peers) {
                return Err(format!("the carrier at {address} has no lane: {places:?}"));
            }
        }
        Ok(())
    }

    /// Whether the server knows where some line of a carrier leads.
    fn knows_where(&self, carrier: usize) -> bool {
        let endpoint = &self.fleet.world.endpoint;
        let own = (lines().zip(0..)).filter(|((own, _), _)| *own == carrier);
        let mut places = own.filter_map(|(_, line)| endpoint.line_place(LineId(line)));
        places.any(|place| endpoint.places().candidates(place).is_ok())
    }

    /// A line whose carrier is there is registered, or has a little time left.
    fn look_at(&mut self, carrier: usize, account: usize) -> Result<(), String> {
        let now = self.now();
        let Presence { since, absence } = self.presence[carrier];
        let Some(overdue) = self.carrier(carrier).overdue_since(now, account) else {
            return Ok(());
        };
        let allowed = back_within(absence, self.is_harmless);
        let down = now.since(overdue.max(since));
        self.summary.slowest = self.summary.slowest.max(down);
        if down <= allowed {
            return Ok(());
        }
        Err(format!(
            "line c{carrier}{account} is not registered for {down:?}, {allowed:?} is allowed (its carrier was \
             absent for {absence:?})"
        ))
    }

    /// What must hold when all calls are over.
    pub(super) fn check_calls(&self) -> Result<(), String> {
        let Fleet { world, phones, .. } = &self.fleet;
        invariants::every_call_has_its_record(world, phones)?;
        for (phone, shaken) in phones.iter().zip(&self.shaken) {
            let is_well = phone.is_idle() || shaken.is_some() && !phone.is_in_call();
            if !is_well {
                let (address, business) = (phone.address, phone.business());
                return Err(format!("the phone at {address}: {business}"));
            }
            let is_carrier = phone.carrier.is_some();
            for (call_id, outcome) in &phone.outcomes {
                let is_well = match outcome {
                    Outcome::Pending => false,
                    // A line is known by its address: it is asked for nothing more.
                    Outcome::Final(401 | 407) => !is_carrier,
                    Outcome::Timeout => is_carrier && !self.is_harmless,
                    Outcome::Final(_) | Outcome::Cut => true,
                };
                if !is_well {
                    let address = phone.address;
                    return Err(format!(
                        "the INVITE of {call_id} from {address}: {outcome:?}"
                    ));
                }
            }
        }
        let census = world.endpoint.census();
        if census.has_calls || census.counted != 0 {
            return Err(format!("calls that do not end: {census:?}"));
        }
        Ok(())
    }

    /// A line is refreshed before its grant is over, where nothing but a good way is between.
    fn check_lapses(&self, carrier: usize) -> Result<(), String> {
        let own = self.carrier(carrier);
        if !self.is_harmless || own.policy.busy > 0 {
            return Ok(());
        }
        for (account, granted, again) in &own.seen.lapses {
            let mut mishaps = self.mishaps[carrier].iter().chain(&self.power_cut);
            if !mishaps.any(|at| granted <= at && at <= again) {
                return Err(format!(
                    "line c{carrier}{account}, registered at {granted:?}, was not refreshed in time but at {again:?}"
                ));
            }
        }
        Ok(())
    }

    /// What carriers have to say.
    pub(super) fn check_carriers(&self) -> Result<(), String> {
        for carrier in 0..CARRIERS {
            let own = self.carrier(carrier);
            if !own.faults.is_empty() {
                return Err(format!("carrier {carrier}: {:#?}", own.faults));
            }
            let source = Source::of(carrier_address(carrier).ip());
            if self.fleet.world.banned.contains(&source) {
                return Err(format!("carrier {carrier} was banned"));
            }
            self.check_lapses(carrier)?;
            for (span, most) in REGISTERS_MAX {
                let seen = own.most_registers_within(span);
                if seen > most {
                    return Err(format!("{seen} REGISTERs of one line in {span:?}"));
                }
            }
        }
        Ok(())
    }
}
