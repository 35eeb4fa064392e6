//! RFC 3261 §13.3.1.4: retransmission of a 2xx to INVITE until its ACK.
//!
//! ```text
//!              |2xx sent
//!              V
//!        +-----------+ T1, 2·T1 ... T2, T2
//!        |           |------+ send 2xx
//!        |  Waiting  |      |
//!        |           |<-----+
//!        +-----------+
//!      ACK |       | 64·T1
//!      -   V       V inform TU: end the session with BYE
//!        +-----------+
//!        |   Ended   |
//!        +-----------+
//! ```
//!
//! This is the duty of the UAS core and not of the transaction, which is in Accepted all the while; it stands here
//! because the bytes and the timers do. It goes on over reliable transports too, since the 2xx crosses proxies. Its
//! 64·T1 are those of Timer L, which began with the same 2xx.

use super::effects::{Effects, Pace, Report};

/// States.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No ACK yet.
    Waiting,
    /// Nothing more to do.
    Ended,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The ACK of this dialog came (the core knows: its branch is another).
    Acknowledged,
    /// The retransmission interval has passed.
    Interval,
    /// 64·T1 have passed.
    Limit,
}

/// The 2xx was sent.
pub const fn start() -> (State, Effects) {
    (State::Waiting, Effects::NONE.pace(Pace::Begin))
}

/// One step. The transport does not matter.
pub const fn step(state: State, event: Event, _reliable: bool) -> (State, Effects) {
    match state {
        State::Waiting => match event {
            Event::Acknowledged => (State::Ended, Effects::NONE.pace(Pace::Stop)),
            Event::Interval => (state, Effects::SEND.pace(Pace::DoubleToT2)),
            Event::Limit => (
                State::Ended,
                Effects::report(Report::NotAcknowledged).pace(Pace::Stop),
            ),
        },
        State::Ended => (state, Effects::NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::effects;

    const RFC: &str = "
        Waiting Acknowledged any Ended   pace:Stop
        Waiting Interval     any Waiting send pace:DoubleToT2
        Waiting Limit        any Ended   inform:NotAcknowledged pace:Stop
        Ended   Acknowledged any Ended   -
        Ended   Interval     any Ended   -
        Ended   Limit        any Ended   -
    ";

    #[test]
    fn every_step_is_the_rfcs() {
        use Event::*;
        use State::*;
        effects::check(
            &[Waiting, Ended],
            &[Acknowledged, Interval, Limit],
            RFC,
            step,
        );
        assert_eq!(effects::words(start().1), "pace:Begin");
    }
}
