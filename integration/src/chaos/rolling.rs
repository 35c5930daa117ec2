//! A rolling update of Limosa, node by node, in the middle of many migrations.

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

/// How many migrations are under way; one more shows that the agents work.
const MIGRATIONS: usize = 100;

/// What became of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rolling {
    /// How many migrations were under way.
    pub migrations: usize,
    /// How many of them completed.
    pub completed: usize,
    /// How often an agent or the controller was ended and started.
    pub restarts: usize,
    /// Flows of Limosa's that stood while everything was armed.
    pub flows: usize,
    /// Changes of them that the switches reported during the first update.
    pub changes: usize,
    /// How often a flow that stood was written again during the second one,
    /// while the guests announced themselves.
    pub flows_rewritten: usize,
    /// What is not as it should be.
    pub failures: Vec<String>,
    /// Seconds.
    pub took_s: f64,
}

impl Rolling {
    pub(super) fn in_words(&self) -> String {
        let Self { migrations, completed, restarts, flows, changes, flows_rewritten, took_s, .. } = self;
        format!(
            "rolling update: {restarts} restarts in the middle of {migrations} migrations, {completed} completed ({took_s:.0} s); \
             {flows} flows stood while all were armed and were adopted with {changes} changes; {flows_rewritten} were rewritten later"
        )
    }
}

/// Runs it on a lab of its own.
pub(super) async fn run() -> Result<Rolling> {
    let began = Instant::now();
    let mut stage = Stage::start().await?;
    let mut rolling = Rolling { migrations: MIGRATIONS, ..Rolling::default() };
    let done = update(&mut stage, &mut rolling).await;
    if let Err(error) = done {
        rolling.failures.push(format!("{error:#}"));
    }
    rolling.took_s = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    Ok(rolling)
}

async fn update(stage: &mut Stage, rolling: &mut Rolling) -> Result<()> {
    let Stage { lab, limosa, objects, bridges, foreign, .. } = stage;
    fleet::start(lab, "ch1", 0..=MIGRATIONS).await?;
    ask(lab, limosa, 0..MIGRATIONS, "ch1", "ch2").await?;
    all(objects, "Arming", 0..MIGRATIONS).await?;
    plug(lab, "ch2", 0..=MIGRATIONS).await?;
    all(objects, "Armed", 0..MIGRATIONS).await?;
    let guards = |count: usize| move |log: &Log| log.ours().count() >= count;
    for bridge in bridges.iter() {
        bridge.until("guarded", DEADLINE, guards(MIGRATIONS)).await?;
        bridge.forget();
        rolling.flows += bridge.look(|log| log.ours().count());
    }

    // Nothing else happens: nothing may change.
    restart_all(lab, limosa, rolling).await?;
    ask(lab, limosa, MIGRATIONS..=MIGRATIONS, "ch1", "ch2").await?;
    all(objects, "Armed", MIGRATIONS..=MIGRATIONS).await?;
    let last = objects.get(&port(MIGRATIONS)).context("the last migration has gone")?;
    for bridge in bridges.iter() {
        let ours = |log: &Log| log.ours().any(|flow| last.number() == number_of(flow.cookie));
        bridge.until("guarded once more", DEADLINE, ours).await?;
        let changes = bridge.look(|log| log.changes.clone());
        let changed = changes.iter().filter(|c| number_of(c.flow.cookie) != last.number());
        let told: Vec<_> = changed.map(|c| format!("{}: {:?}{}", bridge.chassis, c.event, c.flow)).collect();
        rolling.changes += told.len();
        rolling.failures.extend(told.into_iter().take(3).map(|told| format!("not adopted: {told}")));
        bridge.forget();
    }

    // Once more, and meanwhile the guests announce themselves.
    let (announced, restarted) =
        tokio::join!(announce(lab, "ch2", 0..=MIGRATIONS), restart_all(lab, limosa, rolling));
    announced.and(restarted)?;
    all(objects, "Released", 0..=MIGRATIONS).await?;
    unplug(lab, "ch1", 0..=MIGRATIONS).await?;
    all(objects, "Completed", 0..=MIGRATIONS).await?;
    rolling.completed = (0..MIGRATIONS).filter_map(|n| objects.get(&port(n))).filter(has_ended).count();
    for bridge in bridges.iter() {
        let again: Vec<_> = bridge.look(|log| log.changes.iter().filter(|c| c.repeated).cloned().collect());
        rolling.flows_rewritten += again.len();
        let told = again.iter().take(3).map(|c| format!("rewritten on {}: {}", bridge.chassis, c.flow));
        rolling.failures.extend(told);
        let flows = lab.dump_flows(&bridge.chassis).await?;
        let left = flows_of_ours(&flows);
        rolling.failures.extend(left.iter().map(|flow| format!("left on {}: {flow}", bridge.chassis)));
    }
    let options = lab.nbctl(&["--bare", "--columns=options", "list", "Logical_Switch_Port"]).await?;
    ensure!(options.trim().is_empty(), "options are left behind: {}", options.trim());
    rolling.failures.extend(limosa.ended());
    rolling.failures.extend(foreign.check(lab).await?);
    Ok(())
}

/// The migration that a flow's cookie names.
fn number_of(cookie: u64) -> u64 {
    cookie >> 8 & 0x00ff_ffff
}

/// The controller, then one agent after the other: each is at work before the
/// next one is ended.
async fn restart_all(lab: &Lab, limosa: &mut Limosa, rolling: &mut Rolling) -> Result<()> {
    let end = async |process: Option<&crate::process::LabProcess>| -> Result<()> {
        let process = process.context("it was never started")?;
        process.kill(Signal::TERM)?;
        process.wait_exit(DEADLINE).await.map(drop)
    };
    end(limosa.controller()).await?;
    limosa.start_controller(lab).await?;
    rolling.restarts += 1;
    for chassis in lab.all_chassis() {
        end(limosa.agent(chassis.name())).await?;
        limosa.start_agent(lab, chassis.name()).await?;
        let agent = limosa.agent(chassis.name()).context("no agent")?;
        agent.wait_log("connected to the switch", DEADLINE).await?;
        rolling.restarts += 1;
    }
    Ok(())
}
