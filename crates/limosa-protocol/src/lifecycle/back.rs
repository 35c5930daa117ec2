//! The way back to the source, and what sends a migration there.

use jiff::SignedDuration;

use super::accept::{sides, thief};
use super::barrier::{Barrier, RELEASE_ROUNDS};
use super::{MISSING_GRACE, REDIRECT_DEADLINE, Stepper, UNPLUGGED_GRACE};
use crate::object::{ConditionType, Migration, NodeStatus, Phase, Problem, Role, Step, Truth, Want};

impl Stepper<'_> {
    /// What ends the migration before its time.
    pub(super) fn failure(&mut self) -> Option<Problem> {
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
        if self.progress.phase == Phase::Pinning
            && let Err(why) = sides(spec, self.world)
        {
            // The target may have been named only now.
            return Some(why);
        }
        for chassis in [Some(&spec.from), spec.to.as_ref()].into_iter().flatten() {
            if !self.world.cluster.chassis.contains_key(chassis) {
                return Some(Problem::new(
                    "ChassisGone",
                    format!("chassis {chassis} has left the southbound database"),
                ));
            }
        }
        let elsewhere = self.bound_to().filter(|chassis| *chassis != spec.from);
        // It may be with the guest, maybe on a target that is yet to be named.
        let is_with_guest =
            |chassis: &str| spec.want == Want::Activate && spec.to.as_deref().is_none_or(|to| to == chassis);
        let elsewhere = elsewhere.filter(|chassis| !is_with_guest(chassis));
        if let Some(chassis) = elsewhere.filter(|_| thief(spec, self.world).is_none()) {
            return Some(Problem::new(
                "PortMoved",
                format!("{} has been bound to chassis {chassis} meanwhile", spec.port),
            ));
        }
        if spec.want != Want::Activate && self.is_missing(Role::Target, MISSING_GRACE) {
            let message =
                format!("the guest's interface on {} has gone before the guest ran there", spec.target());
            return Some(Problem::new("TargetLost", message));
        }
        None
    }

    pub(super) fn end_early(&mut self, why: Problem) {
        self.progress.set_condition(ConditionType::Succeeded, Truth::False, why, self.now);
        if self.progress.phase.is_past_activation() {
            return self.enter(Phase::Released);
        }
        self.begin_way_back();
    }

    /// The guest is on the source for good, wherever the migration has come to.
    pub(super) fn turn_back(&mut self) {
        self.progress.forget_condition(ConditionType::Announced);
        self.note_return();
        self.begin_way_back();
    }

    fn begin_way_back(&mut self) {
        // What the agents wait for on this way is a barrier that is yet to come.
        self.progress.forget_condition(ConditionType::CaughtUp);
        // An interface that is not there counts from here on: until now it was awaited.
        self.progress.missing_since.clear();
        self.enter(Phase::RollingBack);
    }

    fn note_return(&mut self) {
        let Migration { spec, .. } = self.migration;
        let why = if self.has_moved() || self.node_has(Role::Target, Step::Activated) {
            let message = format!("the guest ran on {} and is back on {}", spec.target(), spec.from);
            Problem::new("FailedBack", message)
        } else {
            Problem::new("Returned", format!("the guest has stayed on {}", spec.from))
        };
        self.progress.set_condition(ConditionType::Succeeded, Truth::False, why, self.now);
    }

    pub(super) fn rolling_back(&mut self) {
        let Migration { spec, .. } = self.migration;
        let returns = spec.want == Want::Return;
        if !returns && self.runs_on_target() && self.failure().is_none() {
            // The guest was faster than the decision to give up.
            self.progress.forget_condition(ConditionType::Succeeded);
            return self.enter(Phase::Armed);
        }
        if returns {
            self.note_return();
        }
        let has_left = self.has_moved() || self.progress.stolen > 0;
        if (returns || has_left) && self.progress.condition(ConditionType::CaughtUp).is_none() {
            if !self.others_look_back() {
                return self
                    .wait("Redirecting", "waiting for the other agents to look to the source".to_owned());
            }
            let can_claim = self.world.cluster.chassis.contains_key(&spec.from)
                && self.migration.source().is_none_or(|source| source.interface.is_some());
            let claimed = !has_left || !can_claim || self.bound_to() == Some(&spec.from);
            let rounds = if has_left { RELEASE_ROUNDS } else { 1 };
            let barrier = self.ensure(spec.from.clone(), claimed, rounds);
            if barrier == Barrier::Waiting {
                return self.wait_for_claim(&spec.from, claimed, "the port is on the source");
            }
            // The other agents have kept what covers OVN's own change until now.
            self.note_barrier(barrier);
        }
        if let Some(wait) = self.leftover(Role::Target) {
            self.pin(&spec.from);
            return self.wait("CleaningUp", wait);
        }
        if self.restore(&spec.from) {
            self.enter(Phase::RolledBack);
        }
    }

    /// Whether everybody has said not to look to the target while OVN has no flow
    /// for the port: who has not yet said that it does may be about to. As long as OVN has it on both sides the guest is served on the
    /// source meanwhile; on the target alone it is not, and nobody is waited for.
    fn others_look_back(&mut self) -> bool {
        let is_on_both =
            self.world.port.as_ref().is_some_and(|port| port.requested_chassis == Some(self.both()));
        let looks_back = |node: &NodeStatus| node.has(Step::Returned) || node.problem.is_some();
        let by = self.progress.steps.get(&Phase::RollingBack).map(|at| *at + REDIRECT_DEADLINE);
        // Before that nobody looks to the target.
        let was_bound = self.progress.steps.contains_key(&Phase::Bound);
        !(is_on_both && was_bound)
            || self.migration.status.nodes.values().all(looks_back)
            || by.is_none_or(|by| self.wait_until(by))
    }

    /// Whether the guest runs on the target although the migration is being
    /// taken back.
    fn runs_on_target(&self) -> bool {
        let Some(node) = self.migration.target() else { return false };
        let link_up = node.interface.as_ref().is_some_and(|interface| interface.link_up);
        let told = self.migration.spec.want == Want::Activate && node.interface.is_some();
        told || (node.has(Step::Activated) && link_up)
    }

    /// The port may have been bound elsewhere than to the source.
    fn has_moved(&self) -> bool {
        self.progress.steps.keys().any(|phase| phase.is_past_activation())
    }

    /// Keeps account of since when interfaces are gone: until the guest runs on
    /// the target those that were there once, at the end that of the side which
    /// has no guest.
    pub(super) fn note_missing(&mut self) {
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
    pub(super) fn is_missing(&mut self, role: Role, grace: SignedDuration) -> bool {
        self.progress.missing_since.get(&role).copied().is_some_and(|since| self.wait_until(since + grace))
    }

    /// What still stands in the way of taking the pin off: flows anywhere, or
    /// an interface on `loser`, whose ovn-controller would claim the port.
    pub(super) fn leftover(&mut self, loser: Role) -> Option<String> {
        let Migration { spec, status, .. } = self.migration;
        let alive = |chassis: &str| self.world.cluster.chassis.contains_key(chassis);
        let uncleaned = |(chassis, node): &(&String, &NodeStatus)| alive(chassis) && !node.has(Step::Cleaned);
        if let Some((chassis, _)) = status.nodes.iter().find(uncleaned) {
            return Some(format!("waiting for the agent on {chassis} to take its flows away"));
        }
        let (chassis, keeper) = match loser {
            Role::Source => (spec.from.as_str(), spec.target()),
            _ => (spec.target(), spec.from.as_str()),
        };
        if spec.to.as_ref().is_none_or(|to| *to == spec.from) {
            return self.unnamed_holder();
        }
        // Before Arming no interface was asked for, but an orchestrator may not ask.
        let may_be_there = self.progress.steps.contains_key(&Phase::Arming) || spec.guest.is_some();
        if !alive(chassis) || !may_be_there {
            return None;
        }
        let Some(node) = status.nodes.get(chassis) else {
            return Some(format!(
                "waiting for an agent on {chassis} to say that the guest's interface is not there: if it is, {chassis} would claim the port"
            ));
        };
        // A guest that could run there, announced or not, may be back with its interface.
        let could_run = node.has(Step::Armed) || node.has(Step::Activated);
        let may_come_back = node.role == Role::Target && could_run && spec.want != Want::Return;
        let grace = if may_come_back { MISSING_GRACE } else { UNPLUGGED_GRACE };
        match &node.interface {
            Some(interface) => Some(format!(
                "{chassis} still has the guest's interface {}; the port stays pinned to {keeper} until it is unplugged, or {chassis} would claim it",
                interface.name
            )),
            None if self.is_missing(loser, grace) => None,
            None => Some(format!(
                "the guest's interface on {chassis} is gone; waiting a moment for it to stay so"
            )),
        }
    }

    /// An interface of the guest's on a target that nobody has named. Every
    /// agent is given a moment to report one that has just been plugged, and
    /// somewhat longer to report at all.
    fn unnamed_holder(&mut self) -> Option<String> {
        let Migration { spec, status, .. } = self.migration;
        spec.guest.as_ref()?;
        let others = || self.world.cluster.chassis.keys().filter(|chassis| **chassis != spec.from);
        let holder =
            others().find(|chassis| status.nodes.get(*chassis).is_some_and(|node| node.interface.is_some()));
        if let Some(chassis) = holder {
            return Some(format!(
                "{chassis} has an interface of the guest's; the port stays pinned to {} until it is unplugged, or {chassis} would claim it",
                spec.from
            ));
        }
        let all_reported = others().all(|chassis| status.nodes.contains_key(chassis));
        let grace = if all_reported { UNPLUGGED_GRACE } else { REDIRECT_DEADLINE };
        let by = self.progress.steps.get(&Phase::RollingBack).map(|at| *at + grace);
        let waits = self.world.port.is_some() && by.is_some_and(|by| !self.wait_until(by));
        waits.then(|| "waiting for the agents to say whether the guest's interface is with them".to_owned())
    }
}
