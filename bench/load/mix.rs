//! Several scenarios at once, in proportions, through one engine: registered phones refresh while others ask and call. Each
//! part has sockets and users of its own; a job's slot says which part it is of.

use std::net::{IpAddr, SocketAddr};

use crate::arguments::{Arguments, Scenario as Name};
use crate::calls::Calls;
use crate::engine::{Job, Scenario, Verdict};
use crate::requests::Requests;
use crate::socket::{Outbox, Udp};

/// One of the scenarios.
struct Part {
    scenario: Box<dyn Scenario>,
    weight: u32,
    /// What it is owed: it grows by the weight with each job, and is paid with the sum of all weights.
    credit: i64,
    /// Its sockets among all: the first, and how many.
    first: usize,
    sockets: usize,
}

/// See the module.
pub struct Mix {
    parts: Vec<Part>,
    /// Part of the job in each slot.
    of_slot: Vec<usize>,
    /// Whose turn it is, while nobody is free there.
    next: Option<usize>,
}

impl Mix {
    /// Of these scenarios with these weights. Users are divided evenly among those that have some.
    ///
    /// # Errors
    /// There are not enough of them, for people.
    pub fn new(arguments: &Arguments, weights: &[(Name, u32)]) -> Result<Self, String> {
        let has_users = |name: Name| matches!(name, Name::Register | Name::Calls);
        let sharers = weights.iter().filter(|(name, _)| has_users(*name)).count();
        let shares = shares(arguments.users, sharers)
            .ok_or("--users: each kind of the mix needs two of its own")?;
        let mut shares = shares.into_iter();
        let mut parts = Vec::new();
        let mut first = 0;
        for &(name, weight) in weights {
            let own = has_users(name).then(|| shares.next()).flatten();
            let arguments = Arguments {
                users: own.unwrap_or(arguments.users),
                ..arguments.clone()
            };
            let scenario: Box<dyn Scenario> = match name {
                Name::Calls => Box::new(Calls::new(&arguments)?),
                _ => Box::new(Requests::new(name, &arguments)?),
            };
            let sockets = scenario.addresses(arguments.bind).len();
            parts.push(Part {
                scenario,
                weight,
                credit: 0,
                first,
                sockets,
            });
            first += sockets;
        }
        Ok(Self {
            parts,
            of_slot: Vec::new(),
            next: None,
        })
    }

    /// Whose turn it is: who is owed most.
    fn turn(&mut self) -> usize {
        let sum: i64 = self.parts.iter().map(|part| i64::from(part.weight)).sum();
        for part in &mut self.parts {
            part.credit += i64::from(part.weight);
        }
        let most = (0..self.parts.len()).max_by_key(|&index| self.parts[index].credit);
        let most = most.unwrap_or(0);
        self.parts[most].credit -= sum;
        most
    }

    fn of(&mut self, slot: u32) -> &mut Part {
        let part = self.kind(slot);
        &mut self.parts[part]
    }
}

/// So many even parts of a range of users, each with an even number of at least two.
fn shares((first, last): (u32, u32), count: usize) -> Option<Vec<(u32, u32)>> {
    let count = u32::try_from(count).ok()?;
    if count == 0 {
        return Some(Vec::new());
    }
    let each = ((last - first + 1) / count) & !1;
    let share = |place| (first + place * each, first + (place + 1) * each - 1);
    (each >= 2).then(|| (0..count).map(share).collect())
}

impl Scenario for Mix {
    fn name(&self) -> &'static str {
        "mix"
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.parts.iter().map(|part| part.scenario.name()).collect()
    }

    fn kind(&self, slot: u32) -> usize {
        self.of_slot.get(slot as usize).copied().unwrap_or(0)
    }

    fn addresses(&self, bind: IpAddr) -> Vec<IpAddr> {
        let parts = self.parts.iter();
        parts
            .flat_map(|part| part.scenario.addresses(bind))
            .collect()
    }

    fn socket(&self, slot: u32) -> usize {
        let part = &self.parts[self.kind(slot)];
        part.first + part.scenario.socket(slot)
    }

    fn bound(&mut self, locals: &[SocketAddr]) {
        for part in &mut self.parts {
            part.scenario
                .bound(&locals[part.first..part.first + part.sockets]);
        }
    }

    fn prepare(&mut self, sockets: &mut [Udp], run: u32) -> Result<(), String> {
        for part in &mut self.parts {
            let own = &mut sockets[part.first..part.first + part.sockets];
            part.scenario.prepare(own, run)?;
        }
        Ok(())
    }

    fn begin(&mut self, job: Job, request: &mut Vec<u8>) -> bool {
        let turn = match self.next.take() {
            Some(turn) => turn,
            None => self.turn(),
        };
        if !self.parts[turn].scenario.begin(job, request) {
            // Others do not go ahead: the proportions hold.
            self.next = Some(turn);
            return false;
        }
        let slot = job.slot as usize;
        if self.of_slot.len() <= slot {
            self.of_slot.resize(slot + 1, 0);
        }
        self.of_slot[slot] = turn;
        true
    }

    fn answer(
        &mut self,
        job: Job,
        next: Job,
        bytes: &[u8],
        request: &mut Vec<u8>,
        out: &mut Outbox,
    ) -> Verdict {
        let part = self.of(job.slot);
        out.first = part.first;
        let verdict = part.scenario.answer(job, next, bytes, request, out);
        out.first = 0;
        verdict
    }

    fn late(&mut self, bytes: &[u8], out: &mut Outbox) {
        // Its slot may be another's by now. Only calls have something to say, and only to answers to INVITE.
        for part in &mut self.parts {
            out.first = part.first;
            part.scenario.late(bytes, out);
        }
        out.first = 0;
    }

    fn serve(&mut self, socket: usize, bytes: &[u8], out: &mut Outbox) {
        let is_of = |part: &&mut Part| (part.first..part.first + part.sockets).contains(&socket);
        if let Some(part) = self.parts.iter_mut().find(is_of) {
            out.first = part.first;
            part.scenario.serve(socket - part.first, bytes, out);
            out.first = 0;
        }
    }

    fn end(&mut self, slot: u32) {
        self.of(slot).scenario.end(slot);
    }

    fn messages_of_job(&self) -> u32 {
        // Each kind has another number.
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn turns_are_in_proportion_and_evenly_spread() {
        let words = ["mix", "--target", "127.0.0.1:5060", "--users", "1-8"];
        let arguments = arguments::parse(lexopt::Parser::from_args(words)).unwrap();
        let weights = [(Name::Register401, 7), (Name::Options, 2), (Name::Ping, 1)];
        let mut mix = Mix::new(&arguments, &weights).unwrap();
        let turns: Vec<usize> = (0..20).map(|_| mix.turn()).collect();
        let count = |turns: &[usize], part| turns.iter().filter(|turn| **turn == part).count();
        assert_eq!([0, 1, 2].map(|part| count(&turns, part)), [14, 4, 2]);
        assert_eq!([0, 1, 2].map(|part| count(&turns[..10], part)), [7, 2, 1]);
        // Nowhere are more of the first in a row than must be.
        let rows = turns.split(|turn| *turn != 0).map(<[usize]>::len);
        assert!(rows.max().unwrap() <= 3, "{turns:?}");
    }

    #[test]
    fn users_are_divided() {
        assert_eq!(shares((10, 20), 2), Some(vec![(10, 13), (14, 17)]));
        assert_eq!(shares((10, 11), 1), Some(vec![(10, 11)]));
        assert_eq!(shares((10, 12), 2), None);
        assert_eq!(shares((10, 12), 0), Some(Vec::new()));
    }
}
