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
    /// CPU time against that of the bare loop.
    pub ratio: f64,
    /// The same against the row with the smallest table.
    pub flat: Option<f64>,
    /// What `flat`, or else `ratio`, should be at most.
    pub aim: Option<f64>,
    /// Latency in microseconds, p50 and p99; `None`: nothing comes back.
    pub latency_us: Option<[u64; 2]>,
    /// Jobs of all runs that got another answer than they should.
    pub failed: u64,
    /// Those that got none.
    pub lost: u64,
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
    let cpu = |row: &Row| sorted(&row.runs, |run| run["cpu_us"].as_f64());
    let times = cpu(row);
    let against = |place: usize| {
        let other = rows.get(place).map_or(0.0, |other| median(&cpu(other)));
        median(&times) / other.max(1e-9)
    };
    let latency = |quantile: &str| {
        let values = sorted(&row.runs, |run| run["latency_us"][quantile].as_f64());
        (!values.is_empty()).then(|| median(&values) as u64)
    };
    let count = |run: &Value, name: &str| run[name].as_u64().unwrap_or(0);
    let sum = |name: &str| row.runs.iter().map(|run| count(run, name)).sum();
    let last = row.runs.last();
    Line {
        work: row.work.clone(),
        who: row.who,
        rate: median(&sorted(&row.runs, |run| run["rate"].as_f64())),
        cpu_us: median(&times),
        spread: (
            times.first().copied().unwrap_or(0.0),
            times.last().copied().unwrap_or(0.0),
        ),
        ratio: against(row.floor),
        flat: row.first.map(against),
        aim: row.aim,
        latency_us: latency("p50").zip(latency("p99")).map(<[u64; 2]>::from),
        failed: sum("failed"),
        lost: sum("lost"),
        resident_bytes: last.map_or(0, |run| count(run, "resident_bytes")),
        held: last.map_or(String::new(), |run| held(&run["tables"])),
    }
}

fn sorted(runs: &[Value], field: impl Fn(&Value) -> Option<f64>) -> Vec<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(field).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The one in the middle, of an even number the lower of both; 0: there is none.
pub fn median(sorted: &[f64]) -> f64 {
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0)
}

/// A table for people, and for a README.
pub fn text(lines: &[Line]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "| {:<28} | {:<16} | {:>9} | {:>8} | {:>17} | {:>7} | {:>7} | {:>5} | {:>7} | {:>7} | {:>6} | {:>6} | {:>9} | {} |\n",
        "",
        "",
        "a second",
        "CPU µs",
        "spread",
        "× bare",
        "× first",
        "aim",
        "p50 µs",
        "p99 µs",
        "failed",
        "lost",
        "memory",
        "held at the end"
    );
    text.push_str(
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |\n",
    );
    for line in lines {
        let number = |number: Option<f64>| number.map_or(String::new(), |own| format!("{own:.2}"));
        let aim = line.aim.map_or(String::new(), |aim| format!("{aim}"));
        let latency = match line.latency_us {
            Some(both) => both.map(|own| own.to_string()),
            None => [const { String::new() }; 2],
        };
        let spread = format!("{:.2}–{:.2}", line.spread.0, line.spread.1);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {:<28} | {:<16} | {:>9.0} | {:>8.2} | {:>17} | {:>7.2} | {:>7} | {:>5} | {:>7} | {:>7} | {:>6} | {:>6} | {:>5.1} MiB | {} |",
            line.work,
            line.who,
            line.rate,
            line.cpu_us,
            spread,
            line.ratio,
            number(line.flat),
            aim,
            latency[0],
            latency[1],
            line.failed,
            line.lost,
            line.resident_bytes as f64 / f64::from(1 << 20),
            line.held,
        );
    }
    if lines.iter().any(|line| line.flat.is_some()) {
        text.push_str("\n× first: CPU time against the same work with the smallest table, which the aim of these rows is for.\n");
    }
    text
}

/// The same for the picture.
pub fn bars(lines: &[Line]) -> Vec<Bar> {
    let bar = |line: &Line| {
        let mut text = format!("{:.2} µs, × {:.2}", line.cpu_us, line.ratio);
        // Writing to a string cannot fail.
        let _ = match (line.flat, line.aim) {
            (Some(flat), Some(aim)) => write!(text, ", × first {flat:.2} (aim {aim})"),
            (_, Some(aim)) => write!(text, " (aim {aim})"),
            _ => Ok(()),
        };
        // The aim in microseconds: that of whatever it is times of.
        let each = line.cpu_us / line.flat.unwrap_or(line.ratio).max(1e-9);
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
        let row = |floor, first: Option<usize>, values: &[f64]| Row {
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
            row(0, None, &[4.0, 2.0, 3.0]),
            row(0, None, &[9.0, 6.0, 1.0]),
            row(0, None, &[]),
            row(0, Some(1), &[12.0]),
        ]);
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (lines[1].cpu_us, lines[1].ratio, lines[1].spread),
            (6.0, 2.0, (1.0, 9.0))
        );
        assert_eq!((lines[1].lost, lines[1].failed), (3, 6));
        assert_eq!((lines[1].latency_us, lines[1].flat), (None, None));
        assert_eq!((lines[2].ratio, lines[2].flat), (4.0, Some(2.0)));
        assert_eq!(lines[2].held, "5 bans");
        assert_eq!((median(&[]), median(&[1.0, 2.0])), (0.0, 1.0));
        // 1.2 times the row with the smallest table, which took 6 µs.
        let bars = bars(&lines);
        let aim = bars[2].aim.unwrap();
        assert!((aim - 7.2).abs() < 1e-9 && bars[1].aim.is_none(), "{aim}");
        let text = text(&lines);
        let columns = text.lines().take(5).map(|line| line.matches('|').count());
        assert!(columns.eq([15; 5]), "{text}");
    }
}
