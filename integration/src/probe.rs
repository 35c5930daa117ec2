//! UDP probes: so many packets a second to the echo of a guest, each with a
//! number, and when which of them was answered.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};
use serde::{Deserialize, Serialize};

use crate::clock::{ClockPair, SECOND, monotonic_ns};
use crate::lab::Lab;
use crate::raw;
use crate::worker::{Worker, write_result};

/// The port of the guest's echo.
pub const ECHO_PORT: u16 = 7777;

/// A probe's payload: its number and when it was sent, both 64 bits in
/// network byte order.
pub const PAYLOAD: usize = 16;

/// How long nothing must have come, after the last packet, for the rest to be
/// given up.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// Said once the first answer is there.
const READY: &str = "answered";

/// What a prober has seen. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Both clocks at the start.
    pub clock: ClockPair,
    /// When each packet was sent; the index is its number.
    pub sent: Vec<i64>,
    /// Every answer that came, in order of arrival: number and time. A number
    /// that comes twice was duplicated on the way there or back.
    pub arrivals: Vec<(u64, i64)>,
}

/// The number in a probe's payload.
pub(crate) fn number_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().copied().filter(|_| payload.len() == PAYLOAD).map(u64::from_be_bytes)
}

/// Sends `rate` packets a second to `dst` until `stop` is raised.
///
/// # Errors
///
/// When a socket cannot be had or `out` not be written. A packet that cannot
/// be sent is none: it counts as sent and lost.
pub fn run(dst: SocketAddrV4, rate: u32, out: &Path, stop: &AtomicBool) -> Result<()> {
    ensure!((1..=100_000).contains(&rate), "a rate is 1 to 100000 packets a second");
    let socket = UdpSocket::bind("0.0.0.0:0").context("open a UDP socket")?;
    raw::prepare(&socket)?;
    let clock = ClockPair::now();
    let answered = AtomicUsize::new(0);
    let sender_done = AtomicBool::new(false);
    let (sent, arrivals) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&socket, dst, &answered, &sender_done));
        let sent = send(&socket, dst, rate, stop);
        let mut last = (monotonic_ns(), 0);
        while answered.load(Ordering::Relaxed) < sent.len() && monotonic_ns() - last.0 < as_ns(STRAGGLERS) {
            thread::sleep(Duration::from_millis(5));
            let now = answered.load(Ordering::Relaxed);
            if now > last.1 {
                last = (monotonic_ns(), now);
            }
        }
        sender_done.store(true, Ordering::Relaxed);
        (sent, receiver.join())
    });
    let arrivals = arrivals.map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    write_result(out, &ProbeResult { clock, sent, arrivals })
}

fn as_ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn send(socket: &UdpSocket, dst: SocketAddrV4, rate: u32, stop: &AtomicBool) -> Vec<i64> {
    let start = monotonic_ns();
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = sent.len() as u64;
        // From the start, not from the packet before: being late once does
        // not make all that follow late, and what is overdue goes at once.
        let due = start + i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(SECOND) / i64::from(rate);
        let due = Timespec { tv_sec: due / SECOND, tv_nsec: due % SECOND };
        // Cut short by a signal, it is a little early.
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &due);
        let now = monotonic_ns();
        let mut payload = [0; PAYLOAD];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        payload[8..].copy_from_slice(&now.to_be_bytes());
        let _ = socket.send_to(&payload, dst);
        sent.push(now);
    }
    sent
}

fn receive(
    socket: &UdpSocket,
    dst: SocketAddrV4,
    answered: &AtomicUsize,
    done: &AtomicBool,
) -> Result<Vec<(u64, i64)>> {
    let mut arrivals = Vec::new();
    let mut seen: Vec<bool> = Vec::new();
    let mut buffer = [0; 2048];
    while !done.load(Ordering::Relaxed) {
        let Some(received) = raw::receive(socket, &mut buffer)? else { continue };
        let from = received.from.as_ref().and_then(|a| a.as_sockaddr_in().copied()).map(SocketAddrV4::from);
        let Some(number) = number_of(&buffer[..received.length]).filter(|_| from == Some(dst)) else {
            continue;
        };
        if arrivals.is_empty() {
            println!("{READY}");
        }
        arrivals.push((number, received.at_ns));
        // Each number once; a packet cannot name one that was not sent, but
        // what arrives is not to be believed.
        let index = usize::try_from(number).ok().filter(|n| *n <= seen.len() + 1_000_000);
        if let Some(index) = index {
            if seen.len() <= index {
                seen.resize(index + 1, false);
            }
            if !std::mem::replace(&mut seen[index], true) {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(arrivals)
}

/// A prober that runs in a namespace of a lab.
#[derive(Debug)]
pub struct Prober(Worker);

impl Prober {
    /// Starts `rate` packets a second from namespace `ns` to the echo of
    /// `ip`, and returns when the first one was answered.
    ///
    /// # Errors
    ///
    /// When none is answered.
    pub async fn start(lab: &Lab, ns: &str, ip: &str, rate: u32) -> Result<Self> {
        let (dst, rate) =
            (SocketAddr::new(ip.parse().context("the guest's address")?, ECHO_PORT), rate.to_string());
        let args = ["--dst", &dst.to_string(), "--rate", &rate];
        Ok(Self(Worker::start(lab, ns, "probe", &args, READY).await?))
    }

    /// Stops sending, waits until all is answered or nothing has come for
    /// half a second, and returns what was seen.
    ///
    /// # Errors
    ///
    /// When the prober failed.
    pub async fn finish(self) -> Result<ProbeResult> {
        self.0.finish().await
    }
}
