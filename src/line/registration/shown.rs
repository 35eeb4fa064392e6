//! What people are shown of a line: its state in one word, the last answer in theirs, and a line of the log for each change.

use super::{Phase, Registration};
use crate::api::{self, Event, Rfc3339};
use crate::line::Turn;
use crate::time::{Instant, Now, UnixTime};

/// What people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Registered,
    Registering,
    Refused,
    Unreachable,
    Off,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Registering => "registering",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Off => "off",
        }
    }
}

impl Registration {
    pub(super) fn state(&self) -> State {
        match (&self.failure, &self.phase) {
            _ if self.bound.is_some() => State::Registered,
            _ if !self.is_wanted() => State::Off,
            (Some(failure), _) if failure.status.is_none() => State::Unreachable,
            (Some(_), _) => State::Refused,
            (None, _) => State::Registering,
        }
    }

    /// Logs a change of state, once.
    pub(super) fn say(&mut self, turn: &mut Turn<'_>) {
        let state = self.state();
        let is_failing = self.failure.is_some();
        if self.said == (state, is_failing) {
            return;
        }
        if self.said.0 != state {
            self.since = turn.now.unix;
        }
        self.said = (state, is_failing);
        let mut fields = vec![
            ("line", self.config.name.clone()),
            ("account", self.config.account.clone()),
            ("state", state.name().to_owned()),
        ];
        if let Some((status, reason)) = &self.last {
            fields.extend(status.map(|status| ("status", status.to_string())));
            fields.push(("reason", reason.clone()));
        }
        let clock = |at: Instant| Rfc3339(unix(turn.now, at)).to_string();
        if let Some(bound) = &self.bound {
            fields.push(("expires", clock(bound.until)));
        }
        if is_failing && let Phase::Waiting(at) = self.phase {
            fields.push(("next_attempt", clock(at)));
        }
        let hint = self.failure.as_ref().and_then(|failure| failure.hint);
        fields.extend(hint.map(|hint| ("hint", hint.to_owned())));
        let level = match is_failing {
            true => log::Level::Warn,
            false => log::Level::Info,
        };
        turn.out.event(Event {
            level,
            name: "line",
            source: None,
            fields: fields.into(),
        });
    }

    /// As people are shown it.
    pub fn item(&self, now: Now) -> api::Line {
        let clock = |at: Instant| Rfc3339(unix(now, at));
        let next_attempt = match self.phase {
            Phase::Waiting(at) if self.is_wanted() => Some(clock(at)),
            _ => None,
        };
        let (status, reason) = match &self.last {
            Some((status, reason)) => (*status, Some(reason.clone())),
            None => (None, None),
        };
        api::Line {
            name: self.config.name.clone(),
            account: self.config.account.clone(),
            state: self.state().name(),
            status,
            reason,
            since: Some(Rfc3339(self.since)),
            expires: self.bound.as_ref().map(|bound| clock(bound.until)),
            next_attempt,
        }
    }
}
/// A later time on the wall clock.
fn unix(now: Now, at: Instant) -> UnixTime {
    now.unix.plus(at.since(now.mono))
}
