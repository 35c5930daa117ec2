//! Values of fields as `ovs-ofctl` writes them in `set_field` and `learn`.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Kind, Oxm};
use crate::PortNo;

const CT_STATE: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
const TUN_FLAGS: [&str; 1] = ["oam"];
const TCP_FLAGS: [&str; 12] =
    ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];

/// The names of the bits of a field of flags, from the least significant one.
pub(crate) fn flag_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::CtState => &CT_STATE,
        Kind::TunFlags => &TUN_FLAGS,
        Kind::TcpFlags => &TCP_FLAGS,
        _ => &[],
    }
}

/// The value, with its mask if it has one that is not all ones.
pub(crate) fn write_value(f: &mut impl Write, oxm: &Oxm) -> fmt::Result {
    let value = &oxm.value[..];
    let mask = oxm.mask.as_deref().filter(|mask| !super::is_full(oxm.field, mask));
    if mask.is_some_and(|mask| mask.iter().all(|&b| b == 0)) {
        return f.write_str("ANY");
    }
    let kind = oxm.field.info().map_or(Kind::Hex, |info| info.kind);
    let (Some(int), Some(bits)) = (oxm.to_u128(), oxm.mask_u128()) else {
        return write_hex_masked(f, value, mask);
    };
    match (kind, value.len()) {
        (Kind::Port, 2) if mask.is_none() => write!(f, "{}", PortNo::from_u16(int as u16)),
        (Kind::Port, 4) if mask.is_none() => write!(f, "{}", PortNo(int as u32)),
        (Kind::Decimal | Kind::Port, 0..=8) => {
            write!(f, "{int}")?;
            mask.map_or(Ok(()), |mask| {
                f.write_char('/')?;
                write_hex(f, mask)
            })
        }
        (Kind::Mac, 6) => {
            write_mac(f, value)?;
            mask.map_or(Ok(()), |mask| {
                f.write_char('/')?;
                write_mac(f, mask)
            })
        }
        (Kind::Ipv4, 4) => write_ipv4_masked(f, int as u32, bits as u32),
        (Kind::Ipv6, 16) => write_ipv6_masked(f, int, bits),
        (Kind::CtState, 4) => write_flags_masked(f, kind, int as u32, bits as u32, 0xffff),
        (Kind::TunFlags, 2) => write_flags_masked(f, kind, int as u32, bits as u32 & 1, 1),
        (Kind::TcpFlags, 2) => write_flags_masked(f, kind, int as u32, bits as u32 & 0xfff, 0xfff),
        (Kind::Frag, 1) => write_frag(f, int as u8, bits as u8),
        (Kind::PacketType, 4) => write_packet_type(f, int as u32, bits as u32),
        _ => write_hex_masked(f, value, mask),
    }
}

/// `0x` and the digits without leading zeros; `0` for zero.
pub(crate) fn write_hex(f: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    let first = bytes.iter().position(|&b| b != 0);
    let Some((&head, tail)) = first.and_then(|i| bytes[i..].split_first()) else {
        return f.write_char('0');
    };
    write!(f, "{head:#x}")?;
    tail.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

fn write_hex_masked(f: &mut impl Write, value: &[u8], mask: Option<&[u8]>) -> fmt::Result {
    write_hex(f, value)?;
    mask.map_or(Ok(()), |mask| {
        f.write_char('/')?;
        write_hex(f, mask)
    })
}

pub(crate) fn write_mac(f: &mut impl Write, mac: &[u8]) -> fmt::Result {
    mac.iter().enumerate().try_for_each(|(i, b)| write!(f, "{}{b:02x}", if i == 0 { "" } else { ":" }))
}

/// The prefix length of a mask that is one.
fn prefix_len(mask: u128, width: u32) -> Option<u32> {
    let ones = (mask << (128 - width)).leading_ones();
    (ones == mask.count_ones()).then_some(ones)
}

pub(crate) fn write_ipv4_masked(f: &mut impl Write, addr: u32, mask: u32) -> fmt::Result {
    write!(f, "{}", Ipv4Addr::from_bits(addr))?;
    match prefix_len(mask.into(), 32) {
        Some(32) => Ok(()),
        Some(n) => write!(f, "/{n}"),
        None => write!(f, "/{}", Ipv4Addr::from_bits(mask)),
    }
}

pub(crate) fn write_ipv6_masked(f: &mut impl Write, addr: u128, mask: u128) -> fmt::Result {
    write_ipv6(f, addr)?;
    match prefix_len(mask, 128) {
        Some(128) => Ok(()),
        Some(n) => write!(f, "/{n}"),
        None => {
            f.write_char('/')?;
            write_ipv6(f, mask)
        }
    }
}

/// As the C library writes it, which unlike Rust ends `::a.b.c.d` in dotted form.
pub(crate) fn write_ipv6(f: &mut impl Write, addr: u128) -> fmt::Result {
    match addr {
        0x1_0000..=0xffff_ffff => write!(f, "::{}", Ipv4Addr::from_bits(addr as u32)),
        _ => write!(f, "{}", Ipv6Addr::from_bits(addr)),
    }
}

/// The names of the bits that are set, joined by `|`; `0` if there are none.
pub(crate) fn write_flags(f: &mut impl Write, kind: Kind, flags: u32) -> fmt::Result {
    let names = flag_names(kind);
    if flags == 0 {
        return f.write_char('0');
    }
    let mut separator = "";
    for (_, name) in names.iter().enumerate().filter(|&(i, _)| flags & 1 << i != 0) {
        write!(f, "{separator}{name}")?;
        separator = "|";
    }
    match flags & !((1 << names.len()) - 1) {
        0 => Ok(()),
        unnamed => write!(f, "{separator}{unnamed:#x}"),
    }
}

/// `+name-name` for the bits that count, or all of them by name if every bit in `all` counts.
pub(crate) fn write_flags_masked(
    f: &mut impl Write,
    kind: Kind,
    flags: u32,
    mask: u32,
    all: u32,
) -> fmt::Result {
    if mask == all {
        return write_flags(f, kind, flags);
    }
    if mask == 0 {
        return f.write_str("0/0");
    }
    (0..32).filter(|i| mask & 1 << i != 0).try_for_each(|i: usize| {
        let sign = if flags & 1 << i != 0 { '+' } else { '-' };
        write!(f, "{sign}{}", flag_names(kind).get(i).unwrap_or(&"[Unknown]"))
    })
}

/// Bit 0: any fragment; bit 1: not the first one.
pub(crate) fn write_frag(f: &mut impl Write, value: u8, mask: u8) -> fmt::Result {
    f.write_str(match (value & mask & 3, mask & 3) {
        (0, 3 | 1) => "no",
        (1, 1) => "yes",
        (1, 3) => "first",
        (3, 3) | (2, 2) => "later",
        (0, 2) => "not_later",
        _ => "<error>",
    })
}

/// The name space and the type; `eth` for what every packet is unless somebody says otherwise.
pub(crate) fn write_packet_type(f: &mut impl Write, value: u32, mask: u32) -> fmt::Result {
    if (value, mask) == (0, u32::MAX) {
        return f.write_str("eth");
    }
    f.write_str("packet_type=(")?;
    write_u16_masked(f, value >> 16, mask >> 16)?;
    f.write_char(',')?;
    write_u16_masked(f, value & 0xffff, mask & 0xffff)?;
    f.write_char(')')
}

fn write_u16_masked(f: &mut impl Write, value: u32, mask: u32) -> fmt::Result {
    match value {
        _ if mask == 0 => return f.write_char('*'),
        0..=9 => write!(f, "{value}")?,
        _ => write!(f, "{value:#x}")?,
    }
    if mask == 0xffff { Ok(()) } else { write!(f, "/{mask:#x}") }
}
