//! Groups: changing and describing them.

use std::fmt::{self, Write};

use super::common::{decode_all, decode_text, encode_text, entry};
use super::fields::{Mask, by_field};
use super::property::{EXPERIMENTER, Property, decode_properties, experimenter};
use super::text;
use crate::action::{self, Action};
use crate::wire::{Reader, Result, Sink, Writer};
use crate::{Match, PortNo};

wire_enum! {
    /// What to do with a group.
    GroupModCommand: u16 {
        /// Add it; there must be none of this number.
        Add = 0 "ADD",
        /// Change it.
        Modify = 1 "MOD",
        /// Remove it, with the flows that use it.
        Delete = 2 "DEL",
        /// Put buckets into it, at `command_bucket_id`.
        InsertBucket = 3 "INSERT_BUCKET",
        /// Take the bucket `command_bucket_id` out.
        RemoveBucket = 5 "REMOVE_BUCKET",
        /// Open vSwitch's: whichever is right.
        AddOrModify = 0x8000 "ADD_OR_MOD",
    }
}

wire_enum! {
    /// What a group does with its buckets (OpenFlow 1.5, section 5.10.1).
    GroupType: u8 {
        /// Each of them.
        All = 0 "all",
        /// One of them.
        Select = 1 "select",
        /// The only one.
        Indirect = 2 "indirect",
        /// The first live one.
        FastFailover = 3 "ff",
    }
}

/// No bucket in particular, or all of them.
pub const BUCKET_ALL: u32 = 0xffff_ffff;
/// Before the first bucket, or the first one.
pub const BUCKET_FIRST: u32 = 0xffff_fffd;
/// Behind the last bucket, or the last one.
pub const BUCKET_LAST: u32 = 0xffff_fffe;
/// All groups, as a group number in requests.
pub const GROUP_ALL: u32 = 0xffff_fffc;

/// Change the group table (OpenFlow 1.5, section 7.3.4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupModCommand,
    /// To insert and remove buckets: where, or which; else [`BUCKET_ALL`].
    pub command_bucket_id: u32,
    /// The group.
    pub group: Group,
}

/// A group, as it is asked for and described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub group_id: u32,
    /// What it does with its buckets.
    pub kind: GroupType,
    /// The buckets in order.
    pub buckets: Vec<Bucket>,
    /// How it selects one.
    pub properties: Vec<GroupProperty>,
}

/// What a group may do with a packet (OpenFlow 1.5, section 7.3.4.3.2, `ofp_bucket`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its number within the group, below 0xffffff00.
    pub bucket_id: u32,
    /// What is done.
    pub actions: Vec<Action>,
    /// When.
    pub properties: Vec<BucketProperty>,
}

/// A property of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BucketProperty {
    /// Its share; 1 in a group of type select that does not say.
    Weight(u16),
    /// It is live while this port is.
    WatchPort(PortNo),
    /// It is live while this group is.
    WatchGroup(u32),
    /// Any other, as it was.
    Other(Property),
}

/// A property of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupProperty {
    /// How a bucket is selected (Netronome's extension, `include/openflow/netronome-ext.h`).
    SelectionMethod {
        /// `hash` or `dp_hash`, up to 15 bytes.
        method: String,
        /// What it means is up to the method.
        param: u64,
        /// The fields to hash, each with the bits of it that count as its value.
        fields: Match,
    },
    /// Any other, as it was.
    Other(Property),
}

const WHAT: &str = "group";
const BUCKET: &str = "bucket";
const WEIGHT: u16 = 0;
const WATCH_PORT: u16 = 1;
const WATCH_GROUP: u16 = 2;
const NETRONOME: u32 = 0x0000_154d;
const SELECTION_METHOD: u32 = 1;
const METHOD_LEN: usize = 16;

impl GroupMod {
    /// With no bucket in particular.
    pub fn new(command: GroupModCommand, group: Group) -> Self {
        Self { command, command_bucket_id: BUCKET_ALL, group }
    }

    /// Remove the group, or with [`GROUP_ALL`] all of them.
    pub fn delete(group_id: u32) -> Self {
        let group = Group { group_id, kind: GroupType::All, buckets: Vec::new(), properties: Vec::new() };
        Self::new(GroupModCommand::Delete, group)
    }

    /// ```text
    /// +---------+------+---+----------+-------------+---+-------------------+
    /// | command | type | 0 | group_id | buckets_len | 0 | command_bucket_id |
    /// +---------+------+---+----------+-------------+---+-------------------+
    /// | buckets ...                   | properties ...                      |
    /// +-------------------------------+-------------------------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (command, kind) = (GroupModCommand::from_wire(r.u16()?), GroupType::from_wire(r.u8()?));
        r.skip(1)?;
        let (group_id, buckets_len) = (r.u32()?, r.u16()?);
        r.skip(2)?;
        let command_bucket_id = r.u32()?;
        Ok(Self { command, command_bucket_id, group: Group::decode_rest(group_id, kind, buckets_len, r)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.command.to_wire());
        w.u8(self.group.kind.to_wire());
        w.zeros(1);
        w.u32(self.group.group_id);
        let len_at = w.later();
        w.zeros(2);
        w.u32(self.command_bucket_id);
        self.group.encode_rest(len_at, w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        use GroupModCommand::{InsertBucket, Other, RemoveBucket};

        match self.command {
            Other(command) => write!(out, "\n cmd:{command} ")?,
            command => write!(out, "\n {command} ")?,
        }
        let of_buckets = matches!(self.command, InsertBucket | RemoveBucket);
        if of_buckets {
            write!(out, "command_bucket_id:{},", bucket_id(self.command_bucket_id))?;
        }
        self.group.text(out, !of_buckets)
    }
}

impl Group {
    /// ```text
    /// +--------+------+---+----------+-------------+---+-------------+----------------+
    /// | length | type | 0 | group_id | buckets_len | 0 | buckets ... | properties ... |
    /// +--------+------+---+----------+-------------+---+-------------+----------------+
    /// ```
    /// (OpenFlow 1.5, section 7.3.5.11, `ofp_group_desc`)
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry(r, 2, 16, "group description")?;
        let kind = GroupType::from_wire(r.u8()?);
        r.skip(1)?;
        let (group_id, buckets_len) = (r.u32()?, r.u16()?);
        r.skip(6)?;
        Self::decode_rest(group_id, kind, buckets_len, &mut r)
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        w.u8(self.kind.to_wire());
        w.zeros(1);
        w.u32(self.group_id);
        let len_at = w.later();
        w.zeros(6);
        self.encode_rest(len_at, w);
        w.patch_len(from, from, WHAT);
    }

    fn decode_rest(group_id: u32, kind: GroupType, buckets_len: u16, r: &mut Reader<'_>) -> Result<Self> {
        let buckets = decode_all(&mut r.sub(buckets_len.into(), BUCKET)?, Bucket::decode)?;
        Ok(Self { group_id, kind, buckets, properties: decode_properties(r, WHAT, GroupProperty::decode)? })
    }

    fn encode_rest(&self, len_at: usize, w: &mut Writer<impl Sink>) {
        let from = w.pos();
        self.buckets.iter().for_each(|bucket| bucket.encode(w));
        w.patch_len(len_at, from, "buckets");
        self.properties.iter().for_each(|property| property.encode(w));
    }

    pub(super) fn text(&self, out: &mut String, with_type: bool) -> fmt::Result {
        write!(out, "group_id={}", self.group_id)?;
        match self.kind {
            _ if !with_type => {}
            GroupType::Other(_) => out.write_str(",type=unknown")?,
            kind => write!(out, ",type={kind}")?,
        }
        for property in &self.properties {
            property.text(out)?;
        }
        let usual_weight = u16::from(self.kind == GroupType::Select);
        for bucket in &self.buckets {
            write!(out, ",bucket=bucket_id:{},", bucket_id(bucket.bucket_id))?;
            bucket.text(out, usual_weight)?;
        }
        Ok(())
    }
}

fn bucket_id(id: u32) -> String {
    match id {
        BUCKET_FIRST => "first".to_owned(),
        BUCKET_LAST => "last".to_owned(),
        BUCKET_ALL => "all".to_owned(),
        _ => id.to_string(),
    }
}

impl Bucket {
    /// ```text
    /// +--------+-------------+-----------+-------------+----------------+
    /// | length | actions_len | bucket_id | actions ... | properties ... |
    /// +--------+-------------+-----------+-------------+----------------+
    /// ```
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry(r, 2, 8, BUCKET)?;
        let (actions_len, bucket_id) = (r.u16()?, r.u32()?);
        let actions = action::decode_list(&mut r.sub(actions_len.into(), "bucket's actions")?)?;
        let properties = decode_properties(&mut r, BUCKET, |kind, body| {
            Ok(match kind {
                WEIGHT => BucketProperty::Weight(body.u16()?),
                WATCH_PORT => BucketProperty::WatchPort(PortNo(body.u32()?)),
                WATCH_GROUP => BucketProperty::WatchGroup(body.u32()?),
                _ => BucketProperty::Other(Property { kind, body: body.rest() }),
            })
        })?;
        Ok(Self { bucket_id, actions, properties })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        w.later();
        w.u32(self.bucket_id);
        let actions_from = w.pos();
        action::encode_list(&self.actions, w);
        w.patch_len(from + 2, actions_from, "bucket's actions");
        for property in &self.properties {
            match property {
                BucketProperty::Weight(weight) => w.property_u16(WEIGHT, BUCKET, *weight),
                BucketProperty::WatchPort(port) => w.property(WATCH_PORT, BUCKET, |w| w.u32(port.0)),
                BucketProperty::WatchGroup(group) => w.property(WATCH_GROUP, BUCKET, |w| w.u32(*group)),
                BucketProperty::Other(property) => property.encode(w, BUCKET),
            }
        }
        w.patch_len(from, from, BUCKET);
    }

    fn text(&self, out: &mut String, usual_weight: u16) -> fmt::Result {
        let (mut weight, mut port, mut group) = (usual_weight, PortNo::ANY, super::GROUP_ANY);
        for property in &self.properties {
            match property {
                BucketProperty::Weight(value) => weight = *value,
                BucketProperty::WatchPort(value) => port = *value,
                BucketProperty::WatchGroup(value) => group = *value,
                BucketProperty::Other(_) => {}
            }
        }
        if weight != usual_weight {
            write!(out, "weight:{weight},")?;
        }
        if port != PortNo::ANY {
            write!(out, "watch_port:{port},")?;
        }
        if group != super::GROUP_ANY {
            write!(out, "watch_group:{group},")?;
        }
        out.write_str(&text::actions(&self.actions))
    }
}

impl GroupProperty {
    fn decode(kind: u16, body: &mut Reader<'_>) -> Result<Self> {
        if experimenter(kind, body) != Some((NETRONOME, SELECTION_METHOD)) {
            return Ok(Self::Other(Property { kind, body: body.rest() }));
        }
        body.skip(12)?;
        let (method, param) = (decode_text(body, METHOD_LEN)?, body.u64()?);
        let fields = Match::decode_fields(body.sub(body.len(), WHAT)?)?;
        Ok(Self::SelectionMethod { method, param, fields })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        match self {
            Self::SelectionMethod { method, param, fields } => w.property(EXPERIMENTER, WHAT, |w| {
                w.u32(NETRONOME);
                w.u32(SELECTION_METHOD);
                w.zeros(4);
                encode_text(method, METHOD_LEN, w);
                w.u64(*param);
                fields.encode_fields(w);
            }),
            Self::Other(property) => property.encode(w, WHAT),
        }
    }

    fn text(&self, out: &mut String) -> fmt::Result {
        let Self::SelectionMethod { method, param, fields } = self else {
            return Ok(());
        };
        write!(out, ",selection_method={method}")?;
        if *param != 0 {
            write!(out, ",selection_method_param={param}")?;
        }
        let mut sorted: Vec<_> = fields.iter().collect();
        sorted.sort_by_key(|oxm| by_field(oxm.field));
        let names: Vec<_> = sorted.into_iter().map(|oxm| Mask(oxm).to_string()).collect();
        match &names[..] {
            [] => Ok(()),
            [one] => write!(out, ",fields={one}"),
            _ => write!(out, ",fields({})", names.join(",")),
        }
    }
}
