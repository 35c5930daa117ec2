//! Groups, meters and ports.

use std::time::Duration;

use ofpacket::*;

use crate::samples::{property, reply};

fn bucket(bucket_id: u32, port: u32, properties: &[BucketProperty]) -> Bucket {
    Bucket { bucket_id, actions: vec![Action::output(port)], properties: properties.to_vec() }
}

fn group(group_id: u32, kind: GroupType, buckets: &[Bucket]) -> Group {
    Group { group_id, kind, buckets: buckets.to_vec(), properties: Vec::new() }
}

fn selection(method: &str, param: u64, fields: Match) -> Group {
    let buckets = [bucket(0, 1, &[BucketProperty::Weight(100)]), bucket(1, 2, &[BucketProperty::Weight(1)])];
    let properties = vec![GroupProperty::SelectionMethod { method: method.to_owned(), param, fields }];
    Group { properties, ..group(7, GroupType::Select, &buckets) }
}

fn some_groups() -> Vec<Group> {
    let live = |port, other| [BucketProperty::WatchPort(PortNo(port)), BucketProperty::WatchGroup(other)];
    let one = Match::new().with(OxmField::ETH_SRC, [0xff; 6]);
    let several = Match::new()
        .with(OxmField::IPV4_DST, 0xffff_ff00u32)
        .with(OxmField::ETH_DST, [0xff, 0xff, 0xff, 0, 0, 0])
        .with(OxmField::TCP_SRC, 0xffffu16)
        .with(OxmField::ETH_SRC, [0xff; 6]);
    vec![
        group(1, GroupType::All, &[bucket(0, 1, &[]), bucket(5, 2, &[])]),
        group(2, GroupType::All, &[]),
        group(3, GroupType::Indirect, &[Bucket { actions: Vec::new(), ..bucket(0, 1, &[]) }]),
        group(4, GroupType::FastFailover, &[bucket(1, 1, &live(1, 0xffff_ffff)), bucket(2, 2, &live(2, 1))]),
        group(5, GroupType::Select, &[bucket(0, 1, &[BucketProperty::Weight(1)]), bucket(1, 2, &[])]),
        selection("dp_hash", 0, Match::new()),
        selection("hash", 0x1234_5678_9abc, one),
        selection("hash", 0, several),
    ]
}

pub(crate) fn groups() -> Vec<Body> {
    use GroupModCommand::{Add, AddOrModify, InsertBucket, Modify, RemoveBucket};

    let buckets = |command, command_bucket_id, buckets: &[Bucket]| {
        let group = group(9, GroupType::All, buckets);
        Body::GroupMod(GroupMod { command, command_bucket_id, group })
    };
    let mut out = vec![
        Body::GroupMod(GroupMod::delete(GROUP_ALL)),
        Body::GroupMod(GroupMod::delete(6)),
        buckets(InsertBucket, BUCKET_FIRST, &[bucket(3, 1, &[])]),
        buckets(InsertBucket, BUCKET_LAST, &[bucket(4, 1, &[]), bucket(5, 2, &[])]),
        buckets(InsertBucket, 4, &[bucket(3, 1, &[])]),
        buckets(RemoveBucket, BUCKET_ALL, &[]),
        buckets(RemoveBucket, BUCKET_LAST, &[]),
        buckets(RemoveBucket, 17, &[]),
    ];
    for (command, group) in [Add, Modify, AddOrModify].into_iter().cycle().zip(some_groups()) {
        out.push(Body::GroupMod(GroupMod::new(command, group)));
    }
    out
}

pub(crate) fn group_replies() -> Vec<Body> {
    let stats = |group_id, duration, buckets: &[(u64, u64)]| GroupStats {
        group_id,
        ref_count: 4,
        packet_count: 5,
        byte_count: 600,
        duration,
        buckets: buckets.to_vec(),
    };
    let second = Some(Duration::from_secs(1));
    let features = GroupFeatures {
        types: 15,
        capabilities: 7,
        max_groups: [u32::MAX - 255; 4],
        actions: [0x3fc7_8001; 4],
    };
    vec![
        reply(ReplyBody::GroupDesc(some_groups())),
        reply(ReplyBody::GroupDesc(Vec::new())),
        reply(ReplyBody::GroupStats(vec![stats(1, second, &[(1, 2), (3, 4)]), stats(2, None, &[])])),
        reply(ReplyBody::GroupStats(vec![stats(3, second, &[(1, 2), (u64::MAX, u64::MAX), (5, 6)])])),
        reply(ReplyBody::GroupStats(Vec::new())),
        reply(ReplyBody::GroupFeatures(features)),
        reply(ReplyBody::GroupFeatures(GroupFeatures {
            types: 2,
            actions: [0; 4],
            max_groups: [0; 4],
            ..features
        })),
    ]
}

fn some_meters() -> Vec<MeterConfig> {
    let drop = |rate, burst_size| MeterBand::Drop { rate, burst_size };
    let remark = MeterBand::DscpRemark { rate: 200, burst_size: 20, prec_level: 2 };
    let meter = |meter_id, flags, bands: &[MeterBand]| MeterConfig { flags, meter_id, bands: bands.to_vec() };
    vec![
        meter(1, MeterConfig::PKTPS, &[drop(1000, 0)]),
        meter(
            2,
            MeterConfig::KBPS | MeterConfig::BURST | MeterConfig::STATS,
            &[drop(1000, 50), remark.clone()],
        ),
        meter(METER_CONTROLLER, MeterConfig::PKTPS | 0x100, &[drop(5, 6)]),
        meter(METER_SLOWPATH, 0, &[remark]),
        meter(0xffff_0001, 0, &[]),
    ]
}

pub(crate) fn meters() -> Vec<Body> {
    use MeterModCommand::{Add, Modify};

    let stats = |meter_id, bands: &[(u64, u64)]| MeterStats {
        meter_id,
        flow_count: 1,
        packet_in_count: 2,
        byte_in_count: 3,
        duration: Duration::from_millis(2500),
        bands: bands.to_vec(),
    };
    let features =
        MeterFeatures { max_meter: 4096, band_types: 6, capabilities: 15, max_bands: 4, max_color: 1 };
    let odd = MeterFeatures { band_types: 0, capabilities: 0x16, ..features };
    let mut out = vec![
        Body::MeterMod(MeterMod::delete(METER_ALL)),
        Body::MeterMod(MeterMod::delete(3)),
        reply(ReplyBody::MeterConfig(some_meters())),
        reply(ReplyBody::MeterConfig(Vec::new())),
        reply(ReplyBody::MeterStats(vec![stats(1, &[(4, 5), (6, 7)]), stats(METER_CONTROLLER, &[])])),
        reply(ReplyBody::MeterFeatures(features)),
        reply(ReplyBody::MeterFeatures(odd)),
    ];
    for (command, meter) in [Add, Modify].into_iter().cycle().zip(some_meters()) {
        out.push(Body::MeterMod(MeterMod { command, meter: meter.clone() }));
    }
    for meter in some_meters().into_iter().take(2) {
        let body = Box::new(Body::MeterMod(MeterMod { command: Add, meter }));
        out.push(Body::RequestForward(RequestForward { xid: 0x99, body }));
    }
    for group in some_groups().into_iter().take(2) {
        let body = Box::new(Body::GroupMod(GroupMod::new(GroupModCommand::Add, group)));
        out.push(Body::RequestForward(RequestForward { xid: 0x98, body }));
    }
    out
}

fn port(number: u32, name: &str, config: u32, state: u32, properties: &[PortDescProperty]) -> PortDesc {
    let hw_addr = [0xaa, 0xbb, 0xcc, 0, 0, number as u8];
    let properties = properties.to_vec();
    PortDesc { port_no: PortNo(number), hw_addr, name: name.to_owned(), config, state, properties }
}

pub(crate) fn ports() -> Vec<Body> {
    let ethernet = PortDescProperty::Ethernet {
        curr: 0x840,
        advertised: 0xffff,
        supported: 0x2820,
        peer: 1,
        curr_speed: 10_000_000,
        max_speed: 40_000_000,
    };
    let quiet = PortDescProperty::Ethernet {
        curr: 0,
        advertised: 0,
        supported: 0,
        peer: 0,
        curr_speed: 0,
        max_speed: 999,
    };
    let all = vec![
        port(3, "eth3", 0, 4, std::slice::from_ref(&ethernet)),
        port(1, "a name\x01b", 0x65, 7, &[quiet]),
        port(PortNo::LOCAL.0, "br0", 1, 1, &[]),
        port(2, "fifteen-bytes--", 4, 2, &[PortDescProperty::Other(property(1, b"optical.")), ethernet]),
    ];
    let change = |config, mask, properties: &[PortModProperty]| {
        let (port_no, hw_addr) = (PortNo(3), [2, 0, 0, 0, 0, 1]);
        Body::PortMod(PortMod { port_no, hw_addr, config, mask, properties: properties.to_vec() })
    };
    let counts = |seed: u64| (seed, seed + 1);
    let stats = |port_no, duration, properties: &[PortStatsProperty]| PortStats {
        port_no,
        duration,
        packets: counts(1),
        bytes: counts(100),
        dropped: (u64::MAX, 0),
        errors: (3, u64::MAX),
        properties: properties.to_vec(),
    };
    let [frame, over] = [5, u64::MAX];
    let counters =
        PortStatsProperty::Ethernet { rx_frame_err: frame, rx_over_err: over, rx_crc_err: 7, collisions: 8 };
    let mut sizes = [0u64; 21];
    sizes.iter_mut().zip(1..).for_each(|(size, i)| *size = i);
    let mut partly = Box::new([u64::MAX; 21]);
    partly[3] = 17;
    let custom = |n: u64| (1..=n).map(|i| (format!("counter_{i}"), i * 1000)).collect();
    let mut out = vec![
        reply(ReplyBody::PortDesc(all.clone())),
        reply(ReplyBody::PortDesc(Vec::new())),
        change(1, 1, &[]),
        change(0xff, 0x65, &[PortModProperty::Ethernet(0x2840)]),
        change(0, 0, &[PortModProperty::Ethernet(0), PortModProperty::Other(property(9, b"1234"))]),
        reply(ReplyBody::PortStats(Vec::new())),
        reply(ReplyBody::PortStats(vec![
            stats(PortNo(1), Some(Duration::from_millis(1)), std::slice::from_ref(&counters)),
            stats(PortNo(12), None, &[]),
            stats(
                PortNo::LOCAL,
                Some(Duration::from_secs(9)),
                &[PortStatsProperty::Other(property(1, b"x"))],
            ),
        ])),
        reply(ReplyBody::PortStats(vec![
            stats(PortNo(2), None, &[counters, PortStatsProperty::Rfc2819(Box::new(sizes))]),
            stats(PortNo(3), None, &[PortStatsProperty::Custom(custom(7))]),
            stats(
                PortNo(4),
                None,
                &[PortStatsProperty::Rfc2819(partly), PortStatsProperty::Custom(custom(1))],
            ),
        ])),
    ];
    for (reason, port) in (0..3).cycle().zip(all) {
        out.push(Body::PortStatus(PortStatus { reason, port }));
    }
    out
}
