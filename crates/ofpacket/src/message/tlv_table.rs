//! Which tunnel options are mapped to which fields.

use std::fmt::{self, Write};

use super::common::decode_all;
use crate::wire::{Reader, Result, Sink, Writer};

/// The tunnel options that a bridge knows (`NXT_TLV_TABLE_REPLY`).
///
/// ```text
/// +------------------+------------+---+----------+
/// | max_option_space | max_fields | 0 | maps ... |
/// +------------------+------------+---+----------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlvTable {
    /// Bytes that all options together may have.
    pub max_option_space: u32,
    /// How many options there may be.
    pub max_fields: u16,
    /// The options.
    pub maps: Vec<TlvMap>,
}

/// A tunnel option and the field that it is matched by.
///
/// ```text
/// +--------------+------+--------+-------+---+
/// | class        | type | length | index | 0 |
/// +--------------+------+--------+-------+---+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlvMap {
    /// The option's class.
    pub class: u16,
    /// The option's type.
    pub kind: u8,
    /// Bytes of its value, a multiple of 4.
    pub len: u8,
    /// The `n` of `tun_metadata<n>`.
    pub index: u16,
}

impl TlvMap {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let map = Self { class: r.u16()?, kind: r.u8()?, len: r.u8()?, index: r.u16()? };
        r.skip(2)?;
        Ok(map)
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.class);
        w.u8(self.kind);
        w.u8(self.len);
        w.u16(self.index);
        w.zeros(2);
    }
}

impl TlvTable {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (max_option_space, max_fields) = (r.u32()?, r.u16()?);
        r.skip(10)?;
        Ok(Self { max_option_space, max_fields, maps: decode_all(r, TlvMap::decode)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.max_option_space);
        w.u16(self.max_fields);
        w.zeros(10);
        self.maps.iter().for_each(|map| map.encode(w));
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let Self { max_option_space, max_fields, maps } = self;
        writeln!(out, "\n max option space={max_option_space} max fields={max_fields}")?;
        let allocated: u32 = maps.iter().map(|map| u32::from(map.len)).sum();
        write!(out, " allocated option space={allocated}\n\n")?;
        maps_text(out, maps)
    }
}

wire_enum! {
    /// What to do with tunnel options.
    TlvTableCommand: u16 {
        /// Map them.
        Add = 0 "ADD",
        /// Forget them.
        Delete = 1 "DEL",
        /// Forget all.
        Clear = 2 "CLEAR",
    }
}

/// Change which tunnel options a bridge knows (`NXT_TLV_TABLE_MOD`).
///
/// ```text
/// +---------+---+----------+
/// | command | 0 | maps ... |
/// +---------+---+----------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlvTableMod {
    /// What to do.
    pub command: TlvTableCommand,
    /// With these.
    pub maps: Vec<TlvMap>,
}

impl TlvTableMod {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let command = TlvTableCommand::from_wire(r.u16()?);
        r.skip(6)?;
        Ok(Self { command, maps: decode_all(r, TlvMap::decode)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.command.to_wire());
        w.zeros(6);
        self.maps.iter().for_each(|map| map.encode(w));
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, "\n {}", self.command)?;
        if self.command == TlvTableCommand::Clear { Ok(()) } else { maps_text(out, &self.maps) }
    }
}

fn maps_text(out: &mut String, maps: &[TlvMap]) -> fmt::Result {
    out.write_str(" mapping table:\n  class  type  length  match field\n")?;
    out.write_str(" ------  ----  ------  --------------")?;
    for TlvMap { class, kind, len, index } in maps {
        // As C's `%#6x`: no prefix on zero.
        let hex = |n: u16| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
        let (class, kind) = (hex(*class), hex((*kind).into()));
        write!(out, "\n {class:>6}  {kind:>4}  {len:>6}  tun_metadata{index}")?;
    }
    Ok(())
}
