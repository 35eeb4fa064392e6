//! RFC 3261 §17.2.2: the non-INVITE server transaction.
//!
//! ```text
//!                                   |Request received
//!                                   |pass to TU
//!                                   V
//!                             +-----------+
//!                             |           |
//!                             | Trying    |-------------+
//!                             |           |             |
//!                             +-----------+             |200-699 from TU
//!                                   |                   |send response
//!                                   |1xx from TU        |
//!                                   |send response      |
//!                                   |                   |
//!                Request            V      1xx from TU  |
//!                send response+-----------+send response|
//!                    +--------|           |--------+    |
//!                    |        | Proceeding|        |    |
//!                    +------->|           |<-------+    |
//!             +<--------------|           |             |
//!             |Trnsprt Err    +-----------+             |
//!             |Inform TU            |                   |
//!             |                     |                   |
//!             |                     |200-699 from TU    |
//!             |                     |send response      |
//!             |  Request            V                   |
//!             |  send response+-----------+             |
//!             |      +--------|           |             |
//!             |      |        | Completed |<------------+
//!             |      +------->|           |
//!             +<--------------|           |
//!             |Trnsprt Err    +-----------+
//!             |Inform TU            |
//!             |                     |Timer J fires
//!             |                     |-
//!             |                     V
//!             |               +-----------+
//!             +-------------->| Terminated|
//!                             +-----------+
//! ```
//!
//! In the table, a transaction in Completed is an entry of the ring of completed ones and no longer a live one.

use super::effects::{Effects, Life, Report, Timer};

/// States of RFC 3261 Figure 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    /// The request came again.
    Request,
    /// 1xx from the transaction user.
    Provisional,
    /// 200 to 699 from the transaction user.
    Final,
    TransportError,
    TimerJ,
}

/// The request came for the first time.
pub const fn start() -> (State, Effects) {
    (State::Trying, Effects::DELIVER)
}

/// One step. The transport matters only for the value of Timer J.
pub const fn step(state: State, event: Event, _reliable: bool) -> (State, Effects) {
    const COMPLETED: (State, Effects) =
        (State::Completed, Effects::SEND.life(Life::Start(Timer::J)));
    const FAILED: (State, Effects) = (State::Terminated, Effects::report(Report::Transport));
    match state {
        State::Trying => match event {
            Event::Provisional => (State::Proceeding, Effects::SEND),
            Event::Final => COMPLETED,
            Event::Request | Event::TransportError | Event::TimerJ => (state, Effects::NONE),
        },
        State::Proceeding => match event {
            Event::Request | Event::Provisional => (state, Effects::SEND),
            Event::Final => COMPLETED,
            Event::TransportError => FAILED,
            Event::TimerJ => (state, Effects::NONE),
        },
        State::Completed => match event {
            Event::Request => (state, Effects::SEND),
            Event::TransportError => FAILED,
            Event::TimerJ => (State::Terminated, Effects::NONE),
            Event::Provisional | Event::Final => (state, Effects::NONE),
        },
        State::Terminated => (state, Effects::NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::effects;

    const RFC: &str = "
        Trying     Request        any Trying     -
        Trying     Provisional    any Proceeding send
        Trying     Final          any Completed  send start:J
        Trying     TransportError any Trying     -
        Trying     TimerJ         any Trying     -
        Proceeding Request        any Proceeding send
        Proceeding Provisional    any Proceeding send
        Proceeding Final          any Completed  send start:J
        Proceeding TransportError any Terminated inform:Transport
        Proceeding TimerJ         any Proceeding -
        Completed  Request        any Completed  send
        Completed  Provisional    any Completed  -
        Completed  Final          any Completed  -
        Completed  TransportError any Terminated inform:Transport
        Completed  TimerJ         any Terminated -
        Terminated Request        any Terminated -
        Terminated Provisional    any Terminated -
        Terminated Final          any Terminated -
        Terminated TransportError any Terminated -
        Terminated TimerJ         any Terminated -
    ";

    #[test]
    fn every_step_is_the_rfcs() {
        use Event::*;
        use State::*;
        let states = [Trying, Proceeding, Completed, Terminated];
        let events = [Request, Provisional, Final, TransportError, TimerJ];
        effects::check(&states, &events, RFC, step);
        assert_eq!(start(), (Trying, Effects::DELIVER));
    }
}
