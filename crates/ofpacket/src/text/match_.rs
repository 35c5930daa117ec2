//! Matches: what is read field by field becomes what a switch writes.

use std::collections::BTreeMap;

use super::action::Context;
use super::error::{Fail, Parse};
use super::subfield::subfield;
use super::token::{Pair, Pairs, number};
use super::value::{self, Masked};
use crate::match_::significant;
use crate::oxm::{FieldInfo, Maskable, Oxm, OxmField, Prerequisite};
use crate::{Match, PortNo};

const IP: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const MPLS: u16 = 0x8847;
const MPLS_MCAST: u16 = 0x8848;
const NSH: u16 = 0x894f;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The words that stand for an Ethernet type, or for that and a protocol.
const PROTOCOLS: [(&str, u16, Option<u8>); 17] = [
    ("ip", IP, None),
    ("ipv4", IP, None),
    ("ip4", IP, None),
    ("arp", ARP, None),
    ("icmp", IP, Some(ICMP)),
    ("tcp", IP, Some(TCP)),
    ("udp", IP, Some(UDP)),
    ("sctp", IP, Some(SCTP)),
    ("ipv6", IPV6, None),
    ("ip6", IPV6, None),
    ("icmp6", IPV6, Some(ICMPV6)),
    ("tcp6", IPV6, Some(TCP)),
    ("udp6", IPV6, Some(UDP)),
    ("sctp6", IPV6, Some(SCTP)),
    ("rarp", RARP, None),
    ("mpls", MPLS, None),
    ("mplsm", MPLS_MCAST, None),
];

/// Fields that Open vSwitch holds to be one: which of them is meant follows from the protocol.
const FAMILIES: [&[OxmField]; 7] = [
    &[OxmField::IPV4_SRC, OxmField::ARP_SPA],
    &[OxmField::IPV4_DST, OxmField::ARP_TPA],
    &[OxmField::IP_PROTO, OxmField::ARP_OP],
    &[OxmField::ARP_SHA, OxmField::IPV6_ND_SLL],
    &[OxmField::ARP_THA, OxmField::IPV6_ND_TLL],
    &SOURCES,
    &DESTINATIONS,
];
const SOURCES: [OxmField; 5] =
    [OxmField::TCP_SRC, OxmField::UDP_SRC, OxmField::SCTP_SRC, OxmField::ICMPV4_TYPE, OxmField::ICMPV6_TYPE];
const DESTINATIONS: [OxmField; 5] =
    [OxmField::TCP_DST, OxmField::UDP_DST, OxmField::SCTP_DST, OxmField::ICMPV4_CODE, OxmField::ICMPV6_CODE];

/// In a VLAN tag: that there is one.
const TAGGED: u16 = 0x1000;
const VID: u16 = 0x0fff;

/// One field of a match.
#[derive(Debug)]
struct Named<'a> {
    key: &'a str,
    field: OxmField,
    value: Masked,
    /// Some bits, which leave the others of the field as they are.
    part: bool,
}

/// What has been read of a match.
#[derive(Debug, Default)]
pub(super) struct Builder<'a> {
    /// Field by field as they were named.
    named: Vec<Named<'a>>,
    /// The tag as a whole: its bits, and those that count.
    tag: (u16, u16),
    ethertype: Option<u16>,
    protocol: Option<u8>,
    icmp: (Option<u128>, Option<u128>),
    packet_type: Option<u32>,
}

impl<'a> Builder<'a> {
    /// Takes an item if it is part of a match.
    pub(super) fn take(&mut self, pair: Pair<'a>) -> Parse<'a, bool> {
        if let Some(&(_, ethertype, protocol)) = PROTOCOLS.iter().find(|(name, ..)| *name == pair.key) {
            let mut name = |field, value| {
                self.name(Named { key: pair.key, field, value: Masked::exact(value), part: false })
            };
            name(OxmField::ETH_TYPE, ethertype.to_be_bytes().to_vec());
            if let Some(protocol) = protocol {
                name(OxmField::IP_PROTO, vec![protocol]);
            }
            return Ok(true);
        }
        match pair.key {
            "eth" => self.packet_type = Some(0),
            "dl_vlan" => match number::<u16>(pair.value, "a VLAN id, or 0xffff for none")? {
                // OpenFlow 1.0's way to ask for packets without a tag.
                u16::MAX => self.tag = (0, u16::MAX),
                vid if vid <= VID => self.put_tag(vid | TAGGED, VID | TAGGED),
                _ => return Err(Fail::new(pair.value, "a VLAN id, or 0xffff for none")),
            },
            "dl_vlan_pcp" | "vlan_pcp" => match number::<u16>(pair.value, "a priority from 0 to 7")? {
                pcp @ 0..8 => self.put_tag(pcp << 13 | TAGGED, 0xe000 | TAGGED),
                _ => return Err(Fail::new(pair.value, "a priority from 0 to 7")),
            },
            key if key.contains('[') => {
                let bits = subfield(key)?;
                if bits.info.maskable == Maskable::Exact && !bits.is_whole() {
                    return Err(Fail::new(key, format!("all of {}, which cannot be masked", bits.info.name)));
                }
                let value = value::bits(bits.info, pair.value, bits.ofs, bits.n_bits)?;
                self.add(key, bits.info, value, true);
            }
            key => {
                let Some(info) = OxmField::by_name(key) else {
                    return Ok(false);
                };
                // Without a value: the packet has the field.
                let text = if pair.value.is_empty() { "*" } else { pair.value };
                let value = value::matched(info, text)?;
                self.add(key, info, value, false);
            }
        }
        Ok(true)
    }

    fn add(&mut self, key: &'a str, info: &FieldInfo, value: Masked, part: bool) {
        let field = info.field;
        if info.needs != Prerequisite::Nothing {
            self.packet_type.get_or_insert(0);
        }
        if field == OxmField::VLAN_TCI || field == OxmField::VLAN_VID {
            let (value, mask) = value.to_u128();
            let (value, mask) = ((value & mask) as u16, mask as u16);
            match field == OxmField::VLAN_TCI {
                true if part => self.put_tag(value, mask),
                true => self.tag = (value, mask),
                false => self.put_tag(value, mask & (VID | TAGGED)),
            }
        } else if field == OxmField::VLAN_PCP && !value.is_any() {
            // By its own name it is no other than `dl_vlan_pcp`.
            let (value, _) = value.to_u128();
            self.put_tag((value as u16) << 13 | TAGGED, 0xe000 | TAGGED);
        } else {
            self.name(Named { key, field, value, part });
        }
    }

    fn put_tag(&mut self, value: u16, mask: u16) {
        self.packet_type.get_or_insert(0);
        self.tag = (self.tag.0 & !mask | value, self.tag.1 | mask);
    }

    fn name(&mut self, named: Named<'a>) {
        let Named { field, value, .. } = &named;
        let field = *field;
        let exact = value.is_exact().then(|| value.to_u128().0);
        if field == OxmField::ETH_TYPE {
            self.ethertype = exact.map(|value| value as u16);
            self.packet_type.get_or_insert(0);
        } else if field == OxmField::PACKET_TYPE {
            self.packet_type = exact.map(|value| value as u32);
            return;
        } else if field == OxmField::IP_PROTO || field == OxmField::ARP_OP {
            self.protocol = exact.and_then(|value| u8::try_from(value).ok());
        } else if SOURCES.contains(&field) {
            self.icmp.0 = exact;
        } else if DESTINATIONS.contains(&field) {
            self.icmp.1 = exact;
        }
        self.named.push(named);
    }

    fn ethertype(&self) -> Option<u16> {
        match self.packet_type {
            // A packet without an Ethernet header has the type in the packet's own.
            Some(kind) if kind >> 16 == 1 => Some(kind as u16),
            _ => self.ethertype,
        }
    }

    fn meets(&self, needs: Prerequisite) -> bool {
        use Prerequisite as P;

        let ethertype = self.ethertype();
        let (v4, v6) = (ethertype == Some(IP), ethertype == Some(IPV6));
        let carries = |protocol| (v4 || v6) && self.protocol == Some(protocol);
        let nd = |kind| {
            v6 && carries(ICMPV6) && self.icmp.0 == Some(kind) && matches!(self.icmp.1, None | Some(0))
        };
        match needs {
            P::Nothing | P::Vlan | P::Tracked => true,
            P::Ethernet => matches!(self.packet_type, None | Some(0)),
            P::Mpls => matches!(ethertype, Some(MPLS | MPLS_MCAST)),
            P::Ipv4 => v4,
            P::Ipv6 => v6,
            P::Ip => v4 || v6,
            P::Arp => matches!(ethertype, Some(ARP | RARP)),
            P::Tcp => carries(TCP),
            P::Udp => carries(UDP),
            P::Sctp => carries(SCTP),
            P::Icmpv4 => v4 && carries(ICMP),
            P::Icmpv6 => v6 && carries(ICMPV6),
            P::Nd => nd(135) || nd(136),
            P::NdSolicit => nd(135),
            P::NdAdvert => nd(136),
            P::Nsh => ethertype == Some(NSH),
        }
    }

    /// The field that is meant by this one.
    fn settle(&self, field: OxmField) -> Option<OxmField> {
        let meets = |field: &OxmField| field.info().is_some_and(|info| self.meets(info.needs));
        let family = FAMILIES.iter().find(|family| family.contains(&field));
        std::iter::once(&field).chain(family.copied().unwrap_or_default()).find(|field| meets(field)).copied()
    }

    /// What the actions have to know.
    pub(super) fn context(&self) -> Context {
        let protocol = self.protocol.filter(|_| self.meets(Prerequisite::Ip));
        Context { tagged: self.tag.0 & self.tag.1 & TAGGED != 0, protocol }
    }

    /// The match, as `ovs-ofctl` and a switch write it.
    pub(super) fn finish(self, text: &'a str) -> Parse<'a, Match> {
        let mut fields = BTreeMap::new();
        let mut options = BTreeMap::new();
        for named in &self.named {
            let Named { key, field, value, .. } = named;
            let Some(settled) = self.settle(*field) else {
                let needs = field.info().map_or(Prerequisite::Nothing, |info| info.needs);
                let expected =
                    format!("{} in the flow, without which {key} cannot be matched", name_of(needs));
                return Err(Fail::new(key, expected));
            };
            // Known only now: `tp_src` may be an ICMP type.
            let whole = settled.info().is_some_and(|info| info.maskable == Maskable::Exact);
            if whole && settled != *field && !value.is_exact() && !value.is_any() {
                return Err(Fail::new(key, "all of the field, which cannot be masked in this protocol"));
            }
            if let Some(i) = field.tun_metadata_index() {
                options.insert(i, value.clone().into_oxm(*field));
            } else {
                put(&mut fields, named, settled)?;
            }
        }
        let ct_ports = [OxmField::CT_TP_SRC, OxmField::CT_TP_DST];
        if ct_ports.iter().any(|field| fields.contains_key(field))
            && !fields.contains_key(&OxmField::CT_NW_PROTO)
        {
            return Err(Fail::new(text, "ct_nw_proto in the flow, without which ports cannot be matched"));
        }
        let mut out: Vec<_> =
            wide_registers(fields).into_iter().map(|(field, value)| oxm(field, value)).collect();
        out.extend(options.into_values());
        self.tag(text, &mut out)?;
        let implied = |oxm: &Oxm| oxm.field.info().is_some_and(|info| info.needs != Prerequisite::Nothing);
        match self.packet_type {
            Some(0) if out.iter().any(implied) => {}
            Some(kind) => out.push(Oxm::new(OxmField::PACKET_TYPE, kind)),
            None => {}
        }
        out.sort_by_key(|oxm| oxm.field.rank());
        Ok(Match(out))
    }

    /// The VLAN tag, of which OpenFlow 1.5 has two fields.
    fn tag(&self, text: &'a str, out: &mut Vec<Oxm>) -> Parse<'a, ()> {
        let (value, mask) = self.tag;
        let (vid, pcp) = (mask & (VID | TAGGED), mask >> 13);
        if vid != 0 {
            out.push(oxm(
                OxmField::VLAN_VID,
                ((value & vid).into(), if vid == 0x1fff { 0xffff } else { vid.into() }),
            ));
        }
        match pcp {
            0 => Ok(()),
            7 if value & TAGGED != 0 => {
                out.push(Oxm::new(OxmField::VLAN_PCP, (value >> 13) as u8));
                Ok(())
            }
            // A packet without a tag has no priority.
            _ if value == 0 && mask & TAGGED != 0 => Ok(()),
            _ => Err(Fail::new(
                text,
                "in vlan_tci either all of the priority, of a packet with a tag, or none of it",
            )),
        }
    }
}

type Fields = BTreeMap<OxmField, (u128, u128)>;

/// Bits that count in so many bytes.
fn ones(bytes: u8) -> u128 {
    u128::MAX.checked_shr(128 - 8 * u32::from(bytes)).unwrap_or(0)
}

/// The later of two values of a field is the one that counts.
fn put<'a>(fields: &mut Fields, named: &Named<'a>, field: OxmField) -> Parse<'a, ()> {
    let (value, mask) = named.value.to_u128();
    let mut insert = |field: OxmField, value: u128, mask: u128| {
        let (old, kept) = fields.remove(&field).filter(|_| named.part).unwrap_or_default();
        if kept | mask != 0 {
            fields.insert(field, (old & !mask | value & mask, kept | mask));
        }
    };
    if let Some((first, n)) = field.wide_reg() {
        for i in 0..n {
            let part = |v: u128| v >> (32 * (n - 1 - i)) & 0xffff_ffff;
            insert(OxmField::reg(first + i), part(value), part(mask));
        }
    } else if field == OxmField::NXM_IN_PORT {
        if mask != 0 {
            insert(OxmField::IN_PORT, PortNo::from_u16(value as u16).0.into(), 0xffff_ffff);
        }
    } else if field == OxmField::IP_TOS {
        insert(OxmField::IP_DSCP, value >> 2, mask);
    } else {
        let bytes = field.info().map_or(0, |info| info.bytes);
        // Fields of one family differ in width.
        let full = if named.value.is_exact() { ones(bytes) } else { mask };
        if (value & mask) & !significant(field) != 0 || full & !ones(bytes) != 0 {
            return Err(Fail::new(named.key, "a value that fits into the field of this protocol"));
        }
        let counts = full & significant(field);
        if OxmField::MASKED_BY_VALUE.contains(&field) {
            if value & mask == 0 {
                return Err(Fail::new(
                    named.key,
                    "a value that is not 0, which a switch takes for any value",
                ));
            }
            insert(field, value & mask, if value & mask == 0xff { ones(bytes) } else { value & mask });
        } else if [OxmField::CT_STATE, OxmField::TUN_FLAGS].contains(&field) {
            // Never without a mask.
            insert(field, value, counts);
        } else if [OxmField::IPV6_FLABEL, OxmField::IP_FRAG].contains(&field) {
            insert(field, value, if counts == significant(field) { ones(bytes) } else { counts });
        } else {
            insert(field, value, full);
        }
    }
    Ok(())
}

fn oxm(field: OxmField, (value, mask): (u128, u128)) -> Oxm {
    let bytes = field.info().map_or(0, |info| info.bytes);
    if mask == ones(bytes) { Oxm::new(field, value) } else { Oxm::masked(field, value, mask) }
}

/// Registers in pairs, which is how OpenFlow 1.5 has them.
fn wide_registers(fields: Fields) -> Fields {
    let mut out = Fields::new();
    for (field, value) in fields {
        let Some(i) = (0..32).find(|&i| OxmField::reg(i) == field) else {
            out.insert(field, value);
            continue;
        };
        let shift = if i % 2 == 0 { 32 } else { 0 };
        let pair = out.entry(OxmField::xreg(i / 2)).or_insert((0, 0));
        *pair = (pair.0 | value.0 << shift, pair.1 | value.1 << shift);
    }
    out
}

/// What to write into a flow to have this.
fn name_of(needs: Prerequisite) -> &'static str {
    use Prerequisite as P;

    match needs {
        P::Nothing => "nothing",
        P::Ethernet => "no packet_type but (0,0)",
        P::Vlan => "dl_vlan",
        P::Mpls => "mpls or mplsm",
        P::Ipv4 => "ip",
        P::Ipv6 => "ipv6",
        P::Ip => "ip or ipv6",
        P::Arp => "arp or rarp",
        P::Tcp => "tcp or tcp6",
        P::Udp => "udp or udp6",
        P::Sctp => "sctp or sctp6",
        P::Icmpv4 => "icmp",
        P::Icmpv6 => "icmp6",
        P::Nd => "icmp6,icmp_type=135,icmp_code=0 (or 136)",
        P::NdSolicit => "icmp6,icmp_type=135,icmp_code=0",
        P::NdAdvert => "icmp6,icmp_type=136,icmp_code=0",
        P::Nsh => "dl_type=0x894f",
        P::Tracked => "ct_state=+trk and ip or ipv6",
    }
}

/// All of the text as a match.
pub(super) fn match_(text: &str) -> Parse<'_, Match> {
    let mut builder = Builder::default();
    for pair in Pairs(text) {
        let pair = pair?;
        if !builder.take(pair)? {
            return Err(pair.unknown("a field, or a protocol such as tcp"));
        }
    }
    builder.finish(text)
}
