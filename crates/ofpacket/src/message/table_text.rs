//! Tables, their features and their statistics, as Open vSwitch prints them: what is as in the table before
//! is said so (`ofputil_table_features_format()` in `lib/ofp-table.c`).

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::fields::{FieldRank, by_field, short_names};
use super::table::{TableDesc, TableStats};
use super::table_features::{
    OxmId, TableFeatureKind, TableFeatureValue, TableFeatures, TableFeaturesCommand, action_names, id_bits,
};
use super::text::Hex;

type Fields = BTreeSet<FieldRank>;

/// What can be done with actions of one kind.
#[derive(Clone, Default, PartialEq)]
struct Actions {
    names: String,
    set_fields: Fields,
}

/// What a flow can do.
#[derive(Clone, Default, PartialEq)]
struct Instructions {
    next: BTreeSet<u8>,
    types: u32,
    write: Actions,
    apply: Actions,
}

/// The features of a table.
#[derive(Clone, Default)]
struct Table {
    id: u8,
    name: String,
    command: Option<TableFeaturesCommand>,
    metadata: (u64, u64),
    /// Whether there is eviction, and vacancy events; not in statistics.
    supports: Option<(bool, bool)>,
    max_entries: u32,
    nonmiss: Instructions,
    miss: Instructions,
    matched: Fields,
    masked: Fields,
    wildcards: Fields,
}

/// Tables as one text.
#[derive(Default)]
pub(super) struct TablesText {
    before: Option<(Table, Option<TableStats>)>,
    /// The first and the last table that are as the one before.
    ditto: Option<(u8, u8)>,
}

pub(super) fn features_text(out: &mut String, tables: &[TableFeatures]) -> fmt::Result {
    let mut text = TablesText::default();
    tables.iter().try_for_each(|features| text.table(out, Table::new(features), None))?;
    text.finish(out)
}

pub(super) fn stats_text(out: &mut String, tables: &[TableStats]) -> fmt::Result {
    let mut text = TablesText::default();
    for stats in tables {
        text.table(out, Table { id: stats.table_id, ..Table::default() }, Some(*stats))?;
    }
    text.finish(out)
}

impl Table {
    fn new(features: &TableFeatures) -> Self {
        let mut table = Self {
            id: features.table_id,
            name: features.name.clone(),
            command: Some(features.command).filter(|&command| command != TableFeaturesCommand::Replace),
            metadata: (features.metadata_match, features.metadata_write),
            supports: Some((
                features.capabilities & TableDesc::EVICTION != 0,
                features.capabilities & TableDesc::VACANCY_EVENTS != 0,
            )),
            max_entries: features.max_entries,
            ..Self::default()
        };
        // What is not said of the table miss is as for the others.
        for miss in [false, true] {
            for property in &features.properties {
                table.add(property.kind, &property.value, miss);
            }
            if !miss {
                table.miss = table.nonmiss.clone();
            }
        }
        table.matched.extend(table.masked.clone());
        table.wildcards.extend(table.masked.clone());
        table.wildcards.retain(|field| table.matched.contains(field));
        table
    }

    fn add(&mut self, kind: TableFeatureKind, value: &TableFeatureValue, miss: bool) {
        use TableFeatureKind as Kind;

        let of = if miss { &mut self.miss } else { &mut self.nonmiss };
        match (kind, value, miss) {
            (Kind::Instructions, TableFeatureValue::Ids(ids), false)
            | (Kind::InstructionsMiss, TableFeatureValue::Ids(ids), true) => of.types = id_bits(ids) & 0x7e,
            (Kind::NextTables, TableFeatureValue::Tables(tables), false)
            | (Kind::NextTablesMiss, TableFeatureValue::Tables(tables), true) => {
                of.next = tables.iter().copied().filter(|&id| id != 255).collect();
            }
            (Kind::WriteActions, TableFeatureValue::Ids(ids), false)
            | (Kind::WriteActionsMiss, TableFeatureValue::Ids(ids), true) => {
                of.write.names = action_names(id_bits(ids));
            }
            (Kind::ApplyActions, TableFeatureValue::Ids(ids), false)
            | (Kind::ApplyActionsMiss, TableFeatureValue::Ids(ids), true) => {
                of.apply.names = action_names(id_bits(ids));
            }
            (Kind::WriteSetfield, TableFeatureValue::Fields(ids), false)
            | (Kind::WriteSetfieldMiss, TableFeatureValue::Fields(ids), true) => {
                of.write.set_fields = fields(ids, false);
            }
            (Kind::ApplySetfield, TableFeatureValue::Fields(ids), false)
            | (Kind::ApplySetfieldMiss, TableFeatureValue::Fields(ids), true) => {
                of.apply.set_fields = fields(ids, false);
            }
            (Kind::Match, TableFeatureValue::Fields(ids), false) => {
                (self.matched, self.masked) = (fields(ids, false), fields(ids, true));
            }
            (Kind::Wildcards, TableFeatureValue::Fields(ids), false) => self.wildcards = fields(ids, false),
            _ => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.metadata == (0, 0)
            && self.supports.is_none()
            && self.max_entries == 0
            && self.nonmiss == Instructions::default()
            && self.miss == Instructions::default()
            && self.matched.is_empty()
    }

    fn like(&self, other: &Self) -> bool {
        self.metadata == other.metadata
            && self.supports == other.supports
            && self.max_entries == other.max_entries
            && self.same_instructions(other)
            && self.matched == other.matched
    }

    fn same_instructions(&self, other: &Self) -> bool {
        self.nonmiss.like(self.id, &other.nonmiss, other.id) && self.miss.like(self.id, &other.miss, other.id)
    }

    fn matching_text(&self, out: &mut String) -> fmt::Result {
        for (masked, wild, title) in [
            (true, true, "arbitrary mask"),
            (false, true, "exact match or wildcard"),
            (false, false, "must exact match"),
        ] {
            let of = |field: &&FieldRank| {
                self.masked.contains(*field) == masked && self.wildcards.contains(*field) == wild
            };
            names_text(out, &format!("      {title}"), self.matched.iter().filter(of))?;
        }
        Ok(())
    }
}

/// Fields that are known.
fn fields(ids: &[OxmId], has_mask: bool) -> Fields {
    let of_kind = ids.iter().filter(|id| id.has_mask == has_mask);
    of_kind.map(|id| by_field(id.field)).filter(|rank| !rank.name.is_empty()).collect()
}

fn names_text<'a>(out: &mut String, title: &str, fields: impl Iterator<Item = &'a FieldRank>) -> fmt::Result {
    let names: Vec<_> = fields.map(|field| field.name).collect();
    if names.is_empty() { Ok(()) } else { writeln!(out, "{title}: {}", short_names(&names)) }
}

impl Instructions {
    /// Tables cannot go to themselves: that the next table can be reached from this one, but not from
    /// itself, is no difference.
    fn like(&self, id: u8, other: &Self, other_id: u8) -> bool {
        let reaches_next = |a: &Self, a_id: u8, b: &Self, b_id: u8| {
            a_id.checked_add(1) == Some(b_id) && a.next.contains(&b_id) && !b.next.contains(&b_id)
        };
        let mut diff = self.next.symmetric_difference(&other.next);
        let same_next = if reaches_next(self, id, other, other_id) {
            diff.all(|&table| table == other_id)
        } else if reaches_next(other, other_id, self, id) {
            diff.all(|&table| table == id)
        } else {
            diff.next().is_none()
        };
        same_next && (self.types, &self.write, &self.apply) == (other.types, &other.write, &other.apply)
    }

    fn text(&self, out: &mut String, before: Option<&Self>) -> fmt::Result {
        if !self.next.is_empty() {
            writeln!(out, "      next tables: {}", ranges(&self.next))?;
        }
        if self.types != 0 {
            if before.is_some_and(|before| before.types == self.types) {
                out.write_str("      (same instructions)\n")?;
            } else {
                // By `ofp_instruction_type`, in Open vSwitch's order.
                let names = [
                    (6, "meter"),
                    (4, "apply_actions"),
                    (5, "clear_actions"),
                    (3, "write_actions"),
                    (2, "write_metadata"),
                    (1, "goto_table"),
                ];
                let set = names.iter().filter(|(bit, _)| self.types & 1 << bit != 0);
                let names: Vec<_> = set.map(|&(_, name)| name).collect();
                writeln!(out, "      instructions: {}", names.join(" "))?;
            }
        }
        let same = |before: &Self| (&before.write, &before.apply) == (&self.write, &self.apply);
        if before.is_some_and(same) && !self.write.set_fields.is_empty() {
            out.write_str("      (same actions)\n")
        } else if self.write != self.apply {
            out.write_str("      Write-Actions features:\n")?;
            self.write.text(out)?;
            out.write_str("      Apply-Actions features:\n")?;
            self.apply.text(out)
        } else if self.write != Actions::default() {
            out.write_str("      Write-Actions and Apply-Actions features:\n")?;
            self.write.text(out)
        } else {
            Ok(())
        }
    }
}

impl Actions {
    fn text(&self, out: &mut String) -> fmt::Result {
        if !self.names.is_empty() {
            writeln!(out, "        actions: {}", self.names)?;
        }
        names_text(out, "        supported on Set-Field", self.set_fields.iter())
    }
}

/// `1-3,5`
fn ranges(tables: &BTreeSet<u8>) -> String {
    let mut ranges: Vec<(u8, u8)> = Vec::new();
    for &table in tables {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == table => *end = table,
            _ => ranges.push((table, table)),
        }
    }
    let text = |(a, b): &(u8, u8)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

impl TablesText {
    fn table(&mut self, out: &mut String, table: Table, stats: Option<TableStats>) -> fmt::Result {
        let before = self.before.take();
        self.write(out, &table, stats, before.as_ref())?;
        self.before = Some((table, stats));
        Ok(())
    }

    fn write(
        &mut self,
        out: &mut String,
        table: &Table,
        stats: Option<TableStats>,
        before: Option<&(Table, Option<TableStats>)>,
    ) -> fmt::Result {
        if let (None, Some(command)) = (before, table.command) {
            write!(out, "\n  command: {command}")?;
        }
        let counts = |s: TableStats| (s.active_count, s.lookup_count, s.matched_count);
        let same_stats =
            stats.is_none() || before.is_some_and(|(_, before)| before.map(counts) == stats.map(counts));
        let same_features = before.is_some_and(|(before, _)| table.like(before));
        if same_stats && same_features && table.name.is_empty() {
            self.ditto = Some((self.ditto.map_or(table.id, |(first, _)| first), table.id));
            return Ok(());
        }
        self.finish(out)?;
        write!(out, "\n  table {}", table.id)?;
        if !table.name.is_empty() {
            write!(out, " (\"{}\")", table.name)?;
        }
        if same_stats && same_features {
            return out.write_str(": ditto");
        }
        out.write_str(":\n")?;
        if let Some(TableStats { active_count, lookup_count, matched_count, .. }) = stats {
            writeln!(out, "    active={active_count}, lookup={lookup_count}, matched={matched_count}")?;
        }
        if same_features {
            return out.write_str(if table.is_empty() { "" } else { "    (same features)\n" });
        }
        table.text(out, before.map(|(before, _)| before))
    }

    fn finish(&mut self, out: &mut String) -> fmt::Result {
        match self.ditto.take() {
            None => Ok(()),
            Some((first, last)) if first == last => write!(out, "\n  table {first}: ditto\n"),
            Some((first, last)) => write!(out, "\n  tables {first}...{last}: ditto\n"),
        }
    }
}

impl Table {
    fn text(&self, out: &mut String, before: Option<&Self>) -> fmt::Result {
        let (matched, written) = self.metadata;
        if (matched, written) != (0, 0) {
            writeln!(out, "    metadata: match={} write={}", Hex(matched), Hex(written))?;
        }
        if let Some((eviction, vacancy)) = self.supports {
            let not = |supported| if supported { "" } else { "not " };
            writeln!(out, "    eviction: {}supported", not(eviction))?;
            writeln!(out, "    vacancy events: {}supported", not(vacancy))?;
        }
        if self.max_entries != 0 {
            writeln!(out, "    max_entries={}", self.max_entries)?;
        }
        let empty = self.nonmiss == Instructions::default();
        if before.is_some_and(|before| self.same_instructions(before)) {
            out.write_str(if empty { "" } else { "    (same instructions)\n" })?;
        } else if self.nonmiss != self.miss {
            out.write_str("    instructions (other than table miss):\n")?;
            self.nonmiss.text(out, before.map(|before| &before.nonmiss))?;
            out.write_str("    instructions (table miss):\n")?;
            self.miss.text(out, before.map(|before| &before.miss))?;
        } else if !empty {
            out.write_str("    instructions (table miss and others):\n")?;
            self.nonmiss.text(out, before.map(|before| &before.nonmiss))?;
        }
        if self.matched.is_empty() {
            return Ok(());
        }
        if before.is_some_and(|before| before.matched == self.matched) {
            return out.write_str("    (same matching)\n");
        }
        out.write_str("    matching:\n")?;
        self.matching_text(out)
    }
}
