//! Which controller may do what.

use std::fmt::{self, Write};

use super::property::{Property, decode_unknown, encode_unknown};
use crate::wire::{Reader, Result, Sink, Writer};

wire_enum! {
    /// What a controller may do (OpenFlow 1.5, section 7.3.8).
    Role: u32 {
        /// In a request: leave it as it is.
        NoChange = 0 "nochange",
        /// Everything, as all others of this role.
        Equal = 1 "equal",
        /// Everything, and all who were it become secondary.
        Primary = 2 "primary",
        /// Read only.
        Secondary = 3 "secondary",
    }
}

/// A role, asked for or told.
///
/// ```text
/// +------+---+---------------+
/// | role | 0 | generation_id |
/// +------+---+---------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleMessage {
    /// The role.
    pub role: Role,
    /// Of the election; a switch refuses older ones. All ones in a reply if there was none yet.
    pub generation_id: u64,
}

impl RoleMessage {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let role = Role::from_wire(r.u32()?);
        r.skip(4)?;
        Ok(Self { role, generation_id: r.u64()? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.role.to_wire());
        w.zeros(4);
        w.u64(self.generation_id);
    }

    pub(super) fn text(&self, out: &mut String, request: bool) -> fmt::Result {
        let shown = !request || self.role != Role::NoChange;
        role_text(out, self.role, shown.then_some(self.generation_id))
    }
}

fn role_text(out: &mut String, role: Role, generation_id: Option<u64>) -> fmt::Result {
    write!(out, " role={role}")?;
    match generation_id {
        // None yet.
        None | Some(u64::MAX) => Ok(()),
        Some(id) => write!(out, " generation_id={id}"),
    }
}

/// The role of this connection changed (OpenFlow 1.5, section 7.4.4).
///
/// ```text
/// +------+--------+---+---------------+----------------+
/// | role | reason | 0 | generation_id | properties ... |
/// +------+--------+---+---------------+----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleStatus {
    /// The new role.
    pub role: Role,
    /// `ofp_controller_role_reason`: 0 another controller asked to be primary, 1 configuration, 2
    /// an experimenter's.
    pub reason: u8,
    /// Of the election.
    pub generation_id: u64,
    /// As they were.
    pub properties: Vec<Property>,
}

pub(super) const ROLE_REASONS: [&str; 3] =
    ["primary_request", "configuration_changed", "experimenter_data_changed"];

impl RoleStatus {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (role, reason) = (Role::from_wire(r.u32()?), r.u8()?);
        r.skip(3)?;
        Ok(Self { role, reason, generation_id: r.u64()?, properties: decode_unknown(r, "role status")? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.role.to_wire());
        w.u8(self.reason);
        w.zeros(3);
        w.u64(self.generation_id);
        encode_unknown(&self.properties, w, "role status");
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        role_text(out, self.role, Some(self.generation_id))?;
        let reason = ROLE_REASONS.get(usize::from(self.reason)).unwrap_or(&"(unknown)");
        write!(out, " reason={reason}")
    }
}
