//! What an orchestrator says of its guest, and what a CNI does to the port.

mod stage;

use std::collections::BTreeMap;

use limosa_protocol::Phase;
use limosa_protocol::lifecycle::{
    ACTIVATE_DEADLINE, LogicalPort, MISSING_GRACE, OVERWRITE_PAUSE, PRESUME_AFTER, REDIRECT_DEADLINE,
    UNPLUGGED_GRACE,
};
use limosa_protocol::object::{ConditionType, Restore, Step, Truth, Want};
use stage::Stage;

fn unnamed() -> Stage {
    let mut stage = Stage::orchestrated();
    stage.migration.spec.to = None;
    assert_eq!(stage.settle(), Phase::Pinning);
    stage.chassis_catch_up();
    assert_eq!(stage.settle(), Phase::Pinning);
    assert_eq!(stage.why(ConditionType::Progressing).1, "AwaitingTarget");
    stage
}

#[test]
fn a_target_that_is_named_late_goes_the_same_way() {
    let mut stage = unnamed();
    stage.migration.spec.to = Some("b".into());
    assert_eq!(stage.settle(), Phase::Arming);
    assert_eq!(stage.options, [Some("a".into())]);
}

#[test]
fn a_target_that_makes_no_sense_is_rolled_back() {
    let cases = [("SameChassis", "a"), ("UnknownChassis", "nowhere"), ("NoGeneve", "x")];
    for (reason, to) in cases {
        let mut stage = unnamed();
        stage.cluster().chassis.insert("x".into(), ["vxlan".to_owned()].into());
        stage.migration.spec.to = Some(to.into());
        stage.plug("a", true);
        assert_eq!(stage.settle(), Phase::RollingBack, "{reason}");
        if to == "x" {
            stage.steps("x", &[Step::Cleaned]);
            stage.unplug("x");
        }
        stage.clean_up("b");
        stage.now += REDIRECT_DEADLINE;
        assert_eq!(stage.settle(), Phase::RolledBack, "{reason}");
        assert_eq!(stage.why(ConditionType::Succeeded).1, reason);
        assert_eq!(stage.options, [Some("a".into()), None], "{reason}");
    }
}

#[test]
fn a_migration_without_a_target_can_end() {
    type End = fn(&mut Stage);
    let cases: [(&str, End); 3] = [
        ("Aborted", |s| s.migration.spec.want = Want::Abort),
        ("Returned", |s| s.migration.spec.want = Want::Return),
        ("PortGone", |s| s.world.port = None),
    ];
    for (reason, end) in cases {
        let mut stage = unnamed();
        end(&mut stage);
        if stage.world.port.is_some() {
            assert_eq!(stage.settle(), Phase::RollingBack, "{reason}: the interface may be anywhere");
            stage.plug("x", true);
            stage.steps("x", &[Step::Cleaned]);
            stage.now += REDIRECT_DEADLINE;
            assert_eq!(stage.settle(), Phase::RollingBack);
            assert!(stage.why(ConditionType::Progressing).2.contains("x has an interface"));
            stage.unplug("x");
        }
        assert_eq!(stage.settle(), Phase::RolledBack, "{reason}");
        assert_eq!(stage.why(ConditionType::Succeeded).1, reason);
        if let Some(port) = &stage.world.port {
            assert_eq!(port.requested_chassis, None, "{reason}");
        }
    }
}

/// An interface may have been plugged a moment ago, and its agent not yet know.
#[test]
fn without_a_target_the_pin_stays_for_a_moment() {
    let mut stage = unnamed();
    stage.migration.spec.want = Want::Abort;
    assert_eq!(stage.settle(), Phase::RollingBack);
    for chassis in ["b", "x"] {
        stage.steps(chassis, &[Step::Cleaned]);
    }
    assert_eq!((stage.settle(), stage.option()), (Phase::RollingBack, Some("a")));
    stage.plug("b", true);
    stage.now += UNPLUGGED_GRACE;
    assert_eq!((stage.settle(), stage.option()), (Phase::RollingBack, Some("a")));
    stage.unplug("b");
    assert_eq!((stage.settle(), stage.option()), (Phase::RolledBack, None));
}

fn announced(stage: &Stage) -> Option<(Truth, String)> {
    let condition = stage.migration.status.progress.condition(ConditionType::Announced)?;
    Some((condition.status, condition.reason.clone()))
}

fn by_orchestrator() -> Option<(Truth, String)> {
    Some((Truth::False, "Orchestrator".to_owned()))
}

#[test]
fn the_orchestrators_word_counts_as_an_announcement() {
    let mut stage = Stage::orchestrated();
    stage.reach_armed();
    stage.migration.spec.want = Want::Activate;
    stage.plug("b", false);
    assert_eq!(stage.settle(), Phase::Armed);
    assert_eq!(announced(&stage), by_orchestrator());
    stage.now += MISSING_GRACE * 2;
    assert_eq!(stage.settle(), Phase::Armed, "a link that is down says nothing against it");
    stage.steps("b", &[Step::Activated]);
    assert_eq!(stage.settle(), Phase::Activated);

    let mut stage = Stage::orchestrated();
    stage.reach_armed();
    stage.steps("b", &[Step::Activated]);
    stage.migration.spec.want = Want::Activate;
    assert_eq!(stage.settle(), Phase::Activated);
    assert_eq!(announced(&stage), None, "it has announced itself");
}

#[test]
fn the_orchestrators_word_may_come_before_everything() {
    let mut stage = Stage::orchestrated();
    stage.migration.spec.want = Want::Activate;
    assert_eq!(stage.settle(), Phase::Arming, "the pin is set, and nobody is waited for");
    assert_eq!(stage.option(), Some("a"));
    assert_eq!(announced(&stage), by_orchestrator());
    stage.plug("b", false);
    stage.steps("b", &[Step::Activated]);
    assert_eq!(stage.settle(), Phase::Activated, "with or without the source");
}

#[test]
fn without_any_agent_on_the_target_ovn_moves_the_port() {
    let mut stage = Stage::orchestrated();
    stage.migration.spec.want = Want::Activate;
    assert_eq!(stage.settle(), Phase::Arming);
    stage.now += ACTIVATE_DEADLINE;
    assert_eq!(stage.settle(), Phase::Switched);
    assert_eq!(stage.option(), Some("b"));
    stage.chassis_catch_up();
    assert_eq!(stage.settle(), Phase::Released);
    stage.clean_up("a");
    assert_eq!(stage.settle(), Phase::Completed);
}

#[test]
fn a_port_that_is_with_the_guest_already_stays_there() {
    let mut stage = Stage::orchestrated();
    stage.settle();
    stage.bind_to("b");
    stage.settle();
    stage.migration.spec.want = Want::Activate;
    assert_eq!(stage.settle(), Phase::Switched);
    assert_eq!(stage.option(), Some("b"));
}

#[test]
fn a_guest_that_is_back_on_the_source_takes_the_port_along() {
    for phase in [Phase::Activated, Phase::Switched, Phase::Released] {
        let mut stage = Stage::orchestrated();
        stage.world.port.as_mut().unwrap().requested_chassis = Some("a".into());
        if phase == Phase::Activated {
            stage.reach_armed();
            stage.steps("b", &[Step::Activated]);
        } else {
            stage.reach_switched();
            stage.steps("a", &[Step::Redirected]);
        }
        stage.settle();
        if phase == Phase::Released {
            stage.chassis_catch_up();
        }
        assert_eq!(stage.settle(), phase);
        stage.ovn_claims();
        stage.migration.spec.want = Want::Return;
        assert_eq!(stage.settle(), Phase::RollingBack);
        assert_eq!(stage.option(), Some("a"), "at once");
        let (truth, reason, message) = stage.why(ConditionType::Succeeded);
        assert_eq!((truth, reason.as_str()), (Truth::False, "FailedBack"), "{message}");
        stage.clean_up("b");
        stage.bind_to("b");
        assert_eq!(stage.settle(), Phase::RollingBack, "the source has not claimed the port");
        assert_eq!(stage.why(ConditionType::Progressing).1, "Claiming");
        let progress = &stage.migration.status.progress;
        assert!(progress.condition(ConditionType::CaughtUp).is_none(), "the agents keep what covers it");
        stage.chassis_catch_up();
        assert!(stage.migration.status.progress.condition(ConditionType::CaughtUp).is_some());
        stage.now += UNPLUGGED_GRACE;
        assert_eq!(stage.settle(), Phase::RolledBack);
        assert_eq!(stage.option(), Some("a"), "the operator's own pin");
    }
}

/// While OVN has the port on both sides the source serves the guest, and nothing is lost by waiting.
#[test]
fn the_others_look_back_before_ovn_lets_go_of_the_target() {
    for answers in [true, false] {
        let mut stage = Stage::orchestrated();
        stage.reach_switched();
        stage.steps("x", &[Step::Redirected]);
        stage.migration.spec.want = Want::Return;
        assert_eq!(stage.settle(), Phase::RollingBack);
        assert_eq!(stage.option(), Some("a,b"));
        assert_eq!(stage.why(ConditionType::Progressing).1, "Redirecting");
        // Without a word it may be about to look to the target.
        stage.node("x").steps.remove(&Step::Redirected);
        assert_eq!(stage.settle(), Phase::RollingBack);
        assert_eq!(stage.option(), Some("a,b"));
        if answers {
            for chassis in ["a", "b", "x"] {
                stage.steps(chassis, &[Step::Returned]);
            }
        } else {
            stage.now += REDIRECT_DEADLINE;
        }
        stage.settle();
        assert_eq!(stage.option(), Some("a"));
    }
}

#[test]
fn a_return_before_the_guest_ran_anywhere_else_is_an_ordinary_way_back() {
    let mut stage = Stage::orchestrated();
    stage.reach_armed();
    stage.migration.spec.want = Want::Return;
    assert_eq!(stage.settle(), Phase::RollingBack);
    assert_eq!(stage.why(ConditionType::Succeeded).1, "Returned");
    stage.clean_up("b");
    assert_eq!(stage.settle(), Phase::RolledBack);
    assert_eq!(stage.options, [Some("a".into()), None]);

    let mut stage = Stage::orchestrated();
    stage.migration.spec.want = Want::Return;
    assert_eq!(stage.settle(), Phase::Rejected, "nothing was done yet");
    assert!(stage.options.is_empty());

    let mut stage = Stage::orchestrated();
    stage.migration.status.progress.phase = Phase::Completed;
    stage.migration.spec.want = Want::Return;
    assert_eq!(stage.settle(), Phase::Completed, "that is another migration's business");
}

#[test]
fn a_stolen_port_is_claimed_back_before_the_guest_may_run() {
    for to in [Some("b".to_owned()), None] {
        let mut stage = Stage::orchestrated();
        stage.migration.spec.to = to;
        stage.bind_to("b");
        stage.settle();
        assert_eq!(stage.option(), Some("a"));
        stage.migration.spec.to = Some("b".into());
        stage.cluster().hv_cfg = stage.nb_cfg;
        assert_eq!(stage.settle(), Phase::Arming);
        for chassis in ["a", "b"] {
            stage.plug(chassis, true);
            stage.steps(chassis, &[Step::Armed]);
        }
        assert_eq!(stage.settle(), Phase::Arming);
        assert_eq!(stage.why(ConditionType::Progressing).1, "Stolen");
        assert_eq!(stage.migration.status.progress.stolen, 1);
        stage.bind_to("a");
        assert_eq!(stage.settle(), Phase::Armed);
        assert_eq!(stage.why(ConditionType::OnSource).0, Truth::True);
        stage.bind_to("b");
        assert_eq!(stage.settle(), Phase::Armed);
        assert_eq!(stage.migration.status.progress.stolen, 2);
    }
}

#[test]
fn a_port_that_is_on_a_third_chassis_is_nobodys_to_take() {
    let mut stage = Stage::orchestrated();
    stage.bind_to("x");
    assert_eq!(stage.settle(), Phase::Rejected);
    assert_eq!(stage.why(ConditionType::Accepted).1, "NotOnSource");

    let mut stage = Stage::orchestrated();
    stage.reach_armed();
    stage.bind_to("x");
    assert_eq!(stage.settle(), Phase::RollingBack);
    assert_eq!(stage.why(ConditionType::Succeeded).1, "PortMoved");
}

#[test]
fn what_passes_by_itself_is_waited_for() {
    type Spoil = fn(&mut Stage);
    let cases: [(&str, Spoil, Spoil); 2] = [
        ("Busy", |s| s.world.rival = Some("other".into()), |s| s.world.rival = None),
        ("NotBound", |s| s.world.binding.as_mut().unwrap().chassis = None, |s| s.bind_to("a")),
    ];
    for (reason, spoil, mend) in cases {
        let mut stage = Stage::orchestrated();
        spoil(&mut stage);
        assert_eq!(stage.settle(), Phase::Pending, "{reason}");
        assert_eq!(stage.why(ConditionType::Progressing).1, reason);
        mend(&mut stage);
        assert_eq!(stage.settle(), Phase::Pinning, "{reason}");
    }
}

#[test]
fn nobody_guesses_where_an_orchestrator_knows() {
    let mut stage = Stage::orchestrated();
    stage.reach_armed();
    stage.node("a").interface = None;
    stage.settle();
    stage.now += PRESUME_AFTER;
    assert_eq!(stage.settle(), Phase::Armed);
    assert_eq!(announced(&stage), None);
}

fn managed() -> Stage {
    let mut stage = Stage::orchestrated();
    let port = stage.world.port.as_mut().unwrap();
    port.requested_chassis = Some("a,b".into());
    port.activation_strategy = Some("rarp".into());
    stage
}

#[test]
fn what_a_cni_manages_is_left_to_it() {
    let mut stage = managed();
    assert_eq!(stage.settle(), Phase::Rejected);
    let (_, reason, message) = stage.why(ConditionType::Accepted);
    assert_eq!(reason, "ManagedElsewhere");
    assert!(message.contains("spec.takeOver") && message.contains("a,b"), "{message}");
    assert!(stage.options.is_empty());
}

/// Kube-OVN names nodes, and leaves the name of the last one behind.
#[test]
fn a_pin_may_name_the_host() {
    let mut stage = managed();
    stage.cluster().hostnames = BTreeMap::from([("a", "n1"), ("b", "n2")].map(|(c, n)| (c.into(), n.into())));
    let port = stage.world.port.as_mut().unwrap();
    (port.requested_chassis, port.activation_strategy) = (Some("n1".into()), None);
    stage.reach_armed();
    stage.reach_switched_from_armed();
    stage.steps("a", &[Step::Redirected]);
    stage.settle();
    stage.chassis_catch_up();
    stage.settle();
    stage.clean_up("a");
    assert_eq!(stage.settle(), Phase::Completed);
    assert_eq!(stage.options.last(), Some(&Some("n2".to_owned())));
}

#[test]
fn what_is_taken_over_is_put_back_with_the_guests_side() {
    for (want, last, side) in [(Want::Complete, Phase::Completed, "b"), (Want::Abort, Phase::RolledBack, "a")]
    {
        let mut stage = managed();
        stage.migration.spec.take_over = true;
        stage.reach_armed();
        let restore = stage.migration.status.progress.restore.clone().unwrap();
        let (pin, strategy) = (Some("a,b".to_owned()), Some("rarp".to_owned()));
        assert_eq!(restore, Restore { requested_chassis: pin, activation_strategy: strategy });
        assert_eq!(stage.world.port.as_ref().unwrap().activation_strategy, None);
        stage.migration.spec.want = want;
        if want == Want::Complete {
            stage.reach_switched_from_armed();
            stage.steps("a", &[Step::Redirected]);
            stage.settle();
            stage.chassis_catch_up();
        }
        stage.settle();
        stage.clean_up(if side == "b" { "a" } else { "b" });
        assert_eq!(stage.settle(), last);
        assert_eq!(stage.option(), Some(side));
        assert_eq!(stage.world.port.as_ref().unwrap().activation_strategy.as_deref(), Some("rarp"));
    }
}

#[test]
fn what_someone_overwrites_is_set_again_but_not_at_full_speed() {
    let mut stage = Stage::orchestrated();
    stage.reach_armed();
    stage.now += OVERWRITE_PAUSE;
    type Overwrite = fn(&mut LogicalPort);
    let overwrites: [Overwrite; 2] = [
        |port| port.requested_chassis = Some("b".into()),
        |port| port.activation_strategy = Some("rarp".into()),
    ];
    for (i, overwrite) in (1..).zip(overwrites) {
        overwrite(stage.world.port.as_mut().unwrap());
        assert_eq!(stage.settle(), Phase::Armed);
        assert_eq!((stage.option(), stage.migration.status.progress.overwritten), (Some("a"), i));
        overwrite(stage.world.port.as_mut().unwrap());
        stage.settle();
        assert_eq!(stage.migration.status.progress.overwritten, i, "it was set a moment ago");
        stage.now += OVERWRITE_PAUSE;
        stage.settle();
        assert_eq!(stage.migration.status.progress.overwritten, i + 1);
        stage.migration.status.progress.overwritten = i;
        stage.now += OVERWRITE_PAUSE;
    }
    assert_eq!(stage.why(ConditionType::Undisturbed).1, "Overwritten");
}
