//! Connections that a chassis tracks, and how another comes to track them.
//!
//! A stateful ACL lets a packet pass because the chassis remembers the
//! connection it belongs to. When a guest moves, the memory has to move with
//! it, or the next packet of a quiet connection is a stranger on the target.
//! [`Connection`] reads what Open vSwitch prints of its connection tracker
//! (`ovs-appctl dpctl/dump-conntrack -m`, for every datapath the same), and
//! [`Connection::frames`] makes the few packets which, committed on the target,
//! leave the same entry there:
//!
//! ```text
//!  source                                        target
//!  dump-conntrack zone=N ─► Connection ─► frames ══ tunnel ══► ct(commit,zone=M,exec(…))
//! ```
//!
//! What an entry carries besides its addresses, `ct_mark` and `ct_label`,
//! travels in the Ethernet addresses of these packets ([`Burden`]), from where
//! the committing flow moves it to its place. Only packets of the original
//! direction are to be committed ([`COMMITS`], and for each of the [`Backends`]
//! another TTL), the others just tracked.
//!
//! ```
//! use limosa_conntrack::{Backends, Connection};
//!
//! let line = "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=53,dport=5353),\
//!             reply=(src=10.0.0.2,dst=10.0.0.1,sport=5353,dport=53),id=0,zone=7,status=0,mark=2";
//! let connection: Connection = line.parse()?;
//! assert_eq!(connection.mark, 2);
//! assert_eq!(connection.frames(&mut Backends::default())?.len(), 2); // one each way
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod burden;
mod dump;
mod frames;

use std::net::IpAddr;

pub use backend::Backends;
pub use burden::{Burden, Move};
pub use dump::{NotAConnection, parse};
pub use frames::{COMMITS, CONFIRMS, Refusal};

/// One entry of a connection tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The number of the protocol above IP.
    pub protocol: u8,
    /// As the first packet had it.
    pub orig: Tuple,
    /// As the answers have it.
    pub reply: Tuple,
    /// Of whom it is; numbers of zones mean nothing on another chassis.
    pub zone: u16,
    /// `ct_mark`.
    pub mark: u32,
    /// `ct_label`.
    pub label: u128,
    pub progress: Progress,
    /// SCTP's verification tags, of the original direction and of the other,
    /// where the tracker knows them (the kernel's does); zeros otherwise.
    pub tags: [u32; 2],
    /// The helper that looks into its packets (`ftp`, `tftp`), if there is one.
    pub helper: Option<String>,
    /// It was expected because of another connection.
    pub is_child: bool,
}

/// Where a packet comes from and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub transport: Transport,
}

/// What tells connections between the same two addresses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP, UDP, SCTP; zeros for what has no ports.
    Ports { src: u16, dst: u16 },
    /// ICMP and ICMPv6.
    Icmp { id: u16, kind: u8, code: u8 },
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Only its first packet was seen.
    Opening,
    /// Packets pass, or may pass.
    Open,
    /// It has ended; the tracker just has not forgotten it.
    Over,
}

impl Tuple {
    /// The same seen from the other end, without any translation of addresses.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let transport = match self.transport {
            Transport::Ports { src, dst } => Transport::Ports { src: dst, dst: src },
            Transport::Icmp { id, kind, code } => Transport::Icmp { id, kind: answer(kind, self.src), code },
        };
        Self { src: self.dst, dst: self.src, transport }
    }
}

/// The type of the answer to an ICMP request (RFC 792, RFC 4443); other types have none.
fn answer(kind: u8, src: IpAddr) -> u8 {
    let pairs: &[(u8, u8)] =
        if src.is_ipv4() { &[(8, 0), (13, 14), (15, 16), (17, 18)] } else { &[(128, 129)] };
    let other = pairs.iter().find_map(|&(request, reply)| match kind {
        _ if kind == request => Some(reply),
        _ if kind == reply => Some(request),
        _ => None,
    });
    other.unwrap_or(kind)
}
