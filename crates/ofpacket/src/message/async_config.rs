//! Which asynchronous messages a connection gets.

use std::fmt::{self, Write};

use super::flow_mod::FLOW_REMOVED_REASONS;
use super::packet::packet_in_reason;
use super::role::ROLE_REASONS;
use super::text::name_or_number;
use crate::wire::{Reader, Result, Sink, Writer};

/// Which asynchronous messages a connection gets (OpenFlow 1.5, section 7.3.10): for each kind of message a
/// set of reasons, as bits. Kinds that are left out stay as they are.
///
/// A kind is for connections that are not secondary; the number below it is the same kind for those that
/// are: see [`AsyncConfig::secondary`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AsyncConfig(pub Vec<(u16, u32)>);

impl AsyncConfig {
    /// Packet-ins, for a role other than secondary.
    pub const PACKET_IN: u16 = 1;
    /// Port status, for a role other than secondary.
    pub const PORT_STATUS: u16 = 3;
    /// Flow removed, for a role other than secondary.
    pub const FLOW_REMOVED: u16 = 5;
    /// Role status, for a role other than secondary.
    pub const ROLE_STATUS: u16 = 7;
    /// Table status, for a role other than secondary.
    pub const TABLE_STATUS: u16 = 9;
    /// Requests of others, for a role other than secondary.
    pub const REQUEST_FORWARD: u16 = 11;

    /// The same kind of message, for the role secondary.
    pub const fn secondary(kind: u16) -> u16 {
        kind & !1
    }

    /// The reasons for this kind of message, if it is there.
    pub fn get(&self, kind: u16) -> Option<u32> {
        self.0.iter().find(|(k, _)| *k == kind).map(|&(_, reasons)| reasons)
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut out = Vec::new();
        while !r.is_empty() {
            let (kind, mut body) = r.property("async config")?;
            out.push((kind, body.u32()?));
            // An experimenter's has more; the message then stays as it was.
            body.rest();
        }
        Ok(Self(out))
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        for &(kind, reasons) in &self.0 {
            w.property(kind, "async config", |w| w.u32(reasons));
        }
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        // The last of a kind counts.
        let last = |kind| self.0.iter().rfind(|(k, _)| *k == kind).map_or(0, |&(_, reasons)| reasons);
        for (role, secondary) in [("primary", false), ("secondary", true)] {
            write!(out, "\n {role}:\n")?;
            for (kind, name) in KINDS {
                let reasons = last(if secondary { Self::secondary(kind) } else { kind });
                async_line(out, kind, name, reasons)?;
            }
        }
        Ok(())
    }
}

const KINDS: [(u16, &str); 6] = [
    (AsyncConfig::PACKET_IN, "PACKET_IN"),
    (AsyncConfig::PORT_STATUS, "PORT_STATUS"),
    (AsyncConfig::FLOW_REMOVED, "FLOW_REMOVED"),
    (AsyncConfig::ROLE_STATUS, "ROLE_STATUS"),
    (AsyncConfig::TABLE_STATUS, "TABLE_STATUS"),
    (AsyncConfig::REQUEST_FORWARD, "REQUESTFORWARD"),
];

fn async_line(out: &mut String, kind: u16, name: &str, reasons: u32) -> fmt::Result {
    write!(out, "{name:>16}:")?;
    for reason in (0..32).filter(|i| reasons & 1 << i != 0) {
        let name = match kind {
            AsyncConfig::PACKET_IN => {
                packet_in_reason(reason as u8).map_or_else(|| reason.to_string(), str::to_owned)
            }
            AsyncConfig::PORT_STATUS => name_or_number(&["add", "delete", "modify"], reason),
            AsyncConfig::FLOW_REMOVED => name_or_number(&FLOW_REMOVED_REASONS, reason),
            AsyncConfig::ROLE_STATUS => name_or_number(&ROLE_REASONS, reason),
            AsyncConfig::TABLE_STATUS if reason == 3 => "vacancy_down".to_owned(),
            AsyncConfig::TABLE_STATUS if reason == 4 => "vacancy_up".to_owned(),
            AsyncConfig::REQUEST_FORWARD => {
                name_or_number(&["group_mod_request", "meter_mod_request"], reason)
            }
            _ => reason.to_string(),
        };
        write!(out, " {name}")?;
    }
    out.write_str(if reasons == 0 { " (off)\n" } else { "\n" })
}

/// Open vSwitch's older form (`NXT_SET_ASYNC_CONFIG`): all of packet-ins, port status and flow removed, each
/// for roles other than secondary and for secondary.
///
/// ```text
/// +---------------+---------------+----------------+
/// | packet_in [2] | port_status[2]| flow_removed[2]|
/// +---------------+---------------+----------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NxAsyncConfig {
    /// Packet-ins.
    pub packet_in: [u32; 2],
    /// Port status.
    pub port_status: [u32; 2],
    /// Flow removed.
    pub flow_removed: [u32; 2],
}

impl NxAsyncConfig {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            packet_in: [r.u32()?, r.u32()?],
            port_status: [r.u32()?, r.u32()?],
            flow_removed: [r.u32()?, r.u32()?],
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        [self.packet_in, self.port_status, self.flow_removed].iter().flatten().for_each(|&bits| w.u32(bits));
    }

    /// The same, as OpenFlow's own message says it.
    pub fn to_standard(self) -> AsyncConfig {
        let kinds = [AsyncConfig::PACKET_IN, AsyncConfig::PORT_STATUS, AsyncConfig::FLOW_REMOVED];
        let bits = [self.packet_in, self.port_status, self.flow_removed];
        let pairs = kinds.into_iter().zip(bits);
        AsyncConfig(
            pairs
                .flat_map(|(kind, [other, secondary])| {
                    [(kind, other), (AsyncConfig::secondary(kind), secondary)]
                })
                .collect(),
        )
    }
}
