//! Packets to and from the controller, of all kinds that are printed in a way of their own.

use bytes::Bytes;
use ofpacket::{
    Action, Body, Experimenter, Match, NO_BUFFER, NxPacketIn, OxmField, PacketIn, PacketIn2, PacketOut,
    PortNo, Property,
};

/// An Ethernet frame: addresses, then what is given in hexadecimal.
fn frame(hex: &str) -> Bytes {
    let digits: Vec<_> =
        format!("0200000000020a0000000001{hex}").bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("two hexadecimal digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// An IPv4 packet of this protocol: the header, and what is given.
fn ipv4(protocol: u8, hex: &str) -> Bytes {
    let len = 20 + hex.bytes().filter(u8::is_ascii_hexdigit).count() / 2;
    frame(&format!("0800 45b8{len:04x} 00010000 40{protocol:02x}0000 0a000001 0a000002 {hex}"))
}

/// An IPv6 packet of this protocol: the header, and what is given.
fn ipv6(protocol: u8, hex: &str) -> Bytes {
    let len = hex.bytes().filter(u8::is_ascii_hexdigit).count() / 2;
    let (src, dst) = ("fe800000000000000000000000000001", "ff020000000000000000000000000001");
    frame(&format!("86dd 6b712345 {len:04x}{protocol:02x}ff {src} {dst} {hex}"))
}

fn frames() -> Vec<Bytes> {
    let tcp = "0050 1f90 00000001 00000002 5012 2000 beef 0000";
    vec![
        frame("0806 0001 0800 0604 0001 0a0000000001 0a000001 000000000000 0a000002"),
        frame("8035 0001 0800 0604 0003 0a0000000001 00000000 0a0000000001 00000000"),
        frame("88cc 0207 0400"),
        frame("8100 6005 0806 0001 0800 0604 0002 0a0000000001 0a000001 020000000002 0a000002"),
        frame("8100 0000 88cc 0000"),
        frame("88a8 0064 8100 2065 0806 0001 0800 0604 0002 0a0000000001 0a000002 020000000002 0a000002"),
        frame("0026 4242 0300 0000"),
        frame("0026 aaaa 0300 0000 88cc 0207"),
        ipv4(6, tcp),
        ipv4(17, "0035 0044 0008 1234"),
        ipv4(1, "0800 f7ff 0000 0000"),
        ipv4(132, "0007 0008 00000001 12345678"),
        ipv4(47, "0000 0800"),
        frame("0800 46000020 00012000 40110000 0a000001 0a000002 94040000 0035 0044 0008 0000"),
        frame("0800 45000018 00010001 40110000 0a000001 0a000002 00350044"),
        ipv6(6, tcp),
        ipv6(17, "0035 0044 0008 1234"),
        ipv6(58, "8700 1111 00000000 fe800000000000000000000000000002 0101 0a0000000001"),
        ipv6(58, "8800 1111 60000000 fe800000000000000000000000000002 0201 0a0000000001"),
        ipv6(58, "8000 1111 00010002"),
        ipv6(132, "0007 0008 00000001 00000000"),
        ipv6(59, ""),
        ipv6(58, "8700 1111 00000000"),
        ipv4(6, "0050 1f90 00000001"),
        ipv4(1, "08"),
        ipv6(44, "1100 0001 00000001 0035 0044 0008 1234"),
        ipv6(0, "1100 010400000000 0035 0044 0008 1234"),
    ]
}

pub(crate) fn samples() -> Vec<Body> {
    let metadata = Match::new().with(OxmField::IN_PORT, PortNo(3));
    let more = metadata.clone().with(OxmField::reg(1), 7u32).with(OxmField::METADATA, 5u64);
    let packet_in = |packet: Bytes| PacketIn {
        buffer_id: NO_BUFFER,
        total_len: packet.len() as u16,
        reason: 1,
        table_id: 0,
        cookie: u64::MAX,
        metadata: metadata.clone(),
        packet,
    };
    let mut out: Vec<_> = frames().into_iter().map(|frame| Body::PacketIn(packet_in(frame))).collect();
    let arp = frames().swap_remove(0);
    let odd = |reason, total_len, buffer_id| PacketIn {
        reason,
        total_len,
        buffer_id,
        table_id: 9,
        cookie: 0x1234,
        metadata: more.clone(),
        ..packet_in(arp.clone())
    };
    out.push(Body::PacketIn(odd(0, 1000, NO_BUFFER)));
    out.push(Body::PacketIn(odd(5, 1000, 0x12)));
    out.push(Body::PacketIn(odd(2, 42, 0x12)));
    out.push(Body::Experimenter(Experimenter::PacketIn(NxPacketIn(odd(1, 42, NO_BUFFER)))));
    let second = PacketIn2 {
        packet: arp.clone(),
        table_id: 11,
        cookie: 0x77,
        reason: 1,
        metadata: more,
        userdata: Bytes::from_static(&[0, 1, 0xfe]),
        ..PacketIn2::default()
    };
    let other = vec![Property { kind: 0x7001, body: Bytes::from_static(b"new") }];
    let cut = PacketIn2 { full_len: Some(1000), buffer_id: Some(7), other, ..second.clone() };
    let plain = PacketIn2 { userdata: Bytes::new(), cookie: u64::MAX, ..second.clone() };
    for packet in [second.clone(), cut, plain] {
        out.push(Body::Experimenter(Experimenter::PacketIn2(packet)));
    }
    out.push(Body::Experimenter(Experimenter::Resume(PacketIn2 { userdata: Bytes::new(), ..second })));
    let actions = vec![Action::resubmit(3), Action::output(PortNo::LOCAL)];
    let send = |port, packet: Bytes| PacketOut::new(port, actions.clone(), packet);
    out.push(Body::PacketOut(send(PortNo::CONTROLLER, arp)));
    out.push(Body::PacketOut(send(PortNo(1), Bytes::new())));
    out.push(Body::PacketOut(PacketOut {
        actions: Vec::new(),
        ..send(PortNo(1), ipv4(17, "0035 0044 0008 1234"))
    }));
    out.push(Body::PacketOut(PacketOut { buffer_id: 0x1234, ..send(PortNo::LOCAL, Bytes::new()) }));
    out
}
