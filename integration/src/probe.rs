//! UDP probes: so many packets a second to a guest, each with a number, and
//! when which of them was answered.
//!
//! A guest under emulation cannot answer ten thousand a second, nor even look at
//! them. Above [`ANSWERED_RATE`] only some of them may be for the echo; the others go
//! to another address of the same port, which the guest's network card passes over,
//! and count on the guest's interface ([`crate::sniff`]).

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};
use serde::{Deserialize, Serialize};

use crate::clock::{ClockPair, MS, SECOND, monotonic_ns};
use crate::lab::Lab;
use crate::raw;
use crate::worker::{Worker, write_result};

/// The port of the guest's echo.
pub const ECHO_PORT: u16 = 7777;

/// Packets a second from one peer up to which the guest answers every one.
pub const ANSWERED_RATE: u32 = 1000;

/// Packets a second that one prober may send.
pub const MAX_RATE: u32 = 100_000;

/// At more than that the packets of so many nanoseconds are sent at once, at the same
/// moments by everybody: each packet by itself would wake every switch on its way, and
/// two cores had time for nothing else at 10,000 a second from each of three.
const MOMENT: u64 = MS.unsigned_abs();

/// Packets a second that ask for an answer, of more than that.
const SAMPLE_RATE: u32 = 100;

/// A probe's payload: its number and when it was sent, both 64 bits in
/// network byte order.
pub const PAYLOAD: usize = 16;

/// How long nothing must have come, after the last packet was sent, for the
/// rest to be given up: once the last one is answered there is little to wait
/// for, because packets keep their order; until then the guest may be late.
const SILENCE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(3);

/// Said once the first answer is there.
const READY: &str = "answered";

/// What a prober has seen. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Both clocks at the start.
    pub clock: ClockPair,
    /// When each packet was sent; the index is its number.
    pub sent: Vec<i64>,
    /// One of so many asks for an answer: those whose number it divides.
    pub every: u64,
    /// Every answer that came, in order of arrival: number and time. A number
    /// that comes twice was duplicated on the way there or back.
    pub arrivals: Vec<(u64, i64)>,
}

impl ProbeResult {
    /// Whether this packet asks for an answer.
    pub fn asks(&self, number: u64) -> bool {
        number.is_multiple_of(self.every)
    }
}

/// One of how many asks for an answer, at so many packets a second.
pub const fn asks_every(rate: u32) -> u64 {
    if rate <= ANSWERED_RATE { 1 } else { rate.div_ceil(SAMPLE_RATE) as u64 }
}

/// The number in a probe's payload.
pub(crate) fn number_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().copied().filter(|_| payload.len() == PAYLOAD).map(u64::from_be_bytes)
}

/// Sends `rate` packets a second to `dst` until `stop` is raised; with an address
/// for those that ask for no answer, one of [`asks_every`] goes to `dst`.
///
/// # Errors
///
/// When a socket cannot be had or `out` not be written. A packet that cannot
/// be sent is none: it counts as sent and lost.
pub fn run(
    dst: SocketAddrV4,
    silent: Option<Ipv4Addr>,
    rate: u32,
    out: &Path,
    stop: &AtomicBool,
) -> Result<()> {
    ensure!((1..=MAX_RATE).contains(&rate), "a rate is 1 to {MAX_RATE} packets a second");
    let socket = UdpSocket::bind("0.0.0.0:0").context("open a UDP socket")?;
    raw::prepare(&socket)?;
    let clock = ClockPair::now();
    let (progress, every) = (Progress::default(), silent.map_or(1, |_| asks_every(rate)));
    let sender_done = AtomicBool::new(false);
    let (sent, arrivals) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&socket, dst, every, &progress, &sender_done));
        let sent = send(
            &socket,
            [dst, silent.map_or(dst, |ip| SocketAddrV4::new(ip, dst.port()))],
            every,
            rate,
            stop,
        );
        let asked = sent.len().div_ceil(usize::try_from(every).unwrap_or(usize::MAX));
        let (mut last, mut seen) = (monotonic_ns(), 0);
        loop {
            let (answered, next) = (progress.answered.load(Relaxed), progress.next.load(Relaxed));
            if answered > seen {
                (last, seen) = (monotonic_ns(), answered);
            }
            let patience = if next >= asked { SILENCE } else { PATIENCE };
            if answered >= asked || monotonic_ns() - last > as_ns(patience) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        sender_done.store(true, Relaxed);
        (sent, receiver.join())
    });
    let arrivals = arrivals.map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    write_result(out, &ProbeResult { clock, sent, every, arrivals })
}

fn as_ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// To the first address one of `every`, to the second the others.
fn send(socket: &UdpSocket, to: [SocketAddrV4; 2], every: u64, rate: u32, stop: &AtomicBool) -> Vec<i64> {
    let start = monotonic_ns().unsigned_abs();
    let mut sent = Vec::new();
    while !stop.load(Relaxed) {
        let number = sent.len() as u64;
        // From the start, not from the packet before: being late once does
        // not make all that follow late, and what is overdue goes at once.
        let due = start + number.saturating_mul(SECOND.unsigned_abs()) / u64::from(rate);
        let due = if rate > ANSWERED_RATE { due.next_multiple_of(MOMENT) } else { due }.cast_signed();
        let due = Timespec { tv_sec: due / SECOND, tv_nsec: due % SECOND };
        // Cut short by a signal, it is a little early.
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &due);
        let now = monotonic_ns();
        let mut payload = [0; PAYLOAD];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        payload[8..].copy_from_slice(&now.to_be_bytes());
        let _ = socket.send_to(&payload, to[usize::from(!number.is_multiple_of(every))]);
        sent.push(now);
    }
    sent
}

/// How far the answers have come.
#[derive(Debug, Default)]
struct Progress {
    /// How many of the packets that ask are answered.
    answered: AtomicUsize,
    /// One more than the place among them of the last that is.
    next: AtomicUsize,
}

fn receive(
    socket: &UdpSocket,
    dst: SocketAddrV4,
    every: u64,
    progress: &Progress,
    done: &AtomicBool,
) -> Result<Vec<(u64, i64)>> {
    let mut arrivals = Vec::new();
    let mut seen: Vec<bool> = Vec::new();
    let mut buffer = [0; 2048];
    while !done.load(Relaxed) {
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
        let place = number.is_multiple_of(every).then_some(number / every);
        let index = place.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= seen.len() + 1_000_000);
        if let Some(index) = index {
            if seen.len() <= index {
                seen.resize(index + 1, false);
            }
            if !std::mem::replace(&mut seen[index], true) {
                progress.answered.fetch_add(1, Relaxed);
                progress.next.fetch_max(index + 1, Relaxed);
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
        Self::start_at(lab, ns, ip, None, rate).await
    }

    /// As [`start`](Self::start); those that ask for no answer go to `silent`, if
    /// there is that address.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_at(lab: &Lab, ns: &str, ip: &str, silent: Option<&str>, rate: u32) -> Result<Self> {
        let (dst, rate) = (format!("{ip}:{ECHO_PORT}"), rate.to_string());
        let mut args = vec!["--dst", &dst, "--rate", &rate];
        args.extend(silent.iter().flat_map(|ip| ["--silent", ip]));
        Ok(Self(Worker::start(lab, ns, "probe", &args, READY).await?))
    }

    /// Stops sending, waits until all is answered or nothing more comes, and
    /// returns what was seen.
    ///
    /// # Errors
    ///
    /// When the prober failed.
    pub async fn finish(self) -> Result<ProbeResult> {
        self.0.finish().await
    }
}
