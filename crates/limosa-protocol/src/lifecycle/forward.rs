//! The way to the target: what each phase waits for, and what it says meanwhile.

use super::accept::{accept, thief};
use super::barrier::{BIND_ROUNDS, Barrier, RELEASE_ROUNDS};
use super::{ACTIVATE_DEADLINE, PRESUME_AFTER, REDIRECT_DEADLINE, Stepper, free_number};
use crate::object::{
    ConditionType, Migration, NodeStatus, Phase, Problem, Progress, Role, Step, Truth, Want,
};

impl Stepper<'_> {
    pub(super) fn pending(&mut self) {
        match accept(self.migration, self.world) {
            Ok((subject, restore)) => {
                self.progress.number =
                    free_number(self.migration.metadata.uid.as_u128(), &self.world.numbers);
                self.progress.subject = Some(subject);
                self.progress.restore = Some(restore);
                let why = Problem::new(
                    "Accepted",
                    "the port, its chassis and the port's options were found in order",
                );
                self.progress.set_condition(ConditionType::Accepted, Truth::True, why, self.now);
                self.enter(Phase::Pinning);
            }
            // An orchestrator goes on whatever we say; this passes by itself.
            Err(why) if self.knows_guest() && matches!(why.reason.as_str(), "NotBound" | "Busy") => {
                self.wait(&why.reason, why.message);
            }
            Err(why) => {
                self.progress.set_condition(ConditionType::Accepted, Truth::False, why.clone(), self.now);
                self.progress.set_condition(ConditionType::Succeeded, Truth::False, why, self.now);
                self.enter(Phase::Rejected);
            }
        }
    }

    pub(super) fn pinning(&mut self) {
        // Without the pin the target would claim the port as soon as it has the
        // interface: a chassis that is down holds this barrier up only if it is
        // one of the two.
        let Migration { spec, .. } = self.migration;
        let pinned = self.pin(&spec.from);
        let Some(to) = &spec.to else {
            let message = format!("{} is pinned to {}; the target is not known yet", spec.port, spec.from);
            return match pinned {
                Barrier::Waiting => self.wait_for_pin(),
                _ => self.wait("AwaitingTarget", message),
            };
        };
        match pinned {
            // The guest is waiting; a target that claims the port may have it.
            Barrier::Waiting if spec.want == Want::Activate && self.change.is_none() => {
                self.enter(Phase::Arming);
            }
            Barrier::Reached => self.enter(Phase::Arming),
            Barrier::Missed if self.has_followed(&spec.from) && self.has_followed(to) => {
                self.enter(Phase::Arming);
            }
            Barrier::Missed => {
                let message = format!(
                    "{} or {to} has not learned that the port is pinned (Chassis_Private:nb_cfg): is ovn-controller running there?",
                    spec.from
                );
                self.wait("Pinning", message);
            }
            Barrier::Waiting => self.wait_for_pin(),
        }
    }

    fn wait_for_pin(&mut self) {
        let message = "waiting for every chassis to learn that the port is pinned (NB_Global:hv_cfg)";
        self.wait("Pinning", message.to_owned());
    }

    pub(super) fn arming(&mut self) {
        self.pin(&self.migration.spec.from);
        let told = self.heed_orchestrator();
        let both_armed = self.node_has(Role::Target, Step::Armed) && self.node_has(Role::Source, Step::Armed);
        if self.node_has(Role::Target, Step::Activated) || (both_armed && !self.is_stolen()) {
            return self.enter(Phase::Armed);
        }
        if told && !self.node_has(Role::Target, Step::Armed) && self.nobody_activates() {
            return self.enter(Phase::Switched);
        }
        match self.progress.condition(ConditionType::OnSource).filter(|c| c.status == Truth::False) {
            Some(stolen) => {
                let (reason, message) = (stolen.reason.clone(), stolen.message.clone());
                self.wait(&reason, message);
            }
            None => self.wait_for_agents(&[Role::Target, Role::Source], Step::Armed),
        }
    }

    pub(super) fn armed(&mut self) {
        let Migration { spec, .. } = self.migration;
        self.pin(&spec.from);
        if self.node_has(Role::Target, Step::Activated) {
            self.enter(Phase::Activated);
        } else if self.heed_orchestrator() {
            self.wait_for_agents(&[Role::Target], Step::Activated);
        } else if !self.knows_guest()
            && self.is_missing(Role::Source, PRESUME_AFTER)
            && !self.progress.missing_since.contains_key(&Role::Target)
        {
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
            self.progress.forget_condition(ConditionType::Announced);
            self.wait(
                "AwaitingGuest",
                "both sides are ready; waiting for the guest to announce itself (RARP) on the target"
                    .to_owned(),
            );
        }
    }

    pub(super) fn activated(&mut self) {
        let Migration { spec, .. } = self.migration;
        let claimed = self
            .world
            .binding
            .as_ref()
            .is_some_and(|binding| binding.additional.iter().any(|chassis| chassis == spec.target()));
        let barrier = self.ensure(self.both(), claimed, self.bind_rounds());
        if barrier == Barrier::Waiting {
            self.wait_for_claim(spec.target(), claimed, "the port is on both");
        } else if self.node_has(Role::Target, Step::Bound) {
            self.note_barrier(barrier);
            self.progress.holders = self.holders();
            self.enter(Phase::Bound);
        } else {
            self.wait_for_agents(&[Role::Target], Step::Bound);
        }
    }

    pub(super) fn bound(&mut self) {
        self.ensure(self.both(), true, self.bind_rounds());
        if self.node_has(Role::Target, Step::Switched) {
            self.enter(Phase::Switched);
        } else {
            self.wait_for_agents(&[Role::Target], Step::Switched);
        }
    }

    /// All but the target, which has itself in hand, that have said that nothing is in their way.
    fn holders(&self) -> Vec<String> {
        let can = |node: &NodeStatus| node.role != Role::Target && node.problem.is_none();
        let nodes = self.migration.status.nodes.iter();
        nodes.filter(|(_, node)| can(node)).map(|(chassis, _)| chassis.clone()).collect()
    }

    pub(super) fn switched(&mut self) {
        let redirect_by = self.progress.steps.get(&Phase::Switched).map(|at| *at + REDIRECT_DEADLINE);
        let looks_to_target = |node: &NodeStatus| {
            node.role == Role::Target || node.has(Step::Redirected) || node.problem.is_some()
        };
        let redirected = self.migration.status.nodes.values().all(looks_to_target);
        if !redirected && redirect_by.is_some_and(|by| !self.wait_until(by)) {
            return self.wait("Redirecting", "waiting for the other agents to look to the target".to_owned());
        }
        let Migration { spec, .. } = self.migration;
        let claimed = self.bound_to() == Some(spec.target());
        let barrier = self.ensure(spec.target().to_owned(), claimed, RELEASE_ROUNDS);
        if barrier == Barrier::Waiting {
            self.wait_for_claim(spec.target(), claimed, "the port has left the source");
        } else {
            self.note_barrier(barrier);
            self.enter(Phase::Released);
        }
    }

    pub(super) fn released(&mut self) {
        let Migration { spec, .. } = self.migration;
        if let Some(wait) = self.leftover(Role::Source) {
            self.pin(spec.target());
            return self.wait("CleaningUp", wait);
        }
        if self.restore(spec.target()) {
            let message =
                format!("{} runs on {}; nothing of the migration is left", spec.port, spec.target());
            self.finish(Phase::Completed, Truth::True, Problem::new("Completed", message));
        }
    }

    /// Someone knows where the guest runs, and will say so: nothing is to be guessed.
    const fn knows_guest(&self) -> bool {
        self.migration.spec.guest.is_some()
    }

    /// B may have claimed the port for somebody else before, and that claim may
    /// be the one that is seen: the shorter way takes it for the new one.
    fn bind_rounds(&self) -> u8 {
        let Progress { stolen, overwritten, .. } = self.progress;
        let contested = self.migration.spec.take_over || stolen + overwritten > 0;
        if contested { RELEASE_ROUNDS } else { BIND_ROUNDS }
    }

    pub(super) fn both(&self) -> String {
        let Migration { spec, .. } = self.migration;
        format!("{},{}", spec.from, spec.target())
    }

    /// Tells the target's agent that the guest runs there, if the orchestrator
    /// says so: a guest that is paused, or whose link is down, announces nothing.
    pub(super) fn heed_orchestrator(&mut self) -> bool {
        let spec = &self.migration.spec;
        let told = spec.want == Want::Activate;
        if told && !self.node_has(Role::Target, Step::Activated) {
            let message = format!("the orchestrator says that the guest runs on {}", spec.target());
            let why = Problem::new("Orchestrator", message);
            self.progress.set_condition(ConditionType::Announced, Truth::False, why, self.now);
        }
        told
    }

    /// No agent on the target has anything in place, for too long: OVN alone
    /// moves the port then, as it does without us.
    fn nobody_activates(&mut self) -> bool {
        let told = self.progress.condition(ConditionType::Announced).map(|c| c.last_transition_time);
        told.is_some_and(|at| self.wait_until(at + ACTIVATE_DEADLINE))
    }

    /// Keeps account of a port that has been claimed before the guest ran there.
    pub(super) fn note_theft(&mut self) {
        let spec = &self.migration.spec;
        match thief(spec, self.world) {
            Some(chassis) if !self.is_stolen() => {
                let message = format!(
                    "{chassis} has claimed {}, whose guest runs on {}: its interface appeared before the pin; waiting for {} to claim the port back",
                    spec.port, spec.from, spec.from
                );
                self.progress.stolen += 1;
                let why = Problem::new("Stolen", message);
                self.progress.set_condition(ConditionType::OnSource, Truth::False, why, self.now);
            }
            None if self.is_stolen() && self.bound_to() == Some(&spec.from) => {
                let why = Problem::new("ClaimedBack", format!("{} has claimed the port back", spec.from));
                self.progress.set_condition(ConditionType::OnSource, Truth::True, why, self.now);
            }
            _ => {}
        }
    }

    fn is_stolen(&self) -> bool {
        self.progress.truth(ConditionType::OnSource) == Some(Truth::False)
    }
}
