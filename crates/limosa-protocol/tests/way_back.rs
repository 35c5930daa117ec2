//! What the agents do when the guest is on the source for good, and what they
//! say of the target's interface meanwhile.

mod bridge;

use bridge::{A, B, Bridge, X, migration};
use limosa_protocol::facts::Installed;
use limosa_protocol::object::{ConditionType, Problem, Truth, Want};
use limosa_protocol::{Cookie, Migration, Phase, Purpose, Step, Vouch};

fn purposes(bridge: &Bridge) -> Vec<Purpose> {
    let mut found: Vec<_> =
        bridge.ours().iter().filter_map(|flow| Cookie::decode(flow.cookie)).map(|c| c.purpose).collect();
    found.sort_unstable();
    found
}

const SHUT: [Purpose; 5] =
    [Purpose::GateOut, Purpose::GateMirrored, Purpose::GateDirect, Purpose::Guard, Purpose::Take];

fn caught_up(migration: &mut Migration, bridge: &Bridge) {
    let why = Problem::new("CaughtUp", "");
    migration.status.progress.set_condition(ConditionType::CaughtUp, Truth::True, why, bridge.now());
}

#[test]
fn the_source_lets_go_at_once_and_the_target_shuts_its_gate() {
    for switched in [false, true] {
        let (mut a, mut b, mut x) = (Bridge::of(&A), Bridge::of(&B), Bridge::of(&X));
        let mut migration = migration(Phase::Armed);
        b.plan_until_settled(&mut migration);
        a.plan_until_settled(&mut migration);
        b.guest_announces_itself();
        if switched {
            b.ovn_binds();
            migration.status.progress.phase = Phase::Bound;
            caught_up(&mut migration, &b);
            b.plan_until_settled(&mut migration);
            b.time_passes();
        }
        for bridge in [&mut b, &mut a, &mut x] {
            bridge.plan_until_settled(&mut migration);
        }
        assert_eq!(x.dump().contains("output:2"), switched, "{}", x.dump());
        assert_eq!(x.status(&migration).has(Step::Redirected), switched);

        // The agents do not wait for the controller.
        migration.spec.want = Want::Return;
        for bridge in [&mut a, &mut b, &mut x] {
            bridge.plan_until_settled(&mut migration);
        }
        assert_eq!(a.dump(), "");
        assert!(a.status(&migration).has(Step::Cleaned));
        assert_eq!(purposes(&b), SHUT, "{}", b.dump());
        assert_eq!(purposes(&x), [Purpose::Guard]);
        assert!(x.dump().contains("output:1"), "it looks to the source: {}", x.dump());
        for bridge in [&a, &b, &x] {
            assert!(bridge.status(&migration).has(Step::Returned), "and says so");
        }

        migration.status.progress.conditions.clear();
        migration.status.progress.enter(Phase::RollingBack, b.now());
        for bridge in [&mut b, &mut x] {
            bridge.plan_until_settled(&mut migration);
            assert!(!bridge.dump().is_empty() && !bridge.status(&migration).has(Step::Cleaned));
        }
        caught_up(&mut migration, &b);
        x.plan_until_settled(&mut migration);
        assert!(x.dump().is_empty() && x.status(&migration).has(Step::Cleaned));
        b.plan_until_settled(&mut migration);
        assert_eq!(purposes(&b), SHUT, "a guest may still run there");
        b.unplug();
        b.plan_until_settled(&mut migration);
        assert!(b.dump().is_empty() && b.status(&migration).has(Step::Cleaned));
    }
}

#[test]
fn the_target_vouches_for_its_interface_as_soon_as_the_gate_stands() {
    let mut b = Bridge::of(&B);
    b.link_down();
    b.hide_log_to_phy();
    let mut migration = migration(Phase::Arming);
    b.plan_until_settled(&mut migration);
    assert_eq!(b.vouches, [], "the gate does not stand");
    let mut b = Bridge::of(&B);
    b.link_down();
    b.plan_until_settled(&mut migration);
    let given = Vouch::Give { interface: "tap0".into(), by: "m".into() };
    assert_eq!(b.vouches, [given], "what is waited for comes before the guest");
    assert!(!b.status(&migration).has(Step::Armed));
}

#[test]
fn what_ovn_has_said_itself_is_left_alone() {
    let by_ovn = || Installed { installed: true, by_ovn: true, vouched_by: None };
    let mut b = Bridge::of(&B);
    b.facts.installed.insert("vm1".into(), by_ovn());
    let mut migration = migration(Phase::Arming);
    b.plan_until_settled(&mut migration);
    assert_eq!(b.vouches, []);

    // It has claimed the port in the meantime; our name goes, its word stays.
    let mut b = Bridge::of(&B);
    b.plan_until_settled(&mut migration);
    b.facts.installed.insert("vm1".into(), Installed { vouched_by: Some("m".into()), ..by_ovn() });
    migration.status.progress.phase = Phase::Released;
    b.plan_until_settled(&mut migration);
    assert_eq!(b.facts.installed["vm1"], by_ovn());
    assert!(b.status(&migration).has(Step::Cleaned));
}

#[test]
fn a_word_that_is_not_true_any_more_is_taken_back() {
    let mut b = Bridge::of(&B);
    let mut migration = migration(Phase::Arming);
    b.plan_until_settled(&mut migration);
    migration.status.progress.enter(Phase::RollingBack, b.now());
    b.plan_until_settled(&mut migration);
    assert_eq!(b.facts.installed["vm1"], Installed::default());
    assert!(b.status(&migration).has(Step::Cleaned));
}
