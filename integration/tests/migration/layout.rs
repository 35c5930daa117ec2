//! What may change under a migration that is armed: OVN's tables, as an upgrade of OVN moves them, and the
//! field in which a bridge keeps OVN's Geneve option.

use std::collections::BTreeSet;

use limosa_lab::{Daemon, Endpoint, Lab, demo};
use ofpacket::{Action, Ct, Flow, FlowMod, Instruction, Learn};
use openflow_rs::{Client, Config, Target};
use rustix::process::Signal;

use super::{GUEST, GUEST_MAC, Stage, controllers, eventually};

const SIDES: [&str; 2] = ["ch1", "ch2"];

/// The tables that OVN's next release would have one further on: it has another one before them.
const MOVED: std::ops::Range<u8> = 30..100;

/// Some other option, of which nobody knows.
const OTHER_OPTION: &str = "{class=0xffff,type=0x7f,len=4}->tun_metadata0";

/// `vm1` is armed on both sides, with a third chassis to look on.
async fn armed() -> (Stage, Endpoint, Endpoint) {
    let stage = Stage::new(3).await;
    let source = stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let target = stage.to_armed("m").await;
    (stage, source, target)
}

impl Stage {
    /// The guest is reached over everything that the migration has in place, and the migration comes to its end.
    async fn carry_through(mut self, source: Endpoint, target: &Endpoint) {
        let Self { lab, limosa, .. } = &self;
        lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
        limosa.wait(lab, "m", "activated").await.unwrap();
        for chassis in SIDES {
            let controller = lab.daemon(chassis, Daemon::OvnController);
            if !controller.alive() {
                controller.start().await.unwrap();
            }
        }
        limosa.wait(lab, "m", "released").await.unwrap();
        source.remove(lab).await.unwrap();
        limosa.wait(lab, "m", "completed").await.unwrap();
        self.assert_nothing_of_ours().await;
        self.controllers = controllers(&self.lab);
        self.assert_others_are_well().await;
    }
}

async fn assert_guest_answers(lab: &Lab) {
    lab.exec_in("p3-ch3", &["busybox", "ping", "-c", "3", "-W", "5", GUEST]).await.unwrap();
}

async fn connect(lab: &Lab, chassis: &str) -> Client {
    let target = Target::Unix(lab.chassis(chassis).ovs_rundir().join("br-int.mgmt"));
    Client::connect(&target, Config::default()).await.unwrap().0
}

fn moved(table: u8) -> u8 {
    if MOVED.contains(&table) { table + 1 } else { table }
}

fn move_actions(actions: &mut [Action]) {
    for action in actions {
        match action {
            Action::Resubmit { table: Some(table), .. } => *table = moved(*table),
            Action::Learn(Learn { table_id, .. }) => *table_id = moved(*table_id),
            Action::Clone(inner) => move_actions(inner),
            Action::Ct(Ct { table, actions, .. }) => {
                *table = table.map(moved);
                move_actions(actions);
            }
            _ => {}
        }
    }
}

fn move_flow(mut flow: Flow) -> Flow {
    flow.table_id = moved(flow.table_id);
    for instruction in &mut flow.instructions {
        if let Instruction::ApplyActions(actions) = instruction {
            move_actions(actions);
        }
    }
    flow
}

fn texts(flows: &[Flow]) -> BTreeSet<String> {
    flows.iter().map(Flow::to_string).collect()
}

#[tokio::test]
async fn tables_that_ovn_moves_are_followed() {
    let (stage, source, target) = armed().await;
    let lab = &stage.lab;
    for chassis in SIDES {
        // As an ovn-controller of another release does: all flows go, and come back elsewhere.
        lab.daemon(chassis, Daemon::OvnController).kill9().await.unwrap();
        let client = connect(lab, chassis).await;
        let dump = async || -> Vec<Flow> {
            let flows = client.dump_flows(None, 0, 0).await.unwrap();
            flows.into_iter().map(|stats| stats.flow).collect()
        };
        let (ours, others): (Vec<_>, Vec<_>) =
            dump().await.into_iter().partition(|flow| demo::is_ours(flow.cookie));
        let expected = texts(&ours.into_iter().map(move_flow).collect::<Vec<_>>());
        assert!(expected.iter().any(|flow| flow.contains("table=66,")), "{expected:#?}");
        lab.ofctl(chassis, "del-flows", &[]).await.unwrap();
        client.bundle(others.into_iter().map(move_flow).map(FlowMod::add).collect()).await.unwrap();
        eventually(async || {
            let mut flows = dump().await;
            flows.retain(|flow| demo::is_ours(flow.cookie));
            if texts(&flows) == expected { Ok(()) } else { Err(texts(&flows)) }
        })
        .await;
    }
    assert_guest_answers(lab).await;
    stage.carry_through(source, &target).await;
}

#[tokio::test]
async fn an_option_that_gets_another_field_is_followed() {
    let (stage, source, target) = armed().await;
    let Stage { lab, limosa, .. } = &stage;
    for chassis in SIDES {
        let before = stage.ours(chassis).await.len();
        lab.daemon(chassis, Daemon::OvnController).kill9().await.unwrap();
        let agent = limosa.agent(chassis).unwrap();
        if chassis == "ch1" {
            // While nobody looks: as long as a flow uses the field it stays what it is.
            agent.kill(Signal::STOP).unwrap();
            lab.ofctl(chassis, "del-flows", &[]).await.unwrap();
            eventually(async || lab.ofctl(chassis, "del-tlv-map", &[]).await.map(drop)).await;
        } else {
            let vswitchd = lab.daemon(chassis, Daemon::Vswitchd);
            vswitchd.kill9().await.unwrap();
            vswitchd.start().await.unwrap();
        }
        eventually(async || lab.ofctl(chassis, "add-tlv-map", &[OTHER_OPTION]).await.map(drop)).await;
        lab.daemon(chassis, Daemon::OvnController).start().await.unwrap();
        lab.sync().await.unwrap();
        agent.kill(Signal::CONT).unwrap();
        eventually(async || {
            let flows = stage.ours(chassis).await;
            let names = |field: &str| flows.iter().filter(|flow| flow.to_lowercase().contains(field)).count();
            let followed = flows.len() == before && names("tun_metadata0") == 0 && names("tun_metadata1") > 0;
            if followed { Ok(()) } else { Err(flows) }
        })
        .await;
    }
    assert_guest_answers(lab).await;
    stage.carry_through(source, &target).await;
}
