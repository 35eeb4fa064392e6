//! How the entries of a plan are carried out, and what follows from them.

use super::plan::{Deed, PHONES, Trouble};
use super::*;
use crate::api::{Answer, Command};
use crate::source::{Source, Transport};
use crate::store::batches::WRITE_INTERVAL;
use crate::testing::world::KillAt;

/// What could not be written is tried again at least so often.
const TRIED_AGAIN: Duration = Duration::from_secs(62);
/// A kill that waits for a write that does not come is one at once.
const KILL_WITHIN: Duration = Duration::from_secs(15);
/// Loss, per mille, up to which the tries of a request are enough: with more some are really never answered.
const HARMLESS_LOSS: u32 = 50;
/// Delay, in milliseconds, up to which nothing comes too late.
const HARMLESS_DELAY: u32 = 700;
/// A phone refreshes its registration within this.
const REFRESH: Duration = Duration::from_secs(310);
/// The longest that one whose place has changed waits before it registers, if it does so soon.
const SOON: Duration = Duration::from_secs(8);
/// How long a stop may take.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// How long something corrupted may come back, as the refusal of what nobody can read.
const ECHOES: Duration = Duration::from_secs(40);
/// Between two looks whether it has come to its end.
const STOP_LOOK: Duration = Duration::from_millis(200);
/// More than there are registrations.
const PAGE: usize = 1_000;

fn before(at: Instant, time: Duration) -> Instant {
    Instant::from_micros(at.as_micros().saturating_sub(time.as_micros() as u64))
}

impl Years {
    /// Carries an entry out. What cannot be at the moment is left.
    pub(super) fn commit(&mut self, deed: Deed) {
        if self.carry_out(deed) && deed.is_fault() {
            self.count(deed.kind());
        }
    }

    /// Something that nobody wants has happened.
    fn count(&mut self, kind: &'static str) {
        *self.summary.faults.entry(kind).or_default() += 1;
    }

    /// False: it cannot be at the moment, or is a kill, which comes when it comes.
    fn carry_out(&mut self, deed: Deed) -> bool {
        let now = self.now();
        match deed {
            Deed::Register(phone) => self.register(phone),
            Deed::Call(caller, callee) => self.call(caller, callee),
            Deed::Write(sender, receiver) => {
                if !self.fleet.phones[sender].is_off {
                    self.fleet.write(sender, &people::number(receiver));
                }
            }
            Deed::Way {
                trouble,
                much,
                lasts_s,
                whose,
            } => self.spoil_way(trouble, much, Duration::from_secs(lasts_s), whose),
            Deed::Rebind(phone, is_soon) => return self.rebind(phone, is_soon),
            Deed::Disconnect(phone) => {
                if !self.fleet.world.is_connected(self.fleet.place(phone)) {
                    return false;
                }
                self.fleet.disconnect(phone);
                return self.rebind(phone, true);
            }
            Deed::Reboot(phone, knows_nonce, off_ms) => {
                let off = Duration::from_millis(off_ms);
                let own = &mut self.fleet.phones[phone];
                if own.is_off {
                    return false;
                }
                own.is_off = true;
                own.is_cut_off();
                self.troubles.add(now, now.plus(off), Some(phone));
                self.later(off, Then::PowerOn(phone, knows_nonce));
            }
            Deed::Flood(whose, rate, lasts_s) => {
                let victim = self.fleet.place(whose);
                let lasts = Duration::from_secs(lasts_s);
                // The refusal of what is malformed repeats it.
                self.is_noisy_until(now.plus(lasts + ECHOES));
                if let Some(door) = &mut self.fleet.world.door {
                    door.shared.insert(Source::of(victim.ip()));
                }
                self.attackers.overhear(&self.fleet.overheard);
                self.attackers.flood(now, Some(victim), rate, lasts);
            }
            Deed::Crack(lasts_s) => self.crack(Duration::from_secs(lasts_s)),
            Deed::Neighbour(phone, lasts_s) => {
                let nat = self.fleet.place(phone).ip();
                if let Some(door) = &mut self.fleet.world.door {
                    door.shared.insert(Source::of(nat));
                }
                (self.attackers).crack(now, Some(nat), Duration::from_secs(lasts_s));
            }
            Deed::Scan(lasts_s) => {
                let lasts = Duration::from_secs(lasts_s);
                self.attackers.overhear(&self.fleet.overheard);
                self.attackers.flood(now, None, 20, lasts);
            }
            Deed::Full(lasts_s) => {
                let until = now.plus(Duration::from_secs(lasts_s));
                // What could not be written then may not have been since.
                let still = |(_, until): &(Instant, Instant)| now < until.plus(TRIED_AGAIN);
                let from = self.full.filter(still).map_or(now, |(from, _)| from);
                self.full = Some((from, until));
                self.fleet.world.disk.fill_until(until);
            }
            Deed::Slow(millis, lasts_s) => {
                let (sync, lasts) = (Duration::from_millis(millis), Duration::from_secs(lasts_s));
                self.slow = (self.slow_now(now).max(sync), now.plus(lasts + sync * 3));
                self.fleet.world.disk.set_sync(sync);
                self.later(lasts, Then::DiskIsFast);
            }
            Deed::Kill(at, down_ms) => {
                if !self.fleet.world.is_down() {
                    self.down_ms = down_ms;
                    self.armed = Some(deed.kind());
                    self.fleet.world.kill(at);
                    if at != KillAt::Now {
                        self.later(KILL_WITHIN, Then::KillIfArmed);
                    }
                    self.mourn_if_dead();
                }
                return false;
            }
            Deed::Stop(down_ms) => {
                if !self.fleet.world.is_up() {
                    return false;
                }
                self.down_ms = down_ms;
                self.fleet.world.stop();
                let until = now.plus(STOPS_WITHIN);
                self.later(STOP_LOOK, Then::Stopping(until, self.starts));
                // Who calls meanwhile gets 503, but who speaks to it last may hear nothing more.
                self.troubles.add(now, until, None);
                self.mourn_if_dead();
            }
            Deed::Jump(millis) => {
                self.fleet.world.jump(millis);
                self.jumped = now;
            }
            Deed::Pause(pause, millis) => {
                let until = now.plus(Duration::from_millis(millis));
                if !self.fleet.world.is_up() {
                    return false;
                }
                self.fleet.world.pause(pause, until);
                self.paused = Some((now, until));
                self.troubles.add(now, until, None);
            }
            Deed::Reload => {
                if !self.fleet.world.is_up() {
                    return false;
                }
                std::mem::swap(&mut self.config, &mut self.next_config);
                self.fleet.world.reload(self.config.clone());
                self.mourn_if_dead();
            }
        }
        true
    }

    /// What phones hear until then may be noise.
    fn is_noisy_until(&mut self, until: Instant) {
        self.fleet.is_noisy = true;
        self.noisy_until = self.noisy_until.max(until);
    }

    /// What was wrong with what is heard may be over.
    pub(super) fn calm_down(&mut self) {
        let now = self.now();
        self.fleet.is_noisy = now < self.noisy_until;
        if let Some(door) = &mut self.fleet.world.door {
            door.is_damaging = now < self.damaging_until;
        }
    }

    pub(super) fn follow(&mut self, then: Then) -> Result<(), String> {
        match then {
            Then::WayOver => self.mend_ways(),
            Then::Register(phone) => self.register(phone),
            Then::PowerOn(phone, knows_nonce) => self.power_on(phone, knows_nonce),
            Then::KillIfArmed => {
                if self.fleet.world.kill_if_armed() {
                    self.armed = Some(Deed::Kill(KillAt::Now, 0).kind());
                }
                self.mourn_if_dead();
            }
            Then::Start => self.start(),
            Then::Stopping(until, starts) => self.stopping(until, starts),
            Then::DiskIsFast => self.fleet.world.disk.set_sync(self.sync),
            Then::Look => {
                self.look()?;
                self.later(LOOK, Then::Look);
            }
        }
        Ok(())
    }

    fn register(&mut self, phone: usize) {
        if !self.fleet.phones[phone].is_off && phone != CARRIER {
            self.fleet.register(phone);
        }
    }

    fn call(&mut self, caller: usize, callee: usize) {
        if self.fleet.phones[caller].is_off {
            return;
        }
        let is_begun = match self.fleet.phones[caller].carrier {
            Some(_) => self.fleet.call_account(caller, 0),
            None => {
                self.fleet.call(caller, &people::number(callee));
                true
            }
        };
        self.summary.calls += usize::from(is_begun);
    }

    fn crack(&mut self, lasts: Duration) {
        let now = self.now();
        self.attackers.crack(now, None, lasts);
        if self.sabotage == Some(Sabotage::BanHonest) && self.fleet.world.is_up() {
            let source = Source::of(self.fleet.place(1).ip());
            let duration = None;
            // Whatever it says: the ban is what is looked at.
            self.fleet.world.command(Command::Ban { source, duration });
        }
    }

    /// A way gets worse for a while.
    fn spoil_way(&mut self, trouble: Trouble, much: u32, lasts: Duration, whose: Option<usize>) {
        let now = self.now();
        let until = now.plus(lasts);
        self.ways.push(Way {
            trouble,
            much,
            until,
            whose,
        });
        let is_harmless = match trouble {
            Trouble::Loss => much <= HARMLESS_LOSS,
            Trouble::Delay => much <= HARMLESS_DELAY,
            Trouble::Double | Trouble::Reorder => true,
            Trouble::Corrupt => {
                let over = until.plus(ECHOES);
                self.is_noisy_until(over);
                self.damaging_until = self.damaging_until.max(over);
                self.calm_down();
                false
            }
        };
        if !is_harmless {
            // What one is told by another may be wrong too.
            let whose = whose.filter(|_| trouble != Trouble::Corrupt);
            self.each_behind(whose, |years, phone| years.troubles.add(now, until, phone));
        }
        self.set_links();
        self.later(lasts, Then::WayOver);
    }

    /// For this phone and those behind the same NAT; `None`: once, for everybody.
    fn each_behind(&mut self, whose: Option<usize>, mut act: impl FnMut(&mut Self, Option<usize>)) {
        let Some(whose) = whose else {
            return act(self, None);
        };
        let address = self.fleet.place(whose).ip();
        for phone in 0..=PHONES {
            if self.fleet.place(phone).ip() == address {
                act(self, Some(phone));
            }
        }
    }

    fn mend_ways(&mut self) {
        let now = self.now();
        self.ways.retain(|way| way.until > now);
        self.set_links();
    }

    /// What the ways are like, with all that is wrong.
    fn set_links(&mut self) {
        let with = |link: Link, way: &Way| {
            let mut link = link;
            match way.trouble {
                Trouble::Loss => link.loss = link.loss.max(way.much),
                Trouble::Double => link.duplicate = link.duplicate.max(way.much),
                Trouble::Reorder => {
                    link.reorder = link.reorder.max(way.much);
                    link.hold = link.hold.max(Duration::from_millis(400));
                }
                Trouble::Delay => link.delay += Duration::from_millis(way.much.into()),
                Trouble::Corrupt => link.corrupt = link.corrupt.max(way.much),
            }
            link
        };
        let everybody = self.ways.iter().filter(|way| way.whose.is_none());
        let all = everybody.fold(self.link, with);
        self.fleet.world.network.set_all(all);
        for phone in 0..=PHONES {
            let address = self.fleet.place(phone).ip();
            let is_its = |way: &&Way| {
                let whose = way.whose.map(|whose| self.fleet.place(whose).ip());
                whose == Some(address)
            };
            let link = self.ways.iter().filter(is_its).fold(all, with);
            if self.fleet.world.network.link(address) != link {
                self.fleet.world.network.set_link(address, link);
            }
        }
    }

    /// The server hears a phone from elsewhere. The carrier stays where it is configured to be. False: it is off.
    fn rebind(&mut self, phone: usize, is_soon: bool) -> bool {
        if phone == CARRIER || self.fleet.phones[phone].is_off {
            return false;
        }
        self.fleet.move_phone(phone);
        let own = &mut self.fleet.phones[phone];
        own.disconnected();
        own.is_cut_off();
        let now = self.now();
        let lasts = if is_soon { SOON + SOON } else { REFRESH };
        self.troubles.add(now, now.plus(lasts), Some(phone));
        if is_soon {
            let after = self.random.up_to(SOON);
            self.later(after, Then::Register(phone));
        }
        true
    }

    /// The server has closed a phone's connection, on which it has heard nothing: the phone makes another one soon.
    pub(super) fn lost_connection(&mut self, phone: usize) {
        if phone != CARRIER && !self.fleet.phones[phone].is_off {
            let now = self.now();
            self.troubles.add(now, now.plus(SOON + SOON), Some(phone));
            let after = self.random.up_to(SOON);
            self.later(after, Then::Register(phone));
        }
    }

    fn power_on(&mut self, phone: usize, knows_nonce: bool) {
        let own = &mut self.fleet.phones[phone];
        let (is_stream, address) = (own.transport == Transport::Tcp, own.address);
        own.reboot(address, knows_nonce);
        own.forget_count();
        own.is_off = false;
        if phone == CARRIER {
            return self.fleet.disconnect(phone);
        }
        if is_stream {
            self.fleet.move_phone(phone);
        }
        self.fleet.register(phone);
    }

    /// The stop has come to its end, or must by `until`.
    fn stopping(&mut self, until: Instant, starts: u64) {
        let world = &mut self.fleet.world;
        if world.is_down() || starts != self.starts {
            return;
        }
        if !world.is_up() || !world.endpoint.is_idle() && world.now().mono < until {
            return self.later(STOP_LOOK, Then::Stopping(until, starts));
        }
        self.was_closed = world.close_down();
        self.armed = None;
        self.summary.stops += 1;
        self.mourn_if_dead();
    }

    fn mourn_if_dead(&mut self) {
        if self.fleet.world.is_down() && !self.is_mourned {
            self.mourn();
        }
    }

    /// How long a batch has taken of late, at most.
    fn slow_now(&self, now: Instant) -> Duration {
        let (slow, until) = self.slow;
        if now <= until { slow } else { self.sync }
    }

    /// What was acknowledged until then must have been kept by a process that was killed at `at`: a batch is begun at least every
    /// [`WRITE_INTERVAL`], when the one before it is written.
    fn sure_at(&self, at: Instant) -> Instant {
        let before = |at: Instant| {
            let sync = self.slow_now(at);
            before(at, (WRITE_INTERVAL + sync).max(sync * 2))
        };
        let mut sure = before(at);
        // Nothing is written by a process that does not run, nor to a disk that is full.
        if let Some((from, _)) = self.paused.filter(|(_, until)| sure < *until) {
            sure = sure.min(before(from));
        }
        if let Some((from, _)) = self
            .full
            .filter(|(_, until)| sure < until.plus(TRIED_AGAIN))
        {
            sure = sure.min(before(from));
        }
        sure
    }

    /// The process has ended: its connections too, and what it has kept is looked at.
    pub(super) fn mourn(&mut self) {
        self.is_mourned = true;
        let now = self.now();
        let was_closed = std::mem::take(&mut self.was_closed);
        if let Some(kind) = self.armed.take() {
            self.summary.kills += 1;
            self.count(kind);
        }
        let at = self.fleet.world.died_at().unwrap_or(now);
        let sure = if was_closed { at } else { self.sure_at(at) };
        self.ends.push(Ended { at, sure });
        for phone in &mut self.fleet.phones {
            phone.disconnected();
            if let Some(carrier) = &mut phone.carrier {
                carrier.excuse();
            }
        }
        self.fleet.world.interrupt();
        let World { door, disk, .. } = &mut self.fleet.world;
        if self.sabotage == Some(Sabotage::LoseWrite) {
            disk.rows_mut().bindings.pop_first();
        }
        if let Some(door) = door {
            door.ends();
            door.look_at_disk(at, sure, disk.rows());
        }
        let down = Duration::from_millis(self.down_ms);
        self.troubles.add(at, now.plus(down), None);
        self.later(down, Then::Start);
    }

    /// A new process: it knows what the disk has.
    fn start(&mut self) {
        self.starts += 1;
        self.is_mourned = false;
        let seed = self.seed ^ (self.starts << 48) ^ 0x5eed;
        let config = self.config.clone();
        self.fleet.world.start(config, seed);
        self.attackers.meet_another();
        let (now, clock) = (self.now(), self.fleet.world.clock());
        let all = Command::Registrations {
            after: None,
            limit: PAGE,
        };
        let answer = self.fleet.world.command(all);
        let sure = self.ends.last().map_or(now, |end| end.sure);
        let World { door, disk, .. } = &mut self.fleet.world;
        if let (Some(door), Answer::Registrations(page)) = (door, answer) {
            door.begins(disk.rows(), clock.unix);
            door.look_at_registrations(now, (self.jumped, sure), &page.items);
        }
    }
}
