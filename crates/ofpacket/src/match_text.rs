//! A match as `ovs-ofctl` writes it: not field by field in the order given, but as the packet's layers go,
//! with names for common protocols.

use std::fmt::{self, Display, Formatter, Write};

use crate::oxm::{
    Kind, Oxm, OxmField, write_flags_masked, write_frag, write_hex, write_packet_type, write_value,
};
use crate::{Match, PortNo};

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&text(self))
    }
}

const IP: u64 = 0x0800;
const ARP: u64 = 0x0806;
const RARP: u64 = 0x8035;
const IPV6: u64 = 0x86dd;
const MPLS: u64 = 0x8847;
const MPLS_MCAST: u64 = 0x8848;

pub(crate) fn text(m: &Match) -> String {
    let mut out = Text { left: m.canonical().0, out: String::new() };
    // A String takes everything that is written to it.
    let _ = out.write_all();
    out.out
}

/// How the value of a field is written in a match, which is not always as in `set_field`.
#[derive(Clone, Copy)]
enum Style {
    /// `0x1f`, and `0` for zero, as C's `%#x`.
    Hex,
    /// Decimal; with a mask both in hexadecimal.
    Decimal,
    /// Decimal; with a mask both in hexadecimal of eight digits.
    Decimal32,
    /// Decimal, without a mask: there is none, or it is the value.
    Plain,
    /// The same in hexadecimal.
    PlainHex,
    /// Decimal; with a mask both in hexadecimal of two digits.
    Decimal8,
    /// As in `set_field`.
    Value,
    /// Hexadecimal of five digits.
    Label,
}

struct Text {
    left: Vec<Oxm>,
    out: String,
}

impl Text {
    fn take(&mut self, field: OxmField) -> Option<Oxm> {
        let i = self.left.iter().position(|oxm| oxm.field == field)?;
        Some(self.left.remove(i))
    }

    /// The value of a field that is matched as a whole.
    fn exact(&self, field: OxmField) -> Option<u64> {
        let oxm = self.left.iter().find(|oxm| oxm.field == field && oxm.mask.is_none())?;
        oxm.to_u128().and_then(|value| u64::try_from(value).ok())
    }

    fn comma(&mut self) {
        if !self.out.is_empty() {
            self.out.push(',');
        }
    }

    fn word(&mut self, word: &str) {
        self.comma();
        self.out.push_str(word);
    }

    fn put(&mut self, field: OxmField, name: &str, style: Style) -> fmt::Result {
        let Some(oxm) = self.take(field) else {
            return Ok(());
        };
        self.put_oxm(&oxm, name, style)
    }

    fn put_oxm(&mut self, oxm: &Oxm, name: &str, style: Style) -> fmt::Result {
        self.comma();
        let out = &mut self.out;
        write!(out, "{name}=")?;
        let (value, mask) = (oxm.to_u128().unwrap_or(0), oxm.mask.as_ref().and_then(|_| oxm.mask_u128()));
        match (style, mask) {
            (Style::Value, _) => write_value(out, oxm),
            (Style::Hex, None) => write!(out, "{}", CHex(value)),
            (Style::Hex, Some(mask)) => write!(out, "{}/{}", CHex(value), CHex(mask)),
            (Style::Decimal | Style::Decimal32 | Style::Decimal8, None) | (Style::Plain, _) => {
                write!(out, "{value}")
            }
            (Style::PlainHex, _) => write!(out, "{}", CHex(value)),
            (Style::Decimal8, Some(mask)) => write!(out, "{value:#04x}/{mask:#04x}"),
            (Style::Decimal, Some(mask)) => write!(out, "{value:#x}/{mask:#x}"),
            (Style::Decimal32, Some(mask)) => write!(out, "{value:#010x}/{mask:#010x}"),
            (Style::Label, None) => write!(out, "{value:#07x}"),
            (Style::Label, Some(mask)) => write!(out, "{value:#07x}/{mask:#07x}"),
        }
    }

    /// The order is that of `match_format()` in Open vSwitch's `lib/match.c`.
    fn write_all(&mut self) -> fmt::Result {
        use Style::{Decimal, Decimal8, Hex, Plain, Value};

        self.put(OxmField::PKT_MARK, "pkt_mark", Hex)?;
        self.put(OxmField::RECIRC_ID, "recirc_id", Hex)?;
        self.put(OxmField::DP_HASH, "dp_hash", Hex)?;
        self.put(OxmField::CONJ_ID, "conj_id", Plain)?;
        self.put(OxmField::ACTSET_OUTPUT, "actset_output", Value)?;
        self.connection()?;
        if let Some(oxm) = self.take(OxmField::PACKET_TYPE) {
            self.comma();
            let value = oxm.to_u128().unwrap_or(0) as u32;
            write_packet_type(&mut self.out, value, oxm.mask_u128().unwrap_or(0) as u32)?;
        }
        let ethertype = self.exact(OxmField::ETH_TYPE);
        let proto = self.exact(OxmField::IP_PROTO);
        self.protocol(ethertype, proto);
        for i in 0..32 {
            self.put(OxmField::reg(i), &format!("reg{i}"), Hex)?;
        }
        self.tunnel()?;
        self.put(OxmField::METADATA, "metadata", Hex)?;
        if let Some(oxm) = self.take(OxmField::IN_PORT) {
            let port = PortNo(oxm.to_u128().unwrap_or(0) as u32);
            self.word(&format!("in_port={port}"));
        }
        self.vlan()?;
        self.put(OxmField::ETH_SRC, "dl_src", Value)?;
        self.put(OxmField::ETH_DST, "dl_dst", Value)?;
        if let Some(ethertype) = self.take(OxmField::ETH_TYPE).and_then(|oxm| oxm.to_u128()) {
            self.word(&format!("dl_type={ethertype:#06x}"));
        }
        self.network()?;
        self.put(OxmField::MPLS_LABEL, "mpls_label", Plain)?;
        self.put(OxmField::MPLS_TC, "mpls_tc", Plain)?;
        self.put(OxmField::MPLS_TTL, "mpls_ttl", Plain)?;
        self.put(OxmField::MPLS_BOS, "mpls_bos", Plain)?;
        if let Some(oxm) = self.take(OxmField::IP_FRAG) {
            self.word("nw_frag=");
            let mask = oxm.mask_u128().unwrap_or(0) as u8;
            write_frag(&mut self.out, oxm.to_u128().unwrap_or(0) as u8, mask)?;
        }
        self.transport()?;
        for oxm in std::mem::take(&mut self.left) {
            let name = match oxm.field.info() {
                Some(info) => info.name.to_owned(),
                None => oxm.field.to_string(),
            };
            let style = match oxm.field.info() {
                Some(info) if info.kind == Kind::Decimal && info.bytes == 1 => Decimal8,
                Some(info) if info.kind == Kind::Decimal => Decimal,
                _ => Value,
            };
            self.put_oxm(&oxm, &name, style)?;
        }
        Ok(())
    }

    fn connection(&mut self) -> fmt::Result {
        use Style::{Decimal, Hex, Plain, Value};

        if let Some(oxm) = self.take(OxmField::CT_STATE) {
            self.word("ct_state=");
            let (value, mask) = (oxm.to_u128().unwrap_or(0) as u32, oxm.mask_u128().unwrap_or(0) as u32);
            write_flags_masked(&mut self.out, Kind::CtState, value, mask & 0xff, 0xff)?;
        }
        self.put(OxmField::CT_ZONE, "ct_zone", Decimal)?;
        self.put(OxmField::CT_MARK, "ct_mark", Hex)?;
        self.put(OxmField::CT_LABEL, "ct_label", Value)?;
        self.put(OxmField::CT_NW_SRC, "ct_nw_src", Value)?;
        self.put(OxmField::CT_IPV6_SRC, "ct_ipv6_src", Value)?;
        self.put(OxmField::CT_NW_DST, "ct_nw_dst", Value)?;
        self.put(OxmField::CT_IPV6_DST, "ct_ipv6_dst", Value)?;
        self.put(OxmField::CT_NW_PROTO, "ct_nw_proto", Plain)?;
        self.put(OxmField::CT_TP_SRC, "ct_tp_src", Decimal)?;
        self.put(OxmField::CT_TP_DST, "ct_tp_dst", Decimal)
    }

    /// `tcp6` instead of two numbers.
    fn protocol(&mut self, ethertype: Option<u64>, proto: Option<u64>) {
        let (name, with_proto) = match (ethertype, proto) {
            (Some(IP), Some(1)) => ("icmp", true),
            (Some(IP), Some(6)) => ("tcp", true),
            (Some(IP), Some(17)) => ("udp", true),
            (Some(IP), Some(132)) => ("sctp", true),
            (Some(IP), _) => ("ip", false),
            (Some(IPV6), Some(58)) => ("icmp6", true),
            (Some(IPV6), Some(6)) => ("tcp6", true),
            (Some(IPV6), Some(17)) => ("udp6", true),
            (Some(IPV6), Some(132)) => ("sctp6", true),
            (Some(IPV6), _) => ("ipv6", false),
            (Some(ARP), _) => ("arp", false),
            (Some(RARP), _) => ("rarp", false),
            (Some(MPLS), _) => ("mpls", false),
            (Some(MPLS_MCAST), _) => ("mplsm", false),
            _ => return,
        };
        self.take(OxmField::ETH_TYPE);
        if with_proto {
            self.take(OxmField::IP_PROTO);
        }
        self.word(name);
    }

    fn tunnel(&mut self) -> fmt::Result {
        use Style::{Decimal, Hex, Plain, PlainHex, Value};

        self.put(OxmField::TUNNEL_ID, "tun_id", Hex)?;
        self.put(OxmField::TUN_IPV4_SRC, "tun_src", Value)?;
        self.put(OxmField::TUN_IPV4_DST, "tun_dst", Value)?;
        self.put(OxmField::TUN_IPV6_SRC, "tun_ipv6_src", Value)?;
        self.put(OxmField::TUN_IPV6_DST, "tun_ipv6_dst", Value)?;
        self.put(OxmField::TUN_GBP_ID, "tun_gbp_id", Decimal)?;
        self.put(OxmField::TUN_GBP_FLAGS, "tun_gbp_flags", Hex)?;
        self.put(OxmField::TUN_ERSPAN_VER, "tun_erspan_ver", Plain)?;
        self.put(OxmField::TUN_ERSPAN_IDX, "tun_erspan_idx", Hex)?;
        self.put(OxmField::TUN_ERSPAN_DIR, "tun_erspan_dir", Plain)?;
        self.put(OxmField::TUN_ERSPAN_HWID, "tun_erspan_hwid", PlainHex)?;
        self.put(OxmField::TUN_GTPU_FLAGS, "gtpu_flags", PlainHex)?;
        self.put(OxmField::TUN_GTPU_MSGTYPE, "gtpu_msgtype", Plain)?;
        if let Some(oxm) = self.take(OxmField::TUN_FLAGS) {
            self.word("tun_flags=");
            let (value, mask) = (oxm.to_u128().unwrap_or(0) as u32, oxm.mask_u128().unwrap_or(0) as u32);
            write_flags_masked(&mut self.out, Kind::TunFlags, value, mask & 1, u32::MAX)?;
        }
        for i in 0..64 {
            let Some(oxm) = self.take(OxmField::tun_metadata(i)) else {
                continue;
            };
            self.word(&format!("tun_metadata{i}"));
            // A mask of zeros: the packet has the option, whatever its value.
            let mask = oxm.mask.as_deref();
            if mask.is_some_and(|mask| mask.iter().all(|&b| b == 0)) {
                continue;
            }
            self.out.push('=');
            write_hex(&mut self.out, &oxm.value)?;
            if let Some(mask) = mask {
                self.out.push('/');
                write_hex(&mut self.out, mask)?;
            }
        }
        Ok(())
    }

    /// VID and priority are parts of one tag, which is written as such unless whole parts are matched.
    fn vlan(&mut self) -> fmt::Result {
        let [vid, pcp, tci] = [OxmField::VLAN_VID, OxmField::VLAN_PCP, OxmField::VLAN_TCI].map(|field| {
            let oxm = self.take(field);
            let int = |v: Option<u128>| v.unwrap_or(0) as u16;
            oxm.map_or((0, 0), |oxm| (int(oxm.to_u128()), int(oxm.mask_u128())))
        });
        const TAGGED: u16 = 0x1000;
        let mut value = vid.0 | pcp.0 << 13 | tci.0;
        let mut mask = vid.1 & 0x1fff | pcp.1 << 13 | tci.1;
        if pcp.1 != 0 {
            value |= TAGGED;
            mask |= TAGGED;
        }
        let (vid, pcp) = (mask & 0xfff, mask >> 13);
        let whole = matches!(vid, 0 | 0xfff) && matches!(pcp, 0 | 7) && (vid | pcp) != 0;
        if mask == 0 {
            return Ok(());
        }
        if value & mask & TAGGED != 0 && whole {
            if vid != 0 {
                self.word(&format!("dl_vlan={}", value & 0xfff));
            }
            if pcp != 0 {
                self.word(&format!("dl_vlan_pcp={}", value >> 13));
            }
            return Ok(());
        }
        self.word(&format!("vlan_tci={value:#06x}"));
        if mask == u16::MAX { Ok(()) } else { write!(self.out, "/{mask:#06x}") }
    }

    fn network(&mut self) -> fmt::Result {
        use Style::{Label, Plain, Value};

        self.put(OxmField::IPV6_SRC, "ipv6_src", Value)?;
        self.put(OxmField::IPV6_DST, "ipv6_dst", Value)?;
        self.put(OxmField::IPV6_FLABEL, "ipv6_label", Label)?;
        self.put(OxmField::ARP_SPA, "arp_spa", Value)?;
        self.put(OxmField::ARP_TPA, "arp_tpa", Value)?;
        self.put(OxmField::IPV4_SRC, "nw_src", Value)?;
        self.put(OxmField::IPV4_DST, "nw_dst", Value)?;
        self.put(OxmField::ARP_OP, "arp_op", Plain)?;
        self.put(OxmField::IP_PROTO, "nw_proto", Plain)?;
        self.put(OxmField::ARP_SHA, "arp_sha", Value)?;
        self.put(OxmField::ARP_THA, "arp_tha", Value)?;
        if let Some(dscp) = self.take(OxmField::IP_DSCP).and_then(|oxm| oxm.to_u128()) {
            self.word(&format!("nw_tos={}", dscp << 2));
        }
        self.put(OxmField::IP_ECN, "nw_ecn", Plain)?;
        self.put(OxmField::IP_TTL, "nw_ttl", Plain)
    }

    fn transport(&mut self) -> fmt::Result {
        use Style::{Decimal, Decimal32, Value};

        self.put(OxmField::ICMPV4_TYPE, "icmp_type", Decimal)?;
        self.put(OxmField::ICMPV4_CODE, "icmp_code", Decimal)?;
        self.put(OxmField::ICMPV6_TYPE, "icmp_type", Decimal)?;
        self.put(OxmField::ICMPV6_CODE, "icmp_code", Decimal)?;
        self.put(OxmField::IPV6_ND_TARGET, "nd_target", Value)?;
        self.put(OxmField::IPV6_ND_SLL, "nd_sll", Value)?;
        self.put(OxmField::IPV6_ND_TLL, "nd_tll", Value)?;
        self.put(OxmField::ND_RESERVED, "nd_reserved", Decimal32)?;
        self.put(OxmField::ND_OPTIONS_TYPE, "nd_options_type", Decimal)?;
        for (src, dst) in [
            (OxmField::TCP_SRC, OxmField::TCP_DST),
            (OxmField::UDP_SRC, OxmField::UDP_DST),
            (OxmField::SCTP_SRC, OxmField::SCTP_DST),
        ] {
            self.put(src, "tp_src", Decimal)?;
            self.put(dst, "tp_dst", Decimal)?;
        }
        self.put(OxmField::TCP_FLAGS, "tcp_flags", Value)
    }
}

/// As C's `%#x`, which has no prefix on zero.
pub(crate) struct CHex(pub(crate) u128);

impl Display for CHex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_char('0') } else { write!(f, "{:#x}", self.0) }
    }
}
