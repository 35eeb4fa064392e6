//! One line's registration as a machine: what an answer, silence, time or a person makes of it.
//!
//! ```text
//!           due                    2xx with our Contact
//!  Waiting ─────▶ Asking ──────────────────────────────────▶ Waiting (bound; due at about half of its time)
//!     ▲            │  ▲ 401, 407, 423: again at once; 503, silence: the next address at once
//!     │            └──┘
//!     └── any other answer, nobody at all: due after 5 s, 10 s … 30 min
//!
//!  Nothing wanted (register = no, a stop, gone from the file): what is bound is removed by the same way, then Off
//! ```
//!
//! Wherever something is wanted there is a next deadline: it never gives up. Whatever a peer answers, an attempt is a handful of
//! requests ([`Attempt`]), and attempts are [`LINE_HURRY`] apart at least.

mod shown;

use std::net::SocketAddr;
use std::time::Duration;

use super::answer::{self, Granted};
use super::credentials::{Asked, Credentials};
use super::request::{Manners, Way, compose, registrar_uri};
use super::{Next, Silence, Token, Turn, pace};
use crate::config;
use crate::limits::{
    LINE_ANSWERS_MAX, LINE_ASKED_MAX, LINE_ATTEMPT_MAX, LINE_GRANT_MAX, LINE_HURRY, LINE_SETTLED,
    NAME_CANDIDATES_MAX,
};
use crate::message::{Message, Method};
use crate::source::Flow;
use crate::time::{Instant, Now, UnixTime};
use crate::token::{Tokens, hex};
use shown::State;

/// A binding at the registrar that runs.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    /// The way on which it was made.
    pub way: Way,
    since: Instant,
    pub until: Instant,
    /// Values joined by `, `.
    pub service_route: Box<[u8]>,
    /// The same.
    pub path: Box<[u8]>,
    /// A URI, or empty.
    pub public_identity: Box<[u8]>,
}

/// What a line is doing.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Nothing, and nothing is wanted.
    Off,
    /// The next REGISTER goes out at this time.
    Waiting(Instant),
    /// One is on its way.
    Asking(Box<Attempt>),
}

/// From the first request to the last answer to it or to those that follow at once.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// Serial of the request that is on its way.
    pub request: u32,
    pub is_removal: bool,
    pub way: Way,
    /// Addresses that were asked, this one included.
    pub tried: Vec<SocketAddr>,
    /// Statuses of the challenges that were answered at this address.
    answered: Vec<u16>,
    /// The request that is on its way answers a challenge to it, and not one of an earlier attempt.
    has_answer: bool,
    /// A 423 was followed.
    is_lengthened: bool,
    /// What an address before this one said.
    failure: Option<Failure>,
    /// It is given up then.
    until: Instant,
}

/// Why a line is not registered, or was not refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Status of the answer; `None`: nobody has answered.
    pub status: Option<u16>,
    /// In words.
    pub reason: String,
    /// What the file could say instead.
    pub hint: Option<&'static str>,
    pub retry_after: Option<Duration>,
}

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    /// From the configuration.
    pub is_gone: bool,
    pub config: config::Line,
    pub token: Token,
    pub credentials: Credentials,
    pub call_id: [u8; 32],
    pub tag: [u8; 16],
    pub cseq: u32,
    pub phase: Phase,
    pub bound: Option<Bound>,
    /// Our address as the peer sees it.
    pub learned: Option<SocketAddr>,
    /// The server stops.
    is_stopping: bool,
    /// Seconds that are asked for: the file's, or what a 423 wanted.
    interval: u64,
    /// A REGISTER with this Call-ID was accepted.
    call_id_worked: bool,
    /// Attempts that failed, in a row.
    failures: u32,
    /// When the last attempt began.
    last_attempt: Option<Instant>,
    /// Addresses that were asked in vain since it was registered last, at most [`LINE_ASKED_MAX`].
    asked_in_vain: Vec<SocketAddr>,
    /// Status and words of the last answer that settled something.
    last: Option<(Option<u16>, String)>,
    failure: Option<Failure>,
    /// The state that was logged last, whether it was with a failure, and since when it is.
    said: (State, bool),
    since: UnixTime,
    /// When its way is kept open next.
    pub keepalive: Option<Instant>,
    /// The entry of the timers' list that stands for it.
    pub armed: Option<Instant>,
}

impl Registration {
    /// Of a line that is not registered; its first attempt is due at once.
    pub fn new(now: Now, line: &config::Line, token: Token) -> Self {
        let (phase, state) = match line.register {
            true => (Phase::Waiting(now.mono), State::Registering),
            false => (Phase::Off, State::Off),
        };
        let mut registration = Self {
            is_gone: false,
            config: line.clone(),
            token,
            credentials: Credentials::new(line),
            call_id: [0; 32],
            tag: [0; 16],
            cseq: 0,
            phase,
            bound: None,
            learned: None,
            is_stopping: false,
            interval: line.expires.as_secs(),
            call_id_worked: false,
            failures: 0,
            last_attempt: None,
            asked_in_vain: Vec::new(),
            last: None,
            failure: None,
            said: (state, false),
            since: now.unix,
            keepalive: None,
            armed: None,
        };
        registration.keep_alive_again(now.mono);
        registration
    }

    /// Another configuration for it.
    pub fn reload(&mut self, now: Now, line: &config::Line) {
        let login = |line: &config::Line| {
            let name = (line.auth_user.clone(), line.auth_user_with_domain);
            (name, line.password.clone(), line.realm.clone())
        };
        let is_other_login = login(&self.config) != login(line);
        let is_other = is_other_login
            || (self.config.register, self.config.expires) != (line.register, line.expires)
            || self.config.new_call_id != line.new_call_id;
        let had_keepalive = self.config.keepalive;
        self.config = line.clone();
        self.interval = line.expires.as_secs();
        if is_other_login {
            self.credentials = Credentials::new(line);
        }
        if is_other {
            self.failures = 0;
            self.asked_in_vain.clear();
            if !matches!(self.phase, Phase::Asking(_)) {
                self.plan(now.mono, now.mono);
            }
        }
        if had_keepalive != line.keepalive {
            self.keep_alive_again(now.mono);
        }
    }

    /// It is gone from the configuration, or the server stops: what is bound is removed.
    pub fn leave(&mut self, now: Instant, is_gone: bool) {
        self.is_gone |= is_gone;
        self.is_stopping = true;
        self.keepalive = None;
        if !matches!(self.phase, Phase::Asking(_)) {
            self.plan(now, now);
        }
    }

    /// It is in the configuration again. What is on its way is waited for; then it registers anew.
    pub fn stay(&mut self, now: Instant) {
        self.is_gone = false;
        self.is_stopping = false;
        self.failures = 0;
        self.keep_alive_again(now);
        if !matches!(self.phase, Phase::Asking(_)) {
            self.plan(now, now);
            self.hurry_not_before();
        }
    }

    /// Whether something is still to be removed, or may be.
    pub fn is_leaving(&self) -> bool {
        self.is_stopping && !matches!(self.phase, Phase::Off)
    }

    fn is_wanted(&self) -> bool {
        self.config.register && !self.is_stopping
    }

    /// When something is to be done next; `None`: nothing ever.
    pub fn due(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Off => None,
            Phase::Waiting(at) => Some(*at),
            Phase::Asking(attempt) => Some(attempt.until),
        };
        let expiry = self.bound.as_ref().map(|bound| bound.until);
        [phase, expiry, self.keepalive].into_iter().flatten().min()
    }

    /// What follows: `at` is when to register (again), if that is wanted.
    fn plan(&mut self, now: Instant, at: Instant) {
        self.phase = if self.is_wanted() {
            Phase::Waiting(at)
        } else if self.bound.is_some() {
            Phase::Waiting(now)
        } else {
            Phase::Off
        };
    }

    /// Whether the next REGISTER removes the binding.
    pub fn is_removal(&self) -> bool {
        !self.is_wanted()
    }

    /// To whom requests must not go in this attempt: who has been asked already.
    pub fn tried(&self) -> &[SocketAddr] {
        match &self.phase {
            Phase::Asking(attempt) => &attempt.tried,
            Phase::Off | Phase::Waiting(_) => &[],
        }
    }

    /// Something has changed: the next attempt begins soon, unless the registrar wants to be left alone.
    pub fn hurry(&mut self, now: Instant) {
        if self.asked_to_wait().is_none() {
            self.hurry_anyway(now);
        }
    }

    /// Our address has changed: nobody was asked from the new one.
    pub fn rerouted(&mut self, now: Instant) {
        self.asked_in_vain.clear();
        self.hurry(now);
    }

    /// The next attempt begins soon, whatever was to be waited for, but [`LINE_HURRY`] after the one before at the earliest.
    pub fn hurry_anyway(&mut self, now: Instant) {
        let earliest = self
            .last_attempt
            .map_or(now, |last| last.plus(LINE_HURRY))
            .max(now);
        if self.is_wanted()
            && let Phase::Waiting(at) = &mut self.phase
        {
            *at = earliest.min(*at);
        }
    }

    /// The way on which it is bound is gone.
    pub fn flow_lost(&mut self, turn: &mut Turn<'_>) {
        self.settle(turn.now.mono);
        let Some(bound) = self.bound.take() else {
            return;
        };
        if turn.now.mono.since(bound.since) < LINE_SETTLED {
            self.failures = self.failures.saturating_add(1);
        }
        self.last = Some((None, "the connection was closed".to_owned()));
        if !matches!(self.phase, Phase::Asking(_)) {
            let at = match self.failures {
                0 => turn.now.mono,
                failures => (turn.now.mono).plus(pace::backoff(failures, None, turn.tokens)),
            };
            let at = self.asked_to_wait().map_or(at, |until| until.max(at));
            self.plan(turn.now.mono, at);
            self.hurry_not_before();
        }
        self.say(turn);
    }

    /// Until when its registrar wants to be left alone (RFC 3261 §21.5.4), whatever becomes of the connection; `None`: it has
    /// not said so.
    fn asked_to_wait(&self) -> Option<Instant> {
        self.failure.as_ref()?.retry_after?;
        match self.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Off | Phase::Asking(_) => None,
        }
    }

    /// A registration that has lasted has succeeded, whatever there was before.
    fn settle(&mut self, now: Instant) {
        let since = self.bound.as_ref().map(|bound| bound.since);
        if self.failure.is_none() && since.is_some_and(|since| now.since(since) >= LINE_SETTLED) {
            self.failures = 0;
        }
    }

    fn hurry_not_before(&mut self) {
        if let (Phase::Waiting(at), Some(last)) = (&mut self.phase, self.last_attempt) {
            *at = last.plus(LINE_HURRY).max(*at);
        }
    }

    /// Its transactions go on over another connection, and so does it.
    pub fn moved(&mut self, flow: &Flow) {
        if let Phase::Asking(attempt) = &mut self.phase {
            attempt.way.flow = *flow;
        }
    }

    /// Composes the next REGISTER for this way, as the request `serial`.
    pub fn ask(
        &mut self,
        now: Instant,
        way: &Way,
        serial: u32,
        manners: &Manners<'_>,
        tokens: &mut Tokens,
        buffer: &mut Vec<u8>,
    ) {
        let is_removal = self.is_removal();
        self.begin(now, way, serial, tokens);
        self.cseq = self.cseq.saturating_add(1);
        let uri = registrar_uri(&self.config);
        let asked = Asked {
            method: Method::Register,
            uri: &uri,
        };
        let mut authorization = Vec::new();
        (self.credentials).authorize_register(&asked, tokens, &mut authorization);
        let expires = if is_removal { 0 } else { self.interval };
        compose(self, way, expires, manners, &authorization, buffer);
    }

    /// Takes down that a request goes this way: the first of an attempt, or a further one.
    fn begin(&mut self, now: Instant, way: &Way, serial: u32, tokens: &mut Tokens) {
        let is_removal = self.is_removal();
        let until = now.plus(LINE_ATTEMPT_MAX);
        if let Phase::Asking(attempt) = &mut self.phase {
            if attempt.way.flow.remote != way.flow.remote {
                attempt.answered.clear();
                attempt.has_answer = false;
            }
            attempt.request = serial;
            attempt.is_removal = is_removal;
            attempt.way = *way;
            attempt.until = until;
            if !attempt.tried.contains(&way.flow.remote) {
                attempt.tried.push(way.flow.remote);
            }
            return;
        }
        let is_new = self.cseq == 0 || (self.config.new_call_id && !is_removal);
        if is_new {
            let call_id = [0, 1].map(|_| hex::<16>(tokens.next_u64()));
            self.call_id.copy_from_slice(call_id.as_flattened());
            self.tag = hex(tokens.next_u64());
            self.cseq = 0;
            self.call_id_worked = false;
        }
        self.last_attempt = Some(now);
        self.phase = Phase::Asking(Box::new(Attempt {
            request: serial,
            is_removal,
            way: *way,
            tried: vec![way.flow.remote],
            answered: Vec::new(),
            has_answer: false,
            is_lengthened: false,
            failure: None,
            until,
        }));
    }

    /// A response to the request that is on its way.
    pub fn receive(&mut self, response: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let Phase::Asking(attempt) = &self.phase else {
            return Next::Done;
        };
        let (is_removal, has_answer) = (attempt.is_removal, attempt.has_answer);
        if let Some(learned) = answer::learned(response, attempt.way.ours) {
            self.learned = Some(learned);
        }
        match response.status() {
            ..200 => return Next::Done,
            200..300 if is_removal => self.removed(turn),
            200..300 => self.accepted(response, turn),
            401 | 407 => return self.challenged(response, turn),
            423 if !is_removal && self.lengthen(response) => return Next::Again,
            // RFC 3263 §4.3: whoever is overloaded or out of order is not the only one.
            status @ 503 => {
                let failure = Failure {
                    retry_after: response.retry_after(),
                    ..Failure::answer(status, answer::phrase(response))
                };
                return self.elsewhere(failure);
            }
            _ if is_removal => self.removed(turn),
            status => {
                let failure = self.refusal(status, has_answer, response);
                self.failed(failure, turn);
            }
        }
        Next::Done
    }

    /// Nobody has answered the request that is on its way.
    pub fn silent(&mut self, silence: Silence, turn: &mut Turn<'_>) -> Next {
        let Phase::Asking(attempt) = &self.phase else {
            return Next::Done;
        };
        let remote = attempt.way.flow.remote;
        let reason = match silence {
            Silence::NoAnswer => format!("{remote} does not answer"),
            Silence::NoConnection => format!("no connection to {remote}"),
            Silence::Stranger(from) => {
                let missing = match from.ip() == remote.ip() {
                    true => from.to_string(),
                    false => from.ip().to_string(),
                };
                format!(
                    "{from} asks for the password in place of {remote}, and is no address of the line: \
                     addresses = {missing} in its section trusts it"
                )
            }
        };
        if attempt.is_removal {
            self.removed(turn);
            return Next::Done;
        }
        self.elsewhere(Failure::nobody(reason))
    }

    /// The next address, if there is one.
    fn elsewhere(&mut self, failure: Failure) -> Next {
        let Phase::Asking(attempt) = &mut self.phase else {
            return Next::Done;
        };
        // An answer says more than silence.
        if attempt
            .failure
            .as_ref()
            .is_none_or(|old| old.status.is_none())
        {
            attempt.failure = Some(failure);
        }
        Next::Elsewhere
    }

    /// There is no (further) address to ask: `reason` says why, unless those before have said more.
    pub fn nowhere(&mut self, reason: String, turn: &mut Turn<'_>) {
        // A refresh that was on its way when the line was to leave has removed nothing: that is still to be asked.
        let (before, is_removal) = match &mut self.phase {
            Phase::Asking(attempt) => (attempt.failure.take(), attempt.is_removal),
            Phase::Waiting(_) => (None, self.is_removal()),
            Phase::Off => return,
        };
        if !matches!(self.phase, Phase::Asking(_)) {
            self.last_attempt = Some(turn.now.mono);
        }
        match is_removal {
            true => self.removed(turn),
            false => self.failed(before.unwrap_or_else(|| Failure::nobody(reason)), turn),
        }
    }

    /// Where it may ask is known anew: whoever has not been asked in vain is asked soon. Addresses that take turns are no
    /// reason to ask them more often, and where there are too many to remember none is.
    pub fn look_again(&mut self, now: Instant, mut known: impl Iterator<Item = SocketAddr>) {
        let has_answer = (self.failure.as_ref()).is_some_and(|failure| failure.status.is_some());
        let is_registered = self.bound.is_some() && self.failure.is_none();
        let has_room = self.asked_in_vain.len() < LINE_ASKED_MAX;
        let mut is_other = || known.any(|own| !self.asked_in_vain.contains(&own));
        if !has_answer && !is_registered && has_room && is_other() {
            self.hurry(now);
        }
    }

    /// Whether another address may be asked in this attempt.
    pub fn may_ask_another(&self) -> bool {
        self.tried().len() < NAME_CANDIDATES_MAX
    }

    /// 401, 407.
    fn challenged(&mut self, response: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let Phase::Asking(attempt) = &mut self.phase else {
            return Next::Done;
        };
        let status = response.status();
        let uri = registrar_uri(&self.config);
        let asked = Asked {
            method: Method::Register,
            uri: &uri,
        };
        let is_first = !attempt.answered.contains(&status);
        let is_left = attempt.answered.len() < usize::from(LINE_ANSWERS_MAX);
        let is_stale = Credentials::is_stale(response);
        if is_left && (is_first || is_stale) {
            match self.credentials.learn(response, &asked) {
                Ok(()) => {
                    attempt.answered.push(status);
                    attempt.has_answer = true;
                    return Next::Again;
                }
                Err(why) => {
                    let failure = Failure::answer(status, why.to_string());
                    self.give_up(failure, turn);
                    return Next::Done;
                }
            }
        }
        let phrase = answer::phrase(response);
        let reason = match is_stale || is_first {
            true => format!("{phrase}: every answer is met with another challenge"),
            false => format!("{phrase}: user name or password is wrong"),
        };
        self.credentials.forget();
        self.give_up(Failure::answer(status, reason), turn);
        Next::Done
    }

    fn give_up(&mut self, failure: Failure, turn: &mut Turn<'_>) {
        match self.is_asking_removal() {
            true => self.removed(turn),
            false => self.failed(failure, turn),
        }
    }

    fn is_asking_removal(&self) -> bool {
        matches!(&self.phase, Phase::Asking(attempt) if attempt.is_removal)
    }

    /// 423 (§10.2.8): asks for as long as the registrar wants, once.
    fn lengthen(&mut self, response: &Message<'_>) -> bool {
        let Phase::Asking(attempt) = &mut self.phase else {
            return false;
        };
        let wanted = u64::from(response.min_expires().unwrap_or(0));
        let is_usable = wanted > self.interval && wanted <= LINE_GRANT_MAX.as_secs();
        if attempt.is_lengthened || !is_usable {
            return false;
        }
        attempt.is_lengthened = true;
        self.interval = wanted;
        true
    }

    /// Any other answer than those that are followed.
    fn refusal(&self, status: u16, has_answer: bool, response: &Message<'_>) -> Failure {
        let phrase = answer::phrase(response);
        let mut failure = Failure::answer(status, phrase);
        failure.retry_after = response.retry_after();
        match status {
            300..400 => failure
                .reason
                .push_str(": it names another place, which is not followed"),
            403 if has_answer && !self.credentials.has_domain() => {
                failure.hint = Some("auth_user_with_domain = yes");
            }
            400 | 500 if self.call_id_worked && !self.config.new_call_id => {
                failure.hint = Some("new_call_id = yes");
            }
            423 => failure
                .reason
                .push_str(": it wants a time that cannot be asked for"),
            _ => {}
        }
        if let Some(hint) = failure.hint {
            failure.reason.push_str(": perhaps it wants ");
            failure.reason.push_str(hint);
        }
        failure
    }

    /// A 2xx.
    fn accepted(&mut self, response: &Message<'_>, turn: &mut Turn<'_>) {
        let Phase::Asking(attempt) = &self.phase else {
            return;
        };
        let way = attempt.way;
        let asked = u32::try_from(self.interval).unwrap_or(u32::MAX);
        let seconds = match answer::granted(response, &self.token, way.ours, asked) {
            Granted::For(seconds) => seconds,
            Granted::Not => {
                let reason = "it grants no time at all".to_owned();
                return self.failed(Failure::answer(response.status(), reason), turn);
            }
            Granted::Missing(others) => {
                let reason = format!("our Contact is not among the {others} that it lists");
                return self.failed(Failure::answer(response.status(), reason), turn);
            }
        };
        let granted = pace::granted(seconds);
        let now = turn.now.mono;
        let same = (self.bound.as_ref()).filter(|bound| bound.way.flow == way.flow);
        let since = same.map(|bound| bound.since);
        self.bound = Some(Bound {
            way,
            since: since.unwrap_or(now),
            until: now.plus(granted),
            service_route: answer::service_route(response),
            path: answer::path(response),
            public_identity: answer::public_identity(response),
        });
        self.credentials.take_next_nonce(response);
        self.call_id_worked = true;
        self.failure = None;
        self.asked_in_vain.clear();
        // Over a connection it must last first: a peer may close each one at once.
        if since.is_some() || !way.flow.transport.is_reliable() {
            self.failures = 0;
        }
        self.last = Some((Some(response.status()), answer::phrase(response)));
        let asked = Duration::from_secs(self.interval);
        let refresh = pace::refresh(
            granted.min(asked.max(crate::limits::LINE_GRANT_MIN)),
            turn.tokens,
        );
        self.plan(now, now.plus(refresh));
        self.hurry_not_before();
        self.keep_alive_again(now);
        self.say(turn);
    }

    /// Nothing is bound any more, as far as we can know.
    fn removed(&mut self, turn: &mut Turn<'_>) {
        self.bound = None;
        self.last = None;
        self.failure = None;
        // Perhaps it is wanted again by now.
        self.plan(turn.now.mono, turn.now.mono);
        self.hurry_not_before();
        self.say(turn);
    }

    /// The attempt has failed. What is bound stays so for its time.
    fn failed(&mut self, failure: Failure, turn: &mut Turn<'_>) {
        self.settle(turn.now.mono);
        if let Phase::Asking(attempt) = &mut self.phase {
            for address in std::mem::take(&mut attempt.tried) {
                if self.asked_in_vain.len() < LINE_ASKED_MAX
                    && !self.asked_in_vain.contains(&address)
                {
                    self.asked_in_vain.push(address);
                }
            }
        }
        self.failures = self.failures.saturating_add(1);
        let waited = pace::backoff(self.failures, failure.retry_after, turn.tokens);
        self.last = Some((failure.status, failure.reason.clone()));
        self.failure = Some(failure);
        self.plan(turn.now.mono, turn.now.mono.plus(waited));
        self.say(turn);
    }

    /// The request that is on its way is given up; whatever is bound has perhaps ended.
    pub fn expire(&mut self, turn: &mut Turn<'_>) -> bool {
        let now = turn.now.mono;
        let mut is_any = false;
        if self.bound.as_ref().is_some_and(|bound| bound.until <= now) {
            self.bound = None;
            if !self.is_wanted() && matches!(self.phase, Phase::Waiting(_)) {
                self.plan(now, now);
            }
            self.say(turn);
            is_any = true;
        }
        if let Phase::Asking(attempt) = &self.phase
            && attempt.until <= now
        {
            let remote = attempt.way.flow.remote;
            let failure = Failure::nobody(format!("{remote} does not answer"));
            self.give_up(failure, turn);
            is_any = true;
        }
        is_any
    }

    /// When the way is kept open next: so often as the file says, a little earlier, so that not all do it at once.
    pub fn keep_alive_again(&mut self, now: Instant) {
        let is_used = self.bound.is_some() || !self.config.register;
        let every = self
            .config
            .keepalive
            .filter(|_| is_used && !self.is_stopping);
        self.keepalive = every.map(|every| now.plus(every));
    }
}

impl Failure {
    fn answer(status: u16, reason: String) -> Self {
        Self {
            status: Some(status),
            reason,
            hint: None,
            retry_after: None,
        }
    }

    fn nobody(reason: String) -> Self {
        Self {
            status: None,
            reason,
            hint: None,
            retry_after: None,
        }
    }
}
