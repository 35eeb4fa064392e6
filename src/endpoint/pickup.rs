//! Call pickup: who may take a call that rings at somebody else.
//!
//! Members of a same group may take each other's calls. Where there is no group at all everybody may take everybody's: a
//! small office expects that, and as soon as somebody cares he makes groups.

use super::*;

/// Whether one user may take what rings at the other.
pub(super) fn may_pick_up(config: &Config, who: UserId, rung: UserId) -> bool {
    let mut groups = config.groups.iter();
    config.groups.is_empty()
        || groups.any(|group| group.members.contains(&who) && group.members.contains(&rung))
}
