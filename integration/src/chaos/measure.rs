//! How long what takes, on the lab.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ofpacket::FlowUpdateEvent;
use serde::Serialize;

use super::bridge::{Change, Log};
use super::fault::{Boundary, Fault, Role};
use super::report::{Report, since_ms};
use super::stage::Stage;
use crate::busy::{self, OVN_FLOWS};
use crate::daemon::Daemon;
use crate::demo::PORT;

/// How often each way of activation is measured besides the matrix.
pub(super) const ROUNDS: usize = 5;

/// The ways, in turn.
pub(super) const ACTIVATIONS: [Fault; 3] =
    [Fault::Nothing, Fault::Agent(Role::Target), Fault::OvnControllerFrozen(Role::Target)];

/// How many wipes are measured.
const WIPES: usize = 30;

/// Where Limosa has flows that need no table of OVN's.
const OWN_TABLES: [u8; 2] = [0, 253];

const DEADLINE: Duration = Duration::from_secs(120);

/// Durations in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// From what to what.
    pub what: String,
    /// How often it was measured.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// The 99th percentile: with fewer than 100 values the longest.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// Each, in the order in which they were measured.
    pub values: Vec<f64>,
}

impl Measurement {
    fn of(what: &str, values: Vec<f64>) -> Option<Self> {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank =
            |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let (p50, p99, max) = (rank(50)?, rank(99)?, *sorted.last()?);
        Some(Self { what: what.to_owned(), count: values.len(), p50, p99, max, values })
    }
}

/// Collects what the cells say of activations.
pub(super) fn activations(report: &mut Report) {
    let what = "from the guest's announcement on the target to the first packet that reaches it there and is answered";
    for (name, fault) in [
        ("activation_healthy_ms", Fault::Nothing),
        ("activation_with_agent_dead_ms", Fault::Agent(Role::Target)),
        ("activation_with_ovn_controller_frozen_ms", Fault::OvnControllerFrozen(Role::Target)),
        ("activation_with_ovn_controller_dead_ms", Fault::OvnController(Role::Target)),
    ] {
        let (killed, at) = (fault.to_string(), Boundary::AtResume.to_string());
        let cells = report.cells.iter().filter(|cell| cell.killed == killed && cell.at == at);
        let values = cells.filter_map(|cell| cell.activation_ms).collect();
        report.measurements.extend(Measurement::of(what, values).map(|measured| (name, measured)));
    }
}

/// How long it takes from the moment in which ovn-controller has deleted our
/// flows until all of them are back, with a migration that is armed.
pub(super) async fn wipes() -> Result<BTreeMap<&'static str, Measurement>> {
    let mut stage = Stage::start().await?;
    let name = stage.next_name();
    let Stage { lab, limosa, objects, .. } = &stage;
    lab.endpoint("ch1", PORT).await?;
    busy::fill(lab, "ls0").await?;
    limosa.ask(lab, &name, PORT, "ch1", "ch2").await?;
    objects.reached(&name, "Arming", DEADLINE).await?;
    lab.endpoint_unbound("ch2", PORT).await?;
    objects.reached(&name, "Armed", DEADLINE).await?;
    let bridge = stage.bridge("ch2")?;
    let enough = |log: &Log| log.is_whole() && log.others() >= OVN_FLOWS;
    bridge.until("full of OVN's flows", DEADLINE, enough).await?;
    let ours = bridge.look(|log| log.ours().count());
    let (mut to_first, mut to_ours, mut to_ovn) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..WIPES {
        bridge.forget();
        let controller = lab.daemon("ch2", Daemon::OvnController);
        controller.kill9().await?;
        controller.start().await?;
        let back = |log: &Log| {
            log.outages().first().is_some_and(|outage| outage.to_ns.is_some()) && log.ours().count() == ours
        };
        bridge.until("as it was", DEADLINE, back).await?;
        bridge.look(|log| {
            let at = |event| log.changes.iter().filter(move |c| c.event == event).map(|c| c.at_ns);
            let gone = at(FlowUpdateEvent::Removed).next();
            let back = at(FlowUpdateEvent::Added).next_back();
            let in_own =
                |c: &&Change| OWN_TABLES.contains(&c.flow.table_id) && c.event == FlowUpdateEvent::Added;
            let first = log.changes.iter().filter(in_own).map(|c| c.at_ns).next_back();
            let ovn = log.outages().first().and_then(|outage| outage.to_ns);
            to_first.extend(gone.zip(first).map(|(gone, back)| since_ms(gone, back)));
            to_ours.extend(gone.zip(back).map(|(gone, back)| since_ms(gone, back)));
            to_ovn.extend(gone.zip(ovn).map(|(gone, ovn)| since_ms(gone, ovn)));
        });
    }
    let wrong = stage.foreign.check(&stage.lab).await?;
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let first = Measurement::of(
        "from the same moment until those in tables 0 and 253 stand, which need no table of OVN's: the gate, or the way in and out",
        to_first,
    );
    let ours = Measurement::of(
        "from the first of our flows that ovn-controller deletes when it starts until all of ours stand again, with 20,000 flows of OVN's; target of an armed migration",
        to_ours,
    );
    let ovn =
        Measurement::of("from the same moment until three quarters of OVN's own flows stand again", to_ovn);
    Ok(BTreeMap::from([
        ("wipe_to_gate_reinstalled_ms", first.context("no wipe was seen")?),
        ("wipe_to_reinstalled_ms", ours.context("no wipe was seen")?),
        ("wipe_to_ovn_reinstalled_ms", ovn.context("no wipe was seen")?),
    ]))
}
