//! Packets to and from the controller.

use bytes::Bytes;

use super::NO_BUFFER;
use crate::action::{self, Action};
use crate::wire::{Reader, Result, Writer};
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

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.buffer_id);
        w.u16(self.total_len);
        w.u8(self.reason);
        w.u8(self.table_id);
        w.u64(self.cookie);
        self.metadata.encode(w);
        w.zeros(2);
        w.slice(&self.packet);
    }
}

/// A packet for the controller, in Open vSwitch's extensible form (`NXT_PACKET_IN2`). Properties that are
/// not known here are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PacketIn2 {
    /// The packet, from its Ethernet header on.
    pub packet: Bytes,
    /// Bytes of the packet, if `packet` is shorter.
    pub full_len: Option<u32>,
    /// The switch's buffer, if it keeps the packet.
    pub buffer_id: Option<u32>,
    /// Where it was.
    pub table_id: u8,
    /// Of the flow that sent it.
    pub cookie: u64,
    /// `ofp_packet_in_reason`.
    pub reason: u8,
    /// The fields that are not in the packet itself.
    pub metadata: Match,
    /// What the action said.
    pub userdata: Bytes,
    /// With this, the switch can go on where it stopped; only it knows what it means.
    pub continuation: Option<Bytes>,
}

const WHAT: &str = "packet-in";
const PACKET: u16 = 0;
const FULL_LEN: u16 = 1;
const BUFFER_ID: u16 = 2;
const TABLE_ID: u16 = 3;
const COOKIE: u16 = 4;
const REASON: u16 = 5;
const METADATA: u16 = 6;
const USERDATA: u16 = 7;
const CONTINUATION: u16 = 8;

impl PacketIn2 {
    /// The port that the packet came in on, if the switch says so.
    pub fn in_port(&self) -> Option<PortNo> {
        let oxm = self.metadata.get(OxmField::IN_PORT)?;
        u32::try_from(oxm.to_u128()?).ok().map(PortNo)
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut out = Self::default();
        while !r.is_empty() {
            let (kind, mut body) = r.property(WHAT)?;
            match kind {
                PACKET => out.packet = body.rest(),
                FULL_LEN => out.full_len = Some(body.u32()?),
                BUFFER_ID => out.buffer_id = Some(body.u32()?),
                TABLE_ID => out.table_id = body.u8()?,
                COOKIE => {
                    // Aligned to eight bytes.
                    body.skip(4)?;
                    out.cookie = body.u64()?;
                }
                REASON => out.reason = body.u8()?,
                METADATA => {
                    let fields = body.sub(body.len(), WHAT)?;
                    out.metadata = Match::decode_fields(fields)?;
                }
                USERDATA => out.userdata = body.rest(),
                CONTINUATION => out.continuation = Some(body.rest()),
                _ => {
                    body.rest();
                }
            }
            body.finish_property()?;
        }
        Ok(out)
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.property(PACKET, WHAT, |w| w.slice(&self.packet));
        if let Some(len) = self.full_len {
            w.property(FULL_LEN, WHAT, |w| w.u32(len));
        }
        if let Some(id) = self.buffer_id {
            w.property(BUFFER_ID, WHAT, |w| w.u32(id));
        }
        w.property_u8(TABLE_ID, WHAT, self.table_id);
        w.property(COOKIE, WHAT, |w| {
            w.zeros(4);
            w.u64(self.cookie);
        });
        w.property_u8(REASON, WHAT, self.reason);
        w.property(METADATA, WHAT, |w| self.metadata.encode_fields(w));
        if !self.userdata.is_empty() {
            w.property(USERDATA, WHAT, |w| w.slice(&self.userdata));
        }
        if let Some(continuation) = &self.continuation {
            w.property(CONTINUATION, WHAT, |w| w.slice(continuation));
        }
    }
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

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.buffer_id);
        let len_at = w.pos();
        w.zeros(4);
        self.metadata.encode(w);
        let from = w.pos();
        action::encode_list(&self.actions, w);
        w.patch_len(len_at, from, "packet-out actions");
        w.slice(&self.packet);
    }
}
