//! How much there is of everything, for simulations and fuzzing: what must be bounded, and gone after silence.

use super::Endpoint;

/// Counts of the endpoint's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Ringing and answered calls.
    pub calls_live: usize,
    /// Whether there is any call, ending ones included.
    pub has_calls: bool,
    /// Timers of calls, those included that nobody waits for any more.
    pub call_timers: usize,
    /// Places of legs that go on in another call than they began in.
    pub moved_legs: usize,
    /// MESSAGEs outside dialogs that wait for an answer.
    pub pages: usize,
    /// MESSAGEs that wait for users who are not there.
    pub letters: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Calls that the table of each user's calls lacks, or has in vain.
    pub misplaced: usize,
    /// How often a call was looked at for lamp keys so far.
    pub looks: u64,
    /// Addresses that are asked at the moment whether they can be reached, and lines that wait for the answer to a REGISTER: a
    /// transaction each.
    pub asked: usize,
    /// In how many calls users and trunks are counted as being, all of them together.
    pub counted: u64,
    /// Whether a timer of a call, transaction or binding runs.
    pub has_timers: bool,
    /// Transactions in progress.
    pub transactions_live: usize,
    /// Completed server transactions whose answer is kept.
    pub transactions_completed: usize,
    /// Connections.
    pub streams: usize,
    /// Connections that we opened.
    pub opened: usize,
    /// Bindings.
    pub bindings: usize,
    /// Bans.
    pub bans: usize,
    /// Outside numbers that users have called.
    pub destinations: usize,
    /// Relays of media, and pairs of ports that are kept for them.
    pub media: usize,
    /// Names of the configuration that lead somewhere, addresses included.
    pub names_known: usize,
    /// Names that are being asked for.
    pub names_asked: usize,
    /// Outputs that found the arena full.
    pub outputs_dropped: u64,
}

impl Endpoint {
    /// The counts as they are now.
    pub fn census(&self) -> Census {
        let (streams, opened) = self.connections.count();
        let deadlines = [
            self.transactions.next_deadline(),
            self.calls.next_deadline(),
            self.location.next_deadline(),
        ];
        Census {
            counted: self.calls.counted(),
            has_timers: deadlines.iter().any(Option::is_some),
            calls_live: self.calls.live(),
            has_calls: !self.calls.is_empty(),
            call_timers: self.calls.timers(),
            moved_legs: self.calls.moved_legs(),
            pages: self.pages.count(),
            letters: self.pages.kept(),
            subscriptions: self.subscriptions.count(),
            misplaced: self.calls.misplaced(),
            looks: self.calls.looks(),
            asked: self.reach.count().1 + self.lines.waiting(),
            transactions_live: self.transactions.live(),
            transactions_completed: self.transactions.completed(),
            streams,
            opened,
            bindings: self.location.count(),
            bans: self.guard.ban_count(),
            destinations: self.brake.count(),
            media: {
                let [relays, reserved, open] = self.media.counts();
                relays.max(reserved).max(open)
            },
            names_known: (self.places.ids())
                .filter(|id| self.places.candidates(*id).is_ok())
                .count(),
            names_asked: self.places.asked(),
            outputs_dropped: self.out.dropped(),
        }
    }
}
