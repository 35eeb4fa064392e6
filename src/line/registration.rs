//! One line's registration.

use super::Token;
use super::credentials::Credentials;
use crate::config;
use crate::source::Flow;
use crate::time::Instant;

/// A binding at the registrar that runs.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    /// The way on which it was made.
    pub flow: Flow,
    /// Values joined by `, `.
    pub service_route: Box<[u8]>,
    /// A URI, or empty.
    pub public_identity: Box<[u8]>,
}

#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub config: config::Line,
    pub token: Token,
    pub credentials: Credentials,
    pub bound: Option<Bound>,
    /// Our address as the peer sees it.
    pub learned: Option<std::net::SocketAddr>,
    /// When something is to be done next.
    pub due: Instant,
}

impl Registration {
    pub fn new(line: &config::Line, token: Token) -> Self {
        Self {
            config: line.clone(),
            token,
            credentials: Credentials::new(line),
            bound: None,
            learned: None,
            due: Instant::default(),
        }
    }

    /// Whether this line of the configuration is the same registration.
    pub fn is_of(&self, line: &config::Line, token: &Token) -> bool {
        self.token == *token && self.config.name == line.name
    }

    pub fn reload(&mut self, line: &config::Line) {
        let is_same = |old: &config::Line| {
            (
                &old.password,
                &old.realm,
                &old.auth_user,
                old.auth_user_with_domain,
            ) == (
                &line.password,
                &line.realm,
                &line.auth_user,
                line.auth_user_with_domain,
            )
        };
        if !is_same(&self.config) {
            self.credentials = Credentials::new(line);
        }
        self.config = line.clone();
    }

    pub fn hurry(&mut self, now: Instant) {
        self.due = now;
    }
}
