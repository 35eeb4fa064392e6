//! What a load has asked for and was told, and what a server may therefore have kept when it was killed.

use std::time::{Duration, Instant};

/// What one thing (a binding, a ban, ...) was to be, one after the other.
#[derive(Clone, Debug)]
pub struct History<T> {
    /// Before the first step: as the server showed it itself.
    base: T,
    steps: Vec<Step<T>>,
}

#[derive(Clone, Debug)]
struct Step<T> {
    /// What it is from then on.
    to: T,
    /// When the server said that it is.
    told: Option<Instant>,
}

impl<T: Clone> History<T> {
    pub const fn new(base: T) -> Self {
        Self {
            base,
            steps: Vec::new(),
        }
    }

    /// Something is being asked for: from now on it may be so.
    pub fn ask(&mut self, to: T) {
        self.steps.push(Step { to, told: None });
    }

    /// The server says that what was asked for last is done.
    pub fn told(&mut self) {
        if let Some(step) = self.steps.last_mut() {
            step.told = Some(Instant::now());
        }
    }

    /// The same, and what it is indeed.
    pub fn told_as(&mut self, to: T) {
        if let Some(step) = self.steps.last_mut() {
            step.to = to;
        }
        self.told();
    }

    /// What was told after `limit` may be lost by now, and never counts as told again.
    pub fn doubt(&mut self, limit: Instant) {
        for step in &mut self.steps {
            step.told = step.told.filter(|told| *told < limit);
        }
    }

    /// What was asked for last.
    pub fn last(&self) -> &T {
        self.steps.last().map_or(&self.base, |step| &step.to)
    }

    /// What may be found of it if everything is kept that was told before `limit`: the last such, and all that was asked for
    /// later.
    pub fn allowed(&self, limit: Instant) -> impl Iterator<Item = &T> {
        let is_old = |step: &Step<T>| step.told.is_some_and(|told| told < limit);
        let from = self.steps.iter().rposition(is_old);
        let base = match from {
            Some(from) => &self.steps[from].to,
            None => &self.base,
        };
        let later = self.steps.iter().skip(from.map_or(0, |from| from + 1));
        std::iter::once(base).chain(later.map(|step| &step.to))
    }

    /// How long before `killed` the first was told that is lost, if what is found is so.
    pub fn loss(&self, killed: Instant, is_found: impl Fn(&T) -> bool) -> Option<Duration> {
        let found = self.steps.iter().rposition(|step| is_found(&step.to));
        let lost = self.steps.iter().skip(found.map_or(0, |found| found + 1));
        let told = lost.filter_map(|step| step.told).min()?;
        Some(killed.duration_since(told))
    }

    /// The server was asked what it is now.
    pub fn settle(&mut self, found: T) {
        *self = Self::new(found);
    }
}

#[test]
fn what_was_told_in_time_is_kept_and_what_came_later_may_be() {
    let mut history = History::new('a');
    history.ask('b');
    history.told();
    history.ask('c');
    let between = Instant::now();
    history.told();
    history.ask('d');
    let allowed = |limit| history.allowed(limit).collect::<String>();
    assert_eq!(allowed(between), "bcd");
    let end = Instant::now() + Duration::from_secs(1);
    assert_eq!(allowed(end), "cd");
    assert_eq!(allowed(between - Duration::from_secs(1)), "abcd");
    assert_eq!(history.loss(end, |found| *found == 'c'), None);
    assert!(history.loss(end, |found| *found == 'b') > Some(Duration::from_millis(999)));
    assert_eq!(*history.last(), 'd');
    history.doubt(between);
    assert_eq!(history.allowed(end).collect::<String>(), "bcd");
    history.told_as('e');
    assert_eq!(history.allowed(end).collect::<String>(), "e");
    history.settle('b');
    assert_eq!(history.allowed(end).collect::<String>(), "b");
}
