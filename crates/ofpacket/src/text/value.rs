//! Values of fields, with masks.

use std::net::{Ipv4Addr, Ipv6Addr};

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while_m_n, take_while1};
use nom::character::complete::{char, one_of};
use nom::combinator::{map_opt, map_res, opt, value as always};
use nom::multi::{fold_many1, separated_list1};
use nom::sequence::{delimited, preceded, separated_pair};
use nom::{IResult, Parser};

use super::error::{Fail, Parse};
use super::token::{Tokens, all, int, integer, port, wide};
use crate::match_::{significant, trim_front};
use crate::oxm::{FieldInfo, Kind, Maskable, Oxm, OxmBytes, OxmField, flag_names};

/// A value and the bits of it that count, both as wide as the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) value: Vec<u8>,
    pub(super) mask: Vec<u8>,
}

impl Masked {
    pub(super) fn exact(value: Vec<u8>) -> Self {
        Self { mask: vec![0xff; value.len()], value }
    }

    fn ints<const N: usize>(value: [u8; N], mask: [u8; N]) -> Self {
        Self { value: value.to_vec(), mask: mask.to_vec() }
    }

    pub(super) fn is_exact(&self) -> bool {
        self.mask.iter().all(|&b| b == 0xff)
    }

    pub(super) fn is_any(&self) -> bool {
        self.mask.iter().all(|&b| b == 0)
    }

    /// Value and mask as integers; the field is no tunnel option, and thus not wider than 16 bytes.
    pub(super) fn to_u128(&self) -> (u128, u128) {
        let int = |bytes: &[u8]| bytes.iter().fold(0, |n, &b| n << 8 | u128::from(b));
        (int(&self.value), int(&self.mask))
    }

    /// `n_bits` bits of a field from `ofs` on, the value of which is in the last bits of `value`.
    pub(super) fn bits(value: &[u8], ofs: u16, n_bits: u16) -> Self {
        let mut out = Self { value: vec![0; value.len()], mask: vec![0; value.len()] };
        let place = |i: u16| (value.len() - 1 - usize::from(i / 8), 1 << (i % 8));
        for i in 0..n_bits {
            let ((from, bit), (to, there)) = (place(i), place(ofs + i));
            out.mask[to] |= there;
            if value[from] & bit != 0 {
                out.value[to] |= there;
            }
        }
        out
    }

    /// As a switch writes it: a tunnel option without leading zeros, no mask if all of it counts.
    pub(super) fn into_oxm(self, field: OxmField) -> Oxm {
        let mask = (!self.is_exact()).then_some(self.mask);
        let value: Vec<_> = match &mask {
            None => self.value,
            // A switch refuses bits outside of the mask.
            Some(mask) => self.value.iter().zip(mask).map(|(v, m)| v & m).collect(),
        };
        let skip = match field.tun_metadata_index() {
            Some(_) => trim_front(&value).min(mask.as_deref().map_or(usize::MAX, trim_front)),
            None => 0,
        };
        let cut = |bytes: Vec<u8>| OxmBytes::from_slice(&bytes[skip..]);
        Oxm { field, value: cut(value), mask: mask.map(cut) }
    }
}

/// A value as `set_field` and a match have it: `5`, `0x5/0xff`, `10.0.0.0/8`, `+new-est`, `*` for any.
pub(super) fn value<'a>(info: &FieldInfo, text: &'a str) -> Parse<'a, Masked> {
    let width = usize::from(info.bytes);
    // `ANY` is a port as well.
    if text == "*" || text == "ANY" && info.kind != Kind::Port {
        return Ok(Masked { value: vec![0; width], mask: vec![0; width] });
    }
    let out = match info.kind {
        Kind::Hex | Kind::Decimal => all(masked(wide(width)), text, "a number, or number/mask"),
        Kind::Mac => all(masked(mac), text, "an Ethernet address"),
        Kind::Ipv4 => all(ipv4, text, "an IPv4 address"),
        Kind::Ipv6 => all(ipv6, text, "an IPv6 address"),
        Kind::Port => port(text).map(|port| Masked::exact(port.0.to_be_bytes()[4 - width..].to_vec())),
        Kind::CtState => all(flags(info.kind), text, "connection tracking flags, as +new-est or new|trk")
            .map(to_flags(width)),
        Kind::TcpFlags => {
            all(flags(info.kind), text, "TCP flags, as +syn-ack or syn|ack").map(to_flags(width))
        }
        Kind::TunFlags => all(flags(info.kind), text, "tunnel flags: +oam, -oam or oam").map(to_flags(width)),
        Kind::Frag => all(frag, text, "no, yes, first, later or not_later"),
        Kind::PacketType => all(packet_type, text, "(name space,type)"),
    }?;
    if width <= 16 && out.to_u128().0 & !significant(info.field) != 0 {
        return Err(Fail::new(text, format!("a value that fits into {}", info.name)));
    }
    Ok(out)
}

/// As [`value`], in a match: some fields can be matched only as a whole.
pub(super) fn matched<'a>(info: &FieldInfo, text: &'a str) -> Parse<'a, Masked> {
    let out = value(info, text)?;
    match info.maskable {
        Maskable::Exact if !out.is_exact() && !out.is_any() => {
            Err(Fail::new(text, format!("all of {}, which cannot be masked", info.name)))
        }
        _ => Ok(out),
    }
}

/// `n_bits` bits of a field, as an integer.
pub(super) fn bits<'a>(info: &FieldInfo, text: &'a str, ofs: u16, n_bits: u16) -> Parse<'a, Masked> {
    let value = all(wide(usize::from(info.bytes)), text, "a number that fits into the field")?;
    if used_bits(&value) > n_bits.into() {
        return Err(Fail::new(text, format!("a number of {n_bits} bits")));
    }
    Ok(Masked::bits(&value, ofs, n_bits))
}

/// Bits up to the highest one that is set.
pub(super) fn used_bits(bytes: &[u8]) -> usize {
    let digits = &bytes[trim_front(bytes)..];
    8 * digits.len() - digits.first().map_or(0, |top| top.leading_zeros() as usize)
}

/// A value, and a mask written in the same way.
fn masked<'a, P>(parser: P) -> impl Parser<&'a str, Output = Masked, Error = Fail<'a>>
where
    P: Fn(&'a str) -> Tokens<'a, Vec<u8>> + Copy,
{
    (parser, opt(preceded(char('/'), parser))).map(|(value, mask)| match mask {
        None => Masked::exact(value),
        Some(mask) => Masked { value, mask },
    })
}

fn mac(text: &str) -> Tokens<'_, Vec<u8>> {
    let octet = map_res(take_while_m_n(1, 2, |c: char| c.is_ascii_hexdigit()), |s| u8::from_str_radix(s, 16));
    let six = |octets: Vec<u8>| (octets.len() == 6).then_some(octets);
    map_opt(separated_list1(char(':'), octet), six).parse_complete(text)
}

/// An address: what stands there up to the next character that no address has.
pub(super) fn address<T: std::str::FromStr>(text: &str) -> Tokens<'_, T> {
    map_res(take_while1(|c: char| c.is_ascii_hexdigit() || c == '.' || c == ':'), str::parse)
        .parse_complete(text)
}

fn ipv4(text: &str) -> Tokens<'_, Masked> {
    let prefix = map_opt(int::<u32>, |n| (n <= 32).then(|| u32::MAX.checked_shl(32 - n).unwrap_or(0)));
    let mask = alt((address::<Ipv4Addr>.map(Ipv4Addr::to_bits), prefix));
    (address::<Ipv4Addr>, opt(preceded(char('/'), mask)))
        .map(|(addr, mask)| Masked::ints(addr.octets(), mask.unwrap_or(u32::MAX).to_be_bytes()))
        .parse_complete(text)
}

fn ipv6(text: &str) -> Tokens<'_, Masked> {
    let prefix = map_opt(int::<u32>, |n| (n <= 128).then(|| u128::MAX.checked_shl(128 - n).unwrap_or(0)));
    let mask = alt((address::<Ipv6Addr>.map(Ipv6Addr::to_bits), prefix));
    (address::<Ipv6Addr>, opt(preceded(char('/'), mask)))
        .map(|(addr, mask)| Masked::ints(addr.octets(), mask.unwrap_or(u128::MAX).to_be_bytes()))
        .parse_complete(text)
}

/// Bits and the ones that count: `0x1/0x3`, `+new-est`, or `new|trk` for all of them.
fn flags<'a>(kind: Kind) -> impl Parser<&'a str, Output = (u32, u32), Error = Fail<'a>> {
    let bit = move |text: &'a str| -> Tokens<'a, u32> {
        // `[` and `]` are in the names of bits that have no better one.
        let name = take_while1(|c: char| c.is_ascii_alphanumeric() || c == '[' || c == ']');
        let find = |name| flag_names(kind).iter().position(|&known| known == name).map(|i| 1 << i);
        map_opt(name, find).parse_complete(text)
    };
    let numeric = separated_pair(int::<u32>, char('/'), int::<u32>);
    let signed = fold_many1(
        (one_of("+-"), bit),
        || Some((0, 0)),
        |sum: Option<(u32, u32)>, (sign, bit): (char, u32)| {
            let (value, mask) = sum.filter(|(_, mask)| mask & bit == 0)?;
            Some((if sign == '+' { value | bit } else { value }, mask | bit))
        },
    );
    let plain = separated_list1(char('|'), alt((map_res(integer, u32::try_from), bit)))
        .map(|bits| (bits.into_iter().fold(0, |sum, bit| sum | bit), u32::MAX));
    alt((numeric, map_opt(signed, |sum| sum), plain))
}

fn to_flags(width: usize) -> impl Fn((u32, u32)) -> Masked {
    move |(value, mask)| {
        let cut = |bits: u32| bits.to_be_bytes()[4 - width..].to_vec();
        Masked { value: cut(value), mask: cut(mask) }
    }
}

/// The bits: any fragment, and not the first one. Those that mean nothing count as well.
fn frag(text: &str) -> IResult<&str, Masked, Fail<'_>> {
    let bits = |value: u8, mask: u8, name| always((value, mask | 0xfc), tag(name));
    alt((
        bits(0, 2, "not_later"),
        bits(0, 3, "no"),
        bits(1, 1, "yes"),
        bits(1, 3, "first"),
        bits(3, 3, "later"),
    ))
    .map(|(value, mask)| Masked::ints([value], [mask]))
    .parse_complete(text)
}

fn packet_type(text: &str) -> Tokens<'_, Masked> {
    delimited(char('('), separated_pair(int::<u16>, char(','), int::<u16>), char(')'))
        .map(|(space, kind)| Masked::exact([space.to_be_bytes(), kind.to_be_bytes()].concat()))
        .parse_complete(text)
}
