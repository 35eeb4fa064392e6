//! The table as a picture: for each work a bar for each server, as long as what it takes, with a mark where it should end.

use std::fmt::Write as _;

const WIDTH: f64 = 980.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 260.0;
const BAR: f64 = 18.0;
const GAP: f64 = 14.0;

/// One bar.
pub struct Bar {
    /// What is done; those of one work stand together.
    pub work: String,
    /// By whom.
    pub who: &'static str,
    /// How long it is.
    pub value: f64,
    /// What stands behind it.
    pub text: String,
    /// Where it should end at most.
    pub aim: Option<f64>,
}

/// The picture. Bars of one work are in proportion to each other; works differ too much for one scale.
pub fn draw(bars: &[Bar]) -> String {
    let mut drawn = String::new();
    let mut y = GAP;
    for group in bars.chunk_by(|a, b| a.work == b.work) {
        let longest = group
            .iter()
            .map(|bar| bar.value.max(bar.aim.unwrap_or(0.0)));
        let longest = longest.fold(1e-9, f64::max);
        let length = |value: f64| (WIDTH - LEFT - RIGHT) * value / longest;
        for (place, bar) in group.iter().enumerate() {
            let title = if place == 0 { bar.work.as_str() } else { "" };
            let color = match bar.who {
                who if who.starts_with("sipkeep") => "#1f7a5c",
                who if who.starts_with("bare") => "#9aa5b1",
                _ => "#c46a2b",
            };
            let middle = y + BAR * 0.72;
            // Writing to a string cannot fail.
            let _ = writeln!(
                drawn,
                "<text x=\"8\" y=\"{middle:.1}\" font-weight=\"bold\">{}</text>\
                 <text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
                escaped(title),
                LEFT - 8.0,
                escaped(bar.who),
                length(bar.value),
                BAR - 3.0,
                LEFT + length(bar.value.max(bar.aim.unwrap_or(0.0))) + 6.0,
                escaped(&bar.text),
            );
            if let Some(aim) = bar.aim {
                let _ = writeln!(
                    drawn,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"2\" height=\"{:.1}\" fill=\"#111111\"/>",
                    LEFT + length(aim),
                    y - 1.0,
                    BAR - 1.0,
                );
            }
            y += BAR;
        }
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>What each message, call or registration takes; a mark: the aim</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{drawn}</svg>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_of_one_work_are_in_proportion() {
        let bar = |work: &str, value, aim| Bar {
            work: work.to_owned(),
            who: "sipkeep",
            value,
            text: "1 < 2".to_owned(),
            aim,
        };
        let picture = draw(&[
            bar("a", 50.0, Some(100.0)),
            bar("a", 100.0, None),
            bar("b", 1.0, None),
        ]);
        let all = WIDTH - LEFT - RIGHT;
        let width = |value: f64| format!("width=\"{value:.1}\"");
        assert_eq!(picture.matches(&width(all / 2.0)).count(), 1);
        assert_eq!(picture.matches(&width(all)).count(), 2);
        assert_eq!(picture.matches("width=\"2\"").count(), 1);
        assert_eq!(picture.matches("1 &lt; 2").count(), 3);
    }
}
