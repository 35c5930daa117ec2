//! What somebody achieves who has an agent's rights on the store and lies.

use std::path::PathBuf;

use limosa_lab::Lab;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{CENTRAL, DEADLINE, GUEST, Limosa, Stage, eventually};

/// Everything that an agent can ever claim.
const STEPS: [&str; 8] =
    ["Armed", "Activated", "Bound", "Carried", "Opened", "Switched", "Redirected", "Cleaned"];

/// Claims steps for a chassis, on top of what its agent has said.
fn lie(stage: &Stage, chassis: &str, role: &str, steps: &[&str]) {
    let object = stage.limosa.store().join("m.json");
    let file: PathBuf = stage.lab.outside(&object);
    let mut migration: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let node = &mut migration["status"]["nodes"][chassis];
    if node.is_null() {
        *node = json!({ "role": role });
    }
    for step in steps {
        node["steps"][*step] = json!("2026-01-01T00:00:00Z");
    }
    let new = file.with_extension("lie");
    std::fs::write(&new, migration.to_string()).unwrap();
    std::fs::rename(new, file).unwrap();
}

async fn answers(lab: &Lab, peer: &str) -> Result<(), String> {
    let ping = ["busybox", "ping", "-c", "1", "-W", "1", GUEST];
    lab.exec_in(peer, &ping).await.map(drop).map_err(|error| format!("{peer}: {error:#}"))
}

async fn come_back(stage: &Stage) {
    let (binary, store) = (Limosa::binary().unwrap(), stage.limosa.store().to_string_lossy().into_owned());
    let back = [binary.to_str().unwrap(), "return", "m", "--yes", "--store", &store];
    stage.lab.exec_in(CENTRAL, &back).await.unwrap();
}

/// Nobody contradicts: the agents of both sides are dead. What OVN's databases do not confirm is not done.
#[tokio::test]
async fn lies_about_a_target_without_the_guests_interface_cost_the_guest_nothing() {
    let mut stage = Stage::new(3).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let options = stage.lab.port_options("vm1").await.unwrap();
    let ask = ["vm1", "--from", "ch1", "--to", "ch2", "--name", "m", "--wait=arming", "--timeout", "30"];
    stage.limosa.object(&stage.lab, "migrate", &ask).await.unwrap();
    for chassis in ["ch1", "ch2"] {
        let agent = stage.limosa.agent(chassis).unwrap();
        agent.kill(Signal::KILL).unwrap();
        agent.wait_exit(DEADLINE).await.unwrap();
    }
    lie(&stage, "ch1", "Source", &STEPS);
    lie(&stage, "ch2", "Target", &STEPS);
    lie(&stage, "ch3", "Bystander", &STEPS);
    stage.limosa.wait(&stage.lab, "m", "activated").await.unwrap();
    eventually(async || {
        let said = stage.refusal("wait", &["m", "--for", "bound", "--timeout", "0"]).await;
        if said.contains("waiting for ch2 to claim the port") { Ok(()) } else { Err(said) }
    })
    .await;
    stage.lab.sync().await.unwrap();
    assert_eq!(stage.lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch1"));
    for peer in ["p1-ch1", "p2-ch2", "p3-ch3"] {
        answers(&stage.lab, peer).await.unwrap();
    }
    // And it can be taken back.
    for chassis in ["ch1", "ch2"] {
        stage.limosa.start_agent(&stage.lab, chassis).await.unwrap();
    }
    come_back(&stage).await;
    assert_eq!(stage.limosa.wait(&stage.lab, "m", "rolledback").await.unwrap().phase(), "RolledBack");
    assert_eq!(stage.lab.port_options("vm1").await.unwrap(), options);
    answers(&stage.lab, "p3-ch3").await.unwrap();
    stage.assert_nothing_of_ours().await;
    stage.assert_others_are_well().await;
}
