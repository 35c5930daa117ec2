//! How verbs print what they found.

use std::io::{self, Write};

use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// For programs
    Json,
    /// For programs, and people who prefer it
    Yaml,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct OutputArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// The same as --output=json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl OutputArgs {
    /// Prints a value, in the words of `text` for people.
    pub(super) fn print(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        print(&match self.output {
            Output::Text if !self.json => text(),
            Output::Yaml if !self.json => format!("---\n{}", serde_saphyr::to_string(value)?),
            _ => serde_json::to_string_pretty(value)? + "\n",
        })
    }

    pub(super) const fn is_text(&self) -> bool {
        matches!(self.output, Output::Text) && !self.json
    }
}

/// Prints to standard output; a reader that has seen enough is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

/// Columns of text, each as wide as it has to be.
pub(super) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
