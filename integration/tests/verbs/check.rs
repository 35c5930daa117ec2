//! `limosa check`: every finding, provoked on the real thing.

use std::path::{Path, PathBuf};
use std::process::Command;

use limosa_lab::demo::Limosa;
use limosa_lab::{CENTRAL, Daemon, LabProcess};
use rustix::process::Signal;
use serde_json::Value;

use super::findings::*;
use super::{DEADLINE, Stage, eventually};

/// What was found, once it is what is expected: this and nothing else, in the order of the checks.
pub(super) async fn finds(stage: &Stage, ns: &str, args: &[&str], expected: &[Finding]) {
    eventually(async || {
        let found = findings(stage, ns, args).await;
        compare(&found.iter().collect::<Vec<_>>(), expected)
    })
    .await;
}

/// The checks that failed or warn. The exit status says whether any failed, and each that did has a hint.
async fn findings(stage: &Stage, ns: &str, args: &[&str]) -> Vec<Value> {
    let (fine, mut report) = stage.json(ns, args).await;
    let Value::Array(mut found) = report["checks"].take() else { panic!("no checks: {report:#}") };
    found.retain(|check| check["verdict"] != "ok" && check["verdict"] != "skipped");
    assert!(found.iter().all(|check| check["hint"].is_string()), "a finding without a hint: {found:#?}");
    assert_eq!(fine, !found.iter().any(|check| check["verdict"] == "failed"), "{found:#?}");
    found
}

#[tokio::test]
async fn what_is_wrong_with_a_cluster() {
    let mut stage = Stage::new(2).await;
    let (nb, sb) = (stage.lab.nb(), stage.lab.sb());
    let cluster = ["check", "--nb", &nb, "--sb", &sb];
    let check = async |stage: &Stage, expected: &[Finding]| finds(stage, CENTRAL, &cluster, expected).await;
    let lab = &stage.lab;
    // `limosa migrate` makes the store; here nobody has yet.
    check(&stage, &[NO_STORE]).await;
    stage.limosa.ask(lab, "m0", "nothing", "ch1", "ch2").await.unwrap();
    check(&stage, &[]).await;

    let set = async |chassis: &str, id: &str| lab.vsctl(chassis, &["set", "open", ".", id]).await.unwrap();
    set("ch2", "external_ids:hostname=ch1").await;
    check(&stage, &[ONE_HOSTNAME]).await;
    set("ch2", "external_ids:hostname=ch2").await;
    set("ch2", "external_ids:ovn-encap-type=vxlan").await;
    check(&stage, &[CHASSIS_WITHOUT_GENEVE]).await;
    set("ch2", "external_ids:ovn-encap-type=geneve").await;
    check(&stage, &[]).await;

    lab.nbctl(&["lsp-set-options", "vm1", "requested-chassis=ch1,ch2"]).await.unwrap();
    check(&stage, &[MIGRATED_OTHERWISE]).await;
    lab.nbctl(&["lsp-set-options", "vm1"]).await.unwrap();
    lab.nbctl(&["set", "logical_switch_port", "vm1", "external_ids:limosa-migration=m0"]).await.unwrap();
    check(&stage, &[LEFT_PINNED]).await;
    lab.nbctl(&["remove", "logical_switch_port", "vm1", "external_ids", "limosa-migration"]).await.unwrap();

    let northd = lab.daemon(CENTRAL, Daemon::Northd);
    northd.pause().unwrap();
    lab.nbctl(&["set", "nb_global", ".", "nb_cfg=100000"]).await.unwrap();
    check(&stage, &[NORTHD_BEHIND, CHASSIS_BEHIND]).await;
    northd.resume().unwrap();
    let controller = lab.daemon("ch2", Daemon::OvnController);
    lab.sync().await.unwrap();
    controller.pause().unwrap();
    lab.nbctl(&["--wait=sb", "sync"]).await.unwrap();
    check(&stage, &[CHASSIS_BEHIND]).await;
    controller.resume().unwrap();
    check(&stage, &[]).await;

    for (daemon, finding) in [(Daemon::NbDb, NO_NORTHBOUND), (Daemon::SbDb, NO_SOUTHBOUND)] {
        lab.daemon(CENTRAL, daemon).stop().await.unwrap();
        check(&stage, &[finding]).await;
        lab.daemon(CENTRAL, daemon).start().await.unwrap();
    }
    check(&stage, &[]).await;

    let broken = lab.outside(&stage.limosa.store().join("broken.json"));
    std::fs::write(&broken, "{").unwrap();
    check(&stage, &[UNREADABLE]).await;
    std::fs::remove_file(&broken).unwrap();

    let agent = stage.limosa.agent("ch2").unwrap();
    agent.kill(Signal::KILL).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();
    let wait = ["vm1", "--from", "ch1", "--to", "ch2", "--name", "m1", "--wait=arming", "--timeout", "30"];
    stage.limosa.object(lab, "migrate", &wait).await.unwrap();
    check(&stage, &[SILENT_AGENT]).await;
    stage.limosa.start_agent(&stage.lab, "ch2").await.unwrap();
    check(&stage, &[]).await;

    let controller = stage.limosa.controller().unwrap();
    controller.kill(Signal::KILL).unwrap();
    controller.wait_exit(DEADLINE).await.unwrap();
    stage.limosa.ask(&stage.lab, "m2", "vm1", "ch1", "ch2").await.unwrap();
    check(&stage, &[NO_CONTROLLER]).await;
    let said = stage.text(CENTRAL, &["abort", "m1"]).await;
    assert!(said.contains("what stands of gate and mirror is taken away"), "{said}");
    stage.limosa.start_controller(&stage.lab).await.unwrap();
    check(&stage, &[]).await;
}

/// Serves a new database of this schema, until it is told to end.
async fn serve(stage: &Stage, dir: &Path, schema: &str) -> (String, LabProcess) {
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    std::fs::write(file("schema"), schema).unwrap();
    let made = Command::new("ovsdb-tool").args(["create", &file("db"), &file("schema")]).status().unwrap();
    assert!(made.success());
    let mut server = Command::new("ovsdb-server");
    server.args([&file("db"), &format!("--remote=punix:{}", file("sock"))]);
    server.args([&format!("--unixctl={}", file("ctl")), "--no-chdir"]);
    (format!("unix:{}", file("sock")), stage.lab.spawn_in(CENTRAL, &server).await.unwrap())
}

/// A southbound database of OVN 22.03, as far as the check goes, and a northbound one that nobody has initialised.
#[tokio::test]
async fn databases_that_are_too_old_or_too_new() {
    let stage = Stage::new(1).await;
    stage.limosa.ask(&stage.lab, "m0", "nothing", "ch1", "ch2").await.unwrap();
    let schema = |name: &str| std::fs::read_to_string(format!("/usr/share/ovn/{name}.ovsschema")).unwrap();
    let mut old: Value = serde_json::from_str(&schema("ovn-sb")).unwrap();
    let columns = old["tables"]["Port_Binding"]["columns"].as_object_mut().unwrap();
    columns.remove("additional_chassis").unwrap();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (old, old_server) = serve(&stage, dirs[0].path(), &old.to_string()).await;
    let (new, new_server) = serve(&stage, dirs[1].path(), &schema("ovn-nb")).await;
    finds(&stage, CENTRAL, &["check", "--nb", &stage.lab.nb(), "--sb", &old], &[OLD_OVN]).await;
    finds(&stage, CENTRAL, &["check", "--nb", &new, "--sb", &stage.lab.sb()], &[NO_NB_GLOBAL]).await;
    for server in [old_server, new_server] {
        server.kill(Signal::TERM).unwrap();
        server.wait_exit(DEADLINE).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_chassis() {
    let stage = Stage::new(2).await;
    let lab = &stage.lab;
    stage.limosa.ask(lab, "m0", "nothing", "ch1", "ch2").await.unwrap();
    let rundir: PathBuf = lab.chassis("ch1").ovs_rundir().to_owned();
    let dir = rundir.to_string_lossy().into_owned();
    let node = ["check", "--node", "--ovs-rundir", &dir];
    let check = async |expected: &[Finding]| finds(&stage, "ch1", &node, expected).await;
    check(&[]).await;

    // The agent's own word, at its metrics.
    let asked = [&node[..], &["--agent", "127.0.0.1:9675"]].concat();
    finds(&stage, "ch1", &asked, &[NO_AGENT]).await;
    let mut command = Command::new(Limosa::binary().unwrap());
    command.args(["agent", "--metrics-listen", "0.0.0.0:9675", "--chassis", "ch1", "--ovs-rundir", &dir]);
    command.arg("--store").arg(stage.limosa.store());
    let agent = lab.spawn_in("ch1", &command).await.unwrap();
    finds(&stage, "ch1", &asked, &[]).await;
    stage.limosa.pause(&agent).await.unwrap();
    finds(&stage, "ch1", &asked, &[AGENT_HANGS]).await;
    agent.kill(Signal::KILL).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();

    lab.vsctl("ch1", &["set", "interface", "br-phy", "mtu_request=1500"]).await.unwrap();
    check(&[NO_ROOM]).await;
    lab.vsctl("ch1", &["set", "interface", "br-phy", "mtu_request=1700"]).await.unwrap();
    lab.appctl("ch1", Daemon::Vswitchd, &["dpctl/ct-enable-tcp-seq-chk"]).await.unwrap();
    check(&[SEQUENCE_CHECKS]).await;
    lab.appctl("ch1", Daemon::Vswitchd, &["dpctl/ct-disable-tcp-seq-chk"]).await.unwrap();

    let set = async |chassis: &str, id: &str| lab.vsctl(chassis, &["set", "open", ".", id]).await.unwrap();
    // Without a tunnel of geneve OVN's tables may be found no more, which is true as well.
    let first = async |expected: Finding| {
        eventually(async || {
            let found = findings(&stage, "ch1", &node).await;
            compare(&found.iter().take(1).collect::<Vec<_>>(), &[expected])
        })
        .await;
    };
    for (here, there, finding) in
        [("vxlan", "geneve", OFFERS_NO_GENEVE), ("\"geneve,vxlan\"", "vxlan", TUNNELS_WITHOUT_OPTIONS)]
    {
        set("ch1", &format!("external_ids:ovn-encap-type={here}")).await;
        set("ch2", &format!("external_ids:ovn-encap-type={there}")).await;
        first(finding).await;
    }
    // A chassis that has nothing in common with this one gets no tunnel.
    set("ch1", "external_ids:ovn-encap-type=geneve").await;
    first(NO_TUNNEL).await;
    set("ch2", "external_ids:ovn-encap-type=geneve").await;
    check(&[]).await;

    let controller = lab.daemon("ch1", Daemon::OvnController);
    controller.kill9().await.unwrap();
    lab.ofctl("ch1", "del-flows", &[]).await.unwrap();
    check(&[NO_TABLES]).await;
    lab.ofctl("ch1", "del-tlv-map", &[]).await.unwrap();
    check(&[NO_TABLES, NO_OPTION]).await;
    controller.start().await.unwrap();
    check(&[]).await;

    let mgmt = lab.outside(&rundir.join("br-int.mgmt"));
    let aside = mgmt.with_extension("aside");
    std::fs::rename(&mgmt, &aside).unwrap();
    check(&[NO_BRIDGE]).await;
    // An agent that does not find its switch; and what the database says of one that does not answer.
    let agent = lab.spawn_in("ch1", &command).await.unwrap();
    finds(&stage, "ch1", &asked, &[AGENT_NOT_READY, NO_BRIDGE]).await;
    for (noted, finding) in [("2.17.9", OLD_SWITCH), ("something", STRANGE_SWITCH)] {
        lab.vsctl("ch1", &["set", "open", ".", &format!("ovs_version={noted}")]).await.unwrap();
        finds(&stage, "ch1", &asked, &[AGENT_NOT_READY, finding, NO_BRIDGE]).await;
    }
    std::fs::rename(&aside, &mgmt).unwrap();
    // What the switch says of itself counts.
    finds(&stage, "ch1", &asked, &[]).await;
    lab.vsctl("ch1", &["clear", "open", ".", "ovs_version"]).await.unwrap();
    agent.kill(Signal::TERM).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();

    // ovn-controller would make the bridge that is named.
    controller.pause().unwrap();
    set("ch1", "external_ids:ovn-bridge=br-other").await;
    check(&[NO_BRIDGE]).await;
    lab.vsctl("ch1", &["remove", "open", ".", "external_ids", "ovn-bridge"]).await.unwrap();
    controller.resume().unwrap();
    lab.daemon("ch1", Daemon::OvsDb).stop().await.unwrap();
    check(&[NO_LOCAL_DATABASE]).await;
    lab.daemon("ch1", Daemon::OvsDb).start().await.unwrap();
}
