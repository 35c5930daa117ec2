//! What is said of a migration, to programs and to people.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
