//! What users have dialled for their calls: `*72NUMBER`, `*73`, `*78`, `*79`. What the file says is the default; what was
//! dialled goes before it until it is dialled away, be it that the calls of a user whom the file has forwarded go on no more.
//! A row says only what the file does not.

use std::collections::HashMap;

use ahash::RandomState;

use super::route::{Lead, Refusal};
use super::*;
use crate::config::{Route, User, without_separators};
use crate::message::HeaderName;
use crate::source::Who;
use crate::store::FeatureRow;

/// Bytes of a number that calls go on to: as of a user's name.
const NUMBER_BYTES_MAX: usize = 64;

/// A feature code.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// `*72NUMBER`: all calls go on to that number.
    Forward(Vec<u8>),
    /// `*73`: to none.
    ForwardNot,
    /// `*78`: nobody reaches the user.
    Silence,
    /// `*79`: everybody does.
    SilenceNot,
}

impl Code {
    fn of(dialled: &[u8]) -> Option<Self> {
        let dialled = without_separators(dialled);
        match &*dialled {
            b"*73" => Some(Self::ForwardNot),
            b"*78" => Some(Self::Silence),
            b"*79" => Some(Self::SilenceNot),
            other => (other.strip_prefix(b"*72")).map(|number| Self::Forward(number.to_vec())),
        }
    }
}

/// What was dialled, by the users' names.
#[derive(Clone)]
pub(super) struct Features {
    dialled: HashMap<Box<str>, FeatureRow, RandomState>,
}

impl Features {
    /// What was kept.
    pub fn new(
        rows: Vec<FeatureRow>,
        config: &Config,
        hasher: RandomState,
        changes: &mut Vec<Change>,
    ) -> Self {
        let mut dialled = HashMap::with_hasher(hasher);
        for row in rows {
            dialled.insert(row.user.as_str().into(), row);
        }
        let mut features = Self { dialled };
        features.reload(config, changes);
        features
    }

    /// A new configuration: whoever is gone from it has dialled nothing when he comes back.
    pub fn reload(&mut self, config: &Config, changes: &mut Vec<Change>) {
        let users: BTreeSet<&str> = config.users.iter().map(|user| user.name.as_str()).collect();
        let gone = |name: &str| FeatureRow {
            user: name.to_owned(),
            forward_always: None,
            do_not_disturb: None,
        };
        let mut names: Vec<Box<str>> = (self.dialled.keys())
            .filter(|name| !users.contains(&***name))
            .cloned()
            .collect();
        names.sort_unstable();
        for name in names {
            self.dialled.remove(&name);
            changes.push(Change::Feature(Box::new(gone(&name))));
        }
    }

    /// What a user has dialled.
    pub fn dialled(&self, user: &str) -> Option<&FeatureRow> {
        self.dialled.get(user)
    }

    /// A user dials a code. What the file says as well need not be kept.
    fn dial(&mut self, user: &User, code: &Code, changes: &mut Vec<Change>) {
        let before = self.dialled.get(user.name.as_str());
        let mut row = before.cloned().unwrap_or_else(|| FeatureRow {
            user: user.name.clone(),
            forward_always: None,
            do_not_disturb: None,
        });
        match code {
            Code::Forward(number) => {
                let number = String::from_utf8_lossy(number).into_owned();
                let in_file = user.forwards.always.as_ref() == Some(&number);
                row.forward_always = (!in_file).then_some(number);
            }
            Code::ForwardNot => {
                row.forward_always = user.forwards.always.is_some().then(String::new);
            }
            Code::Silence => row.do_not_disturb = (!user.do_not_disturb).then_some(true),
            Code::SilenceNot => row.do_not_disturb = user.do_not_disturb.then_some(false),
        }
        match row.is_empty() {
            true => drop(self.dialled.remove(user.name.as_str())),
            false => drop((self.dialled).insert(user.name.as_str().into(), row.clone())),
        }
        changes.push(Change::Feature(Box::new(row)));
    }

    /// The number that all calls of a user go on to.
    pub fn forward_always<'a>(&'a self, user: &'a User) -> Option<&'a str> {
        let dialled = self.dialled.get(user.name.as_str());
        match dialled.and_then(|row| row.forward_always.as_deref()) {
            Some("") => None,
            Some(number) => Some(number),
            None => user.forwards.always.as_deref(),
        }
    }

    /// Whether nobody reaches him.
    pub fn do_not_disturb(&self, user: &User) -> bool {
        let dialled = self.dialled.get(user.name.as_str());
        (dialled.and_then(|row| row.do_not_disturb)).unwrap_or(user.do_not_disturb)
    }
}

impl Endpoint {
    /// Whether a number is none of our codes whatever it begins with: a user or group of that name goes before them, and a
    /// route that is for such codes, one whose prefix begins with a star.
    pub(super) fn is_no_code(&self, dialled: &[u8]) -> bool {
        let bare = without_separators(dialled);
        let is_name =
            |number: &[u8]| self.auth.user(number).is_some() || self.groups.find(number).is_some();
        let route = Route::of(&self.config.routes, &bare);
        is_name(dialled)
            || is_name(&bare)
            || route.is_some_and(|route| route.prefix.starts_with('*'))
    }

    /// The feature code that a user dials.
    pub(super) fn feature_code(
        &self,
        arrival: &crate::call::Arrival<'_>,
        identity: Who,
        dialled: &[u8],
    ) -> Option<(UserId, Code)> {
        let Who::User(user) = identity else {
            return None;
        };
        if !self.config.call.feature_codes || self.is_no_code(dialled) {
            return None;
        }
        let code = Code::of(dialled)?;
        (self.is_ours(arrival.request, &arrival.flow)).then_some((user, code))
    }

    /// Whether what a code says can be done.
    pub(super) fn can_dial_feature(&self, id: UserId, code: &Code) -> Result<(), Refusal> {
        if let Code::Forward(number) = code {
            if number.is_empty() {
                return Err((484, None));
            }
            if number.len() > NUMBER_BYTES_MAX || std::str::from_utf8(number).is_err() {
                return Err((404, None));
            }
            match self.lead(Who::User(id), number) {
                // To himself.
                Lead::User(own) if own == id => return Err((482, None)),
                Lead::Forbidden => return Err((403, None)),
                Lead::Nowhere => return Err((404, None)),
                Lead::User(_) | Lead::Group(_) | Lead::Onward(_) => {}
            }
        }
        Ok(())
    }

    /// Does what a code says; why not, if it cannot be done.
    pub(super) fn dial_feature(&mut self, id: UserId, code: &Code) -> Result<(), Refusal> {
        self.can_dial_feature(id, code)?;
        let user = (self.config.users.get(id.0 as usize)).ok_or((404, None))?;
        self.features.dial(user, code, &mut self.changes);
        let (key, value) = match code {
            Code::Forward(number) => (
                "forward_always",
                String::from_utf8_lossy(number).into_owned(),
            ),
            Code::ForwardNot => ("forward_always", String::new()),
            Code::Silence => ("do_not_disturb", "yes".to_owned()),
            Code::SilenceNot => ("do_not_disturb", "no".to_owned()),
        };
        let fields = vec![("user", user.name.clone()), (key, value)];
        self.event(log::Level::Info, "feature", fields);
        self.keep_changes();
        Ok(())
    }

    /// Does what was dialled by those who had to show first that they are there. Whether it still can be done is asked anew.
    pub(super) fn callers_are_heard(&mut self, now: Now) {
        while let Some(heard) = self.calls.next_heard() {
            let dialled = heard.dialled.as_bytes();
            let request = crate::message::parse(&heard.request).ok();
            let replaces = request.and_then(|request| request.value(HeaderName::Replaces));
            let who = heard.caller.who();
            let picked = match who {
                Who::User(user) if self.config.users.get(user.0 as usize).is_some() => {
                    self.to_pick_up(replaces, who, dialled)
                }
                // Since the last reload there is no such user any more.
                _ => Some(Err((403, None))),
            };
            let done = match (picked, who, Code::of(dialled)) {
                (Some(picked), ..) => picked.map(Some),
                (None, Who::User(user), Some(code)) => {
                    self.dial_feature(user, &code).map(|()| None)
                }
                _ => Err((404, None)),
            };
            let (calls, mut context) = self.split(now);
            match done {
                Ok(None) => calls.is_done(heard.call, &mut context),
                Ok(Some(ringing)) => calls.pick_up_heard(heard.call, ringing, &mut context),
                Err((status, _)) => calls.cannot_be_done(heard.call, status, &mut context),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn codes_are_read_as_they_are_dialled() {
        for (dialled, code) in [
            ("*72100", Some(Code::Forward(b"100".to_vec()))),
            ("*72 +49 (30) 1-2", Some(Code::Forward(b"+493012".to_vec()))),
            ("*72", Some(Code::Forward(Vec::new()))),
            ("*73", Some(Code::ForwardNot)),
            ("*78", Some(Code::Silence)),
            ("*79", Some(Code::SilenceNot)),
            ("*731", None),
            ("*7", None),
            ("72100", None),
        ] {
            assert_eq!(Code::of(dialled.as_bytes()), code, "{dialled}");
        }
    }

    #[test]
    fn what_is_dialled_goes_before_the_file_and_is_kept_as_far_as_it_differs() {
        let config = Config::read(
            "[user a]\nforward_always = c\ndo_not_disturb = yes\n[user b]\n[user c]\n",
            Path::new(""),
        )
        .unwrap();
        let mut changes = Vec::new();
        let kept = FeatureRow {
            user: "gone".into(),
            forward_always: Some("c".into()),
            do_not_disturb: None,
        };
        let mut features = Features::new(
            vec![kept],
            &config,
            RandomState::with_seeds(1, 2, 3, 4),
            &mut changes,
        );
        let last = |changes: &mut Vec<Change>| match changes.pop() {
            Some(Change::Feature(row)) if changes.is_empty() => {
                (row.user, row.forward_always, row.do_not_disturb)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(last(&mut changes), ("gone".into(), None, None));
        let [a, b, _] = &config.users[..] else {
            panic!("three users")
        };
        let shown = |features: &Features, user| {
            let to = features.forward_always(user).map(str::to_owned);
            (to, features.do_not_disturb(user))
        };
        assert_eq!(shown(&features, a), (Some("c".into()), true));
        assert_eq!(shown(&features, b), (None, false));
        features.dial(a, &Code::ForwardNot, &mut changes);
        assert_eq!(last(&mut changes), ("a".into(), Some(String::new()), None));
        features.dial(a, &Code::SilenceNot, &mut changes);
        let row = ("a".into(), Some(String::new()), Some(false));
        assert_eq!(last(&mut changes), row);
        assert_eq!(shown(&features, a), (None, false));
        features.dial(a, &Code::Forward(b"b".to_vec()), &mut changes);
        assert_eq!(shown(&features, a), (Some("b".into()), false));
        assert_eq!(
            last(&mut changes),
            ("a".into(), Some("b".into()), Some(false))
        );
        features.dial(a, &Code::Forward(b"c".to_vec()), &mut changes);
        assert_eq!(last(&mut changes), ("a".into(), None, Some(false)));
        features.dial(a, &Code::Silence, &mut changes);
        assert_eq!(last(&mut changes), ("a".into(), None, None));
        assert!(features.dialled("a").is_none());
        features.dial(b, &Code::Silence, &mut changes);
        assert_eq!(last(&mut changes), ("b".into(), None, Some(true)));
        features.dial(b, &Code::ForwardNot, &mut changes);
        assert_eq!(last(&mut changes), ("b".into(), None, Some(true)));
        features.dial(b, &Code::SilenceNot, &mut changes);
        assert_eq!(last(&mut changes), ("b".into(), None, None));
    }
}
