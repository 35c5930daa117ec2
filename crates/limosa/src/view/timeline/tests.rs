//! A migration that went well, drawn.

use limosa_protocol::Step;
use limosa_protocol::object::{NodeStatus, Problem, Spec};
use uuid::Uuid;

use super::*;
use crate::view::timeline_svg::svg;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(1_700_000_000_000_000 + micros).unwrap()
}

fn course() -> Course {
    let spec = Spec::new("vm<1>", "ch1", Some("ch2".to_owned()));
    let mut migration = Migration::new("move1".to_owned(), Uuid::nil(), spec, at(0));
    migration.status.progress.phase = Phase::Completed;
    migration.status.progress.steps = [
        (Phase::Pinning, 1_204),
        (Phase::Arming, 61_870),
        (Phase::Armed, 230_401),
        (Phase::Activated, 1_510_733),
        (Phase::Bound, 1_702_090),
        (Phase::Switched, 1_731_855),
        (Phase::Released, 1_930_002),
        (Phase::Completed, 3_100_450),
    ]
    .map(|(phase, micros)| (phase, at(micros)))
    .into();
    for (chassis, role, steps) in [
        (
            "ch1",
            Role::Source,
            vec![
                (Step::Armed, 229_800),
                (Step::Held, 1_703_900),
                (Step::Carried, 1_704_300),
                (Step::Redirected, 1_731_000),
                (Step::Cleaned, 1_933_120),
            ],
        ),
        (
            "ch2",
            Role::Target,
            vec![
                (Step::Armed, 214_020),
                (Step::Activated, 1_510_002),
                (Step::Bound, 1_580_441),
                (Step::Held, 1_704_080),
                (Step::Opened, 1_706_222),
                (Step::Switched, 1_731_102),
                (Step::Cleaned, 1_932_870),
            ],
        ),
        (
            "ch3",
            Role::Bystander,
            vec![(Step::Held, 1_703_790), (Step::Redirected, 1_730_555), (Step::Cleaned, 1_932_990)],
        ),
    ] {
        let mut node = NodeStatus::new(role);
        steps.into_iter().for_each(|(step, micros)| node.take(step, at(micros)));
        migration.status.nodes.insert(chassis.to_owned(), node);
    }
    Course::of(&migration)
}

#[test]
fn as_text() {
    insta::assert_snapshot!(course().text());
}

#[test]
fn as_a_picture() {
    let picture = svg(&course());
    assert!(!picture.contains("vm<1>") && picture.contains("vm&lt;1&gt;"), "names are escaped");
    assert_eq!(picture.matches("<circle").count(), 24);
    insta::assert_snapshot!(picture);
}

#[test]
fn as_data() {
    let course = serde_json::to_value(course()).unwrap();
    assert_eq!(course["lanes"], serde_json::json!(["controller", "ch1 (source)", "ch2 (target)", "ch3"]));
    let armed = &course["events"][3];
    assert_eq!((armed["step"].as_str(), armed["micros"].as_i64()), (Some("Armed"), Some(214_020)));
    assert_eq!(
        (armed["waited"]["after"].as_u64(), armed["waited"]["micros"].as_i64()),
        (Some(2), Some(152_150))
    );
}

#[test]
fn what_is_not_as_it_should_be_stands_at_the_head() {
    let spec = Spec::new("vm1", "ch1", Some("ch2".to_owned()));
    let mut migration = Migration::new("move1".to_owned(), Uuid::nil(), spec, at(0));
    assert_eq!(
        Course::of(&migration).head(),
        "move1: vm1 from ch1 to ch2, Pending after 0.000000 s\n  no controller has looked at it yet; `limosa check` tells whether one does\n"
    );
    let why = |reason: &str, message: &str| Problem::new(reason, message);
    let progress = &mut migration.status.progress;
    progress.enter(Phase::Activated, at(2));
    progress.set_condition(
        ConditionType::Progressing,
        Truth::False,
        why("Claiming", "waiting for ch2"),
        at(3),
    );
    progress.set_condition(ConditionType::OnSource, Truth::False, why("Stolen", "ch2 was first"), at(3));
    progress.set_condition(ConditionType::CaughtUp, Truth::True, why("CaughtUp", "all have followed"), at(3));
    let mut target = NodeStatus::new(Role::Target);
    target.problem = Some(why("InterfaceDown", "its link is down"));
    migration.status.nodes.insert("ch2".to_owned(), target);
    let course = Course::of(&migration);
    assert_eq!(
        course.head().lines().skip(1).collect::<Vec<_>>(),
        [
            "  waiting for ch2 (Claiming)",
            "  ‼ ch2 was first (Stolen)",
            "  ‼ ch2: its link is down (InterfaceDown)"
        ]
    );
    assert_eq!(course.text().lines().position(|line| line.contains('●')), Some(course.head_lines()));
}
