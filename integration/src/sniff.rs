//! What passes an interface: the guest's announcements, the probes that reach
//! it and its answers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::clock::{ClockPair, monotonic_ns};
use crate::lab::Lab;
use crate::probe::{ECHO_PORT, number_of};
use crate::raw::{ETHERTYPE_RARP, PacketSocket};
use crate::worker::{Worker, write_result};

/// Said once the socket is open.
const READY: &str = "listening";

/// Numbers and times of a peer's probes, in order.
pub type Seen = BTreeMap<Ipv4Addr, Vec<(u64, i64)>>;

/// What a sniffer has seen. Times are nanoseconds of `CLOCK_MONOTONIC`, taken
/// by the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SniffResult {
    /// Both clocks at the start.
    pub clock: ClockPair,
    /// Each RARP: when, and the MAC address it announces.
    pub rarps: Vec<(i64, String)>,
    /// Probes on their way to the guest, by the peer that sent them.
    pub requests: Seen,
    /// The guest's answers, by the peer they are for.
    pub answers: Seen,
    /// Frames that it had no room for. What it says of a packet that it has not
    /// seen is worth nothing then.
    pub missed: u32,
}

impl SniffResult {
    /// Nothing yet.
    pub fn empty() -> Self {
        Self {
            clock: ClockPair::now(),
            rarps: Vec::new(),
            requests: Seen::new(),
            answers: Seen::new(),
            missed: 0,
        }
    }
}

/// A frame that counts.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Rarp([u8; 6]),
    Request(Ipv4Addr, u64),
    Answer(Ipv4Addr, u64),
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.first_chunk().copied().map(u16::from_be_bytes)
}

fn ipv4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes.get(at..at + 4)?.first_chunk::<4>().copied().map(Ipv4Addr::from)
}

/// Ethernet, then RARP (RFC 903: the sender's hardware address is at octet 8)
/// or IPv4 and UDP with a probe in it.
fn classify(frame: &[u8]) -> Option<Frame> {
    const ETHERTYPE_IPV4: u16 = 0x0800;
    const PROTOCOL_UDP: u8 = 17;
    let packet = frame.get(14..)?;
    match be16(frame, 12)? {
        ETHERTYPE_RARP => Some(Frame::Rarp(*packet.get(8..14)?.first_chunk()?)),
        ETHERTYPE_IPV4 => {
            let udp = packet.get(usize::from(packet.first()? & 0xf) * 4..)?;
            let length = usize::from(be16(udp, 4)?);
            // What follows the datagram is Ethernet's padding.
            let number = number_of(udp.get(8..length)?).filter(|_| packet.get(9) == Some(&PROTOCOL_UDP))?;
            match (be16(udp, 0)?, be16(udp, 2)?) {
                (_, ECHO_PORT) => Some(Frame::Request(ipv4(packet, 12)?, number)),
                (ECHO_PORT, _) => Some(Frame::Answer(ipv4(packet, 16)?, number)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Watches `iface` until `stop` is raised.
///
/// # Errors
///
/// When there is no such interface here, or `out` cannot be written.
pub fn run(iface: &str, out: &Path, stop: &AtomicBool) -> Result<()> {
    let socket = PacketSocket::open(iface)?;
    let mut result = SniffResult::empty();
    println!("{READY}");
    let mut buffer = [0; 2048];
    let mut until = i64::MAX;
    loop {
        if stop.load(Ordering::Relaxed) {
            until = until.min(monotonic_ns());
        }
        let received = match socket.receive(&mut buffer)? {
            // What passed until then is still to be read.
            Some(received) if received.at_ns <= until => received,
            None if until == i64::MAX => continue,
            _ => break,
        };
        let at = received.at_ns;
        result.missed = result.missed.max(received.missed);
        match classify(&buffer[..received.length]) {
            Some(Frame::Rarp(mac)) => result.rarps.push((at, mac.map(|o| format!("{o:02x}")).join(":"))),
            Some(Frame::Request(peer, number)) => result.requests.entry(peer).or_default().push((number, at)),
            Some(Frame::Answer(peer, number)) => result.answers.entry(peer).or_default().push((number, at)),
            None => {}
        }
    }
    write_result(out, &result)
}

/// A sniffer that runs in a namespace of a lab.
#[derive(Debug)]
pub struct Sniffer(Worker);

impl Sniffer {
    /// Starts watching an interface in namespace `ns`; what passes after this
    /// returned is seen.
    ///
    /// # Errors
    ///
    /// When there is no such interface.
    pub async fn start(lab: &Lab, ns: &str, iface: &str) -> Result<Self> {
        Ok(Self(Worker::start(lab, ns, "sniff", &["--iface", iface], READY).await?))
    }

    /// Stops, and returns what was seen.
    ///
    /// # Errors
    ///
    /// When the sniffer failed.
    pub async fn finish(self) -> Result<SniffResult> {
        self.0.finish().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xff; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend([192, 168, 7, 21, 192, 168, 7, 10]);
        frame.extend(source.to_be_bytes());
        frame.extend(destination.to_be_bytes());
        frame.extend(u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn tells_probes_answers_and_announcements_apart() {
        let payload: Vec<u8> = [5u64.to_be_bytes(), [0; 8]].concat();
        let mut request = udp(40000, ECHO_PORT, &payload);
        let peer = Ipv4Addr::new(192, 168, 7, 21);
        assert_eq!(classify(&request), Some(Frame::Request(peer, 5)));
        request.resize(request.len() + 2, 0);
        assert_eq!(classify(&request), Some(Frame::Request(peer, 5)));
        let guest = Ipv4Addr::new(192, 168, 7, 10);
        assert_eq!(classify(&udp(ECHO_PORT, 40000, &payload)), Some(Frame::Answer(guest, 5)));
        assert_eq!(classify(&udp(40000, 53, &payload)), None);
        assert_eq!(classify(&udp(40000, ECHO_PORT, &payload[..8])), None);
        let mut rarp = vec![0xff; 12];
        rarp.extend([0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3, 2, 0, 0, 0, 1, 1]);
        assert_eq!(classify(&rarp), Some(Frame::Rarp([2, 0, 0, 0, 1, 1])));
    }

    #[test]
    fn a_short_frame_is_nothing() {
        let whole = udp(1, ECHO_PORT, &[0; 16]);
        for end in 0..whole.len() {
            assert_eq!(classify(&whole[..end]), None, "{end} bytes");
        }
    }
}
