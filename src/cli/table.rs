//! Tables for people: aligned columns, short times, and nothing that a stranger sent can move the cursor.

use serde_json::Value;
use sipkeep::api::Rfc3339;

/// Characters of one cell on a terminal; what is longer is cut. To a pipe everything goes.
const CELL_MAX: usize = 44;

/// How a field is shown.
#[derive(Clone, Copy, PartialEq)]
pub enum Show {
    Text,
    /// A number, to the right.
    Number,
    /// A time as its distance from now: `3m ago`, `in 57m`.
    Distance,
    /// A time as date and time of day.
    Time,
    /// Milliseconds as `1:05`.
    Talk,
    /// A list of texts.
    List,
}

pub struct Column {
    pub title: &'static str,
    pub field: &'static str,
    pub show: Show,
}

pub const fn column(title: &'static str, field: &'static str, show: Show) -> Column {
    Column { title, field, show }
}

/// The items as a table with a title line. `now` in milliseconds since 1970.
pub fn table(columns: &[Column], items: &[Value], now: u64, terminal: bool) -> String {
    let title = columns
        .iter()
        .map(|column| column.title.to_owned())
        .collect();
    let mut rows: Vec<Vec<String>> = vec![title];
    for item in items {
        let cells = columns.iter().map(|column| {
            let text = cell(
                item.get(column.field).unwrap_or(&Value::Null),
                column.show,
                now,
            );
            if terminal { cut(text) } else { text }
        });
        rows.push(cells.collect());
    }
    let right = |column: &Column| matches!(column.show, Show::Number | Show::Talk);
    align(&rows, &columns.iter().map(right).collect::<Vec<_>>())
}

/// Rows of cells as aligned lines; `right` says which columns go to the right.
pub fn align(rows: &[Vec<String>], right: &[bool]) -> String {
    let width = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..right.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(right) {
            let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if *right {
                (blanks, String::new())
            } else {
                (String::new(), blanks)
            };
            line = line + &before + cell + &after + "  ";
        }
        text = text + line.trim_end() + "\n";
    }
    text
}

fn cell(value: &Value, show: Show, now: u64) -> String {
    match (value, show) {
        (Value::Null, _) => "-".into(),
        (Value::String(text), Show::Distance) => {
            let time = text.parse::<Rfc3339>();
            time.map_or_else(
                |_| printable(text),
                |time| distance(time.0.as_millis(), now),
            )
        }
        (Value::String(text), Show::Time) => match text.parse::<Rfc3339>() {
            // 2026-03-01T12:00:00.000Z: the date, a blank, the time without its fraction.
            Ok(time) => time.to_string()[..19].replace('T', " "),
            Err(_) => printable(text),
        },
        (Value::Number(number), Show::Talk) => {
            let seconds = number.as_u64().unwrap_or(0) / 1_000;
            let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            if hours == 0 {
                format!("{minutes}:{seconds:02}")
            } else {
                format!("{hours}:{minutes:02}:{seconds:02}")
            }
        }
        (Value::Array(items), _) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| cell(item, Show::Text, now))
                .collect();
            if items.is_empty() {
                "-".into()
            } else {
                items.join(",")
            }
        }
        (Value::String(text), _) => printable(text),
        (other, _) => printable(&other.to_string()),
    }
}

/// What a terminal may be given: no control characters, and none that turn the direction of writing.
pub fn printable(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = text.chars().map(|c| {
        if c.is_control() || turns(c) {
            '\u{fffd}'
        } else {
            c
        }
    });
    shown.collect()
}

fn cut(text: String) -> String {
    if text.chars().count() <= CELL_MAX {
        return text;
    }
    text.chars().take(CELL_MAX - 1).chain(['…']).collect()
}

/// `3m ago`, `in 57m`, `now`.
fn distance(time: u64, now: u64) -> String {
    let seconds = time.abs_diff(now) / 1_000;
    let text = span(seconds);
    match (seconds, time > now) {
        (0, _) => "now".into(),
        (_, true) => format!("in {text}"),
        (_, false) => format!("{text} ago"),
    }
}

/// Seconds in their two largest units: `45s`, `3m`, `2h 5m`, `3d 4h`.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: String, small: u64, unit: &str| match small {
        0 => large,
        _ => format!("{large} {small}{unit}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m"),
        3_600..86_400 => two(format!("{hours}h"), minutes % 60, "m"),
        _ => two(format!("{days}d"), hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_772_366_400_000; // 2026-03-01T12:00:00Z

    #[test]
    fn columns_are_aligned() {
        let columns = [
            column("source", "source", Show::Text),
            column("failures", "failures", Show::Number),
            column("users", "users", Show::List),
            column("since", "since", Show::Distance),
            column("until", "until", Show::Distance),
        ];
        let items = [
            json!({"source": "203.0.113.7", "failures": 5, "users": ["100", "ad\u{1b}[2Jmin"],
                "since": "2026-03-01T11:57:00.000Z", "until": "2026-03-01T15:57:01.000Z"}),
            json!({"source": "2001:db8::/64", "failures": 123_456, "users": [],
                "since": "2026-02-25T12:00:00.000Z", "until": null}),
        ];
        let expected = "\
source         failures  users          since   until
203.0.113.7           5  100,ad\u{fffd}[2Jmin  3m ago  in 3h 57m
2001:db8::/64    123456  -              4d ago  -
";
        assert_eq!(table(&columns, &items, NOW, true), expected);
    }

    #[test]
    fn cells_are_cut_on_a_terminal_only() {
        let columns = [column("agent", "agent", Show::Text)];
        let items = [json!({"agent": "é".repeat(50)})];
        let wide = table(&columns, &items, NOW, false);
        assert_eq!(wide, format!("agent\n{}\n", "é".repeat(50)));
        let narrow = table(&columns, &items, NOW, true);
        assert_eq!(narrow, format!("agent\n{}…\n", "é".repeat(43)));
    }

    #[test]
    fn cells_are_short() {
        let of = |value: Value, show| cell(&value, show, NOW);
        assert_eq!(
            of(json!("2026-03-01T09:05:07.123Z"), Show::Time),
            "2026-03-01 09:05:07"
        );
        assert_eq!(of(json!("soon"), Show::Time), "soon");
        assert_eq!(of(json!(65_999), Show::Talk), "1:05");
        assert_eq!(of(json!(3_600_000 + 61_000), Show::Talk), "1:01:01");
        assert_eq!(of(json!(null), Show::Talk), "-");
        assert_eq!(of(json!(true), Show::Text), "true");
        assert_eq!(of(json!("2026-03-01T12:00:00.400Z"), Show::Distance), "now");
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (7_500, "2h 5m"),
            (86_400, "1d"),
            (3 * 86_400 + 4 * 3_600 + 59, "3d 4h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
