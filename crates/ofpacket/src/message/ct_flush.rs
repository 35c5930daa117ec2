//! Forgetting connections (`NXT_CT_FLUSH`, `include/openflow/nicira-ext.h`; Open vSwitch 3.1 and later).

use std::fmt::{self, Write};
use std::net::Ipv6Addr;

use super::property::{Property, decode_properties};
use super::text::Hex;
use crate::wire::{Reader, Result, Sink, Writer};

/// Forget these connections.
///
/// ```text
/// +----------+---+----------------+
/// | ip_proto | 0 | properties ... |
/// +----------+---+----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CtFlush {
    /// Of this IP protocol; 0 for any.
    pub ip_proto: u8,
    /// What else they have in common.
    pub properties: Vec<CtFlushProperty>,
}

/// What connections have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CtFlushProperty {
    /// Their original direction.
    Orig(Vec<CtTupleProperty>),
    /// Their reply direction.
    Reply(Vec<CtTupleProperty>),
    /// Their zone.
    Zone(u16),
    /// Their mark (Open vSwitch 3.7 and later).
    Mark(u32),
    /// The bits of the mark that count.
    MarkMask(u32),
    /// Their labels (Open vSwitch 3.7 and later).
    Labels(u128),
    /// The bits of the labels that count.
    LabelsMask(u128),
    /// Any other, as it was.
    Other(Property),
}

/// A part of one direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CtTupleProperty {
    /// Where from; an IPv4 address as `::ffff:a.b.c.d`.
    Src(Ipv6Addr),
    /// Where to.
    Dst(Ipv6Addr),
    /// From this port.
    SrcPort(u16),
    /// To this port.
    DstPort(u16),
    /// The ICMP identifier.
    IcmpId(u16),
    /// The ICMP type.
    IcmpType(u8),
    /// The ICMP code.
    IcmpCode(u8),
    /// Any other, as it was.
    Other(Property),
}

const WHAT: &str = "connections to forget";
const ORIG: u16 = 0;
const REPLY: u16 = 1;
const ZONE: u16 = 2;
const MARK: u16 = 3;
const MARK_MASK: u16 = 4;
const LABELS: u16 = 5;
const LABELS_MASK: u16 = 6;

impl CtFlush {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let ip_proto = r.u8()?;
        r.skip(7)?;
        let tuple = |body: &mut Reader<'_>| {
            // Nested properties begin at a multiple of eight bytes.
            body.skip(4)?;
            decode_properties(body, WHAT, CtTupleProperty::decode)
        };
        let properties = decode_properties(r, WHAT, |kind, body| {
            Ok(match kind {
                ORIG => CtFlushProperty::Orig(tuple(body)?),
                REPLY => CtFlushProperty::Reply(tuple(body)?),
                ZONE => CtFlushProperty::Zone(body.u16()?),
                MARK => CtFlushProperty::Mark(body.u32()?),
                MARK_MASK => CtFlushProperty::MarkMask(body.u32()?),
                LABELS => CtFlushProperty::Labels(u128::from(body.ipv6()?)),
                LABELS_MASK => CtFlushProperty::LabelsMask(u128::from(body.ipv6()?)),
                _ => CtFlushProperty::Other(Property { kind, body: body.rest() }),
            })
        })?;
        Ok(Self { ip_proto, properties })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u8(self.ip_proto);
        w.zeros(7);
        for property in &self.properties {
            match property {
                CtFlushProperty::Orig(orig) => encode_tuple(ORIG, orig, w),
                CtFlushProperty::Reply(reply) => encode_tuple(REPLY, reply, w),
                CtFlushProperty::Zone(zone) => w.property_u16(ZONE, WHAT, *zone),
                CtFlushProperty::Mark(mark) => w.property(MARK, WHAT, |w| w.u32(*mark)),
                CtFlushProperty::MarkMask(mask) => w.property(MARK_MASK, WHAT, |w| w.u32(*mask)),
                CtFlushProperty::Labels(labels) => {
                    w.property(LABELS, WHAT, |w| w.slice(&labels.to_be_bytes()));
                }
                CtFlushProperty::LabelsMask(mask) => {
                    w.property(LABELS_MASK, WHAT, |w| w.slice(&mask.to_be_bytes()));
                }
                CtFlushProperty::Other(property) => property.encode(w, WHAT),
            }
        }
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let (mut orig, mut reply) = (Tuple::default(), Tuple::default());
        let (mut zone, mut mark, mut labels) = (0, (0, 0), (0, 0));
        for property in &self.properties {
            match property {
                CtFlushProperty::Orig(tuple) => tuple.iter().for_each(|property| orig.add(property)),
                CtFlushProperty::Reply(tuple) => tuple.iter().for_each(|property| reply.add(property)),
                CtFlushProperty::Zone(value) => zone = *value,
                CtFlushProperty::Mark(value) => mark.0 = *value,
                CtFlushProperty::MarkMask(value) => mark.1 = *value,
                CtFlushProperty::Labels(value) => labels.0 = *value,
                CtFlushProperty::LabelsMask(value) => labels.1 = *value,
                CtFlushProperty::Other(_) => {}
            }
        }
        write!(out, " zone={zone} ")?;
        match mark {
            (_, 0) => {}
            (value, u32::MAX) => write!(out, "mark={} ", Hex(value.into()))?,
            (value, mask) => write!(out, "mark={}/{mask:#x} ", Hex(value.into()))?,
        }
        match labels {
            (_, 0) => {}
            (value, u128::MAX) => write!(out, "labels={value:#x} ")?,
            (value, mask) => write!(out, "labels={value:#x}/{mask:#x} ")?,
        }
        let v4 = orig.is_v4() || reply.is_v4();
        let protocol = self.ip_proto;
        write!(out, "'{},ct_nw_proto={protocol}' '{}'", orig.text(protocol, v4), reply.text(protocol, v4))
    }
}

/// One direction, with zeros for what is not said.
#[derive(Default)]
struct Tuple {
    addresses: [Option<Ipv6Addr>; 2],
    ports: [u16; 2],
    icmp: (u16, u8, u8),
}

impl Tuple {
    fn add(&mut self, property: &CtTupleProperty) {
        match *property {
            CtTupleProperty::Src(address) => self.addresses[0] = Some(address),
            CtTupleProperty::Dst(address) => self.addresses[1] = Some(address),
            CtTupleProperty::SrcPort(port) => self.ports[0] = port,
            CtTupleProperty::DstPort(port) => self.ports[1] = port,
            CtTupleProperty::IcmpId(id) => self.icmp.0 = id,
            CtTupleProperty::IcmpType(kind) => self.icmp.1 = kind,
            CtTupleProperty::IcmpCode(code) => self.icmp.2 = code,
            CtTupleProperty::Other(_) => {}
        }
    }

    fn is_v4(&self) -> bool {
        self.addresses.iter().flatten().any(|address| address.to_ipv4_mapped().is_some())
    }

    fn text(&self, protocol: u8, v4: bool) -> String {
        let [src, dst] = self.addresses.map(|address| {
            let address = address.unwrap_or(Ipv6Addr::UNSPECIFIED);
            address.to_ipv4_mapped().map_or_else(|| address.to_string(), |v4| v4.to_string())
        });
        let kind = if v4 { "nw" } else { "ipv6" };
        let rest = match (protocol, self.icmp, self.ports) {
            (1 | 58, (id, kind, code), _) => format!("icmp_id={id},icmp_type={kind},icmp_code={code}"),
            (_, _, [src, dst]) => format!("ct_tp_src={src},ct_tp_dst={dst}"),
        };
        format!("ct_{kind}_src={src},ct_{kind}_dst={dst},{rest}")
    }
}

fn encode_tuple(kind: u16, tuple: &[CtTupleProperty], w: &mut Writer<impl Sink>) {
    w.property(kind, WHAT, |w| {
        w.zeros(4);
        tuple.iter().for_each(|property| property.encode(w));
    });
}

impl CtTupleProperty {
    fn decode(kind: u16, body: &mut Reader<'_>) -> Result<Self> {
        Ok(match kind {
            0 => Self::Src(body.ipv6()?),
            1 => Self::Dst(body.ipv6()?),
            2 => Self::SrcPort(body.u16()?),
            3 => Self::DstPort(body.u16()?),
            4 => Self::IcmpId(body.u16()?),
            5 => Self::IcmpType(body.u8()?),
            6 => Self::IcmpCode(body.u8()?),
            _ => Self::Other(Property { kind, body: body.rest() }),
        })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        match self {
            Self::Src(address) => w.property(0, WHAT, |w| w.slice(&address.octets())),
            Self::Dst(address) => w.property(1, WHAT, |w| w.slice(&address.octets())),
            Self::SrcPort(port) => w.property_u16(2, WHAT, *port),
            Self::DstPort(port) => w.property_u16(3, WHAT, *port),
            Self::IcmpId(id) => w.property_u16(4, WHAT, *id),
            Self::IcmpType(kind) => w.property_u8(5, WHAT, *kind),
            Self::IcmpCode(code) => w.property_u8(6, WHAT, *code),
            Self::Other(property) => property.encode(w, WHAT),
        }
    }
}
