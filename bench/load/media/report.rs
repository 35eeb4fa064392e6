//! What was measured of a relay, for people and for programs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Taken;
use super::phones::{Tally, histogram};
use crate::report::held;

/// Of one phase.
#[allow(missing_docs)]
pub struct Figures {
    pub tally: Tally,
    /// Of the process that was measured.
    pub cpu: Duration,
    pub elapsed: Duration,
    /// Datagrams of the flood.
    pub flooded: u64,
    /// Nanoseconds from OPTIONS to 200.
    pub options: Histogram<u64>,
    pub options_lost: u64,
}

/// One of each.
#[allow(missing_docs)]
pub struct Round {
    pub quiet: Figures,
    pub bare: Figures,
    pub resting: Figures,
    pub relay: Figures,
    pub asked: Figures,
    pub flooded: Figures,
}

/// What calls take.
pub struct Memory {
    /// How many.
    pub calls: usize,
    /// Without a relay.
    pub without: Taken,
    /// With one.
    pub with: Taken,
    /// Of the relaying server when everything is over.
    pub resident_bytes: Option<u64>,
    /// What its tables hold then.
    pub tables: Value,
}

/// All of it.
#[allow(missing_docs)]
pub struct Report {
    pub rounds: Vec<Round>,
    pub memory: Memory,
}

impl Figures {
    /// Microseconds on the processor for each packet that arrived.
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.tally.received.max(1) as f64
    }

    fn busy(&self) -> f64 {
        // What comes after the last packet is waiting.
        let time = match self.tally.elapsed {
            Duration::ZERO => self.elapsed,
            elapsed => elapsed,
        };
        self.cpu.as_secs_f64() / time.as_secs_f64().max(1e-9)
    }
}

/// Medians of the rounds.
#[derive(Clone, Copy)]
struct Ratios {
    /// Of the time on the processor for a packet.
    cpu: f64,
    /// Of the p99 of the delay.
    delay: f64,
}

/// A phase of all rounds.
struct Line<'a> {
    name: &'static str,
    figures: Vec<&'a Figures>,
    tally: Tally,
    options: Histogram<u64>,
    /// Against the bare loop that wakes for each packet and the one that rests.
    ratios: Option<[Ratios; 2]>,
}

impl Line<'_> {
    fn cpu_us(&self) -> f64 {
        median(self.figures.iter().map(|figures| figures.cpu_us()))
    }

    fn busy(&self) -> f64 {
        median(self.figures.iter().map(|figures| figures.busy()))
    }

    fn options_lost(&self) -> u64 {
        self.figures.iter().map(|own| own.options_lost).sum()
    }

    fn flood_rate(&self) -> f64 {
        median(
            self.figures
                .iter()
                .map(|own| own.flooded as f64 / own.tally.elapsed.as_secs_f64().max(1e-9)),
        )
    }
}

impl Report {
    fn line(
        &self,
        name: &'static str,
        figures: impl Fn(&Round) -> &Figures,
        has_ratios: bool,
    ) -> Line<'_> {
        let mut tally = Tally::default();
        let mut options = histogram();
        let all: Vec<&Figures> = (self.rounds.iter())
            .map(|round| {
                let figures = figures(round);
                tally.add(&figures.tally);
                options += &figures.options;
                figures
            })
            .collect();
        let p99 = |figures: &Figures| figures.tally.delay.value_at_quantile(0.99).max(1) as f64;
        let ratios = |bare: fn(&Round) -> &Figures| {
            let pairs = || {
                self.rounds
                    .iter()
                    .map(|round| (figures(round), bare(round)))
            };
            Ratios {
                cpu: median(pairs().map(|(own, bare)| own.cpu_us() / bare.cpu_us().max(1e-9))),
                delay: median(pairs().map(|(own, bare)| p99(own) / p99(bare))),
            }
        };
        let ratios =
            has_ratios.then(|| [ratios(|round| &round.bare), ratios(|round| &round.resting)]);
        Line {
            name,
            figures: all,
            tally,
            options,
            ratios,
        }
    }

    fn lines(&self) -> [Line<'_>; 6] {
        [
            self.line("bare loop", |round| &round.bare, false),
            self.line("bare, rests", |round| &round.resting, false),
            self.line("relay", |round| &round.relay, true),
            self.line("+ OPTIONS", |round| &round.asked, true),
            self.line("+ flood", |round| &round.flooded, true),
            self.line("no media", |round| &round.quiet, false),
        ]
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<13}{:>9}{:>6}{:>6}{:>22}{:>14}{:>8}{:>14}{:>6}{:>9}{:>20}{:>6}\n",
            "",
            "packets",
            "lost",
            "twice",
            "delay us p50/99/99.9",
            "x bare/rests",
            "CPU us",
            "x bare/rests",
            "busy",
            "flood/s",
            "OPTIONS us p50/99",
            "lost"
        );
        for line in self.lines() {
            let at = |histogram: &Histogram<u64>, quantile| {
                (histogram.value_at_quantile(quantile) / 1_000).to_string()
            };
            let delay = [0.5, 0.99, 0.999].map(|quantile| at(&line.tally.delay, quantile));
            let ratio = |of: fn(Ratios) -> f64| {
                let both = line.ratios.map(|both| both.map(of));
                both.map_or(String::new(), |[bare, rests]| {
                    format!("{bare:.2}/{rests:.2}")
                })
            };
            let has_media = line.tally.sent > 0;
            let only = |is_shown: bool, text: String| if is_shown { text } else { String::new() };
            // Beside a flood much of the time is the flood's.
            let is_alone = line.flood_rate() == 0.0;
            text.push_str(&format!(
                "{:<13}{:>9}{:>6}{:>6}{:>22}{:>14}{:>8}{:>14}{:>5.0}%{:>9.0}{:>20}{:>6}\n",
                line.name,
                line.tally.received,
                line.tally.lost(),
                line.tally.twice,
                only(has_media, delay.join("/")),
                ratio(|ratios| ratios.delay),
                only(has_media, format!("{:.2}", line.cpu_us())),
                only(is_alone, ratio(|ratios| ratios.cpu)),
                line.busy() * 100.0,
                line.flood_rate(),
                only(
                    !line.options.is_empty(),
                    [0.5, 0.99]
                        .map(|quantile| at(&line.options, quantile))
                        .join("/"),
                ),
                line.options_lost(),
            ));
        }
        let strange: u64 = self.lines().iter().map(|line| line.tally.strange).sum();
        let unsent: u64 = self.lines().iter().map(|line| line.tally.unsent).sum();
        text.push_str(&format!(
            "{} rounds; {strange} packets strange, {unsent} not sent. Ratios are medians of the rounds.\n",
            self.rounds.len()
        ));
        let Memory {
            calls,
            without,
            with,
            resident_bytes,
            tables,
        } = &self.memory;
        for (name, taken) in [("without", without), ("with", with)] {
            let each = |bytes: u64| bytes as f64 / *calls as f64 / 1_024.0;
            let kernel = taken.kernel_bytes.map_or(String::new(), |bytes| {
                format!(", {:.1} KiB of the kernel for its sockets", each(bytes))
            });
            let process = each(taken.process_bytes);
            text.push_str(&format!("a call {name} relay: {process:.1} KiB{kernel}\n"));
        }
        let resident = resident_bytes.unwrap_or(0) as f64 / f64::from(1 << 20);
        text.push_str(&format!(
            "memory with {calls} relayed calls: {resident:.1} MiB; the server holds {}",
            held(tables)
        ));
        text
    }

    /// One line of JSON; times in microseconds.
    pub fn json(&self) -> String {
        let quantiles = |histogram: &Histogram<u64>| {
            let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
            json!({ "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": histogram.max() as f64 / 1e3 })
        };
        let lines: Vec<Value> = (self.lines().iter())
            .map(|line| {
                let has_media = line.tally.sent > 0;
                // Beside a flood much of the time is the flood's.
                let is_alone = line.flood_rate() == 0.0;
                let cpu = line.ratios.filter(|_| is_alone);
                json!({
                    "what": line.name, "sent": line.tally.sent, "received": line.tally.received,
                    "lost": line.tally.lost(), "twice": line.tally.twice, "unsent": line.tally.unsent,
                    "strange": line.tally.strange, "delay_us": quantiles(&line.tally.delay),
                    "delay_p99_ratio": line.ratios.map(|both| both.map(|ratios| ratios.delay)),
                    "cpu_us": has_media.then(|| line.cpu_us()),
                    "cpu_ratio": cpu.map(|both| both.map(|ratios| ratios.cpu)),
                    "cpu_us_of_rounds": line.figures.iter().map(|own| own.cpu_us()).collect::<Vec<_>>(),
                    "busy": line.busy(), "flood_rate": line.flood_rate(),
                    "options_us": quantiles(&line.options), "options_lost": line.options_lost(),
                })
            })
            .collect();
        let taken = |taken: &Taken| json!({ "process_bytes": taken.process_bytes, "kernel_bytes": taken.kernel_bytes });
        json!({
            "scenario": "media", "rounds": self.rounds.len(), "lines": lines, "calls": self.memory.calls,
            "without_relay": taken(&self.memory.without), "with_relay": taken(&self.memory.with),
            "resident_bytes": self.memory.resident_bytes, "tables": self.memory.tables,
        })
        .to_string()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
