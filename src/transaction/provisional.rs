//! RFC 3262 §3: retransmission of a reliable provisional response until its PRACK.
//!
//! ```text
//!            |101-199 sent
//!            V
//!      +-----------+ T1, 2·T1, 4·T1 ...
//!      |           |------+ send response
//!      |  Waiting  |      |
//!      |           |<-----+
//!      +-----------+
//!  PRACK, |      | 64·T1
//!  final  |      | inform TU: reject the INVITE with 5xx
//!  -      V      V
//!      +-----------+
//!      |   Ended   |
//!      +-----------+
//! ```
//!
//! This is the duty of the UAS core and not of the transaction, which is in Proceeding all the while; it stands here
//! because the bytes and the timers do. It goes on over reliable transports too, since the response crosses proxies. One
//! at a time: the core sends the next one when this one is acknowledged.

use super::effects::{Effects, Life, Pace, Report, Timer};

/// States.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No PRACK yet.
    Waiting,
    /// Nothing more to do.
    Ended,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its PRACK came (the core knows: it is a transaction of its own).
    Acknowledged,
    /// The INVITE has its final response.
    Final,
    /// The retransmission interval has passed.
    Interval,
    /// 64·T1 have passed.
    Limit,
}

/// The response was sent.
pub const fn start() -> (State, Effects) {
    (
        State::Waiting,
        Effects::NONE
            .pace(Pace::Begin)
            .life(Life::Start(Timer::ProvisionalLimit)),
    )
}

/// One step. The transport does not matter.
pub const fn step(state: State, event: Event, _reliable: bool) -> (State, Effects) {
    match state {
        State::Waiting => match event {
            Event::Acknowledged | Event::Final => (
                State::Ended,
                Effects::NONE.pace(Pace::Stop).life(Life::Stop),
            ),
            // Not bounded by T2, unlike everything else that a UAS repeats.
            Event::Interval => (state, Effects::SEND.pace(Pace::Double)),
            Event::Limit => (
                State::Ended,
                Effects::report(Report::ProvisionalNotAcknowledged).pace(Pace::Stop),
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
        Waiting Acknowledged any Ended   pace:Stop stop
        Waiting Final        any Ended   pace:Stop stop
        Waiting Interval     any Waiting send pace:Double
        Waiting Limit        any Ended   inform:ProvisionalNotAcknowledged pace:Stop
        Ended   Acknowledged any Ended   -
        Ended   Final        any Ended   -
        Ended   Interval     any Ended   -
        Ended   Limit        any Ended   -
    ";

    #[test]
    fn every_step_is_the_rfcs() {
        use Event::*;
        use State::*;
        effects::check(
            &[Waiting, Ended],
            &[Acknowledged, Final, Interval, Limit],
            RFC,
            step,
        );
        assert_eq!(
            effects::words(start().1),
            "pace:Begin start:ProvisionalLimit"
        );
    }
}
