//! The tokens of the syntax: numbers, names, and `key=value` pairs with parentheses in parentheses.

use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_until, take_while1};
use nom::character::complete::{digit1, hex_digit1, oct_digit1};
use nom::combinator::{all_consuming, map_opt, map_res};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

use super::error::{Fail, Parse};
use crate::PortNo;

pub(super) type Tokens<'a, T> = IResult<&'a str, T, Fail<'a>>;

/// Actions in actions in actions, in text: as many levels as are read from the wire.
pub(super) const MAX_DEPTH: usize = crate::action::MAX_DEPTH;

const SEPARATORS: [char; 5] = [',', ' ', '\t', '\r', '\n'];

/// Runs a parser over all of the text; what it does not understand is not `expected`.
pub(super) fn all<'a, T>(
    parser: impl Parser<&'a str, Output = T, Error = Fail<'a>>,
    text: &'a str,
    expected: &'static str,
) -> Parse<'a, T> {
    match all_consuming(parser).parse_complete(text) {
        Ok((_, value)) => Ok(value),
        Err(_) => Err(Fail::new(text, expected)),
    }
}

/// An integer as in C: `0x1f`, `037`, `31`.
pub(super) fn integer(text: &str) -> Tokens<'_, u64> {
    alt((
        map_res(preceded(tag_no_case("0x"), hex_digit1), |digits| u64::from_str_radix(digits, 16)),
        map_res(preceded(tag("0"), oct_digit1), |digits| u64::from_str_radix(digits, 8)),
        map_res(digit1, str::parse),
    ))
    .parse_complete(text)
}

/// An integer that fits its type.
pub(super) fn int<T: TryFrom<u64>>(text: &str) -> Tokens<'_, T> {
    map_res(integer, T::try_from).parse_complete(text)
}

/// All of the text as an integer.
pub(super) fn number<'a, T: TryFrom<u64>>(text: &'a str, expected: &'static str) -> Parse<'a, T> {
    all(int, text, expected)
}

/// An integer of up to `width` bytes: as [`integer`], or any number of hexadecimal digits.
pub(super) fn wide(width: usize) -> impl Copy + Fn(&str) -> Tokens<'_, Vec<u8>> {
    move |text| {
        let hex = |digits: &str| {
            let digits = digits.trim_start_matches('0');
            let len = digits.len().div_ceil(2);
            let mut bytes = vec![0; width.checked_sub(len)?];
            // From the right, as there may be an odd number of digits.
            bytes.extend((0..len).map(|i| {
                let end = digits.len() - 2 * (len - 1 - i);
                u8::from_str_radix(&digits[end.saturating_sub(2)..end], 16).unwrap_or(0)
            }));
            Some(bytes)
        };
        let small = |value: u64| {
            let bytes = value.to_be_bytes();
            let first = bytes.iter().position(|&b| b != 0).unwrap_or(8);
            let mut out = vec![0; width.checked_sub(8 - first)?];
            out.extend_from_slice(&bytes[first..]);
            Some(out)
        };
        alt((map_opt(preceded(tag_no_case("0x"), hex_digit1), hex), map_opt(integer, small)))
            .parse_complete(text)
    }
}

/// A port: a decimal number, or the name of a reserved one. Numbers of 16 bits for reserved ports are
/// understood, as `ovs-ofctl` does.
pub(super) fn port(text: &str) -> Parse<'_, PortNo> {
    let bad = || Fail::new(text, "a port: its number, or LOCAL, IN_PORT and the like");
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let port = match number {
        Some(n) => u16::try_from(n).map(PortNo::from_u16).unwrap_or(PortNo(n)),
        None if text.eq_ignore_ascii_case("none") => PortNo::ANY,
        // The reserved ports that have names are the last of all numbers.
        None => (0xffff_fff0..=u32::MAX)
            .map(PortNo)
            .find(|port| port.name().is_some_and(|name| name.eq_ignore_ascii_case(text)))
            .ok_or_else(bad)?,
    };
    port.to_u16().map(|_| port).ok_or_else(bad)
}

/// Bytes in hexadecimal, with dots or blanks between them or not.
pub(super) fn hex_bytes(text: &str) -> Parse<'_, Vec<u8>> {
    let fail = |at| Fail::new(at, "pairs of hexadecimal digits");
    let mut rest = text.trim_end();
    let mut out = Vec::with_capacity(text.len() / 2);
    while !rest.is_empty() {
        let start = rest.trim_start_matches(['.', ' ']);
        let byte = start.get(..2).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
        out.push(byte.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(|| fail(start))?);
        rest = &start[2..];
    }
    Ok(out)
}

/// Two texts with an arrow between them.
pub(super) fn arrow(text: &str) -> Parse<'_, (&str, &str)> {
    all(separated_pair(take_until("->"), tag("->"), take_while1(|_| true)), text, "something -> a field")
}

/// One item of a list: `key`, `key=value`, `key:value` or `key(value)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a str,
    /// Empty if there is none.
    pub(super) value: &'a str,
}

impl<'a> Pair<'a> {
    /// The value as an integer.
    pub(super) fn number<T: TryFrom<u64>>(&self, expected: &'static str) -> Parse<'a, T> {
        number(self.value, expected)
    }

    /// For a key that nobody asked for.
    pub(super) fn unknown(&self, expected: &'static str) -> Fail<'a> {
        Fail::new(self.key, expected)
    }
}

/// The items of a text, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Pairs<'a>(pub(super) &'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = Parse<'a, Pair<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0 = self.0.trim_start_matches(SEPARATORS);
        if self.0.is_empty() {
            return None;
        }
        let pair = pair(self.0);
        // After an error there is nothing more.
        self.0 = pair.as_ref().map_or("", |(rest, _)| rest);
        Some(pair.map(|(_, pair)| pair))
    }
}

/// `(x)->y` is a value as well: all that follows the first parenthesis.
fn pair(text: &str) -> Parse<'_, (&str, Pair<'_>)> {
    let key_end = text.find(|c| c == ':' || c == '=' || c == '(' || SEPARATORS.contains(&c));
    let (key, rest) = text.split_at(key_end.unwrap_or(text.len()));
    if key.is_empty() {
        return Err(Fail::new(text, "a name"));
    }
    let value = match rest.as_bytes().first() {
        Some(b'(') => {
            let end = value_end(rest)?;
            let close = balanced(rest)?;
            if close + 1 == end { &rest[1..close] } else { &rest[1..end] }
        }
        Some(b':' | b'=') => &rest[1..value_end(rest)?],
        _ => return Ok((rest, Pair { key, value: &rest[..0] })),
    };
    Ok((&rest[value_end(rest)?..], Pair { key, value }))
}

/// Where a value ends: at a separator that is in no parenthesis.
fn value_end(text: &str) -> Parse<'_, usize> {
    let mut level = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '(' => level += 1,
            ')' => level = level.checked_sub(1).ok_or_else(|| Fail::new(&text[i..], "no parenthesis"))?,
            _ if level == 0 && SEPARATORS.contains(&c) => return Ok(i),
            _ => {}
        }
    }
    if level == 0 { Ok(text.len()) } else { Err(Fail::new(&text[text.len()..], "a closing parenthesis")) }
}

/// Where the parenthesis closes that the text begins with.
fn balanced(text: &str) -> Parse<'_, usize> {
    let mut level = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '(' => level += 1,
            ')' if level <= 1 => return Ok(i),
            ')' => level -= 1,
            _ => {}
        }
    }
    Err(Fail::new(&text[text.len()..], "a closing parenthesis"))
}
