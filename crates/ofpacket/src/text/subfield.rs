//! Fields and their bits by name: `reg0`, `NXM_NX_REG0[]`, `NXM_NX_REG0[0..15]`, `reg0[3]`.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::char;
use nom::combinator::opt;
use nom::sequence::{delimited, preceded};

use super::error::{Fail, Parse};
use super::token::{Tokens, all, int};
use crate::oxm::{Access, FieldInfo, OxmField};

/// Bits of a field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subfield {
    pub(super) info: &'static FieldInfo,
    pub(super) ofs: u16,
    pub(super) n_bits: u16,
}

impl Subfield {
    pub(super) fn is_whole(&self) -> bool {
        self.ofs == 0 && self.n_bits == self.info.bits
    }

    /// The field under the number that Open vSwitch's own actions have for it.
    pub(super) fn legacy(&self) -> OxmField {
        self.info.field.legacy()
    }
}

/// A field by any of its names.
pub(super) fn field(name: &str) -> Parse<'_, &'static FieldInfo> {
    OxmField::by_name(name).ok_or_else(|| Fail::new(name, "the name of a field"))
}

/// A field by any of its names, if actions can set it.
pub(super) fn writable(name: &str) -> Parse<'_, &'static FieldInfo> {
    let info = field(name)?;
    can_be_set(info, name).map(|()| info)
}

fn can_be_set<'a>(info: &FieldInfo, at: &'a str) -> Parse<'a, ()> {
    match info.access {
        Access::Writable => Ok(()),
        Access::ReadOnly => Err(Fail::new(at, "a field that can be set, which this one cannot")),
    }
}

/// All of the text as bits of a field.
pub(super) fn subfield(text: &str) -> Parse<'_, Subfield> {
    let (name, range) = all((name, opt(range)), text, "a field, as reg0, NXM_NX_REG0[] or reg0[0..15]")?;
    let info = field(name)?;
    let (first, last) = range.flatten().unwrap_or((0, info.bits - 1));
    if first > last || last >= info.bits {
        return Err(Fail::new(text, format!("bits of {}, which has {}", info.name, info.bits)));
    }
    Ok(Subfield { info, ofs: first, n_bits: last - first + 1 })
}

/// As [`subfield`], of a field that Open vSwitch's older actions have room for: not one of an experimenter.
pub(super) fn short<'a>(text: &'a str) -> Parse<'a, Subfield> {
    let bits = subfield(text)?;
    match bits.legacy().experimenter_id() {
        None => Ok(bits),
        Some(_) => Err(Fail::new(text, "a field with a number of 32 bits, which this one has not")),
    }
}

/// As [`subfield`], of a field that can be set.
pub(super) fn destination<'a>(text: &'a str) -> Parse<'a, Subfield> {
    let bits = subfield(text)?;
    can_be_set(bits.info, text).map(|()| bits)
}

fn name(text: &str) -> Tokens<'_, &str> {
    take_while1(|c: char| c.is_ascii_alphanumeric() || c == '_').parse_complete(text)
}

/// `[]`, `[3]` or `[0..15]`; the first and the last bit, none for all of them.
fn range(text: &str) -> Tokens<'_, Option<(u16, u16)>> {
    let bits = (int::<u16>, opt(preceded(tag(".."), int::<u16>)))
        .map(|(first, last)| Some((first, last.unwrap_or(first))));
    alt((tag("[]").map(|_| None), delimited(char('['), bits, char(']')))).parse_complete(text)
}
