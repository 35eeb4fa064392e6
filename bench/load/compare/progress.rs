//! How long a comparison takes, said before it, and how far it is.

use std::time::{Duration, Instant};

/// See the module.
pub struct Progress {
    begun: Instant,
    estimate: Duration,
    steps: usize,
    done: usize,
}

impl Progress {
    /// Says how long so many steps will take.
    pub fn begin(steps: usize, estimate: Duration) -> Self {
        eprintln!("{steps} measurements, about {}", span(estimate));
        Self {
            begun: Instant::now(),
            estimate,
            steps,
            done: 0,
        }
    }

    /// One of them is over; what it came to.
    pub fn step(&mut self, what: &str) {
        self.done += 1;
        let left = left(self.begun.elapsed(), self.estimate, self.done, self.steps);
        let (done, steps) = (self.done, self.steps);
        eprintln!("{done}/{steps}  {what}; {} left", span(left));
    }
}

/// The more is over, the more what it took counts, and the less what was thought before.
fn left(elapsed: Duration, estimate: Duration, done: usize, steps: usize) -> Duration {
    let share = done as f64 / steps.max(1) as f64;
    let seen = elapsed.as_secs_f64() / share.max(1e-9);
    let all = seen * share + estimate.as_secs_f64() * (1.0 - share);
    Duration::from_secs_f64(all * (1.0 - share).max(0.0))
}

/// For people.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_left() {
        let seconds = Duration::from_secs;
        assert_eq!(left(seconds(0), seconds(100), 0, 10), seconds(100));
        assert_eq!(left(seconds(50), seconds(100), 5, 10), seconds(50));
        // It took twice as long as was thought.
        assert_eq!(left(seconds(100), seconds(100), 5, 10), seconds(75));
        assert_eq!(left(seconds(300), seconds(100), 10, 10), seconds(0));
    }

    #[test]
    fn spans_for_people() {
        let spans = [59, 120, 9_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["59 s", "2 min", "2 h 30 min"]);
    }
}
