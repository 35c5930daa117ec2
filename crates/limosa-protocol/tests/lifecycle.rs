//! The controller's decisions, with the world and the agents played by hand.

mod stage;

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use limosa_protocol::Phase;
use limosa_protocol::lifecycle::{
    BARRIER_DEADLINE, MISSING_GRACE, PRESUME_AFTER, REDIRECT_DEADLINE, UNPLUGGED_GRACE,
};
use limosa_protocol::object::{ConditionType, NodeStatus, Problem, Role, Step, Truth, Want};
use stage::Stage;

#[test]
fn a_migration_from_end_to_end() {
    let mut stage = Stage::new();
    stage.node("x");
    stage.reach_switched();
    assert_eq!(stage.options.last(), Some(&Some("a,b".into())), "no release before the bystander looks to b");
    stage.steps("a", &[Step::Redirected]);
    stage.steps("x", &[Step::Redirected]);
    assert_eq!(stage.settle(), Phase::Switched);
    stage.chassis_catch_up();
    assert_eq!(stage.settle(), Phase::Released);
    for chassis in ["a", "b", "x"] {
        stage.steps(chassis, &[Step::Cleaned]);
    }
    assert_eq!(stage.settle(), Phase::Released);
    assert!(stage.why(ConditionType::Progressing).2.contains("tap0"), "a would claim the port back");
    stage.unplug("a");
    assert_eq!(stage.migration.phase(), Phase::Released, "it may be plugged again at once");
    assert_eq!(stage.settle(), Phase::Completed);
    assert_eq!(stage.why(ConditionType::Succeeded).0, Truth::True);
    let options = [Some("a".to_owned()), Some("a,b".into()), Some("b".into()), None];
    assert_eq!(stage.options, options, "the option is as it was: there was none");
}

#[test]
fn an_operators_pin_moves_with_the_guest() {
    let mut stage = Stage::new();
    stage.world.port.as_mut().unwrap().requested_chassis = Some("a".into());
    stage.reach_switched();
    stage.steps("a", &[Step::Redirected]);
    stage.settle();
    stage.chassis_catch_up();
    stage.steps("a", &[Step::Cleaned]);
    stage.steps("b", &[Step::Cleaned]);
    stage.unplug("a");
    assert_eq!(stage.settle(), Phase::Completed);
    let port = stage.world.port.unwrap();
    assert_eq!((port.requested_chassis.as_deref(), port.pinned_by), (Some("b"), None));
}

#[test]
fn a_finished_migration_touches_nothing_any_more() {
    let mut stage = Stage::new();
    stage.migration.status.progress.phase = Phase::Completed;
    stage.world.port.as_mut().unwrap().requested_chassis = Some("elsewhere".into());
    assert_eq!(stage.settle(), Phase::Completed);
    assert!(stage.options.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason_and_changes_nothing() {
    type Spoil = fn(&mut Stage);
    let cases: [(&str, Spoil); 14] = [
        ("UnknownPort", |s| s.world.port = None),
        ("NoBinding", |s| s.world.binding = None),
        ("NotBound", |s| s.world.binding.as_mut().unwrap().chassis = None),
        ("NotOnSource", |s| s.world.binding.as_mut().unwrap().chassis = Some("x".into())),
        ("SameChassis", |s| s.migration.spec.to = Some("a".into())),
        ("UnknownChassis", |s| s.migration.spec.to = Some("nowhere".into())),
        ("NoGeneve", |s| drop(s.cluster().chassis.insert("b".into(), BTreeSet::from(["vxlan".into()])))),
        ("NotAVif", |s| s.world.port.as_mut().unwrap().kind = "router".into()),
        ("Busy", |s| s.world.rival = Some("other".into())),
        ("OvnTooOld", |s| s.cluster().can_bind_twice = false),
        ("ConflictingOptions", |s| s.world.port.as_mut().unwrap().requested_chassis = Some("a,b".into())),
        ("ConflictingOptions", |s| s.world.port.as_mut().unwrap().activation_strategy = Some("rarp".into())),
        ("OtherNamespace", |s| {
            s.migration.metadata.namespace = Some("tenant-a".into());
            s.world.port.as_mut().unwrap().namespace = Some("tenant-b".into());
        }),
        ("NoMac", |s| s.world.port.as_mut().unwrap().macs.clear()),
    ];
    for (reason, spoil) in cases {
        let mut stage = Stage::new();
        spoil(&mut stage);
        assert_eq!(stage.settle(), Phase::Rejected, "{reason}");
        let (truth, found, message) = stage.why(ConditionType::Accepted);
        assert_eq!((truth, found.as_str()), (Truth::False, reason), "{message}");
        assert!(stage.options.is_empty(), "{reason} changed an option");
    }
}

#[test]
fn a_target_that_goes_before_the_guest_ran_there_is_rolled_back() {
    type Lose = fn(&mut NodeStatus);
    let unplugged: Lose = |node| node.interface = None;
    let killed: Lose = |node| node.interface.as_mut().unwrap().link_up = false;
    for lose in [unplugged, killed] {
        let mut stage = Stage::new();
        stage.reach_armed();
        lose(stage.node("b"));
        assert_eq!(stage.settle(), Phase::Armed, "a switch that restarts is back in a moment");
        stage.plug("b", true);
        assert_eq!(stage.settle(), Phase::Armed);
        stage.now += MISSING_GRACE;
        lose(stage.node("b"));
        assert_eq!(stage.settle(), Phase::Armed, "the time begins anew");
        stage.now += MISSING_GRACE;
        assert_eq!(stage.settle(), Phase::RollingBack);
        assert_eq!(stage.why(ConditionType::Succeeded).1, "TargetLost");
        stage.steps("a", &[Step::Cleaned]);
        stage.steps("b", &[Step::Cleaned]);
        stage.unplug("b");
        assert_eq!(stage.settle(), Phase::RolledBack);
        assert_eq!(stage.options, [Some("a".into()), None]);
    }
}

/// It may be back just as the migration is given up, and the agent not yet know.
#[test]
fn an_interface_that_was_lost_has_to_stay_away_before_the_pin_goes() {
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.node("b").interface = None;
    stage.settle();
    stage.now += MISSING_GRACE;
    assert_eq!(stage.settle(), Phase::RollingBack);
    stage.steps("a", &[Step::Cleaned]);
    stage.steps("b", &[Step::Cleaned]);
    assert_eq!(stage.settle(), Phase::RollingBack);
    stage.plug("b", true);
    stage.now += MISSING_GRACE;
    assert_eq!(stage.settle(), Phase::RollingBack);
    assert_eq!(stage.options, [Some("a".into())]);
    stage.node("b").interface = None;
    stage.settle();
    stage.now += UNPLUGGED_GRACE;
    assert_eq!(stage.settle(), Phase::RollingBack, "a guest may be behind it");
    stage.now += MISSING_GRACE - UNPLUGGED_GRACE;
    assert_eq!(stage.settle(), Phase::RolledBack);
}

/// The switch restarted just when the guest announced itself.
#[test]
fn a_guest_that_nobody_heard_is_found_by_the_source_that_is_gone() {
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.plug("a", false);
    assert_eq!(stage.settle(), Phase::Armed);
    let announced =
        |stage: &Stage| stage.migration.status.progress.condition(ConditionType::Announced).cloned();
    stage.now += MISSING_GRACE;
    stage.settle();
    assert_eq!(announced(&stage), None, "it is a guess, and nothing is lost by waiting");
    stage.now += PRESUME_AFTER - MISSING_GRACE;
    stage.settle();
    assert_eq!(announced(&stage).map(|c| (c.status, c.reason)), Some((Truth::False, "SourceGone".into())));
    stage.plug("a", true);
    stage.settle();
    assert_eq!(announced(&stage), None, "it is back");
    stage.node("a").interface = None;
    stage.settle();
    stage.now += PRESUME_AFTER;
    stage.settle();
    stage.steps("b", &[Step::Activated]);
    assert_eq!(stage.settle(), Phase::Activated);
    assert_eq!(announced(&stage).map(|c| c.status), Some(Truth::False));

    // Both gone: nobody runs anywhere.
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.node("a").interface = None;
    stage.node("b").interface = None;
    stage.settle();
    stage.now += MISSING_GRACE;
    assert_eq!(stage.settle(), Phase::RollingBack);
}

#[test]
fn an_abort_counts_until_the_guest_runs_on_the_target() {
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.migration.spec.want = Want::Abort;
    assert_eq!(stage.settle(), Phase::RollingBack);

    let mut stage = Stage::new();
    stage.reach_armed();
    stage.steps("b", &[Step::Activated]);
    stage.migration.spec.want = Want::Abort;
    assert_eq!(stage.settle(), Phase::Activated, "the way is forward");
}

#[test]
fn a_guest_that_was_faster_than_the_abort_is_carried_on() {
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.migration.spec.want = Want::Abort;
    assert_eq!(stage.settle(), Phase::RollingBack);
    stage.steps("b", &[Step::Activated]);
    assert_eq!(stage.settle(), Phase::Activated);
    assert_eq!(stage.world.port.as_ref().unwrap().requested_chassis.as_deref(), Some("a,b"));
    assert!(stage.migration.status.progress.condition(ConditionType::Succeeded).is_none());

    // Also if its interface is being plugged anew.
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.migration.spec.want = Want::Abort;
    stage.node("b").interface = None;
    stage.steps("b", &[Step::Activated, Step::Cleaned]);
    stage.steps("a", &[Step::Cleaned]);
    stage.migration.status.progress.enter(Phase::RollingBack, stage.now);
    stage.settle();
    stage.now += UNPLUGGED_GRACE;
    assert_eq!((stage.settle(), stage.options.len()), (Phase::RollingBack, 1));
    stage.plug("b", true);
    assert_eq!(stage.settle(), Phase::Activated);

    // Not so if that guest has gone again.
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.migration.spec.want = Want::Abort;
    stage.settle();
    stage.steps("b", &[Step::Activated]);
    stage.plug("b", false);
    assert_eq!(stage.settle(), Phase::RollingBack);
}

#[test]
fn a_chassis_that_does_not_follow_holds_nothing_up_for_good() {
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.steps("b", &[Step::Activated, Step::Bound]);
    assert_eq!(stage.settle(), Phase::Activated);
    stage.now += BARRIER_DEADLINE * 2;
    assert_eq!(
        stage.settle(),
        Phase::Activated,
        "b has not claimed the port: everything still runs through a"
    );
    stage.ovn_claims();
    assert_eq!(stage.settle(), Phase::Activated);
    stage.now += BARRIER_DEADLINE;
    assert_eq!(stage.settle(), Phase::Bound);
    assert_eq!(stage.why(ConditionType::CaughtUp).0, Truth::False);
    stage.steps("b", &[Step::Opened, Step::Switched]);
    stage.node("x");
    stage.settle();
    assert_eq!(stage.world.port.as_ref().unwrap().requested_chassis.as_deref(), Some("a,b"));
    stage.now += REDIRECT_DEADLINE;
    stage.settle();
    assert_eq!(stage.world.port.as_ref().unwrap().requested_chassis.as_deref(), Some("b"));
    stage.ovn_claims();
    stage.now += BARRIER_DEADLINE + SignedDuration::from_secs(1);
    assert_eq!(stage.settle(), Phase::Switched, "what b has claimed by now has yet to be followed");
    stage.now += BARRIER_DEADLINE;
    assert_eq!(stage.settle(), Phase::Released);
}

/// The source's ovn-controller lets go of the port before the target's claims
/// it, and for that long the others have nowhere to send.
#[test]
fn hv_cfg_before_the_claim_releases_nothing() {
    let mut stage = Stage::new();
    stage.reach_switched();
    stage.steps("a", &[Step::Redirected]);
    stage.settle();
    stage.cluster().hv_cfg = stage.nb_cfg;
    stage.world.binding.as_mut().unwrap().chassis = None;
    assert_eq!(stage.settle(), Phase::Switched);
    assert_eq!(stage.why(ConditionType::Progressing).1, "Claiming");
    stage.ovn_claims();
    assert_eq!(stage.settle(), Phase::Switched, "the others have not heard of the claim");
    assert_eq!(stage.why(ConditionType::Progressing).1, "CatchingUp");
    stage.chassis_catch_up();
    assert_eq!(stage.settle(), Phase::Released);
}

/// The target's ovn-controller may be dead, or a bystander's; only the first
/// would claim a port of which it does not know that it is pinned.
#[test]
fn a_pin_has_to_be_known_on_both_sides_and_nowhere_else() {
    let mut stage = Stage::new();
    assert_eq!(stage.settle(), Phase::Pinning);
    stage.now += BARRIER_DEADLINE;
    stage.cluster().nb_cfg = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 0), ("x".to_owned(), 1)]);
    assert_eq!(stage.settle(), Phase::Pinning);
    assert!(stage.why(ConditionType::Progressing).2.contains("ovn-controller"), "says where to look");
    stage.cluster().nb_cfg = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1), ("x".to_owned(), 0)]);
    assert_eq!(stage.settle(), Phase::Arming);
}

/// The source lets go without looking, and undoes the target's first claim.
#[test]
fn the_first_claim_at_the_release_is_not_trusted() {
    let mut stage = Stage::new();
    stage.reach_switched();
    stage.steps("a", &[Step::Redirected]);
    stage.settle();
    stage.ovn_claims();
    let mut rounds = 0;
    while stage.settle() == Phase::Switched {
        assert!(stage.world.cluster.hv_cfg < stage.nb_cfg, "nobody is waited for");
        stage.cluster().hv_cfg = stage.nb_cfg;
        rounds += 1;
    }
    assert_eq!((stage.migration.phase(), rounds), (Phase::Released, 3));
}

/// Its agent may be dead, and its ovn-controller would claim the port.
#[test]
fn the_pin_stays_while_the_target_has_not_said_that_it_has_no_interface() {
    let mut stage = Stage::new();
    stage.settle();
    stage.chassis_catch_up();
    assert_eq!(stage.settle(), Phase::Arming);
    stage.migration.spec.want = Want::Abort;
    assert_eq!(stage.settle(), Phase::RollingBack);
    assert_eq!(stage.world.port.as_ref().unwrap().requested_chassis.as_deref(), Some("a"));
    stage.steps("b", &[Step::Cleaned]);
    stage.unplug("b");
    assert_eq!(stage.settle(), Phase::RolledBack);
    assert_eq!(stage.world.port.as_ref().unwrap().requested_chassis, None);
}

#[test]
fn without_ovns_flows_on_the_target_there_is_no_switch() {
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.steps("b", &[Step::Activated]);
    stage.settle();
    stage.chassis_catch_up();
    stage.node("b").problem = Some(Problem::new("WaitingForOvn", "no flows yet"));
    stage.now += BARRIER_DEADLINE * 2;
    assert_eq!(stage.settle(), Phase::Activated);
    assert_eq!(stage.why(ConditionType::Progressing).1, "WaitingForOvn");
}

#[test]
fn a_controller_that_died_between_object_and_database_does_the_same_again() {
    let mut stage = Stage::new();
    // The option was set, its barrier was not written down.
    stage.settle();
    stage.migration.status.progress.barrier = None;
    assert_eq!(stage.settle(), Phase::Pinning);
    assert_eq!(stage.options, [Some("a".into())]);
    assert_eq!(stage.migration.status.progress.barrier.as_ref().unwrap().nb_cfg, 2);
    assert_eq!(
        stage.migration.status.progress.restore.as_ref().unwrap().requested_chassis,
        None,
        "what it put in itself is not what was there before"
    );
}

#[test]
fn a_port_that_is_deleted_or_moved_ends_the_migration() {
    let mut stage = Stage::new();
    stage.reach_armed();
    stage.world.binding.as_mut().unwrap().chassis = Some("x".into());
    assert_eq!(stage.settle(), Phase::RollingBack);
    assert_eq!(stage.why(ConditionType::Succeeded).1, "PortMoved");

    let mut stage = Stage::new();
    stage.reach_switched();
    stage.world.port = None;
    assert_eq!(stage.settle(), Phase::Released);
    stage.steps("a", &[Step::Cleaned]);
    stage.steps("b", &[Step::Cleaned]);
    stage.unplug("a");
    assert_eq!(stage.settle(), Phase::Completed);
    assert_eq!(stage.why(ConditionType::Succeeded).1, "PortGone");
}

#[test]
fn numbers_are_not_shared() {
    let mut first = Stage::new();
    first.settle();
    let mut second = Stage::new();
    second.world.numbers.insert(first.migration.status.progress.number);
    second.settle();
    assert_ne!(first.migration.status.progress.number, second.migration.status.progress.number);
    assert_eq!(first.node("x").role, Role::Bystander);
}
