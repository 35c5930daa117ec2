//! Sockets that see whole frames, and the kernel's receive time stamps.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout, ReceiveTimestampns, RxqOvfl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrStorage, bind, recvmsg, setsockopt, socket,
};
use nix::sys::time::{TimeSpec, TimeVal, TimeValLike};

use crate::clock::{ClockPair, SECOND, monotonic_ns};

/// Room for a few seconds of packets, bytes: a busy machine makes the reader
/// late, and what it measures must not suffer from that.
const RECEIVE_BUFFER: usize = 16 << 20;

/// How long a read waits before it returns nothing, so that its caller can
/// look whether to go on.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// RARP's EtherType (RFC 903).
pub const ETHERTYPE_RARP: u16 = 0x8035;

/// Makes a socket keep much, tell when a packet arrived and how many there was
/// no room for, and not wait for ever.
pub(crate) fn prepare(socket: &impl std::os::fd::AsFd) -> Result<()> {
    setsockopt(socket, RcvBufForce, &RECEIVE_BUFFER).context("set the receive buffer")?;
    setsockopt(socket, ReceiveTimestampns, &true).context("ask for time stamps")?;
    setsockopt(socket, RxqOvfl, &1).context("ask for what is dropped")?;
    let timeout = TimeVal::milliseconds(i64::try_from(READ_TIMEOUT.as_millis()).context("a long timeout")?);
    setsockopt(socket, ReceiveTimeout, &timeout).context("set the receive timeout")
}

/// A packet that was read.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes of the buffer it fills.
    pub(crate) length: usize,
    /// When the kernel got it, nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) at_ns: i64,
    /// How many packets the socket has had no room for.
    pub(crate) missed: u32,
    /// Where it came from, or the interface it was seen on.
    pub(crate) from: Option<SockaddrStorage>,
}

/// Reads one packet; none when nothing came in a while.
pub(crate) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> Result<Option<Received>> {
    let mut control = cmsg_space!(TimeSpec, u32);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = match recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    ) {
        Ok(message) => message,
        // An interface that was deleted (ENETDOWN) brings nothing more.
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED | Errno::ENETDOWN) => return Ok(None),
        Err(e) => return Err(e).context("receive"),
    };
    let (mut stamp, mut missed) = (None, 0);
    for said in message.cmsgs().context("read the time stamp")? {
        match said {
            ControlMessageOwned::ScmTimestampns(time) => {
                stamp = Some(time.tv_sec() * SECOND + time.tv_nsec())
            }
            ControlMessageOwned::RxqOvfl(count) => missed = count,
            _ => {}
        }
    }
    // The stamp is a time of day. Converted at once, so that a clock that is
    // being corrected does no harm.
    let at_ns = stamp.map_or_else(monotonic_ns, |stamp| ClockPair::now().monotonic_of(stamp));
    Ok(Some(Received { length: message.bytes, at_ns, missed, from: message.address }))
}

/// A raw socket on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    address: LinkAddr,
}

impl PacketSocket {
    pub(crate) fn open(iface: &str) -> Result<Self> {
        // The kernel's own list has each interface's link-layer address, the
        // only one that a packet socket can be bound to.
        let address = getifaddrs()
            .context("list the interfaces")?
            .filter(|entry| entry.interface_name == iface)
            .find_map(|entry| entry.address.and_then(|a| a.as_link_addr().copied()))
            .with_context(|| format!("no interface {iface} in this namespace"))?;
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
                .context("open a packet socket")?;
        prepare(&socket)?;
        // The protocol in `address` is 0: the socket keeps its own.
        bind(socket.as_raw_fd(), &address).with_context(|| format!("bind to {iface}"))?;
        Ok(Self { socket, address })
    }

    /// Reads one frame; none when nothing came in a while.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Option<Received>> {
        let received = receive(&self.socket, buffer)?;
        // Before it was bound the socket saw every interface.
        Ok(received.filter(|r| {
            let link = r.from.as_ref().and_then(SockaddrStorage::as_link_addr);
            link.is_none_or(|link| link.ifindex() == self.address.ifindex())
        }))
    }

    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = nix::sys::socket::send(self.socket.as_raw_fd(), frame, MsgFlags::empty())
            .context("send a frame")?;
        ensure!(sent == frame.len(), "sent {sent} of {} bytes", frame.len());
        Ok(())
    }
}

/// Reads a MAC address.
///
/// # Errors
///
/// When it is not six octets in hexadecimal with colons between them.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| Some(octet).filter(|o| o.len() == 2).and_then(|o| u8::from_str_radix(o, 16).ok()))
        .collect();
    octets.and_then(|o| o.try_into().ok()).with_context(|| format!("{text:?} is not a MAC address"))
}

/// Sends the RARP request with which QEMU announces a guest it has resumed
/// (RFC 903; padded to Ethernet's 60 bytes).
///
/// # Errors
///
/// When there is no such interface, or it is down.
pub fn send_rarp(iface: &str, mac: [u8; 6]) -> Result<()> {
    let mut frame = Vec::with_capacity(60);
    frame.extend([0xff; 6]);
    frame.extend(mac);
    frame.extend(ETHERTYPE_RARP.to_be_bytes());
    // Ethernet, IPv4, their lengths, and operation 3: request reverse.
    frame.extend([0, 1, 0x08, 0x00, 6, 4, 0, 3]);
    frame.extend(mac);
    frame.extend([0; 4]);
    frame.extend(mac);
    frame.resize(60, 0);
    PacketSocket::open(iface)?.send(&frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses() {
        assert_eq!(parse_mac("02:00:00:00:01:ff").unwrap(), [2, 0, 0, 0, 1, 255]);
        for wrong in ["", "02:00:00:00:01", "02:00:00:00:01:0g", "02:00:00:00:01:1", "02:00:00:00:01:02:03"] {
            assert!(parse_mac(wrong).is_err(), "{wrong}");
        }
    }
}
