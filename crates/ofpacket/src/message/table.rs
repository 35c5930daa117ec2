//! Flow tables: how they are set and how full they are.

use std::fmt::{self, Write};

use super::common::entry;
use super::property::{Property, decode_properties};
use super::text;
use crate::wire::{Reader, Result, Sink, Writer};

/// A property of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableProperty {
    /// What is evicted first, `ofp_table_mod_prop_eviction_flag`: 1 other, 2 importance, 4 lifetime.
    Eviction(u32),
    /// When to tell of the room that is left; all in percent.
    Vacancy {
        /// When it falls below this.
        down: u8,
        /// When it rises above this.
        up: u8,
        /// What it is now; 0 in a request.
        vacancy: u8,
    },
    /// Any other, as it was.
    Other(Property),
}

const WHAT: &str = "table description";
const EVICTION: u16 = 2;
const VACANCY: u16 = 3;

impl TableProperty {
    fn decode_all(r: &mut Reader<'_>) -> Result<Vec<Self>> {
        decode_properties(r, WHAT, |kind, body| match kind {
            EVICTION => body.u32().map(Self::Eviction),
            VACANCY => Ok(Self::Vacancy { down: body.u8()?, up: body.u8()?, vacancy: body.u8()? }),
            _ => Ok(Self::Other(Property { kind, body: body.rest() })),
        })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        match self {
            Self::Eviction(flags) => w.property(EVICTION, WHAT, |w| w.u32(*flags)),
            Self::Vacancy { down, up, vacancy } => {
                w.property(VACANCY, WHAT, |w| w.slice(&[*down, *up, *vacancy, 0]));
            }
            Self::Other(property) => property.encode(w, WHAT),
        }
    }
}

/// The last of each kind: that is what counts.
fn find(properties: &[TableProperty]) -> (Option<u32>, (u8, u8, u8)) {
    let (mut eviction, mut vacancies) = (None, (0, 0, 0));
    for property in properties {
        match property {
            TableProperty::Eviction(flags) => eviction = Some(*flags),
            TableProperty::Vacancy { down, up, vacancy } => vacancies = (*down, *up, *vacancy),
            TableProperty::Other(_) => {}
        }
    }
    (eviction, vacancies)
}

/// How a table is set (OpenFlow 1.5, section 7.3.5.8).
///
/// ```text
/// +--------+----------+---+--------+----------------+
/// | length | table_id | 0 | config | properties ... |
/// +--------+----------+---+--------+----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDesc {
    /// Which table.
    pub table_id: u8,
    /// [`TableDesc::EVICTION`] and others.
    pub config: u32,
    /// Eviction and vacancy events.
    pub properties: Vec<TableProperty>,
}

const NAMES: [&str; 2] = ["off", "on"];

impl TableDesc {
    /// In `config`: a full table drops flows to make room.
    pub const EVICTION: u32 = 4;
    /// In `config`: tell when the table gets full or empty.
    pub const VACANCY_EVENTS: u32 = 8;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut entry = entry(r, 2, 8, WHAT)?;
        let table_id = entry.u8()?;
        entry.skip(1)?;
        Ok(Self { table_id, config: entry.u32()?, properties: TableProperty::decode_all(&mut entry)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        w.u8(self.table_id);
        w.u8(0);
        w.u32(self.config);
        self.properties.iter().for_each(|property| property.encode(w));
        w.patch_len(from, from, WHAT);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let (eviction, (down, up, vacancy)) = find(&self.properties);
        let on = |bit| usize::from(self.config & bit != 0);
        write!(out, "\n  table {}:\n   eviction={}", self.table_id, NAMES[on(Self::EVICTION)])?;
        out.write_str(" eviction_flags=")?;
        eviction_text(out, eviction)?;
        write!(out, "\n   vacancy={}", NAMES[on(Self::VACANCY_EVENTS)])?;
        if on(Self::VACANCY_EVENTS) == 1 {
            write!(out, " vacancy_down={down}% vacancy_up={up}% vacancy={vacancy}%")?;
        }
        out.write_char('\n')
    }
}

fn eviction_text(out: &mut String, flags: Option<u32>) -> fmt::Result {
    match flags {
        None | Some(u32::MAX) => out.write_str("(default)"),
        Some(flags) => text::bits(out, flags, &[(1, "OTHER"), (2, "IMPORTANCE"), (4, "LIFETIME")], '|'),
    }
}

/// Change how a table is set (OpenFlow 1.5, section 7.3.4.1).
///
/// ```text
/// +----------+---+--------+----------------+
/// | table_id | 0 | config | properties ... |
/// +----------+---+--------+----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMod {
    /// Which table, or [`TABLE_ALL`](super::TABLE_ALL).
    pub table_id: u8,
    /// [`TableDesc::EVICTION`] and others.
    pub config: u32,
    /// Eviction and vacancy events.
    pub properties: Vec<TableProperty>,
}

impl TableMod {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let table_id = r.u8()?;
        r.skip(3)?;
        Ok(Self { table_id, config: r.u32()?, properties: TableProperty::decode_all(r)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u8(self.table_id);
        w.zeros(3);
        w.u32(self.config);
        self.properties.iter().for_each(|property| property.encode(w));
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        match self.table_id {
            super::TABLE_ALL => out.write_str(" table_id: ALL_TABLES")?,
            id => write!(out, " table_id={id}")?,
        }
        let (eviction, (down, up, _)) = find(&self.properties);
        let on = |bit| usize::from(self.config & bit != 0);
        write!(out, ", eviction={}", NAMES[on(TableDesc::EVICTION)])?;
        if eviction.is_some() {
            out.write_str(" eviction_flags=")?;
            eviction_text(out, eviction)?;
        }
        write!(out, ", vacancy={}", NAMES[on(TableDesc::VACANCY_EVENTS)])?;
        match on(TableDesc::VACANCY_EVENTS) {
            1 => write!(out, " vacancy:{down},{up}"),
            _ => Ok(()),
        }
    }
}

/// A table got full or empty (OpenFlow 1.5, section 7.4.5).
///
/// ```text
/// +--------+---+-------------------+
/// | reason | 0 | table description |
/// +--------+---+-------------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStatus {
    /// `ofp_table_reason`: 3 the room fell below, 4 rose above its limit.
    pub reason: u8,
    /// The table.
    pub table: TableDesc,
}

impl TableStatus {
    /// The room that is left fell below `down`.
    pub const VACANCY_DOWN: u8 = 3;
    /// The room that is left rose above `up`.
    pub const VACANCY_UP: u8 = 4;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let reason = r.u8()?;
        r.skip(7)?;
        Ok(Self { reason, table: TableDesc::decode(r)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u8(self.reason);
        w.zeros(7);
        self.table.encode(w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        match self.reason {
            Self::VACANCY_DOWN => out.write_str(" reason=VACANCY_DOWN")?,
            Self::VACANCY_UP => out.write_str(" reason=VACANCY_UP")?,
            other => write!(out, " reason={other}")?,
        }
        out.write_str("\ntable_desc:-")?;
        self.table.text(out)
    }
}

/// How full a table is and what it did (OpenFlow 1.5, section 7.3.5.4).
///
/// ```text
/// +----------+---+--------------+--------------+---------------+
/// | table_id | 0 | active_count | lookup_count | matched_count |
/// +----------+---+--------------+--------------+---------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStats {
    /// Which table.
    pub table_id: u8,
    /// Flows in it.
    pub active_count: u32,
    /// Packets looked up in it.
    pub lookup_count: u64,
    /// Packets that matched.
    pub matched_count: u64,
}

impl TableStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let table_id = r.u8()?;
        r.skip(3)?;
        let (active_count, lookup_count, matched_count) = (r.u32()?, r.u64()?, r.u64()?);
        Ok(Self { table_id, active_count, lookup_count, matched_count })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u8(self.table_id);
        w.zeros(3);
        w.u32(self.active_count);
        w.u64(self.lookup_count);
        w.u64(self.matched_count);
    }
}
