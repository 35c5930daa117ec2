//! Packets for the controller in Open vSwitch's extensible form, and sending them on.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::packet::{PacketInText, packet_in_text};
use super::property::{Property, encode_unknown};
use super::{NO_BUFFER, text};
use crate::action;
use crate::wire::{Reader, Result, Sink, Writer};
use crate::{Match, OxmField, PortNo};

/// A packet for the controller, in Open vSwitch's extensible form (`NXT_PACKET_IN2`); sent back with its
/// continuation, it goes on where it stopped (`NXT_RESUME`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketIn2 {
    /// The packet, from its Ethernet header on.
    pub packet: Bytes,
    /// Bytes of the packet, if `packet` is shorter.
    pub full_len: Option<u32>,
    /// The switch's buffer, if it keeps the packet.
    pub buffer_id: Option<u32>,
    /// Where it was.
    pub table_id: u8,
    /// Of the flow that sent it; all ones if none did.
    pub cookie: u64,
    /// `ofp_packet_in_reason`.
    pub reason: u8,
    /// The fields that are not in the packet itself.
    pub metadata: Match,
    /// What the action said.
    pub userdata: Bytes,
    /// With this, the switch can go on where it stopped; only it knows what it means.
    pub continuation: Option<Bytes>,
    /// Any others, as they were.
    pub other: Vec<Property>,
}

impl Default for PacketIn2 {
    fn default() -> Self {
        Self {
            packet: Bytes::new(),
            full_len: None,
            buffer_id: None,
            table_id: 0,
            cookie: u64::MAX,
            reason: 0,
            metadata: Match::new(),
            userdata: Bytes::new(),
            continuation: None,
            other: Vec::new(),
        }
    }
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
                _ => out.other.push(Property { kind, body: body.rest() }),
            }
            body.finish_property()?;
        }
        Ok(out)
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.property(PACKET, WHAT, |w| w.slice(&self.packet));
        if let Some(len) = self.full_len {
            w.property(FULL_LEN, WHAT, |w| w.u32(len));
        }
        if let Some(id) = self.buffer_id {
            w.property(BUFFER_ID, WHAT, |w| w.u32(id));
        }
        w.property_u8(TABLE_ID, WHAT, self.table_id);
        if self.cookie != u64::MAX {
            w.property(COOKIE, WHAT, |w| {
                w.zeros(4);
                w.u64(self.cookie);
            });
        }
        w.property_u8(REASON, WHAT, self.reason);
        w.property(METADATA, WHAT, |w| self.metadata.encode_fields(w));
        if let Some(continuation) = &self.continuation {
            w.property(CONTINUATION, WHAT, |w| w.slice(continuation));
        }
        if !self.userdata.is_empty() {
            w.property(USERDATA, WHAT, |w| w.slice(&self.userdata));
        }
        encode_unknown(&self.other, w, WHAT);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let mut more = String::new();
        if !self.userdata.is_empty() {
            let bytes: Vec<_> = self.userdata.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(more, " userdata={}", bytes.join("."))?;
        }
        if let Some(continuation) = &self.continuation {
            // What is wrong with it is the switch's own affair.
            if let Ok(continuation) = Continuation::read(Reader::new(continuation, "continuation")) {
                continuation.text(&mut more)?;
            }
        }
        packet_in_text(
            out,
            PacketInText {
                table_id: self.table_id,
                cookie: self.cookie,
                total_len: self.full_len.unwrap_or_else(|| self.packet.len().try_into().unwrap_or(u32::MAX)),
                metadata: &self.metadata,
                reason: self.reason,
                buffer_id: self.buffer_id.unwrap_or(NO_BUFFER),
                packet: &self.packet,
                more: &more,
            },
        )
    }
}

/// `enum nx_continuation_prop_type` in Open vSwitch's `lib/ofp-packet.c`.
const BRIDGE: u16 = 0x8000;
const STACK: u16 = 0x8001;
const MIRRORS: u16 = 0x8002;
const CONNTRACKED: u16 = 0x8003;
const RULE_TABLE: u16 = 0x8004;
const RULE_COOKIE: u16 = 0x8005;
const ACTIONS: u16 = 0x8006;
const ACTION_SET: u16 = 0x8007;
const ODP_PORT: u16 = 0x8008;

/// What the switch keeps for itself: the bridge, the stack, and the actions that are still to be done.
#[derive(Default)]
struct Continuation {
    bridge: String,
    stack: String,
    lines: String,
    actions: Vec<String>,
    action_set: Vec<String>,
    port: String,
    /// Of the flow that the next actions are of.
    rule: (u8, u64),
}

impl Continuation {
    fn read(mut r: Reader<'_>) -> Result<Self> {
        let mut out = Self::default();
        // Nested properties begin at a multiple of eight bytes.
        r.skip(4)?;
        while !r.is_empty() {
            let (kind, body) = r.property("continuation")?;
            out.add(kind, body)?;
        }
        Ok(out)
    }

    fn add(&mut self, kind: u16, mut body: Reader<'_>) -> Result<()> {
        match kind {
            BRIDGE => {
                // In the switch's own byte order, which is ours if it runs here.
                let mut part = || Ok(u32::from_ne_bytes(body.u32()?.to_be_bytes()));
                let [a, b, c, d] = [part()?, part()?, part()?, part()?];
                let (b, c) = ((b >> 16, b & 0xffff), (c >> 16, c & 0xffff));
                let id = format!("{a:08x}-{:04x}-{:04x}-{:04x}-{:04x}{d:08x}", b.0, b.1, c.0, c.1);
                self.bridge = format!(" continuation.bridge={id}\n");
            }
            STACK => {
                let value: String = body.peek().iter().map(|byte| format!("{byte:02x}")).collect();
                let digits = value.trim_start_matches('0');
                self.stack += &if digits.is_empty() { " 0".to_owned() } else { format!(" 0x{digits}") };
            }
            MIRRORS => self.lines += &format!(" continuation.mirrors={:#x}\n", body.u32()?),
            CONNTRACKED => self.lines += " continuation.conntracked=true\n",
            RULE_TABLE => self.rule.0 = body.u8()?,
            RULE_COOKIE => {
                body.skip(4)?;
                self.rule.1 = body.u64()?;
            }
            ACTIONS => {
                let (table, cookie) = self.rule;
                self.actions.push(format!("unroll_xlate(table={table}, cookie={cookie})"));
                self.actions.extend(action_text(body)?);
            }
            ACTION_SET => self.action_set.extend(action_text(body)?),
            ODP_PORT => self.port = format!(" continuation.odp_port={}\n", body.u32()?),
            _ => {}
        }
        Ok(())
    }

    fn text(&self, out: &mut String) -> fmt::Result {
        out.write_str(&self.bridge)?;
        if !self.stack.is_empty() {
            writeln!(out, " continuation.stack=(top){} (bottom)", self.stack)?;
        }
        out.write_str(&self.lines)?;
        for (name, list) in [("actions", &self.actions), ("action_set", &self.action_set)] {
            if !list.is_empty() {
                writeln!(out, " continuation.{name}={}", list.join(","))?;
            }
        }
        out.write_str(&self.port)
    }
}

/// Actions as one text, if there are any.
fn action_text(mut body: Reader<'_>) -> Result<Option<String>> {
    body.skip(4)?;
    let list = action::decode_list(&mut body)?;
    let text = text::actions(&list);
    Ok((!list.is_empty()).then(|| text.trim_start_matches("actions=").to_owned()))
}
