//! Makes a plan that fails as small as it can be: whatever it fails without is left out, large parts first.

use super::plan::Plan;

/// The smallest plan that was found to fail. `fails` plays one; at most so many are played.
pub fn shrink(plan: &Plan, plays_max: usize, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut smallest = plan.clone();
    let mut plays = 0;
    let mut part = smallest.entries.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        let mut is_smaller = false;
        while from < smallest.entries.len() {
            if plays == plays_max {
                return smallest;
            }
            plays += 1;
            let without = smallest.without(from, part);
            if fails(&without) {
                (smallest, is_smaller) = (without, true);
            } else {
                from += part;
            }
        }
        // What could not be left out before may be now.
        if part > 1 {
            part = part.div_ceil(2);
        } else if !is_smaller {
            part = 0;
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::super::plan::Deed;
    use super::*;

    #[test]
    fn what_makes_it_fail_is_left() {
        let plan = Plan::draw(3, 20);
        let is_wanted = |plan: &Plan, count: usize| {
            let calls = plan
                .entries
                .iter()
                .filter(|(_, deed)| matches!(deed, Deed::Call(..)));
            let phones = plan
                .entries
                .iter()
                .any(|(_, deed)| *deed == Deed::Register(7));
            calls.count() >= count && phones
        };
        let mut plays = 0;
        let small = shrink(&plan, 10_000, |plan| {
            plays += 1;
            is_wanted(plan, 2)
        });
        assert!(small.entries.len() == 3 && is_wanted(&small, 2), "{small}");
        assert!(plays < 1_000, "{plays}");
        assert_eq!(shrink(&plan, 10_000, |_| false), plan);
        assert_eq!(shrink(&plan, 0, |_| true), plan);
    }
}
