//! Tables and queues.

use std::time::Duration;

use bytes::Bytes;
use ofpacket::*;

use crate::samples::{property, reply, request};

pub(crate) fn tables() -> Vec<Body> {
    use TableFeatureKind as Kind;

    let vacancy = |down, up, vacancy| TableProperty::Vacancy { down, up, vacancy };
    let change = |table_id, config, properties: &[TableProperty]| {
        Body::TableMod(TableMod { table_id, config, properties: properties.to_vec() })
    };
    let desc = |table_id, config, properties: &[TableProperty]| TableDesc {
        table_id,
        config,
        properties: properties.to_vec(),
    };
    let full = desc(3, 12, &[TableProperty::Eviction(7), vacancy(10, 90, 50)]);
    let stats =
        |table_id, active_count| TableStats { table_id, active_count, lookup_count: 9, matched_count: 8 };
    let ids = |types: &[u16]| TableFeatureValue::Ids(types.iter().map(|&kind| property(kind, b"")).collect());
    let fields = |all: &[(OxmField, bool)]| {
        let id = |&(field, has_mask): &(OxmField, bool)| {
            let len = field.width() * (1 + u8::from(has_mask));
            OxmId { field: OxmField::from_numbers(field.class(), field.number(), len), has_mask }
        };
        TableFeatureValue::Fields(all.iter().map(id).collect())
    };
    let set = [(OxmField::ETH_SRC, false), (OxmField::ETH_DST, false), (OxmField::reg(0), false)];
    let more = [
        (OxmField::reg(1), false),
        (OxmField::reg(2), false),
        (OxmField::ETH_TYPE, false),
        (OxmField::IPV6_ND_SLL, false),
        (OxmField::TCP_SRC, false),
        (OxmField::TCP_DST, false),
        (OxmField::TCP_FLAGS, false),
        (OxmField::VLAN_VID, false),
    ];
    let set_more = [&set[..], &more].concat();
    let matched = [
        (OxmField::METADATA, true),
        (OxmField::IN_PORT, false),
        (OxmField::CT_MARK, true),
        (OxmField::ARP_OP, false),
    ];
    let properties = |next: &'static [u8], write: &[(OxmField, bool)]| {
        [
            (Kind::Instructions, ids(&[1, 2, 3, 4, 5])),
            (Kind::NextTables, TableFeatureValue::Tables(Bytes::from_static(next))),
            (Kind::WriteActions, ids(&[0, 17, 18, 22, 25])),
            (Kind::ApplyActions, ids(&[0, 15, 16, 19, 20, 21, 23, 24, 29])),
            (Kind::Match, fields(&matched)),
            (Kind::Wildcards, fields(&[(OxmField::IN_PORT, false), (OxmField::METADATA, false)])),
            (Kind::WriteSetfield, fields(write)),
            (Kind::ApplySetfield, fields(&set)),
        ]
        .map(|(kind, value)| TableFeature { kind, value })
        .to_vec()
    };
    let features = |table_id, name: &str, properties: Vec<TableFeature>| TableFeatures {
        table_id,
        command: TableFeaturesCommand::Replace,
        features: 0,
        name: name.to_owned(),
        metadata_match: u64::MAX,
        metadata_write: 0xff,
        capabilities: 12,
        max_entries: 1_000_000,
        properties,
    };
    let miss = |kind, value| {
        let mut all = properties(&[5, 7, 8, 9], &set);
        all.push(TableFeature { kind, value });
        all.push(TableFeature {
            kind: Kind::Other(99),
            value: TableFeatureValue::Other(Bytes::from_static(&[0; 8])),
        });
        all
    };
    let other = TableFeatures {
        metadata_match: 0,
        metadata_write: 0,
        capabilities: 0,
        max_entries: 0,
        ..features(9, "", Vec::new())
    };
    let enable = TableFeatures { command: TableFeaturesCommand::Enable, ..other.clone() };
    vec![
        change(0, 0, &[]),
        change(255, 4, &[]),
        change(7, 12, &[vacancy(20, 80, 0)]),
        change(7, 8, &[vacancy(0, 100, 0)]),
        reply(ReplyBody::TableDesc(vec![
            desc(0, 0, &[]),
            full.clone(),
            desc(4, 4, &[TableProperty::Eviction(0x12)]),
        ])),
        reply(ReplyBody::TableDesc(vec![desc(5, 8, &[TableProperty::Other(property(9, b"12345678"))])])),
        Body::TableStatus(TableStatus { reason: TableStatus::VACANCY_DOWN, table: full.clone() }),
        Body::TableStatus(TableStatus { reason: TableStatus::VACANCY_UP, table: full }),
        reply(ReplyBody::TableStats(Vec::new())),
        reply(ReplyBody::TableStats(vec![stats(0, 1)])),
        reply(ReplyBody::TableStats((0..9).map(|id| stats(id, u32::from(id / 3))).collect())),
        reply(ReplyBody::TableFeatures(vec![features(0, "first", properties(&[1, 2, 3, 5], &set_more))])),
        reply(ReplyBody::TableFeatures(vec![
            features(0, "", properties(&[1, 2, 3], &set)),
            features(1, "", properties(&[2, 3], &set)),
            features(2, "third", properties(&[3], &set)),
            features(3, "", properties(&[3], &set_more)),
            features(4, "", Vec::new()),
            features(5, "", Vec::new()),
        ])),
        reply(ReplyBody::TableFeatures(vec![features(4, "", miss(Kind::InstructionsMiss, ids(&[1])))])),
        reply(ReplyBody::TableFeatures(vec![features(
            4,
            "",
            miss(Kind::NextTablesMiss, TableFeatureValue::Tables(Bytes::new())),
        )])),
        reply(ReplyBody::TableFeatures(vec![
            features(4, "", miss(Kind::ApplySetfieldMiss, fields(&more))),
            features(5, "", miss(Kind::WriteActionsMiss, ids(&[]))),
        ])),
        request(RequestBody::TableFeatures(vec![enable, other])),
        request(RequestBody::TableFeatures(Vec::new())),
    ]
}

pub(crate) fn queues() -> Vec<Body> {
    let stats = |port, queue_id, duration| QueueStats {
        port_no: PortNo(port),
        queue_id,
        tx_bytes: 1,
        tx_packets: u64::MAX,
        tx_errors: 3,
        duration,
        properties: Vec::new(),
    };
    let desc = |port, queue_id, properties: &[QueueDescProperty]| QueueDesc {
        port_no: PortNo(port),
        queue_id,
        properties: properties.to_vec(),
    };
    use QueueDescProperty::{MaxRate, MinRate, Other};
    vec![
        reply(ReplyBody::QueueStats(Vec::new())),
        reply(ReplyBody::QueueStats(vec![
            stats(1, 0, None),
            stats(0xffff_fffe, 7, Some(Duration::from_secs(3))),
        ])),
        reply(ReplyBody::QueueDesc(Vec::new())),
        reply(ReplyBody::QueueDesc(vec![
            desc(3, 2, &[MinRate(1), MaxRate(1000)]),
            desc(3, 1, &[MaxRate(1001)]),
            desc(1, 5, &[]),
            desc(1, 4, &[Other(property(0xffff, b"12345678"))]),
        ])),
    ]
}
