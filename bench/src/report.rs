//! What a benchmark found, as rows of a table: printed, and written as JSON.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// One result, beside what it is compared with in the same run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// How much it was, in `unit`.
    pub(crate) value: f64,
    /// `ns`, `ms`, `flows/s`, `bytes`…
    pub(crate) unit: &'static str,
    /// What the ratio refers to; `None` for a row that stands for itself.
    pub(crate) compared_with: Option<String>,
    /// `value` divided by the value of what it is compared with.
    pub(crate) ratio: Option<f64>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, compared_with: None, ratio: None }
    }

    /// With the ratio to another row's value.
    #[must_use]
    pub(crate) fn beside(self, other: &Self) -> Self {
        debug_assert_eq!(self.unit, other.unit, "{} beside {}", self.name, other.name);
        let ratio = (other.value > 0.0).then(|| self.value / other.value);
        Self { compared_with: Some(other.name.clone()), ratio, ..self }
    }
}

/// Prints the rows and writes them to a file.
pub(crate) fn publish(rows: &[Row], path: &Path) -> anyhow::Result<()> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in rows {
        let beside = match (&row.compared_with, row.ratio) {
            (Some(other), Some(ratio)) => format!("  {ratio:>6.2} x {other}"),
            _ => String::new(),
        };
        println!("{:<width$}  {:>14.1} {:<8}{beside}", row.name, row.value, row.unit);
    }
    let parent = path.parent().context("the report has no directory")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let json = serde_json::to_string_pretty(rows)?;
    std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}
