//! UDP and TCP echo on port 7777, over IPv4 and IPv6: what the guest runs, and
//! what an endpoint that stands for a guest runs. On port 7778 it takes orders.
//! Standard library only, because it is also compiled by itself, statically,
//! into the guest's initramfs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;

#[path = "orders.rs"]
mod orders;

use orders::Orders;

/// Both families; without IPv6 in the kernel, the one that there is.
const ADDRESSES: [&str; 2] = ["[::]:7777", "0.0.0.0:7777"];

/// Answers for ever. Prints `GUEST UP` once it can.
pub(crate) fn main() {
    let udp = UdpSocket::bind(family(&ADDRESSES)).expect("bind UDP port 7777");
    let tcp = TcpListener::bind(family(&ADDRESSES)).expect("bind TCP port 7777");
    let orders = Arc::new(Orders::new(udp.try_clone().expect("share the UDP socket")));
    orders::obey(&orders).expect("bind UDP port 7778");
    println!("GUEST UP");
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            orders.know(&stream);
            thread::spawn(move || echo_stream(stream));
        }
    });
    echo_datagrams(&udp);
}

/// The first of two addresses that can be bound here.
fn family(addresses: &[&'static str; 2]) -> &'static str {
    addresses[usize::from(UdpSocket::bind("[::]:0").is_err())]
}

fn echo_datagrams(udp: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        // An error belongs to one packet (a peer that is gone): go on.
        if let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..length], peer);
        }
    }
}

fn echo_stream(mut stream: TcpStream) {
    let mut buffer = [0; 16384];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
