//! Administrators' commands, answered at once from the tables.

use super::*;
use crate::api::{Answer, Command, Counts, Dialled, GuardStatus, Reached, Rfc3339, Status};
use crate::config::GuardMode;
use crate::guard::{KernelEntry, KernelMark};
use crate::store::BanRow;

impl Endpoint {
    /// An administrator's command. What it makes us send are outputs as any others.
    pub fn command(&mut self, now: Now, command: Command) -> Answer {
        match command {
            Command::Status => Answer::Status(Box::new(self.status(now))),
            Command::Registrations { after, limit } => {
                Answer::Registrations(self.location.page(after.as_deref(), limit))
            }
            Command::Calls { after, limit } => {
                Answer::Calls(self.calls.page(after.as_deref(), limit))
            }
            Command::Bans { after, limit } => {
                Answer::Bans(self.guard.bans(now, after.as_deref(), limit))
            }
            Command::Ban { source, duration } => self.ban(now, source, duration),
            Command::Unban { source } => self.unban(now, source),
            Command::Hangup { call } => self.hang_up(now, &call),
            Command::Reached { trunks } => {
                Answer::Reached(trunks.iter().map(|name| self.trunk_reached(name)).collect())
            }
            Command::Users { users } => {
                let user = |name: &String| (self.dialled_by(name), self.pages.kept_for(name));
                Answer::Users(users.iter().map(user).collect())
            }
            Command::Lines { after, limit } => {
                Answer::Lines(self.lines.page(now, after.as_deref(), limit))
            }
            Command::Line { line } => self.line_item(now, &line),
            Command::RegisterLine { line } => self.register_now(now, &line),
        }
    }

    fn trunk_reached(&self, name: &str) -> Vec<Reached> {
        let trunk = self.config.trunks.iter().find(|trunk| trunk.name == name);
        trunk.map_or_else(Vec::new, |trunk| {
            self.reached(trunk.transport, &trunk.addresses)
        })
    }

    fn dialled_by(&self, user: &str) -> Dialled {
        let row = self.features.dialled(user);
        row.map_or_else(Dialled::default, |row| Dialled {
            forward_always: row.forward_always.clone(),
            do_not_disturb: row.do_not_disturb,
        })
    }

    fn status(&self, now: Now) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now.mono.since(self.started.mono).as_secs(),
            mode: self.mode_name(),
            counts: Counts {
                users: self.config.users.len(),
                registrations: self.location.count(),
                calls: self.calls.live(),
                lines: self.lines.count(),
                trunks: self.config.trunks.len(),
                bans: self.guard.ban_count(),
                messages: self.pages.kept(),
                transactions: self.transactions.live(),
                transactions_completed: self.transactions.completed(),
            },
            guard: GuardStatus {
                // What `mode = observe` would have dropped.
                dropped: match self.guard.is_observing() {
                    true => self.guard.would_drop(),
                    false => self.guard.dropped(),
                },
                ..GuardStatus::default()
            },
            misconfigured: self.guard.misconfigured(now),
            ..Status::default()
        }
    }

    pub(super) fn mode_name(&self) -> &'static str {
        match self.config.guard.mode {
            GuardMode::Enforce => "enforce",
            GuardMode::Observe => "observe",
            GuardMode::Off => "off",
        }
    }

    fn ban(&mut self, now: Now, source: Source, duration: Option<std::time::Duration>) -> Answer {
        if self.peers.any_within(source) {
            return Answer::Refused(format!("{source} is the address of a trunk or user"));
        }
        match self.guard.ban(now, source, duration) {
            Err(reason) => Answer::Refused(reason),
            Ok(row) => {
                let fields = vec![
                    ("source", source.to_string()),
                    ("reason", "manual".to_owned()),
                    ("until", Rfc3339(row.until).to_string()),
                    ("mode", self.mode_name().to_owned()),
                ];
                self.stranger_event("ban", source, fields);
                self.lane_changes += 1;
                if !self.guard.is_observing() {
                    self.out.keep(Change::Ban(row.clone()));
                    self.out.banned(source);
                }
                Answer::Banned(Box::new(ban_item(*row)))
            }
        }
    }

    fn unban(&mut self, now: Now, source: Source) -> Answer {
        if let Some(reason) = self.guard.still_banned(now, source) {
            return Answer::Refused(reason);
        }
        if !self.guard.unban(now, source) {
            return Answer::NotFound(format!("no such ban: {source}"));
        }
        self.lane_changes += 1;
        self.out.keep(Change::BanGone(source));
        let fields = vec![
            ("source", source.to_string()),
            ("by", "administrator".to_owned()),
        ];
        self.stranger_event("unban", source, fields);
        Answer::Done
    }

    /// Whether [`Endpoint::kernel_list`] may have changed. O(1).
    pub fn kernel_mark(&self) -> KernelMark {
        self.guard.kernel_mark()
    }

    /// What the kernel should discard for us, the busiest first, at most so many of each family.
    pub fn kernel_list(&mut self, now: Now, family_max: usize) -> Vec<KernelEntry> {
        let peers = &self.peers;
        self.guard
            .kernel_list(now, family_max, |source| peers.any_within(source))
    }

    /// What the kernel holds of such a list: see [`Guard::kernel_holds`].
    pub fn kernel_holds(&mut self, held: &[KernelEntry], begin: bool) {
        self.guard.kernel_holds(held, begin);
    }

    fn line_item(&self, now: Now, name: &str) -> Answer {
        let item = (self.lines.find(name)).and_then(|line| self.lines.item(now, line));
        match item {
            Some(item) => Answer::Line(Box::new(item)),
            None => Answer::NotFound(format!("no such line: {name}")),
        }
    }

    fn register_now(&mut self, now: Now, name: &str) -> Answer {
        let Some(line) = self.lines.find(name) else {
            return Answer::NotFound(format!("no such line: {name}"));
        };
        if !self.lines.register_now(now.mono, line) {
            return Answer::Refused(format!("{name} is not to register: register = no"));
        }
        self.lines_go_on(now);
        self.line_item(now, name)
    }

    fn hang_up(&mut self, now: Now, id: &str) -> Answer {
        let Some(handle) = self.calls.find(id) else {
            return Answer::NotFound(format!("no such call: {id}"));
        };
        let (calls, mut context) = self.split(now);
        calls.hang_up(
            handle,
            480,
            b"SIP;cause=200;text=\"Ended by the administrator\"",
            &mut context,
        );
        self.calls_go_on(now);
        self.light_lamps(now);
        Answer::Done
    }
}

fn ban_item(row: BanRow) -> crate::api::Ban {
    crate::api::Ban {
        source: row.source.to_string(),
        reason: row.reason,
        failures: row.failures,
        users: row.users,
        first_seen: Rfc3339(row.first_seen),
        last_seen: Rfc3339(row.last_seen),
        since: Rfc3339(row.since),
        until: Some(Rfc3339(row.until)),
        discarded_estimated: 0,
    }
}
