//! Packets that the policy denies, of every kind, and who gets them all the same.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use etherparse::PacketBuilder;
use etherparse::err::packet::BuildWriteError;

use crate::lab::Lab;
use crate::raw::{PacketSocket, parse_mac};
use crate::worker::{Worker, write_result};

/// In every stray's payload, before its sender's name.
const MARK: &[u8] = b"limosa-stray:";
/// A name's length in it.
const NAME: usize = 8;

/// Between one of each kind and the next.
const PAUSE: Duration = Duration::from_millis(5);

/// A port that the policy opens to nobody.
const PORT: u16 = 5000;

/// An ICMP timestamp request (RFC 792).
const TIMESTAMP: u8 = 13;

/// Said once the first have been sent.
const READY: &str = "sending";

/// What `limosa-lab stray` takes.
#[derive(Debug, Args)]
pub struct StrayArgs {
    /// The sender's name, at most eight letters
    #[arg(long)]
    name: String,
    /// The sender's MAC address
    #[arg(long, value_parser = parse_mac)]
    mac: [u8; 6],
    /// The sender's address
    #[arg(long)]
    ip: Ipv4Addr,
    /// The MAC address that they are for
    #[arg(long, value_parser = parse_mac)]
    to_mac: [u8; 6],
    /// The address that they are for
    #[arg(long)]
    to_ip: Ipv4Addr,
    /// The file for the result (JSON)
    #[arg(long)]
    out: PathBuf,
}

/// How many strays came, by sender.
pub type Arrived = BTreeMap<String, u64>;

/// Sends strays on `eth0` and counts those of others until `stop` is raised.
///
/// # Errors
///
/// When the interface is not there or `out` cannot be written.
pub fn run(args: &StrayArgs, stop: &AtomicBool) -> Result<()> {
    let socket = PacketSocket::open("eth0")?;
    let frames = frames(args)?;
    let mut arrived = Arrived::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ready = Some(READY);
            while !stop.load(Ordering::Relaxed) {
                // A link that is down for a moment takes none.
                frames.iter().for_each(|frame| drop(socket.send(frame)));
                ready.take().inspect(|ready| println!("{ready}"));
                thread::sleep(PAUSE);
            }
        });
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            let Some(received) = socket.receive(&mut buffer)? else { continue };
            if let Some(sender) = sender(&buffer[..received.length]) {
                *arrived.entry(sender).or_default() += 1;
            }
        }
        anyhow::Ok(())
    })?;
    write_result(&args.out, &arrived)
}

/// A stray's sender; none if it is something else.
fn sender(frame: &[u8]) -> Option<String> {
    let at = frame.windows(MARK.len()).position(|bytes| bytes == MARK)? + MARK.len();
    Some(String::from_utf8_lossy(frame.get(at..at + NAME)?).trim_end().to_owned())
}

/// One of each kind: to a port, to all, to a group; TCP, UDP, ICMP.
fn frames(args: &StrayArgs) -> Result<Vec<Vec<u8>>> {
    let payload = [MARK, format!("{:NAME$}", args.name).as_bytes()].concat();
    let begin =
        |mac, ip: Ipv4Addr| PacketBuilder::ethernet2(args.mac, mac).ipv4(args.ip.octets(), ip.octets(), 64);
    let one = || begin(args.to_mac, args.to_ip);
    let all = || begin([0xff; 6], Ipv4Addr::new(192, 168, 7, 255));
    let group = || begin([1, 0, 0x5e, 0, 1, 7], Ipv4Addr::new(239, 0, 1, 7));
    [
        bytes(|frame| one().udp(PORT, PORT).write(frame, &payload)),
        bytes(|frame| one().tcp(PORT, PORT, 7, 1024).syn().write(frame, &payload)),
        // As if it belonged to something.
        bytes(|frame| one().tcp(PORT, PORT, 7, 1024).ack(7).write(frame, &payload)),
        bytes(|frame| one().icmpv4_raw(TIMESTAMP, 0, [0; 4]).write(frame, &payload)),
        bytes(|frame| all().udp(PORT, PORT).write(frame, &payload)),
        bytes(|frame| group().udp(PORT, PORT).write(frame, &payload)),
    ]
    .into_iter()
    .collect()
}

fn bytes(write: impl FnOnce(&mut Vec<u8>) -> std::result::Result<(), BuildWriteError>) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    write(&mut frame).context("write a packet")?;
    Ok(frame)
}

/// Strays that are sent from `eth0` of a namespace, and looked for there.
#[derive(Debug)]
pub struct Strays(Worker);

impl Strays {
    /// Starts them from the port with these addresses to the other one; they
    /// are told from others by `name`.
    ///
    /// # Errors
    ///
    /// When the namespace has no `eth0`.
    pub async fn start(lab: &Lab, ns: &str, name: &str, from: [&str; 2], to: [&str; 2]) -> Result<Self> {
        let args = [
            ["--name", name],
            ["--mac", from[0]],
            ["--ip", from[1]],
            ["--to-mac", to[0]],
            ["--to-ip", to[1]],
        ];
        Ok(Self(Worker::start(lab, ns, "stray", args.as_flattened(), READY).await?))
    }

    /// Stops, and returns how many came here, by sender.
    ///
    /// # Errors
    ///
    /// When it failed.
    pub async fn finish(self) -> Result<Arrived> {
        self.0.finish().await
    }
}
