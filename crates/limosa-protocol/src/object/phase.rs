//! How far a migration has come.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
