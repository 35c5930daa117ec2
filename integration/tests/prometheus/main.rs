//! What Limosa tells a real Prometheus, and what the chart's dashboards and
//! alerts make of it.

mod alerts;
mod kubevirt;

use std::collections::BTreeMap;
use std::time::Duration;

use limosa_lab::connections::fill;
use limosa_lab::demo::Limosa;
use limosa_lab::policy::deny_by_default;
use limosa_lab::probe::Prober;
use limosa_lab::prometheus::{Panel, Prometheus, get, panels, promtool, rules};
use limosa_lab::{CENTRAL, Daemon, Endpoint, Lab, LabOptions, LabProcess, LogicalPort, worker};
use rustix::process::Signal;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);
const GUEST: &str = "192.168.7.10";
const GUEST_MAC: &str = "02:00:00:00:01:01";
/// The peer on the bystander.
const PEER: (&str, &str, &str) = ("p3-ch3", "192.168.7.23", "02:00:00:00:02:03");

/// What this begins with is counted where there is a Kubernetes API; [`kubevirt`] asks for it there.
const OF_KUBEVIRT: &str = "limosa_kubevirt_";

/// Three chassis, `vm1` on the first behind a policy, and Limosa with metrics.
async fn stage() -> (Lab, Limosa, Endpoint) {
    let lab = Lab::start(LabOptions { chassis: 3, ..LabOptions::default() }).await.unwrap();
    lab.peers().await.unwrap();
    lab.port("ls0", LogicalPort::new("vm1", GUEST_MAC, GUEST)).await.unwrap();
    deny_by_default(&lab, "vm1").await.unwrap();
    let limosa = Limosa::start_with_metrics(&lab).await.unwrap();
    let source = lab.endpoint("ch1", "vm1").await.unwrap();
    (lab, limosa, source)
}

/// Asks for a migration of `vm1`, and plugs its interface on the target.
async fn to_armed(lab: &Lab, limosa: &Limosa, name: &str, from: &str, to: &str) -> Endpoint {
    let args = ["vm1", "--from", from, "--to", to, "--name", name, "--wait=arming", "--timeout", "30"];
    limosa.object(lab, "migrate", &args).await.unwrap();
    let target = lab.endpoint_unbound(to, "vm1").await.unwrap();
    limosa.wait(lab, name, "armed").await.unwrap();
    target
}

/// Answers as a guest does; neither it nor the peer has to ask for the other's address.
async fn echo_in(lab: &Lab, ns: &str) -> LabProcess {
    let (peer, ip, mac) = PEER;
    for (ns, ip, mac) in [(ns, ip, mac), (peer, GUEST, GUEST_MAC)] {
        lab.exec_in(ns, &["ip", "neigh", "replace", ip, "lladdr", mac, "dev", "eth0"]).await.unwrap();
    }
    let mut command = std::process::Command::new(worker::binary().unwrap());
    let echo = lab.spawn_in(ns, command.arg("echo")).await.unwrap();
    echo.wait_log("GUEST UP", DEADLINE).await.unwrap();
    echo
}

fn packets(purpose: &str) -> String {
    format!("sum(limosa_flow_packets_total{{purpose=\"{purpose}\"}})")
}

#[test]
fn the_rules_are_right() {
    promtool(&["check", "rules"], None, true).unwrap();
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/src/prometheus/rules_test.yaml");
    promtool(&["test", "rules", tests], None, false).unwrap();
    let text = std::fs::read_to_string(tests).unwrap();
    let runbooks = include_str!("../../../docs/runbooks.md");
    for alert in rules::alerts().unwrap() {
        assert!(text.contains(&format!("- name: {alert}\n")), "{alert} has no test in rules_test.yaml");
        assert!(runbooks.contains(&format!("## {alert}\n")), "{alert} has no section in docs/runbooks.md");
    }
}

/// Nothing else is sent in this lab, so the numbers are equal: a flow counts each packet once. Only at the moment when the
/// gate opens it is the sum that is: Open vSwitch counts what the gate has just dropped for the flow that took its place.
#[tokio::test]
async fn every_packet_is_counted_and_every_panel_has_something_to_show() {
    let (lab, limosa, source) = stage().await;
    let prometheus = Prometheus::start(&lab, &rules::files().unwrap()).await.unwrap();
    let source_echo = echo_in(&lab, &source.ns).await;
    fill(&lab, "ch1", "vm1", 30).await.unwrap();
    let target = to_armed(&lab, &limosa, "m", "ch1", "ch2").await;
    let _target_echo = echo_in(&lab, &target.ns).await;
    prometheus.wait_for("max(limosa_migrations{phase=\"Armed\"})", |armed| armed == 1.0).await.unwrap();
    // Something is wiped, and comes back.
    let controller = lab.daemon("ch2", Daemon::OvnController);
    controller.kill9().await.unwrap();
    controller.start().await.unwrap();
    lab.sync().await.unwrap();
    prometheus.wait_for("sum(limosa_agent_wipe_recovery_seconds_count)", |count| count >= 1.0).await.unwrap();
    limosa.wait(&lab, "m", "armed").await.unwrap();

    // Behind the gate.
    let prober = Prober::start(&lab, PEER.0, GUEST, 200).await.unwrap();
    prometheus.wait_for(&packets("gate_mirrored"), |held| held > 0.0).await.unwrap();
    let held = prober.finish().await.unwrap().sent.len() as f64;
    for purpose in ["mirror", "take", "gate_mirrored"] {
        prometheus.wait_for(&packets(purpose), |packets| packets == held).await.unwrap();
    }
    // The gate opens while packets come, and OVN does not take over.
    controller.pause().unwrap();
    let prober = Prober::start(&lab, PEER.0, GUEST, 200).await.unwrap();
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    limosa.wait(&lab, "m", "activated").await.unwrap();
    let during = panels_now(&prometheus).await;
    prometheus.wait_for(&packets("divert_in"), |diverted| diverted > 0.0).await.unwrap();
    let sent = held + prober.finish().await.unwrap().sent.len() as f64;
    for purpose in ["mirror", "take"] {
        prometheus.wait_for(&packets(purpose), |packets| packets == sent).await.unwrap();
    }
    let delivered = format!("{} + {}", packets("divert_in"), packets("gate_mirrored"));
    prometheus.wait_for(&delivered, |packets| packets == sent).await.unwrap();
    // What the guest sends goes through the source, after its announcement.
    let turned_back = format!("{} - {}", packets("reverse"), packets("divert_out"));
    prometheus.wait_for(&turned_back, |announcements| announcements == 1.0).await.unwrap();

    // Only the target's guest runs, and is served by way of the source: so many there, so many back.
    source_echo.kill(Signal::KILL).unwrap();
    let value = async |purpose| prometheus.value(&packets(purpose)).await.unwrap().unwrap();
    let (diverted, answered) = (value("divert_in").await, value("divert_out").await);
    let prober = Prober::start(&lab, PEER.0, GUEST, 200).await.unwrap();
    prometheus.wait_for(&packets("divert_in"), |packets| packets > diverted).await.unwrap();
    let probe = prober.finish().await.unwrap();
    assert_eq!(probe.arrivals.len(), probe.sent.len());
    let before = [
        ("mirror", sent),
        ("take", sent),
        ("divert_in", diverted),
        ("divert_out", answered),
        ("reverse", answered + 1.0),
    ];
    for (purpose, before) in before {
        let expected = before + probe.sent.len() as f64;
        prometheus.wait_for(&packets(purpose), |packets| packets == expected).await.unwrap();
    }
    assert_eq!(value("announce").await, 1.0);
    for unused in ["gate_out", "gate_direct", "relay"] {
        assert_eq!(value(unused).await, 0.0, "{unused}");
    }

    controller.resume().unwrap();
    limosa.wait(&lab, "m", "released").await.unwrap();
    source.remove(&lab).await.unwrap();
    let object = limosa.wait(&lab, "m", "completed").await.unwrap();
    let completed = "sum(limosa_migrations_ended_total{outcome=\"Completed\"})";
    prometheus.wait_for(completed, |ended| ended == 1.0).await.unwrap();
    let carried = object.connections("ch1")["carried"].as_f64().unwrap();
    // Those of UDP may be over by now.
    assert!(carried >= 20.0, "{carried}");
    let connections = "sum(limosa_agent_connections_total{outcome=\"carried\"})";
    prometheus.wait_for(connections, |connections| connections == carried).await.unwrap();
    for once in ["announcements_total", "activation_seconds_count", "silence_seconds_count"] {
        prometheus.wait_for(&format!("sum(limosa_agent_{once})"), |count| count == 1.0).await.unwrap();
    }

    panels_have_data(&prometheus, during).await;
    assert_eq!(prometheus.broken_rules().await.unwrap(), [""; 0]);
    let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").await.unwrap();
    assert!(firing.is_empty(), "{firing:?}");
    the_format_is_right(&lab).await;
    every_step_is_logged_once(&limosa);
}

/// Every query, and whether it has a number for an answer.
async fn panels_now(prometheus: &Prometheus<'_>) -> Vec<(Panel, bool)> {
    let variables = BTreeMap::from([
        ("chassis", "ch2"),
        ("instance", "127.0.0.1:9677"),
        ("source", "ch1"),
        ("source_instance", "127.0.0.1:9676"),
        ("target", "ch2"),
        ("target_instance", "127.0.0.1:9677"),
    ]);
    let mut answered = Vec::new();
    for panel in panels(&variables).unwrap() {
        let samples = prometheus.query(&panel.expression).await.unwrap();
        let has_data = samples.iter().any(|sample| !sample.value.is_nan());
        answered.push((panel, has_data));
    }
    answered
}

async fn panels_have_data(prometheus: &Prometheus<'_>, during: Vec<(Panel, bool)>) {
    assert!(during.len() > 60, "{}", during.len());
    let after = panels_now(prometheus).await;
    let empty = during.into_iter().zip(after).filter(|((_, during), (_, after))| !during && !after);
    for ((panel, _), _) in empty {
        assert!(panel.expression.contains(OF_KUBEVIRT), "shows nothing: {panel:?}");
    }
}

async fn the_format_is_right(lab: &Lab) {
    for place in ["ch1", CENTRAL] {
        let address = Limosa::metrics_of(lab, place);
        let metrics = get(lab, &format!("http://{address}/metrics")).await.unwrap();
        let file = lab.dir().join("metrics.txt");
        std::fs::write(&file, &metrics).unwrap();
        assert_eq!(promtool(&["check", "metrics"], Some(&file), false).unwrap(), "", "{place}");
        for page in ["healthz", "readyz"] {
            assert_eq!(get(lab, &format!("http://{address}/{page}")).await.unwrap(), "ok\n");
        }
    }
}

/// In JSON, as these programs were told to.
fn every_step_is_logged_once(limosa: &Limosa) {
    let said = |log: String| -> Vec<(String, String)> {
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is an object"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.map(|line| (text(&line["span"]["migration"]), text(&line["message"]))).collect()
    };
    let controller = said(limosa.controller().unwrap().log());
    let target = said(limosa.agent("ch2").unwrap().log());
    let phases = ["Pinning", "Arming", "Armed", "Activated", "Bound", "Switched", "Released", "Completed"];
    let steps = ["Armed", "Activated", "Bound", "Opened", "Switched", "Cleaned"];
    for (log, lines) in [(&controller, &phases[..]), (&target, &steps[..])] {
        for step in lines {
            let of_step = |(migration, message): &&(String, String)| {
                migration == "m" && message.split(':').next() == Some(step)
            };
            assert_eq!(log.iter().filter(of_step).count(), 1, "{step}: {log:#?}");
        }
    }
}
