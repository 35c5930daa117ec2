//! Open vSwitch's own messages (`include/openflow/nicira-ext.h`).
//!
//! ```text
//!  header  64                     96        128
//! +--------+----------------------+---------+----------+
//! |   ...  | experimenter 0x2320  | subtype | body ... |
//! +--------+----------------------+---------+----------+
//! ```

use std::fmt::{self, Write};

use bytes::Bytes;

use super::async_config::NxAsyncConfig;
use super::ct_flush::CtFlush;
use super::flow_mod::NxFlowRemoved;
use super::packet::NxPacketIn;
use super::tlv_table::{TlvTable, TlvTableMod};
use super::{PacketIn2, Role};
use crate::wire::{Reader, Result, Sink, Writer};

/// A message of an experimenter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Experimenter {
    /// `NXT_ROLE_REQUEST`: be this; there is no number of an election.
    RoleRequest(Role),
    /// `NXT_ROLE_REPLY`.
    RoleReply(Role),
    /// `NXT_FLOW_REMOVED`, which a switch sends in OpenFlow 1.0 only.
    FlowRemoved(NxFlowRemoved),
    /// `NXT_FLOW_MOD_TABLE_ID`: flow mods of OpenFlow 1.0 name a table.
    FlowModTableId(bool),
    /// `NXT_SET_PACKET_IN_FORMAT`: 0 OpenFlow's own, 1 [`NxPacketIn`], 2 [`PacketIn2`].
    SetPacketInFormat(u32),
    /// `NXT_PACKET_IN`.
    PacketIn(NxPacketIn),
    /// `NXT_FLOW_AGE`: tell how long ago flows matched; in OpenFlow 1.5 they always do.
    FlowAge,
    /// `NXT_SET_ASYNC_CONFIG`.
    SetAsyncConfig(NxAsyncConfig),
    /// `NXT_SET_CONTROLLER_ID`: send this connection the packet-ins for this id.
    SetControllerId(u16),
    /// `NXT_TLV_TABLE_MOD`: map tunnel options to fields.
    TlvTableMod(TlvTableMod),
    /// `NXT_TLV_TABLE_REQUEST`: which tunnel options are mapped to which fields?
    TlvTableRequest,
    /// `NXT_TLV_TABLE_REPLY`.
    TlvTableReply(TlvTable),
    /// `NXT_RESUME`: go on with this packet.
    Resume(PacketIn2),
    /// `NXT_CT_FLUSH_ZONE`: forget the connections of this zone.
    CtFlushZone(u16),
    /// `NXT_PACKET_IN2`.
    PacketIn2(PacketIn2),
    /// `NXT_CT_FLUSH`: forget some connections.
    CtFlush(CtFlush),
    /// Any other, as it was.
    Other {
        /// Who defined it.
        experimenter: u32,
        /// Their number.
        subtype: u32,
        /// What follows.
        body: Bytes,
    },
}

pub(super) const NX: u32 = 0x0000_2320;
const ROLE_REQUEST: u32 = 10;
const ROLE_REPLY: u32 = 11;
const FLOW_REMOVED: u32 = 14;
const FLOW_MOD_TABLE_ID: u32 = 15;
const SET_PACKET_IN_FORMAT: u32 = 16;
const PACKET_IN: u32 = 17;
const FLOW_AGE: u32 = 18;
const SET_ASYNC_CONFIG: u32 = 19;
const SET_CONTROLLER_ID: u32 = 20;
const TLV_TABLE_MOD: u32 = 24;
const TLV_TABLE_REQUEST: u32 = 25;
const TLV_TABLE_REPLY: u32 = 26;
const RESUME: u32 = 28;
const CT_FLUSH_ZONE: u32 = 29;
const PACKET_IN2: u32 = 30;
const CT_FLUSH: u32 = 32;

/// The names of Open vSwitch's messages, without the `NXT_`.
pub(super) const NAMES: [(u32, &str); 16] = [
    (ROLE_REQUEST, "ROLE_REQUEST"),
    (ROLE_REPLY, "ROLE_REPLY"),
    (FLOW_REMOVED, "FLOW_REMOVED"),
    (FLOW_MOD_TABLE_ID, "FLOW_MOD_TABLE_ID"),
    (SET_PACKET_IN_FORMAT, "SET_PACKET_IN_FORMAT"),
    (PACKET_IN, "PACKET_IN"),
    (FLOW_AGE, "FLOW_AGE"),
    (SET_ASYNC_CONFIG, "SET_ASYNC_CONFIG"),
    (SET_CONTROLLER_ID, "SET_CONTROLLER_ID"),
    (TLV_TABLE_MOD, "TLV_TABLE_MOD"),
    (TLV_TABLE_REQUEST, "TLV_TABLE_REQUEST"),
    (TLV_TABLE_REPLY, "TLV_TABLE_REPLY"),
    (RESUME, "RESUME"),
    (CT_FLUSH_ZONE, "CT_FLUSH_ZONE"),
    (PACKET_IN2, "PACKET_IN2"),
    (CT_FLUSH, "CT_FLUSH"),
];

impl Experimenter {
    /// The number of OpenFlow's own format of packet-ins.
    pub const PACKET_IN_FORMAT_STANDARD: u32 = 0;
    /// The number of the format [`NxPacketIn`].
    pub const PACKET_IN_FORMAT_NXT: u32 = 1;
    /// The number of the format [`PacketIn2`].
    pub const PACKET_IN_FORMAT_NXT2: u32 = 2;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (experimenter, subtype) = (r.u32()?, r.u32()?);
        if experimenter != NX {
            return Ok(Self::Other { experimenter, subtype, body: r.rest() });
        }
        Ok(match subtype {
            ROLE_REQUEST => Self::RoleRequest(decode_role(r)?),
            ROLE_REPLY => Self::RoleReply(decode_role(r)?),
            FLOW_REMOVED => Self::FlowRemoved(NxFlowRemoved::decode(r)?),
            FLOW_MOD_TABLE_ID => {
                let enable = r.u8()? != 0;
                r.skip(7)?;
                Self::FlowModTableId(enable)
            }
            SET_PACKET_IN_FORMAT => Self::SetPacketInFormat(r.u32()?),
            PACKET_IN => Self::PacketIn(NxPacketIn::decode(r)?),
            FLOW_AGE => Self::FlowAge,
            SET_ASYNC_CONFIG => Self::SetAsyncConfig(NxAsyncConfig::decode(r)?),
            SET_CONTROLLER_ID => Self::SetControllerId(decode_id(r)?),
            TLV_TABLE_MOD => Self::TlvTableMod(TlvTableMod::decode(r)?),
            TLV_TABLE_REQUEST => Self::TlvTableRequest,
            TLV_TABLE_REPLY => Self::TlvTableReply(TlvTable::decode(r)?),
            RESUME => Self::Resume(PacketIn2::decode(r)?),
            CT_FLUSH_ZONE => Self::CtFlushZone(decode_id(r)?),
            PACKET_IN2 => Self::PacketIn2(PacketIn2::decode(r)?),
            CT_FLUSH => Self::CtFlush(CtFlush::decode(r)?),
            _ => Self::Other { experimenter, subtype, body: r.rest() },
        })
    }

    /// Who defined it, and the number there.
    pub(super) fn numbers(&self) -> (u32, u32) {
        let subtype = match self {
            Self::RoleRequest(_) => ROLE_REQUEST,
            Self::RoleReply(_) => ROLE_REPLY,
            Self::FlowRemoved(_) => FLOW_REMOVED,
            Self::FlowModTableId(_) => FLOW_MOD_TABLE_ID,
            Self::SetPacketInFormat(_) => SET_PACKET_IN_FORMAT,
            Self::PacketIn(_) => PACKET_IN,
            Self::FlowAge => FLOW_AGE,
            Self::SetAsyncConfig(_) => SET_ASYNC_CONFIG,
            Self::SetControllerId(_) => SET_CONTROLLER_ID,
            Self::TlvTableMod(_) => TLV_TABLE_MOD,
            Self::TlvTableRequest => TLV_TABLE_REQUEST,
            Self::TlvTableReply(_) => TLV_TABLE_REPLY,
            Self::Resume(_) => RESUME,
            Self::CtFlushZone(_) => CT_FLUSH_ZONE,
            Self::PacketIn2(_) => PACKET_IN2,
            Self::CtFlush(_) => CT_FLUSH,
            Self::Other { experimenter, subtype, .. } => return (*experimenter, *subtype),
        };
        (NX, subtype)
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let (experimenter, subtype) = self.numbers();
        w.u32(experimenter);
        w.u32(subtype);
        match self {
            Self::RoleRequest(role) | Self::RoleReply(role) => w.u32(nx_role(*role)),
            Self::FlowRemoved(removed) => removed.encode(w),
            Self::FlowModTableId(enable) => {
                w.u8((*enable).into());
                w.zeros(7);
            }
            Self::SetPacketInFormat(format) => w.u32(*format),
            Self::PacketIn(packet) => packet.encode(w),
            Self::SetAsyncConfig(config) => config.encode(w),
            Self::SetControllerId(id) | Self::CtFlushZone(id) => {
                w.zeros(6);
                w.u16(*id);
            }
            Self::TlvTableMod(change) => change.encode(w),
            Self::TlvTableRequest | Self::FlowAge => {}
            Self::TlvTableReply(table) => table.encode(w),
            Self::Resume(packet) | Self::PacketIn2(packet) => packet.encode(w),
            Self::CtFlush(flush) => flush.encode(w),
            Self::Other { body, .. } => w.slice(body),
        }
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        match self {
            Self::RoleRequest(role) | Self::RoleReply(role) => write!(out, " role={role}"),
            Self::FlowRemoved(removed) => removed.text(out),
            Self::FlowModTableId(enable) => out.write_str(if *enable { " enable" } else { " disable" }),
            Self::SetPacketInFormat(format) => match format {
                0 => out.write_str(" format=standard"),
                1 => out.write_str(" format=nxt_packet_in"),
                2 => out.write_str(" format=nxt_packet_in2"),
                other => write!(out, " format={other}"),
            },
            Self::PacketIn(packet) => packet.text(out),
            Self::SetAsyncConfig(config) => config.to_standard().text(out),
            Self::SetControllerId(id) => write!(out, " id={id}"),
            Self::TlvTableMod(change) => change.text(out),
            Self::TlvTableRequest | Self::FlowAge | Self::Other { .. } => Ok(()),
            Self::TlvTableReply(table) => table.text(out),
            Self::Resume(packet) | Self::PacketIn2(packet) => packet.text(out),
            Self::CtFlushZone(zone) => write!(out, " zone_id={zone}"),
            Self::CtFlush(flush) => flush.text(out),
        }
    }
}

fn decode_id(r: &mut Reader<'_>) -> Result<u16> {
    r.skip(6)?;
    r.u16()
}

/// Numbers of roles are one less than OpenFlow's (`enum nx_role`).
fn decode_role(r: &mut Reader<'_>) -> Result<Role> {
    Ok(match r.u32()? {
        0 => Role::Equal,
        1 => Role::Primary,
        2 => Role::Secondary,
        other => Role::Other(other.wrapping_add(1)),
    })
}

fn nx_role(role: Role) -> u32 {
    role.to_wire().wrapping_sub(1)
}
