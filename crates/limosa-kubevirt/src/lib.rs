//! What KubeVirt says of a live migration, as the migrations of OVN ports that
//! follow from it: no I/O, no clock.
//!
//! [`api`] reads KubeVirt's objects and launcher pods, [`resolve`] finds the
//! logical port of an interface, [`intent`] says which objects should exist
//! with which `spec`, now, whatever was seen or missed before. [`pin`] says which
//! ports are pinned without any migration.

pub mod api;
mod intent;
mod nodes;
mod outcome;
pub mod pin;
pub mod resolve;
mod why;

pub use api::{Pod, Vmi, Vmim};
pub use intent::{Existing, Intent, LeftAlone, Options, Seen, TAKE_OVER, Wanted, intent, object_name};
pub use nodes::Nodes;
pub use why::Why;
