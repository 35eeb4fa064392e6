//! Medians of the runs, as lines of a table.

use std::fmt::Write as _;

use serde_json::Value;

use super::Row;
use super::svg::Bar;
use crate::report::held;

/// A row of the comparison with what its runs had in the middle.
pub struct Line {
    /// What is done.
    pub work: String,
    /// By whom.
    pub who: &'static str,
    /// How often a second.
    pub rate: f64,
    /// CPU microseconds each.
    pub cpu_us: f64,
    /// The lowest and the highest of them.
    pub spread: (f64, f64),
    /// Share of a processor that it took.
    pub busy: f64,
    /// CPU time against that of the bare loop in the same turn: median, lowest, highest.
    pub ratio: [f64; 3],
    /// The same against the row that the aim is about, if it is not the bare loop: median.
    pub first: Option<f64>,
    /// What `first`, or else `ratio`, should be at most.
    pub aim: Option<f64>,
    /// Latency in microseconds, p50 and p99; `None`: nothing comes back.
    pub latency_us: Option<[u64; 2]>,
    /// Jobs of all runs that got another answer than they should.
    pub failed: u64,
    /// Those that got none.
    pub lost: u64,
    /// Requests that were repeated.
    pub repeated: u64,
    /// Datagrams that the server's socket had no room for.
    pub dropped: u64,
    /// Memory at the end of the last run.
    pub resident_bytes: u64,
    /// What the server's tables held then, by its own word.
    pub held: String,
}

/// The lines of all rows that were measured.
pub fn lines(rows: &[Row]) -> Vec<Line> {
    rows.iter()
        .filter(|row| !row.runs.is_empty())
        .map(|row| line(row, rows))
        .collect()
}

fn line(row: &Row, rows: &[Row]) -> Line {
    let number = |run: &Value, name: &str| run[name].as_f64();
    let all = |name: &str| -> Vec<f64> {
        let values = row.runs.iter().filter_map(|run| number(run, name));
        values.collect()
    };
    let middle = |values: &[f64]| spread(values).map_or(0.0, |[median, ..]| median);
    // Turn by turn.
    let against = |other: &Row| {
        let pairs = row.runs.iter().zip(&other.runs);
        let ratios = pairs.filter_map(|(own, other)| {
            Some(number(own, "cpu_us")? / number(other, "cpu_us")?.max(1e-9))
        });
        spread(&ratios.collect::<Vec<_>>()).unwrap_or([0.0; 3])
    };
    let latency = |quantile: &str| {
        let values = row
            .runs
            .iter()
            .filter_map(|run| number(&run["latency_us"], quantile));
        spread(&values.collect::<Vec<_>>()).map(|[median, ..]| median as u64)
    };
    let count = |run: &Value, name: &str| run[name].as_u64().unwrap_or(0);
    let sum = |name: &str| row.runs.iter().map(|run| count(run, name)).sum();
    let last = row.runs.last();
    let [cpu_us, lowest, highest] = spread(&all("cpu_us")).unwrap_or([0.0; 3]);
    Line {
        work: row.work.clone(),
        who: row.who,
        rate: middle(&all("rate")),
        cpu_us,
        spread: (lowest, highest),
        busy: middle(&all("cpu_busy")),
        ratio: against(row.floor.and_then(|place| rows.get(place)).unwrap_or(row)),
        first: row
            .first
            .and_then(|place| Some(against(rows.get(place)?)[0])),
        aim: row.aim,
        latency_us: latency("p50").zip(latency("p99")).map(<[u64; 2]>::from),
        failed: sum("failed"),
        lost: sum("lost"),
        repeated: sum("retransmitted"),
        dropped: sum("server_drops"),
        resident_bytes: last.map_or(0, |run| count(run, "resident_bytes")),
        held: last.map_or(String::new(), |run| held(&run["tables"])),
    }
}

/// Median (of an even number the lower of both), lowest and highest; `None`: there are none.
pub fn spread(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lowest, highest) = (sorted.first()?, sorted.last()?);
    let median = sorted.get((sorted.len() - 1) / 2)?;
    Some([*median, *lowest, *highest])
}

/// A table for people, and for a README.
pub fn text(lines: &[Line]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let titles = [
        "a second", "CPU µs", "spread", "busy", "× bare", "spread", "× first", "aim", "p50 µs",
        "p99 µs", "failed", "lost", "repeated", "dropped", "memory",
    ];
    let mut text = format!(
        "| {:<28} | {:<16} |{} held at the end |\n| --- | --- |{} --- |\n",
        "",
        "",
        titles.map(|title| format!(" {title:>11} |")).concat(),
        " --: |".repeat(titles.len()),
    );
    for line in lines {
        let number = |number: Option<f64>| number.map_or(String::new(), |own| format!("{own:.2}"));
        let latency = match line.latency_us {
            Some(both) => both.map(|own| own.to_string()),
            None => [const { String::new() }; 2],
        };
        let [ratio, lowest, highest] = line.ratio;
        let cells = [
            format!("{:.0}", line.rate),
            format!("{:.2}", line.cpu_us),
            format!("{:.2}–{:.2}", line.spread.0, line.spread.1),
            format!("{:.0} %", line.busy * 100.0),
            format!("{ratio:.2}"),
            format!("{lowest:.2}–{highest:.2}"),
            number(line.first),
            line.aim.map_or(String::new(), |aim| aim.to_string()),
            latency[0].clone(),
            latency[1].clone(),
            line.failed.to_string(),
            line.lost.to_string(),
            line.repeated.to_string(),
            line.dropped.to_string(),
            format!("{:.1} MiB", line.resident_bytes as f64 / f64::from(1 << 20)),
        ];
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {:<28} | {:<16} |{} {} |",
            line.work,
            line.who,
            cells.map(|cell| format!(" {cell:>11} |")).concat(),
            line.held,
        );
    }
    text.push_str(
        "\nBusy: share of a processor. × bare: CPU time against the bare loop above it in the same turn; \"sipkeep\" in a flood \
         against the loop that reads late as it does. p50, p99: with always as many requests under way, as fast as the server goes. \
         Failed to dropped: of all turns.\n",
    );
    if lines.iter().any(|line| line.first.is_some()) {
        text.push_str(
            "\n× first: CPU time against the same work with the smallest table, or with MD5, in the same turn, which is what the \
             aim of these rows is for.\n",
        );
    }
    text
}

/// The same for the picture.
pub fn bars(lines: &[Line]) -> Vec<Bar> {
    let bar = |line: &Line| {
        let mut text = format!("{:.2} µs, × {:.2}", line.cpu_us, line.ratio[0]);
        // Writing to a string cannot fail.
        let _ = match (line.first, line.aim) {
            (Some(first), Some(aim)) => write!(text, ", × first {first:.2} (aim {aim})"),
            (_, Some(aim)) => write!(text, " (aim {aim})"),
            _ => Ok(()),
        };
        // The aim in microseconds: that of whatever it is times of.
        let each = line.cpu_us / line.first.unwrap_or(line.ratio[0]).max(1e-9);
        Bar {
            work: line.work.clone(),
            who: line.who,
            value: line.cpu_us,
            text,
            aim: line.aim.map(|aim| aim * each),
        }
    };
    lines.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Place;

    #[test]
    fn medians_and_ratios() {
        fn run(cpu: &f64) -> Value {
            serde_json::json!({
                "cpu_us": cpu, "rate": 7.0, "lost": 1, "failed": 2, "tables": { "bans": 5 },
            })
        }
        let row = |floor: Option<usize>, first: Option<usize>, values: &[f64]| Row {
            work: "w".to_owned(),
            who: "x",
            place: Place::Running(0),
            words: Vec::new(),
            floor,
            first,
            aim: first.map(|_| 1.2),
            runs: values.iter().map(run).collect(),
        };
        let lines = lines(&[
            row(None, None, &[4.0, 2.0, 3.0]),
            row(Some(0), None, &[8.0, 6.0, 3.0]),
            row(Some(0), None, &[]),
            row(Some(0), Some(1), &[12.0]),
        ]);
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (lines[1].cpu_us, lines[1].ratio, lines[1].spread),
            // Turn by turn: the medians' ratio is another one in general.
            (6.0, [2.0, 1.0, 3.0], (3.0, 8.0))
        );
        assert_eq!((lines[1].lost, lines[1].failed), (3, 6));
        assert_eq!((lines[1].latency_us, lines[1].first), (None, None));
        assert_eq!((lines[2].ratio, lines[2].first), ([3.0; 3], Some(1.5)));
        assert_eq!(lines[0].ratio, [1.0; 3]);
        assert_eq!(lines[2].held, "5 bans");
        assert_eq!(
            (spread(&[]), spread(&[2.0, 1.0])),
            (None, Some([1.0, 1.0, 2.0]))
        );
        // 1.2 times what the row that it is compared with took in that turn, 8 µs.
        let bars = bars(&lines);
        let aim = bars[2].aim.unwrap();
        assert!((aim - 9.6).abs() < 1e-9 && bars[1].aim.is_none(), "{aim}");
        let text = text(&lines);
        let columns = text.lines().take(5).map(|line| line.matches('|').count());
        assert!(columns.eq([19; 5]), "{text}");
    }
}
