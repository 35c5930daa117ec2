//! Connections between a peer and the guest, held until SIGTERM; then each has
//! to go on.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::kind::{Kind, Talk, Transport, Verdict};
use super::link::{Link, Own};
use super::orders::Commander;
use crate::lab::Lab;
use crate::pattern::byte_at;
use crate::tcp::is_timeout;
use crate::worker::{Worker, write_result};

/// Peers listen from this port on, in the range to which the guest may connect.
pub(super) const FIRST_PORT: u16 = 9000;

/// Bytes of a message, and of a piece of a stream.
const MESSAGE: u64 = 64;
const PIECE: u64 = 4096;
/// What may be on its way in a stream, bytes.
const WINDOW: u64 = 1 << 16;
/// How often what never pauses has to go on in the end.
const STEPS_AFTER: u32 = 5;
/// How long there is a pause between two steps.
const PAUSE: Duration = Duration::from_millis(20);

/// How long after one idle connection the next one speaks.
const APART: Duration = Duration::from_millis(40);

/// How soon something is said again where nobody else does it.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// How long the beginning may take, and what decides in the end.
pub(super) const BEGIN: Duration = Duration::from_secs(20);
pub(super) const DECIDE: Duration = Duration::from_secs(8);

/// Said once every connection stands.
const READY: &str = "all are open";

/// What `limosa-lab hold` takes.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The guest's IPv4 address
    #[arg(long)]
    guest: IpAddr,
    /// The guest's IPv6 address
    #[arg(long)]
    guest6: IpAddr,
    /// This peer's IPv4 address
    #[arg(long)]
    own: IpAddr,
    /// This peer's IPv6 address
    #[arg(long)]
    own6: IpAddr,
    /// The IPv4 address by which a load balancer offers this peer
    #[arg(long)]
    vip: IpAddr,
    /// The IPv6 address by which a load balancer offers this peer
    #[arg(long)]
    vip6: IpAddr,
    /// This peer's name
    #[arg(long)]
    name: String,
    /// The first port to listen on
    #[arg(long)]
    first_port: u16,
    /// The kinds of connections (JSON)
    #[arg(long)]
    kinds: String,
    /// The file for the result (JSON)
    #[arg(long)]
    out: PathBuf,
}

/// Opens the connections and holds them until `stop` is raised.
///
/// # Errors
///
/// When one cannot be opened or the result not be written.
pub fn run(args: &HoldArgs, stop: &AtomicBool) -> Result<()> {
    let kinds: Vec<Kind> = serde_json::from_str(&args.kinds).context("understand --kinds")?;
    let open = |(kind, port): (Kind, u16)| {
        let [guest, own, vip] =
            if kind.ip6 { [args.guest6, args.own6, args.vip6] } else { [args.guest, args.own, args.vip] };
        let own = Own::new(kind, own, vip, port);
        Held::open(kind, guest, own, Commander::new(args.guest)?).with_context(|| format!("open: {kind}"))
    };
    let held = kinds.into_iter().zip(args.first_port..).map(open).collect::<Result<Vec<_>>>()?;
    println!("{READY}");
    // An emulated guest that everybody speaks to is slow to answer: the idle ones
    // wait until the others have ended.
    let (idle, others): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| held.kind.is_idle());
    let mut verdicts = judge_all(others, Duration::ZERO, stop)?;
    verdicts.extend(judge_all(idle, APART, stop)?);
    verdicts.iter_mut().for_each(|verdict| verdict.peer.clone_from(&args.name));
    write_result(&args.out, &verdicts)
}

/// What becomes of connections, each of which begins so long after the one before.
fn judge_all(held: Vec<Held>, apart: Duration, stop: &AtomicBool) -> Result<Vec<Verdict>> {
    let verdicts = thread::scope(|scope| {
        let judge = |(held, place): (Held, u32)| {
            scope.spawn(move || {
                thread::sleep(apart * place);
                held.judge(stop)
            })
        };
        let threads: Vec<_> = held.into_iter().zip(0..).map(judge).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect::<Option<Vec<_>>>()
    });
    verdicts.context("a connection's thread panicked")
}

/// One connection. It carries the same stream in every direction, of which each
/// message is the next bytes.
#[derive(Debug)]
struct Held {
    kind: Kind,
    link: Link,
    /// As the guest sees it.
    own: SocketAddr,
    commander: Commander,
    said: u64,
    heard: u64,
}

impl Held {
    fn open(kind: Kind, guest: IpAddr, mut own: Own, commander: Commander) -> Result<Self> {
        let link = Link::open(kind, guest, &mut own, &commander)?;
        let mut held = Self { kind, link, own: own.seen, commander, said: 0, heard: 0 };
        let mut patience = Patience { until: None, began: None, limit: BEGIN };
        // Something each way, so that the trackers know that it is answered.
        if kind.transport == Transport::Udp {
            held.peer_says_datagram(&mut patience)?;
        }
        if kind.talk == Talk::BulkFromGuest {
            held.guest_says(u64::MAX >> 1)?;
        }
        held.step(&mut patience)?;
        Ok(held)
    }

    /// Holds it until `stop` is raised, and looks whether it goes on.
    fn judge(mut self, stop: &AtomicBool) -> Verdict {
        let mut patience = Patience { until: Some(stop), began: None, limit: DECIDE };
        let is_idle = self.kind.is_idle();
        let mut result = Ok(());
        while !stop.load(Ordering::Relaxed) {
            if !is_idle && result.is_ok() {
                result = self.step(&mut patience);
            }
            thread::sleep(PAUSE);
        }
        let began = Instant::now();
        result = result.and_then(|()| self.step(&mut patience));
        let answered_ms = result.is_ok().then(|| began.elapsed().as_secs_f64() * 1000.0);
        for _ in 0..if is_idle { 0 } else { STEPS_AFTER } {
            result = result.and_then(|()| self.step(&mut patience));
        }
        if self.kind.talk == Talk::BulkToGuest {
            result = result.and_then(|()| self.hear(self.said, &mut patience));
        }
        if let Link::Pings(child, _) = &mut self.link {
            let _ = child.kill();
            let _ = child.wait();
        }
        let error = result.err().map(|error| format!("{error:#}"));
        Verdict { kind: self.kind, peer: String::new(), went_on: error.is_none(), answered_ms, error }
    }

    /// Goes on by a message, a piece or a ping.
    fn step(&mut self, patience: &mut Patience<'_>) -> Result<()> {
        match (&self.link, self.kind.talk) {
            (Link::Pings(..) | Link::GuestPings, _) => self.ping(patience),
            (Link::Udp(_), Talk::GuestSpeaks) => self.guest_says_datagram(patience),
            (Link::Udp(_), _) => self.peer_says_datagram(patience),
            (Link::Tcp(_), Talk::GuestSpeaks) => {
                self.guest_says(self.heard + MESSAGE)?;
                self.hear(self.heard + MESSAGE, patience)
            }
            (Link::Tcp(_), Talk::PeerSpeaks | Talk::Chatty) => {
                self.say(MESSAGE)?;
                self.hear(self.said, patience)
            }
            (Link::Tcp(_), Talk::BulkFromGuest) => self.hear(self.heard + PIECE, patience),
            (Link::Tcp(_), Talk::BulkToGuest) => {
                self.say(PIECE)?;
                self.hear(self.said.saturating_sub(WINDOW), patience)
            }
        }
    }

    fn guest_says(&self, until: u64) -> Result<()> {
        let kind = if matches!(self.link, Link::Tcp(_)) { "tcp" } else { "udp" };
        self.commander.order(&format!("say {kind} {} {until}", self.own)).map(drop)
    }

    fn say(&mut self, length: u64) -> Result<()> {
        let Link::Tcp(stream) = &mut self.link else { bail!("not a stream") };
        let bytes: Vec<u8> = (self.said..self.said + length).map(byte_at).collect();
        self.said += length;
        stream.write_all(&bytes).context("write")
    }

    /// Hears the stream up to its byte `until`; more is welcome.
    fn hear(&mut self, until: u64, patience: &mut Patience<'_>) -> Result<()> {
        let Link::Tcp(stream) = &mut self.link else { bail!("not a stream") };
        let mut buffer = [0; 16384];
        while self.heard < until {
            patience.check(|| format!("{} bytes are missing", until - self.heard))?;
            match stream.read(&mut buffer) {
                Ok(0) => bail!("the guest closed the connection"),
                Ok(length) => {
                    let place = self.heard..;
                    let whole = buffer[..length].iter().copied().eq(place.take(length).map(byte_at));
                    ensure!(whole, "something else than what was said, from byte {} on", self.heard);
                    self.heard += length as u64;
                }
                Err(e) if is_timeout(&e) => {}
                Err(e) => return Err(e).context("read"),
            }
        }
        Ok(())
    }

    /// Says a datagram until it is echoed.
    fn peer_says_datagram(&mut self, patience: &mut Patience<'_>) -> Result<()> {
        let message: Vec<u8> = (self.said..self.said + MESSAGE).map(byte_at).collect();
        self.said += MESSAGE;
        let Link::Udp(socket) = &self.link else { bail!("not datagrams") };
        let say = || {
            // One that is refused is said again.
            let _ = socket.send(&message);
            Ok(())
        };
        until_heard(socket, patience, |heard| heard == message, say)
    }

    /// Has the guest say datagrams until one arrives.
    fn guest_says_datagram(&mut self, patience: &mut Patience<'_>) -> Result<()> {
        let Link::Udp(socket) = &self.link else { bail!("not datagrams") };
        let mut until = self.heard;
        let say = || {
            until += MESSAGE;
            self.guest_says(until)
        };
        until_heard(socket, patience, |heard| heard.len() as u64 == MESSAGE, say)?;
        self.heard = until;
        Ok(())
    }

    /// Waits for the next answer.
    fn ping(&mut self, patience: &mut Patience<'_>) -> Result<()> {
        loop {
            let answered = match &self.link {
                Link::Pings(_, count) => count.load(Ordering::Relaxed),
                _ => self.commander.order(&format!("ping {}", self.own.ip()))?,
            };
            if answered > self.heard {
                self.heard = answered;
                return Ok(());
            }
            patience.check(|| format!("no answer after the first {answered}"))?;
            thread::sleep(PAUSE);
        }
    }
}

/// Says something again and again until what is `wanted` is heard.
fn until_heard(
    socket: &UdpSocket,
    patience: &mut Patience<'_>,
    wanted: impl Fn(&[u8]) -> bool,
    mut say: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        say()?;
        let again = Instant::now() + AGAIN;
        while Instant::now() < again {
            match socket.recv(&mut buffer) {
                Ok(length) if wanted(&buffer[..length]) => return Ok(()),
                // An echo that comes late, or a port that was not open yet.
                Ok(_) => {}
                Err(_) => break,
            }
        }
        patience.check(|| "no datagram is answered".to_owned())?;
    }
}

/// How long something may take, counted from when `until` is raised.
struct Patience<'a> {
    until: Option<&'a AtomicBool>,
    began: Option<Instant>,
    limit: Duration,
}

impl Patience<'_> {
    fn check(&mut self, lacking: impl FnOnce() -> String) -> Result<()> {
        if self.until.is_some_and(|until| !until.load(Ordering::Relaxed)) {
            return Ok(());
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        ensure!(began.elapsed() < self.limit, "{} after {:?}", lacking(), self.limit);
        Ok(())
    }
}

/// Connections of one peer, held in its namespace.
#[derive(Debug)]
pub(super) struct Holder(Worker);

impl Holder {
    /// Returns once they are open.
    pub(super) async fn start(lab: &Lab, ns: &str, args: &[&str]) -> Result<Self> {
        Ok(Self(Worker::start(lab, ns, "hold", args, READY).await?))
    }

    /// Lets each go on, and says which did.
    pub(super) async fn finish(self) -> Result<Vec<Verdict>> {
        self.0.finish().await
    }
}
