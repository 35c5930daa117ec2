//! Chaos: one migration after the other under constant probing, and in each
//! one thing is killed at one boundary. However that goes, the migration has
//! to come to its end, with nothing left behind and no packet lost that the
//! data plane did not lose itself.

mod bridge;
mod cell;
pub mod evacuation;
mod fault;
mod fleet;
mod measure;
mod mover;
mod objects;
mod report;
mod rolling;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use bridge::Outage;
pub use cell::Cell;
pub use evacuation::Evacuation;
pub use fault::{Boundary, Fault, Role};
pub use measure::Measurement;
pub use report::Report;
pub use rolling::Rolling;

use crate::demo::{Limosa, Teller, Versions};
use crate::holder::run_first;
use stage::Stage;

/// How many labs may be used up before the rest is given up.
const LABS: usize = 8;

/// What the lab is asked besides the matrix.
const BESIDES: [(Fault, Boundary); 11] = [
    (Fault::OvnControllerFrozen(Role::Target), Boundary::AtResume),
    (Fault::OvnController(Role::Bystander), Boundary::Activated),
    (Fault::BridgeRecreated(Role::Source), Boundary::Armed),
    (Fault::BridgeRecreated(Role::Target), Boundary::Armed),
    (Fault::BridgeRecreated(Role::Bystander), Boundary::Armed),
    (Fault::BridgeRecreated(Role::Bystander), Boundary::Activated),
    (Fault::Replugged(Role::Source), Boundary::Armed),
    (Fault::Replugged(Role::Target), Boundary::Armed),
    (Fault::Replugged(Role::Target), Boundary::Activated),
    (Fault::TunnelRecreated(Role::Source), Boundary::Armed),
    (Fault::TunnelRecreated(Role::Target), Boundary::Activated),
];

/// Each process once and each boundary once, for a test that has to be quick.
const QUICK: [(Fault, Boundary); 10] = [
    (Fault::Agent(Role::Target), Boundary::AtResume),
    (Fault::Agent(Role::Source), Boundary::Armed),
    (Fault::Agent(Role::Bystander), Boundary::Switched),
    (Fault::Controller, Boundary::Activated),
    (Fault::StoreGone, Boundary::Cleaned),
    (Fault::OvnControllerFrozen(Role::Target), Boundary::AtResume),
    (Fault::OvnController(Role::Source), Boundary::Bound),
    (Fault::OvnController(Role::Target), Boundary::Released),
    (Fault::Vswitchd(Role::Target), Boundary::BeforeArm),
    (Fault::BridgeRecreated(Role::Target), Boundary::Armed),
];

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the report goes, and what is kept of what failed.
    pub out: PathBuf,
    /// Only this fault.
    pub killed: Option<Fault>,
    /// Only this boundary.
    pub at: Option<Boundary>,
    /// Each process once and each boundary once, and no measurements.
    pub quick: bool,
    /// Nothing but how soon wiped flows are back.
    pub wipes: bool,
    /// Probes a second from each peer.
    pub rate: u32,
}

impl Options {
    /// The cells, in the order in which they are tried.
    fn plan(&self) -> Vec<(Fault, Boundary)> {
        if self.quick {
            return QUICK.to_vec();
        }
        if self.wipes {
            return Vec::new();
        }
        let killed = self.killed.map_or_else(|| Fault::KILLED.to_vec(), |fault| vec![fault]);
        let matrix = killed.into_iter().flat_map(|fault| Boundary::ALL.map(|at| (fault, at)));
        let besides = BESIDES.into_iter().filter(|_| self.killed.is_none());
        matrix.chain(besides).filter(|(_, at)| self.at.is_none_or(|wanted| wanted == *at)).collect()
    }

    fn measures(&self) -> bool {
        !self.quick && !self.wipes && self.killed.is_none() && self.at.is_none()
    }
}

/// Tries everything, writes the report, and returns it.
///
/// # Errors
///
/// When no lab comes up or the report cannot be written. What goes wrong in a
/// migration is in the report.
pub async fn run(options: &Options) -> Result<Report> {
    Limosa::binary()?;
    // Faults have to strike at the boundary, and what the switches tell has to
    // be read when they tell it.
    run_first();
    let teller = Teller::new();
    // What an earlier run kept would be taken for this one's.
    let _ = fs::remove_dir_all(&options.out);
    fs::create_dir_all(&options.out).with_context(|| format!("create {}", options.out.display()))?;
    let mut run = Run { options, teller, stage: None, labs: 0 };
    let stage = run.stage().await?;
    let mut report = Report::new(Versions::of(&stage.lab).await?, options.rate);
    if options.wipes {
        run.stage = None;
        report.measurements.extend(measure::wipes().await?);
    }
    for (fault, at) in options.plan() {
        report.cells.push(run.cell(fault, at).await?);
    }
    if options.measures()
        && let Err(error) = run.measure(&mut report).await
    {
        report.failures.push(format!("the measurements: {error:#}"));
    }
    report.judge();
    report.write(&options.out)?;
    print!("\n{report}");
    println!("\n{}", options.out.join("report.json").display());
    Ok(report)
}

struct Run<'a> {
    options: &'a Options,
    teller: Teller,
    stage: Option<Stage>,
    labs: usize,
}

impl Run<'_> {
    /// The lab, with its guest; a new one if the last was used up.
    async fn stage(&mut self) -> Result<&mut Stage> {
        if self.stage.is_none() {
            self.labs += 1;
            anyhow::ensure!(self.labs <= LABS, "{LABS} labs are used up: the rest was not tried");
            self.teller.tell("starting an OVN cluster: 3 chassis, Limosa, and a guest");
            let mut stage = Stage::start().await?;
            stage.boot().await?;
            self.stage = Some(stage);
        }
        self.stage.as_mut().context("no lab")
    }

    async fn cell(&mut self, fault: Fault, at: Boundary) -> Result<Cell> {
        let (rate, out) = (self.options.rate, self.options.out.clone());
        let stage = match self.stage().await {
            Ok(stage) => stage,
            Err(error) => {
                let (killed, at) = (fault.to_string(), at.to_string());
                return Ok(Cell { killed, at, failures: vec![format!("{error:#}")], ..Cell::default() });
            }
        };
        let cell = cell::run(stage, fault, at, rate).await;
        if !cell.ok() {
            keep(stage, &cell, &out.join(format!("{}-{}", fault.slug(), at.slug()))).await?;
        }
        if !cell.is_clean() || stage.guest.is_none() {
            self.stage = None;
        }
        self.tell(&cell);
        Ok(cell)
    }

    fn tell(&self, cell: &Cell) {
        let Cell { killed, at, from, to, lost, lost_by_data_plane, activation_ms, took_s, .. } = cell;
        let verdict = if cell.ok() { "ok" } else { "FAILED" };
        let activation = activation_ms.map_or_else(|| "never".to_owned(), |ms| format!("after {ms:.1} ms"));
        self.teller.tell(format!(
            "{verdict:<6} {killed:<35} {at:<10} {from} to {to}: reachable {activation}, {lost} lost, {lost_by_data_plane} with the data plane, {took_s:.0} s"
        ));
        for failure in &cell.failures {
            println!("           {failure}");
        }
    }

    async fn measure(&mut self, report: &mut Report) -> Result<()> {
        self.teller.tell(
            "measuring activations: healthy, without the target's agent, with its ovn-controller frozen",
        );
        for _ in 0..measure::ROUNDS {
            for fault in measure::ACTIVATIONS {
                report.cells.push(self.cell(fault, Boundary::AtResume).await?);
            }
        }
        measure::activations(report);
        // What follows needs no guest.
        self.stage = None;
        self.teller.tell("measuring how soon wiped flows are back, with 20,000 flows of OVN's");
        report.measurements.extend(measure::wipes().await?);
        self.teller.tell("updating Limosa node by node in the middle of 100 migrations");
        report.rolling_update = Some(rolling::run().await?);
        self.teller.tell("moving 100 guests at once to two other chassis");
        report.evacuation = Some(evacuation::run().await?);
        Ok(())
    }
}

/// Keeps what may tell why a cell failed.
async fn keep(stage: &Stage, cell: &Cell, to: &Path) -> Result<()> {
    stage.keep(to).await?;
    let text = serde_json::to_string_pretty(cell).context("write a cell")?;
    fs::write(to.join("cell.json"), text + "\n").context("keep a cell")?;
    let lines: Vec<String> =
        cell.timeline.iter().map(|(at, text)| format!("{at:>10.2} ms  {text}\n")).collect();
    fs::write(to.join("timeline.txt"), lines.concat()).context("keep a timeline")
}
