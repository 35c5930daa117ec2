//! `limosa check`: every finding, provoked on the real thing.

use std::path::PathBuf;
use std::process::Command;

use limosa_lab::demo::Limosa;
use limosa_lab::{CENTRAL, Daemon};
use rustix::process::Signal;
use serde_json::Value;

use super::{DEADLINE, Stage, eventually};

/// The checks that failed; the exit status says whether any did.
pub(super) async fn failed(stage: &Stage, ns: &str, args: &[&str]) -> Vec<String> {
    findings(stage, ns, args)
        .await
        .into_iter()
        .filter(|(_, verdict)| verdict == "failed")
        .map(|(name, _)| name)
        .collect()
}

/// The checks that failed or warn, by name.
async fn findings(stage: &Stage, ns: &str, args: &[&str]) -> Vec<(String, String)> {
    let (fine, report) = stage.json(ns, args).await;
    let checks = report["checks"].as_array().unwrap();
    let found: Vec<_> = checks
        .iter()
        .map(|check| {
            (check["name"].as_str().unwrap().to_owned(), check["verdict"].as_str().unwrap().to_owned())
        })
        .filter(|(_, verdict)| verdict != "ok" && verdict != "skipped")
        .collect();
    let unhelpful = |check: &&Value| check["verdict"] == "failed" && check["hint"].is_null();
    assert!(!checks.iter().any(|check| unhelpful(&check)), "a finding without a hint: {report:#}");
    assert_eq!(fine, !found.iter().any(|(_, verdict)| verdict == "failed"), "{report:#}");
    found
}

/// Asserts, as soon as it holds, that this and nothing else is found.
async fn finds(stage: &Stage, ns: &str, args: &[&str], expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    eventually(async || {
        let found = findings(stage, ns, args).await;
        if found == expected { Ok(()) } else { Err((found, &expected)) }
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_cluster() {
    let mut stage = Stage::new(2).await;
    let (nb, sb) = (stage.lab.nb(), stage.lab.sb());
    let cluster = ["check", "--nb", &nb, "--sb", &sb];
    let check =
        async |stage: &Stage, expected: &[(&str, &str)]| finds(stage, CENTRAL, &cluster, expected).await;
    let lab = &stage.lab;
    // `limosa migrate` makes the store; here nobody has yet.
    check(&stage, &[("store", "failed")]).await;
    stage.limosa.ask(lab, "m0", "nothing", "ch1", "ch2").await.unwrap();
    check(&stage, &[]).await;

    let set = async |chassis: &str, id: &str| lab.vsctl(chassis, &["set", "open", ".", id]).await.unwrap();
    set("ch2", "external_ids:hostname=ch1").await;
    check(&stage, &[("hostnames", "failed")]).await;
    set("ch2", "external_ids:hostname=ch2").await;
    set("ch2", "external_ids:ovn-encap-type=vxlan").await;
    check(&stage, &[("encapsulation", "failed")]).await;
    set("ch2", "external_ids:ovn-encap-type=geneve").await;
    check(&stage, &[]).await;

    lab.nbctl(&["lsp-set-options", "vm1", "requested-chassis=ch1,ch2"]).await.unwrap();
    check(&stage, &[("conflicts", "warning")]).await;
    lab.nbctl(&["lsp-set-options", "vm1"]).await.unwrap();
    lab.nbctl(&["set", "logical_switch_port", "vm1", "external_ids:limosa-migration=m0"]).await.unwrap();
    check(&stage, &[("pins", "failed")]).await;
    lab.nbctl(&["remove", "logical_switch_port", "vm1", "external_ids", "limosa-migration"]).await.unwrap();

    let northd = lab.daemon(CENTRAL, Daemon::Northd);
    northd.pause().unwrap();
    lab.nbctl(&["set", "nb_global", ".", "nb_cfg=100000"]).await.unwrap();
    check(&stage, &[("ovn-northd", "failed"), ("ovn-controllers", "failed")]).await;
    northd.resume().unwrap();
    let controller = lab.daemon("ch2", Daemon::OvnController);
    lab.sync().await.unwrap();
    controller.pause().unwrap();
    lab.nbctl(&["--wait=sb", "sync"]).await.unwrap();
    check(&stage, &[("ovn-controllers", "failed")]).await;
    controller.resume().unwrap();
    check(&stage, &[]).await;

    for (daemon, name) in [(Daemon::NbDb, "northbound"), (Daemon::SbDb, "southbound")] {
        lab.daemon(CENTRAL, daemon).stop().await.unwrap();
        check(&stage, &[(name, "failed")]).await;
        lab.daemon(CENTRAL, daemon).start().await.unwrap();
    }
    check(&stage, &[]).await;

    let broken = lab.outside(&stage.limosa.store().join("broken.json"));
    std::fs::write(&broken, "{").unwrap();
    check(&stage, &[("store", "failed")]).await;
    std::fs::remove_file(&broken).unwrap();

    let agent = stage.limosa.agent("ch2").unwrap();
    agent.kill(Signal::KILL).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();
    let wait = ["vm1", "--from", "ch1", "--to", "ch2", "--name", "m1", "--wait=arming", "--timeout", "30"];
    stage.limosa.object(lab, "migrate", &wait).await.unwrap();
    check(&stage, &[("agents", "failed")]).await;
    stage.limosa.start_agent(&stage.lab, "ch2").await.unwrap();
    check(&stage, &[]).await;

    let controller = stage.limosa.controller().unwrap();
    controller.kill(Signal::KILL).unwrap();
    controller.wait_exit(DEADLINE).await.unwrap();
    stage.limosa.ask(&stage.lab, "m2", "vm1", "ch1", "ch2").await.unwrap();
    check(&stage, &[("controller", "failed")]).await;
    let said = stage.text(CENTRAL, &["abort", "m1"]).await;
    assert!(said.contains("what stands of gate and mirror is taken away"), "{said}");
    stage.limosa.start_controller(&stage.lab).await.unwrap();
    check(&stage, &[]).await;
}

/// A database of OVN 22.03, as far as the check goes.
#[tokio::test]
async fn an_ovn_that_is_too_old() {
    let stage = Stage::new(1).await;
    stage.limosa.ask(&stage.lab, "m0", "nothing", "ch1", "ch2").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let schema = std::fs::read_to_string("/usr/share/ovn/ovn-sb.ovsschema").unwrap();
    let mut schema: Value = serde_json::from_str(&schema).unwrap();
    schema["tables"]["Port_Binding"]["columns"]
        .as_object_mut()
        .unwrap()
        .remove("additional_chassis")
        .unwrap();
    let file = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::write(file("schema"), schema.to_string()).unwrap();
    let made = Command::new("ovsdb-tool").args(["create", &file("db"), &file("schema")]).status().unwrap();
    assert!(made.success());
    let mut server = Command::new("ovsdb-server");
    server.args([&file("db"), &format!("--remote=punix:{}", file("sock"))]);
    server.args([&format!("--unixctl={}", file("ctl")), "--no-chdir"]);
    let server = stage.lab.spawn_in(CENTRAL, &server).await.unwrap();
    let (nb, sb) = (stage.lab.nb(), format!("unix:{}", file("sock")));
    finds(&stage, CENTRAL, &["check", "--nb", &nb, "--sb", &sb], &[("ovn-version", "failed")]).await;
    server.kill(Signal::TERM).unwrap();
    server.wait_exit(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_chassis() {
    let stage = Stage::new(2).await;
    let lab = &stage.lab;
    stage.limosa.ask(lab, "m0", "nothing", "ch1", "ch2").await.unwrap();
    let rundir: PathBuf = lab.chassis("ch1").ovs_rundir().to_owned();
    let dir = rundir.to_string_lossy().into_owned();
    let node = ["check", "--node", "--ovs-rundir", &dir];
    let check = async |expected: &[(&str, &str)]| finds(&stage, "ch1", &node, expected).await;
    check(&[]).await;

    // The agent's own word, at its metrics.
    let asked = [&node[..], &["--agent", "127.0.0.1:9675"]].concat();
    finds(&stage, "ch1", &asked, &[("agent", "failed")]).await;
    let mut command = Command::new(Limosa::binary().unwrap());
    command.args([
        "agent",
        "--metrics-listen",
        "0.0.0.0:9675",
        "--chassis",
        "ch1",
        "--ovs-rundir",
        &dir,
        "--store",
    ]);
    let agent = lab.spawn_in("ch1", command.arg(stage.limosa.store())).await.unwrap();
    finds(&stage, "ch1", &asked, &[]).await;
    agent.kill(Signal::TERM).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();

    lab.vsctl("ch1", &["set", "interface", "br-phy", "mtu_request=1500"]).await.unwrap();
    check(&[("mtu", "warning")]).await;
    lab.vsctl("ch1", &["set", "interface", "br-phy", "mtu_request=1700"]).await.unwrap();
    lab.appctl("ch1", Daemon::Vswitchd, &["dpctl/ct-enable-tcp-seq-chk"]).await.unwrap();
    check(&[("sequence-checks", "warning")]).await;
    lab.appctl("ch1", Daemon::Vswitchd, &["dpctl/ct-disable-tcp-seq-chk"]).await.unwrap();

    let set = async |chassis: &str, id: &str| lab.vsctl(chassis, &["set", "open", ".", id]).await.unwrap();
    // Without a tunnel of geneve OVN's tables may be found no more, which is true as well.
    for (here, there) in [("vxlan", "geneve"), ("\"geneve,vxlan\"", "vxlan")] {
        set("ch1", &format!("external_ids:ovn-encap-type={here}")).await;
        set("ch2", &format!("external_ids:ovn-encap-type={there}")).await;
        eventually(async || {
            let failed = failed(&stage, "ch1", &node).await;
            if failed.first().is_some_and(|name| name == "encapsulation") { Ok(()) } else { Err(failed) }
        })
        .await;
    }
    // A chassis that has nothing in common with this one gets no tunnel.
    set("ch1", "external_ids:ovn-encap-type=geneve").await;
    eventually(async || {
        let found = findings(&stage, "ch1", &node).await;
        if found.contains(&("encapsulation".to_owned(), "warning".to_owned())) { Ok(()) } else { Err(found) }
    })
    .await;
    set("ch2", "external_ids:ovn-encap-type=geneve").await;
    check(&[]).await;

    let controller = lab.daemon("ch1", Daemon::OvnController);
    controller.kill9().await.unwrap();
    lab.ofctl("ch1", "del-flows", &[]).await.unwrap();
    check(&[("tables", "failed")]).await;
    lab.ofctl("ch1", "del-tlv-map", &[]).await.unwrap();
    check(&[("tables", "failed"), ("geneve-option", "failed")]).await;
    controller.start().await.unwrap();
    check(&[]).await;

    let mgmt = lab.outside(&rundir.join("br-int.mgmt"));
    let aside = mgmt.with_extension("aside");
    std::fs::rename(&mgmt, &aside).unwrap();
    check(&[("bridge", "failed")]).await;
    std::fs::rename(&aside, &mgmt).unwrap();
    check(&[]).await;

    // ovn-controller would make the bridge that is named.
    controller.pause().unwrap();
    set("ch1", "external_ids:ovn-bridge=br-other").await;
    check(&[("bridge", "failed")]).await;
    lab.vsctl("ch1", &["remove", "open", ".", "external_ids", "ovn-bridge"]).await.unwrap();
    controller.resume().unwrap();
    lab.daemon("ch1", Daemon::OvsDb).stop().await.unwrap();
    check(&[("local-database", "failed")]).await;
    lab.daemon("ch1", Daemon::OvsDb).start().await.unwrap();
}
