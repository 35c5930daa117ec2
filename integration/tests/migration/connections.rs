//! What the source tracks of the guest's connections, the target tracks too,
//! and nothing passes meanwhile that the policy denies.

use std::collections::BTreeSet;
use std::time::Duration;

use limosa_conntrack::{Backends, Connection, Tuple};
use limosa_lab::clock::{ClockPair, monotonic_ns};
use limosa_lab::connections::{self, Opener, Options, fill, tracked, zone};
use limosa_lab::demo::Object;
use limosa_lab::policy::{Strays, deny_by_default};
use limosa_lab::probe::Prober;
use limosa_lab::{Daemon, DaemonHandle, Endpoint, Lab, Memory, worker};
use rustix::process::Signal;

use super::{DEADLINE, GUEST, GUEST_MAC, Stage, controllers, eventually, lost};

fn entries(connections: &[Connection]) -> BTreeSet<String> {
    let text = |connection: &Connection| {
        let Connection { protocol, orig: Tuple { src, dst, transport }, mark, label, .. } = connection;
        format!("{protocol} {src} {dst} {transport:?} mark={mark} label={label:#x}")
    };
    connections.iter().map(text).collect()
}

/// Two chassis, a policy, the source with so many connections, and the target armed.
async fn full(count: u32) -> (Stage, String, BTreeSet<String>) {
    let stage = Stage::new(2).await;
    deny_by_default(&stage.lab, "vm1").await.unwrap();
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    fill(&stage.lab, "ch1", "vm1", count).await.unwrap();
    let target = stage.to_armed("m").await;
    let before = entries(&tracked(&stage.lab, "ch1", "vm1").await.unwrap());
    assert_eq!(before.len(), count as usize);
    (stage, target.ns, before)
}

pub(super) async fn echo_in(lab: &Lab, ns: &str) {
    let mut echo = std::process::Command::new(worker::binary().unwrap());
    let echo = lab.spawn_in(ns, echo.arg("echo")).await.unwrap();
    echo.wait_log("GUEST UP", DEADLINE).await.unwrap();
}

/// Keeps the source's ovn-controller from catching up: so long there is no second pass.
struct HeldUp(DaemonHandle);

impl HeldUp {
    fn new(stage: &Stage) -> Self {
        let controller = stage.lab.daemon("ch1", Daemon::OvnController);
        controller.pause().unwrap();
        Self(controller)
    }

    fn may_come(self) {
        self.0.resume().unwrap();
    }
}

/// Waits for the end of the first pass.
async fn sent_once(stage: &Stage, count: u32) {
    eventually(async || {
        let object = stage.limosa.wait(&stage.lab, "m", "activated").await.unwrap();
        if object.connections("ch1")["carried"] == count { Ok(()) } else { Err(object) }
    })
    .await;
}

async fn kill_agent(stage: &Stage, chassis: &str) {
    let agent = stage.limosa.agent(chassis).unwrap();
    agent.kill(Signal::KILL).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();
}

/// Waits for the target's flows that track what comes.
async fn takes_connections(stage: &Stage) {
    eventually(async || {
        let flows = stage.ours("ch2").await;
        if flows.iter().any(|flow| flow.contains("ct(commit")) { Ok(()) } else { Err(flows) }
    })
    .await;
}

async fn assert_all_there(lab: &Lab, before: &BTreeSet<String>) {
    let after = entries(&tracked(lab, "ch2", "vm1").await.unwrap());
    let missing: Vec<_> = before.difference(&after).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {:?}", missing.len(), before.len(), missing.first());
}

fn milliseconds_between(object: &Object, first: (&str, &str), then: (&str, &str)) -> f64 {
    let steps = object.steps(ClockPair::now());
    let at = |(who, name): (&str, &str)| {
        let step = steps.iter().find(|step| step.who == who && step.name == name);
        step.unwrap_or_else(|| panic!("{who} has not taken {name}: {steps:#?}")).at_ns
    };
    (at(then) - at(first)) as f64 / 1e6
}

/// Connections of a real guest with real peers, by Limosa and by OVN's own means.
#[tokio::test]
async fn connections_go_on_that_would_not_without() {
    let out = tempfile::tempdir().unwrap();
    let options = Options { out: out.path().to_owned(), quick: true, idle: Duration::from_secs(1) };
    let report = connections::run(&options).await.unwrap();
    assert!(report.ok(), "{report}");
    let verdicts = &report.limosa.verdicts;
    assert_eq!(verdicts.len(), 42);
    assert!(verdicts.iter().filter(|verdict| verdict.kind.is_hard()).count() >= 10);
    // Each of them has called a port of its own, with two backends that are its own.
    let balanced = verdicts.iter().filter(|verdict| verdict.kind.opener == Opener::Balanced).count();
    let backends = report.limosa.carried["backends"].as_array().map_or(0, Vec::len);
    assert_eq!((balanced, backends), (6, 6), "{report}");
}

#[tokio::test]
async fn ten_thousand_connections_are_carried() {
    let (mut stage, target, before) = full(10_000).await;
    let agent = stage.limosa.agent("ch1").unwrap().pid();
    let without = Memory::of(agent).unwrap().most;
    stage.lab.send_rarp(&target, GUEST_MAC).await.unwrap();
    let object = stage.limosa.wait(&stage.lab, "m", "switched").await.unwrap();
    assert_eq!(object.connections("ch1")["carried"], 10_000, "{object:?}");
    let more = Memory::of(agent).unwrap().most - without;
    println!(
        "{} ms from the zone to the last connection, {} ms of these after everybody had caught up; the agent: {} KiB more",
        milliseconds_between(&object, ("ch2", "Bound"), ("ch1", "Carried")),
        milliseconds_between(&object, ("controller", "Bound"), ("ch1", "Carried")),
        more >> 10
    );
    assert!(more < 32 << 20, "{more} bytes for 10,000 connections");
    assert_all_there(&stage.lab, &before).await;
    stage.assert_others_are_well().await;
}

/// The packets go to the switch, not to the agent.
#[tokio::test]
async fn the_targets_agent_may_die_while_connections_are_carried() {
    let (mut stage, target, before) = full(10_000).await;
    stage.lab.send_rarp(&target, GUEST_MAC).await.unwrap();
    takes_connections(&stage).await;
    kill_agent(&stage, "ch2").await;
    stage.limosa.start_agent(&stage.lab, "ch2").await.unwrap();
    let object = stage.limosa.wait(&stage.lab, "m", "released").await.unwrap();
    assert_eq!(object.connections("ch1")["carried"], 10_000, "{object:?}");
    assert_all_there(&stage.lab, &before).await;
    stage.assert_others_are_well().await;
}

/// The target does not wait for ever, and the object shows that nobody has said that all were carried.
#[tokio::test]
async fn the_sources_agent_may_die_while_connections_are_carried() {
    let (mut stage, target, _) = full(3_000).await;
    let last = HeldUp::new(&stage);
    stage.lab.send_rarp(&target, GUEST_MAC).await.unwrap();
    takes_connections(&stage).await;
    kill_agent(&stage, "ch1").await;
    last.may_come();
    let object = stage.limosa.wait(&stage.lab, "m", "switched").await.unwrap();
    let steps = object.steps(ClockPair::now());
    assert!(!steps.iter().any(|step| step.name == "Carried"), "{steps:#?}");
    stage.limosa.start_agent(&stage.lab, "ch1").await.unwrap();
    stage.limosa.wait(&stage.lab, "m", "released").await.unwrap();
    stage.assert_others_are_well().await;
}

/// What was lost on the way comes again, before the target decides by itself.
#[tokio::test]
async fn a_target_that_stood_still_gets_them_again() {
    let (mut stage, target, before) = full(10_000).await;
    let Stage { lab, .. } = &stage;
    let last = HeldUp::new(&stage);
    lab.send_rarp(&target, GUEST_MAC).await.unwrap();
    takes_connections(&stage).await;
    let switch = lab.daemon("ch2", Daemon::Vswitchd);
    switch.pause().unwrap();
    sent_once(&stage, 10_000).await;
    switch.resume().unwrap();
    let arrived = tracked(lab, "ch2", "vm1").await.unwrap().len();
    assert!(arrived < before.len(), "nothing was lost");
    last.may_come();
    stage.limosa.wait(lab, "m", "switched").await.unwrap();
    assert_all_there(lab, &before).await;
    stage.assert_others_are_well().await;
}

/// ovn-controller deletes every flow when it starts, and leaves the zone as it is.
#[tokio::test]
async fn an_ovn_controller_that_restarts_on_the_target_empties_no_zone() {
    let (mut stage, target, before) = full(1_000).await;
    let Stage { lab, limosa, .. } = &stage;
    let last = HeldUp::new(&stage);
    lab.send_rarp(&target, GUEST_MAC).await.unwrap();
    sent_once(&stage, 1_000).await;
    let arrived = entries(&tracked(lab, "ch2", "vm1").await.unwrap());
    assert!(!arrived.is_empty());
    let was = zone(lab, "ch2", "vm1").await.unwrap();
    let controller = lab.daemon("ch2", Daemon::OvnController);
    controller.kill9().await.unwrap();
    controller.start().await.unwrap();
    takes_connections(&stage).await;
    assert_all_there(lab, &arrived).await;
    last.may_come();
    limosa.wait(lab, "m", "switched").await.unwrap();
    assert_eq!(zone(lab, "ch2", "vm1").await.unwrap(), was);
    assert_all_there(lab, &before).await;
    stage.controllers = controllers(&stage.lab);
    stage.limosa.wait(&stage.lab, "m", "released").await.unwrap();
    stage.assert_others_are_well().await;
}

#[tokio::test]
async fn what_stays_behind_is_said() {
    let mut stage = Stage::new(2).await;
    let Stage { lab, limosa, .. } = &stage;
    deny_by_default(lab, "vm1").await.unwrap();
    lab.endpoint("ch1", "vm1").await.unwrap();
    fill(lab, "ch1", "vm1", 5).await.unwrap();
    let zone = zone(lab, "ch1", "vm1").await.unwrap();
    let marked = "exec(load:0x2->NXM_NX_CT_MARK[],load:0x7->NXM_NX_CT_LABEL[96..127])";
    let kinds = [
        // Of a load balancer, and as none makes it here.
        ("tcp", "nat(dst=10.0.0.9:80)"),
        ("udp", "nat(dst=10.0.0.9:80)"),
        ("udp", "nat(src=10.0.0.99)"),
        ("tcp", "alg=ftp"),
        ("sctp", marked),
    ];
    for ((protocol, what), port) in kinds.into_iter().zip(31u16..) {
        let line = format!(
            "{protocol},orig=(src=10.0.0.1,dst=10.0.0.2,sport={port},dport=21),reply=(src=10.0.0.2,dst=10.0.0.1,sport=21,dport={port})"
        );
        let connection: Connection = line.parse().unwrap();
        let frame: String = connection.frames(&mut Backends::default()).unwrap()[0]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let packet = format!("in_port=controller packet={frame} actions=ct(commit,zone={zone},{what})");
        lab.ofctl("ch1", "packet-out", &[&packet]).await.unwrap();
    }
    let target = stage.to_armed("m").await;
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    let object = limosa.wait(lab, "m", "switched").await.unwrap();
    let refused = serde_json::json!({"translated": 1, "helper": 1});
    // TCP to a backend has only just begun: who opens it tries again.
    let expected = serde_json::json!({"carried": 7, "backends": ["10.0.0.9:80"], "refused": refused});
    assert_eq!(*object.connections("ch1"), expected);
    let there = tracked(lab, "ch2", "vm1").await.unwrap();
    let backend: Vec<u8> = there
        .iter()
        .filter(|entry| entry.reply.src.to_string() == "10.0.0.9" && entry.orig.dst != entry.reply.src)
        .map(|entry| entry.protocol)
        .collect();
    assert_eq!(backend, [17], "{there:#?}");
    let there = entries(&there);
    let sctp = there.iter().find(|entry| entry.starts_with("132 "));
    assert!(
        sctp.is_some_and(|entry| entry.ends_with("mark=2 label=0x7000000000000000000000000")),
        "{there:#?}"
    );
    let told = limosa.status(lab, "m").await.unwrap();
    assert!(
        told.contains("carried from ch1: 7, left there: 1 (helper), left there: 1 (translated)"),
        "{told}"
    );
    stage.assert_others_are_well().await;
}

/// A tracker that compares sequence numbers would drop what goes on.
#[tokio::test]
async fn tcp_stays_where_sequence_numbers_are_checked() {
    let (mut stage, target, before) = full(30).await;
    let Stage { lab, limosa, .. } = &stage;
    for chassis in ["ch1", "ch2"] {
        lab.appctl(chassis, Daemon::Vswitchd, &["dpctl/ct-enable-tcp-seq-chk"]).await.unwrap();
    }
    lab.send_rarp(&target, GUEST_MAC).await.unwrap();
    let object = limosa.wait(lab, "m", "switched").await.unwrap();
    let expected = serde_json::json!({"carried": 10, "refused": {"sequence_check": 20}});
    assert_eq!(*object.connections("ch1"), expected);
    let udp: BTreeSet<String> = before.into_iter().filter(|entry| entry.starts_with("17 ")).collect();
    assert_eq!(entries(&tracked(lab, "ch2", "vm1").await.unwrap()), udp);
    stage.assert_others_are_well().await;
}

/// What is carried shares the tunnel with the guest's own traffic.
#[tokio::test]
async fn ten_thousand_connections_disturb_nobody() {
    let (mut stage, target, before) = full(10_000).await;
    let Stage { lab, limosa, .. } = &stage;
    for ns in ["vm1-ch1", &target] {
        echo_in(lab, ns).await;
    }
    let probers = [("p1-ch1", 300), ("p2-ch2", 300)];
    let probers = probers.map(async |(ns, rate)| Prober::start(lab, ns, GUEST, rate).await.unwrap());
    let probers = futures::future::join_all(probers).await;
    lab.send_rarp(&target, GUEST_MAC).await.unwrap();
    limosa.wait(lab, "m", "released").await.unwrap();
    assert_all_there(lab, &before).await;
    for prober in probers {
        let probe = prober.finish().await.unwrap();
        assert_eq!(lost(&probe), 0, "of {}", probe.sent.len());
    }
    stage.assert_others_are_well().await;
}

/// A port under a policy, armed, with an echo on each side and two peers that may reach it; one of them not for long.
struct Probed {
    stage: Stage,
    source: Endpoint,
    target: Endpoint,
    allowed: Prober,
    /// From 192.168.7.22.
    forbidden: Prober,
}

impl Probed {
    async fn new() -> Self {
        let stage = Stage::new(3).await;
        let lab = &stage.lab;
        deny_by_default(lab, "vm1").await.unwrap();
        let source = lab.endpoint("ch1", "vm1").await.unwrap();
        let target = stage.to_armed("m").await;
        for ns in [&source.ns, &target.ns] {
            echo_in(lab, ns).await;
        }
        let allowed = Prober::start(lab, "p3-ch3", GUEST, 200).await.unwrap();
        let forbidden = Prober::start(lab, "p2-ch2", GUEST, 200).await.unwrap();
        Self { stage, source, target, allowed, forbidden }
    }
}

#[tokio::test]
async fn nothing_passes_that_the_policy_denies() {
    let Probed { mut stage, source, target, allowed, forbidden } = Probed::new().await;
    let Stage { lab, limosa, .. } = &stage;
    let guest = [GUEST_MAC, GUEST];
    let peers = [1, 2, 3]
        .map(|n| (format!("p{n}"), format!("02:00:00:00:02:{n:02x}"), format!("192.168.7.{}", 20 + n)));
    let mut strays = Vec::new();
    for (number, (name, mac, ip)) in peers.iter().enumerate() {
        let ns = format!("{name}-ch{}", number + 1);
        strays.push((ns.clone(), Strays::start(lab, &ns, name, [mac, ip], guest).await.unwrap()));
    }
    // Each copy of the guest to another peer.
    for (ns, (_, mac, ip)) in [&source.ns, &target.ns].into_iter().zip(&peers[1..]) {
        strays.push((ns.clone(), Strays::start(lab, ns, "guest", guest, [mac, ip]).await.unwrap()));
    }
    // What was allowed when it began, and is not any more.
    let denied = "outport == \"vm1\" && ip4.src == 192.168.7.22";
    let acl = ["--wait=hv", "acl-add", "ls0", "to-lport", "2000", denied, "drop"];
    lab.nbctl(&acl).await.unwrap();
    let denied_at = monotonic_ns();

    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    limosa.wait(lab, "m", "released").await.unwrap();
    source.remove(lab).await.unwrap();
    strays.remove(3);
    limosa.wait(lab, "m", "completed").await.unwrap();
    for (ns, strays) in strays {
        let arrived = strays.finish().await.unwrap();
        // Peers hear what other peers send to all; of the guest nobody hears, and the guest hears nobody.
        let wrong = |sender: &&String| *sender == "guest" || ns.starts_with("vm1");
        assert_eq!(arrived.keys().filter(wrong).collect::<Vec<_>>(), [""; 0], "{ns}: {arrived:?}");
        assert_eq!(arrived.is_empty(), ns.starts_with("vm1"), "{ns}: the strays are sent");
    }
    let allowed = allowed.finish().await.unwrap();
    assert_eq!(lost(&allowed), 0, "of {}", allowed.sent.len());
    // What was under way when the chassis said that it had the ACL.
    let forbidden = forbidden.finish().await.unwrap();
    let late =
        forbidden.arrivals.iter().filter(|(number, _)| forbidden.sent[*number as usize] > denied_at).count();
    assert_eq!((late, lost(&forbidden) > 0), (0, true));
    stage.assert_others_are_well().await;
}

/// While the port is on both sides, and a bystander keeps it there.
#[tokio::test]
async fn a_policy_that_changes_in_the_middle_holds_on_both_sides() {
    let Probed { mut stage, source, target, allowed, forbidden } = Probed::new().await;
    let Stage { lab, limosa, .. } = &stage;
    let bystander = lab.daemon("ch3", Daemon::OvnController);
    bystander.pause().unwrap();
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    takes_connections(&stage).await;

    let denied = "outport == \"vm1\" && ip4.src == 192.168.7.22";
    lab.nbctl(&["acl-add", "ls0", "to-lport", "2000", denied, "drop"]).await.unwrap();
    for chassis in ["ch1", "ch2"] {
        eventually(async || {
            let flows = lab.dump_flows(chassis).await.unwrap();
            if flows.iter().any(|flow| flow.contains("nw_src=192.168.7.22")) { Ok(()) } else { Err(chassis) }
        })
        .await;
        // The datapath's cache as well.
        lab.appctl(chassis, Daemon::Vswitchd, &["revalidator/wait"]).await.unwrap();
    }
    let denied_at = monotonic_ns();
    let object = limosa.wait(lab, "m", "activated").await.unwrap();
    assert_eq!(object.phase(), "Activated", "the policy was to change in the middle");
    bystander.resume().unwrap();
    limosa.wait(lab, "m", "released").await.unwrap();
    source.remove(lab).await.unwrap();
    limosa.wait(lab, "m", "completed").await.unwrap();
    let (allowed, forbidden) = (allowed.finish().await.unwrap(), forbidden.finish().await.unwrap());
    let after = |number: u64| forbidden.sent[number as usize] > denied_at;
    let late = forbidden.arrivals.iter().filter(|(number, _)| after(*number)).count();
    assert!(late == 0 && lost(&forbidden) > 0, "{late} came although they were denied");
    assert_eq!(lost(&allowed), 0, "of {}", allowed.sent.len());
    stage.assert_others_are_well().await;
}
