//! What a server shows after its restart, beside what its load was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sipkeep::api::Rfc3339;

use super::Site;
use super::history::History;
use super::load::{Called, Dialled, LONGEST_S, Letter, Office, Until, unix_ms};
use super::street::Ban;
use crate::peers::desk::Phone;
use crate::peers::harness::Server;

/// Between a phone's clock and the server's word, in milliseconds: they are asked one after the other.
const CLOCK_MS: u64 = 1_500;
/// Banned addresses that knock after a restart.
const KNOCKING: usize = 5;
/// Requests that use up what a stranger may ask.
const TOO_MANY: usize = 40;
/// A silence that is one.
const SILENCE: Duration = Duration::from_millis(60);
/// For an answer, on a busy machine.
const ANSWER: Duration = Duration::from_secs(5);

/// When the server was killed, and before when all that was acknowledged is kept.
pub struct Moment {
    pub killed: Instant,
    pub limit: Instant,
}

/// What was looked at, all restarts together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finds {
    /// Bindings that were there as they should be, and ...
    pub bindings: u64,
    /// ... that were not, as they should not.
    pub bindings_gone: u64,
    pub rung: u64,
    pub bans: u64,
    pub bans_gone: u64,
    pub silenced: u64,
    /// Call records, each once for all.
    pub records: u64,
    pub interrupted: u64,
    pub features: u64,
    pub letters: u64,
    pub nonces: u64,
    /// The longest that anything had been acknowledged before the kill that lost it.
    pub loss: Duration,
}

impl Finds {
    pub fn add(&mut self, other: Self) {
        self.bindings += other.bindings;
        self.bindings_gone += other.bindings_gone;
        self.rung += other.rung;
        self.bans += other.bans;
        self.bans_gone += other.bans_gone;
        self.silenced += other.silenced;
        self.records += other.records;
        self.interrupted += other.interrupted;
        self.features += other.features;
        self.letters += other.letters;
        self.nonces += other.nonces;
        self.lost(Some(other.loss));
    }

    fn lost(&mut self, loss: Option<Duration>) {
        self.loss = self.loss.max(loss.unwrap_or_default());
    }
}

/// SQLite finds nothing wrong with a copy of the state file: the file itself is the server's to open first.
pub fn is_whole(state: &Path) {
    let folder = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let mut name = state.as_os_str().to_owned();
        name.push(suffix);
        if Path::new(&name).exists() {
            let copy = format!("copy{suffix}");
            std::fs::copy(&name, folder.path().join(copy)).unwrap();
        }
    }
    let copy = Connection::open(folder.path().join("copy")).unwrap();
    let verdict: String = copy
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok", "{}", state.display());
}

/// All items of a list, page by page.
fn all(server: &Server, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("{path}?limit=1000{after}"));
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => {
                after = format!("&after={}", next.replace('/', "%2F").replace(':', "%3A"));
            }
            None => return items,
        }
    }
}

fn text(item: &Value, field: &str) -> String {
    item[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {item}"))
        .to_owned()
}

fn millis(item: &Value, field: &str) -> u64 {
    let time: Rfc3339 = text(item, field).parse().unwrap();
    time.0.as_millis()
}

/// Caller's Call-ID and disposition of every record.
fn records(server: &Server) -> Vec<(String, String)> {
    let state = Connection::open_with_flags(server.state(), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let state = state.unwrap();
    state.busy_timeout(ANSWER).unwrap();
    let sql = "SELECT caller_call_id, disposition FROM call_records";
    let mut statement = state.prepare(sql).unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

impl Site {
    /// Everything, and from then on what is found is how it is.
    pub(super) fn check(&mut self, moment: &Moment) {
        self.check_log();
        self.check_bindings(moment);
        self.check_bans(moment);
        self.check_records(moment);
        self.check_dialled(moment);
        self.check_letters(moment);
        self.check_silence();
        self.check_ringing();
    }

    /// The server had nothing to complain of.
    fn check_log(&mut self) {
        let log = self.server().log();
        let new = &log[self.log_seen..];
        let is_bad = |line: &&str| line.contains("level=error") || line.contains("panicked");
        let bad: Vec<&str> = new.lines().filter(is_bad).collect();
        assert!(bad.is_empty(), "{bad:#?}");
        self.log_seen = log.len();
    }

    fn check_bindings(&mut self, moment: &Moment) {
        let mut found = BTreeMap::new();
        for item in all(self.server(), "registrations") {
            let key = (text(&item, "user"), text(&item, "contact"));
            let until_ms = millis(&item, "expires");
            let twice = found.insert(key.clone(), until_ms);
            assert_eq!(twice, None, "{key:?} is there twice");
        }
        let now_ms = unix_ms();
        let finds = &mut self.report.finds;
        let histories = self
            .offices
            .iter_mut()
            .flat_map(|office| &mut office.bindings);
        for (key, history) in histories {
            let found = found.remove(key);
            check_binding(key, history, found, now_ms, moment);
            let is_found = found.is_some();
            let loss = history.loss(moment.killed, |to| to.is_some() == is_found);
            finds.lost(loss);
            history.settle(found);
            match is_found {
                true => finds.bindings += 1,
                false => finds.bindings_gone += 1,
            }
        }
        assert!(found.is_empty(), "nobody registered {found:?}");
    }

    fn check_bans(&mut self, moment: &Moment) {
        let mut found: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
        for item in all(self.server(), "bans") {
            let source = text(&item, "source").parse().unwrap();
            let twice = found.insert(source, text(&item, "until"));
            assert_eq!(twice, None, "{source} is banned twice");
        }
        let finds = &mut self.report.finds;
        for (source, history) in &mut self.street.bans {
            let until = found.remove(source);
            let is_found = |ban: &Ban| ban.is(until.as_ref());
            assert!(
                history.allowed(moment.limit).any(is_found),
                "{source}: {until:?} after {history:?}, {:?}",
                moment.killed
            );
            finds.lost(history.loss(moment.killed, is_found));
            match until {
                Some(until) => {
                    finds.bans += 1;
                    history.settle(Ban::Until(until));
                }
                None => {
                    finds.bans_gone += 1;
                    history.settle(Ban::No);
                }
            }
        }
        assert!(found.is_empty(), "nobody banned {found:?}");
        // What was lifted and is not back need not be looked for for ever.
        self.street
            .bans
            .retain(|_, history| *history.last() != Ban::No);
    }

    fn check_records(&mut self, moment: &Moment) {
        let mut found = BTreeMap::new();
        for (id, disposition) in records(self.server()) {
            let twice = found.insert(id.clone(), disposition);
            assert_eq!(twice, None, "{id} has two records");
        }
        let finds = &mut self.report.finds;
        for (id, called) in self.offices.iter_mut().flat_map(|office| &mut office.calls) {
            let found = found.remove(id);
            if let Some(settled) = &called.settled {
                assert_eq!(*settled, found, "{id} was another before");
                continue;
            }
            let allowed = allowed_dispositions(called, moment);
            assert!(
                allowed.contains(&found.as_deref()),
                "{id}: {found:?} of {called:?}"
            );
            finds.records += u64::from(found.is_some());
            finds.interrupted += u64::from(found.as_deref() == Some("interrupted"));
            if found.is_none() {
                let told = called.ended.and_then(|(_, told)| told);
                let told = called.answered.or(told);
                finds.lost(told.map(|told| moment.killed.duration_since(told)));
            } else if let (Some("interrupted"), Some((_, Some(told)))) =
                (found.as_deref(), called.ended)
            {
                finds.lost(Some(moment.killed.duration_since(told)));
            }
            called.settled = Some(found);
        }
        // Feature codes are calls to the server, if they are any.
        found.retain(|id, _| !id.starts_with('f') && !id.starts_with('v'));
        assert!(found.is_empty(), "nobody has called {found:?}");
    }

    fn check_dialled(&mut self, moment: &Moment) {
        let server = self.server.as_ref().unwrap();
        for office in &mut self.offices {
            let user = server.get(&format!("users/{}", office.caller.user));
            let dialled = &user["dialled"];
            let found = (
                dialled["forward_always"].as_str().map(str::to_owned),
                dialled["do_not_disturb"].as_bool(),
            );
            let is_found = |to: &Dialled| *to == found;
            assert!(
                office.dialled.allowed(moment.limit).any(is_found),
                "{}: {found:?} of {:?}",
                office.caller.user,
                office.dialled
            );
            let finds = &mut self.report.finds;
            finds.lost(office.dialled.loss(moment.killed, is_found));
            finds.features += 1;
            office.dialled.settle(found);
        }
    }

    /// Each message waits, or was delivered, and is delivered once.
    fn check_letters(&mut self, moment: &Moment) {
        let server = self.server.as_ref().unwrap();
        for office in &mut self.offices {
            let letters = &mut office.letters;
            letters
                .values_mut()
                .for_each(|letter| letter.doubt(moment.limit));
            // Delivered for good, or never come.
            letters.retain(|_, letter| {
                letter
                    .allowed(moment.limit)
                    .any(|place| *place == Letter::Waiting)
            });
            let waits = |letter: &&History<Letter>| {
                letter
                    .allowed(moment.limit)
                    .all(|place| *place == Letter::Waiting)
            };
            let must = letters.values().filter(waits).count();
            let user = server.get(&format!("users/{}", office.absent.user));
            let waiting = user["messages_waiting"].as_u64().unwrap() as usize;
            assert!(
                (must..=letters.len()).contains(&waiting),
                "{waiting} messages wait, of {letters:?}"
            );
            self.report.finds.letters += waiting as u64;
            if self.random.chance(300) {
                check_delivery(office, server, moment);
            }
        }
    }

    /// Who is banned hears nothing.
    fn check_silence(&mut self) {
        let mut knocking = self.street.knocking(KNOCKING);
        // Whoever asks after them is heard, so they were read or discarded.
        let server = self.server();
        assert_eq!(server.get("status")["store"]["ok"], true);
        let mut own = Phone::udp(
            "101",
            server.network.host(11),
            server.sip(),
            &self.end.is_over,
        );
        own.knock();
        assert!(own.heard(ANSWER).is_some(), "a phone is not answered");
        for phone in &mut knocking {
            assert!(
                !phone.has_heard(),
                "{} is banned and was answered",
                phone.local
            );
        }
        self.report.finds.silenced += knocking.len() as u64;
    }

    /// A call reaches every Contact that was kept, without a new registration.
    fn check_ringing(&mut self) {
        let at = self.random.below(self.offices.len() as u64) as usize;
        let number = self.report.kills;
        let office = &mut self.offices[at];
        let user = office.several.user.clone();
        let is_there = |((own, _), history): &(&(String, String), &History<Option<Until>>)| {
            *own == user && history.last().is_some()
        };
        let there = office.bindings.iter().filter(is_there);
        let mut contacts: Vec<String> = there.map(|((_, uri), _)| uri.clone()).collect();
        contacts.sort();
        if contacts.is_empty() {
            return;
        }
        let (caller, several) = (&mut office.caller, &mut office.several);
        let (id, rung) = caller
            .ring(several, contacts.len(), &format!("v{number}"))
            .unwrap();
        assert_eq!(rung, contacts, "{id}");
        self.report.finds.rung += rung.len() as u64;
    }

    /// A nonce of the run that was killed proves that its stranger receives what is sent to him: he is heard when other
    /// strangers from there are not.
    pub(super) fn check_nonce(&mut self) {
        let server = self.server.as_ref().unwrap();
        let host = *self
            .stranger
            .local
            .ip()
            .to_string()
            .parse::<Ipv4Addr>()
            .as_ref()
            .unwrap();
        let mut others = Phone::udp("101", host, server.sip(), &self.end.is_over);
        let mut asked = 0;
        loop {
            others.knock_bare();
            if others.heard(SILENCE).is_none() {
                break;
            }
            asked += 1;
            assert!(asked < TOO_MANY, "a stranger may ask for ever");
        }
        // Unless this machine was slow, he is over his budget.
        let begun = Instant::now();
        self.stranger.knock();
        assert!(
            self.stranger.heard(ANSWER).is_some(),
            "a nonce of the run before is forgotten"
        );
        let took = begun.elapsed();
        self.report.finds.nonces += u64::from(took < SILENCE);
    }
}

fn check_binding(
    key: &(String, String),
    history: &History<Option<Until>>,
    found: Option<u64>,
    now_ms: u64,
    moment: &Moment,
) {
    let allowed = || history.allowed(moment.limit);
    let Some(until_ms) = found else {
        assert!(
            allowed().any(Option::is_none),
            "{key:?} is lost: {history:?}"
        );
        return;
    };
    let least = allowed().flatten().min();
    let least = *least.unwrap_or_else(|| panic!("{key:?} is back: {history:?}"));
    assert!(
        until_ms + CLOCK_MS >= least,
        "{key:?} ends {} ms too early: {history:?}",
        least - until_ms
    );
    // A kill may prolong it by as much as an earlier refresh was granted.
    let most = now_ms + u64::from(LONGEST_S) * 1_000 + CLOCK_MS;
    assert!(
        until_ms <= most,
        "{key:?} ends {} ms too late: {history:?}",
        until_ms - most
    );
}

/// What a call's record may say; `None`: it may have none.
fn allowed_dispositions<'a>(called: &Called, moment: &Moment) -> BTreeSet<Option<&'a str>> {
    let is_old = |at: Option<Instant>| at.is_some_and(|at| at < moment.limit);
    let mut allowed = BTreeSet::new();
    match called.ended {
        Some((ended, told)) => {
            allowed.insert(Some(ended));
            if !is_old(told) {
                if ended == "answered" {
                    allowed.insert(Some("interrupted"));
                }
                if !is_old(called.answered) {
                    allowed.insert(None);
                }
            }
        }
        None => {
            // A server that stops ends the calls that are up.
            allowed.extend([Some("interrupted"), Some("answered")]);
            if !is_old(called.answered) {
                // It may not have been answered, or have been given up.
                allowed.extend([None, Some("cancelled"), Some("failed"), Some("no_answer")]);
            }
        }
    }
    allowed
}

fn check_delivery(office: &mut Office, server: &Server, moment: &Moment) {
    let texts = office.collect(server);
    let mut delivered = BTreeSet::new();
    for text in texts {
        assert!(delivered.insert(text.clone()), "{text} was delivered twice");
        let letter = office.letters.get_mut(&text);
        let letter = letter.unwrap_or_else(|| panic!("{text} is back"));
        letter.ask(Letter::Delivered);
        letter.told();
    }
    let letters = office.letters.iter();
    let mut left = letters.filter(|(text, _)| !delivered.contains(*text));
    let lost = left.find(|(_, letter)| {
        letter
            .allowed(moment.limit)
            .all(|place| *place == Letter::Waiting)
    });
    assert!(lost.is_none(), "{lost:?} was not delivered");
    // What neither waits nor was delivered was never kept.
    office.letters.retain(|text, _| delivered.contains(text));
}
