//! RFC 3261 §16.7 step 6: which refusal of several the caller sees.

/// Whether `new` is a better final answer for the caller than `old`; both 300 to 699.
pub fn is_better(new: u16, old: u16) -> bool {
    rank(new) < rank(old)
}

/// Smaller is better: 6xx settles it, then the lowest class; within 4xx what tells the caller most.
fn rank(status: u16) -> (u16, u16) {
    let class = match status / 100 {
        6 => 0,
        class => class,
    };
    let within = match status {
        // The callee is there and busy: says more than that another of his phones is off.
        486 => 0,
        480 => 1,
        415 | 420 | 484 => 2,
        408 => 4,
        _ => 3,
    };
    (class, within)
}

/// What a branch's refusal counts as. Nobody cancelled while that matters: a callee who says so (487) has only given up.
pub fn of_branch(status: u16) -> u16 {
    match status {
        487 => 480,
        other => towards_caller(other),
    }
}

/// What the other side is told for a refusal. Challenges and redirections of a callee stay with us: the caller
/// could only answer them with credentials, or by calling past the dial plan. 503 speaks of one next hop, not of us
/// (§16.7 step 6), and 422 of what we have with him (RFC 4028).
pub fn towards_caller(status: u16) -> u16 {
    match status {
        300..=399 => 480,
        401 | 407 | 422 | 503 => 500,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_several_refusals() {
        for (better, worse) in [
            (603, 486),
            (486, 480),
            (480, 404),
            (404, 408),
            (486, 500),
            (480, 408),
        ] {
            assert!(is_better(better, worse), "{better} against {worse}");
            assert!(!is_better(worse, better), "{worse} against {better}");
        }
        assert!(!is_better(486, 486));
    }

    #[test]
    fn challenges_and_redirections_stay_here() {
        for (status, told) in [
            (302, 480),
            (401, 500),
            (407, 500),
            (422, 500),
            (503, 500),
            (486, 486),
            (487, 487),
        ] {
            assert_eq!(towards_caller(status), told);
        }
        assert_eq!([of_branch(487), of_branch(302)], [480, 480]);
    }
}
