//! How a connection is opened, and by which addresses.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::hold::{AGAIN, BEGIN, DECIDE};
use super::kind::{Kind, Opener, Transport};
use super::orders::Commander;
use crate::probe::ECHO_PORT;

/// How far apart the ports of a peer's two backends are.
const BACKENDS_APART: u16 = 50;

/// How often it is looked who has been called.
const POLL: Duration = Duration::from_millis(5);

/// Where a peer is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    /// Its own address.
    pub(super) address: SocketAddr,
    /// The address that the guest knows.
    pub(super) seen: SocketAddr,
}

impl Own {
    pub(super) fn new(kind: Kind, own: IpAddr, vip: IpAddr, port: u16) -> Self {
        let seen = if kind.opener == Opener::Balanced { vip } else { own };
        Self { address: SocketAddr::new(own, port), seen: SocketAddr::new(seen, port) }
    }

    /// Who answers what is sent to the address that the guest knows.
    pub(super) fn backends(self) -> [SocketAddr; 2] {
        [0, BACKENDS_APART].map(|apart| SocketAddr::new(self.address.ip(), self.address.port() + apart))
    }
}

#[derive(Debug)]
pub(super) enum Link {
    Tcp(TcpStream),
    Udp(UdpSocket),
    /// The peer's own pings, and how many were answered.
    Pings(Child, Arc<AtomicU64>),
    GuestPings,
}

impl Link {
    /// Opens it; `own` then says by which address the guest knows the peer.
    pub(super) fn open(kind: Kind, guest: IpAddr, own: &mut Own, commander: &Commander) -> Result<Self> {
        match kind.transport {
            Transport::Tcp => {
                let stream = tcp(kind, guest, own, commander)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(AGAIN))?;
                stream.set_write_timeout(Some(DECIDE))?;
                Ok(Self::Tcp(stream))
            }
            Transport::Udp => {
                let socket = udp(kind, guest, own, commander)?;
                socket.set_read_timeout(Some(AGAIN))?;
                Ok(Self::Udp(socket))
            }
            Transport::Icmp if kind.opener == Opener::Peer => pings(guest),
            Transport::Icmp => Ok(Self::GuestPings),
        }
    }
}

fn tcp(kind: Kind, guest: IpAddr, own: &mut Own, commander: &Commander) -> Result<TcpStream> {
    let addresses = match kind.opener {
        Opener::Peer => {
            let stream = TcpStream::connect_timeout(&SocketAddr::new(guest, ECHO_PORT), BEGIN);
            let stream = stream.context("connect")?;
            own.seen = stream.local_addr().context("find out the port")?;
            return Ok(stream);
        }
        Opener::Guest => vec![own.address],
        Opener::Balanced => own.backends().to_vec(),
    };
    let listeners = addresses.into_iter().map(TcpListener::bind).collect::<std::io::Result<Vec<_>>>();
    let listeners = listeners.context("listen")?;
    commander.order(&format!("open tcp {}", own.seen))?;
    accept(&listeners)
}

/// The connection to whichever of them it was made to.
fn accept(listeners: &[TcpListener]) -> Result<TcpStream> {
    let began = Instant::now();
    while began.elapsed() < BEGIN {
        for listener in listeners {
            listener.set_nonblocking(true)?;
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e).context("accept"),
            }
        }
        thread::sleep(POLL);
    }
    bail!("nobody has connected after {BEGIN:?}")
}

fn udp(kind: Kind, guest: IpAddr, own: &mut Own, commander: &Commander) -> Result<UdpSocket> {
    let any_port = SocketAddr::new(own.address.ip(), 0);
    let is_called = kind.opener != Opener::Peer;
    let socket = UdpSocket::bind(if is_called { own.address } else { any_port });
    let socket = socket.context("open a UDP socket")?;
    own.seen = socket.local_addr().context("find out the port")?;
    let peer = if is_called {
        socket.set_read_timeout(Some(BEGIN))?;
        commander.order(&format!("open udp {}", own.seen))?;
        first_peer(&socket).context("hear from the guest")?
    } else {
        SocketAddr::new(guest, ECHO_PORT)
    };
    socket.connect(peer).context("connect")?;
    Ok(socket)
}

/// Who says the first datagram.
fn first_peer(socket: &UdpSocket) -> std::io::Result<SocketAddr> {
    loop {
        match socket.recv_from(&mut [0; 16]) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            heard => return Ok(heard?.1),
        }
    }
}

/// Pings the guest from now on, and counts the answers.
fn pings(guest: IpAddr) -> Result<Link> {
    let mut child = Command::new("busybox")
        .args(["ping", "-i", "0.2", &guest.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("run busybox (busybox-static)")?;
    let output = child.stdout.take().context("read what ping says")?;
    let count = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&count);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            counting.fetch_add(u64::from(line.contains("seq=")), Ordering::Relaxed);
        }
    });
    Ok(Link::Pings(child, count))
}
