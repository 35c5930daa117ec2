//! The flows of each role and step, as `ovs-ofctl dump-flows` shows them, and
//! how a chassis comes from one step to the next.

mod bridge;

use std::collections::BTreeSet;

use bridge::{A, B, Bridge, X, armed_objects, migration};
use jiff::{SignedDuration, Timestamp};
use limosa_protocol::node::{CARRY_DEADLINE, HOLD_DEADLINE, MAY_STEER, Pass, STEER_DEADLINE, UNDER_WAY};
use limosa_protocol::object::{ConditionType, Problem, Truth};
use limosa_protocol::strays::{STRAY_DELAY, Strays};
use limosa_protocol::{Cookie, Phase, Purpose, Step, Survey};

#[test]
fn source() {
    let mut a = Bridge::of(&A);
    let mut migration = migration(Phase::Arming);
    a.plan_until_settled(&mut migration);
    assert_eq!(a.dump(), "", "nothing is mirrored before the target's gate stands");
    migration.status.nodes.insert("b".into(), armed_objects());
    a.plan_until_settled(&mut migration);
    insta::assert_snapshot!("source_armed", a.dump());
    assert!(a.status(&migration).has(Step::Armed));
    a.take_on(&mut migration, "b", &[Step::Activated, Step::Opened]);
    a.plan_until_settled(&mut migration);
    insta::assert_snapshot!("source_after_the_switch", a.dump());
    assert!(a.status(&migration).has(Step::Redirected));
    // Whoever sends to both needs no relay, which would deliver everything twice.
    let why = Problem::new("CaughtUp", "");
    migration.status.progress.set_condition(ConditionType::CaughtUp, Truth::True, why, a.now());
    let with_relay = a.dump();
    a.plan_until_settled(&mut migration);
    let without: String = with_relay.lines().filter(|flow| !flow.contains("tun_dst")).collect();
    assert_eq!(a.dump().lines().collect::<String>(), without);
    assert_ne!(with_relay.lines().count(), a.dump().lines().count());
}

#[test]
fn target() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Arming);
    b.plan_until_settled(&mut migration);
    insta::assert_snapshot!("target_armed", b.dump());
    assert!(b.status(&migration).has(Step::Armed));

    b.guest_announces_itself();
    b.plan_until_settled(&mut migration);
    insta::assert_snapshot!("target_activated", b.dump());
    assert!(b.status(&migration).has(Step::Activated));

    migration.status.progress.phase = Phase::Bound;
    b.plan_until_settled(&mut migration);
    assert!(!b.status(&migration).has(Step::Opened), "OVN has no flows for the port here yet");
    b.ovn_binds();
    b.plan_until_settled(&mut migration);
    insta::assert_snapshot!("target_overlap", b.dump());
    assert!(!b.status(&migration).has(Step::Opened), "its datapath may not have followed yet");
    b.time_passes();
    b.plan_until_settled(&mut migration);
    assert!(b.status(&migration).has(Step::Opened));
    insta::assert_snapshot!("target_switched", b.dump());
    assert!(!b.status(&migration).has(Step::Switched), "nor this time");
    b.time_passes();
    b.plan_until_settled(&mut migration);
    assert!(b.status(&migration).has(Step::Switched));

    migration.status.progress.phase = Phase::Released;
    b.plan_until_settled(&mut migration);
    assert_eq!(b.dump(), "");
    assert!(b.status(&migration).has(Step::Cleaned));
}

/// A revalidator needs the longer the more there is in the cache.
#[test]
fn flows_are_trusted_later_where_the_datapath_has_a_large_cache() {
    for (cached, millis) in [(0, 20), (40, 22), (10_000, 520), (u32::MAX, 1000)] {
        let mut b = Bridge::of(&B);
        b.facts.cached = cached;
        let mut migration = migration(Phase::Arming);
        b.plan_until_settled(&mut migration);
        b.guest_announces_itself();
        b.ovn_binds();
        migration.status.progress.phase = Phase::Bound;
        b.plan_until_settled(&mut migration);
        b.time_passes_by(SignedDuration::from_millis(millis - 2));
        b.plan_until_settled(&mut migration);
        assert!(!b.status(&migration).has(Step::Opened), "{cached}: too soon");
        b.time_passes_by(SignedDuration::from_millis(1));
        b.plan_until_settled(&mut migration);
        assert!(b.status(&migration).has(Step::Opened), "{cached}: still not");
    }
}

#[test]
fn bystander() {
    let mut x = Bridge::of(&X);
    let mut migration = migration(Phase::Arming);
    x.plan_until_settled(&mut migration);
    insta::assert_snapshot!("bystander", x.dump());
    x.take_on(&mut migration, "b", &[Step::Opened]);
    x.plan_until_settled(&mut migration);
    insta::assert_snapshot!("bystander_after_the_switch", x.dump());
    assert!(x.status(&migration).has(Step::Redirected));
}

/// Bound on both sides, with everybody asked to send one way.
fn bound(bridges: [&mut Bridge; 3]) -> limosa_protocol::Migration {
    let mut migration = migration(Phase::Arming);
    let [a, b, x] = bridges;
    b.plan_until_settled(&mut migration);
    b.guest_announces_itself();
    b.ovn_binds();
    migration.status.progress.enter(Phase::Bound, Timestamp::UNIX_EPOCH);
    migration.status.progress.holders = vec!["a".into(), "x".into()];
    for bridge in [b, a, x] {
        bridge.plan_until_settled(&mut migration);
    }
    a.take_on(&mut migration, "a", &[Step::Carried]);
    migration
}

#[test]
fn each_packet_goes_one_way() {
    let (mut a, mut b, mut x) = (Bridge::of(&A), Bridge::of(&B), Bridge::of(&X));
    let mut migration = bound([&mut a, &mut b, &mut x]);
    insta::assert_snapshot!("source_holds", a.dump());
    let held = x.dump();
    insta::assert_snapshot!("bystander_holds", held);
    insta::assert_snapshot!("target_holds", b.dump());
    let everybody = |bridges: [&mut Bridge; 3], migration: &mut _| {
        for bridge in bridges {
            bridge.time_passes();
            bridge.plan_until_settled(migration);
        }
    };
    assert!([&a, &b, &x].iter().all(|bridge| !bridge.status(&migration).has(Step::Held)), "too soon");
    everybody([&mut b, &mut a, &mut x], &mut migration);
    assert!([&a, &b, &x].iter().all(|bridge| bridge.status(&migration).has(Step::Held)));

    everybody([&mut b, &mut a, &mut x], &mut migration);
    insta::assert_snapshot!("target_opens", b.dump());
    assert_eq!(x.dump(), held, "the target's datapath may not have followed yet");
    everybody([&mut b, &mut a, &mut x], &mut migration);
    assert!(b.status(&migration).has(Step::Opened));
    insta::assert_snapshot!("bystander_steers_to_the_target", x.dump());
    assert!(x.dump().contains("hard_timeout=5"), "it ends by itself");

    everybody([&mut b, &mut a, &mut x], &mut migration);
    assert!(!x.status(&migration).has(Step::Redirected), "packets may be under way through the source");
    assert!(b.dump().contains("actions=output"), "and the target takes them");
    a.time_passes_by(UNDER_WAY);
    x.time_passes_by(UNDER_WAY);
    everybody([&mut a, &mut x, &mut b], &mut migration);
    insta::assert_snapshot!("target_closes", b.dump());
    everybody([&mut b, &mut a, &mut x], &mut migration);
    assert!(b.status(&migration).has(Step::Switched));
    everybody([&mut b, &mut a, &mut x], &mut migration);
    let steers = |bridge: &&mut Bridge| bridge.dump().contains("hard_timeout");
    migration.status.progress.phase = Phase::Switched;
    everybody([&mut b, &mut a, &mut x], &mut migration);
    assert!(![&mut a, &mut b, &mut x].iter().any(steers), "OVN's flows are enough again");
}

#[test]
fn what_ends_by_itself_is_not_written_for_ever() {
    let (mut a, mut b, mut x) = (Bridge::of(&A), Bridge::of(&B), Bridge::of(&X));
    let mut migration = bound([&mut a, &mut b, &mut x]);
    x.time_passes();
    x.plan_until_settled(&mut migration);
    assert!(x.status(&migration).has(Step::Held));
    let with = x.dump();
    x.time_is_over();
    let without = x.dump();
    assert_ne!(with, without);
    x.plan_until_settled(&mut migration);
    assert_eq!(x.dump(), with);
    x.time_passes_by(MAY_STEER);
    x.plan_until_settled(&mut migration);
    assert_eq!(x.dump(), without, "the others must know for how long it may be there");
    migration.status.progress.holders.clear();
    let mut stranger = Bridge::of(&X);
    stranger.plan_until_settled(&mut migration);
    assert_eq!(stranger.dump(), without, "the others do not know of it");
}

#[test]
fn nobody_is_waited_for_without_end() {
    let (mut a, mut b, mut x) = (Bridge::of(&A), Bridge::of(&B), Bridge::of(&X));
    let mut migration = bound([&mut a, &mut b, &mut x]);
    // The agents of a and x say nothing any more.
    b.time_passes();
    b.plan_until_settled(&mut migration);
    let gate = |b: &Bridge| b.dump().lines().any(|flow| flow.contains("table=65") && flow.contains("drop"));
    assert!(gate(&b), "they are waited for");
    b.time_passes_by(HOLD_DEADLINE);
    b.plan_until_settled(&mut migration);
    assert!(!gate(&b));
    b.time_passes();
    b.plan_until_settled(&mut migration);
    assert!(b.status(&migration).has(Step::Opened));
    b.time_passes();
    b.plan_until_settled(&mut migration);
    b.time_passes();
    b.plan_until_settled(&mut migration);
    assert!(!b.status(&migration).has(Step::Switched), "they may send to the source alone");
    b.time_passes_by(STEER_DEADLINE);
    b.plan_until_settled(&mut migration);
    b.time_passes();
    b.plan_until_settled(&mut migration);
    assert!(b.status(&migration).has(Step::Switched));
}

#[test]
fn the_announcement_learns_exactly_what_the_agent_would_write() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    b.guest_announces_itself();
    let before = b.ours();
    b.plan_until_settled(&mut migration);
    let kept = before.iter().filter(|flow| b.ours().contains(flow)).count();
    assert_eq!(kept, 5, "take, both diversions, the direct gate and the guard stay as they are");
}

#[test]
fn a_chassis_that_never_catches_up_keeps_the_mirrored_packets() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    b.guest_announces_itself();
    b.ovn_binds();
    let why = Problem::new("DeadlinePassed", "");
    migration.status.progress.set_condition(ConditionType::CaughtUp, Truth::False, why, b.now());
    migration.status.progress.phase = Phase::Bound;
    b.plan_until_settled(&mut migration);
    b.time_passes();
    b.plan_until_settled(&mut migration);
    assert!(b.status(&migration).has(Step::Switched));
    insta::assert_snapshot!("target_takes_both_to_the_end", b.dump());
}

#[test]
fn wiped_flows_come_back_and_the_gate_stays_open() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Activated);
    b.plan_until_settled(&mut migration);
    b.guest_announces_itself();
    b.plan_until_settled(&mut migration);
    let before = b.dump();
    b.wipe();
    b.plan_until_settled(&mut migration);
    assert_eq!(b.dump(), before);
}

/// Nobody has heard the guest, but the controller knows that it is here.
#[test]
fn the_gate_opens_on_the_controllers_word() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    let mut a = Bridge::of(&A);
    let why = Problem::new("SourceGone", "");
    migration.status.progress.set_condition(ConditionType::Announced, Truth::False, why, b.now());
    b.plan_until_settled(&mut migration);
    insta::assert_snapshot!("target_activated", b.dump());
    assert!(b.status(&migration).has(Step::Activated));
    a.plan_until_settled(&mut migration);
    assert!(!a.status(&migration).has(Step::Activated));
}

#[test]
fn an_activation_that_nobody_saw_is_reported_with_its_time() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    b.guest_announces_itself();
    let then = b.now();
    b.time_passes();
    b.announced_at(then);
    b.plan_until_settled(&mut migration);
    assert_eq!(b.status(&migration).steps[&Step::Activated], then);
}

/// What an upgrade of OVN does to a chassis in the middle of a migration.
#[test]
fn flows_follow_ovns_tables() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    b.guest_announces_itself();
    b.plan_until_settled(&mut migration);
    assert!(b.dump().contains("table=65, ") && b.dump().contains("table=39, "), "{}", b.dump());
    b.ovn_moves_its_tables_by(4);
    b.plan_until_settled(&mut migration);
    assert!(b.dump().contains("table=69, ") && b.dump().contains("table=43, "), "{}", b.dump());
    assert!(!b.dump().contains("table=65, ") && !b.dump().contains("table=39, "), "{}", b.dump());
    assert!(b.dump().contains("table=253, priority=2"), "the gate stays open: {}", b.dump());
}

#[test]
fn flows_without_an_object_go_after_a_while() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Arming);
    b.plan_until_settled(&mut migration);
    let (survey, mut strays) = (Survey::of(b.ours().iter()), Strays::default());
    let (nobody, owner) = (BTreeSet::new(), BTreeSet::from([migration.status.progress.number]));
    let start = Timestamp::UNIX_EPOCH;
    assert_eq!(strays.keep(&survey, &owner, true, start), (vec![], None), "they have an object");
    assert_eq!(strays.keep(&survey, &nobody, true, start), (survey.ours.clone(), Some(start + STRAY_DELAY)));
    let later = start + STRAY_DELAY;
    assert_eq!(
        strays.keep(&survey, &nobody, false, later),
        (survey.ours.clone(), Some(later + STRAY_DELAY)),
        "an object that cannot be read may be theirs"
    );
    assert_eq!(strays.keep(&survey, &owner, true, later), (vec![], None), "it was");
    strays.keep(&survey, &nobody, true, later);
    assert_eq!(strays.keep(&survey, &nobody, true, later + STRAY_DELAY), (vec![], None), "they go");
}

/// ovn-controller has connected anew and computes for seconds.
#[test]
fn what_needs_no_table_of_ovns_is_back_before_ovns_own_flows() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    b.guest_announces_itself();
    b.plan_until_settled(&mut migration);
    let all = b.dump();
    b.wipe_everything();
    b.plan_until_settled(&mut migration);
    let back = b.dump();
    let purposes: Vec<_> =
        b.ours().iter().filter_map(|f| Cookie::decode(f.cookie)).map(|c| c.purpose).collect();
    assert_eq!(purposes.len(), 3, "{back}");
    for purpose in [Purpose::DivertOut, Purpose::Take, Purpose::DivertIn] {
        assert!(purposes.contains(&purpose), "{purpose:?} is not back: {back}");
    }
    assert_eq!(b.status(&migration).problem.as_ref().unwrap().reason, "MissingTable");
    b.ovn_is_back(&B);
    b.plan_until_settled(&mut migration);
    assert_eq!(b.dump(), all);
}

#[test]
fn an_announcement_during_the_way_back_is_not_overlooked() {
    let (mut a, mut b) = (Bridge::of(&A), Bridge::of(&B));
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    a.plan_until_settled(&mut migration);
    let mirror = a.dump();
    b.guest_announces_itself();
    migration.status.progress.enter(Phase::RollingBack, a.now());
    a.plan_until_settled(&mut migration);
    assert_eq!(a.dump(), mirror, "the guest may run on the target: nothing is taken from it");
    b.plan_until_settled(&mut migration);
    assert!(b.dump().contains("table=253, priority=2"), "{}", b.dump());
    assert!(b.status(&migration).has(Step::Activated) && !b.status(&migration).has(Step::Cleaned));
    a.plan_until_settled(&mut migration);
    assert_eq!(a.dump(), mirror);
}

#[test]
fn on_the_way_back_the_target_shuts_its_gate_for_good_before_the_source_lets_go() {
    let (mut a, mut b) = (Bridge::of(&A), Bridge::of(&B));
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    a.plan_until_settled(&mut migration);
    migration.status.progress.enter(Phase::RollingBack, a.now());
    a.plan_until_settled(&mut migration);
    assert!(!a.dump().is_empty());
    b.plan_until_settled(&mut migration);
    assert!(b.dump().is_empty() && b.status(&migration).has(Step::Cleaned));
    a.plan_until_settled(&mut migration);
    assert!(a.dump().is_empty() && a.status(&migration).has(Step::Cleaned));
}

#[test]
fn a_replugged_interface_is_followed() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Armed);
    b.plan_until_settled(&mut migration);
    b.replug(9);
    b.plan_until_settled(&mut migration);
    assert!(b.dump().contains("in_port=9") && !b.dump().contains("in_port=4"), "{}", b.dump());
}

#[test]
fn what_is_missing_is_named_and_changes_nothing() {
    type Spoil = fn(&mut Bridge);
    let cases: [(&str, &str, Spoil); 6] = [
        ("InterfaceMissing", "iface-id=vm1", |b| b.unplug()),
        ("InterfaceDown", "tap0", |b| b.link_down()),
        ("NoTunnel", "ovn-chassis-id=a@", |b| b.facts.tunnels.clear()),
        ("TunnelWithoutOption", "vxlan", |b| b.facts.tunnels.get_mut("a").unwrap().kind = "vxlan".into()),
        ("NoGeneveOption", "dump-tlv-map", |b| b.facts.geneve_index = None),
        ("MissingTable", "LOG_TO_PHY", |b| b.hide_log_to_phy()),
    ];
    for (reason, hint, spoil) in cases {
        let mut b = Bridge::of(&B);
        spoil(&mut b);
        let mut migration = migration(Phase::Arming);
        b.plan_until_settled(&mut migration);
        let status = b.status(&migration);
        let problem = status.problem.as_ref().unwrap_or_else(|| panic!("no problem; expected {reason}"));
        assert_eq!(problem.reason, reason);
        assert!(problem.message.contains(hint), "{}", problem.message);
        assert!(!status.has(Step::Armed), "{reason}");
        if reason != "InterfaceDown" {
            assert_eq!(b.dump(), "", "{reason}");
        }
    }
}

#[test]
fn foreign_flows_are_not_touched() {
    let mut b = Bridge::of(&B);
    let before = b.foreign();
    let mut migration = migration(Phase::Arming);
    b.plan_until_settled(&mut migration);
    migration.status.progress.phase = Phase::RollingBack;
    b.plan_until_settled(&mut migration);
    assert_eq!(b.dump(), "");
    assert_eq!(b.foreign(), before);
}

#[test]
fn connections_go_ahead_of_the_switch() {
    let (mut a, mut b) = (Bridge::of(&A), Bridge::of(&B));
    a.facts.zones.insert("vm1".into(), 7);
    b.facts.zones.insert("vm1".into(), 9);
    let mut migration = migration(Phase::Arming);
    migration.status.nodes.insert("b".into(), armed_objects());
    a.plan_until_settled(&mut migration);
    assert_eq!(a.carry(&migration), None, "the target tracks nothing for the port yet");
    b.plan_until_settled(&mut migration);

    migration.status.progress.enter(Phase::Activated, Timestamp::UNIX_EPOCH);
    b.guest_announces_itself();
    b.ovn_binds();
    b.plan_until_settled(&mut migration);
    insta::assert_snapshot!("target_bound", b.dump());
    let carry = a.carry(&migration).expect("the target can take them");
    assert_eq!((carry.pass, carry.zone), (Pass::Ahead, 7));
    insta::assert_snapshot!(
        "carried_by",
        carry.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    );

    migration.status.progress.enter(Phase::Bound, Timestamp::UNIX_EPOCH);
    b.plan_until_settled(&mut migration);
    assert!(!b.status(&migration).has(Step::Opened), "the last ones are not here yet");
    assert_eq!(a.carry(&migration).expect("once more").pass, Pass::Last);
    // Some of them go to backends of load balancers: a flow for each.
    let before = b.dump().lines().count();
    let said = migration.status.nodes.get_mut("a").unwrap().connections.get_or_insert_default();
    said.backends = ["10.0.0.7:8080", "[fd00::7]:53"].map(|backend| backend.parse().unwrap()).to_vec();
    b.plan_until_settled(&mut migration);
    assert_eq!(b.dump().lines().count(), before + 2);
    insta::assert_snapshot!("target_translates", b.dump());
    assert_eq!(a.carry(&migration).unwrap().backends.as_slice(), said_backends(&migration));
    a.take_on(&mut migration, "a", &[Step::Carried]);
    assert_eq!(a.carry(&migration), None);
    for step in [Step::Held, Step::Opened] {
        b.plan_until_settled(&mut migration);
        assert!(!b.status(&migration).has(step));
        b.time_passes();
        b.plan_until_settled(&mut migration);
        assert!(b.status(&migration).has(step));
    }
    assert!(!b.dump().contains("ct("), "no more connections are taken");
}

#[test]
fn connections_that_do_not_come_are_not_waited_for() {
    let mut b = Bridge::of(&B);
    b.facts.zones.insert("vm1".into(), 9);
    let mut migration = migration(Phase::Arming);
    b.plan_until_settled(&mut migration);
    b.guest_announces_itself();
    b.ovn_binds();
    migration.status.progress.enter(Phase::Bound, Timestamp::UNIX_EPOCH);
    b.plan_until_settled(&mut migration);
    assert!(b.dump().contains("actions=ct("), "they may still come");
    b.time_passes_by(CARRY_DEADLINE);
    b.plan_until_settled(&mut migration);
    assert!(!b.dump().contains("actions=ct("), "the target takes direct packets");
    b.time_passes();
    b.plan_until_settled(&mut migration);
    assert!(b.status(&migration).has(Step::Opened));
}

fn said_backends(migration: &limosa_protocol::Migration) -> &[std::net::SocketAddr] {
    &migration.source().unwrap().connections.as_ref().unwrap().backends
}
