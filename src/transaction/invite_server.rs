//! RFC 3261 §17.2.1 with RFC 6026 §7.1: the INVITE server transaction.
//!
//! ```text
//!                                    |INVITE
//!                                    |pass INV to TU
//!                 INVITE             V send 100 if TU won't in 200 ms
//!                 send response+------------+
//!                     +--------|            |--------+ 101-199 from TU
//!                     |        |            |        | send response
//!                     +------->|            |<-------+
//!                              | Proceeding |
//!                              |            |--------+ Transport Error
//!                              |            |        | inform TU
//!                              |            |<-------+
//!                              +------------+
//!                 300-699 from TU |    |2xx from TU
//!                 send response   |    |send response
//!                  +--------------+    +------------+
//!                  |                                |
//! INVITE           V          Timer G fires         |
//! send response +-----------+ send response         |
//!      +--------|           |--------+              |
//!      |        |           |        |              |
//!      +------->| Completed |<-------+      INVITE  |  Transport Error
//!               |           |               -       |  inform TU
//!      +--------|           |----+          +-----+ |  +---+
//!      |        +-----------+    | ACK      |     | v  |   v
//!      |          ^   |          | -        |  +------------+
//!      |          |   |          |          |  |            |---+ ACK
//!      +----------+   |          |          +->|  Accepted  |   | to TU
//!      Transport Error|          |             |            |<--+
//!      inform TU      |          V             +------------+
//!                     |      +-----------+        |  ^     |
//!                     |      |           |        |  |     |
//!                     |      | Confirmed |        |  +-----+
//!                     |      |           |        |  2xx from TU
//!       Timer H fires |      +-----------+        |  send response
//!       -             |          |                |
//!                     |          | Timer I fires  |
//!                     |          | -              | Timer L fires
//!                     |          V                | -
//!                     |        +------------+     |
//!                     |        |            |<----+
//!                     +------->| Terminated |
//!                              |            |
//!                              +------------+
//! ```
//!
//! The transaction user sends its own 100: it always does so at once. It also retransmits a 2xx (§13.3.1.4), which
//! [`super::accept`] does for it, and a reliable provisional response (RFC 3262), which [`super::provisional`] does.

use super::effects::{Effects, Life, Pace, Report, Timer};

/// States of RFC 3261 Figure 7 and RFC 6026.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    /// The INVITE came again.
    Invite,
    Ack,
    /// 1xx from the transaction user.
    Provisional,
    /// 2xx from the transaction user.
    Success,
    /// 300 to 699 from the transaction user.
    Failure,
    TransportError,
    TimerG,
    TimerH,
    TimerI,
    TimerL,
}

/// The INVITE came for the first time.
pub const fn start() -> (State, Effects) {
    (State::Proceeding, Effects::DELIVER)
}

/// One step.
pub const fn step(state: State, event: Event, reliable: bool) -> (State, Effects) {
    const INFORM: Effects = Effects::report(Report::Transport);
    match state {
        State::Proceeding => match event {
            Event::Invite | Event::Provisional => (state, Effects::SEND),
            Event::Success => (State::Accepted, Effects::SEND.life(Life::Start(Timer::L))),
            Event::Failure => {
                let pace = if reliable { Pace::Keep } else { Pace::Begin };
                (
                    State::Completed,
                    Effects::SEND.pace(pace).life(Life::Start(Timer::H)),
                )
            }
            Event::TransportError => (state, INFORM),
            Event::Ack | Event::TimerG | Event::TimerH | Event::TimerI | Event::TimerL => {
                (state, Effects::NONE)
            }
        },
        State::Completed => match event {
            Event::Invite => (state, Effects::SEND),
            Event::Ack => (
                State::Confirmed,
                Effects::NONE.pace(Pace::Stop).life(Life::Start(Timer::I)),
            ),
            Event::TransportError => (state, INFORM),
            Event::TimerG if reliable => (state, Effects::NONE),
            Event::TimerG => (state, Effects::SEND.pace(Pace::DoubleToT2)),
            Event::TimerH => (State::Terminated, Effects::NONE),
            Event::Provisional
            | Event::Success
            | Event::Failure
            | Event::TimerI
            | Event::TimerL => (state, Effects::NONE),
        },
        State::Confirmed => match event {
            Event::TimerI => (State::Terminated, Effects::NONE),
            Event::Invite
            | Event::Ack
            | Event::Provisional
            | Event::Success
            | Event::Failure
            | Event::TransportError
            | Event::TimerG
            | Event::TimerH
            | Event::TimerL => (state, Effects::NONE),
        },
        State::Accepted => match event {
            Event::Ack => (state, Effects::DELIVER),
            Event::Success => (state, Effects::SEND),
            Event::TransportError => (state, INFORM),
            Event::TimerL => (State::Terminated, Effects::NONE),
            Event::Invite
            | Event::Provisional
            | Event::Failure
            | Event::TimerG
            | Event::TimerH
            | Event::TimerI => (state, Effects::NONE),
        },
        State::Terminated => (state, Effects::NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::effects;

    const RFC: &str = "
        Proceeding Invite         any Proceeding send
        Proceeding Ack            any Proceeding -
        Proceeding Provisional    any Proceeding send
        Proceeding Success        any Accepted   send start:L
        Proceeding Failure        udp Completed  send pace:Begin start:H
        Proceeding Failure        tcp Completed  send start:H
        Proceeding TransportError any Proceeding inform:Transport
        Proceeding TimerG         any Proceeding -
        Proceeding TimerH         any Proceeding -
        Proceeding TimerI         any Proceeding -
        Proceeding TimerL         any Proceeding -
        Completed  Invite         any Completed  send
        Completed  Ack            any Confirmed  pace:Stop start:I
        Completed  Provisional    any Completed  -
        Completed  Success        any Completed  -
        Completed  Failure        any Completed  -
        Completed  TransportError any Completed  inform:Transport
        Completed  TimerG         udp Completed  send pace:DoubleToT2
        Completed  TimerG         tcp Completed  -
        Completed  TimerH         any Terminated -
        Completed  TimerI         any Completed  -
        Completed  TimerL         any Completed  -
        Confirmed  Invite         any Confirmed  -
        Confirmed  Ack            any Confirmed  -
        Confirmed  Provisional    any Confirmed  -
        Confirmed  Success        any Confirmed  -
        Confirmed  Failure        any Confirmed  -
        Confirmed  TransportError any Confirmed  -
        Confirmed  TimerG         any Confirmed  -
        Confirmed  TimerH         any Confirmed  -
        Confirmed  TimerI         any Terminated -
        Confirmed  TimerL         any Confirmed  -
        Accepted   Invite         any Accepted   -
        Accepted   Ack            any Accepted   deliver
        Accepted   Provisional    any Accepted   -
        Accepted   Success        any Accepted   send
        Accepted   Failure        any Accepted   -
        Accepted   TransportError any Accepted   inform:Transport
        Accepted   TimerG         any Accepted   -
        Accepted   TimerH         any Accepted   -
        Accepted   TimerI         any Accepted   -
        Accepted   TimerL         any Terminated -
        Terminated Invite         any Terminated -
        Terminated Ack            any Terminated -
        Terminated Provisional    any Terminated -
        Terminated Success        any Terminated -
        Terminated Failure        any Terminated -
        Terminated TransportError any Terminated -
        Terminated TimerG         any Terminated -
        Terminated TimerH         any Terminated -
        Terminated TimerI         any Terminated -
        Terminated TimerL         any Terminated -
    ";

    #[test]
    fn every_step_is_the_rfcs() {
        use Event::*;
        use State::*;
        let states = [Proceeding, Completed, Confirmed, Accepted, Terminated];
        let events = [
            Invite,
            Ack,
            Provisional,
            Success,
            Failure,
            TransportError,
            TimerG,
            TimerH,
            TimerI,
            TimerL,
        ];
        effects::check(&states, &events, RFC, step);
        assert_eq!(start(), (Proceeding, Effects::DELIVER));
    }
}
