//! The migration object: what moves, from where to where, what is wanted, and
//! how far it has come. One schema for every store.
//!
//! `spec` is written once by whoever asks for the migration (only `want` may
//! change later, and `to` be filled in); `status` is written by two kinds of writers that never touch
//! each other's part: the controller owns [`Progress`], and the agent of
//! chassis N owns `status.nodes[N]`.

mod condition;
mod node;
mod phase;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{MacAddr, lenient};
pub use condition::{Condition, ConditionType, Problem, Truth};
pub use node::{Connections, InterfaceStatus, NodeStatus, Role, Step};
pub use phase::{ParsePhaseError, Phase};

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
    /// The chassis that were asked, when the port was bound on both sides, to send packets for it to the source
    /// alone: the target waits for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<String>,
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

impl Progress {
    #[must_use]
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// What a condition says, if it has been set.
    #[must_use]
    pub fn truth(&self, kind: ConditionType) -> Option<Truth> {
        self.condition(kind).map(|condition| condition.status)
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
