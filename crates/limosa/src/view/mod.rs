//! What the verbs show: as data, which programs are given, and drawn for people.

pub(crate) mod audit;
pub(crate) mod flows_text;
pub(crate) mod timeline;
pub(crate) mod timeline_svg;

/// A number of things.
pub(crate) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
