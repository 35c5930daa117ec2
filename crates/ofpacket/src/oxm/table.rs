//! Every field that Open vSwitch knows, one line each; everything else about fields is derived from here.
//!
//! The columns: constant, class, number, bytes on the wire, bits that count, how a value is written,
//! whether a mask is allowed, what a flow must match to match it, whether actions can set it, the name of
//! the field in `set_field`, its name in `move` and `learn`, and other names for it (`ovs-fields(7)` and
//! `include/openvswitch/meta-flow.h` of Open vSwitch). The order is that in which Open vSwitch writes a
//! match (`nx_put_raw()` in its `lib/nx-match.c`).

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

/// What a flow has to match before it can match a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prerequisite {
    /// Nothing.
    Nothing,
    /// An Ethernet packet, which is what a flow that says nothing else matches.
    Ethernet,
    /// A VLAN tag.
    Vlan,
    /// `mpls` or `mplsm`.
    Mpls,
    /// `ip`.
    Ipv4,
    /// `ipv6`.
    Ipv6,
    /// `ip` or `ipv6`.
    Ip,
    /// `arp` or `rarp`.
    Arp,
    /// `tcp` or `tcp6`.
    Tcp,
    /// `udp` or `udp6`.
    Udp,
    /// `sctp` or `sctp6`.
    Sctp,
    /// `icmp`.
    Icmpv4,
    /// `icmp6`.
    Icmpv6,
    /// `icmp6` with type 135 or 136 and code 0.
    Nd,
    /// `icmp6` with type 135 and code 0.
    NdSolicit,
    /// `icmp6` with type 136 and code 0.
    NdAdvert,
    /// A network service header: `dl_type=0x894f`.
    Nsh,
    /// A tracked connection: `ct_state=+trk`, and `ip` or `ipv6`.
    Tracked,
}

/// Whether actions can set a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// They can.
    Writable,
    /// They can only read it.
    ReadOnly,
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
    /// What a flow has to match before it can match this.
    pub needs: Prerequisite,
    /// Whether actions can set it.
    pub access: Access,
    /// The name in `set_field`, for example `eth_src`.
    pub name: &'static str,
    /// The name in `move`, `learn` and other places that name bits, for example `NXM_OF_ETH_SRC`.
    pub header_name: &'static str,
    /// Other names that are understood, for example `dl_src` and `OXM_OF_ETH_SRC`.
    pub aliases: &'static [&'static str],
}

macro_rules! fields {
    ($( ($const:ident, $class:ident, $number:literal, $bytes:literal, $bits:literal, $kind:ident,
         $mask:ident, $needs:ident, $access:ident, $name:literal, $header:literal, [$($alias:literal),*]); )*) => {
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
                maskable: Maskable::$mask, needs: Prerequisite::$needs, access: Access::$access,
                name: $name, header_name: $header, aliases: &[$($alias),*],
            }, )*
        ];
    };
}

/// Older numbers of fields: Open vSwitch accepts them everywhere, writes them in its own actions, and
/// `Match::canonical` replaces them.
macro_rules! twins {
    ($( ($const:ident, $class:ident, $number:literal, $of:ident); )*) => {
        /// Older numbers.
        impl OxmField {
            $(
                #[doc = concat!("An older number of [`OxmField::", stringify!($of), "`].")]
                pub const $const: Self = Self::new(Class::$class, $number, Self::$of.width());
            )*
        }

        /// The older number and the one that OpenFlow 1.5 prefers.
        pub(super) static TWINS: &[(OxmField, OxmField)] = &[ $( (OxmField::$const, OxmField::$of), )* ];
    };
}

#[rustfmt::skip]
fields! {
    // What is not in the packet.
    (PACKET_TYPE, BASIC, 44, 4, 32, PacketType, Exact, Nothing, ReadOnly, "packet_type", "OXM_OF_PACKET_TYPE", []);
    (DP_HASH, NXM_1, 35, 4, 32, Hex, Bitwise, Nothing, ReadOnly, "dp_hash", "NXM_NX_DP_HASH", ["NXOXM_ET_DP_HASH"]);
    (RECIRC_ID, NXM_1, 36, 4, 32, Decimal, Exact, Nothing, ReadOnly, "recirc_id", "NXM_NX_RECIRC_ID", []);
    (CONJ_ID, NXM_1, 37, 4, 32, Decimal, Exact, Nothing, ReadOnly, "conj_id", "NXM_NX_CONJ_ID", []);
    (IN_PORT, BASIC, 0, 4, 32, Port, Exact, Nothing, Writable, "in_port_oxm", "OXM_OF_IN_PORT", []);
    (NXM_IN_PORT, NXM_0, 0, 2, 16, Port, Exact, Nothing, Writable, "in_port", "NXM_OF_IN_PORT", []);
    (ACTSET_OUTPUT, BASIC, 43, 4, 32, Port, Exact, Nothing, ReadOnly, "actset_output", "ONFOXM_ET_ACTSET_OUTPUT", ["OXM_OF_ACTSET_OUTPUT"]);
    // Ethernet, VLAN, MPLS.
    (ETH_SRC, BASIC, 4, 6, 48, Mac, Bitwise, Ethernet, Writable, "eth_src", "NXM_OF_ETH_SRC", ["dl_src", "OXM_OF_ETH_SRC"]);
    (ETH_DST, BASIC, 3, 6, 48, Mac, Bitwise, Ethernet, Writable, "eth_dst", "NXM_OF_ETH_DST", ["dl_dst", "OXM_OF_ETH_DST"]);
    (ETH_TYPE, BASIC, 5, 2, 16, Hex, Exact, Ethernet, ReadOnly, "eth_type", "NXM_OF_ETH_TYPE", ["dl_type", "OXM_OF_ETH_TYPE"]);
    (VLAN_VID, BASIC, 6, 2, 12, Decimal, Bitwise, Ethernet, Writable, "vlan_vid", "OXM_OF_VLAN_VID", []);
    (VLAN_PCP, BASIC, 7, 1, 3, Decimal, Exact, Vlan, Writable, "vlan_pcp", "OXM_OF_VLAN_PCP", []);
    (VLAN_TCI, NXM_0, 4, 2, 16, Hex, Bitwise, Ethernet, Writable, "vlan_tci", "NXM_OF_VLAN_TCI", []);
    (MPLS_TC, BASIC, 35, 1, 3, Decimal, Exact, Mpls, Writable, "mpls_tc", "OXM_OF_MPLS_TC", []);
    (MPLS_BOS, BASIC, 36, 1, 1, Decimal, Exact, Mpls, ReadOnly, "mpls_bos", "OXM_OF_MPLS_BOS", []);
    (MPLS_TTL, NXM_1, 30, 1, 8, Decimal, Exact, Mpls, Writable, "mpls_ttl", "NXM_NX_MPLS_TTL", []);
    (MPLS_LABEL, BASIC, 34, 4, 20, Decimal, Exact, Mpls, Writable, "mpls_label", "OXM_OF_MPLS_LABEL", []);
    // IP and what it carries.
    (IPV4_SRC, BASIC, 11, 4, 32, Ipv4, Bitwise, Ipv4, Writable, "ip_src", "NXM_OF_IP_SRC", ["nw_src", "OXM_OF_IPV4_SRC"]);
    (IPV4_DST, BASIC, 12, 4, 32, Ipv4, Bitwise, Ipv4, Writable, "ip_dst", "NXM_OF_IP_DST", ["nw_dst", "OXM_OF_IPV4_DST"]);
    (IPV6_SRC, BASIC, 26, 16, 128, Ipv6, Bitwise, Ipv6, Writable, "ipv6_src", "NXM_NX_IPV6_SRC", ["OXM_OF_IPV6_SRC"]);
    (IPV6_DST, BASIC, 27, 16, 128, Ipv6, Bitwise, Ipv6, Writable, "ipv6_dst", "NXM_NX_IPV6_DST", ["OXM_OF_IPV6_DST"]);
    (IP_FRAG, NXM_1, 26, 1, 2, Frag, Bitwise, Ip, ReadOnly, "ip_frag", "NXM_NX_IP_FRAG", ["nw_frag"]);
    (IP_DSCP, BASIC, 8, 1, 6, Decimal, Exact, Ip, Writable, "ip_dscp", "OXM_OF_IP_DSCP", []);
    (IP_TOS, NXM_0, 5, 1, 8, Decimal, Exact, Ip, Writable, "nw_tos", "NXM_OF_IP_TOS", []);
    (IP_ECN, BASIC, 9, 1, 2, Decimal, Exact, Ip, Writable, "nw_ecn", "NXM_NX_IP_ECN", ["ip_ecn", "OXM_OF_IP_ECN"]);
    (IP_TTL, NXM_1, 29, 1, 8, Decimal, Exact, Ip, Writable, "nw_ttl", "NXM_NX_IP_TTL", []);
    (IPV6_FLABEL, BASIC, 28, 4, 20, Hex, Bitwise, Ipv6, Writable, "ipv6_label", "NXM_NX_IPV6_LABEL", ["OXM_OF_IPV6_FLABEL"]);
    (IP_PROTO, BASIC, 10, 1, 8, Decimal, Exact, Ip, ReadOnly, "nw_proto", "NXM_OF_IP_PROTO", ["ip_proto", "OXM_OF_IP_PROTO"]);
    (TCP_SRC, BASIC, 13, 2, 16, Decimal, Bitwise, Tcp, Writable, "tcp_src", "NXM_OF_TCP_SRC", ["tp_src", "OXM_OF_TCP_SRC"]);
    (TCP_DST, BASIC, 14, 2, 16, Decimal, Bitwise, Tcp, Writable, "tcp_dst", "NXM_OF_TCP_DST", ["tp_dst", "OXM_OF_TCP_DST"]);
    (TCP_FLAGS, BASIC, 42, 2, 12, TcpFlags, Bitwise, Tcp, ReadOnly, "tcp_flags", "NXM_NX_TCP_FLAGS", ["OXM_OF_TCP_FLAGS", "ONFOXM_ET_TCP_FLAGS"]);
    (UDP_SRC, BASIC, 15, 2, 16, Decimal, Bitwise, Udp, Writable, "udp_src", "NXM_OF_UDP_SRC", ["OXM_OF_UDP_SRC"]);
    (UDP_DST, BASIC, 16, 2, 16, Decimal, Bitwise, Udp, Writable, "udp_dst", "NXM_OF_UDP_DST", ["OXM_OF_UDP_DST"]);
    (SCTP_SRC, BASIC, 17, 2, 16, Decimal, Bitwise, Sctp, Writable, "sctp_src", "OXM_OF_SCTP_SRC", []);
    (SCTP_DST, BASIC, 18, 2, 16, Decimal, Bitwise, Sctp, Writable, "sctp_dst", "OXM_OF_SCTP_DST", []);
    (ICMPV4_TYPE, BASIC, 19, 1, 8, Decimal, Exact, Icmpv4, Writable, "icmp_type", "NXM_OF_ICMP_TYPE", ["OXM_OF_ICMPV4_TYPE"]);
    (ICMPV4_CODE, BASIC, 20, 1, 8, Decimal, Exact, Icmpv4, Writable, "icmp_code", "NXM_OF_ICMP_CODE", ["OXM_OF_ICMPV4_CODE"]);
    (ICMPV6_TYPE, BASIC, 29, 1, 8, Decimal, Exact, Icmpv6, Writable, "icmpv6_type", "NXM_NX_ICMPV6_TYPE", ["OXM_OF_ICMPV6_TYPE"]);
    (ICMPV6_CODE, BASIC, 30, 1, 8, Decimal, Exact, Icmpv6, Writable, "icmpv6_code", "NXM_NX_ICMPV6_CODE", ["OXM_OF_ICMPV6_CODE"]);
    (ND_RESERVED, ERICSSON, 1, 4, 32, Decimal, Exact, Nd, Writable, "nd_reserved", "ERICOXM_OF_ICMPV6_ND_RESERVED", []);
    (IPV6_ND_TARGET, BASIC, 31, 16, 128, Ipv6, Bitwise, Nd, Writable, "nd_target", "NXM_NX_ND_TARGET", ["OXM_OF_IPV6_ND_TARGET"]);
    (ND_OPTIONS_TYPE, ERICSSON, 2, 1, 8, Decimal, Exact, Nd, Writable, "nd_options_type", "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE", []);
    (IPV6_ND_SLL, BASIC, 32, 6, 48, Mac, Bitwise, NdSolicit, Writable, "nd_sll", "NXM_NX_ND_SLL", ["OXM_OF_IPV6_ND_SLL"]);
    (IPV6_ND_TLL, BASIC, 33, 6, 48, Mac, Bitwise, NdAdvert, Writable, "nd_tll", "NXM_NX_ND_TLL", ["OXM_OF_IPV6_ND_TLL"]);
    // ARP.
    (ARP_OP, BASIC, 21, 2, 16, Decimal, Exact, Arp, Writable, "arp_op", "NXM_OF_ARP_OP", ["OXM_OF_ARP_OP"]);
    (ARP_SPA, BASIC, 22, 4, 32, Ipv4, Bitwise, Arp, Writable, "arp_spa", "NXM_OF_ARP_SPA", ["OXM_OF_ARP_SPA"]);
    (ARP_TPA, BASIC, 23, 4, 32, Ipv4, Bitwise, Arp, Writable, "arp_tpa", "NXM_OF_ARP_TPA", ["OXM_OF_ARP_TPA"]);
    (ARP_SHA, BASIC, 24, 6, 48, Mac, Bitwise, Arp, Writable, "arp_sha", "NXM_NX_ARP_SHA", ["OXM_OF_ARP_SHA"]);
    (ARP_THA, BASIC, 25, 6, 48, Mac, Bitwise, Arp, Writable, "arp_tha", "NXM_NX_ARP_THA", ["OXM_OF_ARP_THA"]);
    // Tunnels; the options, which are numbered, come between the two groups.
    (TUNNEL_ID, BASIC, 38, 8, 64, Hex, Bitwise, Nothing, Writable, "tun_id", "NXM_NX_TUN_ID", ["tunnel_id", "OXM_OF_TUNNEL_ID"]);
    (TUN_FLAGS, NXM_1, 104, 2, 1, TunFlags, Bitwise, Nothing, Writable, "tun_flags", "NXM_NX_TUN_FLAGS", []);
    (TUN_IPV4_SRC, NXM_1, 31, 4, 32, Ipv4, Bitwise, Nothing, Writable, "tun_src", "NXM_NX_TUN_IPV4_SRC", []);
    (TUN_IPV4_DST, NXM_1, 32, 4, 32, Ipv4, Bitwise, Nothing, Writable, "tun_dst", "NXM_NX_TUN_IPV4_DST", []);
    (TUN_IPV6_SRC, NXM_1, 109, 16, 128, Ipv6, Bitwise, Nothing, Writable, "tun_ipv6_src", "NXM_NX_TUN_IPV6_SRC", []);
    (TUN_IPV6_DST, NXM_1, 110, 16, 128, Ipv6, Bitwise, Nothing, Writable, "tun_ipv6_dst", "NXM_NX_TUN_IPV6_DST", []);
    (TUN_GBP_ID, NXM_1, 38, 2, 16, Decimal, Bitwise, Nothing, Writable, "tun_gbp_id", "NXM_NX_TUN_GBP_ID", []);
    (TUN_GBP_FLAGS, NXM_1, 39, 1, 8, Hex, Bitwise, Nothing, Writable, "tun_gbp_flags", "NXM_NX_TUN_GBP_FLAGS", []);
    (TUN_ERSPAN_IDX, NX, 11, 4, 20, Hex, Bitwise, Nothing, Writable, "tun_erspan_idx", "NXOXM_ET_ERSPAN_IDX", []);
    (TUN_ERSPAN_VER, NX, 12, 1, 4, Decimal, Bitwise, Nothing, Writable, "tun_erspan_ver", "NXOXM_ET_ERSPAN_VER", []);
    (TUN_ERSPAN_DIR, NX, 13, 1, 1, Decimal, Bitwise, Nothing, Writable, "tun_erspan_dir", "NXOXM_ET_ERSPAN_DIR", []);
    (TUN_ERSPAN_HWID, NX, 14, 1, 6, Hex, Bitwise, Nothing, Writable, "tun_erspan_hwid", "NXOXM_ET_ERSPAN_HWID", []);
    (TUN_GTPU_FLAGS, NX, 15, 1, 8, Hex, Bitwise, Nothing, ReadOnly, "tun_gtpu_flags", "NXOXM_ET_GTPU_FLAGS", ["gtpu_flags"]);
    (TUN_GTPU_MSGTYPE, NX, 16, 1, 8, Decimal, Bitwise, Nothing, ReadOnly, "tun_gtpu_msgtype", "NXOXM_ET_GTPU_MSGTYPE", ["gtpu_msgtype"]);
    // Network service header. The registers, which are numbered, come next.
    (NSH_FLAGS, NSH, 1, 1, 8, Decimal, Bitwise, Nsh, Writable, "nsh_flags", "NXOXM_NSH_FLAGS", []);
    (NSH_TTL, NSH, 10, 1, 8, Decimal, Exact, Nsh, Writable, "nsh_ttl", "NXOXM_NSH_TTL", []);
    (NSH_MDTYPE, NSH, 2, 1, 8, Decimal, Exact, Nsh, ReadOnly, "nsh_mdtype", "NXOXM_NSH_MDTYPE", []);
    (NSH_NP, NSH, 3, 1, 8, Decimal, Exact, Nsh, ReadOnly, "nsh_np", "NXOXM_NSH_NP", []);
    (NSH_SPI, NSH, 4, 4, 24, Hex, Exact, Nsh, Writable, "nsh_spi", "NXOXM_NSH_SPI", ["nsp"]);
    (NSH_SI, NSH, 5, 1, 8, Decimal, Exact, Nsh, Writable, "nsh_si", "NXOXM_NSH_SI", ["nsi"]);
    (NSH_C1, NSH, 6, 4, 32, Hex, Bitwise, Nsh, Writable, "nsh_c1", "NXOXM_NSH_C1", ["nshc1"]);
    (NSH_C2, NSH, 7, 4, 32, Hex, Bitwise, Nsh, Writable, "nsh_c2", "NXOXM_NSH_C2", ["nshc2"]);
    (NSH_C3, NSH, 8, 4, 32, Hex, Bitwise, Nsh, Writable, "nsh_c3", "NXOXM_NSH_C3", ["nshc3"]);
    (NSH_C4, NSH, 9, 4, 32, Hex, Bitwise, Nsh, Writable, "nsh_c4", "NXOXM_NSH_C4", ["nshc4"]);
    // Marks and connection tracking.
    (PKT_MARK, NXM_1, 33, 4, 32, Hex, Bitwise, Nothing, Writable, "pkt_mark", "NXM_NX_PKT_MARK", []);
    (CT_STATE, NXM_1, 105, 4, 32, CtState, Bitwise, Nothing, ReadOnly, "ct_state", "NXM_NX_CT_STATE", []);
    (CT_ZONE, NXM_1, 106, 2, 16, Hex, Exact, Nothing, ReadOnly, "ct_zone", "NXM_NX_CT_ZONE", []);
    (CT_MARK, NXM_1, 107, 4, 32, Hex, Bitwise, Nothing, Writable, "ct_mark", "NXM_NX_CT_MARK", []);
    (CT_LABEL, NXM_1, 108, 16, 128, Hex, Bitwise, Nothing, Writable, "ct_label", "NXM_NX_CT_LABEL", []);
    (CT_NW_SRC, NXM_1, 120, 4, 32, Ipv4, Bitwise, Tracked, ReadOnly, "ct_nw_src", "NXM_NX_CT_NW_SRC", []);
    (CT_IPV6_SRC, NXM_1, 122, 16, 128, Ipv6, Bitwise, Tracked, ReadOnly, "ct_ipv6_src", "NXM_NX_CT_IPV6_SRC", []);
    (CT_NW_DST, NXM_1, 121, 4, 32, Ipv4, Bitwise, Tracked, ReadOnly, "ct_nw_dst", "NXM_NX_CT_NW_DST", []);
    (CT_IPV6_DST, NXM_1, 123, 16, 128, Ipv6, Bitwise, Tracked, ReadOnly, "ct_ipv6_dst", "NXM_NX_CT_IPV6_DST", []);
    (CT_NW_PROTO, NXM_1, 119, 1, 8, Decimal, Exact, Tracked, ReadOnly, "ct_nw_proto", "NXM_NX_CT_NW_PROTO", []);
    (CT_TP_SRC, NXM_1, 124, 2, 16, Decimal, Bitwise, Tracked, ReadOnly, "ct_tp_src", "NXM_NX_CT_TP_SRC", []);
    (CT_TP_DST, NXM_1, 125, 2, 16, Decimal, Bitwise, Tracked, ReadOnly, "ct_tp_dst", "NXM_NX_CT_TP_DST", []);
    (METADATA, BASIC, 2, 8, 64, Hex, Bitwise, Nothing, Writable, "metadata", "OXM_OF_METADATA", []);
}

twins! {
    (NXM_ETH_DST, NXM_0, 1, ETH_DST);
    (NXM_ETH_SRC, NXM_0, 2, ETH_SRC);
    (NXM_ETH_TYPE, NXM_0, 3, ETH_TYPE);
    (NXM_IP_PROTO, NXM_0, 6, IP_PROTO);
    (NXM_IP_SRC, NXM_0, 7, IPV4_SRC);
    (NXM_IP_DST, NXM_0, 8, IPV4_DST);
    (NXM_TCP_SRC, NXM_0, 9, TCP_SRC);
    (NXM_TCP_DST, NXM_0, 10, TCP_DST);
    (NXM_UDP_SRC, NXM_0, 11, UDP_SRC);
    (NXM_UDP_DST, NXM_0, 12, UDP_DST);
    (NXM_ICMP_TYPE, NXM_0, 13, ICMPV4_TYPE);
    (NXM_ICMP_CODE, NXM_0, 14, ICMPV4_CODE);
    (NXM_ARP_OP, NXM_0, 15, ARP_OP);
    (NXM_ARP_SPA, NXM_0, 16, ARP_SPA);
    (NXM_ARP_TPA, NXM_0, 17, ARP_TPA);
    (NXM_TUN_ID, NXM_1, 16, TUNNEL_ID);
    (NXM_ARP_SHA, NXM_1, 17, ARP_SHA);
    (NXM_ARP_THA, NXM_1, 18, ARP_THA);
    (NXM_IPV6_SRC, NXM_1, 19, IPV6_SRC);
    (NXM_IPV6_DST, NXM_1, 20, IPV6_DST);
    (NXM_ICMPV6_TYPE, NXM_1, 21, ICMPV6_TYPE);
    (NXM_ICMPV6_CODE, NXM_1, 22, ICMPV6_CODE);
    (NXM_ND_TARGET, NXM_1, 23, IPV6_ND_TARGET);
    (NXM_ND_SLL, NXM_1, 24, IPV6_ND_SLL);
    (NXM_ND_TLL, NXM_1, 25, IPV6_ND_TLL);
    (NXM_IPV6_LABEL, NXM_1, 27, IPV6_FLABEL);
    (NXM_IP_ECN, NXM_1, 28, IP_ECN);
    (NXM_TCP_FLAGS, NXM_1, 34, TCP_FLAGS);
    (ONF_TCP_FLAGS, ONF, 42, TCP_FLAGS);
    (ONF_ACTSET_OUTPUT, ONF, 43, ACTSET_OUTPUT);
    (NXOXM_DP_HASH, NX, 0, DP_HASH);
}
