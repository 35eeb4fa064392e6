//! Medians of the runs, as lines of a table.

use std::fmt::Write as _;

use serde_json::Value;

use super::Row;

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
    /// What it should be at most.
    pub aim: Option<f64>,
    /// Latency in microseconds; `None`: nothing comes back.
    pub p99_us: Option<u64>,
    /// Jobs of all runs that did not end well.
    pub failed: u64,
    /// Memory at the end of the last run.
    pub resident_bytes: u64,
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
    let floor = rows.get(row.floor).map_or(0.0, |floor| median(&cpu(floor)));
    let latencies = sorted(&row.runs, |run| run["latency_us"]["p99"].as_f64());
    let count = |run: &Value, name: &str| run[name].as_u64().unwrap_or(0);
    Line {
        work: row.work.clone(),
        who: row.who,
        rate: median(&sorted(&row.runs, |run| run["rate"].as_f64())),
        cpu_us: median(&times),
        spread: (
            times.first().copied().unwrap_or(0.0),
            times.last().copied().unwrap_or(0.0),
        ),
        ratio: median(&times) / floor.max(1e-9),
        aim: row.aim,
        p99_us: (!latencies.is_empty()).then(|| median(&latencies) as u64),
        failed: row
            .runs
            .iter()
            .map(|run| count(run, "failed") + count(run, "lost"))
            .sum(),
        resident_bytes: row
            .runs
            .last()
            .map_or(0, |run| count(run, "resident_bytes")),
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
    let mut text = format!(
        "| {:<26} | {:<16} | {:>9} | {:>8} | {:>17} | {:>7} | {:>5} | {:>7} | {:>6} | {:>8} |\n",
        "", "", "a second", "CPU µs", "spread", "× bare", "aim", "p99 µs", "failed", "memory"
    );
    text.push_str("| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |\n");
    for line in lines {
        let aim = line.aim.map_or(String::new(), |aim| format!("{aim}"));
        let p99 = line.p99_us.map_or(String::new(), |p99| p99.to_string());
        let spread = format!("{:.2}–{:.2}", line.spread.0, line.spread.1);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {:<26} | {:<16} | {:>9.0} | {:>8.2} | {:>17} | {:>7.2} | {:>5} | {:>7} | {:>6} | {:>4.1} MiB |",
            line.work,
            line.who,
            line.rate,
            line.cpu_us,
            spread,
            line.ratio,
            aim,
            p99,
            line.failed,
            line.resident_bytes as f64 / f64::from(1 << 20),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        fn run(cpu: &f64) -> Value {
            serde_json::json!({ "cpu_us": cpu, "rate": 7.0, "lost": 1 })
        }
        let row = |floor, values: &[f64]| Row {
            work: "w".to_owned(),
            who: "x",
            server: 0,
            words: Vec::new(),
            floor,
            aim: None,
            runs: values.iter().map(run).collect(),
        };
        let lines = lines(&[
            row(0, &[4.0, 2.0, 3.0]),
            row(0, &[9.0, 6.0, 1.0]),
            row(0, &[]),
        ]);
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (lines[1].cpu_us, lines[1].ratio, lines[1].spread),
            (6.0, 2.0, (1.0, 9.0))
        );
        assert_eq!((lines[1].failed, lines[1].p99_us), (3, None));
        assert_eq!((median(&[]), median(&[1.0, 2.0])), (0.0, 1.0));
    }
}
