//! The reviewed dumps of each role and step (limosa-protocol), as people are shown them.

use std::fmt::Write as _;
use std::path::Path;

use limosa_protocol::object::Spec;
use limosa_protocol::{Facts, Survey};
use uuid::Uuid;

use super::*;
use crate::view::flows_text;

/// Flows of OVN's for the port, as ovn-controller writes them.
const OVN: &str = "cookie=0x1021ee0c, priority=100,in_port=4 actions=set_field:0x1->metadata,resubmit(,8)
cookie=0x1021ee0c, table=65, priority=100,reg15=0x4,metadata=0x1 actions=output:4
cookie=0x7, table=65, priority=100,reg15=0x5,metadata=0x1 actions=output:5";

fn reading(dump: &str) -> Reading {
    let flow = |line: &str| FlowStats {
        flow: line.parse().unwrap(),
        duration: Duration::from_secs(7),
        idle: None,
        packet_count: 3,
        byte_count: 126,
    };
    let flows: Vec<FlowStats> = dump.lines().map(flow).collect();
    let survey = Survey::of(flows.iter().map(|stats| &stats.flow));
    let facts = Facts { chassis: "b".to_owned(), layout: survey.layout, ..Facts::default() };
    Reading { bridge: "br-int".to_owned(), facts, survey, flows }
}

/// What follows the head of a snapshot's file.
fn dump(name: &str) -> String {
    let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../limosa-protocol/tests/snapshots");
    let text = std::fs::read_to_string(snapshots.join(format!("flows__{name}.snap"))).unwrap();
    text.splitn(3, "---\n").nth(2).unwrap().trim().to_owned()
}

#[test]
fn every_role_and_step() {
    let mut shown = String::new();
    for name in [
        "source_armed",
        "source_after_the_switch",
        "target_armed",
        "target_activated",
        "target_bound",
        "target_overlap",
        "target_switched",
        "target_takes_both_to_the_end",
        "bystander",
        "bystander_after_the_switch",
        "source_holds",
        "bystander_holds",
        "target_holds",
        "bystander_steers_to_the_target",
        "target_closes",
    ] {
        let dump = dump(name);
        let audit = audit(&reading(&dump), None, Timestamp::UNIX_EPOCH);
        let flows: Vec<&str> =
            audit.migrations.iter().flat_map(|share| &share.flows).map(|line| line.flow.as_str()).collect();
        let mut dumped: Vec<&str> = dump.lines().collect();
        dumped.sort_unstable();
        let mut sorted = flows.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, dumped, "{name}");
        let _ = writeln!(shown, "== {name}\n{}", flows_text::text(&audit));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn ovns_flows_stand_beside_ours() {
    let audit = audit(&reading(&format!("{}\n{OVN}", dump("target_armed"))), None, Timestamp::UNIX_EPOCH);
    let beside = |purpose: &str| {
        let lines = audit.migrations.iter().flat_map(|share| &share.flows);
        let line = lines.into_iter().find(|line| line.meaning.unwrap().purpose == purpose).unwrap();
        line.beside.iter().map(|beside| beside.flow.split(' ').nth(1).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(beside("gate_direct"), ["table=65,"]);
    assert_eq!(beside("gate_out"), ["priority=100,in_port=4"]);
    assert_eq!(beside("guard"), [""; 0]);
    assert_eq!(audit.findings, 0);
}

/// Flows of nobody's, and those of a migration that has ended.
#[test]
fn flows_without_a_use_are_findings() {
    let spec = Spec::new("vm1", "a", Some("b".to_owned()));
    let mut ended = Migration::new("m".to_owned(), Uuid::nil(), spec, Timestamp::UNIX_EPOCH);
    ended.status.progress.phase = Phase::Completed;
    ended.status.progress.number = 0x2a;
    let reading = reading(&dump("target_switched"));
    let of = |migrations: Vec<Migration>| {
        let migrations = migrations.into_iter().map(|m| (m.full_name(), m)).collect();
        let snapshot = Snapshot { migrations, ..Snapshot::default() };
        let audit = audit(&reading, Some(&snapshot), Timestamp::UNIX_EPOCH);
        assert_eq!(audit.findings, 2);
        let lines = audit.migrations.iter().flat_map(|share| &share.flows);
        lines.map(|line| line.verdict).collect::<Vec<_>>()
    };
    assert_eq!(of(vec![]), [Verdict::Stray; 2]);
    assert_eq!(of(vec![ended]), [Verdict::Unwanted; 2]);
}
