//! Limosa's way and OVN's own, with the same probes, side by side.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;

use super::report::{Migration, Report};
use super::{Baseline, Options, run};
use crate::analysis::PeerAnalysis;

/// Both reports.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub limosa: Report,
    pub ovn: Report,
}

/// Runs the demo by Limosa and then by OVN's own means, each in a lab of its own.
/// Each has its report in a directory below, `limosa` and `ovn`; beside them are
/// `comparison.txt` and `comparison.json`.
///
/// # Errors
///
/// As [`run`].
pub async fn both(options: &Options) -> Result<Comparison> {
    let of =
        async |name: &str, ovn| run(&Options { out: options.out.join(name), ovn, ..options.clone() }).await;
    let comparison = Comparison { limosa: of("limosa", false).await?, ovn: of("ovn", true).await? };
    let json = serde_json::to_vec_pretty(&comparison).context("write the comparison")?;
    std::fs::write(options.out.join("comparison.json"), json).context("write comparison.json")?;
    std::fs::write(options.out.join("comparison.txt"), comparison.to_string())
        .context("write comparison.txt")?;
    print!("\n{comparison}");
    Ok(comparison)
}

impl Comparison {
    /// Whether Limosa kept what it promises, and OVN's own way came to its end.
    pub fn ok(&self) -> bool {
        self.limosa.ok && self.ovn.ok
    }
}

/// A line of the table: what is compared, and how a report says it.
type Line = (&'static str, fn(&Report) -> String);

const LINES: [Line; 9] = [
    ("migrations", |report| report.migrations.len().to_string()),
    ("guest's pause", |report| span(report.migrations.iter().map(|m| m.guest_pause_ms), "ms")),
    ("announcement to first packet", |report| {
        span(report.migrations.iter().filter_map(|m| m.activation_ms), "ms")
    }),
    ("packets sent", |report| sum(report, |peer| peer.sent).to_string()),
    ("lost before the pause", |report| with_migrations(report, |peer| peer.lost_before_pause)),
    ("lost until reachable again", |report| sum(report, |peer| peer.lost_in_pause).to_string()),
    ("lost after that", |report| with_migrations(report, |peer| peer.lost_after_activation)),
    ("came twice, of each peer's", |report| {
        let each =
            |migration: &Migration| migration.peers.values().map(|p| p.duplicates as f64).collect::<Vec<_>>();
        let counts: Vec<f64> = report.migrations.iter().flat_map(each).collect();
        let most = counts.iter().copied().fold(0.0, f64::max) / f64::from(report.rate) * 1000.0;
        format!("{} ({most:.0} ms' worth at most)", span(counts.into_iter(), ""))
    }),
    ("unanswered by the guest", |report| with_migrations(report, |peer| peer.unanswered)),
];

fn sum(report: &Report, of: fn(&PeerAnalysis) -> u64) -> u64 {
    report.migrations.iter().map(|migration| migration.sum(of)).sum()
}

fn with_migrations(report: &Report, of: fn(&PeerAnalysis) -> u64) -> String {
    match report.migrations.iter().filter(|migration| migration.sum(of) > 0).count() {
        0 => "0".to_owned(),
        some => format!("{} in {some} of the migrations", sum(report, of)),
    }
}

/// The least and the most.
fn span(values: impl Iterator<Item = f64>, unit: &str) -> String {
    let ends = values.fold(None, |ends: Option<(f64, f64)>, value| {
        Some(ends.map_or((value, value), |(least, most)| (least.min(value), most.max(value))))
    });
    let decimals = usize::from(!unit.is_empty());
    let text = |(least, most): (f64, f64)| format!("{least:.decimals$} to {most:.decimals$} {unit}");
    ends.map_or_else(|| "-".to_owned(), text).trim_end().to_owned()
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |what: &str, of: &dyn Fn(&Report) -> String| {
            writeln!(f, "{what:<30} {:<36} {}", of(&self.limosa), of(&self.ovn))
        };
        row("", &|report| if report.way == "ovn" { "OVN's own way" } else { "Limosa" }.to_owned())?;
        for (what, of) in LINES {
            row(what, &of)?;
        }
        let alone = |report: &Report| {
            let lost = |baseline: &Baseline| format!("{} of {} lost", baseline.lost, baseline.sent);
            let same = report.baseline.iter().find(|baseline| baseline.rate == report.rate);
            same.map_or_else(|| "-".to_owned(), lost)
        };
        row("the same without migrating", &alone)?;
        row("carried without any loss", &|report| {
            let clean = report.baseline.iter().rfind(|baseline| baseline.lost == 0);
            clean.map_or_else(|| "nothing".to_owned(), |clean| format!("{}/s from each peer", clean.rate))
        })?;
        let Report { rate, asks_every, .. } = &self.limosa;
        writeln!(
            f,
            "\n{rate} packets/s from each of three peers, counted at the guest's interface; the guest answers one of {asks_every}"
        )
    }
}
