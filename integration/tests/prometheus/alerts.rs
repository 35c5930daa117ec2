//! Every alert fires when what it warns of has happened: all of them on one lab,
//! with rules in which a minute is a second.

use limosa_lab::connections::fill;
use limosa_lab::prometheus::{Prometheus, rules};
use limosa_lab::{CENTRAL, Daemon, worker};
use rustix::process::Signal;

use super::{DEADLINE, GUEST_MAC, stage, to_armed};

#[tokio::test]
async fn every_alert_fires() {
    let (lab, limosa, source) = stage().await;
    let rules = rules::in_seconds(lab.dir()).unwrap();
    let prometheus = Prometheus::start(&lab, &rules).await.unwrap();
    let fired = async |names: &[&str]| prometheus.wait_for_alerts(names).await.unwrap();
    prometheus.wait_for("sum(up)", |up| up == 4.0).await.unwrap();

    // A target whose flows are lost while OVN's are not there either.
    let target = to_armed(&lab, &limosa, "m1", "ch1", "ch2").await;
    let controller = lab.daemon("ch2", Daemon::OvnController);
    controller.kill9().await.unwrap();
    lab.ofctl("ch2", "del-flows", &[]).await.unwrap();
    fired(&["LimosaFlowsNotRecovered"]).await;
    controller.start().await.unwrap();
    prometheus.wait_for("sum(limosa_agent_flows_missing)", |missing| missing == 0.0).await.unwrap();
    // A CNI that has ideas of its own.
    let options = ["lsp-set-options", "vm1", "requested-chassis=ch1", "activation-strategy=rarp"];
    lab.nbctl(&options).await.unwrap();
    // A guest behind the gate; and one that is there and was not heard, while a chassis is slow.
    let binary = worker::binary().unwrap();
    let talk = format!(
        "for i in $(seq 300); do {} rarp --iface eth0 --mac 02:00:00:00:01:02; sleep 0.1; done",
        binary.display()
    );
    let mut shell = std::process::Command::new("sh");
    let talker = lab.spawn_in(&target.ns, shell.args(["-c", &talk])).await.unwrap();
    fired(&["LimosaPortContested", "LimosaGateClosedTooLong"]).await;
    talker.kill(Signal::KILL).unwrap();
    let slow = lab.daemon("ch3", Daemon::OvnController);
    slow.pause().unwrap();
    source.remove(&lab).await.unwrap();
    fired(&["LimosaGuestNotHeard", "LimosaBarrierMissed", "LimosaFallbackUsed"]).await;
    slow.resume().unwrap();
    limosa.wait(&lab, "m1", "completed").await.unwrap();

    // Connections that cannot be carried, on the way back.
    fill(&lab, "ch2", "vm1", 30).await.unwrap();
    lab.appctl("ch2", Daemon::Vswitchd, &["dpctl/ct-enable-tcp-seq-chk"]).await.unwrap();
    let back = to_armed(&lab, &limosa, "m2", "ch2", "ch1").await;
    lab.send_rarp(&back.ns, GUEST_MAC).await.unwrap();
    limosa.wait(&lab, "m2", "released").await.unwrap();
    fired(&["LimosaConnectionsLeftBehind"]).await;
    target.remove(&lab).await.unwrap();
    limosa.wait(&lab, "m2", "completed").await.unwrap();

    // A target without an agent.
    let agent = limosa.agent("ch3").unwrap();
    agent.kill(Signal::KILL).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();
    let args = ["vm1", "--from", "ch1", "--to", "ch3", "--name", "m3", "--wait=arming", "--timeout", "30"];
    limosa.object(&lab, "migrate", &args).await.unwrap();
    fired(&["LimosaAgentDown", "LimosaAgentMissing", "LimosaAgentSilent", "LimosaMigrationStuck"]).await;
    // Its object is lost, and another cannot be read.
    let store = lab.outside(limosa.store());
    std::fs::remove_file(store.join("m3.json")).unwrap();
    std::fs::write(store.join("broken.json"), "{").unwrap();
    fired(&["LimosaOptionsLeftBehind", "LimosaStoreUnreadable"]).await;

    lab.daemon(CENTRAL, Daemon::SbDb).stop().await.unwrap();
    fired(&["LimosaDisconnected"]).await;
    limosa.controller().unwrap().kill(Signal::KILL).unwrap();
    fired(&["LimosaNoController"]).await;

    let all = rules::alerts().unwrap();
    fired(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
}
