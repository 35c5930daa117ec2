//! What the guest does because it is told to: a line in a datagram to UDP port
//! 7778, which begins with a number that the answer repeats. An order may be
//! given again until it is answered.
//!
//! ```text
//!  open tcp|udp PEER     begins a connection; what comes on it goes back
//!  say tcp|udp PEER N    says what is missing of the first N bytes of the pattern,
//!                        on the connection with this peer, whoever opened it
//!  ping ADDRESS          sends ICMP echo requests from now on; tells how many were answered
//! ```

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

#[path = "pattern.rs"]
mod pattern;

use pattern::byte_at;

const ADDRESSES: [&str; 2] = ["[::]:7778", "0.0.0.0:7778"];

/// What is said at a time on a stream, and how long it then pauses: 200 kB/s.
const CHUNK: u64 = 2048;
const PAUSE: Duration = Duration::from_millis(10);

const CONNECT: Duration = Duration::from_secs(10);

enum Link {
    Tcp(TcpStream),
    /// One that the guest opened.
    Udp(UdpSocket),
    /// One that a peer opened.
    Echo,
}

struct Connection {
    link: Link,
    said: u64,
}

/// Whether it is TCP, and the peer.
type Key = (bool, SocketAddr);

pub(crate) struct Orders {
    echo: UdpSocket,
    connections: Mutex<HashMap<Key, Connection>>,
    pings: Mutex<HashMap<String, Arc<AtomicU64>>>,
}

/// Obeys for ever, in a thread of its own, one order after the other.
pub(crate) fn obey(orders: &Arc<Orders>) -> Result<()> {
    let socket = UdpSocket::bind(super::family(&ADDRESSES))?;
    let orders = Arc::clone(orders);
    thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let line = String::from_utf8_lossy(&buffer[..length]);
            let (number, order) = line.split_once(' ').unwrap_or_default();
            let answer = match orders.carry_out(order) {
                Ok(count) => format!("{number} ok {count}"),
                // A peer's connection that is yet to be accepted: when it is asked again.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => format!("{number} {error}"),
            };
            let _ = socket.send_to(answer.as_bytes(), from);
        }
    });
    Ok(())
}

impl Orders {
    pub(crate) fn new(echo: UdpSocket) -> Self {
        Self { echo, connections: Mutex::default(), pings: Mutex::default() }
    }

    /// Notes a connection that a peer has opened.
    pub(crate) fn know(&self, stream: &TcpStream) {
        if let (Ok(peer), Ok(stream)) = (stream.peer_addr(), stream.try_clone()) {
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            self.keep((true, peer), Link::Tcp(stream));
        }
    }

    fn keep(&self, key: Key, link: Link) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.insert(key, Connection { link, said: 0 });
    }

    fn carry_out(&self, order: &str) -> Result<u64> {
        let words: Vec<&str> = order.split_whitespace().collect();
        match words[..] {
            ["open", kind, peer] => self.open((kind == "tcp", parse(peer)?)),
            ["say", kind, peer, until] => self.say((kind == "tcp", parse(peer)?), parse(until)?),
            ["ping", address] => Ok(self.ping(address)),
            _ => Err(Error::new(ErrorKind::InvalidInput, "not an order")),
        }
    }

    fn open(&self, key @ (is_tcp, peer): Key) -> Result<u64> {
        if self.connections.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key) {
            return Ok(0);
        }
        if is_tcp {
            let stream = TcpStream::connect_timeout(&peer, CONNECT)?;
            stream.set_nodelay(true)?;
            self.keep(key, Link::Tcp(stream.try_clone()?));
            thread::spawn(move || super::echo_stream(stream));
        } else {
            let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(peer)?;
            // The peer learns where to speak to, and the policy that it may.
            socket.send(b"open")?;
            self.keep(key, Link::Udp(socket.try_clone()?));
            thread::spawn(move || super::echo_datagrams(&socket));
        }
        Ok(0)
    }

    fn say(&self, key @ (is_tcp, peer): Key, until: u64) -> Result<u64> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_tcp {
            connections.entry(key).or_insert(Connection { link: Link::Echo, said: 0 });
        }
        let connection = connections.get_mut(&key).ok_or(ErrorKind::NotFound)?;
        let from = std::mem::replace(&mut connection.said, until);
        let words = |range: std::ops::Range<u64>| range.map(byte_at).collect::<Vec<u8>>();
        match &connection.link {
            _ if from >= until => {}
            Link::Udp(socket) => drop(socket.send(&words(from..until))?),
            Link::Echo => drop(self.echo.send_to(&words(from..until), peer)?),
            Link::Tcp(stream) => {
                let mut stream = stream.try_clone()?;
                thread::spawn(move || {
                    for at in (from..until).step_by(CHUNK as usize) {
                        if stream.write_all(&words(at..until.min(at + CHUNK))).is_err() {
                            return;
                        }
                        thread::sleep(PAUSE);
                    }
                });
            }
        }
        Ok(until)
    }

    fn ping(&self, address: &str) -> u64 {
        let mut pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || {
            let count = Arc::new(AtomicU64::new(0));
            let (counting, address) = (Arc::clone(&count), address.to_owned());
            thread::spawn(move || ping(&address, &counting));
            count
        };
        pings.entry(address.to_owned()).or_insert_with(begin).load(Ordering::Relaxed)
    }
}

/// Pings for ever, and counts the answers.
fn ping(address: &str, count: &AtomicU64) {
    let child =
        Command::new("/bin/busybox").args(["ping", "-i", "0.2", address]).stdout(Stdio::piped()).spawn();
    let Some(output) = child.ok().and_then(|child| child.stdout) else { return };
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if line.contains("seq=") {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn parse<T: FromStr>(word: &str) -> Result<T> {
    word.parse().map_err(|_| Error::new(ErrorKind::InvalidInput, format!("cannot read {word}")))
}
