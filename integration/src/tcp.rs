//! A TCP connection that is held through everything: it sends a stream that
//! can be checked, at a modest rate, and looks whether the echo brings it back
//! whole and in order.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};
use serde::{Deserialize, Serialize};

use crate::clock::{MS, SECOND, monotonic_ns};
use crate::lab::Lab;
use crate::pattern::byte_at;
use crate::probe::ECHO_PORT;
use crate::worker::{Worker, write_result};

/// Bytes of a message, and messages a second: 64 kB/s.
const MESSAGE: usize = 1024;
const RATE: i64 = 64;

/// How long the last bytes may take to come back.
const DRAIN: i64 = 10 * SECOND;

/// How long the connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Said once the first message came back.
const READY: &str = "echoed";

/// What became of the connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TcpResult {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes that came back.
    pub received: u64,
    /// Whether all that came back was what was sent, in order.
    pub intact: bool,
    /// Whether the connection was still there at the end.
    pub open: bool,
    /// The longest time without a byte coming back, milliseconds. A message
    /// goes out every 15.6 ms, so that is the least it can be.
    pub longest_stall_ms: f64,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

impl TcpResult {
    /// Whether the stream was carried whole and in order to the end.
    pub fn good(&self) -> bool {
        self.open && self.intact && self.received == self.sent && self.sent > 0
    }
}

/// Holds a connection to `dst` until `stop` is raised.
///
/// # Errors
///
/// When it cannot be made, or `out` cannot be written. That it breaks is a
/// result.
pub fn run(dst: SocketAddrV4, out: &Path, stop: &AtomicBool) -> Result<()> {
    let stream = TcpStream::connect_timeout(&SocketAddr::V4(dst), CONNECT).context("connect")?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    stream.set_read_timeout(Some(Duration::from_millis(50))).context("set the read timeout")?;
    // A connection that is stuck must not keep the writer from ending.
    stream.set_write_timeout(Some(CONNECT)).context("set the write timeout")?;
    let sent = AtomicU64::new(0);
    let finished = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let reader = scope.spawn(|| read(&stream, &sent, &finished));
        let error = write(&stream, &sent, stop).err();
        finished.store(true, Ordering::Relaxed);
        reader.join().map(|mut result| {
            if let Some(error) = error {
                result.open = false;
                result.error.get_or_insert_with(|| error.to_string());
            }
            result
        })
    });
    write_result(out, &result.map_err(|_| anyhow::anyhow!("the reader panicked"))?)
}

fn write(mut stream: &TcpStream, sent: &AtomicU64, stop: &AtomicBool) -> std::io::Result<()> {
    let start = monotonic_ns();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = start + number * SECOND / RATE;
        let due = Timespec { tv_sec: due / SECOND, tv_nsec: due % SECOND };
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &due);
        let from = sent.load(Ordering::Relaxed);
        let message: Vec<u8> = (from..).take(MESSAGE).map(byte_at).collect();
        // Counted first: the echo may be here before this thread goes on.
        sent.fetch_add(MESSAGE as u64, Ordering::Relaxed);
        stream.write_all(&message)?;
    }
    Ok(())
}

fn read(mut stream: &TcpStream, sent: &AtomicU64, finished: &AtomicBool) -> TcpResult {
    let mut result =
        TcpResult { sent: 0, received: 0, intact: true, open: true, longest_stall_ms: 0.0, error: None };
    let mut buffer = [0; 16384];
    let mut last = monotonic_ns();
    let mut until = i64::MAX;
    let mut longest = 0;
    loop {
        if finished.load(Ordering::Relaxed) {
            let now = monotonic_ns();
            until = until.min(now + DRAIN);
            if result.received >= sent.load(Ordering::Relaxed) || now > until {
                break;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => {
                result.open = false;
                result.error = Some("the guest closed the connection".into());
                break;
            }
            Ok(length) => {
                if result.received == 0 {
                    println!("{READY}");
                }
                let now = monotonic_ns();
                longest = longest.max(now - last);
                last = now;
                result.intact &=
                    buffer[..length].iter().copied().eq((result.received..).take(length).map(byte_at));
                result.received += length as u64;
            }
            Err(e) if is_timeout(&e) => {}
            Err(e) => {
                result.open = false;
                result.error = Some(e.to_string());
                break;
            }
        }
    }
    result.sent = sent.load(Ordering::Relaxed);
    if result.received < result.sent {
        longest = longest.max(monotonic_ns() - last);
        result
            .error
            .get_or_insert_with(|| format!("{} bytes did not come back", result.sent - result.received));
    }
    result.longest_stall_ms = longest as f64 / MS as f64;
    result
}

/// Whether nothing has come yet, and nothing is wrong.
pub(crate) fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// A held connection that runs in a namespace of a lab.
#[derive(Debug)]
pub struct HeldTcp(Worker);

impl HeldTcp {
    /// Connects from namespace `ns` to the echo of `ip`; returns when the
    /// first message came back.
    ///
    /// # Errors
    ///
    /// When it cannot connect.
    pub async fn start(lab: &Lab, ns: &str, ip: &str) -> Result<Self> {
        let dst = format!("{ip}:{ECHO_PORT}");
        Ok(Self(Worker::start(lab, ns, "hold-tcp", &["--dst", &dst], READY).await?))
    }

    /// Stops sending, waits for what is on its way, and returns what became
    /// of the connection.
    ///
    /// # Errors
    ///
    /// When the program failed; not when the connection did.
    pub async fn finish(self) -> Result<TcpResult> {
        self.0.finish().await
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// Holds a connection to an echo that `spoil`s the second message.
    fn held(spoil: fn(&mut Vec<u8>)) -> TcpResult {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(dst) = listener.local_addr().unwrap() else { unreachable!() };
        let stop = AtomicBool::new(false);
        let out = tempfile::NamedTempFile::new().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                for number in 0..4 {
                    let mut message = vec![0; MESSAGE];
                    stream.read_exact(&mut message).unwrap();
                    if number == 1 {
                        spoil(&mut message);
                    }
                    stream.write_all(&message).unwrap();
                }
                stop.store(true, Ordering::Relaxed);
                let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
            });
            run(dst, out.path(), &stop).unwrap();
        });
        serde_json::from_slice(&std::fs::read(out.path()).unwrap()).unwrap()
    }

    #[test]
    fn an_honest_echo_is_good() {
        let result = held(|_| {});
        assert!(result.good(), "{result:?}");
        assert!(result.sent >= 4 * MESSAGE as u64);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let result = held(|message| message[7] ^= 1);
        assert!(!result.intact && !result.good(), "{result:?}");
    }
}
