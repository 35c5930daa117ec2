//! When a migration may take its next step, and what the northbound options
//! have to be meanwhile.
//!
//! [`decide`] looks at the object and at the world and says what should be;
//! whoever calls it makes it so and calls again. The object is written before
//! the database is changed, so that a restart finds what has to be undone.
//!
//! | phase | `options:requested-chassis` | left when |
//! |---|---|---|
//! | Pending | untouched | the request makes sense (else Rejected) |
//! | Pinning | A | every chassis knows, or at the deadline A and B do |
//! | Arming | A | gate and mirror stand |
//! | Armed | A | the guest announces itself on B |
//! | Activated | A,B | B has claimed the port and has OVN's flows, every chassis knows |
//! | Bound | A,B | B takes direct packets |
//! | Switched | B | the others look to B, B has claimed the port, every chassis knows |
//! | Released | B, then as it was | flows are gone, A's interface is gone |
//! | RollingBack | A, then as it was | flows are gone, B's interface is gone |

mod accept;
mod barrier;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::MacAddr;
use crate::cookie::MAX_MIGRATION;
use crate::object::{
    ConditionType, Migration, NodeStatus, Phase, Problem, Progress, Role, Step, Truth, Want,
};

use accept::accept;
use barrier::{BIND_ROUNDS, Barrier, RELEASE_ROUNDS};

/// How long a step waits for every chassis to follow a change of the
/// northbound options. ovn-controller may recompute for seconds on a busy
/// node, and nothing is lost by waiting; but one dead node must not hold up a
/// migration for good.
pub const BARRIER_DEADLINE: SignedDuration = SignedDuration::from_secs(30);
/// How long the release waits for the other agents to look to the target.
/// Without their flows a few milliseconds of OVN's own change are not covered.
pub const REDIRECT_DEADLINE: SignedDuration = SignedDuration::from_secs(2);
/// How long the guest's interface may be gone, or its link down, before it
/// counts. A switch that restarts and an interface that is plugged anew are
/// back within a second or two.
pub const MISSING_GRACE: SignedDuration = SignedDuration::from_secs(3);
/// How long the source's interface has to be gone for the guest to be taken to
/// run on the target without an announcement. That is a guess, and a wrong one
/// cuts the guest off; it is made when there is nothing better.
pub const PRESUME_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// How long the interface of the side that has no guest at the end has to be
/// gone: one that is being plugged anew would claim the port without the pin.
pub const UNPLUGGED_GRACE: SignedDuration = SignedDuration::from_secs(1);

/// What the databases say about one logical port.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The row in `Logical_Switch_Port`.
    pub port: Option<LogicalPort>,
    /// The row in `Port_Binding`.
    pub binding: Option<Binding>,
    /// Every chassis of the southbound database, with its encapsulation types.
    pub chassis: BTreeMap<String, BTreeSet<String>>,
    /// `NB_Global.hv_cfg`: the `nb_cfg` that every chassis has caught up with.
    pub hv_cfg: i64,
    /// `Chassis_Private.nb_cfg`: the same for each chassis.
    pub nb_cfg: BTreeMap<String, i64>,
    /// `Port_Binding.additional_chassis` exists (OVN 22.09 and later).
    pub can_bind_twice: bool,
    /// Another migration of this port that has not ended.
    pub rival: Option<String>,
    /// Numbers that other migrations carry in their cookies.
    pub numbers: BTreeSet<u32>,
}

/// A row of `Logical_Switch_Port`.
#[derive(Debug, Clone, Default)]
pub struct LogicalPort {
    /// `type`; empty for a VIF.
    pub kind: String,
    /// The Ethernet addresses in `addresses`, `dynamic_addresses` and `port_security`.
    pub macs: Vec<MacAddr>,
    pub requested_chassis: Option<String>,
    pub activation_strategy: Option<String>,
    /// The migration that has written `requested_chassis`, by name.
    pub pinned_by: Option<String>,
}

/// A row of `Port_Binding`.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    pub chassis: Option<String>,
    /// `additional_chassis`, by name.
    pub additional: Vec<String>,
    pub datapath_key: i64,
    pub port_key: i64,
}

/// What should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The controller's part of the status.
    pub progress: Progress,
    /// What the northbound option has to be changed to, if it has to be.
    pub change: Option<Change>,
    /// When to decide again although nothing has changed.
    pub wake_at: Option<Timestamp>,
}

/// A change of `options:requested-chassis`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Set, with a new `nb_cfg`; both go into [`Progress::barrier`].
    Set { requested_chassis: String, round: u8, since: Timestamp },
    /// As the operator had it; `None` takes the option away.
    Restore(Option<String>),
}

/// Decides what should be of one migration.
#[must_use]
pub fn decide(migration: &Migration, world: &World, now: Timestamp) -> Decision {
    let progress = migration.status.progress.clone();
    let mut step = Stepper { migration, world, now, progress, change: None, wake_at: None };
    step.run();
    Decision { progress: step.progress, change: step.change, wake_at: step.wake_at }
}

struct Stepper<'a> {
    migration: &'a Migration,
    world: &'a World,
    now: Timestamp,
    progress: Progress,
    change: Option<Change>,
    wake_at: Option<Timestamp>,
}

impl Stepper<'_> {
    fn run(&mut self) {
        let phase = self.progress.phase;
        if phase.is_final() {
            return;
        }
        self.note_missing();
        if (Phase::Pinning..Phase::Released).contains(&phase)
            && let Some(why) = self.failure()
        {
            return self.end_early(why);
        }
        match phase {
            Phase::Pending => self.pending(),
            Phase::Pinning => self.pinning(),
            Phase::Arming => self.arming(),
            Phase::Armed => self.armed(),
            Phase::Activated => self.activated(),
            Phase::Bound => self.bound(),
            Phase::Switched => self.switched(),
            Phase::Released => self.released(),
            Phase::RollingBack => self.rolling_back(),
            Phase::Completed | Phase::RolledBack | Phase::Rejected => {}
        }
    }

    fn pending(&mut self) {
        match accept(self.migration, self.world) {
            Ok((subject, restore)) => {
                self.progress.number =
                    free_number(self.migration.metadata.uid.as_u128(), &self.world.numbers);
                self.progress.subject = Some(subject);
                self.progress.restore = Some(restore);
                let why = Problem::new(
                    "Accepted",
                    "the port, both chassis and the port's options were found in order",
                );
                self.progress.set_condition(ConditionType::Accepted, Truth::True, why, self.now);
                self.enter(Phase::Pinning);
            }
            Err(why) => {
                self.progress.set_condition(ConditionType::Accepted, Truth::False, why.clone(), self.now);
                self.progress.set_condition(ConditionType::Succeeded, Truth::False, why, self.now);
                self.enter(Phase::Rejected);
            }
        }
    }

    fn pinning(&mut self) {
        // Without the pin the target would claim the port as soon as it has the
        // interface: a chassis that is down holds this barrier up only if it is
        // one of the two.
        let Migration { spec, .. } = self.migration;
        let both_know = |this: &Self| this.has_followed(&spec.from) && this.has_followed(spec.target());
        let pinned = self.pin(&spec.from);
        if spec.to.is_none() && pinned != Barrier::Waiting {
            let message = format!("{} is pinned to {}; the target is not known yet", spec.port, spec.from);
            return self.wait("AwaitingTarget", message);
        }
        match pinned {
            Barrier::Reached => self.enter(Phase::Arming),
            Barrier::Missed if both_know(self) => self.enter(Phase::Arming),
            Barrier::Missed => {
                let message = format!(
                    "{} or {} has not learned that the port is pinned (Chassis_Private:nb_cfg): is ovn-controller running there?",
                    spec.from,
                    spec.target()
                );
                self.wait("Pinning", message);
            }
            Barrier::Waiting => {
                let message = "waiting for every chassis to learn that the port is pinned (NB_Global:hv_cfg)";
                self.wait("Pinning", message.to_owned());
            }
        }
    }

    fn arming(&mut self) {
        self.pin(&self.migration.spec.from);
        if self.node_has(Role::Target, Step::Armed) && self.node_has(Role::Source, Step::Armed) {
            self.enter(Phase::Armed);
        } else {
            self.wait_for_agents(&[Role::Target, Role::Source]);
        }
    }

    fn armed(&mut self) {
        self.pin(&self.migration.spec.from);
        if self.node_has(Role::Target, Step::Activated) {
            self.enter(Phase::Activated);
        } else if self.is_missing(Role::Source, PRESUME_AFTER)
            && !self.progress.missing_since.contains_key(&Role::Target)
        {
            let Migration { spec, .. } = self.migration;
            let message = format!(
                "the guest's interface on {} has gone, the one on {} is there, and no announcement (RARP) was seen: the guest is taken to run on {}",
                spec.from,
                spec.target(),
                spec.target()
            );
            let why = Problem::new("SourceGone", message);
            self.progress.set_condition(ConditionType::Announced, Truth::False, why.clone(), self.now);
            self.wait(&why.reason, why.message);
        } else {
            self.progress.conditions.retain(|condition| condition.kind != ConditionType::Announced);
            self.wait(
                "AwaitingGuest",
                "both sides are ready; waiting for the guest to announce itself (RARP) on the target"
                    .to_owned(),
            );
        }
    }

    fn activated(&mut self) {
        let Migration { spec, .. } = self.migration;
        let claimed = self
            .world
            .binding
            .as_ref()
            .is_some_and(|binding| binding.additional.iter().any(|chassis| chassis == spec.target()));
        let barrier = self.ensure(format!("{},{}", spec.from, spec.target()), claimed, BIND_ROUNDS);
        if barrier == Barrier::Waiting {
            self.wait_for_claim(claimed, "the port is on both");
        } else if self.node_has(Role::Target, Step::Bound) {
            self.note_barrier(barrier);
            self.enter(Phase::Bound);
        } else {
            self.wait_for_agents(&[Role::Target]);
        }
    }

    fn bound(&mut self) {
        if self.node_has(Role::Target, Step::Switched) {
            self.enter(Phase::Switched);
        } else {
            self.wait_for_agents(&[Role::Target]);
        }
    }

    fn switched(&mut self) {
        let redirect_by = self.progress.steps.get(&Phase::Switched).map(|at| *at + REDIRECT_DEADLINE);
        let looks_to_target = |node: &NodeStatus| {
            node.role == Role::Target || node.has(Step::Redirected) || node.problem.is_some()
        };
        let redirected = self.migration.status.nodes.values().all(looks_to_target);
        if !redirected && redirect_by.is_some_and(|by| !self.wait_until(by)) {
            return self.wait("Redirecting", "waiting for the other agents to look to the target".to_owned());
        }
        let Migration { spec, .. } = self.migration;
        let claimed = self
            .world
            .binding
            .as_ref()
            .is_some_and(|binding| binding.chassis.as_deref() == Some(spec.target()));
        let barrier = self.ensure(spec.target().to_owned(), claimed, RELEASE_ROUNDS);
        if barrier == Barrier::Waiting {
            self.wait_for_claim(claimed, "the port has left the source");
        } else {
            self.note_barrier(barrier);
            self.enter(Phase::Released);
        }
    }

    fn released(&mut self) {
        let Migration { spec, .. } = self.migration;
        if let Some(wait) = self.leftover(Role::Source) {
            self.pin(spec.target());
            return self.wait("CleaningUp", wait);
        }
        // An operator's pin to the source moves with the guest.
        let pin = self.progress.restore.as_ref().and_then(|restore| restore.requested_chassis.as_ref());
        if self.restore(pin.map(|_| spec.target().to_owned())) {
            let message =
                format!("{} runs on {}; nothing of the migration is left", spec.port, spec.target());
            self.finish(Phase::Completed, Truth::True, Problem::new("Completed", message));
        }
    }

    fn rolling_back(&mut self) {
        let Migration { spec, .. } = self.migration;
        let target = self.migration.target().filter(|target| target.has(Step::Activated));
        if target.and_then(|target| target.interface.as_ref()).is_some_and(|interface| interface.link_up) {
            // The guest was faster than the decision to give up.
            self.progress.conditions.retain(|condition| condition.kind != ConditionType::Succeeded);
            return self.enter(Phase::Armed);
        }
        if let Some(wait) = self.leftover(Role::Target) {
            self.pin(&spec.from);
            return self.wait("CleaningUp", wait);
        }
        let pin = self.progress.restore.as_ref().and_then(|restore| restore.requested_chassis.clone());
        if self.restore(pin) {
            self.enter(Phase::RolledBack);
        }
    }

    /// Keeps account of since when interfaces are gone: until the guest runs on
    /// the target those that were there once, at the end that of the side which
    /// has no guest.
    fn note_missing(&mut self) {
        let phase = self.progress.phase;
        for role in [Role::Source, Role::Target] {
            let interface = self.node(role).and_then(|node| node.interface.as_ref());
            let gone = match (phase, role) {
                (Phase::Arming | Phase::Armed, _) => {
                    self.node_has(role, Step::Armed) && !interface.is_some_and(|interface| interface.link_up)
                }
                (Phase::Switched | Phase::Released, Role::Source) | (Phase::RollingBack, Role::Target) => {
                    interface.is_none()
                }
                _ => false,
            };
            if gone {
                self.progress.missing_since.entry(role).or_insert(self.now);
            } else {
                self.progress.missing_since.remove(&role);
            }
        }
    }

    /// Whether the interface of a side has been gone for long enough to count.
    fn is_missing(&mut self, role: Role, grace: SignedDuration) -> bool {
        self.progress.missing_since.get(&role).copied().is_some_and(|since| self.wait_until(since + grace))
    }

    /// Whether that time has come; if not, it is when to decide again.
    fn wait_until(&mut self, at: Timestamp) -> bool {
        if self.now < at {
            self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
        }
        self.now >= at
    }

    /// What ends the migration before its time.
    fn failure(&mut self) -> Option<Problem> {
        let spec = &self.migration.spec;
        if self.world.port.is_none() {
            return Some(Problem::new(
                "PortGone",
                format!("logical switch port {} has been deleted", spec.port),
            ));
        }
        let activated =
            self.progress.phase.is_past_activation() || self.node_has(Role::Target, Step::Activated);
        if activated {
            return None;
        }
        if spec.want == Want::Abort {
            return Some(Problem::new("Aborted", "aborted before the guest ran on the target"));
        }
        for chassis in [Some(&spec.from), spec.to.as_ref()].into_iter().flatten() {
            if !self.world.chassis.contains_key(chassis) {
                return Some(Problem::new(
                    "ChassisGone",
                    format!("chassis {chassis} has left the southbound database"),
                ));
            }
        }
        let bound_to = self.world.binding.as_ref().and_then(|binding| binding.chassis.as_ref());
        if let Some(chassis) = bound_to.filter(|chassis| **chassis != spec.from) {
            return Some(Problem::new(
                "PortMoved",
                format!("{} has been bound to chassis {chassis} meanwhile", spec.port),
            ));
        }
        if self.is_missing(Role::Target, MISSING_GRACE) {
            let message =
                format!("the guest's interface on {} has gone before the guest ran there", spec.target());
            return Some(Problem::new("TargetLost", message));
        }
        None
    }

    fn end_early(&mut self, why: Problem) {
        self.progress.set_condition(ConditionType::Succeeded, Truth::False, why, self.now);
        let past = self.progress.phase.is_past_activation();
        self.enter(if past { Phase::Released } else { Phase::RollingBack });
    }

    fn finish(&mut self, phase: Phase, truth: Truth, why: Problem) {
        // A failure that was noted on the way stays noted.
        if self.progress.condition(ConditionType::Succeeded).is_none() {
            self.progress.set_condition(ConditionType::Succeeded, truth, why, self.now);
        }
        self.enter(phase);
    }

    fn enter(&mut self, phase: Phase) {
        self.progress.enter(phase, self.now);
        let ended = phase.is_final();
        let why = Problem::new(&phase.to_string(), "");
        self.progress.set_condition(
            ConditionType::Progressing,
            if ended { Truth::False } else { Truth::True },
            why,
            self.now,
        );
    }

    fn wait(&mut self, reason: &str, message: String) {
        self.progress.set_condition(
            ConditionType::Progressing,
            Truth::True,
            Problem::new(reason, message),
            self.now,
        );
    }

    fn node(&self, role: Role) -> Option<&NodeStatus> {
        match role {
            Role::Source => self.migration.source(),
            Role::Target => self.migration.target(),
            Role::Bystander => None,
        }
    }

    fn node_has(&self, role: Role, step: Step) -> bool {
        self.node(role).is_some_and(|node| node.has(step))
    }

    /// Says what the first of the agents that has a problem is waiting for.
    fn wait_for_agents(&mut self, roles: &[Role]) {
        let spec = &self.migration.spec;
        for role in roles {
            let chassis = if *role == Role::Source { spec.from.as_str() } else { spec.target() };
            match self.node(*role) {
                None => {
                    let message = format!(
                        "no agent has reported from chassis {chassis}: is `limosa agent` running there, on the same store?"
                    );
                    return self.wait("NoAgent", message);
                }
                Some(NodeStatus { problem: Some(Problem { reason, message }), .. }) => {
                    let (reason, message) = (reason.clone(), message.clone());
                    return self.wait(&reason, message);
                }
                Some(_) => {}
            }
        }
        self.wait("WaitingForAgents", "waiting for the agents to carry out the step".to_owned());
    }

    /// Says what [`Self::ensure`] is waiting for.
    fn wait_for_claim(&mut self, claimed: bool, what: &str) {
        let to = self.migration.spec.target();
        if claimed {
            let message = format!("waiting for every chassis to learn that {what} (NB_Global:hv_cfg)");
            self.wait("CatchingUp", message);
        } else {
            let message = format!(
                "waiting for {to} to claim the port (Port_Binding): is ovn-controller running on {to}?"
            );
            self.wait("Claiming", message);
        }
    }

    /// Makes the northbound option what it was, without our mark; true once it is.
    fn restore(&mut self, value: Option<String>) -> bool {
        let Some(port) = &self.world.port else { return true };
        let ours = port.pinned_by.as_ref() == Some(&self.migration.metadata.name);
        let done = port.requested_chassis == value && !ours;
        if !done {
            self.change = Some(Change::Restore(value));
        }
        done
    }

    /// What still stands in the way of taking the pin off: flows anywhere, or
    /// an interface on `loser`, whose ovn-controller would claim the port.
    fn leftover(&mut self, loser: Role) -> Option<String> {
        let Migration { spec, status, .. } = self.migration;
        let alive = |chassis: &str| self.world.chassis.contains_key(chassis);
        let uncleaned = |(chassis, node): &(&String, &NodeStatus)| alive(chassis) && !node.has(Step::Cleaned);
        if let Some((chassis, _)) = status.nodes.iter().find(uncleaned) {
            return Some(format!("waiting for the agent on {chassis} to take its flows away"));
        }
        let (chassis, keeper) = match loser {
            Role::Source => (spec.from.as_str(), spec.target()),
            _ => (spec.target(), spec.from.as_str()),
        };
        // Before Arming no interface was asked for.
        if !alive(chassis) || !self.progress.steps.contains_key(&Phase::Arming) {
            return None;
        }
        let Some(node) = status.nodes.get(chassis) else {
            return Some(format!(
                "waiting for an agent on {chassis} to say that the guest's interface is not there: if it is, {chassis} would claim the port"
            ));
        };
        match &node.interface {
            Some(interface) => Some(format!(
                "{chassis} still has the guest's interface {}; the port stays pinned to {keeper} until it is unplugged, or {chassis} would claim it",
                interface.name
            )),
            None if self.is_missing(loser, UNPLUGGED_GRACE) => None,
            None => Some(format!(
                "the guest's interface on {chassis} is gone; waiting a moment for it to stay so"
            )),
        }
    }
}

/// A number for a migration that no other carries; derived from its UID, so
/// that a controller that dies before writing it down chooses the same again.
fn free_number(uid: u128, taken: &BTreeSet<u32>) -> u32 {
    let first = (uid % u128::from(MAX_MIGRATION)) as u32;
    let candidates = (0..MAX_MIGRATION).map(|i| (first + i) % MAX_MIGRATION + 1);
    candidates.into_iter().find(|number| !taken.contains(number)).unwrap_or(first + 1)
}
