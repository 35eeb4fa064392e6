//! The table as a picture: for each work a bar for each server, as long as its CPU time.

use std::fmt::Write as _;

use super::table::Line;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 130.0;
const BAR: f64 = 18.0;
const GAP: f64 = 14.0;

/// The picture. Bars of one work are in proportion to each other; works differ too much for one scale.
pub fn draw(lines: &[Line]) -> String {
    let mut bars = String::new();
    let mut y = GAP;
    for group in lines.chunk_by(|a, b| a.work == b.work) {
        let longest = group.iter().map(|line| line.cpu_us).fold(1e-9, f64::max);
        for (place, line) in group.iter().enumerate() {
            let length = (WIDTH - LEFT - RIGHT) * line.cpu_us / longest;
            let title = if place == 0 { line.work.as_str() } else { "" };
            let color = match line.who {
                who if who.starts_with("sipkeep") => "#1f7a5c",
                who if who.starts_with("bare") => "#9aa5b1",
                _ => "#c46a2b",
            };
            let middle = y + BAR * 0.72;
            // Writing to a string cannot fail.
            let _ = writeln!(
                bars,
                "<text x=\"8\" y=\"{middle:.1}\" font-weight=\"bold\">{}</text>\
                 <text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{middle:.1}\">{:.2} µs</text>",
                escaped(title),
                LEFT - 8.0,
                escaped(line.who),
                BAR - 3.0,
                LEFT + length + 6.0,
                line.cpu_us,
            );
            y += BAR;
        }
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>CPU microseconds each</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{bars}</svg>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
