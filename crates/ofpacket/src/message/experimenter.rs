//! Open vSwitch's own messages (`include/openflow/nicira-ext.h`).
//!
//! ```text
//!  header  64                     96        128
//! +--------+----------------------+---------+----------+
//! |   ...  | experimenter 0x2320  | subtype | body ... |
//! +--------+----------------------+---------+----------+
//! ```

use bytes::Bytes;

use super::PacketIn2;
use crate::error::DecodeErrorKind;
use crate::wire::{Reader, Result, Writer};

/// A message of an experimenter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Experimenter {
    /// `NXT_SET_PACKET_IN_FORMAT`: 0 OpenFlow's own, 2 [`PacketIn2`].
    SetPacketInFormat(u32),
    /// `NXT_SET_CONTROLLER_ID`: send this connection the packet-ins for this id.
    SetControllerId(u16),
    /// `NXT_PACKET_IN2`.
    PacketIn2(PacketIn2),
    /// `NXT_TLV_TABLE_REQUEST`: which tunnel options are mapped to which fields?
    TlvTableRequest,
    /// `NXT_TLV_TABLE_REPLY`.
    TlvTableReply(TlvTable),
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

/// The tunnel options that a bridge knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlvTable {
    /// Bytes that all options together may have.
    pub max_option_space: u32,
    /// How many options there may be.
    pub max_fields: u16,
    /// The options.
    pub maps: Vec<TlvMap>,
}

/// A tunnel option and the field that it is matched by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlvMap {
    /// The option's class.
    pub class: u16,
    /// The option's type.
    pub kind: u8,
    /// Bytes of its value, a multiple of 4.
    pub len: u8,
    /// The `n` of `tun_metadata<n>`.
    pub index: u16,
}

const NX: u32 = 0x0000_2320;
const SET_PACKET_IN_FORMAT: u32 = 16;
const SET_CONTROLLER_ID: u32 = 20;
const TLV_TABLE_REQUEST: u32 = 25;
const TLV_TABLE_REPLY: u32 = 26;
const PACKET_IN2: u32 = 30;

impl Experimenter {
    /// The number of the format [`PacketIn2`].
    pub const PACKET_IN_FORMAT_NXT2: u32 = 2;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (experimenter, subtype) = (r.u32()?, r.u32()?);
        Ok(match (experimenter, subtype) {
            (NX, SET_PACKET_IN_FORMAT) => Self::SetPacketInFormat(r.u32()?),
            (NX, SET_CONTROLLER_ID) => {
                r.skip(6)?;
                Self::SetControllerId(r.u16()?)
            }
            (NX, TLV_TABLE_REQUEST) => Self::TlvTableRequest,
            (NX, TLV_TABLE_REPLY) => Self::TlvTableReply(TlvTable::decode(r)?),
            (NX, PACKET_IN2) => Self::PacketIn2(PacketIn2::decode(r)?),
            _ => Self::Other { experimenter, subtype, body: r.rest() },
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        let (experimenter, subtype) = match self {
            Self::SetPacketInFormat(_) => (NX, SET_PACKET_IN_FORMAT),
            Self::SetControllerId(_) => (NX, SET_CONTROLLER_ID),
            Self::PacketIn2(_) => (NX, PACKET_IN2),
            Self::TlvTableRequest => (NX, TLV_TABLE_REQUEST),
            Self::TlvTableReply(_) => (NX, TLV_TABLE_REPLY),
            Self::Other { experimenter, subtype, .. } => (*experimenter, *subtype),
        };
        w.u32(experimenter);
        w.u32(subtype);
        match self {
            Self::SetPacketInFormat(format) => w.u32(*format),
            Self::SetControllerId(id) => {
                w.zeros(6);
                w.u16(*id);
            }
            Self::PacketIn2(packet) => packet.encode(w),
            Self::TlvTableRequest => {}
            Self::TlvTableReply(table) => table.encode(w),
            Self::Other { body, .. } => w.slice(body),
        }
    }
}

impl TlvTable {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (max_option_space, max_fields) = (r.u32()?, r.u16()?);
        r.skip(10)?;
        if !r.len().is_multiple_of(8) {
            return Err(r.error(DecodeErrorKind::BadLength(r.len())));
        }
        let mut maps = Vec::new();
        while !r.is_empty() {
            maps.push(TlvMap { class: r.u16()?, kind: r.u8()?, len: r.u8()?, index: r.u16()? });
            r.skip(2)?;
        }
        Ok(Self { max_option_space, max_fields, maps })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.max_option_space);
        w.u16(self.max_fields);
        w.zeros(10);
        for map in &self.maps {
            w.u16(map.class);
            w.u8(map.kind);
            w.u8(map.len);
            w.u16(map.index);
            w.zeros(2);
        }
    }
}
