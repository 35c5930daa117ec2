//! Orders to the guest (`guest/orders.rs`).

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Where the guest takes orders.
pub(super) const ORDERS_PORT: u16 = 7778;

/// How soon an order is given again.
const AGAIN: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(20);

/// Gives orders, one at a time.
#[derive(Debug)]
pub(super) struct Commander {
    socket: UdpSocket,
    /// How many it has given.
    orders: Cell<u64>,
}

impl Commander {
    pub(super) fn new(guest: IpAddr) -> Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("open a UDP socket")?;
        socket.connect(SocketAddr::new(guest, ORDERS_PORT)).context("reach the guest")?;
        socket.set_read_timeout(Some(AGAIN)).context("set the read timeout")?;
        Ok(Self { socket, orders: Cell::new(0) })
    }

    /// Gives an order until it is answered; returns the number in the answer.
    pub(super) fn order(&self, order: &str) -> Result<u64> {
        let (socket, number) = (&self.socket, self.orders.get() + 1);
        self.orders.set(number);
        let (line, began) = (format!("{number} {order}"), Instant::now());
        let mut buffer = [0; 512];
        while began.elapsed() < DEADLINE {
            // Neither a lost one nor a refused one is the last.
            let _ = socket.send(line.as_bytes());
            while let Ok(length) = socket.recv(&mut buffer) {
                let answer = String::from_utf8_lossy(&buffer[..length]);
                let Some((of, answer)) = answer.split_once(' ') else { continue };
                if of == number.to_string() {
                    let count = answer.strip_prefix("ok ").and_then(|count| count.parse().ok());
                    return count.with_context(|| format!("the guest on {order:?}: {answer}"));
                }
            }
        }
        bail!("the guest does not answer the order {order:?}")
    }
}
