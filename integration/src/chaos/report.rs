//! What chaos found: as JSON for a program, as text for a person at night.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::cell::Cell;
use super::evacuation::Evacuation;
use super::fault::Boundary;
use super::measure::Measurement;
use super::rolling::Rolling;
use crate::clock::MS;
use crate::demo::Versions;

/// Milliseconds from one time to another, to a hundredth.
pub(super) fn since_ms(from_ns: i64, to_ns: i64) -> f64 {
    ((to_ns - from_ns) as f64 / MS as f64 * 100.0).round() / 100.0
}

/// What chaos found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether everything is as it should be.
    pub ok: bool,
    /// What is not.
    pub failures: Vec<String>,
    /// Every process, killed at every boundary, and what else was done.
    pub cells: Vec<Cell>,
    /// A rolling update in the middle of many migrations.
    pub rolling_update: Option<Rolling>,
    /// Many that leave one chassis at once.
    pub evacuation: Option<Evacuation>,
    /// How long what takes.
    pub measurements: BTreeMap<&'static str, Measurement>,
    /// What the lab ran on.
    pub versions: Versions,
    /// Probes a second from each of the three peers.
    pub rate: u32,
}

impl Report {
    pub(super) fn new(versions: Versions, rate: u32) -> Self {
        let (failures, cells, measurements) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self {
            ok: false,
            failures,
            cells,
            rolling_update: None,
            evacuation: None,
            measurements,
            versions,
            rate,
        }
    }

    /// Adds what went wrong in the parts.
    pub(super) fn judge(&mut self) {
        let of_cell = |cell: &Cell| {
            let Cell { killed, at, .. } = cell;
            cell.failures.iter().map(|failure| format!("{killed}, {at}: {failure}")).collect::<Vec<_>>()
        };
        self.failures.extend(self.cells.iter().flat_map(of_cell));
        let rolling = self.rolling_update.iter().flat_map(|rolling| &rolling.failures);
        self.failures.extend(rolling.map(|failure| format!("rolling update: {failure}")));
        let evacuation = self.evacuation.iter().flat_map(|evacuation| &evacuation.failures);
        self.failures.extend(evacuation.map(|failure| format!("evacuation: {failure}")));
        self.ok = self.failures.is_empty();
    }

    /// Writes `report.json` and `report.txt`.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("write the report as JSON")?;
        fs::write(dir.join("report.json"), json + "\n").context("write report.json")?;
        fs::write(dir.join("report.txt"), self.to_string()).context("write report.txt")
    }

    /// A row for each process that was killed, a column for each boundary.
    fn matrix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<&str> = Vec::new();
        for cell in &self.cells {
            if !rows.contains(&cell.killed.as_str()) {
                rows.push(&cell.killed);
            }
        }
        write!(f, "{:<36}", "killed")?;
        for at in Boundary::ALL {
            write!(f, "{:>11}", at.to_string())?;
        }
        writeln!(f)?;
        for row in rows {
            write!(f, "{row:<36}")?;
            for at in Boundary::ALL.map(|at| at.to_string()) {
                let cells: Vec<_> = self.cells.iter().filter(|c| c.killed == row && c.at == at).collect();
                write!(f, "{:>11}", in_short(&cells))?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\nok: completed, nothing left behind, not one packet lost while every switch had its flows.\n\
             +N: N packets lost (there or back) while a switch was down or without OVN's flows: ovn-controller\n\
             deletes every flow of its bridge when it starts, Limosa's too, and ovs-vswitchd is the data plane."
        )
    }

    /// What the data plane lost, and when it was what.
    fn losses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lossy =
            || self.cells.iter().filter(|cell| cell.lost_by_data_plane + cell.lost_until_reinstalled > 0);
        if lossy().next().is_some() {
            writeln!(
                f,
                "\nPackets that the data plane lost, and those lost until Limosa's flows were back\n(times are since the guest's pause):"
            )?;
        }
        for Cell { killed, at, lost_by_data_plane, lost_until_reinstalled, outages, .. } in lossy() {
            let why = if outages.is_empty() {
                "a port or a tunnel was gone".to_owned()
            } else {
                outages.join("; ")
            };
            writeln!(f, "{lost_by_data_plane:>6}{lost_until_reinstalled:>6}  {killed}, {at}: {why}")?;
        }
        Ok(())
    }

    fn numbers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.measurements.is_empty() {
            writeln!(f, "\n{:<44}{:>6}{:>10}{:>10}{:>10}", "milliseconds", "times", "p50", "p99", "longest")?;
        }
        for (name, measured) in &self.measurements {
            let Measurement { count, p50, p99, max, .. } = measured;
            writeln!(f, "{name:<44}{count:>6}{p50:>10.2}{p99:>10.2}{max:>10.2}")?;
        }
        for (name, measured) in &self.measurements {
            writeln!(f, "  {name}: {}", measured.what)?;
        }
        Ok(())
    }
}

/// The cells of one place in the matrix.
fn in_short(cells: &[&Cell]) -> String {
    let Some(worst) = cells.iter().find(|cell| !cell.ok()).or_else(|| cells.first()) else {
        return "-".to_owned();
    };
    let by_data_plane: u64 =
        cells.iter().map(|cell| cell.lost_by_data_plane + cell.lost_until_reinstalled).sum();
    match (worst.ok(), by_data_plane) {
        (false, _) => "FAILED".to_owned(),
        (true, 0) => "ok".to_owned(),
        (true, lost) => format!("ok +{lost}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.matrix(f)?;
        self.numbers(f)?;
        if let Some(rolling) = &self.rolling_update {
            writeln!(f, "\n{}", rolling.in_words())?;
        }
        if let Some(evacuation) = &self.evacuation {
            writeln!(f, "\n{}", evacuation.in_words())?;
        }
        self.losses(f)?;
        let noted: Vec<_> = self.cells.iter().filter(|cell| !cell.notes.is_empty()).collect();
        if !noted.is_empty() {
            writeln!(f)?;
        }
        for cell in noted {
            writeln!(f, "{}, {}: {}", cell.killed, cell.at, cell.notes.join("; "))?;
        }
        let Versions { ovs, ovn, qemu } = &self.versions;
        let (cells, sent) = (self.cells.len(), self.rate);
        writeln!(f, "\n{cells} migrations, three peers with {sent} packets a second each")?;
        writeln!(f, "Open vSwitch {ovs}, OVN {ovn}, QEMU {qemu}\n")?;
        if self.ok {
            return writeln!(f, "Everything is as it should be.");
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        Ok(())
    }
}
