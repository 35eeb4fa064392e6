//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::arguments::Pace;
use crate::process::CpuTime;

/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What became of jobs.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Outcome {
    /// Those that ended well in the measured time (flood: datagrams that were sent).
    pub done: u64,
    /// Those that got another answer than they should.
    pub failed: u64,
    /// How many with which status.
    pub statuses: BTreeMap<u16, u64>,
    /// Those without a final answer.
    pub lost: u64,
    pub retransmitted: u64,
    /// Requests that were challenged and made again with credentials.
    pub challenged: u64,
    /// Microseconds from when a job was due to its end.
    pub latency: Option<Histogram<u64>>,
    /// Calls: the same to 180.
    pub ringing: Option<Histogram<u64>>,
}

impl Outcome {
    /// One whose latencies are counted.
    pub fn measured() -> Self {
        Self {
            latency: Some(histogram()),
            ringing: Some(histogram()),
            ..Self::default()
        }
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.lost += other.lost;
        self.retransmitted += other.retransmitted;
        self.challenged += other.challenged;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        let add = |own: &mut Option<Histogram<u64>>, other: &Option<Histogram<u64>>| {
            if let Some(other) = other {
                *own.get_or_insert_with(histogram) += other;
            }
        };
        add(&mut self.latency, &other.latency);
        add(&mut self.ringing, &other.ringing);
    }

    /// Microseconds of latency; 0: nothing was measured.
    pub fn latency_at(&self, quantile: f64) -> u64 {
        let latency = self.latency.as_ref();
        latency.map_or(0, |latency| latency.value_at_quantile(quantile))
    }

    fn rate(&self, elapsed: Duration) -> f64 {
        self.done as f64 / elapsed.as_secs_f64().max(1e-9)
    }

    fn json(&self, elapsed: Duration) -> Value {
        let mut object = json!({
            "done": self.done,
            "rate": round(self.rate(elapsed)),
            "failed": self.failed,
            "failed_by_status": self.statuses,
            "lost": self.lost,
            "retransmitted": self.retransmitted,
            "challenged": self.challenged,
        });
        for (name, histogram) in [("latency_us", &self.latency), ("ringing_us", &self.ringing)] {
            let Some(histogram) = histogram else { continue };
            if name == "ringing_us" && histogram.is_empty() {
                continue;
            }
            let at = |quantile| histogram.value_at_quantile(quantile);
            object[name] = json!({
                "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": histogram.max(),
            });
        }
        object
    }
}

/// An empty one for latencies, in microseconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
        .expect("constant bounds that hdrhistogram allows")
}

/// The figures of a run.
#[allow(missing_docs)]
pub struct Report {
    pub scenario: &'static str,
    pub pace: Pace,
    /// Time that was measured.
    pub elapsed: Duration,
    /// Of all jobs.
    pub total: Outcome,
    /// The same of each kind, if there are several.
    pub kinds: Vec<(&'static str, Outcome)>,
    /// Jobs of an open loop that were due and could not begin: whoever should have was busy.
    pub unbegun: u64,
    /// Datagrams a second of a flood beside it, as sent.
    pub flood: Option<f64>,
    /// Datagrams that belong to nothing.
    pub strange: u64,
    /// Datagrams that our own kernel did not take.
    pub unsent: u64,
    /// Datagrams that the server's socket lost for want of buffer, if that can be told.
    pub server_drops: Option<u64>,
    /// Messages that the server handles for one job, in and out; 0: not said.
    pub messages_of_job: u32,
    pub cpu: Option<CpuTime>,
    /// Of the server at the end.
    pub resident_bytes: Option<u64>,
    /// What the server's tables hold at the end, by its own word: `counts` of its status.
    pub tables: Option<Value>,
}

impl Report {
    /// One in which nothing has been measured yet.
    pub fn new(scenario: &'static str, pace: Pace, elapsed: Duration) -> Self {
        Self {
            scenario,
            pace,
            elapsed,
            total: Outcome::default(),
            kinds: Vec::new(),
            unbegun: 0,
            flood: None,
            strange: 0,
            unsent: 0,
            server_drops: None,
            messages_of_job: 0,
            cpu: None,
            resident_bytes: None,
            tables: None,
        }
    }

    /// Share of one processor that the server took; 0: not said.
    pub fn busy(&self) -> f64 {
        let cpu = self
            .cpu
            .as_ref()
            .map_or(0.0, |cpu| cpu.total().as_secs_f64());
        cpu / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Microseconds of CPU a job.
    fn each(&self, time: Duration) -> f64 {
        // What the server's socket lost it did not work on.
        let jobs = self
            .total
            .done
            .saturating_sub(if self.total.latency.is_none() {
                self.server_drops.unwrap_or(0)
            } else {
                0
            });
        time.as_secs_f64() * 1e6 / (jobs.max(1) as f64)
    }

    /// One line of JSON; times in microseconds.
    pub fn json(&self) -> String {
        let mut object = self.total.json(self.elapsed);
        let mut add = |name: &str, value: Value| object[name] = value;
        add("scenario", self.scenario.into());
        add("seconds", self.elapsed.as_secs_f64().into());
        match self.pace {
            Pace::Window(window) => add("window", window.into()),
            // JSON has no infinity: as fast as it goes.
            Pace::Rate(rate) if rate.is_finite() => add("rate_wanted", rate.into()),
            Pace::Rate(_) => {}
        }
        add("unbegun", self.unbegun.into());
        add("strange", self.strange.into());
        add("unsent", self.unsent.into());
        add("server_drops", self.server_drops.into());
        if !self.kinds.is_empty() {
            let kinds = (self.kinds.iter()).map(|(kind, outcome)| {
                let mut object = outcome.json(self.elapsed);
                object["kind"] = (*kind).into();
                object
            });
            add("kinds", kinds.collect());
        }
        if let Some(rate) = self.flood {
            add("flood_rate", round(rate).into());
        }
        if let Some(cpu) = &self.cpu {
            add("cpu_us", round(self.each(cpu.total())).into());
            add("cpu_user_us", round(self.each(cpu.user)).into());
            add("cpu_system_us", round(self.each(cpu.system)).into());
            let first = round(self.each(cpu.first_thread));
            add("cpu_first_thread_us", first.into());
            add("cpu_busy", round(self.busy()).into());
        }
        if let Some(bytes) = self.resident_bytes {
            add("resident_bytes", bytes.into());
        }
        if let Some(tables) = &self.tables {
            add("tables", tables.clone());
        }
        object.to_string()
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<16} {value}");
        };
        let pace = match self.pace {
            Pace::Window(window) => format!("window {window}"),
            Pace::Rate(rate) => format!("{rate} a second"),
        };
        line(self.scenario, pace);
        let total = &self.total;
        let seconds = self.elapsed.as_secs_f64();
        line("done", format!("{} in {seconds:.2} s", total.done));
        let rate = total.rate(self.elapsed);
        line("rate", format!("{rate:.0} a second"));
        if let Some(rate) = self.flood {
            line("flood beside it", format!("{rate:.0} a second"));
        }
        let (failed, lost, again) = (total.failed, total.lost, total.retransmitted);
        let late = match self.unbegun {
            0 => String::new(),
            unbegun => format!(", {unbegun} due and never begun"),
        };
        line(
            "not well",
            format!("{failed} failed, {lost} lost, {again} repeated{late}"),
        );
        if total.challenged > 0 {
            line("challenged", total.challenged.to_string());
        }
        for (status, count) in &total.statuses {
            line("", format!("{count} answered with {status}"));
        }
        let (unsent, strange) = (self.unsent, self.strange);
        let drops = self.server_drops.map_or(String::new(), |drops| {
            format!(", {drops} dropped at the server")
        });
        line(
            "datagrams",
            format!("{unsent} not sent{drops}, {strange} strange"),
        );
        for (name, histogram) in [
            ("latency us", &total.latency),
            ("to 180 us", &total.ringing),
        ] {
            let Some(histogram) = histogram.as_ref().filter(|histogram| !histogram.is_empty())
            else {
                continue;
            };
            let at = |quantile| histogram.value_at_quantile(quantile);
            line(
                name,
                format!(
                    "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
                    at(0.5),
                    at(0.9),
                    at(0.99),
                    at(0.999),
                    histogram.max()
                ),
            );
        }
        if let Some(cpu) = &self.cpu {
            let each = self.each(cpu.total());
            let (user, system) = (self.each(cpu.user), self.each(cpu.system));
            let first = self.each(cpu.first_thread);
            line(
                "server CPU us",
                format!(
                    "{each:.2} each ({user:.2} user, {system:.2} system; {first:.2} in the first thread)"
                ),
            );
            line("server busy", format!("{:.0} %", self.busy() * 100.0));
            if self.messages_of_job > 2 {
                let messages = self.messages_of_job;
                let each = each / f64::from(messages);
                line(
                    "a message",
                    format!("{each:.2} us, {messages} messages in and out each"),
                );
            }
        }
        if let Some(bytes) = self.resident_bytes {
            line(
                "server memory",
                format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            );
        }
        if let Some(tables) = &self.tables {
            line("server holds", held(tables));
        }
        if !self.kinds.is_empty() {
            text.push_str(&self.kinds_table());
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// A line for each kind.
    fn kinds_table(&self) -> String {
        let mut text = format!(
            "\n{:<14}{:>9}{:>10}{:>8}{:>7}{:>10}{:>9}{:>9}{:>9}\n",
            "", "done", "a second", "failed", "lost", "repeated", "p50 us", "p99 us", "max us"
        );
        for (kind, own) in &self.kinds {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{kind:<14}{:>9}{:>10.0}{:>8}{:>7}{:>10}{:>9}{:>9}{:>9}",
                own.done,
                own.rate(self.elapsed),
                own.failed,
                own.lost,
                own.retransmitted,
                own.latency_at(0.5),
                own.latency_at(0.99),
                own.latency_at(1.0),
            );
        }
        text
    }
}

/// What a server's tables hold, short; what is empty is left out.
pub fn held(tables: &Value) -> String {
    let of = |name: &str| tables[name].as_u64().unwrap_or(0);
    let transactions = of("transactions") + of("transactions_completed");
    let counts = [
        (of("registrations"), "registrations"),
        (of("calls"), "calls"),
        (transactions, "transactions"),
        (of("bans"), "bans"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let texts: Vec<String> = counts
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    texts.join(", ")
}

/// Three decimals.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_and_added() {
        let mut calls = Outcome::measured();
        (calls.done, calls.lost, calls.failed) = (3, 1, 2);
        calls.statuses.insert(486, 2);
        if let Some(latency) = &mut calls.latency {
            latency.saturating_record(5_000);
        }
        let mut options = Outcome::measured();
        options.done = 7;
        options.retransmitted = 4;
        options.statuses.insert(486, 1);
        let mut report = Report::new("mix", Pace::Window(2), Duration::from_secs(2));
        report.total.add(&calls);
        report.total.add(&options);
        report.kinds = vec![("calls", calls), ("options", options)];
        report.flood = Some(50.0);
        (report.unbegun, report.total.challenged) = (6, 8);
        report.tables = Some(
            json!({ "registrations": 9, "calls": 0, "transactions": 1, "transactions_completed": 4 }),
        );
        let read: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&read["done"], &read["rate"]), (&json!(10), &json!(5.0)));
        assert_eq!(read["failed_by_status"]["486"], 3);
        let read_of = |name: &str| read[name].as_u64().unwrap();
        assert_eq!(["window", "unbegun", "challenged"].map(read_of), [2, 6, 8]);
        assert_eq!(
            (&read["lost"], &read["retransmitted"]),
            (&json!(1), &json!(4))
        );
        assert!((4_990..=5_010).contains(&read["latency_us"]["p50"].as_u64().unwrap()));
        assert_eq!(
            (&read["kinds"][1]["kind"], &read["kinds"][1]["done"]),
            (&json!("options"), &json!(7))
        );
        assert_eq!(read["tables"]["transactions_completed"], 4);
        let table = report.table();
        assert!(table.contains("6 due and never begun"), "{table}");
        assert!(table.contains("9 registrations, 5 transactions"), "{table}");
        let line = table
            .lines()
            .find(|line| line.starts_with("calls"))
            .unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[..6], ["calls", "3", "2", "2", "1", "0"]);
    }
}
