//! The packets that make a connection tracker know a connection.
//!
//! One packet opens an entry, an answer confirms it, and only after a third
//! one is a TCP connection established for both directions (OVS
//! `lib/conntrack-tcp.c`), so that it is remembered for a day and not for half
//! a minute. No packet has a payload; sequence numbers are zeros, which
//! trackers accept of connections that they meet in their middle.

use std::net::IpAddr;

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep};

use crate::{Burden, Connection, Progress, Transport, Tuple};

/// Why a connection cannot be carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// The target would have to choose the same translation.
    #[error("its addresses are translated")]
    Translated,
    /// What the helper knows of the connection stays behind.
    #[error("a helper looks into it")]
    Helper,
    /// It exists because of another one.
    #[error("it was expected because of another connection")]
    Child,
    #[error("its ct_label has bits that find no room")]
    Label,
    #[error("its protocol is not one of TCP, UDP, SCTP and ICMP echo")]
    Protocol,
}

impl Refusal {
    /// One word for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::Helper => "helper",
            Self::Child => "child",
            Self::Label => "label",
            Self::Protocol => "protocol",
        }
    }
}

const TTL: u8 = 64;
const SCTP: u8 = 132;

impl Connection {
    /// Complete Ethernet frames, in the order in which they have to be
    /// committed; none for a connection that is over.
    ///
    /// # Errors
    ///
    /// The connection cannot be carried over.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>, Refusal> {
        if self.helper.is_some() {
            return Err(Refusal::Helper);
        }
        if self.is_child {
            return Err(Refusal::Child);
        }
        if self.reply != self.orig.inverse() {
            return Err(Refusal::Translated);
        }
        let addresses = Burden { mark: self.mark, label: self.label }.addresses()?;
        let packets: &[(&Tuple, bool)] = match (self.progress, self.protocol) {
            (Progress::Over, _) => &[],
            (Progress::Opening, _) => &[(&self.orig, true)],
            (Progress::Open, 6 | SCTP) => &[(&self.orig, false), (&self.reply, false), (&self.orig, false)],
            (Progress::Open, _) => &[(&self.orig, false), (&self.reply, false)],
        };
        packets.iter().map(|(tuple, opens)| frame(self.protocol, tuple, *opens, addresses)).collect()
    }
}

fn frame(
    protocol: u8,
    tuple: &Tuple,
    opens: bool,
    (dst, src): ([u8; 6], [u8; 6]),
) -> Result<Vec<u8>, Refusal> {
    let ethernet = PacketBuilder::ethernet2(src, dst);
    let ip = match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), TTL),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), TTL),
        _ => return Err(Refusal::Protocol),
    };
    let mut bytes = Vec::with_capacity(80);
    write(ip, protocol, tuple.transport, opens, &mut bytes)?;
    Ok(bytes)
}

/// Writing to memory fails only if lengths do not fit, and ours are a few octets.
fn write(
    ip: PacketBuilderStep<etherparse::IpHeaders>,
    protocol: u8,
    transport: Transport,
    opens: bool,
    bytes: &mut Vec<u8>,
) -> Result<(), Refusal> {
    const WINDOW: u16 = 1024;
    let written = match (protocol, transport) {
        (6, Transport::Ports { src, dst }) if opens => ip.tcp(src, dst, 0, WINDOW).syn().write(bytes, &[]),
        (6, Transport::Ports { src, dst }) => ip.tcp(src, dst, 0, WINDOW).ack(0).write(bytes, &[]),
        (17, Transport::Ports { src, dst }) => ip.udp(src, dst).write(bytes, &[]),
        (SCTP, Transport::Ports { src, dst }) => ip.write(bytes, IpNumber(SCTP), &sctp(src, dst, opens)),
        (1, Transport::Icmp { id, kind: 8, code: 0 }) => ip.icmpv4_echo_request(id, 1).write(bytes, &[]),
        (1, Transport::Icmp { id, kind: 0, code: 0 }) => ip.icmpv4_echo_reply(id, 1).write(bytes, &[]),
        (58, Transport::Icmp { id, kind: 128, code: 0 }) => ip.icmpv6_echo_request(id, 1).write(bytes, &[]),
        (58, Transport::Icmp { id, kind: 129, code: 0 }) => ip.icmpv6_echo_reply(id, 1).write(bytes, &[]),
        _ => return Err(Refusal::Protocol),
    };
    written.map_err(|_| Refusal::Protocol)
}

/// A common header (RFC 9260, section 3) and one chunk: INIT for a connection
/// that opens, HEARTBEAT for one that is open.
fn sctp(src: u16, dst: u16, opens: bool) -> Vec<u8> {
    let mut packet = Vec::with_capacity(32);
    packet.extend(src.to_be_bytes());
    packet.extend(dst.to_be_bytes());
    packet.extend([0; 8]); // verification tag, checksum
    if opens {
        packet.extend([1, 0, 0, 20]); // INIT: initiate tag, window, streams each way, first TSN
        packet.extend([0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
    } else {
        packet.extend([4, 0, 0, 8, 0, 1, 0, 4]); // HEARTBEAT with an empty parameter
    }
    let checksum = crc32c::crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}
