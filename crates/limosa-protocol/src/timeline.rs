//! The course of a migration: who took which step when, and what the step had
//! waited for.
//!
//! Read from the object alone. Each chassis dates its steps by its own clock,
//! and the controller by its own: where clocks differ, waits do too.

use jiff::Timestamp;

use crate::object::{Migration, Phase, Role, Step};

/// Every step of a migration, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// When the migration was asked for; always the time of the first event.
    pub started: Timestamp,
    pub events: Vec<Event>,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub who: Who,
    pub what: What,
    /// What kept it until then; nothing for the request itself.
    pub wait: Option<Wait>,
}

/// Who took a step. The order is that of the lanes in a drawing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Controller,
    Chassis(Role, String),
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Somebody has asked for the migration.
    Asked,
    /// The migration has come to a phase.
    Phase(Phase),
    /// A chassis has taken a step.
    Step(Step),
}

/// What a step waited for after its last condition but one had come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// What had to happen, for people.
    pub what: &'static str,
    /// The event after which nothing else was missing, by its place in [`Timeline::events`].
    pub after: usize,
    /// Microseconds since that event; less than none where two clocks differ.
    pub micros: i64,
}

impl Timeline {
    #[must_use]
    pub fn of(migration: &Migration) -> Self {
        let started = migration.metadata.creation_timestamp;
        let phases = migration.status.progress.steps.iter();
        let phases = phases.map(|(phase, at)| (*at, Who::Controller, What::Phase(*phase)));
        let steps = migration.status.nodes.iter().flat_map(|(chassis, node)| {
            let who = Who::Chassis(node.role, chassis.clone());
            node.steps.iter().map(move |(step, at)| (*at, who.clone(), What::Step(*step)))
        });
        let mut taken: Vec<_> = phases.chain(steps).collect();
        // What happened within one microsecond is told in the order of the protocol.
        taken.sort_by(|a, b| (a.0, a.2, &a.1).cmp(&(b.0, b.2, &b.1)));
        let mut events = vec![Event { at: started, who: Who::Controller, what: What::Asked, wait: None }];
        events.extend(taken.into_iter().map(|(at, who, what)| Event { at, who, what, wait: None }));
        let waits: Vec<_> = (0..events.len()).map(|index| wait(&events, index)).collect();
        for (event, wait) in events.iter_mut().zip(waits) {
            event.wait = wait;
        }
        Self { started, events }
    }

    /// Microseconds from the request to an event.
    #[must_use]
    pub fn micros(&self, event: &Event) -> i64 {
        between(self.started, event.at)
    }

    /// Everybody who took a step, in the order of lanes.
    #[must_use]
    pub fn lanes(&self) -> Vec<&Who> {
        let mut lanes: Vec<&Who> = self.events.iter().map(|event| &event.who).collect();
        lanes.sort();
        lanes.dedup();
        lanes
    }
}

impl What {
    /// `asked`, or the phase's or step's own name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Asked => "asked".to_owned(),
            Self::Phase(phase) => phase.to_string(),
            Self::Step(step) => format!("{step:?}"),
        }
    }
}

fn between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_microsecond() - from.as_microsecond()
}

fn wait(events: &[Event], index: usize) -> Option<Wait> {
    let event = events.get(index)?;
    let (what, causes) = conditions(event)?;
    let is_cause = |other: &Event| causes.iter().any(|cause| cause.is(other));
    let mut earlier = events[..index].iter().enumerate();
    // The request comes before everything, whatever was left out.
    let (after, last) = earlier.rfind(|(_, other)| is_cause(other)).unwrap_or((0, &events[0]));
    Some(Wait { what, after, micros: between(last.at, event.at) })
}

/// An event that others wait for.
#[derive(Clone, Copy)]
enum Cause {
    Asked,
    Phase(Phase),
    /// The step of a role.
    On(Role, Step),
    /// The step of any chassis.
    Any(Step),
}

impl Cause {
    fn is(self, event: &Event) -> bool {
        match (self, event.what, &event.who) {
            (Self::Asked, What::Asked, _) => true,
            (Self::Phase(phase), What::Phase(taken), _) => phase == taken,
            (Self::On(role, step), What::Step(taken), Who::Chassis(of, _)) => (role, step) == (*of, taken),
            (Self::Any(step), What::Step(taken), _) => step == taken,
            _ => false,
        }
    }
}

/// What a step waits for, and the events that tell that some of it has come;
/// `lifecycle` and `node` have the whole rules.
fn conditions(event: &Event) -> Option<(&'static str, Vec<Cause>)> {
    use Cause::{Any, Asked, On};
    use Role::{Source, Target};
    let after = |phase| Cause::Phase(phase);
    Some(match event.what {
        What::Asked => return None,
        What::Phase(Phase::Pending | Phase::Pinning | Phase::Rejected) => {
            ("a controller to look at the request", vec![Asked])
        }
        What::Phase(Phase::Arming) => {
            ("every chassis to know that the port is pinned to the source", vec![after(Phase::Pinning)])
        }
        What::Phase(Phase::Armed) => (
            "gate and mirror to stand",
            vec![after(Phase::Arming), On(Target, Step::Armed), On(Source, Step::Armed)],
        ),
        What::Phase(Phase::Activated) => {
            ("word that the guest runs on the target", vec![after(Phase::Armed), On(Target, Step::Activated)])
        }
        What::Phase(Phase::Bound) => (
            "OVN to bind the port on both sides, and every chassis to know",
            vec![after(Phase::Activated), On(Target, Step::Bound)],
        ),
        What::Phase(Phase::Switched) => {
            ("the target to decide by itself", vec![after(Phase::Bound), On(Target, Step::Switched)])
        }
        What::Phase(Phase::Released) => (
            "the source to let go of the port, and every chassis to know",
            vec![after(Phase::Switched), Any(Step::Redirected)],
        ),
        What::Phase(Phase::Completed) => (
            "the flows to go, and the interface on the source",
            vec![after(Phase::Released), Any(Step::Cleaned)],
        ),
        What::Phase(Phase::RollingBack) => {
            ("a reason to give up", Phase::ALL.into_iter().map(after).chain([Asked]).collect())
        }
        What::Phase(Phase::RolledBack) => (
            "the flows to go, and the interface on the target",
            vec![after(Phase::RollingBack), Any(Step::Cleaned)],
        ),
        What::Step(Step::Armed) if is_on(event, Source) => {
            ("the target's gate, before which nothing is mirrored", vec![On(Target, Step::Armed)])
        }
        What::Step(Step::Armed) => {
            ("the guest's interface, and the gate to stand", vec![after(Phase::Arming)])
        }
        What::Step(Step::Activated) => {
            ("the guest to announce itself", vec![after(Phase::Armed), On(Target, Step::Armed)])
        }
        What::Step(Step::Bound) => {
            ("OVN's own flows for the port", vec![after(Phase::Activated), On(Target, Step::Activated)])
        }
        What::Step(Step::Carried) => {
            ("the target to have the connections", vec![after(Phase::Bound), On(Target, Step::Bound)])
        }
        What::Step(Step::Held) => ("the port to be bound on both sides", vec![after(Phase::Bound)]),
        What::Step(Step::Opened) => (
            "everybody to send to the source alone, and the source's connections",
            vec![after(Phase::Bound), On(Source, Step::Carried), Any(Step::Held)],
        ),
        What::Step(Step::Switched) => {
            ("everybody to send to the target alone", vec![On(Target, Step::Opened), Any(Step::Redirected)])
        }
        What::Step(Step::Redirected) => ("the target to take direct packets", vec![On(Target, Step::Opened)]),
        What::Step(Step::Returned) => (
            "word that the guest stays on the source",
            Phase::ALL.into_iter().map(after).chain([Asked]).collect(),
        ),
        What::Step(Step::Cleaned) => {
            ("the end, and its flows to go", vec![after(Phase::Released), after(Phase::RollingBack)])
        }
    })
}

fn is_on(event: &Event, role: Role) -> bool {
    matches!(&event.who, Who::Chassis(of, _) if *of == role)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::object::{NodeStatus, Spec};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).unwrap()
    }

    /// Times in microseconds, in the order of the protocol.
    fn migration() -> Migration {
        let spec = Spec::new("vm1", "a", Some("b".to_owned()));
        let mut migration = Migration::new("m".into(), Uuid::from_u128(1), spec, at(100));
        let phases =
            [(Phase::Pinning, 110), (Phase::Arming, 150), (Phase::Armed, 230), (Phase::Activated, 510)];
        migration.status.progress.steps = phases.map(|(phase, micros)| (phase, at(micros))).into();
        for (chassis, role, steps) in [
            ("a", Role::Source, vec![(Step::Armed, 220)]),
            ("b", Role::Target, vec![(Step::Armed, 200), (Step::Activated, 500)]),
        ] {
            let mut node = NodeStatus::new(role);
            steps.into_iter().for_each(|(step, micros)| node.take(step, at(micros)));
            migration.status.nodes.insert(chassis.to_owned(), node);
        }
        migration
    }

    #[test]
    fn each_step_says_what_it_waited_for() {
        let timeline = Timeline::of(&migration());
        let names: Vec<String> = timeline.events.iter().map(|event| event.what.name()).collect();
        assert_eq!(
            names,
            ["asked", "Pinning", "Arming", "Armed", "Armed", "Armed", "Activated", "Activated"]
        );
        let waits: Vec<_> = timeline
            .events
            .iter()
            .filter_map(|event| event.wait.map(|wait| (wait.after, wait.micros)))
            .collect();
        assert_eq!(waits, [(0, 10), (1, 40), (2, 50), (3, 20), (4, 10), (5, 270), (6, 10)]);
        assert_eq!(timeline.micros(&timeline.events[7]), 410);
        assert_eq!(timeline.lanes().len(), 3);
        assert_eq!(timeline.lanes()[0], &Who::Controller);
    }

    #[test]
    fn an_object_without_any_status_is_a_request() {
        let spec = Spec::new("vm1", "a", None);
        let migration = Migration::new("m".into(), Uuid::from_u128(1), spec, at(1));
        assert_eq!(Timeline::of(&migration).events.len(), 1);
    }

    /// The target's clock is behind: its step seems to come before its cause.
    #[test]
    fn clocks_that_differ_lose_no_step() {
        let mut migration = migration();
        migration.status.nodes.get_mut("b").unwrap().steps.insert(Step::Armed, at(20));
        let timeline = Timeline::of(&migration);
        assert_eq!(timeline.events.len(), 8);
        assert!(
            timeline
                .events
                .iter()
                .all(|event| event.wait.is_some_and(|w| w.after < 8) || event.wait.is_none())
        );
        assert_eq!(timeline.micros(&timeline.events[1]), -80);
    }
}
