//! Headers put around a packet, and taken away.

use bytes::Bytes;

use crate::error::DecodeErrorKind;
use crate::wire::{Reader, Result, Sink, Writer, padding};

/// Put a header in front of the packet (`NXAST_ENCAP`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Encap {
    /// Bytes of the header, 0 for what the header needs.
    pub hdr_size: u16,
    /// The packet type that it becomes: name space in the upper, type in the lower 16 bits.
    pub packet_type: u32,
    /// What the header is to contain.
    pub properties: Vec<EncapProperty>,
}

/// A part of a header (`lib/ofp-ed-props.c` of Open vSwitch).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EncapProperty {
    /// The kind of metadata of a network service header, 1 or 2.
    NshMdType(u8),
    /// A value among the metadata of kind 2.
    NshTlv {
        /// Who defined it.
        class: u16,
        /// Which one it is.
        kind: u8,
        /// The value, at most 247 bytes.
        value: Bytes,
    },
    /// Any other, as it came.
    Other {
        /// `ofp_ed_prop_class`.
        class: u16,
        /// Its type within the class.
        kind: u8,
        /// What follows the header of four bytes, without padding.
        body: Bytes,
    },
}

const NSH_CLASS: u16 = 4;
const MD_TYPE: u8 = 1;
const TLV: u8 = 2;
const WHAT: &str = "encap property";

impl Encap {
    /// Packet type of Ethernet.
    pub const ETHERNET: u32 = 0;
    /// Packet type of a network service header.
    pub const NSH: u32 = 0x1_894f;
    /// Packet type of MPLS.
    pub const MPLS: u32 = 0x1_8847;
    /// Packet type of MPLS multicast.
    pub const MPLS_MC: u32 = 0x1_8848;
    /// For `decap`: the type that the header says comes next.
    pub const USE_NEXT_PROTO: u32 = 0xfffe;

    /// The headers that Open vSwitch puts, as `ovs-ofctl` calls them.
    pub(crate) const NAMES: [(&str, u32); 4] =
        [("ethernet", Self::ETHERNET), ("nsh", Self::NSH), ("mpls", Self::MPLS), ("mpls_mc", Self::MPLS_MC)];

    /// ```text
    /// +-------------+------------------+----------------------------------------------+
    /// | header size | packet type (32) | properties: class (16), type (8), length (8) |
    /// |             |                  | contents, padding to 8 bytes                 |
    /// +-------------+------------------+----------------------------------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut out = Self { hdr_size: r.u16()?, packet_type: r.u32()?, properties: Vec::new() };
        while !r.is_empty() {
            out.properties.push(EncapProperty::decode(r)?);
        }
        Ok(out)
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.hdr_size);
        w.u32(self.packet_type);
        self.properties.iter().for_each(|property| property.encode(w));
    }
}

impl EncapProperty {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut head = r.clone().named(WHAT);
        let (class, kind, len) = (head.u16()?, head.u8()?, usize::from(head.u8()?));
        if len < 4 {
            return Err(head.error(DecodeErrorKind::BadLength(len)));
        }
        let mut body = r.sub(len, WHAT)?;
        body.skip(4)?;
        r.skip_padding(len);
        Ok(match (class, kind) {
            (NSH_CLASS, MD_TYPE) if body.len() == 1 => Self::NshMdType(body.u8()?),
            (NSH_CLASS, TLV) => {
                let (class, kind, len) = (body.u16()?, body.u8()?, body.u8()?);
                Self::NshTlv { class, kind, value: body.bytes(len.into())? }
            }
            _ => Self::Other { class, kind, body: body.rest() },
        })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        let (class, number, len) = match self {
            Self::NshMdType(_) => (NSH_CLASS, MD_TYPE, 1),
            // Its length counts the padding.
            Self::NshTlv { value, .. } => (NSH_CLASS, TLV, 4 + value.len() + padding(value.len())),
            Self::Other { class, kind, body } => (*class, *kind, body.len()),
        };
        let from = w.pos();
        w.u16(class);
        w.u8(number);
        w.len8(4 + len, WHAT);
        match self {
            Self::NshMdType(md_type) => w.u8(*md_type),
            Self::NshTlv { class, kind, value } => {
                w.u16(*class);
                w.u8(*kind);
                w.len8(value.len(), WHAT);
                w.slice(value);
            }
            Self::Other { body, .. } => w.slice(body),
        }
        w.pad(from);
    }
}
