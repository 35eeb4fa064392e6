//! How many calls everybody is in.

use super::*;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Of each user: both directions together.
    pub users: Vec<u32>,
    /// From each trunk, and to it.
    pub trunks: Vec<[u32; 2]>,
    /// Of each line: both directions together.
    pub lines: Vec<u32>,
    /// Of each user: those to trunks and lines that he answers for.
    pub outside: Vec<u32>,
}

impl Counts {
    /// That of somebody on one side.
    pub fn of(&mut self, party: &Party, side: Side) -> Option<&mut u32> {
        match party {
            Party::User(id, _) if side == Side::Outside => self.outside.get_mut(id.0 as usize),
            Party::User(id, _) => self.users.get_mut(id.0 as usize),
            Party::Line(id, _) => self.lines.get_mut(id.0 as usize),
            Party::Trunk(id, _) => {
                let [calls_from, calls_to] = self.trunks.get_mut(id.0 as usize)?;
                Some(match side {
                    Side::Caller => calls_from,
                    Side::Callee | Side::Outside => calls_to,
                })
            }
        }
    }
}
