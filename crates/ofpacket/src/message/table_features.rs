//! What flow tables can do (OpenFlow 1.5, section 7.3.5.18).

use bytes::Bytes;

use super::common::{decode_all, decode_text, encode_text, entry};
use super::property::{Property, decode_properties};
use crate::error::DecodeErrorKind;
use crate::wire::{Reader, Result, Sink, Writer};
use crate::{Match, OxmField};

wire_enum! {
    /// What to do with the features of tables.
    TableFeaturesCommand: u8 {
        /// These, and no others.
        Replace = 0 "replace",
        /// Change those given.
        Modify = 1 "modify",
        /// Enable the tables given.
        Enable = 2 "enable",
        /// Disable the tables given.
        Disable = 3 "disable",
    }
}

/// What a flow table can do (OpenFlow 1.5, section 7.3.5.18.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFeatures {
    /// Which table.
    pub table_id: u8,
    /// In a request: what to do.
    pub command: TableFeaturesCommand,
    /// `ofp_table_feature_flag`.
    pub features: u32,
    /// Its name, up to 31 bytes.
    pub name: String,
    /// Bits of the metadata that it can match.
    pub metadata_match: u64,
    /// Bits of the metadata that it can write.
    pub metadata_write: u64,
    /// Which bits of [`TableDesc::config`](super::TableDesc::config) can be set.
    pub capabilities: u32,
    /// How many flows there may be.
    pub max_entries: u32,
    /// The rest.
    pub properties: Vec<TableFeature>,
}

wire_enum! {
    /// The kinds of [`TableFeature`], `ofp_table_feature_prop_type`. Those that end in `Miss` are about the
    /// flow that matches everything with priority 0, where it differs.
    #[expect(missing_docs, reason = "the names say it")]
    TableFeatureKind: u16 {
        Instructions = 0 "instructions",
        InstructionsMiss = 1 "instructions_miss",
        NextTables = 2 "next_tables",
        NextTablesMiss = 3 "next_tables_miss",
        WriteActions = 4 "write_actions",
        WriteActionsMiss = 5 "write_actions_miss",
        ApplyActions = 6 "apply_actions",
        ApplyActionsMiss = 7 "apply_actions_miss",
        Match = 8 "match",
        Wildcards = 10 "wildcards",
        WriteSetfield = 12 "write_setfield",
        WriteSetfieldMiss = 13 "write_setfield_miss",
        ApplySetfield = 14 "apply_setfield",
        ApplySetfieldMiss = 15 "apply_setfield_miss",
        TableSyncFrom = 16 "table_sync_from",
        WriteCopyfield = 18 "write_copyfield",
        WriteCopyfieldMiss = 19 "write_copyfield_miss",
        ApplyCopyfield = 20 "apply_copyfield",
        ApplyCopyfieldMiss = 21 "apply_copyfield_miss",
        PacketTypes = 22 "packet_types",
    }
}

/// A property of a table's features: of one kind, and what that kind holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFeature {
    /// Which one.
    pub kind: TableFeatureKind,
    /// What it says.
    pub value: TableFeatureValue,
}

/// What a property of a table's features says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableFeatureValue {
    /// Types of instructions or actions; an experimenter's goes on behind its type.
    Ids(Vec<Property>),
    /// Tables.
    Tables(Bytes),
    /// Match fields.
    Fields(Vec<OxmId>),
    /// Match fields with values.
    Values(Match),
    /// Anything, as it was.
    Other(Bytes),
}

/// A match field without a value (OpenFlow 1.5, section 7.2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OxmId {
    /// Which field; its width is that of value and mask together.
    pub field: OxmField,
    /// With a mask.
    pub has_mask: bool,
}

const WHAT: &str = "table features";
const NAME_LEN: usize = 32;

impl TableFeatures {
    /// ```text
    /// +--------+----------+---------+----------+------------+----------------+----------------+
    /// | length | table_id | command | features | name (256) | metadata_match | metadata_write |
    /// +--------+----------+---------+----------+------------+----------------+----------------+
    /// | capabilities      | max_entries        | properties ...                               |
    /// +-------------------+--------------------+----------------------------------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry(r, 2, 64, WHAT)?;
        Ok(Self {
            table_id: r.u8()?,
            command: TableFeaturesCommand::from_wire(r.u8()?),
            features: r.u32()?,
            name: decode_text(&mut r, NAME_LEN)?,
            metadata_match: r.u64()?,
            metadata_write: r.u64()?,
            capabilities: r.u32()?,
            max_entries: r.u32()?,
            properties: decode_properties(&mut r, WHAT, TableFeature::decode)?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        w.u8(self.table_id);
        w.u8(self.command.to_wire());
        w.u32(self.features);
        encode_text(&self.name, NAME_LEN, w);
        w.u64(self.metadata_match);
        w.u64(self.metadata_write);
        w.u32(self.capabilities);
        w.u32(self.max_entries);
        self.properties.iter().for_each(|property| property.encode(w));
        w.patch_len(from, from, WHAT);
    }
}

impl TableFeature {
    fn decode(kind: u16, body: &mut Reader<'_>) -> Result<Self> {
        use TableFeatureKind as Kind;

        let kind = Kind::from_wire(kind);
        let value = match kind {
            Kind::Instructions
            | Kind::InstructionsMiss
            | Kind::WriteActions
            | Kind::WriteActionsMiss
            | Kind::ApplyActions
            | Kind::ApplyActionsMiss => TableFeatureValue::Ids(decode_all(body, decode_id)?),
            Kind::NextTables | Kind::NextTablesMiss | Kind::TableSyncFrom => {
                TableFeatureValue::Tables(body.rest())
            }
            Kind::PacketTypes => {
                TableFeatureValue::Values(Match::decode_fields(body.sub(body.len(), WHAT)?)?)
            }
            Kind::Other(_) => TableFeatureValue::Other(body.rest()),
            _ => TableFeatureValue::Fields(decode_all(body, OxmId::decode)?),
        };
        Ok(Self { kind, value })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        w.property(self.kind.to_wire(), WHAT, |w| match &self.value {
            TableFeatureValue::Ids(ids) => {
                for id in ids {
                    w.u16(id.kind);
                    w.len16(4 + id.body.len(), WHAT);
                    w.slice(&id.body);
                }
            }
            TableFeatureValue::Tables(bytes) | TableFeatureValue::Other(bytes) => w.slice(bytes),
            TableFeatureValue::Fields(ids) => {
                ids.iter().for_each(|id| id.encode(w));
            }
            TableFeatureValue::Values(values) => values.encode_fields(w),
        });
    }
}

impl OxmId {
    /// Loses nothing, whatever the bytes are.
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (field, has_mask) = OxmField::decode_header(r)?;
        Ok(Self { field, has_mask })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        if !w.passes(self.field.header_len()) {
            self.field.encode_header(w, self.has_mask, self.field.width().into());
        }
    }
}

/// The type of an instruction or action: `{ type16, length16, ... }`, without any padding.
fn decode_id(r: &mut Reader<'_>) -> Result<Property> {
    let (kind, len) = (r.u16()?, usize::from(r.u16()?));
    let Some(more) = len.checked_sub(4) else {
        return Err(r.error(DecodeErrorKind::BadLength(len)));
    };
    Ok(Property { kind, body: r.bytes(more)? })
}

/// Bit `n` for each type `n`; experimenters' are left out.
pub(super) fn id_bits(ids: &[Property]) -> u32 {
    ids.iter().filter(|id| id.kind < 32).fold(0, |bits, id| bits | 1 << id.kind)
}

/// The names of actions by the bits of their types, in Open vSwitch's order.
pub(super) fn action_names(bits: u32) -> String {
    const NAMES: [(u8, &str); 12] = [
        (0, "output"),
        (22, "group"),
        (25, "set_field"),
        (18, "strip_vlan"),
        (17, "push_vlan"),
        (23, "mod_nw_ttl"),
        (24, "dec_ttl"),
        (15, "set_mpls_ttl"),
        (16, "dec_mpls_ttl"),
        (19, "push_mpls"),
        (20, "pop_mpls"),
        (21, "set_queue"),
    ];
    let names: Vec<_> = NAMES.iter().filter(|(bit, _)| bits & 1 << bit != 0).map(|&(_, name)| name).collect();
    names.join(" ")
}
