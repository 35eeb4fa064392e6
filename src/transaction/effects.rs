//! What a machine wants done, and the timers of RFC 3261 Table 4.
//!
//! The machines only say it; the table has the bytes, the flow and the timer queue and does it.

use std::time::Duration;

use crate::limits::{T1, T1_64, T2, T4};

/// Timers of RFC 3261 Table 4, with L and M of RFC 6026, and four of our own. (Timer C is a proxy's, or here the
/// call's: [`crate::limits::TIMER_C`].)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// §17.1.1.2: INVITE retransmit interval, unreliable transport only.
    A,
    /// §17.1.1.2: INVITE transaction timeout.
    B,
    /// §17.1.1.2: wait time for response retransmits.
    D,
    /// §17.1.2.2: non-INVITE request retransmit interval, unreliable transport only.
    E,
    /// §17.1.2.2: non-INVITE transaction timeout.
    F,
    /// §17.2.1: INVITE response retransmit interval, unreliable transport only.
    G,
    /// §17.2.1: wait time for ACK receipt.
    H,
    /// §17.2.1: wait time for ACK retransmits.
    I,
    /// §17.2.2: wait time for non-INVITE request retransmits.
    J,
    /// §17.1.2.2: wait time for response retransmits.
    K,
    /// RFC 6026 §7.1: wait time for accepted INVITE request retransmits.
    L,
    /// RFC 6026 §7.2: wait time for retransmission of 2xx to INVITE or additional 2xx from other branches.
    M,
    /// §9.1: how long a cancelled INVITE may stay without a final response. Not in Table 4, which gives it no letter.
    CancelLimit,
    /// §13.3.1.4: interval of retransmitting a 2xx, on every transport. Belongs to the UAS core, so has no letter.
    Accept,
    /// RFC 3262 §3: interval of retransmitting a reliable provisional response, on every transport.
    Provisional,
    /// RFC 3262 §3: how long a reliable provisional response waits for its PRACK.
    ProvisionalLimit,
}

impl Timer {
    /// Its (first) value. Zero: on that transport it is not waited for, or for A, E and G: it does not run.
    pub const fn duration(self, reliable: bool) -> Duration {
        match self {
            Self::A | Self::E | Self::G if reliable => Duration::ZERO,
            Self::A | Self::E | Self::G | Self::Accept | Self::Provisional => T1,
            Self::B | Self::F | Self::H | Self::L | Self::M => T1_64,
            Self::CancelLimit | Self::ProvisionalLimit => T1_64,
            Self::D | Self::J if reliable => Duration::ZERO,
            // D: "at least 32 seconds", whatever T1 is; with the default T1, the same.
            Self::D => Duration::from_secs(32),
            Self::J => T1_64,
            Self::I | Self::K if reliable => Duration::ZERO,
            Self::I | Self::K => T4,
        }
    }
}

/// What becomes of the retransmission timer: A, E, G, that of a 2xx or of a reliable provisional response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nothing.
    Keep,
    /// It begins, with T1.
    Begin,
    /// Again, after twice the time (Timer A; a reliable provisional response).
    Double,
    /// Again, after twice the time but at most T2 (Timers E, G; a 2xx).
    DoubleToT2,
    /// Again, after T2 (Timer E in Proceeding).
    T2,
    /// It stops.
    Stop,
}

/// What becomes of the timer that ends a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nothing.
    Keep,
    /// This one starts, in the place of the one that ran. With a value of zero it fires at once.
    Start(Timer),
    /// It stops.
    Stop,
}

/// "Inform TU".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nobody answered in time.
    Timeout,
    /// The transport failed.
    Transport,
    /// A 2xx was never acknowledged (§13.3.1.4).
    NotAcknowledged,
    /// A reliable provisional response was never acknowledged (RFC 3262 §3).
    ProvisionalNotAcknowledged,
}

/// What a step wants done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// Send the request, or the last response.
    pub send: bool,
    /// Send the ACK for a final response other than 2xx (§17.1.1.3).
    pub acknowledge: bool,
    /// Pass what came to the transaction user.
    pub deliver: bool,
    /// Inform the transaction user.
    pub report: Option<Report>,
    /// The retransmission timer.
    pub pace: Pace,
    /// The timer that ends the state.
    pub life: Life,
}

impl Effects {
    /// Nothing to do.
    pub const NONE: Self = Self {
        send: false,
        acknowledge: false,
        deliver: false,
        report: None,
        pace: Pace::Keep,
        life: Life::Keep,
    };
    /// Only pass it on.
    pub(super) const DELIVER: Self = Self {
        deliver: true,
        ..Self::NONE
    };
    /// Only send.
    pub(super) const SEND: Self = Self {
        send: true,
        ..Self::NONE
    };
    /// Only send the ACK.
    pub(super) const ACKNOWLEDGE: Self = Self {
        acknowledge: true,
        ..Self::NONE
    };

    /// Only inform the transaction user.
    pub(super) const fn report(report: Report) -> Self {
        Self {
            report: Some(report),
            ..Self::NONE
        }
    }

    /// And the retransmission timer.
    pub(super) const fn pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// And the timer that ends the state.
    pub(super) const fn life(self, life: Life) -> Self {
        Self { life, ..self }
    }
}

const _: () =
    assert!(T2.as_millis() == 8 * T1.as_millis() && T1_64.as_millis() == 64 * T1.as_millis());

/// Walks every (state, event, transport) of a machine against a table that was written down from the RFC: lines of
/// `State Event udp|tcp|any State effect …`, a `-` for no effect, every combination exactly once.
#[cfg(test)]
pub(super) fn check<S, E>(
    states: &[S],
    events: &[E],
    table: &str,
    step: impl Fn(S, E, bool) -> (S, Effects),
) where
    S: Copy + std::fmt::Debug,
    E: Copy + std::fmt::Debug,
{
    use std::collections::BTreeMap;
    let mut expected = BTreeMap::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [state, event, transport, then, effects @ ..] = words.as_slice() else {
            panic!("short line {line}");
        };
        let transports: &[bool] = match *transport {
            "udp" => &[false],
            "tcp" => &[true],
            "any" => &[false, true],
            _ => panic!("transport in {line}"),
        };
        for &reliable in transports {
            let value = format!("{then} {}", effects.join(" "));
            let key = (state.to_string(), event.to_string(), reliable);
            assert_eq!(expected.insert(key, value), None, "twice: {line}");
        }
    }
    for &state in states {
        for &event in events {
            for reliable in [false, true] {
                let key = (format!("{state:?}"), format!("{event:?}"), reliable);
                let (then, effects) = step(state, event, reliable);
                let got = format!("{then:?} {}", words(effects));
                let want = expected
                    .remove(&key)
                    .unwrap_or_else(|| panic!("no line for {key:?}"));
                assert_eq!(got, want, "{key:?}");
            }
        }
    }
    assert!(expected.is_empty(), "lines for nothing: {expected:?}");
}

/// Effects as the tables of [`check`] write them.
#[cfg(test)]
pub(super) fn words(effects: Effects) -> String {
    let mut words = Vec::new();
    let Effects {
        send,
        acknowledge,
        deliver,
        report,
        pace,
        life,
    } = effects;
    for (is, word) in [(send, "send"), (acknowledge, "ack"), (deliver, "deliver")] {
        if is {
            words.push(word.to_string());
        }
    }
    if let Some(report) = report {
        words.push(format!("inform:{report:?}"));
    }
    if pace != Pace::Keep {
        words.push(format!("pace:{pace:?}"));
    }
    match life {
        Life::Keep => (),
        Life::Start(timer) => words.push(format!("start:{timer:?}")),
        Life::Stop => words.push("stop".to_string()),
    }
    if words.is_empty() {
        "-".to_string()
    } else {
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_table_4() {
        let seconds = |timer: Timer| {
            (
                timer.duration(false).as_secs_f64(),
                timer.duration(true).as_secs_f64(),
            )
        };
        assert_eq!(seconds(Timer::A), (0.5, 0.0));
        assert_eq!(seconds(Timer::B), (32.0, 32.0));
        assert_eq!(seconds(Timer::D), (32.0, 0.0));
        assert_eq!(seconds(Timer::E), (0.5, 0.0));
        assert_eq!(seconds(Timer::F), (32.0, 32.0));
        assert_eq!(seconds(Timer::G), (0.5, 0.0));
        assert_eq!(seconds(Timer::H), (32.0, 32.0));
        assert_eq!(seconds(Timer::I), (5.0, 0.0));
        assert_eq!(seconds(Timer::J), (32.0, 0.0));
        assert_eq!(seconds(Timer::K), (5.0, 0.0));
        assert_eq!(seconds(Timer::L), (32.0, 32.0));
        assert_eq!(seconds(Timer::M), (32.0, 32.0));
        assert_eq!(seconds(Timer::CancelLimit), (32.0, 32.0));
        assert_eq!(seconds(Timer::Accept), (0.5, 0.5));
        assert_eq!(seconds(Timer::Provisional), (0.5, 0.5));
        assert_eq!(seconds(Timer::ProvisionalLimit), (32.0, 32.0));
    }
}
