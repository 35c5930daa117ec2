//! Limosa on a real OVN: what it must do, and what it must leave alone.

mod connections;
mod hairpin;
mod hostile;
mod layout;
mod lies;
mod starters;
mod tls;

use std::collections::BTreeSet;
use std::time::Duration;

use limosa_lab::demo::{self, Limosa, flows_of_ours};
use limosa_lab::probe::{ProbeResult, Prober};
use limosa_lab::{CENTRAL, Daemon, Endpoint, Foreign, Guest, Lab, LabOptions, LogicalPort};
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(30);
const GUEST: &str = "192.168.7.10";
const GUEST_MAC: &str = "02:00:00:00:01:01";

/// A lab with a peer on every chassis, `vm1` as a port, and Limosa.
struct Stage {
    lab: Lab,
    limosa: Limosa,
    controllers: Vec<Option<u32>>,
    /// Somebody else's flows, groups and meters.
    foreign: Foreign,
}

impl Stage {
    async fn new(chassis: usize) -> Self {
        let lab = Lab::start(LabOptions { chassis, ..LabOptions::default() }).await.unwrap();
        lab.peers().await.unwrap();
        lab.port("ls0", LogicalPort::new("vm1", GUEST_MAC, GUEST)).await.unwrap();
        let limosa = Limosa::start(&lab).await.unwrap();
        let controllers = controllers(&lab);
        let foreign = Foreign::put(&lab).await.unwrap();
        Self { lab, limosa, controllers, foreign }
    }

    /// Plugs the two ends of a migration that a namespace stands in for.
    async fn to_armed(&self, name: &str) -> Endpoint {
        let args =
            ["vm1", "--from", "ch1", "--to", "ch2", "--name", name, "--wait=arming", "--timeout", "30"];
        self.limosa.object(&self.lab, "migrate", &args).await.unwrap();
        let target = self.lab.endpoint_unbound("ch2", "vm1").await.unwrap();
        self.limosa.wait(&self.lab, name, "armed").await.unwrap();
        target
    }

    /// Every flow of every bridge, ours and OVN's.
    async fn flows(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for chassis in self.lab.all_chassis() {
            let flows = chassis.dump_flows().await.unwrap();
            all.extend(flows.into_iter().map(|flow| format!("{}: {flow}", chassis.name())));
        }
        all
    }

    async fn assert_flows_are(&self, before: &BTreeSet<String>) {
        let after = self.flows().await;
        let changed: Vec<&String> = before.symmetric_difference(&after).collect();
        assert!(changed.is_empty(), "flows have changed: {changed:#?}");
    }

    async fn ours(&self, chassis: &str) -> Vec<String> {
        let flows = self.lab.dump_flows(chassis).await.unwrap();
        flows_of_ours(&flows).into_iter().map(str::to_owned).collect()
    }

    async fn assert_nothing_of_ours(&self) {
        for chassis in self.lab.all_chassis() {
            assert_eq!(self.ours(chassis.name()).await, [""; 0], "{}", chassis.name());
        }
    }

    /// What a person is told when a verb fails.
    async fn refusal(&self, verb: &str, args: &[&str]) -> String {
        self.limosa.object(&self.lab, verb, args).await.expect_err("it was not refused").to_string()
    }

    async fn assert_foreign_is_as_it_was(&mut self) {
        assert_eq!(self.foreign.check(&self.lab).await.unwrap(), [""; 0]);
    }

    /// No ovn-controller has died: they do when a packet-in of ours reaches
    /// them. And whatever is somebody else's is what it was.
    async fn assert_others_are_well(&mut self) {
        self.assert_foreign_is_as_it_was().await;
        assert_eq!(controllers(&self.lab), self.controllers, "an ovn-controller has died");
        for chassis in self.lab.all_chassis() {
            assert_eq!(chassis.daemon(Daemon::OvnController).crash_lines(), [""; 0], "{}", chassis.name());
        }
        assert_eq!(self.limosa.ended(), [""; 0]);
    }
}

fn controllers(lab: &Lab) -> Vec<Option<u32>> {
    lab.all_chassis().iter().map(|chassis| chassis.daemon(Daemon::OvnController).pid()).collect()
}

/// Looks again and again until it holds, or says what it saw last.
async fn eventually<T: std::fmt::Debug>(mut look: impl AsyncFnMut() -> Result<(), T>) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(()) => return,
            Err(seen) => {
                assert!(tokio::time::Instant::now() < deadline, "still {seen:#?} after {DEADLINE:?}")
            }
        }
    }
}

fn lost(probe: &ProbeResult) -> usize {
    let arrived: std::collections::HashSet<u64> = probe.arrivals.iter().map(|(number, _)| *number).collect();
    probe.sent.len() - arrived.len()
}

#[tokio::test]
async fn a_guest_changes_chassis_and_nobody_notices() {
    let out = tempfile::tempdir().unwrap();
    let options = demo::Options::new(out.path().to_owned());
    let report = demo::run(&options).await.unwrap();
    assert!(report.ok, "{:#?}", report.failures);
    assert_eq!(report.migrations.len(), 3);
    let written = std::fs::read_to_string(out.path().join("report.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    for migration in written["migrations"].as_array().unwrap() {
        for (name, peer) in migration["peers"].as_object().unwrap() {
            assert!(peer["sent"].as_u64().unwrap() > 500, "{name}: {peer}");
            assert_eq!(peer["lost_after_activation"], 0, "{name}: {peer}");
            assert!(peer["duplicates"].as_u64().unwrap() <= 5, "{name}: {peer}");
        }
        for step in ["Armed", "Activated", "Bound", "Switched", "Released", "Completed"] {
            let steps = migration["steps"].as_object().unwrap();
            assert!(steps.keys().any(|key| key.contains(step)), "no {step} in {steps:?}");
        }
    }
    assert!(out.path().join("report.html").is_file());
}

#[tokio::test]
async fn a_target_that_is_killed_before_the_guest_resumes_is_rolled_back() {
    let mut stage = Stage::new(2).await;
    let Stage { lab, limosa, .. } = &stage;
    let options = lab.port_options("vm1").await.unwrap();
    let mut source = Guest::start(lab, "ch1", "vm1").await.unwrap();
    let before = stage.flows().await;
    let prober = Prober::start(lab, "p2-ch2", GUEST, 200).await.unwrap();
    let name = limosa.migrate(lab, "vm1", "ch1", "ch2").await.unwrap().name().to_owned();
    let target = Guest::prepare_incoming(lab, "ch2", "vm1").await.unwrap();
    limosa.wait(lab, &name, "armed").await.unwrap();
    assert!(!stage.ours("ch1").await.is_empty() && !stage.ours("ch2").await.is_empty());

    // So slow that it is killed in the middle of the memory.
    source.begin_migration(&target, 1 << 20).await.unwrap();
    target.kill(Signal::KILL).await.unwrap();
    limosa.wait(lab, &name, "rollingback").await.unwrap();
    eventually(async || {
        let ours = [stage.ours("ch1").await, stage.ours("ch2").await].concat();
        if ours.is_empty() { Ok(()) } else { Err(ours) }
    })
    .await;
    target.unplug(lab).await.unwrap();
    let object = limosa.wait(lab, &name, "rolledback").await.unwrap();
    assert_eq!(object.phase(), "RolledBack");

    assert_eq!(lab.port_options("vm1").await.unwrap(), options);
    assert_eq!(lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch1"));
    assert_eq!(source.status().await.unwrap(), "running");
    let probe = prober.finish().await.unwrap();
    assert_eq!((lost(&probe), probe.arrivals.len()), (0, probe.sent.len()), "the guest missed a packet");
    lab.sync().await.unwrap();
    // On the target OVN itself keeps some flows for a port that was plugged there.
    let source = lab.dump_flows("ch1").await.unwrap();
    assert!(
        before
            .iter()
            .filter(|flow| flow.starts_with("ch1: "))
            .all(|flow| source.contains(&flow[5..].to_owned()))
    );
    stage.assert_nothing_of_ours().await;
    stage.assert_others_are_well().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut stage = Stage::new(2).await;
    let Stage { lab, .. } = &stage;
    lab.endpoint("ch1", "vm1").await.unwrap();
    let options = lab.port_options("vm1").await.unwrap();
    let before = stage.flows().await;
    for (port, from, to, reason) in [
        ("nothing", "ch1", "ch2", "no logical switch port nothing"),
        ("vm1", "ch2", "ch1", "bound to chassis ch1, not to ch2"),
        ("vm1", "ch1", "ch1", "source and target are both ch1"),
        ("vm1", "ch1", "ch9", "no chassis ch9"),
    ] {
        let said = stage.refusal("migrate", &[port, "--from", from, "--to", to, "--wait"]).await;
        assert!(said.contains(reason), "{said}");
    }
    let said = stage.refusal("migrate", &["vm1", "--from", "ch1", "--to", "ch2", "--name", "../x"]).await;
    assert!(said.contains("cannot be a migration's name"), "{said}");
    let said = stage.refusal("wait", &["nobody"]).await;
    assert!(said.contains("no migration nobody"), "{said}");
    let log = stage.limosa.controller().unwrap().log();
    assert!(log.contains("no logical switch port nothing"), "{log}");
    assert_eq!(lab.port_options("vm1").await.unwrap(), options);
    stage.assert_flows_are(&before).await;
    stage.assert_others_are_well().await;
}

#[tokio::test]
async fn a_target_without_its_interface_is_said_and_can_be_aborted() {
    let mut stage = Stage::new(2).await;
    let Stage { lab, limosa, .. } = &stage;
    lab.endpoint("ch1", "vm1").await.unwrap();
    let options = lab.port_options("vm1").await.unwrap();
    let wait = ["vm1", "--from", "ch1", "--to", "ch2", "--name", "m", "--wait=armed", "--timeout", "2"];
    let said = stage.refusal("migrate", &wait).await;
    assert!(said.contains("ch2 has no interface with external_ids:iface-id=vm1"), "{said}");
    let log = limosa.agent("ch2").unwrap().log();
    assert!(log.contains("ch2 has no interface with external_ids:iface-id=vm1"), "{log}");
    stage.assert_nothing_of_ours().await;
    // A second migration of the port has to wait for the first.
    let said = stage.refusal("migrate", &["vm1", "--from", "ch1", "--to", "ch2", "--wait"]).await;
    assert!(said.contains("already being moved by migration m"), "{said}");

    let store = limosa.store().to_string_lossy().into_owned();
    let binary = Limosa::binary().unwrap();
    let abort = [binary.to_str().unwrap(), "abort", "m", "--store", &store];
    lab.exec_in(CENTRAL, &abort).await.unwrap();
    assert_eq!(limosa.wait(lab, "m", "rolledback").await.unwrap().phase(), "RolledBack");
    assert_eq!(lab.port_options("vm1").await.unwrap(), options);
    stage.assert_others_are_well().await;
}

/// The switch opens the gate by itself; the agent finds out when it is back.
#[tokio::test]
async fn the_gate_opens_while_the_agent_is_dead() {
    let mut stage = Stage::new(2).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let target = stage.to_armed("m").await;
    let armed = stage.ours("ch2").await;
    assert!(armed.iter().any(|flow| flow.contains("learn(")), "{armed:#?}");
    let agent = stage.limosa.agent("ch2").unwrap();
    agent.kill(Signal::KILL).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();
    // Another guest's address opens nothing.
    stage.lab.send_rarp(&target.ns, "02:00:00:00:01:02").await.unwrap();
    assert_eq!(stage.ours("ch2").await.len(), armed.len());
    stage.lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    eventually(async || {
        let flows = stage.ours("ch2").await;
        if flows.len() == armed.len() + 2 { Ok(()) } else { Err(flows) }
    })
    .await;
    stage.limosa.start_agent(&stage.lab, "ch2").await.unwrap();
    stage.limosa.wait(&stage.lab, "m", "released").await.unwrap();
    assert_eq!(stage.lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch2"));
    stage.assert_others_are_well().await;
}

/// ovn-controller deletes every flow of the bridge when it connects.
#[tokio::test]
async fn wiped_flows_are_put_back() {
    let mut stage = Stage::new(2).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let target = stage.to_armed("m").await;
    for chassis in ["ch1", "ch2"] {
        let before = stage.ours(chassis).await;
        let controller = stage.lab.daemon(chassis, Daemon::OvnController);
        controller.kill9().await.unwrap();
        controller.start().await.unwrap();
        stage.lab.sync().await.unwrap();
        eventually(async || {
            let now = stage.ours(chassis).await;
            if now == before { Ok(()) } else { Err(now) }
        })
        .await;
    }
    stage.controllers = controllers(&stage.lab);
    stage.lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    stage.limosa.wait(&stage.lab, "m", "released").await.unwrap();
    stage.assert_others_are_well().await;
}

#[tokio::test]
async fn the_controller_can_be_killed_at_any_step() {
    let mut stage = Stage::new(2).await;
    let source = stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let options = stage.lab.port_options("vm1").await.unwrap();
    let target = stage.to_armed("m").await;
    let mut rarp = Some(&target.ns);
    for phase in ["activated", "bound", "switched", "released"] {
        let controller = stage.limosa.controller().unwrap();
        controller.kill(Signal::KILL).unwrap();
        controller.wait_exit(DEADLINE).await.unwrap();
        if let Some(ns) = rarp.take() {
            stage.lab.send_rarp(ns, GUEST_MAC).await.unwrap();
        }
        stage.limosa.start_controller(&stage.lab).await.unwrap();
        stage.limosa.wait(&stage.lab, "m", phase).await.unwrap();
    }
    source.remove(&stage.lab).await.unwrap();
    stage.limosa.wait(&stage.lab, "m", "completed").await.unwrap();
    stage.assert_nothing_of_ours().await;
    assert_eq!(stage.lab.port_options("vm1").await.unwrap(), options);
    assert_eq!(stage.lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch2"));
    stage.assert_others_are_well().await;
}

#[tokio::test]
async fn tables_that_are_not_there_are_named() {
    let mut stage = Stage::new(2).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let wait = ["vm1", "--from", "ch1", "--to", "ch2", "--name", "m", "--wait=arming", "--timeout", "60"];
    stage.limosa.object(&stage.lab, "migrate", &wait).await.unwrap();
    stage.lab.daemon("ch2", Daemon::OvnController).kill9().await.unwrap();
    stage.lab.ofctl("ch2", "del-flows", &[]).await.unwrap();
    stage.lab.endpoint_unbound("ch2", "vm1").await.unwrap();
    eventually(async || {
        let said = stage.refusal("wait", &["m", "--for", "armed", "--timeout", "0"]).await;
        if said.contains("table LOG_TO_PHY was not found") { Ok(()) } else { Err(said) }
    })
    .await;
    stage.assert_nothing_of_ours().await;
    stage.lab.daemon("ch2", Daemon::OvnController).start().await.unwrap();
    stage.limosa.wait(&stage.lab, "m", "armed").await.unwrap();
    stage.controllers = controllers(&stage.lab);
    stage.assert_others_are_well().await;
}

#[tokio::test]
async fn a_controller_without_a_database_says_so_on_the_object() {
    let mut stage = Stage::new(2).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    stage.lab.daemon(CENTRAL, Daemon::SbDb).stop().await.unwrap();
    stage.limosa.ask(&stage.lab, "m", "vm1", "ch1", "ch2").await.unwrap();
    eventually(async || {
        let said = stage.refusal("wait", &["m", "--for", "arming", "--timeout", "0"]).await;
        let missing = "southbound database (--sb, OVN_SB_DB) does not answer";
        if said.contains(missing) { Ok(()) } else { Err(said) }
    })
    .await;
    stage.lab.daemon(CENTRAL, Daemon::SbDb).start().await.unwrap();
    stage.limosa.wait(&stage.lab, "m", "arming").await.unwrap();
    stage.assert_others_are_well().await;
}

#[tokio::test]
async fn an_agent_without_a_switch_says_so_on_the_object() {
    let mut stage = Stage::new(2).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    stage.lab.daemon("ch2", Daemon::Vswitchd).kill9().await.unwrap();
    let wait = ["vm1", "--from", "ch1", "--to", "ch2", "--name", "m", "--wait=armed", "--timeout", "5"];
    let said = stage.refusal("migrate", &wait).await;
    assert!(said.contains("check that ovs-vswitchd runs"), "{said}");
    stage.lab.daemon("ch2", Daemon::Vswitchd).start().await.unwrap();
    stage.lab.endpoint_unbound("ch2", "vm1").await.unwrap();
    stage.limosa.wait(&stage.lab, "m", "armed").await.unwrap();
    stage.controllers = controllers(&stage.lab);
    stage.assert_others_are_well().await;
}
