//! The packets that make a connection tracker know a connection.
//!
//! One packet opens an entry, an answer confirms it, and only after a third
//! one is a TCP connection established for both directions (OVS
//! `lib/conntrack-tcp.c`), so that it is remembered for a day and not for half
//! a minute. No packet has a payload. Sequence numbers are zeros, because no
//! tracker tells the real ones. The kernel does not compare them in a connection
//! that it has met in its middle (`nf_conntrack_proto_tcp.c`,
//! `IP_CT_TCP_FLAG_BE_LIBERAL`); Open vSwitch's userspace tracker does, unless it
//! is told not to (`dpctl/ct-disable-tcp-seq-chk`), and would take the real
//! packets for invalid ones.

use std::net::IpAddr;

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep};

use crate::{Backends, Burden, Connection, Progress, Transport, Tuple};

/// Why a connection cannot be carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not only the destination, or to more backends than there is room for ([`Backends::MAX`]).
    #[error("its addresses are translated in a way that cannot be repeated")]
    Translated,
    /// OVN translates it twice, the second time in a zone of the switch, and takes the
    /// source for translated as soon as the destination is (`ls_in_nat_hairpin` in
    /// `northd/northd.c`): half of it would stall for good, without either it may begin anew.
    #[error("it is answered by the port itself, and one half of its translation is not the port's")]
    Hairpin,
    /// What the helper knows of the connection stays behind.
    #[error("a helper looks into it")]
    Helper,
    /// It exists because of another one.
    #[error("it was expected because of another connection")]
    Child,
    /// See [`Burden`].
    #[error("its ct_mark or ct_label has bits that find no room")]
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
            Self::Hairpin => "hairpin",
            Self::Helper => "helper",
            Self::Child => "child",
            Self::Label => "label",
            Self::Protocol => "protocol",
        }
    }
}

/// The TTL (hop limit) of a packet that makes an entry: it may be committed.
pub const COMMITS: u8 = 64;
/// The TTL of one that only goes on with an entry. If the first were lost and
/// this were committed, the two sides would have changed places, and with them
/// what the policy lets them do.
pub const CONFIRMS: u8 = 1;

const SCTP: u8 = 132;
/// Chunks from which a tracker learns of an association in its middle (RFC 9260, section 3.2).
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;

impl Connection {
    /// Complete Ethernet frames, in the order in which they have to be tracked:
    /// those with the TTL [`COMMITS`], or that of one of the `backends`, and
    /// [`CONFIRMS`]; none for a connection that is over, or not open yet: who
    /// opens it will try again. A backend that is not among them is added.
    ///
    /// # Errors
    ///
    /// The connection cannot be carried over.
    pub fn frames(&self, backends: &mut Backends) -> Result<Vec<Vec<u8>>, Refusal> {
        if self.helper.is_some() {
            return Err(Refusal::Helper);
        }
        if self.is_child {
            return Err(Refusal::Child);
        }
        let backend = self.backend()?;
        let addresses = Burden { mark: self.mark, label: self.label }.addresses()?;
        if self.progress != Progress::Open {
            return Ok(Vec::new());
        }
        // Before it has a place among the backends it has to be one that can be carried.
        let answer = self.frame(&self.reply, CONFIRMS, addresses)?;
        let ttl = backend.map_or(Ok(COMMITS), |backend| backends.ttl_of(backend))?;
        let first = self.frame(&self.orig, ttl, addresses)?;
        Ok(match self.protocol {
            6 | SCTP => vec![first.clone(), answer, first],
            _ => vec![first, answer],
        })
    }

    fn frame(&self, tuple: &Tuple, ttl: u8, (dst, src): ([u8; 6], [u8; 6])) -> Result<Vec<u8>, Refusal> {
        let ethernet = PacketBuilder::ethernet2(src, dst);
        let ip = match (tuple.src, tuple.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), ttl),
            (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), ttl),
            _ => return Err(Refusal::Protocol),
        };
        let sctp = if ttl == CONFIRMS { (self.tags[1], HEARTBEAT_ACK) } else { (self.tags[0], HEARTBEAT) };
        let mut bytes = Vec::with_capacity(80);
        write(ip, self.protocol, tuple.transport, sctp, &mut bytes)?;
        Ok(bytes)
    }
}

/// `sctp` is the verification tag and the type of the chunk, for SCTP. Writing
/// to memory fails only if lengths do not fit, and ours are a few octets.
fn write(
    ip: PacketBuilderStep<etherparse::IpHeaders>,
    protocol: u8,
    transport: Transport,
    (tag, chunk): (u32, u8),
    bytes: &mut Vec<u8>,
) -> Result<(), Refusal> {
    const WINDOW: u16 = 1024;
    let written = match (protocol, transport) {
        (6, Transport::Ports { src, dst }) => ip.tcp(src, dst, 0, WINDOW).ack(0).write(bytes, &[]),
        (17, Transport::Ports { src, dst }) => ip.udp(src, dst).write(bytes, &[]),
        (SCTP, Transport::Ports { src, dst }) => ip.write(bytes, IpNumber(SCTP), &sctp(src, dst, tag, chunk)),
        (1, Transport::Icmp { id, kind: 8, code: 0 }) => ip.icmpv4_echo_request(id, 1).write(bytes, &[]),
        (1, Transport::Icmp { id, kind: 0, code: 0 }) => ip.icmpv4_echo_reply(id, 1).write(bytes, &[]),
        (58, Transport::Icmp { id, kind: 128, code: 0 }) => ip.icmpv6_echo_request(id, 1).write(bytes, &[]),
        (58, Transport::Icmp { id, kind: 129, code: 0 }) => ip.icmpv6_echo_reply(id, 1).write(bytes, &[]),
        _ => return Err(Refusal::Protocol),
    };
    written.map_err(|_| Refusal::Protocol)
}

/// A common header (RFC 9260, section 3) and a chunk with an empty parameter.
fn sctp(src: u16, dst: u16, tag: u32, chunk: u8) -> Vec<u8> {
    let mut packet = Vec::with_capacity(20);
    packet.extend(src.to_be_bytes());
    packet.extend(dst.to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]); // checksum
    packet.extend([chunk, 0, 0, 8, 0, 1, 0, 4]);
    let checksum = crc32c::crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}
