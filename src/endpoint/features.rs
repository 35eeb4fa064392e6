//! What users have dialled for their calls: `*72NUMBER`, `*73`, `*78`, `*79`. What the file says is the default, and holds
//! as long as nothing else was dialled.

use std::collections::HashMap;

use ahash::RandomState;

use crate::config::User;
use crate::store::FeatureRow;

/// What was dialled, by the users' names.
#[derive(Clone)]
pub(super) struct Features {
    dialled: HashMap<Box<str>, FeatureRow, RandomState>,
}

impl Features {
    /// What was kept.
    pub fn new(rows: Vec<FeatureRow>, hasher: RandomState) -> Self {
        let mut dialled = HashMap::with_hasher(hasher);
        for row in rows {
            dialled.insert(row.user.as_str().into(), row);
        }
        Self { dialled }
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
