//! A timeline as a picture: a lane for everybody who took a step, time running
//! down, and an arrow to each step from the one that it waited for. Lines are
//! equally far apart; how long each took stands beside it.

use std::fmt::Write as _;

use limosa_protocol::Role;

use super::timeline::{Course, Entry, milliseconds, seconds};

const LEFT: usize = 120;
const LANE: usize = 150;
const RIGHT: usize = 580;
const TOP: usize = 76;
const ROW: usize = 26;

/// Legible on light ground and on dark.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:15px}.dim{fill:#6e7781}\
.time{text-anchor:end;font-variant-numeric:tabular-nums}.lane{stroke:#8c959f;stroke-dasharray:2 4}\
.wait{stroke:#8c959f;fill:none}.head{fill:#8c959f}.step{stroke:#fff;stroke-width:4px;paint-order:stroke}.c{fill:#8250df}.s{fill:#cf222e}.t{fill:#1a7f37}.b{fill:#0969da}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9198a1}.step{stroke:#0d1117}.c{fill:#ab7df8}.s{fill:#f47067}.t{fill:#57ab5a}\
.b{fill:#539bf5}}";

/// Draws a course.
pub(crate) fn svg(course: &Course) -> String {
    let width = LEFT + course.lanes.len() * LANE + RIGHT;
    let height = TOP + course.events.len() * ROW + 8;
    let title = escape(&course.title());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\"><title>{title}</title><style>{STYLE}</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 6 6\" refX=\"6\" refY=\"3\" markerWidth=\"6\" markerHeight=\"6\" \
         orient=\"auto\"><path class=\"head\" d=\"M0 0L6 3L0 6z\"/></marker></defs>\n\
         <text class=\"title\" x=\"12\" y=\"24\">{title}</text>\n"
    );
    for (lane, name) in course.lanes.iter().enumerate() {
        let x = x(lane);
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"52\" text-anchor=\"middle\">{}</text><path class=\"lane\" d=\"M{x} 62V{height}\"/>",
            escape(name)
        );
    }
    // What is written stands above the arrows.
    for (row, entry) in course.events.iter().enumerate() {
        arrow(&mut svg, course, row, entry);
    }
    for (row, entry) in course.events.iter().enumerate() {
        step(&mut svg, course, row, entry);
    }
    svg.push_str("</svg>\n");
    svg
}

/// From the event that a step waited for, if somebody else took it.
fn arrow(svg: &mut String, course: &Course, row: usize, entry: &Entry) {
    let Some((after, cause)) =
        entry.waited.as_ref().and_then(|w| Some((w.after, course.events.get(w.after)?)))
    else {
        return;
    };
    if cause.lane != entry.lane {
        let (from, to) = (x(cause.lane), x(entry.lane));
        let end = if from < to { to - 7 } else { to + 7 };
        let path = format!("M{from} {}L{end} {}", y(after), y(row));
        let _ = writeln!(svg, "<path class=\"wait\" marker-end=\"url(#head)\" d=\"{path}\"/>");
    }
}

/// One line: when, the dot in its lane, and what it waited for.
fn step(svg: &mut String, course: &Course, row: usize, entry: &Entry) {
    let (x, y) = (x(entry.lane), y(row));
    let text_y = y + 4;
    let at = seconds(entry.micros);
    let _ = writeln!(svg, "<text class=\"time\" x=\"{}\" y=\"{text_y}\">{at}</text>", LEFT - 14);
    if let Some(waited) = &entry.waited {
        let (took, what) = (milliseconds(waited.micros), escape(waited.what));
        let right = LEFT + course.lanes.len() * LANE;
        let _ = writeln!(svg, "<text class=\"dim\" x=\"{right}\" y=\"{text_y}\">{took} for {what}</text>");
    }
    let class = entry.role.map_or('c', |role| match role {
        Role::Source => 's',
        Role::Target => 't',
        Role::Bystander => 'b',
    });
    let _ = writeln!(
        svg,
        "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/><text class=\"step\" x=\"{}\" y=\"{text_y}\">{}</text>",
        x + 11,
        escape(&entry.step)
    );
}

const fn x(lane: usize) -> usize {
    LEFT + lane * LANE + LANE / 3
}

const fn y(row: usize) -> usize {
    TOP + row * ROW + ROW / 2
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
