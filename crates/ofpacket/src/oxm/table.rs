//! Every field that Open vSwitch knows, one line each; everything else about fields is derived from here.
//!
//! The columns: constant, class, number, bytes on the wire, bits that count, how a value is written,
//! whether a mask is allowed, the name of the field in `set_field`, its name in `move` and `learn`
//! (`ovs-fields(7)` and `include/openvswitch/meta-flow.h` of Open vSwitch).

use super::field::{Class, OxmField};

/// How `ovs-ofctl` writes the values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Hexadecimal, without leading zeros.
    Hex,
    /// Decimal.
    Decimal,
    /// An Ethernet address.
    Mac,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A port: its number, or its name if it is a reserved one.
    Port,
    /// Connection tracking flags: `+new-est`.
    CtState,
    /// `no`, `yes`, `first`, `later` or `not_later`.
    Frag,
    /// `+oam`.
    TunFlags,
    /// `+syn-ack`.
    TcpFlags,
    /// `(name space,type)`.
    PacketType,
}

/// Which masks a field accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maskable {
    /// All of it or nothing.
    Exact,
    /// Any bits.
    Bitwise,
}

/// What is known about a field.
#[derive(Debug, Clone, Copy)]
pub struct FieldInfo {
    /// Its number.
    pub field: OxmField,
    /// Bytes of a value on the wire.
    pub bytes: u8,
    /// Bits of it that count, from the least significant one.
    pub bits: u16,
    /// How values are written.
    pub kind: Kind,
    /// Which masks are allowed.
    pub maskable: Maskable,
    /// The name in `set_field`, for example `eth_src`.
    pub name: &'static str,
    /// The name in `move`, `learn` and other places that name bits, for example `NXM_OF_ETH_SRC`.
    pub header_name: &'static str,
}

macro_rules! fields {
    ($( ($const:ident, $class:ident, $number:literal, $bytes:literal, $bits:literal, $kind:ident,
         $mask:ident, $name:literal, $header:literal); )*) => {
        /// The fields that have a name of their own; the numbered ones are functions.
        impl OxmField {
            $(
                #[doc = concat!("`", $name, "`, as `", $header, "`, ", $bits, " bits.")]
                pub const $const: Self = Self::new(Class::$class, $number, $bytes);
            )*
        }

        pub(super) static FIELDS: &[FieldInfo] = &[
            $( FieldInfo {
                field: OxmField::$const, bytes: $bytes, bits: $bits, kind: Kind::$kind,
                maskable: Maskable::$mask, name: $name, header_name: $header,
            }, )*
        ];
    };
}

#[rustfmt::skip]
fields! {
    // OpenFlow's own fields (OpenFlow 1.5, section 7.2.3.8).
    (IN_PORT, BASIC, 0, 4, 32, Port, Exact, "in_port_oxm", "OXM_OF_IN_PORT");
    (METADATA, BASIC, 2, 8, 64, Hex, Bitwise, "metadata", "OXM_OF_METADATA");
    (ETH_DST, BASIC, 3, 6, 48, Mac, Bitwise, "eth_dst", "NXM_OF_ETH_DST");
    (ETH_SRC, BASIC, 4, 6, 48, Mac, Bitwise, "eth_src", "NXM_OF_ETH_SRC");
    (ETH_TYPE, BASIC, 5, 2, 16, Hex, Exact, "eth_type", "NXM_OF_ETH_TYPE");
    (VLAN_VID, BASIC, 6, 2, 12, Decimal, Bitwise, "vlan_vid", "OXM_OF_VLAN_VID");
    (VLAN_PCP, BASIC, 7, 1, 3, Decimal, Exact, "vlan_pcp", "OXM_OF_VLAN_PCP");
    (IP_DSCP, BASIC, 8, 1, 6, Decimal, Exact, "ip_dscp", "OXM_OF_IP_DSCP");
    (IP_ECN, BASIC, 9, 1, 2, Decimal, Exact, "nw_ecn", "NXM_NX_IP_ECN");
    (IP_PROTO, BASIC, 10, 1, 8, Decimal, Exact, "nw_proto", "NXM_OF_IP_PROTO");
    (IPV4_SRC, BASIC, 11, 4, 32, Ipv4, Bitwise, "ip_src", "NXM_OF_IP_SRC");
    (IPV4_DST, BASIC, 12, 4, 32, Ipv4, Bitwise, "ip_dst", "NXM_OF_IP_DST");
    (TCP_SRC, BASIC, 13, 2, 16, Decimal, Bitwise, "tcp_src", "NXM_OF_TCP_SRC");
    (TCP_DST, BASIC, 14, 2, 16, Decimal, Bitwise, "tcp_dst", "NXM_OF_TCP_DST");
    (UDP_SRC, BASIC, 15, 2, 16, Decimal, Bitwise, "udp_src", "NXM_OF_UDP_SRC");
    (UDP_DST, BASIC, 16, 2, 16, Decimal, Bitwise, "udp_dst", "NXM_OF_UDP_DST");
    (SCTP_SRC, BASIC, 17, 2, 16, Decimal, Bitwise, "sctp_src", "OXM_OF_SCTP_SRC");
    (SCTP_DST, BASIC, 18, 2, 16, Decimal, Bitwise, "sctp_dst", "OXM_OF_SCTP_DST");
    (ICMPV4_TYPE, BASIC, 19, 1, 8, Decimal, Exact, "icmp_type", "NXM_OF_ICMP_TYPE");
    (ICMPV4_CODE, BASIC, 20, 1, 8, Decimal, Exact, "icmp_code", "NXM_OF_ICMP_CODE");
    (ARP_OP, BASIC, 21, 2, 16, Decimal, Exact, "arp_op", "NXM_OF_ARP_OP");
    (ARP_SPA, BASIC, 22, 4, 32, Ipv4, Bitwise, "arp_spa", "NXM_OF_ARP_SPA");
    (ARP_TPA, BASIC, 23, 4, 32, Ipv4, Bitwise, "arp_tpa", "NXM_OF_ARP_TPA");
    (ARP_SHA, BASIC, 24, 6, 48, Mac, Bitwise, "arp_sha", "NXM_NX_ARP_SHA");
    (ARP_THA, BASIC, 25, 6, 48, Mac, Bitwise, "arp_tha", "NXM_NX_ARP_THA");
    (IPV6_SRC, BASIC, 26, 16, 128, Ipv6, Bitwise, "ipv6_src", "NXM_NX_IPV6_SRC");
    (IPV6_DST, BASIC, 27, 16, 128, Ipv6, Bitwise, "ipv6_dst", "NXM_NX_IPV6_DST");
    (IPV6_FLABEL, BASIC, 28, 4, 20, Hex, Bitwise, "ipv6_label", "NXM_NX_IPV6_LABEL");
    (ICMPV6_TYPE, BASIC, 29, 1, 8, Decimal, Exact, "icmpv6_type", "NXM_NX_ICMPV6_TYPE");
    (ICMPV6_CODE, BASIC, 30, 1, 8, Decimal, Exact, "icmpv6_code", "NXM_NX_ICMPV6_CODE");
    (IPV6_ND_TARGET, BASIC, 31, 16, 128, Ipv6, Bitwise, "nd_target", "NXM_NX_ND_TARGET");
    (IPV6_ND_SLL, BASIC, 32, 6, 48, Mac, Bitwise, "nd_sll", "NXM_NX_ND_SLL");
    (IPV6_ND_TLL, BASIC, 33, 6, 48, Mac, Bitwise, "nd_tll", "NXM_NX_ND_TLL");
    (MPLS_LABEL, BASIC, 34, 4, 20, Decimal, Exact, "mpls_label", "OXM_OF_MPLS_LABEL");
    (MPLS_TC, BASIC, 35, 1, 3, Decimal, Exact, "mpls_tc", "OXM_OF_MPLS_TC");
    (MPLS_BOS, BASIC, 36, 1, 1, Decimal, Exact, "mpls_bos", "OXM_OF_MPLS_BOS");
    (TUNNEL_ID, BASIC, 38, 8, 64, Hex, Bitwise, "tun_id", "NXM_NX_TUN_ID");
    (TCP_FLAGS, BASIC, 42, 2, 12, TcpFlags, Bitwise, "tcp_flags", "NXM_NX_TCP_FLAGS");
    (ACTSET_OUTPUT, BASIC, 43, 4, 32, Port, Exact, "actset_output", "ONFOXM_ET_ACTSET_OUTPUT");
    (PACKET_TYPE, BASIC, 44, 4, 32, PacketType, Exact, "packet_type", "OXM_OF_PACKET_TYPE");
    // Open vSwitch's fields for which OpenFlow has no number (ovs-fields(7)).
    (NXM_IN_PORT, NXM_0, 0, 2, 16, Port, Exact, "in_port", "NXM_OF_IN_PORT");
    (VLAN_TCI, NXM_0, 4, 2, 16, Hex, Bitwise, "vlan_tci", "NXM_OF_VLAN_TCI");
    (IP_TOS, NXM_0, 5, 1, 8, Decimal, Exact, "nw_tos", "NXM_OF_IP_TOS");
    (IP_FRAG, NXM_1, 26, 1, 2, Frag, Bitwise, "ip_frag", "NXM_NX_IP_FRAG");
    (IP_TTL, NXM_1, 29, 1, 8, Decimal, Exact, "nw_ttl", "NXM_NX_IP_TTL");
    (MPLS_TTL, NXM_1, 30, 1, 8, Decimal, Exact, "mpls_ttl", "NXM_NX_MPLS_TTL");
    (TUN_IPV4_SRC, NXM_1, 31, 4, 32, Ipv4, Bitwise, "tun_src", "NXM_NX_TUN_IPV4_SRC");
    (TUN_IPV4_DST, NXM_1, 32, 4, 32, Ipv4, Bitwise, "tun_dst", "NXM_NX_TUN_IPV4_DST");
    (PKT_MARK, NXM_1, 33, 4, 32, Hex, Bitwise, "pkt_mark", "NXM_NX_PKT_MARK");
    (DP_HASH, NXM_1, 35, 4, 32, Hex, Bitwise, "dp_hash", "NXM_NX_DP_HASH");
    (RECIRC_ID, NXM_1, 36, 4, 32, Decimal, Exact, "recirc_id", "NXM_NX_RECIRC_ID");
    (CONJ_ID, NXM_1, 37, 4, 32, Decimal, Exact, "conj_id", "NXM_NX_CONJ_ID");
    (TUN_GBP_ID, NXM_1, 38, 2, 16, Decimal, Bitwise, "tun_gbp_id", "NXM_NX_TUN_GBP_ID");
    (TUN_GBP_FLAGS, NXM_1, 39, 1, 8, Hex, Bitwise, "tun_gbp_flags", "NXM_NX_TUN_GBP_FLAGS");
    (TUN_FLAGS, NXM_1, 104, 2, 1, TunFlags, Bitwise, "tun_flags", "NXM_NX_TUN_FLAGS");
    (CT_STATE, NXM_1, 105, 4, 32, CtState, Bitwise, "ct_state", "NXM_NX_CT_STATE");
    (CT_ZONE, NXM_1, 106, 2, 16, Hex, Exact, "ct_zone", "NXM_NX_CT_ZONE");
    (CT_MARK, NXM_1, 107, 4, 32, Hex, Bitwise, "ct_mark", "NXM_NX_CT_MARK");
    (CT_LABEL, NXM_1, 108, 16, 128, Hex, Bitwise, "ct_label", "NXM_NX_CT_LABEL");
    (TUN_IPV6_SRC, NXM_1, 109, 16, 128, Ipv6, Bitwise, "tun_ipv6_src", "NXM_NX_TUN_IPV6_SRC");
    (TUN_IPV6_DST, NXM_1, 110, 16, 128, Ipv6, Bitwise, "tun_ipv6_dst", "NXM_NX_TUN_IPV6_DST");
    (CT_NW_PROTO, NXM_1, 119, 1, 8, Decimal, Exact, "ct_nw_proto", "NXM_NX_CT_NW_PROTO");
    (CT_NW_SRC, NXM_1, 120, 4, 32, Ipv4, Bitwise, "ct_nw_src", "NXM_NX_CT_NW_SRC");
    (CT_NW_DST, NXM_1, 121, 4, 32, Ipv4, Bitwise, "ct_nw_dst", "NXM_NX_CT_NW_DST");
    (CT_IPV6_SRC, NXM_1, 122, 16, 128, Ipv6, Bitwise, "ct_ipv6_src", "NXM_NX_CT_IPV6_SRC");
    (CT_IPV6_DST, NXM_1, 123, 16, 128, Ipv6, Bitwise, "ct_ipv6_dst", "NXM_NX_CT_IPV6_DST");
    (CT_TP_SRC, NXM_1, 124, 2, 16, Decimal, Bitwise, "ct_tp_src", "NXM_NX_CT_TP_SRC");
    (CT_TP_DST, NXM_1, 125, 2, 16, Decimal, Bitwise, "ct_tp_dst", "NXM_NX_CT_TP_DST");
    (TUN_ERSPAN_IDX, NX, 11, 4, 20, Hex, Bitwise, "tun_erspan_idx", "NXOXM_ET_ERSPAN_IDX");
    (TUN_ERSPAN_VER, NX, 12, 1, 4, Decimal, Bitwise, "tun_erspan_ver", "NXOXM_ET_ERSPAN_VER");
    (TUN_ERSPAN_DIR, NX, 13, 1, 1, Decimal, Bitwise, "tun_erspan_dir", "NXOXM_ET_ERSPAN_DIR");
    (TUN_ERSPAN_HWID, NX, 14, 1, 6, Hex, Bitwise, "tun_erspan_hwid", "NXOXM_ET_ERSPAN_HWID");
    (TUN_GTPU_FLAGS, NX, 15, 1, 8, Hex, Bitwise, "tun_gtpu_flags", "NXOXM_ET_GTPU_FLAGS");
    (TUN_GTPU_MSGTYPE, NX, 16, 1, 8, Decimal, Bitwise, "tun_gtpu_msgtype", "NXOXM_ET_GTPU_MSGTYPE");
    (ND_RESERVED, ERICSSON, 1, 4, 32, Decimal, Exact, "nd_reserved", "ERICOXM_OF_ICMPV6_ND_RESERVED");
    (ND_OPTIONS_TYPE, ERICSSON, 2, 1, 8, Decimal, Exact, "nd_options_type", "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE");
    (NSH_FLAGS, NSH, 1, 1, 8, Decimal, Bitwise, "nsh_flags", "NXOXM_NSH_FLAGS");
    (NSH_MDTYPE, NSH, 2, 1, 8, Decimal, Exact, "nsh_mdtype", "NXOXM_NSH_MDTYPE");
    (NSH_NP, NSH, 3, 1, 8, Decimal, Exact, "nsh_np", "NXOXM_NSH_NP");
    (NSH_SPI, NSH, 4, 4, 24, Hex, Exact, "nsh_spi", "NXOXM_NSH_SPI");
    (NSH_SI, NSH, 5, 1, 8, Decimal, Exact, "nsh_si", "NXOXM_NSH_SI");
    (NSH_C1, NSH, 6, 4, 32, Hex, Bitwise, "nsh_c1", "NXOXM_NSH_C1");
    (NSH_C2, NSH, 7, 4, 32, Hex, Bitwise, "nsh_c2", "NXOXM_NSH_C2");
    (NSH_C3, NSH, 8, 4, 32, Hex, Bitwise, "nsh_c3", "NXOXM_NSH_C3");
    (NSH_C4, NSH, 9, 4, 32, Hex, Bitwise, "nsh_c4", "NXOXM_NSH_C4");
    (NSH_TTL, NSH, 10, 1, 8, Decimal, Exact, "nsh_ttl", "NXOXM_NSH_TTL");
    // Older numbers of fields that are also above: Open vSwitch 
    // accepts them, and `Match::canonical` replaces them.
    (NXM_ETH_DST, NXM_0, 1, 6, 48, Mac, Bitwise, "eth_dst", "NXM_OF_ETH_DST");
    (NXM_ETH_SRC, NXM_0, 2, 6, 48, Mac, Bitwise, "eth_src", "NXM_OF_ETH_SRC");
    (NXM_ETH_TYPE, NXM_0, 3, 2, 16, Hex, Exact, "eth_type", "NXM_OF_ETH_TYPE");
    (NXM_IP_PROTO, NXM_0, 6, 1, 8, Decimal, Exact, "nw_proto", "NXM_OF_IP_PROTO");
    (NXM_IP_SRC, NXM_0, 7, 4, 32, Ipv4, Bitwise, "ip_src", "NXM_OF_IP_SRC");
    (NXM_IP_DST, NXM_0, 8, 4, 32, Ipv4, Bitwise, "ip_dst", "NXM_OF_IP_DST");
    (NXM_TCP_SRC, NXM_0, 9, 2, 16, Decimal, Bitwise, "tcp_src", "NXM_OF_TCP_SRC");
    (NXM_TCP_DST, NXM_0, 10, 2, 16, Decimal, Bitwise, "tcp_dst", "NXM_OF_TCP_DST");
    (NXM_UDP_SRC, NXM_0, 11, 2, 16, Decimal, Bitwise, "udp_src", "NXM_OF_UDP_SRC");
    (NXM_UDP_DST, NXM_0, 12, 2, 16, Decimal, Bitwise, "udp_dst", "NXM_OF_UDP_DST");
    (NXM_ICMP_TYPE, NXM_0, 13, 1, 8, Decimal, Exact, "icmp_type", "NXM_OF_ICMP_TYPE");
    (NXM_ICMP_CODE, NXM_0, 14, 1, 8, Decimal, Exact, "icmp_code", "NXM_OF_ICMP_CODE");
    (NXM_ARP_OP, NXM_0, 15, 2, 16, Decimal, Exact, "arp_op", "NXM_OF_ARP_OP");
    (NXM_ARP_SPA, NXM_0, 16, 4, 32, Ipv4, Bitwise, "arp_spa", "NXM_OF_ARP_SPA");
    (NXM_ARP_TPA, NXM_0, 17, 4, 32, Ipv4, Bitwise, "arp_tpa", "NXM_OF_ARP_TPA");
    (NXM_TUN_ID, NXM_1, 16, 8, 64, Hex, Bitwise, "tun_id", "NXM_NX_TUN_ID");
    (NXM_ARP_SHA, NXM_1, 17, 6, 48, Mac, Bitwise, "arp_sha", "NXM_NX_ARP_SHA");
    (NXM_ARP_THA, NXM_1, 18, 6, 48, Mac, Bitwise, "arp_tha", "NXM_NX_ARP_THA");
    (NXM_IPV6_SRC, NXM_1, 19, 16, 128, Ipv6, Bitwise, "ipv6_src", "NXM_NX_IPV6_SRC");
    (NXM_IPV6_DST, NXM_1, 20, 16, 128, Ipv6, Bitwise, "ipv6_dst", "NXM_NX_IPV6_DST");
    (NXM_ICMPV6_TYPE, NXM_1, 21, 1, 8, Decimal, Exact, "icmpv6_type", "NXM_NX_ICMPV6_TYPE");
    (NXM_ICMPV6_CODE, NXM_1, 22, 1, 8, Decimal, Exact, "icmpv6_code", "NXM_NX_ICMPV6_CODE");
    (NXM_ND_TARGET, NXM_1, 23, 16, 128, Ipv6, Bitwise, "nd_target", "NXM_NX_ND_TARGET");
    (NXM_ND_SLL, NXM_1, 24, 6, 48, Mac, Bitwise, "nd_sll", "NXM_NX_ND_SLL");
    (NXM_ND_TLL, NXM_1, 25, 6, 48, Mac, Bitwise, "nd_tll", "NXM_NX_ND_TLL");
    (NXM_IPV6_LABEL, NXM_1, 27, 4, 20, Hex, Bitwise, "ipv6_label", "NXM_NX_IPV6_LABEL");
    (NXM_IP_ECN, NXM_1, 28, 1, 2, Decimal, Exact, "nw_ecn", "NXM_NX_IP_ECN");
    (NXM_TCP_FLAGS, NXM_1, 34, 2, 12, TcpFlags, Bitwise, "tcp_flags", "NXM_NX_TCP_FLAGS");
    (ONF_TCP_FLAGS, ONF, 42, 2, 12, TcpFlags, Bitwise, "tcp_flags", "NXM_NX_TCP_FLAGS");
    (ONF_ACTSET_OUTPUT, ONF, 43, 4, 32, Port, Exact, "actset_output", "ONFOXM_ET_ACTSET_OUTPUT");
    (NXOXM_DP_HASH, NX, 0, 4, 32, Hex, Bitwise, "dp_hash", "NXM_NX_DP_HASH");
}

/// The field's number that OpenFlow 1.5 prefers, for those that have two.
pub(super) const fn twin(field: OxmField) -> Option<OxmField> {
    const TWINS: &[(OxmField, OxmField)] = &[
        (OxmField::NXM_ETH_DST, OxmField::ETH_DST),
        (OxmField::NXM_ETH_SRC, OxmField::ETH_SRC),
        (OxmField::NXM_ETH_TYPE, OxmField::ETH_TYPE),
        (OxmField::NXM_IP_PROTO, OxmField::IP_PROTO),
        (OxmField::NXM_IP_SRC, OxmField::IPV4_SRC),
        (OxmField::NXM_IP_DST, OxmField::IPV4_DST),
        (OxmField::NXM_TCP_SRC, OxmField::TCP_SRC),
        (OxmField::NXM_TCP_DST, OxmField::TCP_DST),
        (OxmField::NXM_UDP_SRC, OxmField::UDP_SRC),
        (OxmField::NXM_UDP_DST, OxmField::UDP_DST),
        (OxmField::NXM_ICMP_TYPE, OxmField::ICMPV4_TYPE),
        (OxmField::NXM_ICMP_CODE, OxmField::ICMPV4_CODE),
        (OxmField::NXM_ARP_OP, OxmField::ARP_OP),
        (OxmField::NXM_ARP_SPA, OxmField::ARP_SPA),
        (OxmField::NXM_ARP_TPA, OxmField::ARP_TPA),
        (OxmField::NXM_TUN_ID, OxmField::TUNNEL_ID),
        (OxmField::NXM_ARP_SHA, OxmField::ARP_SHA),
        (OxmField::NXM_ARP_THA, OxmField::ARP_THA),
        (OxmField::NXM_IPV6_SRC, OxmField::IPV6_SRC),
        (OxmField::NXM_IPV6_DST, OxmField::IPV6_DST),
        (OxmField::NXM_ICMPV6_TYPE, OxmField::ICMPV6_TYPE),
        (OxmField::NXM_ICMPV6_CODE, OxmField::ICMPV6_CODE),
        (OxmField::NXM_ND_TARGET, OxmField::IPV6_ND_TARGET),
        (OxmField::NXM_ND_SLL, OxmField::IPV6_ND_SLL),
        (OxmField::NXM_ND_TLL, OxmField::IPV6_ND_TLL),
        (OxmField::NXM_IPV6_LABEL, OxmField::IPV6_FLABEL),
        (OxmField::NXM_IP_ECN, OxmField::IP_ECN),
        (OxmField::NXM_TCP_FLAGS, OxmField::TCP_FLAGS),
        (OxmField::ONF_TCP_FLAGS, OxmField::TCP_FLAGS),
        (OxmField::ONF_ACTSET_OUTPUT, OxmField::ACTSET_OUTPUT),
        (OxmField::NXOXM_DP_HASH, OxmField::DP_HASH),
    ];
    let mut i = 0;
    while i < TWINS.len() {
        if TWINS[i].0.same(field) {
            return Some(TWINS[i].1);
        }
        i += 1;
    }
    None
}
