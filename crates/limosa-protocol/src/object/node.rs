//! One chassis' share of a migration.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Problem;
use crate::lenient;

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
    /// Any: packets for the port go to the source alone.
    Held,
    /// Target: packets that arrive without the source reach the guest.
    Opened,
    /// Target: packets that the source mirrors are no longer taken (or will be to the end).
    Switched,
    /// Any but the target: packets for the port go to the target, and while both are bound there alone.
    Redirected,
    /// The guest is known to stay on the source ([`Want::Return`](super::Want::Return)): packets for the port go there
    /// while OVN has no flow for it, and the target's gate is shut.
    Returned,
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
    /// Source: where load balancers have sent the port's connections. The target translates those to the
    /// n-th one here by its n-th flow ([`limosa_conntrack::Backends`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>", length(max = 32)))]
    pub backends: Vec<SocketAddr>,
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
