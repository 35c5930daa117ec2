//! What somebody achieves who has an agent's rights on the store and lies, and who sends into other nodes' tunnels.

use std::path::PathBuf;

use limosa_lab::{Lab, ROOT};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{CENTRAL, DEADLINE, GUEST, GUEST_MAC, Limosa, Stage, eventually};

/// Everything that an agent can ever claim.
const STEPS: [&str; 9] =
    ["Armed", "Activated", "Bound", "Carried", "Held", "Opened", "Switched", "Redirected", "Cleaned"];

/// Writes whatever it likes of the status.
fn forge(stage: &Stage, change: impl FnOnce(&mut Value)) {
    let object = stage.limosa.store().join("m.json");
    let file: PathBuf = stage.lab.outside(&object);
    let mut migration: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut migration["status"]);
    let new = file.with_extension("lie");
    std::fs::write(&new, migration.to_string()).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Claims steps for a chassis, on top of what its agent has said.
fn lie(stage: &Stage, chassis: &str, role: &str, steps: &[&str]) {
    forge(stage, |status| {
        let node = &mut status["nodes"][chassis];
        if node.is_null() {
            *node = json!({ "role": role });
        }
        for step in steps {
            node["steps"][*step] = json!("2026-01-01T00:00:00Z");
        }
    });
}

/// Lies until it has brought the migration so far: what is written at the same time may take a lie's place.
async fn until(stage: &Stage, phase: &str, lie: impl AsyncFn()) {
    eventually(async || {
        lie().await;
        let wait = ["m", "--for", phase, "--timeout", "1"];
        stage.limosa.object(&stage.lab, "wait", &wait).await.map(drop).map_err(|error| format!("{error:#}"))
    })
    .await;
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

/// It has been taken back: the guest is served on the source, and nothing is left.
async fn assert_all_is_as_it_was(stage: &mut Stage, options: &str) {
    assert_eq!(stage.limosa.wait(&stage.lab, "m", "rolledback").await.unwrap().phase(), "RolledBack");
    assert_eq!(stage.lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch1"));
    assert_eq!(stage.lab.port_options("vm1").await.unwrap(), options);
    answers(&stage.lab, "p3-ch3").await.unwrap();
    stage.assert_nothing_of_ours().await;
    stage.assert_others_are_well().await;
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
    until(&stage, "activated", async || {
        lie(&stage, "ch1", "Source", &STEPS);
        lie(&stage, "ch2", "Target", &STEPS);
        lie(&stage, "ch3", "Bystander", &STEPS);
    })
    .await;
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
    assert_all_is_as_it_was(&mut stage, &options).await;
}

/// The target's interface is there, and somebody says that the guest runs behind it. The agent there knows better: its
/// gate stays shut, and the guest is served where it is.
#[tokio::test]
async fn a_lie_that_the_guest_has_moved_is_contradicted_by_the_targets_agent() {
    let mut stage = Stage::new(3).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let options = stage.lab.port_options("vm1").await.unwrap();
    let target = stage.to_armed("m").await;
    until(&stage, "activated", async || lie(&stage, "ch2", "Target", &["Activated"])).await;
    eventually(async || match stage.lab.port_options("vm1").await.unwrap() {
        options if options.contains("ch1,ch2") => Ok(()),
        other => Err(other),
    })
    .await;
    stage.lab.sync().await.unwrap();
    for peer in ["p1-ch1", "p2-ch2", "p3-ch3"] {
        answers(&stage.lab, peer).await.unwrap();
    }
    let said = stage.refusal("wait", &["m", "--for", "bound", "--timeout", "1"]).await;
    assert!(said.contains("Activated"), "{said}");

    come_back(&stage).await;
    target.remove(&stage.lab).await.unwrap();
    assert_all_is_as_it_was(&mut stage, &options).await;
}

/// Whoever holds the target's node as well has the guest cut off, as they could without Limosa: OVN gives the port to
/// where its interface is plugged. When that has gone, the guest is served again; and nobody else was ever concerned.
#[tokio::test]
async fn who_lies_and_holds_the_targets_node_cuts_off_that_guest_alone_until_its_interface_goes() {
    let mut stage = Stage::new(3).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let options = stage.lab.port_options("vm1").await.unwrap();
    let target = stage.to_armed("m").await;
    let agent = stage.limosa.agent("ch2").unwrap();
    agent.kill(Signal::KILL).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();
    until(&stage, "switched", async || lie(&stage, "ch2", "Target", &STEPS)).await;
    eventually(async || match answers(&stage.lab, "p3-ch3").await {
        Ok(()) => Err("the guest still answers"),
        Err(_) => Ok(()),
    })
    .await;
    let others = ["busybox", "ping", "-c", "1", "-W", "5", "192.168.7.21"];
    stage.lab.exec_in("p3-ch3", &others).await.unwrap();

    target.remove(&stage.lab).await.unwrap();
    stage.limosa.start_agent(&stage.lab, "ch2").await.unwrap();
    come_back(&stage).await;
    assert_all_is_as_it_was(&mut stage, &options).await;
}

/// What is to be written back is the controller's part of the status, which Kubernetes cannot keep an agent from. Forged, it
/// pins the port that is being moved to where it says, and no other.
#[tokio::test]
async fn a_forged_restore_pins_the_port_that_is_being_moved_and_no_other() {
    let mut stage = Stage::new(3).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let other = stage.lab.port_options("p3").await.unwrap();
    let target = stage.to_armed("m").await;
    // One that runs goes by what it has written itself.
    let controller = stage.limosa.controller().unwrap();
    controller.kill(Signal::KILL).unwrap();
    controller.wait_exit(DEADLINE).await.unwrap();
    forge(&stage, |status| status["restore"] = json!({ "requestedChassis": "ch3" }));
    stage.limosa.start_controller(&stage.lab).await.unwrap();
    come_back(&stage).await;
    target.remove(&stage.lab).await.unwrap();
    assert_eq!(stage.limosa.wait(&stage.lab, "m", "rolledback").await.unwrap().phase(), "RolledBack");
    let found = stage.lab.port_options("vm1").await.unwrap();
    assert!(found.contains("requested-chassis=ch3"), "{found}");
    assert_eq!(stage.lab.port_options("p3").await.unwrap(), other);
    stage.assert_nothing_of_ours().await;
    stage.assert_others_are_well().await;
}

/// A host on the tunnels' network that is no chassis.
const STRANGER: &str = "stranger";

/// A packet as the source mirrors it, in Geneve (RFC 8926): OVN's option, and our mark in it.
fn forged(datapath: u32, port: u32) -> Vec<u8> {
    let mut packet = vec![0x02, 0x40, 0x65, 0x58];
    packet.extend((datapath << 8).to_be_bytes());
    packet.extend([0x01, 0x02, 0x80, 0x01]);
    packet.extend((0x8000_0000 | port).to_be_bytes());
    let mac =
        |text: &str| text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>();
    packet.extend(mac(GUEST_MAC));
    packet.extend(mac("02:00:00:00:02:03"));
    // An EtherType for experiments, and not that of the flows of others; enough for a frame.
    packet.extend([0x88, 0xb6]);
    packet.extend([0x5a; 46]);
    packet
}

/// Sends it to the tunnels' port of ch2.
async fn send(stage: &Stage, ns: &str, packet: &[u8]) {
    let bytes: String = packet.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let ch2 = stage.lab.chassis("ch2");
    let (to, mac) = (ch2.encap_ip(), ch2.encap_mac());
    let dev = if ns == STRANGER { "eth0" } else { "br-phy" };
    let script =
        format!("ip neigh replace {to} lladdr {mac} dev {dev}; printf '{bytes}' >/dev/udp/{to}/6081");
    stage.lab.exec_in(ns, &["bash", "-euc", &script]).await.unwrap();
}

/// Who is not the source and does not send with its address: another chassis, and a host that is none.
#[tokio::test]
async fn forged_mirrored_packets_are_taken_from_the_sources_address_alone() {
    let mut stage = Stage::new(3).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let _target = stage.to_armed("m").await;
    let host = "ip netns add stranger
                ip link add s0 netns fabric mtu 1700 type veth peer name eth0 netns stranger mtu 1700
                ip -n fabric link set s0 master br0 up
                ip -n stranger addr add 10.99.0.99/24 dev eth0
                ip -n stranger link set eth0 up
                ip netns exec stranger ethtool -K eth0 tx off >/dev/null";
    stage.lab.exec_in(ROOT, &["sh", "-euc", host]).await.unwrap();
    let object = stage.limosa.object(&stage.lab, "status", &["m"]).await.unwrap();
    let keys = object.flow_match();
    let key = |name: &str| {
        let (_, rest) = keys.split_once(&format!("{name}=0x")).unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        u32::from_str_radix(&digits, 16).unwrap()
    };
    let packet = forged(key("metadata"), key("reg15"));
    // What the flow that recognises mirrored packets has taken.
    let taken = async || {
        let dump = stage.lab.ofctl("ch2", "dump-flows", &["table=0"]).await.unwrap();
        let take =
            dump.lines().find(|line| line.contains("tun_metadata0=0x8000")).expect("a flow that takes");
        let count = take.split_once("n_packets=").unwrap().1.split(',').next().unwrap();
        count.parse::<u64>().unwrap()
    };
    assert_eq!(taken().await, 0);
    for ns in ["ch3", STRANGER, "ch3", STRANGER] {
        send(&stage, ns, &packet).await;
    }
    // The forgery is a good one: of the source it is taken.
    send(&stage, "ch1", &packet).await;
    eventually(async || match taken().await {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    // And of whoever can send with the source's address.
    let source = stage.lab.chassis("ch1").encap_ip();
    let to = stage.lab.chassis("ch2").encap_ip();
    let disguise = format!("ip addr add {source}/32 dev eth0; ip route add {to}/32 dev eth0 src {source}");
    stage.lab.exec_in(STRANGER, &["sh", "-euc", &disguise]).await.unwrap();
    eventually(async || {
        send(&stage, STRANGER, &packet).await;
        match taken().await {
            ..2 => Err(()),
            _ => Ok(()),
        }
    })
    .await;
    stage.assert_others_are_well().await;
}
