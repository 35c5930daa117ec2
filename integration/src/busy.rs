//! A cluster that is never idle: OVN has thousands of flows on every chassis,
//! and every ovn-controller computes them anew without pause.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Serialize;

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::process::LabProcess;

/// How many flows OVN has on each chassis, besides those for the ports.
pub(crate) const OVN_FLOWS: usize = 20_000;

/// Sets of addresses, and a rule for each.
const SETS: usize = 10;

/// When the loops end by themselves, seconds.
const AT_MOST: &str = "1800";

const DEADLINE: Duration = Duration::from_secs(30);

/// Gives OVN [`OVN_FLOWS`] flows on each chassis that has a port of the switch:
/// one for each address that a rule names.
pub(crate) async fn fill(lab: &Lab, switch: &str) -> Result<()> {
    for set in 0..SETS {
        let count = OVN_FLOWS / SETS;
        let addresses: Vec<String> =
            (0..count).map(|n| format!("\"10.{set}.{}.{}\"", n / 250, n % 250 + 1)).collect();
        let addresses = format!("addresses={}", addresses.join(","));
        let (named, rule) = (format!("name=big{set}"), format!("ip4.src == $big{set} && tcp"));
        lab.nbctl(&["create", "Address_Set", &named, &addresses]).await?;
        lab.nbctl(&["acl-add", switch, "to-lport", "1000", &rule, "drop"]).await?;
    }
    lab.sync().await
}

/// Loops that have every ovn-controller compute all of its flows again, as soon
/// as it has done so.
#[derive(Debug)]
pub(crate) struct Busy {
    loops: Vec<LabProcess>,
}

/// How busy they were.
#[derive(Debug, Clone, Serialize)]
pub struct Recomputed {
    /// Flows of each chassis' bridge at the end, Limosa's among them.
    pub flows: Vec<usize>,
    /// How often each ovn-controller has computed its logical flows anew.
    pub recomputed: Vec<u64>,
}

impl Busy {
    pub(crate) async fn start(lab: &Lab) -> Result<Self> {
        let mut loops = Vec::new();
        for chassis in lab.all_chassis() {
            let ctl = chassis.daemon(Daemon::OvnController).ctl();
            let mut command = Command::new("timeout");
            let again = "while ovs-appctl --timeout=60 -t \"$0\" inc-engine/recompute; do :; done";
            command.args([AT_MOST, "sh", "-c", again]).arg(ctl);
            loops.push(lab.spawn_in(chassis.name(), &command).await?);
        }
        Ok(Self { loops })
    }

    /// Ends the loops; what they have had done.
    pub(crate) async fn finish(self, lab: &Lab) -> Result<Recomputed> {
        for process in &self.loops {
            ensure!(process.alive(), "nothing was computed anew: {}", process.log_tail());
            process.kill(Signal::TERM)?;
            process.wait_exit(DEADLINE).await?;
        }
        let (mut flows, mut recomputed) = (Vec::new(), Vec::new());
        for chassis in lab.all_chassis() {
            flows.push(chassis.dump_flows().await?.len());
            let stats = chassis.appctl(Daemon::OvnController, &["inc-engine/show-stats"]).await?;
            recomputed.push(of_logical_flows(&stats).with_context(|| format!("understand {stats:?}"))?);
        }
        Ok(Recomputed { flows, recomputed })
    }
}

/// How often ovn-controller has computed its logical flows, as
/// `inc-engine/show-stats` prints it.
fn of_logical_flows(stats: &str) -> Option<u64> {
    let node = stats.split("Node: ").find(|node| node.starts_with("logical_flow_output\n"))?;
    let line = node.lines().find_map(|line| line.trim().strip_prefix("- recompute:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_how_often_logical_flows_were_computed() {
        let stats = "Node: flow_output\n- recompute:            3\n- compute:   9\n\nNode: logical_flow_output\n- recompute:           27\n- compute:              61\n- cancel:                0\n";
        assert_eq!(of_logical_flows(stats), Some(27));
        assert_eq!(of_logical_flows("Node: logical_flow_output\n"), None);
    }
}
