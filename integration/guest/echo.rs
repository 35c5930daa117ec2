//! UDP and TCP echo on port 7777: what the guest runs, and what an endpoint
//! that stands for a guest runs. Standard library only, because it is also
//! compiled by itself, statically, into the guest's initramfs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

const ADDRESS: &str = "0.0.0.0:7777";

/// Answers for ever. Prints `GUEST UP` once it can.
pub(crate) fn main() {
    let udp = UdpSocket::bind(ADDRESS).expect("bind UDP port 7777");
    let tcp = TcpListener::bind(ADDRESS).expect("bind TCP port 7777");
    println!("GUEST UP");
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            thread::spawn(move || echo_stream(stream));
        }
    });
    let mut buffer = [0; 2048];
    loop {
        // An error belongs to one packet (a peer that is gone): go on.
        if let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..length], peer);
        }
    }
}

fn echo_stream(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; 16384];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
