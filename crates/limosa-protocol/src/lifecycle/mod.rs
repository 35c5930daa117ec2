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
//! | Pinning | A | B is known; every chassis knows of the pin, or at the deadline A and B do |
//! | Arming | A | gate and mirror stand, and A has the port |
//! | Armed | A | the guest announces itself on B, or the orchestrator says that it runs there |
//! | Activated | A,B | B has claimed the port and has OVN's flows, every chassis knows |
//! | Bound | A,B | B takes direct packets |
//! | Switched | B | the others look to B, B has claimed the port, every chassis knows |
//! | Released | B, then as it was | flows are gone, A's interface is gone |
//! | RollingBack | A, then as it was | A has the port again if it had lost it, flows are gone, B's interface is gone |
//!
//! What the orchestrator wants may cut this short. `Return` leads to
//! RollingBack from every phase but the final ones. `Activate` skips what only
//! protects a guest on the source, and leads to Switched where OVN has bound the
//! port to B already or no agent on B ever armed it. While the options are
//! ours, `activation-strategy` is taken away, and what someone else makes of
//! them is set again.

mod accept;
mod back;
mod barrier;
mod forward;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::MacAddr;
use crate::cookie::MAX_MIGRATION;
use crate::object::{
    self, ConditionType, Migration, NodeStatus, Phase, Problem, Progress, Restore, Role, Step, Truth, Want,
};

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
/// cuts the guest off; it is made when there is nothing better, and not where an
/// orchestrator knows.
pub const PRESUME_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// How long the orchestrator's word that the guest runs on the target waits for
/// an agent there that has never had anything in place.
pub const ACTIVATE_DEADLINE: SignedDuration = SignedDuration::from_secs(10);
/// How soon options that someone else has changed are set again.
pub const OVERWRITE_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// How long the interface of the side that has no guest at the end has to be
/// gone: one that is being plugged anew would claim the port without the pin.
pub const UNPLUGGED_GRACE: SignedDuration = SignedDuration::from_secs(1);

/// What the databases say about one logical port.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// What is the same for every port.
    pub cluster: Arc<Cluster>,
    /// The row in `Logical_Switch_Port`.
    pub port: Option<LogicalPort>,
    /// The row in `Port_Binding`.
    pub binding: Option<Binding>,
    /// Another migration of this port that has not ended. Counts until this one is accepted.
    pub rival: Option<String>,
    /// Numbers that other migrations carry in their cookies. Counts until this one has its own.
    pub numbers: BTreeSet<u32>,
}

/// What the databases say about the chassis.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Every chassis of the southbound database, with its encapsulation types.
    pub chassis: BTreeMap<String, BTreeSet<String>>,
    /// What the hosts of the chassis are called (`Chassis.hostname`), by chassis:
    /// OVN takes either for `requested-chassis`.
    pub hostnames: BTreeMap<String, String>,
    /// `NB_Global.hv_cfg`: the `nb_cfg` that every chassis has caught up with.
    pub hv_cfg: i64,
    /// `Chassis_Private.nb_cfg`: the same for each chassis.
    pub nb_cfg: BTreeMap<String, i64>,
    /// `Port_Binding.additional_chassis` exists (OVN 22.09 and later).
    pub can_bind_twice: bool,
}

impl Cluster {
    /// Whether that is the chassis' name or its host's.
    fn is_named(&self, name: &str, chassis: &str) -> bool {
        name == chassis || self.hostnames.get(chassis).is_some_and(|host| !host.is_empty() && host == name)
    }
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
    /// The Kubernetes namespace that the CNI has made it for, if it says so.
    pub namespace: Option<String>,
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
    /// What the northbound options have to be changed to, if they have to be.
    pub change: Option<Change>,
    /// When to decide again although nothing has changed.
    pub wake_at: Option<Timestamp>,
}

/// A change of the port's northbound options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `requested-chassis` is set and `activation-strategy` taken away, with a
    /// new `nb_cfg`; then [`Change::note`].
    Set {
        requested_chassis: String,
        round: u8,
        since: Timestamp,
        /// Someone else has changed what we had set; this is to be said of it.
        overwrites: Option<Problem>,
    },
    /// Both as they are to stay; `None` takes an option away.
    Restore(Restore),
}

impl Change {
    /// Notes in the object that the options have been set, and which `nb_cfg`
    /// every chassis has to reach; false if there is nothing to be noted.
    pub fn note(&self, nb_cfg: i64, progress: &mut Progress) -> bool {
        let Self::Set { requested_chassis, round, since, overwrites } = self else { return false };
        let (requested_chassis, since, round) = (requested_chassis.clone(), *since, *round);
        progress.barrier = Some(object::Barrier { requested_chassis, nb_cfg, since, round });
        if let Some(why) = overwrites {
            progress.overwritten += 1;
            progress.set_condition(ConditionType::Undisturbed, Truth::False, why.clone(), since);
        }
        true
    }
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
        let activated = phase.is_past_activation() || self.node_has(Role::Target, Step::Activated);
        if (Phase::Pinning..=Phase::Armed).contains(&phase) && !activated {
            self.note_theft();
        }
        let before_release = (Phase::Pinning..Phase::Released).contains(&phase);
        if self.migration.spec.want == Want::Return && (before_release || phase == Phase::Released) {
            return self.turn_back();
        }
        if self.is_there_already() {
            self.heed_orchestrator();
            self.progress.forget_condition(ConditionType::Succeeded);
            return self.enter(Phase::Switched);
        }
        if before_release && let Some(why) = self.failure() {
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

    /// The orchestrator says that the guest runs on the target, and OVN has bound
    /// the port there before we had anything in place: it only has to stay so.
    fn is_there_already(&self) -> bool {
        let Migration { spec, .. } = self.migration;
        let phase = self.progress.phase;
        let early = (Phase::Pinning..=Phase::Armed).contains(&phase) || phase == Phase::RollingBack;
        early
            && spec.want == Want::Activate
            && self.world.port.is_some()
            && spec.to.as_deref().is_some_and(|to| self.bound_to() == Some(to))
            && !self.node_has(Role::Target, Step::Armed)
            && !self.node_has(Role::Target, Step::Activated)
    }

    /// The chassis that has the port (`Port_Binding.chassis`).
    fn bound_to(&self) -> Option<&str> {
        self.world.binding.as_ref()?.chassis.as_deref()
    }

    /// Whether that time has come; if not, it is when to decide again.
    fn wait_until(&mut self, at: Timestamp) -> bool {
        if self.now < at {
            self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
        }
        self.now >= at
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
        let why = Problem::new(&phase.to_string(), phase.meaning());
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

    /// Says what the first of the agents that has a problem is waiting for, or
    /// who has yet to take the step.
    fn wait_for_agents(&mut self, roles: &[Role], step: Step) {
        let spec = &self.migration.spec;
        let chassis_of = |role: Role| if role == Role::Source { spec.from.as_str() } else { spec.target() };
        for role in roles {
            let chassis = chassis_of(*role);
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
        let missing = roles.iter().filter(|role| !self.node_has(**role, step));
        let missing: Vec<&str> = missing.map(|role| chassis_of(*role)).collect();
        if !missing.is_empty() {
            let message = format!("waiting for the agent on {} to report {step:?}", missing.join(" and on "));
            self.wait("WaitingForAgents", message);
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
