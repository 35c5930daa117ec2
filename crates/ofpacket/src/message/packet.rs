//! Packets to and from the controller.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::flow_mod::{decode_nx_match, encode_nx_match};
use super::{NO_BUFFER, frame, text};
use crate::action::{self, Action};
use crate::wire::{Reader, Result, Sink, Writer};
use crate::{Match, OxmField, PortNo};

/// A packet for the controller (OpenFlow 1.5, section 7.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketIn {
    /// [`NO_BUFFER`], with Open vSwitch.
    pub buffer_id: u32,
    /// Bytes of the packet; `packet` may be shorter.
    pub total_len: u16,
    /// `ofp_packet_in_reason`.
    pub reason: u8,
    /// Where it was.
    pub table_id: u8,
    /// Of the flow that sent it.
    pub cookie: u64,
    /// The fields that are not in the packet itself.
    pub metadata: Match,
    /// The packet, from its Ethernet header on.
    pub packet: Bytes,
}

impl PacketIn {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (buffer_id, total_len) = (r.u32()?, r.u16()?);
        let (reason, table_id, cookie) = (r.u8()?, r.u8()?, r.u64()?);
        let metadata = Match::decode(r)?;
        r.skip(2)?;
        Ok(Self { buffer_id, total_len, reason, table_id, cookie, metadata, packet: r.rest() })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.buffer_id);
        w.u16(self.total_len);
        w.u8(self.reason);
        w.u8(self.table_id);
        w.u64(self.cookie);
        self.metadata.encode(w);
        w.zeros(2);
        w.slice(&self.packet);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        packet_in_text(out, self.header())
    }

    fn header(&self) -> PacketInText<'_> {
        PacketInText {
            table_id: self.table_id,
            cookie: self.cookie,
            total_len: self.total_len.into(),
            metadata: &self.metadata,
            reason: self.reason,
            buffer_id: self.buffer_id,
            packet: &self.packet,
            more: "",
        }
    }
}

/// A packet for the controller, in Open vSwitch's first own form (`NXT_PACKET_IN`).
///
/// ```text
/// +-----------+-----------+--------+-------+--------+-----------+---+
/// | buffer_id | total_len | reason | table | cookie | match_len | 0 |
/// +-----------+-----------+--------+-------+--------+-----------+---+
/// | match fields, padded to 8                  | 0 (16) | packet... |
/// +--------------------------------------------+--------+-----------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NxPacketIn(pub PacketIn);

impl NxPacketIn {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (buffer_id, total_len) = (r.u32()?, r.u16()?);
        let (reason, table_id, cookie, match_len) = (r.u8()?, r.u8()?, r.u64()?, r.u16()?);
        r.skip(6)?;
        let metadata = decode_nx_match(r, match_len)?;
        r.skip(2)?;
        Ok(Self(PacketIn { buffer_id, total_len, reason, table_id, cookie, metadata, packet: r.rest() }))
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let packet = &self.0;
        w.u32(packet.buffer_id);
        w.u16(packet.total_len);
        w.u8(packet.reason);
        w.u8(packet.table_id);
        w.u64(packet.cookie);
        let len_at = w.later();
        w.zeros(6);
        encode_nx_match(&packet.metadata, len_at, w);
        w.zeros(2);
        w.slice(&packet.packet);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        packet_in_text(out, self.0.header())
    }
}

/// What the text of every kind of packet-in says.
pub(super) struct PacketInText<'a> {
    pub(super) table_id: u8,
    pub(super) cookie: u64,
    pub(super) total_len: u32,
    pub(super) metadata: &'a Match,
    pub(super) reason: u8,
    pub(super) buffer_id: u32,
    pub(super) packet: &'a [u8],
    /// Lines between the first one and the packet.
    pub(super) more: &'a str,
}

pub(super) fn packet_in_text(out: &mut String, p: PacketInText<'_>) -> fmt::Result {
    if p.table_id != 0 {
        write!(out, " table_id={}", p.table_id)?;
    }
    if p.cookie != u64::MAX {
        write!(out, " cookie={:#x}", p.cookie)?;
    }
    let reason = packet_in_reason(p.reason).map_or_else(|| p.reason.to_string(), str::to_owned);
    write!(out, " total_len={} {} (via {reason})", p.total_len, p.metadata)?;
    write!(out, " data_len={}", p.packet.len())?;
    let (total, len) = (p.total_len as usize, p.packet.len());
    if p.buffer_id == NO_BUFFER {
        out.write_str(" (unbuffered)")?;
        if total != len {
            out.write_str(" (***total_len != data_len***)")?;
        }
    } else {
        write!(out, " buffer={:#010x}", p.buffer_id)?;
        if total < len {
            out.write_str(" (***total_len < data_len***)")?;
        }
    }
    write!(out, "\n{}", p.more)?;
    frame::text(out, p.metadata, p.packet)?;
    out.write_char('\n')
}

/// The name of an `ofp_packet_in_reason` that `ovs-ofctl` knows.
pub(crate) fn packet_in_reason(reason: u8) -> Option<&'static str> {
    const NAMES: [&str; 6] = ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];
    NAMES.get(usize::from(reason)).copied()
}

/// Send a packet (OpenFlow 1.5, section 7.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOut {
    /// [`NO_BUFFER`] if the packet is here.
    pub buffer_id: u32,
    /// The fields that are not in the packet itself; `in_port` at least.
    pub metadata: Match,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The packet, from its Ethernet header on.
    pub packet: Bytes,
}

impl PacketOut {
    /// Do this with that packet, as if it had come in on a port.
    pub fn new(in_port: PortNo, actions: Vec<Action>, packet: impl Into<Bytes>) -> Self {
        let metadata = Match::new().with(OxmField::IN_PORT, in_port);
        Self { buffer_id: NO_BUFFER, metadata, actions, packet: packet.into() }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (buffer_id, actions_len) = (r.u32()?, r.u16()?);
        r.skip(2)?;
        let metadata = Match::decode(r)?;
        let actions = action::decode_list(&mut r.sub(actions_len.into(), "packet-out actions")?)?;
        Ok(Self { buffer_id, metadata, actions, packet: r.rest() })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.buffer_id);
        let len_at = w.later();
        w.zeros(2);
        self.metadata.encode(w);
        let from = w.pos();
        action::encode_list(&self.actions, w);
        w.patch_len(len_at, from, "packet-out actions");
        w.slice(&self.packet);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, " {} {}", self.metadata, text::actions(&self.actions))?;
        if self.buffer_id != NO_BUFFER {
            return write!(out, " buffer={:#010x}", self.buffer_id);
        }
        write!(out, " data_len={}", self.packet.len())?;
        if self.packet.is_empty() {
            return Ok(());
        }
        out.write_char('\n')?;
        frame::text(out, &self.metadata, &self.packet)?;
        out.write_char('\n')
    }
}
