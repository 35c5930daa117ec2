//! What is done to a packet.

mod controller;
mod ct;
mod encap;
mod extension;
mod learn;
mod sample;
mod select;
mod standard;
mod text;

use bytes::Bytes;

pub use controller::Controller2;
pub use ct::{Ct, CtZone, Nat};
pub use encap::{Encap, EncapProperty};
pub use learn::{Learn, LearnDst, LearnSpec, LearnSrc};
pub use sample::{Sample, SampleId};
pub use select::{Bundle, Multipath};

use crate::PortNo;
use crate::error::DecodeErrorKind;
use crate::match_::trim_option;
use crate::oxm::{Oxm, OxmField};
use crate::wire::{Reader, Result, Sink, Writer, writes};

/// An action: one of OpenFlow 1.5's (section 7.2.6) or of Open vSwitch's (`lib/ofp-actions.c`).
///
/// A typed action always encodes to the very bytes that it was decoded from. What is not known here, or was
/// written in a way that this crate would not write it, is kept as [`Action::Other`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Send the packet to a port.
    Output {
        /// Where to.
        port: PortNo,
        /// To the controller: bytes of the packet to send, 0xffff for all of it.
        max_len: u16,
    },
    /// Set a field, or the bits of it that the mask selects.
    SetField(Oxm),
    /// Copy bits from field to field: `move`.
    CopyField {
        /// How many.
        n_bits: u16,
        /// From which bit of `src` on.
        src_offset: u16,
        /// To which bit of `dst` on.
        dst_offset: u16,
        /// Where from.
        src: OxmField,
        /// Where to.
        dst: OxmField,
    },
    /// Through a group.
    Group(u32),
    /// Choose the queue for output.
    SetQueue(u32),
    /// Back to the port's default queue.
    PopQueue,
    /// Through a meter.
    Meter(u32),
    /// Push a VLAN tag with this Ethernet type.
    PushVlan(u16),
    /// Remove the outer VLAN tag.
    PopVlan,
    /// Push an MPLS label with this Ethernet type.
    PushMpls(u16),
    /// Remove the outer MPLS label; the packet becomes one of this Ethernet type.
    PopMpls(u16),
    /// Decrement the TTL of the outer MPLS label.
    DecMplsTtl,
    /// Push a PBB tag with this Ethernet type. Open vSwitch does not have this.
    PushPbb(u16),
    /// Remove the outer PBB tag. Open vSwitch does not have this.
    PopPbb,
    /// Set the TTL of the outer MPLS label.
    SetMplsTtl(u8),
    /// Copy the TTL outwards, from the next-to-outermost header. Open vSwitch does not have this.
    CopyTtlOut,
    /// Copy the TTL inwards, to the next-to-outermost header. Open vSwitch does not have this.
    CopyTtlIn,
    /// Decrement the TTL of the network service header.
    DecNshTtl,
    /// Put a header in front of the packet.
    Encap(Encap),
    /// Take the outer header away; the packet becomes one of this type, [`Encap::USE_NEXT_PROTO`] for the one
    /// that the header names.
    Decap(u32),
    /// Set the TTL of the IP header.
    SetNwTtl(u8),
    /// Decrement the TTL of the IP header.
    DecNwTtl,
    /// Decrement the TTL of the IP header; if it expires, tell the controllers with these ids.
    DecTtlCntIds(Vec<u16>),
    /// Look the packet up in a table, and come back.
    Resubmit {
        /// As if it had come from this port; [`PortNo::IN_PORT`] for the one it came from.
        port: PortNo,
        /// In this table; the current one if absent.
        table: Option<u8>,
        /// With the addresses and ports of its connection's original direction.
        ct: bool,
    },
    /// Set the tunnel key, 32 bits.
    SetTunnel(u32),
    /// Set the tunnel key.
    SetTunnel64(u64),
    /// Send the packet to the port whose number a field holds.
    OutputReg {
        /// The field.
        src: OxmField,
        /// From which bit on.
        ofs: u16,
        /// How many bits.
        n_bits: u16,
        /// To the controller: bytes of the packet to send.
        max_len: u16,
    },
    /// Send the packet to a port, cut to a length.
    OutputTrunc {
        /// Where to.
        port: PortNo,
        /// Bytes.
        max_len: u32,
    },
    /// Output to one of several ports, or write its number to a field.
    Bundle(Bundle),
    /// Write the number of one of several links to a field.
    Multipath(Multipath),
    /// Send a part of the packets to collectors.
    Sample(Sample),
    /// Set the bits of the metadata that `mask` selects; among instructions,
    /// [`Instruction::WriteMetadata`](crate::Instruction::WriteMetadata).
    WriteMetadata {
        /// The new bits.
        metadata: u64,
        /// Which of them count.
        mask: u64,
    },
    /// Add a flow, or refresh it.
    Learn(Learn),
    /// Do this to a copy of the packet.
    Clone(Vec<Self>),
    /// Send a packet-in, in Open vSwitch's extensible form.
    Controller(Controller2),
    /// Send a packet-in, in Open vSwitch's older form.
    ControllerV1 {
        /// Bytes of the packet to send, 0xffff for all of it.
        max_len: u16,
        /// Only to connections with this id.
        controller_id: u16,
        /// `ofp_packet_in_reason`.
        reason: u8,
    },
    /// Through connection tracking.
    Ct(Ct),
    /// Within [`Action::Ct`]: translate addresses.
    Nat(Nat),
    /// Forget what connection tracking found.
    CtClear,
    /// Part of a conjunctive match.
    Conjunction {
        /// Which clause this flow belongs to, from 0.
        clause: u8,
        /// How many clauses there are.
        n_clauses: u8,
        /// The value of `conj_id` when all of them match.
        id: u32,
    },
    /// Nothing; the bytes are for whoever reads the flow. A switch pads them with zeros.
    Note(Bytes),
    /// Push bits of a field on the stack.
    StackPush {
        /// The field.
        field: OxmField,
        /// From which bit on.
        ofs: u16,
        /// How many bits.
        n_bits: u16,
    },
    /// Pop bits of a field from the stack.
    StackPop {
        /// The field.
        field: OxmField,
        /// From which bit on.
        ofs: u16,
        /// How many bits.
        n_bits: u16,
    },
    /// Set a bit to whether the packet is larger than so many bytes.
    CheckPktLarger {
        /// Bytes.
        pkt_len: u16,
        /// The field that holds the bit.
        dst: OxmField,
        /// Which bit of it.
        ofs: u16,
    },
    /// Remove a tunnel option.
    DeleteField(OxmField),
    /// Change the timeouts of this flow when a TCP packet with FIN or RST matches.
    FinTimeout {
        /// Seconds, 0 for no change.
        idle_timeout: u16,
        /// Seconds, 0 for no change.
        hard_timeout: u16,
    },
    /// No more actions, in this table and those that resubmitted to it.
    Exit,
    /// Any other action, all bytes of it.
    Other(Bytes),
}

/// Actions in actions in actions: Open vSwitch's own limit for translation is 64 levels of resubmission,
/// and nobody nests actions that deep. What is deeper stays [`Action::Other`].
pub(crate) const MAX_DEPTH: usize = 16;

impl Action {
    /// Send the packet to this port.
    pub fn output(port: impl Into<PortNo>) -> Self {
        Self::Output { port: port.into(), max_len: 0 }
    }

    /// Set a field to a value.
    pub fn set_field(field: OxmField, value: impl crate::IntoValue) -> Self {
        Self::SetField(Oxm::new(field, value))
    }

    /// Set the bits of a field that `mask` selects.
    pub fn set_field_masked(
        field: OxmField,
        value: impl crate::IntoValue,
        mask: impl crate::IntoValue,
    ) -> Self {
        Self::SetField(Oxm::masked(field, value, mask))
    }

    /// Look the packet up in a table, and come back: `resubmit(,table)`.
    pub fn resubmit(table: u8) -> Self {
        Self::Resubmit { port: PortNo::IN_PORT, table: Some(table), ct: false }
    }

    /// Copy `n_bits` bits: `move:src[src_offset..]->dst[dst_offset..]`.
    pub fn copy_bits(src: OxmField, src_offset: u16, dst: OxmField, dst_offset: u16, n_bits: u16) -> Self {
        Self::CopyField { n_bits, src_offset, dst_offset, src, dst }
    }

    /// Copy a whole field: `move:src[]->dst[]`.
    pub fn copy_field(src: OxmField, dst: OxmField) -> Self {
        Self::copy_bits(src, 0, dst, 0, src.bits())
    }

    /// The normal form, for comparing what was asked for with what a switch shows: fields by their preferred
    /// numbers, no bits outside masks, no mask that is all ones, `note` padded, one form of `resubmit` and of
    /// `controller`.
    #[must_use]
    pub fn canonical(&self) -> Self {
        match self.clone() {
            // A switch keeps the length only where it has a meaning.
            Self::Output { port, .. } if port != PortNo::CONTROLLER => Self::output(port),
            Self::SetField(oxm) => Self::SetField(canonical_oxm(&oxm)),
            Self::CopyField { n_bits, src_offset, dst_offset, src, dst } => {
                let (src, dst) = (src.preferred(), dst.preferred());
                Self::CopyField { n_bits, src_offset, dst_offset, src, dst }
            }
            Self::Resubmit { port, table: Some(255), ct: false } => {
                Self::Resubmit { port, table: None, ct: false }
            }
            Self::OutputReg { src, ofs, n_bits, max_len } => {
                Self::OutputReg { src: src.preferred(), ofs, n_bits, max_len }
            }
            Self::Learn(learn) => Self::Learn(learn.canonical()),
            Self::Clone(actions) => Self::Clone(canonical_list(&actions)),
            Self::ControllerV1 { max_len, controller_id, reason } => {
                let controller = Controller2 { max_len, controller_id, reason, ..Controller2::default() };
                Self::Controller(controller).canonical()
            }
            Self::Controller(c) if c == (Controller2 { max_len: c.max_len, ..Controller2::default() }) => {
                Self::Output { port: PortNo::CONTROLLER, max_len: c.max_len }
            }
            Self::Ct(ct) => Self::Ct(ct.canonical()),
            Self::Nat(nat) => Self::Nat(nat.canonical()),
            Self::Note(data) => Self::Note(extension::pad_note(&data)),
            Self::StackPush { field, ofs, n_bits } => {
                Self::StackPush { field: field.preferred(), ofs, n_bits }
            }
            Self::StackPop { field, ofs, n_bits } => Self::StackPop { field: field.preferred(), ofs, n_bits },
            Self::CheckPktLarger { pkt_len, dst, ofs } => {
                Self::CheckPktLarger { pkt_len, dst: dst.preferred(), ofs }
            }
            Self::DeleteField(field) => Self::DeleteField(field.preferred()),
            Self::Bundle(bundle) => Self::Bundle(bundle.canonical()),
            Self::Multipath(multipath) => Self::Multipath(multipath.canonical()),
            Self::Sample(sample) => Self::Sample(sample.canonical()),
            Self::WriteMetadata { metadata, mask } => Self::WriteMetadata { metadata: metadata & mask, mask },
            // Open vSwitch has one form of these.
            Self::SetTunnel(key) => Self::set_field(OxmField::TUNNEL_ID, key),
            Self::SetTunnel64(key) => Self::set_field(OxmField::TUNNEL_ID, key),
            other => other,
        }
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        if !standard::encode(self, w) {
            extension::encode(self, w);
        }
    }
}

fn canonical_oxm(oxm: &Oxm) -> Oxm {
    let field = oxm.field.preferred();
    if field.tun_metadata_index().is_some() {
        return trim_option(oxm);
    }
    // Of the tunnel's flags there is but one.
    let whole = |mask: &[u8]| {
        mask.iter().all(|&b| b == 0xff)
            || field == OxmField::TUN_FLAGS && mask.last().is_some_and(|b| b & 1 != 0)
    };
    let Some(mask) = oxm.mask.as_deref().filter(|mask| !whole(mask)) else {
        return Oxm { field, value: oxm.value.clone(), mask: None };
    };
    let value = oxm.value.iter().zip(mask).map(|(v, m)| v & m).collect();
    Oxm { field, value, mask: oxm.mask.clone() }
}

pub(crate) fn canonical_list(actions: &[Action]) -> Vec<Action> {
    actions.iter().map(Action::canonical).collect()
}

/// Reads actions up to the end.
///
/// Padding that is not zero, a property given twice, or any other liberty that a typed action would lose shows
/// itself when it is compared with its bytes, here if the reader is careful, else with the whole message.
pub(crate) fn decode_list(r: &mut Reader<'_>) -> Result<Vec<Action>> {
    decode_nested(r, 0)
}

fn decode_nested(r: &mut Reader<'_>, depth: usize) -> Result<Vec<Action>> {
    // Most are at least that long; more than a few make room as they come, since there may be lists within lists.
    let mut out = Vec::with_capacity(r.len().div_ceil(16).min(8));
    while !r.is_empty() {
        let bytes = r.peek();
        let (kind, body) = r.structure("action", |len| len >= 8 && len % 8 == 0)?;
        let bytes = &bytes[..bytes.len() - r.len()];
        match decode_typed(kind, body, depth) {
            Ok(Some(action)) if !r.is_careful() || writes(bytes, |w| action.encode(w)) => out.push(action),
            _ => out.push(Action::Other(Bytes::copy_from_slice(bytes))),
        }
    }
    Ok(out)
}

#[inline]
fn decode_typed(kind: u16, mut r: Reader<'_>, depth: usize) -> Result<Option<Action>> {
    if depth >= MAX_DEPTH {
        return Err(r.error(DecodeErrorKind::TooDeep));
    }
    if kind == extension::EXPERIMENTER {
        extension::decode(&mut r, depth)
    } else {
        standard::decode(kind, &mut r)
    }
}

pub(crate) fn encode_list(actions: &[Action], w: &mut Writer<impl Sink>) {
    actions.iter().for_each(|action| action.encode(w));
}

pub(crate) use select::{BUNDLE_ALGORITHMS, HASH_FIELDS, MULTIPATH_ALGORITHMS};
pub(crate) use text::{write_list, write_metadata};
