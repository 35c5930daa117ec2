//! A chassis that all its guests leave at once, for two others.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Serialize;

use super::bridge::Log;
use super::fleet::{self, DEADLINE, all, announce, ask, plug, port, unplug};
use super::objects::has_ended;
use super::stage::Stage;
use crate::demo::{Limosa, flows_of_ours};
use crate::lab::Lab;

/// How many guests leave: a half to each of the two others.
const MIGRATIONS: usize = 100;

/// How often the northbound options of one port change, counting what every
/// chassis is asked anew: pinned, bound (twice), released (three times), restored.
const CHANGES: i64 = 7;

/// What became of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Evacuation {
    /// How many guests left.
    pub migrations: usize,
    /// How many of them arrived.
    pub completed: usize,
    /// How often every chassis was asked whether it has followed
    /// (`NB_Global.nb_cfg`).
    pub barriers: i64,
    /// How often it would have been, each migration by itself.
    pub barriers_alone: i64,
    /// From the first announcement until the last was released, seconds.
    pub handed_over_s: f64,
    /// What is not as it should be.
    pub failures: Vec<String>,
}

impl Evacuation {
    pub(super) fn in_words(&self) -> String {
        let Self { migrations, completed, barriers, barriers_alone, handed_over_s, .. } = self;
        format!(
            "evacuation: {completed} of {migrations} guests left at once, handed over in {handed_over_s:.1} s; \
             all chassis were asked {barriers} times whether they have followed ({barriers_alone} by ones)"
        )
    }
}

/// Runs it on a lab of its own.
///
/// # Errors
///
/// When no lab comes up. What goes wrong in it is in the report.
pub async fn run() -> Result<Evacuation> {
    let mut stage = Stage::start().await?;
    let mut evacuation = Evacuation { migrations: MIGRATIONS, ..Evacuation::default() };
    if let Err(error) = evacuate(&mut stage, &mut evacuation).await {
        evacuation.failures.push(format!("{error:#}"));
    }
    Ok(evacuation)
}

async fn evacuate(stage: &mut Stage, evacuation: &mut Evacuation) -> Result<()> {
    let Stage { lab, limosa, objects, bridges, foreign, .. } = stage;
    let halves = [("ch2", 0..MIGRATIONS / 2), ("ch3", MIGRATIONS / 2..MIGRATIONS)];
    fleet::start(lab, "ch1", 0..MIGRATIONS).await?;
    let before = nb_cfg(lab).await?;
    // Nobody is served before all have asked.
    pause(limosa, Signal::STOP)?;
    for (to, ports) in &halves {
        ask(lab, limosa, ports.clone(), "ch1", to).await?;
    }
    pause(limosa, Signal::CONT)?;
    all(objects, "Arming", 0..MIGRATIONS).await?;
    for (to, ports) in &halves {
        plug(lab, to, ports.clone()).await?;
    }
    all(objects, "Armed", 0..MIGRATIONS).await?;
    let began = Instant::now();
    for (to, ports) in &halves {
        announce(lab, to, ports.clone()).await?;
    }
    all(objects, "Released", 0..MIGRATIONS).await?;
    evacuation.handed_over_s = began.elapsed().as_secs_f64();
    unplug(lab, "ch1", 0..MIGRATIONS).await?;
    all(objects, "Completed", 0..MIGRATIONS).await?;
    evacuation.completed = (0..MIGRATIONS).filter_map(|n| objects.get(&port(n))).filter(has_ended).count();
    evacuation.barriers = nb_cfg(lab).await? - before;
    evacuation.barriers_alone = CHANGES * MIGRATIONS as i64;
    for bridge in bridges.iter() {
        bridge.until("rid of our flows", DEADLINE, |log: &Log| log.ours().next().is_none()).await?;
        let flows = lab.dump_flows(&bridge.chassis).await?;
        let left = flows_of_ours(&flows);
        evacuation.failures.extend(left.iter().map(|flow| format!("left on {}: {flow}", bridge.chassis)));
    }
    for (to, ports) in halves {
        for n in ports {
            let bound = lab.bound_to(&port(n)).await?;
            ensure!(bound.as_deref() == Some(to), "{} is bound to {bound:?}, not to {to}", port(n));
        }
    }
    let options =
        lab.nbctl(&["--bare", "--columns=options,external_ids", "list", "Logical_Switch_Port"]).await?;
    ensure!(options.trim().is_empty(), "options are left behind: {}", options.trim());
    evacuation.failures.extend(foreign.check(lab).await?);
    evacuation.failures.extend(limosa.ended());
    Ok(())
}

fn pause(limosa: &Limosa, signal: Signal) -> Result<()> {
    limosa.controller().context("there is no controller")?.kill(signal)
}

async fn nb_cfg(lab: &Lab) -> Result<i64> {
    let text = lab.nbctl(&["get", "NB_Global", ".", "nb_cfg"]).await?;
    text.trim().parse().with_context(|| format!("an nb_cfg of {text:?}"))
}
