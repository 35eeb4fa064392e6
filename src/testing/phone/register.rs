//! The phone registers: RFC 3261 §10.2, §22.2. It answers challenges with the credentials of its account.

use super::*;

impl Phone {
    /// Registers, or refreshes.
    pub fn register(&mut self, now: Instant, out: &mut Sent) {
        (self.todo).retain(|Reverse((_, todo))| *todo != Todo::Refresh);
        self.is_leaving = false;
        self.register_challenges = 0;
        self.is_refreshing = true;
        self.send_register(now, out);
        if let Some(every) = self.habits.hammers_ms {
            self.later(now, every, Todo::Refresh);
        }
    }

    /// Takes its bindings back (§10.2.2).
    pub(super) fn unregister(&mut self, now: Instant, out: &mut Sent) {
        (self.todo).retain(|Reverse((_, todo))| *todo != Todo::Refresh);
        self.is_leaving = true;
        self.register_challenges = 0;
        self.is_refreshing = true;
        self.send_register(now, out);
    }

    /// It knows its last nonce, and not any more how often it has used it.
    pub fn forget_count(&mut self) {
        self.nc = 0;
    }

    /// The next registration, unless one is begun by the clock anyway.
    pub(super) fn register_later(&mut self, now: Instant, (from, to): (u64, u64)) {
        self.is_refreshing = false;
        if self.habits.hammers_ms.is_none() {
            let wait = if from < to {
                self.random.between(from, to)
            } else {
                from
            };
            self.later(now, wait, Todo::Refresh);
        }
    }

    pub(super) fn send_register(&mut self, now: Instant, out: &mut Sent) {
        let mut dialog = self.registration.clone();
        self.send_request(now, &mut dialog, Method::Register, What::Register, "", out);
        self.registration = dialog;
    }

    pub(super) fn credentials(&mut self, method: Method, uri: &[u8]) -> Option<Vec<u8>> {
        let challenge = self.challenge.as_ref()?;
        let params = DigestParams::parse(challenge).ok().flatten()?;
        self.nc += 1;
        let login = Login {
            user: &self.user,
            secret: &self.secret,
            method: method.token().as_bytes(),
            uri,
            nc: self.nc,
            cnonce: b"5f0c",
        };
        digest::answer(&params, &login)
    }

    pub(super) fn learn_challenge(&mut self, response: &Message<'_>) {
        if let Some(challenge) = response.value(HeaderName::WwwAuthenticate) {
            (self.challenge, self.nc) = (Some(challenge.to_vec()), 0);
        }
    }

    pub(super) fn register_response(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        out: &mut Sent,
    ) {
        match response.status() {
            100..=199 => {}
            401 => {
                self.learn_challenge(response);
                if self.register_challenges < self.habits.challenges_max {
                    self.register_challenges += 1;
                    self.send_register(now, out);
                } else {
                    self.is_registered = false;
                    self.register_later(now, self.habits.retry_ms);
                }
            }
            200..=299 if self.is_leaving => {
                self.is_registered = false;
                self.is_refreshing = false;
            }
            200..=299 => {
                self.is_registered = true;
                self.proves_within = false;
                self.registered_at.get_or_insert(now);
                self.register_later(now, (200_000, 300_000));
            }
            _ => {
                self.is_registered = false;
                self.register_later(now, self.habits.retry_ms);
            }
        }
    }
}
