//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::arguments::Pace;
use crate::process::CpuTime;

/// The figures of a run.
#[allow(missing_docs)]
pub struct Report {
    pub scenario: &'static str,
    pub pace: Pace,
    /// Time that was measured.
    pub elapsed: Duration,
    /// Jobs that ended well in that time (flood: datagrams that were sent).
    pub done: u64,
    /// Jobs that got another answer than they should.
    pub failed: u64,
    /// How many with which status.
    pub statuses: BTreeMap<u16, u64>,
    /// Jobs without a final answer.
    pub lost: u64,
    pub retransmitted: u64,
    /// Datagrams that belong to nothing.
    pub strange: u64,
    /// Datagrams that our own kernel did not take.
    pub unsent: u64,
    /// Datagrams that the server's socket lost for want of buffer.
    pub server_drops: u64,
    /// Microseconds from when a job was due to its end.
    pub latency: Option<Histogram<u64>>,
    /// Calls: the same to 180.
    pub ringing: Option<Histogram<u64>>,
    /// Messages that the server handles for one job, in and out; 0: not said.
    pub messages_of_job: u32,
    pub cpu: Option<CpuTime>,
    pub resident_bytes: Option<u64>,
}

impl Report {
    fn rate(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64().max(1e-9)
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
        let jobs = self.done.saturating_sub(if self.latency.is_none() {
            self.server_drops
        } else {
            0
        });
        time.as_secs_f64() * 1e6 / (jobs.max(1) as f64)
    }

    /// One line of JSON; times in microseconds.
    pub fn json(&self) -> String {
        let mut object = serde_json::json!({
            "scenario": self.scenario,
            "seconds": self.elapsed.as_secs_f64(),
            "done": self.done,
            "rate": round(self.rate()),
            "failed": self.failed,
            "failed_by_status": self.statuses,
            "lost": self.lost,
            "retransmitted": self.retransmitted,
            "strange": self.strange,
            "unsent": self.unsent,
            "server_drops": self.server_drops,
        });
        let mut add = |name: &str, value: serde_json::Value| object[name] = value;
        for (name, histogram) in [("latency_us", &self.latency), ("ringing_us", &self.ringing)] {
            let Some(histogram) = histogram else { continue };
            let at = |quantile| histogram.value_at_quantile(quantile);
            add(
                name,
                serde_json::json!({
                    "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": histogram.max(),
                }),
            );
        }
        if let Some(cpu) = &self.cpu {
            add("cpu_us", round(self.each(cpu.total())).into());
            add("cpu_user_us", round(self.each(cpu.user)).into());
            add("cpu_system_us", round(self.each(cpu.system)).into());
            add(
                "cpu_first_thread_us",
                round(self.each(cpu.first_thread)).into(),
            );
            add("cpu_busy", round(self.busy()).into());
        }
        if let Some(bytes) = self.resident_bytes {
            add("resident_bytes", bytes.into());
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
        line(
            "done",
            format!("{} in {:.2} s", self.done, self.elapsed.as_secs_f64()),
        );
        line("rate", format!("{:.0} a second", self.rate()));
        let (failed, lost, again) = (self.failed, self.lost, self.retransmitted);
        line(
            "not well",
            format!("{failed} failed, {lost} lost, {again} repeated"),
        );
        for (status, count) in &self.statuses {
            line("", format!("{count} answered with {status}"));
        }
        let (unsent, drops, strange) = (self.unsent, self.server_drops, self.strange);
        line(
            "datagrams",
            format!("{unsent} not sent, {drops} dropped at the server, {strange} strange"),
        );
        for (name, histogram) in [("latency us", &self.latency), ("to 180 us", &self.ringing)] {
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
        text.truncate(text.trim_end().len());
        text
    }
}

/// Three decimals.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
