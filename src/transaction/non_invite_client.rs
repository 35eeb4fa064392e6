//! RFC 3261 §17.1.2: the non-INVITE client transaction.
//!
//! ```text
//!                                |Request from TU
//!                                |send request
//!            Timer E             V
//!            send request  +-----------+
//!                +---------|           |-------------------+
//!                |         |  Trying   |  Timer F          |
//!                +-------->|           |  or Transport Err.|
//!                          +-----------+  inform TU        |
//!             200-699         |  |                         |
//!             resp. to TU     |  |1xx                      |
//!             +---------------+  |resp. to TU              |
//!             |                  |                         |
//!             |   Timer E        V       Timer F           |
//!             |   send req +-----------+ or Transport Err. |
//!             |  +---------|           | inform TU         |
//!             |  |         |Proceeding |------------------>|
//!             |  +-------->|           |-----+             |
//!             |            +-----------+     |1xx          |
//!             |              |      ^        |resp to TU   |
//!             | 200-699      |      +--------+             |
//!             | resp. to TU  |                             |
//!             |              V                             |
//!             |            +-----------+                   |
//!             +----------->| Completed |                   |
//!                          +-----------+                   |
//!                                | Timer K                 |
//!                                | -                       |
//!                                V                         |
//!                          +-----------+                   |
//!                          | Terminated|<------------------+
//!                          +-----------+
//! ```

use super::effects::{Effects, Life, Pace, Report, Timer};

/// States of RFC 3261 Figure 6.
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
    /// 1xx.
    Provisional,
    /// 200 to 699.
    Final,
    TransportError,
    TimerE,
    TimerF,
    TimerK,
}

/// The request from the transaction user.
pub const fn start(reliable: bool) -> (State, Effects) {
    let pace = if reliable { Pace::Keep } else { Pace::Begin };
    (
        State::Trying,
        Effects::SEND.pace(pace).life(Life::Start(Timer::F)),
    )
}

/// One step.
pub const fn step(state: State, event: Event, reliable: bool) -> (State, Effects) {
    const COMPLETED: (State, Effects) = (
        State::Completed,
        Effects::DELIVER
            .pace(Pace::Stop)
            .life(Life::Start(Timer::K)),
    );
    const TIMEOUT: (State, Effects) = (State::Terminated, Effects::report(Report::Timeout));
    const FAILED: (State, Effects) = (State::Terminated, Effects::report(Report::Transport));
    match state {
        State::Trying => match event {
            // Timer E runs on as it was set; its next value is T2.
            Event::Provisional => (State::Proceeding, Effects::DELIVER),
            Event::Final => COMPLETED,
            Event::TransportError => FAILED,
            Event::TimerE if reliable => (state, Effects::NONE),
            Event::TimerE => (state, Effects::SEND.pace(Pace::DoubleToT2)),
            Event::TimerF => TIMEOUT,
            Event::TimerK => (state, Effects::NONE),
        },
        State::Proceeding => match event {
            Event::Provisional => (state, Effects::DELIVER),
            Event::Final => COMPLETED,
            Event::TransportError => FAILED,
            Event::TimerE if reliable => (state, Effects::NONE),
            Event::TimerE => (state, Effects::SEND.pace(Pace::T2)),
            Event::TimerF => TIMEOUT,
            Event::TimerK => (state, Effects::NONE),
        },
        State::Completed => match event {
            Event::TimerK => (State::Terminated, Effects::NONE),
            Event::Provisional
            | Event::Final
            | Event::TransportError
            | Event::TimerE
            | Event::TimerF => (state, Effects::NONE),
        },
        State::Terminated => (state, Effects::NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::effects;

    const RFC: &str = "
        Trying     Provisional    any Proceeding deliver
        Trying     Final          any Completed  deliver pace:Stop start:K
        Trying     TransportError any Terminated inform:Transport
        Trying     TimerE         udp Trying     send pace:DoubleToT2
        Trying     TimerE         tcp Trying     -
        Trying     TimerF         any Terminated inform:Timeout
        Trying     TimerK         any Trying     -
        Proceeding Provisional    any Proceeding deliver
        Proceeding Final          any Completed  deliver pace:Stop start:K
        Proceeding TransportError any Terminated inform:Transport
        Proceeding TimerE         udp Proceeding send pace:T2
        Proceeding TimerE         tcp Proceeding -
        Proceeding TimerF         any Terminated inform:Timeout
        Proceeding TimerK         any Proceeding -
        Completed  Provisional    any Completed  -
        Completed  Final          any Completed  -
        Completed  TransportError any Completed  -
        Completed  TimerE         any Completed  -
        Completed  TimerF         any Completed  -
        Completed  TimerK         any Terminated -
        Terminated Provisional    any Terminated -
        Terminated Final          any Terminated -
        Terminated TransportError any Terminated -
        Terminated TimerE         any Terminated -
        Terminated TimerF         any Terminated -
        Terminated TimerK         any Terminated -
    ";

    #[test]
    fn every_step_is_the_rfcs() {
        use Event::*;
        use State::*;
        let states = [Trying, Proceeding, Completed, Terminated];
        let events = [Provisional, Final, TransportError, TimerE, TimerF, TimerK];
        effects::check(&states, &events, RFC, step);
        let words = |reliable| (start(reliable).0, effects::words(start(reliable).1));
        assert_eq!(
            words(false),
            (Trying, "send pace:Begin start:F".to_string())
        );
        assert_eq!(words(true), (Trying, "send start:F".to_string()));
    }
}
