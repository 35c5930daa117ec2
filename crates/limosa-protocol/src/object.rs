//! The migration object: what moves, from where to where, what is wanted, and
//! how far it has come. One schema for every store.
//!
//! `spec` is written once by whoever asks for the migration (only `want` may
//! change later, and `to` be filled in); `status` is written by two kinds of writers that never touch
//! each other's part: the controller owns [`Progress`], and the agent of
//! chassis N owns `status.nodes[N]`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{MacAddr, lenient};

/// Group and version of the schema.
pub const API_VERSION: &str = "limosa.io/v1alpha1";
/// The kind of the object.
pub const KIND: &str = "PortMigration";
/// Keeps an object in the store while there may be flows or options to undo.
pub const FINALIZER: &str = "limosa.io/flows";

/// One logical port on its way from one chassis to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
    pub spec: Spec,
    #[serde(default)]
    pub status: Status,
}

/// What a store knows of an object; the fields that Kubernetes has as well mean
/// the same here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Where the object lives, in a store that has namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Unique in its namespace, or in a store without any; a DNS label.
    pub name: String,
    /// Tells this object from an earlier one of the same name.
    pub uid: Uuid,
    pub creation_timestamp: Timestamp,
    /// Since when the object is to be deleted, in a store where that waits for
    /// [`FINALIZER`] to be taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Which state of the object this is, in a store that can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who has to let go of the object before it can be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// The object goes when these have gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
}

/// The object that another belongs to, in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The name of the logical switch port in the northbound database.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253)))]
    pub port: String,
    /// The name of the chassis that the guest leaves.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253)))]
    pub from: String,
    /// The name of the chassis that the guest goes to; left out while nobody
    /// knows yet. The port is pinned to the source meanwhile, and nothing more.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The guest's address; by default the first of the logical port's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// What is wanted of this migration.
    #[serde(default)]
    pub want: Want,
    /// Whose port it is. Whoever fills this in knows where the guest runs, and
    /// says so in `want`: a port that the target has claimed too early is then
    /// taken back instead of being refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
    /// Migrate the port although its options say that somebody else (a CNI's own
    /// live migration) does; they are put back at the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
}

/// The virtual machine as its orchestrator names it; for people, and for
/// whoever made the object to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Guest {
    /// The name of the virtual machine.
    #[cfg_attr(feature = "schema", schemars(length(max = 253)))]
    pub vm: String,
    /// The name of its network interface.
    #[cfg_attr(feature = "schema", schemars(length(max = 253)))]
    pub nic: String,
    /// The name of the orchestrator's migration.
    #[cfg_attr(feature = "schema", schemars(length(max = 253)))]
    pub migration: String,
}

impl Spec {
    /// A request to move a port, with everything else as it is by default.
    pub fn new(port: impl Into<String>, from: impl Into<String>, to: Option<String>) -> Self {
        let (port, from) = (port.into(), from.into());
        Self { port, from, to, mac: None, want: Want::default(), guest: None, take_over: false }
    }

    /// The name of the target; empty while it is not known, which is never so
    /// from [`Phase::Arming`] on.
    #[must_use]
    pub fn target(&self) -> &str {
        self.to.as_deref().unwrap_or_default()
    }
}

/// What is wanted of a migration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Want {
    /// Carry it through once the guest announces itself on the target.
    #[default]
    Complete,
    /// The guest runs on the target, announced or not: carry it through.
    Activate,
    /// Roll it back; once the guest runs on the target it goes on all the same.
    Abort,
    /// The guest runs on the source, for good: roll it back, also if it has
    /// announced itself on the target.
    Return,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The controller's part.
    #[serde(flatten)]
    pub progress: Progress,
    /// The agents' parts, by chassis.
    pub nodes: BTreeMap<String, NodeStatus>,
}

/// How far the migration has come; written by the controller alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    pub phase: Phase,
    /// The number in the cookies of this migration's flows; 0 before it is accepted.
    pub number: u32,
    /// What moves, as found in the databases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// What the northbound options were; written before they are changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// The last change of the northbound options, and whether the chassis have caught up with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barrier: Option<Barrier>,
    #[serde(deserialize_with = "lenient::items")]
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])))]
    pub conditions: Vec<Condition>,
    /// How often another chassis has claimed the port before the guest ran there.
    #[serde(skip_serializing_if = "is_zero")]
    pub stolen: u32,
    /// How often the northbound options had to be set again because someone else
    /// had changed them.
    #[serde(skip_serializing_if = "is_zero")]
    pub overwritten: u32,
    /// Since when the guest's interface on a side that was ready has been gone, or its link down.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "lenient::keys")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Timestamp>"))]
    pub missing_since: BTreeMap<Role, Timestamp>,
    /// When each phase was reached.
    #[serde(deserialize_with = "lenient::keys")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Timestamp>"))]
    pub steps: BTreeMap<Phase, Timestamp>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    pub mac: MacAddr,
    /// D: `Datapath_Binding.tunnel_key`, 24 bits.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 0xff_ffff)))]
    pub datapath_key: u32,
    /// K: `Port_Binding.tunnel_key`, 15 bits.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 0x7fff)))]
    pub port_key: u16,
}

/// Two options of `Logical_Switch_Port`: as they were before the migration, or
/// as they are to be after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Restore {
    /// `options:requested-chassis`, if there was one.
    pub requested_chassis: Option<String>,
    /// `options:activation-strategy`, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_strategy: Option<String>,
}

/// A change of the northbound options on its way to the chassis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Barrier {
    /// What `options:requested-chassis` was set to.
    pub requested_chassis: String,
    /// The `NB_Global.nb_cfg` that `hv_cfg` has to reach.
    pub nb_cfg: i64,
    /// When the option was set.
    pub since: Timestamp,
    /// How often `hv_cfg` has been asked for since the option has this value.
    #[serde(default)]
    pub round: u8,
}

/// The last step that is done. The order is the order of a migration; what
/// ends one stands last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Phase {
    /// Asked for, not yet looked at.
    #[default]
    Pending,
    /// Accepted; the port is being pinned to the source.
    Pinning,
    /// No chassis but the source can claim the port: the target's interface
    /// may appear now, and the agents install their flows.
    Arming,
    /// Both sides are ready: the guest may resume on the target.
    Armed,
    /// The guest runs on the target; OVN binds the port there as well.
    Activated,
    /// OVN's own flows stand on the target; every chassis has caught up, or the deadline has passed.
    Bound,
    /// OVN's own flows carry the guest's traffic.
    Switched,
    /// The source has let go; the agents take their flows away.
    Released,
    /// Nothing of ours is left. The guest is on the target.
    Completed,
    /// The guest stays on the source, or is back there; flows are being taken away.
    RollingBack,
    /// Nothing of ours is left. The guest is on the source.
    RolledBack,
    /// It could not be carried out; nothing was changed.
    Rejected,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::Pinning,
        Self::Arming,
        Self::Armed,
        Self::Activated,
        Self::Bound,
        Self::Switched,
        Self::Released,
        Self::Completed,
        Self::RollingBack,
        Self::RolledBack,
        Self::Rejected,
    ];

    /// What it means, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Pending => "asked for, not yet looked at",
            Self::Pinning => "the port is being pinned to the source",
            Self::Arming => "the agents put their flows in place",
            Self::Armed => "both sides are ready for the guest",
            Self::Activated => "the guest runs on the target; its traffic still runs through the source",
            Self::Bound => "OVN has the port on both chassis",
            Self::Switched => "OVN's own flows carry the guest's traffic",
            Self::Released => "the source has let go; the agents take their flows away",
            Self::Completed => "nothing of the migration is left; the guest is on the target",
            Self::RollingBack => "the agents take their flows away; the guest is on the source",
            Self::RolledBack => "nothing of the migration is left; the guest is on the source",
            Self::Rejected => "it could not be carried out; nothing was changed",
        }
    }

    /// Nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::RolledBack | Self::Rejected)
    }

    /// Flows of this migration belong on the switches.
    #[must_use]
    pub fn wants_flows(self) -> bool {
        (Self::Arming..Self::Released).contains(&self)
    }

    /// True if a migration in this phase has come as far as `wanted`, or further
    /// on the same way: what was rolled back has completed nothing.
    #[must_use]
    pub fn has_reached(self, wanted: Self) -> bool {
        self == wanted || (wanted..=Self::Completed).contains(&self)
    }

    /// The guest runs on the target; the way is forward.
    #[must_use]
    pub fn is_past_activation(self) -> bool {
        (Self::Activated..=Self::Completed).contains(&self)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "Pending",
            Self::Pinning => "Pinning",
            Self::Arming => "Arming",
            Self::Armed => "Armed",
            Self::Activated => "Activated",
            Self::Bound => "Bound",
            Self::Switched => "Switched",
            Self::Released => "Released",
            Self::Completed => "Completed",
            Self::RollingBack => "RollingBack",
            Self::RolledBack => "RolledBack",
            Self::Rejected => "Rejected",
        })
    }
}

/// The text names no phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no phase; one of {phases}", phases = Phase::ALL.map(|p| p.to_string().to_lowercase()).join(", "))]
pub struct ParsePhaseError(String);

impl FromStr for Phase {
    type Err = ParsePhaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| ParsePhaseError(text.to_owned()))
    }
}

/// The part that a chassis plays in a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Role {
    /// The guest leaves it.
    Source = 1,
    /// The guest goes to it.
    Target = 2,
    /// Neither; its packets for the guest change direction.
    Bystander = 3,
}

/// What an agent has done for a migration on its chassis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Step {
    /// Source: mirror and reverse path stand. Target: gate and announcement rule stand.
    Armed,
    /// Target: the guest has announced itself.
    Activated,
    /// Target: OVN's own flows for the port stand.
    Bound,
    /// Source: the target has been given the connections that are tracked for the port.
    Carried,
    /// Target: packets that arrive without the source reach the guest.
    Opened,
    /// Target: packets that the source mirrors are no longer taken (or will be to the end).
    Switched,
    /// Any but the target: packets for the port go to the target while OVN has no flow for it.
    Redirected,
    /// No flow of this migration is left on the bridge.
    Cleaned,
}

/// One chassis' share of a migration; written by its agent alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-map-type" = "atomic")))]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    pub role: Role,
    /// The port's interface on this chassis' integration bridge, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceStatus>,
    /// When each step was taken.
    #[serde(default, deserialize_with = "lenient::keys")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Timestamp>"))]
    pub steps: BTreeMap<Step, Timestamp>,
    /// Source: what became of the connections that are tracked for the port.
    /// Target: how many of them it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// What keeps this chassis from the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What became of the connections that the source tracks for the port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    /// Entries that the target was given.
    pub carried: u32,
    /// Entries that stay behind, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u32>,
}

impl NodeStatus {
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self { role, interface: None, steps: BTreeMap::new(), connections: None, problem: None }
    }

    #[must_use]
    pub fn has(&self, step: Step) -> bool {
        self.steps.contains_key(&step)
    }

    /// Notes a step, the first time only.
    pub fn take(&mut self, step: Step, now: Timestamp) {
        self.steps.entry(step).or_insert(now);
    }
}

/// An interface as the local OVSDB shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatus {
    pub name: String,
    pub ofport: u32,
    /// `Interface.link_state` is not `down`.
    pub link_up: bool,
}

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// One word, for programs.
    pub reason: String,
    /// What, where and what to do, for people.
    pub message: String,
}

impl Problem {
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// A condition by the Kubernetes API conventions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: ConditionType,
    pub status: Truth,
    pub reason: String,
    /// Never empty: Kubernetes 1.20 makes a null of that in server-side apply, and refuses it.
    pub message: String,
    pub last_transition_time: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ConditionType {
    /// The request makes sense on this OVN.
    Accepted,
    /// False: the guest is taken to run on the target although nobody there has
    /// heard it announce itself. Absent while nothing of the kind was necessary.
    Announced,
    /// What the migration is waiting for, if anything.
    Progressing,
    /// Every chassis followed the last change of the northbound options in time.
    CaughtUp,
    /// False: another chassis has claimed the port before the guest ran there.
    /// Absent while nothing of the kind has happened.
    OnSource,
    /// False: someone else has changed the options that Limosa had set. Absent
    /// while nothing of the kind has happened.
    Undisturbed,
    /// How it ended.
    Succeeded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Progress {
    #[must_use]
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// Sets a condition; the transition time changes with the truth value only.
    pub fn set_condition(&mut self, kind: ConditionType, status: Truth, why: Problem, now: Timestamp) {
        let Problem { reason, message } = why;
        match self.conditions.iter_mut().find(|c| c.kind == kind) {
            Some(c) => {
                if c.status != status {
                    c.last_transition_time = now;
                }
                (c.status, c.reason, c.message) = (status, reason, message);
            }
            None => {
                self.conditions.push(Condition { kind, status, reason, message, last_transition_time: now });
            }
        }
    }

    /// Takes a condition away: nothing is to be said of it any more.
    pub fn forget_condition(&mut self, kind: ConditionType) {
        self.conditions.retain(|condition| condition.kind != kind);
    }

    /// Enters a phase and notes when.
    pub fn enter(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.steps.entry(phase).or_insert(now);
    }
}

impl Migration {
    /// A new object that asks for `port` to move.
    #[must_use]
    pub fn new(name: String, uid: Uuid, spec: Spec, now: Timestamp) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata {
                namespace: None,
                name,
                uid,
                creation_timestamp: now,
                deletion_timestamp: None,
                resource_version: None,
                labels: BTreeMap::new(),
                finalizers: Vec::new(),
                owner_references: Vec::new(),
            },
            spec,
            status: Status::default(),
        }
    }

    /// `NAMESPACE/NAME`, or the name alone in a store without namespaces.
    #[must_use]
    pub fn full_name(&self) -> String {
        let Metadata { namespace, name, .. } = &self.metadata;
        namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"))
    }

    /// The role of a chassis in this migration.
    #[must_use]
    pub fn role_of(&self, chassis: &str) -> Role {
        if chassis == self.spec.from {
            Role::Source
        } else if Some(chassis) == self.spec.to.as_deref() {
            Role::Target
        } else {
            Role::Bystander
        }
    }

    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.status.progress.phase
    }

    #[must_use]
    pub fn source(&self) -> Option<&NodeStatus> {
        self.status.nodes.get(&self.spec.from)
    }

    #[must_use]
    pub fn target(&self) -> Option<&NodeStatus> {
        self.status.nodes.get(self.spec.to.as_ref()?)
    }
}

/// `now` as the objects carry it: to the microsecond.
#[must_use]
pub fn to_microseconds(now: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_one_order_and_text_both_ways() {
        assert!(Phase::ALL.is_sorted());
        for phase in Phase::ALL {
            assert_eq!(phase.to_string().to_lowercase().parse(), Ok(phase));
        }
        assert!("soon".parse::<Phase>().unwrap_err().to_string().contains("armed"));
        assert_eq!(Phase::ALL.into_iter().filter(|p| p.wants_flows()).count(), 5);
    }

    #[test]
    fn what_is_left_out_of_an_object_has_its_default() {
        let text = r#"{"apiVersion":"limosa.io/v1alpha1","kind":"PortMigration",
            "metadata":{"name":"m","uid":"6f9619ff-8b86-d011-b42d-00c04fc964ff","creationTimestamp":"2026-01-01T00:00:00Z"},
            "spec":{"port":"vm1","from":"a","to":"b"}}"#;
        let migration: Migration = serde_json::from_str(text).unwrap();
        assert_eq!(migration.phase(), Phase::Pending);
        assert_eq!(migration.spec.want, Want::Complete);
        let again: Migration = serde_json::from_str(&serde_json::to_string(&migration).unwrap()).unwrap();
        assert_eq!(again, migration);
    }

    #[test]
    fn what_a_newer_version_has_written_does_not_hide_the_rest() {
        let text = r#"{"phase":"Armed","someday":1,"steps":{"Armed":"2026-01-01T00:00:00Z","Dreamt":"2026-01-01T00:00:00Z"},
            "conditions":[{"type":"Dreamt"},{"type":"Accepted","status":"True","reason":"r","message":"m",
            "lastTransitionTime":"2026-01-01T00:00:00Z"}],
            "nodes":{"a":{"role":"Source","someday":{},"steps":{"Armed":"2026-01-01T00:00:00Z","Dreamt":"2026-01-01T00:00:00Z"}}}}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!(status.progress.steps.len(), 1);
        assert_eq!(status.progress.conditions.len(), 1);
        assert!(status.nodes["a"].has(Step::Armed));
        // What decides must be understood.
        assert!(serde_json::from_str::<Status>(r#"{"phase":"Dreamt"}"#).is_err());
    }
}
