//! RFC 3261 §17.1.1 with RFC 6026 §7.2: the INVITE client transaction.
//!
//! ```text
//!                                  |INVITE from TU
//!                Timer A fires     |INVITE sent      Timer B fires
//!                Reset A,          V                 or Transport Err.
//!                INVITE sent +-----------+           inform TU
//!                  +---------|           |--------------------------+
//!                  |         |  Calling  |                          |
//!                  +-------->|           |-----------+              |
//! 300-699                    +-----------+ 2xx       |              |
//! ACK sent                      |  |       2xx to TU |              |
//! resp. to TU                   |  |1xx              |              |
//! +-----------------------------+  |1xx to TU        |              |
//! |                                |                 |              |
//! |                1xx             V                 |              |
//! |                1xx to TU +-----------+           |              |
//! |                  +-------|           |           |              |
//! |                  |       |Proceeding |           |              |
//! |                  +------>|           |-----------|------------->|
//! |                          +-----------+ 2xx       | cancelled,   |
//! |             300-699         |    |     2xx to TU | 64·T1 ago    |
//! |             ACK sent,       |    |               | inform TU    |
//! |             resp. to TU     |    +---------------+              |
//! |                             |                    |              |
//! |                             V                    V              |
//! | 300-699     +-----------+            +-----------+  2xx         |
//! | ACK sent +--|           |            |           |--+ 2xx to TU |
//! |          |  | Completed |            | Accepted  |  |           |
//! |          +->|           |            |           |<-+           |
//! +------------>+-----------+            +-----------+              |
//!                 |  | Transport Err.          |                    |
//!   Timer D fires |  | inform TU               | Timer M fires      |
//!   -             |  |                         | -                  |
//!                 V  V                         V                    |
//!               +------------------------------------+              |
//!               |             Terminated             |<-------------+
//!               +------------------------------------+
//! ```
//!
//! Two edges out of Proceeding are drawn in neither RFC: the end of a cancelled INVITE (§9.1), and a transport error,
//! which there can only be the loss of the connection that the response would have come on (§17.1.4).

use super::effects::{Effects, Life, Pace, Report, Timer};

/// States of RFC 3261 Figure 5 and RFC 6026.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    /// 1xx.
    Provisional,
    /// 2xx.
    Success,
    /// 300 to 699.
    Failure,
    TransportError,
    TimerA,
    TimerB,
    TimerD,
    TimerM,
    /// 64·T1 have gone since CANCEL, without a final response.
    CancelLimit,
}

/// The INVITE from the transaction user.
pub const fn start(reliable: bool) -> (State, Effects) {
    let pace = if reliable { Pace::Keep } else { Pace::Begin };
    (
        State::Calling,
        Effects::SEND.pace(pace).life(Life::Start(Timer::B)),
    )
}

/// One step.
pub const fn step(state: State, event: Event, reliable: bool) -> (State, Effects) {
    const ACCEPTED: (State, Effects) = (
        State::Accepted,
        Effects::DELIVER
            .pace(Pace::Stop)
            .life(Life::Start(Timer::M)),
    );
    const COMPLETED: (State, Effects) = (
        State::Completed,
        Effects {
            acknowledge: true,
            ..Effects::DELIVER
        }
        .pace(Pace::Stop)
        .life(Life::Start(Timer::D)),
    );
    const TIMEOUT: (State, Effects) = (State::Terminated, Effects::report(Report::Timeout));
    const FAILED: (State, Effects) = (State::Terminated, Effects::report(Report::Transport));
    match state {
        State::Calling => match event {
            Event::Provisional => (
                State::Proceeding,
                Effects::DELIVER.pace(Pace::Stop).life(Life::Stop),
            ),
            Event::Success => ACCEPTED,
            Event::Failure => COMPLETED,
            Event::TransportError => FAILED,
            Event::TimerA if reliable => (state, Effects::NONE),
            Event::TimerA => (state, Effects::SEND.pace(Pace::Double)),
            Event::TimerB => TIMEOUT,
            // No CANCEL was sent yet; Timer B runs.
            Event::TimerD | Event::TimerM | Event::CancelLimit => (state, Effects::NONE),
        },
        State::Proceeding => match event {
            Event::Provisional => (state, Effects::DELIVER),
            Event::Success => ACCEPTED,
            Event::Failure => COMPLETED,
            Event::TransportError => FAILED,
            Event::CancelLimit => TIMEOUT,
            Event::TimerA | Event::TimerB | Event::TimerD | Event::TimerM => (state, Effects::NONE),
        },
        State::Completed => match event {
            Event::Failure => (state, Effects::ACKNOWLEDGE),
            Event::TransportError => FAILED,
            Event::TimerD => (State::Terminated, Effects::NONE),
            Event::Provisional
            | Event::Success
            | Event::TimerA
            | Event::TimerB
            | Event::TimerM
            | Event::CancelLimit => (state, Effects::NONE),
        },
        State::Accepted => match event {
            Event::Success => (state, Effects::DELIVER),
            Event::TimerM => (State::Terminated, Effects::NONE),
            // Nothing is sent from here, so no transport error concerns it.
            Event::Provisional
            | Event::Failure
            | Event::TransportError
            | Event::TimerA
            | Event::TimerB
            | Event::TimerD
            | Event::CancelLimit => (state, Effects::NONE),
        },
        State::Terminated => (state, Effects::NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::effects;

    const RFC: &str = "
        Calling    Provisional    any Proceeding deliver pace:Stop stop
        Calling    Success        any Accepted   deliver pace:Stop start:M
        Calling    Failure        any Completed  ack deliver pace:Stop start:D
        Calling    TransportError any Terminated inform:Transport
        Calling    TimerA         udp Calling    send pace:Double
        Calling    TimerA         tcp Calling    -
        Calling    TimerB         any Terminated inform:Timeout
        Calling    TimerD         any Calling    -
        Calling    TimerM         any Calling    -
        Calling    CancelLimit    any Calling    -
        Proceeding Provisional    any Proceeding deliver
        Proceeding Success        any Accepted   deliver pace:Stop start:M
        Proceeding Failure        any Completed  ack deliver pace:Stop start:D
        Proceeding TransportError any Terminated inform:Transport
        Proceeding TimerA         any Proceeding -
        Proceeding TimerB         any Proceeding -
        Proceeding TimerD         any Proceeding -
        Proceeding TimerM         any Proceeding -
        Proceeding CancelLimit    any Terminated inform:Timeout
        Completed  Provisional    any Completed  -
        Completed  Success        any Completed  -
        Completed  Failure        any Completed  ack
        Completed  TransportError any Terminated inform:Transport
        Completed  TimerA         any Completed  -
        Completed  TimerB         any Completed  -
        Completed  TimerD         any Terminated -
        Completed  TimerM         any Completed  -
        Completed  CancelLimit    any Completed  -
        Accepted   Provisional    any Accepted   -
        Accepted   Success        any Accepted   deliver
        Accepted   Failure        any Accepted   -
        Accepted   TransportError any Accepted   -
        Accepted   TimerA         any Accepted   -
        Accepted   TimerB         any Accepted   -
        Accepted   TimerD         any Accepted   -
        Accepted   TimerM         any Terminated -
        Accepted   CancelLimit    any Accepted   -
        Terminated Provisional    any Terminated -
        Terminated Success        any Terminated -
        Terminated Failure        any Terminated -
        Terminated TransportError any Terminated -
        Terminated TimerA         any Terminated -
        Terminated TimerB         any Terminated -
        Terminated TimerD         any Terminated -
        Terminated TimerM         any Terminated -
        Terminated CancelLimit    any Terminated -
    ";

    #[test]
    fn every_step_is_the_rfcs() {
        use Event::*;
        use State::*;
        let states = [Calling, Proceeding, Completed, Accepted, Terminated];
        let events = [
            Provisional,
            Success,
            Failure,
            TransportError,
            TimerA,
            TimerB,
            TimerD,
            TimerM,
            CancelLimit,
        ];
        effects::check(&states, &events, RFC, step);
        let words = |reliable| (start(reliable).0, effects::words(start(reliable).1));
        assert_eq!(
            words(false),
            (Calling, "send pace:Begin start:B".to_string())
        );
        assert_eq!(words(true), (Calling, "send start:B".to_string()));
    }
}
