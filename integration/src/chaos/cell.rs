//! One cell of the matrix: one migration of the guest under probing, and one
//! fault that strikes at one boundary.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use ofpacket::FlowUpdateEvent;
use serde::Serialize;

use super::bridge::{Bridge, Change, Log};
use super::fault::{Boundary, Chassis, Fault, Injury, Role};
use super::mover::{Meeting, Move, STEP, Struck, inject};
use super::report::since_ms;
use super::stage::Stage;
use crate::analysis::{Analysis, Loss, Observed, Trace, analyse};
use crate::clock::ClockPair;
use crate::daemon::Daemon;
use crate::demo::{AFTERMATH, GUEST_MAC, PORT, Probing, Step, left_behind};
use crate::lab::Lab;
use crate::sniff::Sniffer;

/// Of how many lost packets the report tells the story.
const STORIES: usize = 12;

/// What became of one migration.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cell {
    /// What was killed.
    pub killed: String,
    /// At which boundary.
    pub at: String,
    /// The chassis that the guest left.
    pub from: String,
    /// The chassis that it went to.
    pub to: String,
    /// Whether the migration completed, the guest answers where it should and
    /// nothing is left behind.
    pub converged: bool,
    /// The phase it ended in, or stood still in.
    pub phase: String,
    /// The phase in which the fault struck.
    pub struck_in: String,
    /// For how long it lasted, milliseconds.
    pub away_ms: f64,
    /// Flows, options and processes that are not as they should be.
    pub left_behind: Vec<String>,
    /// Packets lost outside the guest's pause while every switch had its flows.
    pub lost: u64,
    /// Packets that the data plane lost: a switch was down, or without OVN's flows.
    pub lost_by_data_plane: u64,
    /// Packets lost after that, until Limosa's flows, which had been deleted with
    /// OVN's, were back.
    pub lost_until_reinstalled: u64,
    /// Packets sent while the guest stood still and until it was reachable again.
    pub lost_in_pause: u64,
    /// Answers beyond the first.
    pub duplicates: u64,
    /// From the guest's announcement to the first packet that it answered.
    pub activation_ms: Option<f64>,
    /// From the guest's pause to its resumption, milliseconds.
    pub pause_ms: Option<f64>,
    /// When each switch could not forward, milliseconds since the guest's pause.
    pub outages: Vec<String>,
    /// How often a flow of Limosa's that stood was written again.
    pub flows_rewritten: usize,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// What is not as it should be.
    pub failures: Vec<String>,
    /// Seconds.
    pub took_s: f64,
    /// When what happened, milliseconds since the guest's pause.
    #[serde(skip)]
    pub timeline: Vec<(f64, String)>,
}

impl Cell {
    /// Whether everything is as it should be.
    pub fn ok(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether the lab can be used for another one.
    pub(super) fn is_clean(&self) -> bool {
        self.converged && self.left_behind.is_empty()
    }
}

/// Moves the guest of a stage to another chassis while a fault strikes. The
/// guest stays on the stage only if it came through.
pub(super) async fn run(stage: &mut Stage, fault: Fault, at: Boundary, rate: u32) -> Cell {
    let began = Instant::now();
    let mut cell = Cell { killed: fault.to_string(), at: at.to_string(), ..Cell::default() };
    if let Err(error) = attempt(stage, fault, at, rate, &mut cell).await {
        cell.failures.push(format!("{error:#}"));
    }
    if let Some(object) = stage.objects.get(&stage.migration) {
        object.phase().clone_into(&mut cell.phase);
    }
    cell.took_s = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    cell
}

async fn attempt(stage: &mut Stage, fault: Fault, at: Boundary, rate: u32, cell: &mut Cell) -> Result<()> {
    let name = stage.next_name();
    let mut source = stage.guest.take().context("there is no guest")?;
    let chassis = stage.way(source.chassis());
    (cell.from, cell.to) = (chassis.from.clone(), chassis.to.clone());
    let to = chassis.to.clone();
    stage.bridges.iter().for_each(Bridge::forget);
    let options = stage.lab.port_options(PORT).await?;
    let Stage { lab, limosa, objects, bridges, foreign, .. } = stage;
    let before = Sniffer::start(lab, &chassis.from, source.tap()).await?;
    let probing = Probing::start(lab, rate).await?;
    limosa.ask(lab, &name, PORT, &chassis.from, &chassis.to).await?;

    let meeting = Meeting::new(at);
    let injury = Injury::prepare(fault, chassis.clone(), lab, limosa, objects)?;
    let mover = Move { lab, objects, name: &name, meeting: &meeting, fault };
    let moved = tokio::try_join!(mover.run(&mut source, &to), inject(injury, &name, &meeting));
    let (moved, struck) = match moved {
        Ok(done) => done,
        Err(error) => {
            cell.timeline = timeline(stage, &name, None, 0);
            return Err(error);
        }
    };
    cell.struck_in.clone_from(&struck.phase);
    cell.away_ms = since_ms(struck.from_ns, struck.to_ns);
    try_join_all(bridges.iter().map(|bridge| bridge.until("whole", STEP, Log::is_whole))).await?;

    // What comes late is to be seen as well.
    tokio::time::sleep(AFTERMATH).await;
    let peers = probing.finish().await?;
    let (before, after) = (before.finish().await?, moved.after.finish().await?);
    let pause_ns = moved.times.pause.monotonic_ns;
    let analysis =
        analyse(&Observed { pause_ns, guest_mac: GUEST_MAC, source: &before, target: &after, peers: &peers });
    cell.left_behind = left_behind(lab, PORT, &options).await?;
    cell.left_behind.extend(limosa.ended());
    cell.failures.extend(cell.left_behind.iter().cloned());
    cell.failures.extend(foreign.check(lab).await?);
    let bound = lab.bound_to(PORT).await?;
    ensure!(bound.as_deref() == Some(&*to), "the port is bound to {bound:?}, not to {to}");
    ensure!(moved.target.alive(), "the guest's QEMU on {to} has ended");
    cell.failures.extend(daemons(lab));
    cell.converged = true;
    cell.pause_ms = Some((moved.times.pause_ms() * 10.0).round() / 10.0);
    if moved.unheard {
        let text = "no switch heard the guest's announcements; the migration went on when the source's interface had gone";
        cell.notes.push(text.to_owned());
    }
    stage.guest = Some(moved.target);
    cell.timeline = timeline(stage, &name, Some(&struck), pause_ns);
    account(cell, stage, fault, pause_ns, &analysis);
    if matches!(fault, Fault::Agent(_)) && cell.outages.is_empty() && cell.flows_rewritten > 0 {
        let count = cell.flows_rewritten;
        cell.failures.push(format!("{count} flows that stood were written again, not adopted"));
    }
    if fault == Fault::Agent(Role::Target) && at == Boundary::AtResume {
        adopted(cell, stage, &chassis, &name, &struck);
    }
    Ok(())
}

/// Counts packets: those that nobody may lose, and those that went where no
/// flow was.
fn account(cell: &mut Cell, stage: &Stage, fault: Fault, pause_ns: i64, analysis: &Analysis) {
    let outages: Vec<_> = stage.bridges.iter().flat_map(|b| b.look(Log::outages)).collect();
    cell.outages = outages.iter().map(|outage| outage.in_words(pause_ns)).collect();
    cell.activation_ms = analysis.activation_ms().map(|ms| (ms * 100.0).round() / 100.0);
    cell.flows_rewritten =
        stage.bridges.iter().map(|b| b.look(|log| log.changes.iter().filter(|c| c.repeated).count())).sum();
    if cell.activation_ms.is_none() {
        cell.failures.push("the guest answered nothing on the target".to_owned());
    }
    let mut stories = Vec::new();
    for (peer, count) in &analysis.peers {
        cell.lost_in_pause += count.lost_in_pause;
        cell.duplicates += count.duplicates;
        for loss in &count.losses {
            if fault.breaks_data_plane() || outages.iter().any(|outage| outage.covers(loss.last_ns)) {
                cell.lost_by_data_plane += 1;
                continue;
            }
            if outages.iter().any(|outage| outage.still_covers(loss.last_ns)) {
                cell.lost_until_reinstalled += 1;
                continue;
            }
            cell.lost += 1;
            stories.push(story(peer, loss, pause_ns));
        }
    }
    if cell.lost > 0 {
        let more = stories.len().saturating_sub(STORIES);
        stories.truncate(STORIES);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        cell.failures.push(format!(
            "{} packets were lost while every switch had its flows: {}{more}",
            cell.lost,
            stories.join("; ")
        ));
    }
}

fn story(peer: &str, loss: &Loss, pause_ns: i64) -> String {
    let (number, sent) = (loss.number, since_ms(pause_ns, loss.sent_ns));
    let last = since_ms(pause_ns, loss.last_ns);
    match loss.last {
        Trace::Sent => format!("{peer}'s {number} sent at {sent} ms, never seen again"),
        Trace::Reached => {
            format!("{peer}'s {number} sent at {sent} ms, at the guest's tap at {last} ms, not answered")
        }
        Trace::Answered => {
            format!("{peer}'s {number} sent at {sent} ms, answered at {last} ms, the answer lost")
        }
    }
}

/// The flows that the switch learned while the agent was dead stay, untouched,
/// until OVN takes over.
fn adopted(cell: &mut Cell, stage: &Stage, chassis: &Chassis, name: &str, struck: &Struck) {
    let Some(bridge) = stage.bridges.iter().find(|bridge| bridge.chassis == chassis.to) else { return };
    let changes = bridge.look(|log| log.changes.clone());
    let learned: Vec<_> = changes
        .iter()
        .filter(|c| c.event == FlowUpdateEvent::Added && (struck.from_ns..struck.to_ns).contains(&c.at_ns))
        .collect();
    if learned.len() != 2 {
        let count = learned.len();
        cell.failures.push(format!("the switch opened the gate with {count} flows by itself, not with 2"));
    }
    let steps = stage.objects.get(name).map(|object| object.steps(ClockPair::now())).unwrap_or_default();
    let bound = steps.iter().find(|step| step.name == "Bound").map_or(i64::MAX, |step| step.at_ns);
    for flow in learned {
        let key = flow.flow.key();
        let touched = changes.iter().any(|c| c.at_ns > flow.at_ns && c.at_ns < bound && c.flow.key() == key);
        if touched {
            cell.failures.push(format!("a learned flow was not adopted: {}", flow.flow));
        }
    }
}

/// Daemons of OVN's and of Open vSwitch's that should run and do not, or say
/// that they crashed.
fn daemons(lab: &Lab) -> Vec<String> {
    let mut wrong = Vec::new();
    for chassis in lab.all_chassis() {
        for daemon in [Daemon::OvnController, Daemon::Vswitchd] {
            let (handle, name) = (chassis.daemon(daemon), chassis.name());
            if !handle.alive() {
                wrong.push(format!("{} of {name} has ended", daemon.name()));
            }
            wrong.extend(
                handle.crash_lines().iter().map(|line| format!("{} of {name}: {line}", daemon.name())),
            );
        }
    }
    wrong
}

/// Everything that was seen, in order: the steps, the fault, the switches, every
/// flow of Limosa's, and those of OVN's that are for the guest's port.
fn timeline(stage: &Stage, name: &str, struck: Option<&Struck>, zero_ns: i64) -> Vec<(f64, String)> {
    let object = stage.objects.get(name);
    let steps = object.as_ref().map(|object| object.steps(ClockPair::now())).unwrap_or_default();
    let zero_ns = if zero_ns == 0 { steps.first().map_or(0, |step| step.at_ns) } else { zero_ns };
    let mut lines: Vec<(i64, String)> =
        steps.into_iter().map(|Step { name, who, at_ns }| (at_ns, format!("{who}: {name}"))).collect();
    if let Some(struck) = struck {
        lines.push((struck.from_ns, "the fault strikes".to_owned()));
        lines.push((struck.to_ns, "the fault is mended".to_owned()));
    }
    let port = object.map_or_else(String::new, |object| object.flow_match());
    for bridge in &stage.bridges {
        let told = |c: &Change, who: &str| {
            (c.at_ns, format!("br-int of {}: {who} {:?}{}", bridge.chassis, c.event, c.flow))
        };
        bridge.look(|log| {
            lines.extend(log.changes.iter().map(|c| told(c, "Limosa's")));
            let for_port = |c: &&Change| c.flow.to_string().contains(&port);
            lines.extend(log.others_changes.iter().filter(for_port).map(|c| told(c, "OVN's")));
            for outage in &log.outages() {
                lines.push((
                    outage.from_ns,
                    format!("br-int of {} is without {}", bridge.chassis, outage.without),
                ));
                lines.extend(
                    outage.to_ns.map(|to| (to, format!("br-int of {} is whole again", bridge.chassis))),
                );
            }
        });
    }
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(at, text)| (since_ms(zero_ns, at), text)).collect()
}
