//! The ringing groups by their names, and whose turn it is in those that go round.

use std::collections::HashMap;

use ahash::RandomState;

use crate::config::Config;
use crate::source::GroupId;

/// All groups of the configuration.
#[derive(Clone)]
pub(super) struct Groups {
    by_name: HashMap<Box<str>, GroupId, RandomState>,
    /// Which member is rung first in the next call: one number for each group.
    turns: Vec<usize>,
}

impl Groups {
    pub fn new(config: &Config, hasher: RandomState) -> Self {
        let mut groups = Self {
            by_name: HashMap::with_hasher(hasher),
            turns: Vec::new(),
        };
        groups.reload(config, config);
        groups
    }

    /// A new configuration. Whose turn it is holds as long as the group has the same members.
    pub fn reload(&mut self, old: &Config, new: &Config) {
        let members = |config: &Config, index: usize| -> Option<Vec<String>> {
            let group = config.groups.get(index)?;
            let users = group.members.iter();
            let users = users.filter_map(|member| config.users.get(member.0 as usize));
            Some(users.map(|user| user.name.clone()).collect())
        };
        let turns: Vec<usize> = (new.groups.iter().enumerate())
            .map(|(index, group)| {
                let before = self.find(group.name.as_bytes());
                let before = before.map(|before| before.0 as usize);
                let is_same = |before: &usize| members(old, *before) == members(new, index);
                let turn = before
                    .filter(is_same)
                    .and_then(|before| self.turns.get(before));
                turn.copied().unwrap_or(0)
            })
            .collect();
        self.turns = turns;
        self.by_name = new.groups.iter().zip(0..).fold(
            HashMap::with_hasher(self.by_name.hasher().clone()),
            |mut names, (group, index)| {
                names.insert(group.name.as_str().into(), GroupId(index));
                names
            },
        );
    }

    /// The group with this name.
    pub fn find(&self, name: &[u8]) -> Option<GroupId> {
        let name = std::str::from_utf8(name).ok()?;
        self.by_name.get(name).copied()
    }

    /// Which member of a circular group is rung first.
    pub fn turn(&self, group: GroupId) -> usize {
        self.turns.get(group.0 as usize).copied().unwrap_or(0)
    }

    /// A member was rung: the next call begins behind him.
    pub fn was_rung(&mut self, config: &Config, group: &str, member: &str) {
        let Some(id) = self.find(group.as_bytes()) else {
            return;
        };
        let members = config.groups.get(id.0 as usize).map(|group| &group.members);
        let members = members.map(Vec::as_slice).unwrap_or_default();
        let is_he = |user: &crate::config::User| user.name == member;
        let place =
            (members.iter()).position(|user| config.users.get(user.0 as usize).is_some_and(is_he));
        if let (Some(place), Some(turn)) = (place, self.turns.get_mut(id.0 as usize)) {
            *turn = (place + 1) % members.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::read(text, Path::new("")).unwrap()
    }

    #[test]
    fn the_turn_goes_round_and_outlives_a_reload() {
        let users = "[user a]\n[user b]\n[user c]\n";
        let old = config(&format!(
            "{users}[group 1]\nmembers = a, b, c\n[group 2]\nmembers = a, b\n"
        ));
        let mut groups = Groups::new(&old, RandomState::with_seeds(1, 2, 3, 4));
        let (first, second) = (groups.find(b"1").unwrap(), groups.find(b"2").unwrap());
        assert_eq!((first, second), (GroupId(0), GroupId(1)));
        assert_eq!(groups.find(b"3"), None);
        assert_eq!(groups.turn(first), 0);
        groups.was_rung(&old, "1", "b");
        groups.was_rung(&old, "2", "a");
        groups.was_rung(&old, "2", "c");
        assert_eq!([groups.turn(first), groups.turn(second)], [2, 1]);
        groups.was_rung(&old, "1", "c");
        assert_eq!(groups.turn(first), 0);
        groups.was_rung(&old, "1", "b");
        // The other way round in the file, one with another member.
        let new = config(&format!(
            "[user x]\n{users}[group 2]\nmembers = a, c\n[group 1]\nmembers = a, b, c\n"
        ));
        groups.reload(&old, &new);
        let (first, second) = (groups.find(b"1").unwrap(), groups.find(b"2").unwrap());
        assert_eq!((first, second), (GroupId(1), GroupId(0)));
        assert_eq!([groups.turn(first), groups.turn(second)], [2, 0]);
    }
}
