//! Lamp keys: which calls there are to be seen, and by whom (RFC 4235 §5, §6).
//!
//! Every local user may watch every user and group: that somebody talks is no secret in an office. With whom, and the dialog
//! that rings, is shown to those only who may pick the call up (`pickup`): the others' keys are lit or blink, no more.

use super::pickup::may_pick_up;
use super::*;
use crate::auth::Authenticator;
use crate::call::ShownDialog;
use crate::subscription::Lamps;

/// The calls, and what says who may see them.
pub(super) struct Sight<'a> {
    calls: &'a Calls,
    config: &'a Config,
    auth: &'a Authenticator,
}

/// What there is to see of these calls.
pub(super) fn sight<'a>(
    calls: &'a Calls,
    config: &'a Config,
    auth: &'a Authenticator,
) -> Sight<'a> {
    Sight {
        calls,
        config,
        auth,
    }
}

impl Lamps for Sight<'_> {
    fn dialogs(&self, watched: &str) -> Vec<ShownDialog> {
        match self.auth.user(watched.as_bytes()) {
            Some(user) => self.calls.shown(user),
            None => group(self.config, watched).map_or_else(Vec::new, |group| {
                self.calls.shown_of_group(&group.name, &group.members)
            }),
        }
    }

    fn may_know(&self, watched: &str, watcher: UserId) -> bool {
        match self.auth.user(watched.as_bytes()) {
            Some(user) => user == watcher || may_pick_up(self.config, watcher, user),
            None => {
                let group = group(self.config, watched);
                group.is_some_and(|group| group.members.contains(&watcher))
            }
        }
    }
}

/// The group with this name.
pub(super) fn group<'a>(config: &'a Config, name: &str) -> Option<&'a crate::config::Group> {
    config.groups.iter().find(|group| group.name == name)
}

impl Endpoint {
    /// Tells lamp keys what has changed.
    pub(super) fn light_lamps(&mut self, now: Now) {
        let is_touched =
            !self.calls.touched().is_empty() || !self.calls.touched_groups().is_empty();
        if is_touched && self.subscriptions.is_any_watched() {
            self.light_touched(now);
        }
        if is_touched {
            self.calls.forget_touched();
        }
    }

    fn light_touched(&mut self, now: Now) {
        let (users, mut context) = self.users(now);
        let config = users.config;
        let (touched, touched_groups) = (users.calls.touched(), users.calls.touched_groups());
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for user in touched {
            let own = config.users.get(user.0 as usize);
            names.extend(own.map(|own| own.name.as_str()));
        }
        let has_touched = |group: &&crate::config::Group| {
            touched_groups.contains(group.name.as_str())
                || (group.members.iter()).any(|member| touched.binary_search(member).is_ok())
        };
        let groups = config.groups.iter().filter(has_touched);
        names.extend(groups.map(|group| group.name.as_str()));
        let names: Vec<&str> = (names.into_iter())
            .filter(|name| users.subscriptions.is_watched(name))
            .collect();
        let lamps = sight(users.calls, config, users.auth);
        (users.subscriptions).touched(&names, &lamps, &mut context);
    }
}
