//! Packets as `ovs-ofctl` prints them: the fields that a flow could match, and a checksum.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{Reader, Result};
use crate::{Match, OxmField};

/// The packet of a packet-in or packet-out, with the fields that go with it. Packets that are not Ethernet
/// frames are printed as their type.
pub(super) fn text(out: &mut String, metadata: &Match, packet: &[u8]) -> fmt::Result {
    let kind = metadata.get(OxmField::PACKET_TYPE).and_then(|oxm| oxm.to_u128()).unwrap_or(0);
    if kind != 0 {
        return write!(out, "packet_type=({:#x},{:#x})", kind >> 16, kind & 0xffff);
    }
    let mut frame = Frame::default();
    // What is cut off is not printed.
    let _ = frame.read(Reader::new(packet, "packet"));
    let fields = frame.fields.to_string();
    let tag = |tci: u16, i: &str| match tci & TAGGED {
        0 => format!("vlan_tci{i}={tci:#06x}"),
        _ => format!("dl_vlan{i}={},dl_vlan_pcp{i}={}", tci & 0xfff, tci >> 13),
    };
    let [outer, inner] = frame.tags;
    let mut vlan = tag(outer, "");
    if outer & TAGGED != 0 {
        vlan = format!("{vlan},{}", tag(inner, "1"));
    }
    // Between the name of the protocol and the addresses.
    let at = fields.find("dl_src=").unwrap_or(fields.len());
    if at < fields.len() {
        vlan.push(',');
    }
    write!(out, "{}{vlan}{}", &fields[..at], &fields[at..])?;
    match frame.checksum {
        Some((name, checksum)) => write!(out, " {name}_csum:{checksum:x}"),
        None => Ok(()),
    }
}

const TAGGED: u16 = 0x1000;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// What was found in a packet.
#[derive(Default)]
struct Frame {
    fields: Match,
    /// The VLAN tags from the outside, with [`TAGGED`] set if there is one.
    tags: [u16; 2],
    checksum: Option<(&'static str, u32)>,
}

impl Frame {
    fn set(&mut self, field: OxmField, value: impl crate::IntoValue) {
        self.fields.0.push(crate::Oxm::new(field, value));
    }

    fn read(&mut self, mut r: Reader<'_>) -> Result<()> {
        let (dst, src) = (r.mac()?, r.mac()?);
        self.set(OxmField::ETH_SRC, src);
        self.set(OxmField::ETH_DST, dst);
        let mut ethertype = r.u16()?;
        for i in 0..self.tags.len() {
            if matches!(ethertype, 0x8100 | 0x88a8) {
                self.tags[i] = r.u16()? | TAGGED;
                ethertype = r.u16()?;
            }
        }
        if ethertype < 0x600 {
            // A length: 802.2. Only SNAP with an Ethernet type is one that can be matched.
            let snap = r.take(6).is_ok_and(|snap| snap == [0xaa, 0xaa, 3, 0, 0, 0]);
            ethertype = if snap { r.u16()? } else { 0x05ff };
        }
        self.set(OxmField::ETH_TYPE, ethertype);
        match ethertype {
            IPV4 => self.ipv4(r),
            IPV6 => self.ipv6(r),
            ARP | RARP => self.arp(r),
            _ => Ok(()),
        }
    }

    fn arp(&mut self, mut r: Reader<'_>) -> Result<()> {
        r.skip(6)?;
        let op = r.u16()?;
        let (sha, spa) = (r.mac()?, Ipv4Addr::from(r.u32()?));
        let (tha, tpa) = (r.mac()?, Ipv4Addr::from(r.u32()?));
        self.set(OxmField::ARP_OP, op);
        self.set(OxmField::ARP_SPA, spa);
        self.set(OxmField::ARP_TPA, tpa);
        self.set(OxmField::ARP_SHA, sha);
        self.set(OxmField::ARP_THA, tha);
        Ok(())
    }

    fn tos(&mut self, tos: u8, ttl: u8) {
        self.set(OxmField::IP_DSCP, tos >> 2);
        self.set(OxmField::IP_ECN, tos & 3);
        self.set(OxmField::IP_TTL, ttl);
    }

    fn ipv4(&mut self, mut r: Reader<'_>) -> Result<()> {
        let (version, tos, len) = (r.u8()?, r.u8()?, r.u16()?);
        r.skip(2)?;
        let (frag, ttl, protocol) = (r.u16()?, r.u8()?, r.u8()?);
        r.skip(2)?;
        let (src, dst) = (Ipv4Addr::from(r.u32()?), Ipv4Addr::from(r.u32()?));
        self.set(OxmField::IPV4_SRC, src);
        self.set(OxmField::IPV4_DST, dst);
        self.set(OxmField::IP_PROTO, protocol);
        self.tos(tos, ttl);
        let later = frag & 0x1fff != 0;
        self.set(OxmField::IP_FRAG, u8::from(frag & 0x3fff != 0) | u8::from(later) << 1);
        let header_len = usize::from(version & 15) * 4;
        r.skip(header_len.saturating_sub(20))?;
        if later {
            return Ok(());
        }
        // What is behind the packet fills the frame up.
        let len = usize::from(len).saturating_sub(header_len).min(r.len());
        self.transport(protocol, r.sub(len, "packet")?)
    }

    fn ipv6(&mut self, mut r: Reader<'_>) -> Result<()> {
        let (first, len) = (r.u32()?, r.u16()?);
        let (protocol, ttl) = (r.u8()?, r.u8()?);
        let (src, dst): (Ipv6Addr, Ipv6Addr) = (r.ipv6()?, r.ipv6()?);
        self.set(OxmField::IPV6_SRC, src);
        self.set(OxmField::IPV6_DST, dst);
        self.set(OxmField::IPV6_FLABEL, first & 0xf_ffff);
        self.tos((first >> 20 & 0xff) as u8, ttl);
        let len = usize::from(len).min(r.len());
        let mut r = r.sub(len, "packet")?;
        let (protocol, frag) = skip_extensions(&mut r, protocol)?;
        self.set(OxmField::IP_PROTO, protocol);
        self.set(OxmField::IP_FRAG, frag);
        if frag & 2 == 0 { self.transport(protocol, r) } else { Ok(()) }
    }

    /// Of a header that is not all there, every field is zero.
    fn transport(&mut self, protocol: u8, mut r: Reader<'_>) -> Result<()> {
        let (name, src, dst, len, at) = match protocol {
            TCP => ("tcp", OxmField::TCP_SRC, OxmField::TCP_DST, 20, 16),
            UDP => ("udp", OxmField::UDP_SRC, OxmField::UDP_DST, 8, 6),
            SCTP => ("sctp", OxmField::SCTP_SRC, OxmField::SCTP_DST, 12, 8),
            ICMP => ("icmp", OxmField::ICMPV4_TYPE, OxmField::ICMPV4_CODE, 8, 2),
            ICMPV6 => ("icmp6", OxmField::ICMPV6_TYPE, OxmField::ICMPV6_CODE, 8, 2),
            _ => return Ok(()),
        };
        let zeros = [0; 20];
        let whole = r.len() >= len;
        let header = if whole { r.take(len)? } else { &zeros[..len] };
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if matches!(protocol, ICMP | ICMPV6) {
            self.set(src, header[0]);
            self.set(dst, header[1]);
        } else {
            self.set(src, number(0));
            self.set(dst, number(2));
        }
        if protocol == TCP {
            self.set(OxmField::TCP_FLAGS, number(12) & 0xfff);
        }
        let checksum = match protocol {
            SCTP => u32::from(number(at)) << 16 | u32::from(number(at + 2)),
            _ => number(at).into(),
        };
        self.checksum = whole.then_some((name, checksum));
        if protocol == ICMPV6 && matches!(header[..2], [135 | 136, 0]) {
            self.neighbour(r);
        }
        Ok(())
    }

    /// Neighbour discovery: the target, and addresses.
    fn neighbour(&mut self, mut r: Reader<'_>) {
        let mut found = [[0; 6]; 2];
        let target = r.ipv6().unwrap_or(Ipv6Addr::UNSPECIFIED);
        while let (Ok(option), Ok(len)) = (r.u8(), r.u8()) {
            match (option, len, (usize::from(len) * 8).checked_sub(2)) {
                (1 | 2, 1, _) if r.len() >= 6 => found[usize::from(option) - 1] = r.mac().unwrap_or_default(),
                (_, _, Some(rest)) if r.skip(rest).is_ok() => {}
                _ => break,
            }
        }
        self.set(OxmField::IPV6_ND_TARGET, target);
        self.set(OxmField::IPV6_ND_SLL, found[0]);
        self.set(OxmField::IPV6_ND_TLL, found[1]);
    }
}

/// Skips the headers between IPv6's and the protocol's; returns the protocol, and what kind of fragment it is.
fn skip_extensions(r: &mut Reader<'_>, mut protocol: u8) -> Result<(u8, u8)> {
    let mut frag = 0;
    loop {
        let len = match protocol {
            0 | 43 | 60 | 44 | 51 => (r.u8()?, r.u8()?),
            _ => return Ok((protocol, frag)),
        };
        let rest = match protocol {
            44 => {
                let offset = r.u16()?;
                frag = u8::from(offset & 0xfff9 != 0) | u8::from(offset & 0xfff8 != 0) << 1;
                4
            }
            51 => usize::from(len.1) * 4 + 6,
            _ => usize::from(len.1) * 8 + 6,
        };
        r.skip(rest)?;
        protocol = len.0;
        if frag & 2 != 0 {
            return Ok((protocol, frag));
        }
    }
}
