//! Sets of match fields as Open vSwitch lists them.

use std::fmt;

use crate::oxm::write_value;
use crate::{Oxm, OxmField};

/// The order of `enum mf_field_id` in `include/openvswitch/meta-flow.h`; a numbered field without its number.
#[rustfmt::skip]
const ORDER: [&str; 90] = [
    "dp_hash", "recirc_id", "packet_type", "conj_id", "tun_id", "tun_src", "tun_dst", "tun_ipv6_src",
    "tun_ipv6_dst", "tun_flags", "tun_ttl", "tun_tos", "tun_gbp_id", "tun_gbp_flags", "tun_erspan_idx",
    "tun_erspan_ver", "tun_erspan_dir", "tun_erspan_hwid", "tun_gtpu_flags", "tun_gtpu_msgtype",
    "tun_metadata", "metadata", "in_port", "in_port_oxm", "actset_output", "pkt_mark", "ct_state",
    "ct_zone", "ct_mark", "ct_label", "ct_nw_proto", "ct_nw_src", "ct_nw_dst", "ct_ipv6_src", "ct_ipv6_dst",
    "ct_tp_src", "ct_tp_dst", "reg", "xreg", "xxreg", "eth_src", "eth_dst", "eth_type", "vlan_tci",
    "vlan_vid", "vlan_pcp", "mpls_label", "mpls_tc", "mpls_bos", "mpls_ttl", "ip_src", "ip_dst", "ipv6_src",
    "ipv6_dst", "ipv6_label", "nw_proto", "nw_tos", "ip_dscp", "nw_ecn", "nw_ttl", "ip_frag", "arp_op",
    "arp_spa", "arp_tpa", "arp_sha", "arp_tha", "tcp_src", "tcp_dst", "tcp_flags", "udp_src", "udp_dst",
    "sctp_src", "sctp_dst", "icmp_type", "icmp_code", "icmpv6_type", "icmpv6_code", "nd_target", "nd_sll",
    "nd_tll", "nd_reserved", "nd_options_type", "nsh_flags", "nsh_mdtype", "nsh_np", "nsh_spi", "nsh_si",
    "nsh_c", "nsh_ttl", "",
];

/// A field by its place in Open vSwitch's order; fields that are not known come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FieldRank {
    order: usize,
    number: u32,
    /// The field's name, empty if it is not known.
    pub(super) name: &'static str,
}

pub(super) fn by_field(field: OxmField) -> FieldRank {
    let name = field.preferred().info().map_or("", |info| info.name);
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let order = ORDER.iter().position(|&known| known == stem).unwrap_or(ORDER.len());
    FieldRank { order, number: name[stem.len()..].parse().unwrap_or(0), name }
}

/// A field whose value is a mask: its name alone if all bits count.
pub(super) struct Mask<'a>(pub(super) &'a Oxm);

impl fmt::Display for Mask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rank = by_field(self.0.field);
        match rank.name {
            "" => write!(f, "{}", self.0.field)?,
            name => f.write_str(name)?,
        }
        if self.0.value.iter().all(|&b| b == 0xff) {
            return Ok(());
        }
        f.write_str("=")?;
        write_value(f, self.0)
    }
}

/// Names, shortened as Open vSwitch does: `eth_{src,dst,type}` and `reg0...reg15`.
pub(super) fn short_names(names: &[&str]) -> String {
    let mut out = String::new();
    shorten(&mut out, names, 0);
    out
}

/// Leaves out the first `prefix` bytes of each name, which are the same in all.
fn shorten(out: &mut String, mut names: &[&str], prefix: usize) {
    let mut first = true;
    while !names.is_empty() {
        if !std::mem::replace(&mut first, false) {
            out.push(if prefix > 0 { ',' } else { ' ' });
        }
        let (by_prefix, more) = prefix_run(names, prefix);
        let by_number = number_run(names);
        let run = by_prefix.max(by_number);
        if by_number >= by_prefix {
            out.push_str(&names[0][prefix..]);
            if run > 1 {
                out.push_str("...");
                out.push_str(&names[run - 1][prefix..]);
            }
        } else {
            out.push_str(&names[0][prefix..prefix + more]);
            out.push('{');
            shorten(out, &names[..run], prefix + more);
            out.push('}');
        }
        names = &names[run..];
    }
}

/// How many names at the beginning share a longer prefix that ends in `_`, and how much longer it is.
fn prefix_run(names: &[&str], prefix: usize) -> (usize, usize) {
    let common = |name: &str| {
        let same = names[0][prefix..].bytes().zip(name[prefix..].bytes()).take_while(|(a, b)| a == b);
        same.map(|(a, _)| a).collect::<Vec<_>>().iter().rposition(|&b| b == b'_').map_or(0, |i| i + 1)
    };
    let more = names.get(1).map_or(0, |name| common(name));
    if more == 0 {
        return (1, 0);
    }
    (2 + names[2..].iter().take_while(|name| common(name) > 0).count(), more)
}

/// How many names at the beginning differ in a number that counts up; two are not enough.
fn number_run(names: &[&str]) -> usize {
    let follows = |pair: &&[&str]| {
        let same = pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
        let number = |name: &str| name.get(same..)?.parse::<u32>().ok();
        matches!((number(pair[0]), number(pair[1])), (Some(a), Some(b)) if a + 1 == b)
    };
    match 1 + names.windows(2).take_while(follows).count() {
        2 => 1,
        n => n,
    }
}
