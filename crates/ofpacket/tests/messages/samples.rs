//! One or more messages of every kind, made up.

use std::time::Duration;

use bytes::Bytes;
use ofpacket::*;

use crate::packets;
use crate::samples_switch::{group_replies, groups, meters, ports};
use crate::samples_tables::{queues, tables};
use crate::samples_talk::{control, extensions, monitors, requests};

pub(crate) fn request(body: RequestBody) -> Body {
    Body::MultipartRequest(MultipartRequest::new(body))
}

pub(crate) fn reply(body: ReplyBody) -> Body {
    Body::MultipartReply(MultipartReply { more: false, body })
}

pub(crate) fn property(kind: u16, body: &'static [u8]) -> Property {
    Property { kind, body: Bytes::from_static(body) }
}

pub(crate) fn flow() -> Flow {
    let match_ = Match::new().with(OxmField::reg(15), 2u32).with(OxmField::METADATA, 1u64);
    Flow::new(65, 100, match_, vec![Action::output(5u32)])
}

pub(crate) fn flow_stats() -> FlowStats {
    let duration = Duration::from_millis(1500);
    FlowStats { flow: flow().with_cookie(7), duration, idle: None, packet_count: 12, byte_count: 3456 }
}

pub(crate) fn samples() -> Vec<Message> {
    let all = [
        basic(),
        errors(),
        flows(),
        groups(),
        group_replies(),
        meters(),
        ports(),
        tables(),
        queues(),
        requests(),
        monitors(),
        control(),
        extensions(),
        packets::samples(),
    ];
    (1..).zip(all.concat()).map(|(xid, body)| Message { xid, body }).collect()
}

fn basic() -> Vec<Body> {
    let features = |capabilities, auxiliary_id| {
        let datapath_id = 0x1234_5678_9abc_def0;
        Body::FeaturesReply(Features {
            datapath_id,
            n_buffers: 256,
            n_tables: 254,
            auxiliary_id,
            capabilities,
        })
    };
    let hello = |version, elements: &'static [u8]| {
        Body::Hello(Hello { version, elements: Bytes::from_static(elements) })
    };
    let mut out = vec![
        Body::Hello(Hello::new(6, &[1 << 6])),
        Body::Hello(Hello::new(6, &[0x7e])),
        Body::Hello(Hello::new(6, &[0x7e, 0])),
        Body::Hello(Hello::new(6, &[0])),
        Body::Hello(Hello::new(4, &[])),
        hello(6, b"\0\x01\0\x08\0\0\0\x40\0\x02\0\x10what is this"),
        hello(6, b"\0\x02\0\x06hmm?\0\x01\0\x08\0\0\0\x50"),
        hello(5, b"\0\x01\0\x06\0\x40\0\0"),
        hello(5, b"\0\x01\0\x09\0\0\0\x40"),
        hello(5, b"\0\x01\0"),
        Body::FeaturesRequest,
        features(0x24f, 0),
        features(0xffff_ffff, 3),
        features(0, 0),
        Body::GetConfigRequest,
        Body::BarrierRequest,
        Body::BarrierReply,
        Body::GetAsyncRequest,
        Body::Unknown { kind: 99, body: Bytes::from_static(b"more than one line of bytes in a dump") },
        Body::Unknown { kind: 22, body: Bytes::new() },
        Body::Unknown { kind: 35, body: Bytes::from_static(&[0; 8]) },
    ];
    for (flags, miss_send_len) in [(0, 128), (1, 0), (2, 65535), (3, 1)] {
        out.push(Body::SetConfig(SwitchConfig { flags, miss_send_len }));
        out.push(Body::GetConfigReply(SwitchConfig { flags, miss_send_len: miss_send_len ^ 1 }));
    }
    out
}

/// All errors that have a name, some with a refused message.
fn errors() -> Vec<Body> {
    let standard = (0..18).flat_map(|kind| (0..20).map(move |code| OfErrorNumber::Standard { kind, code }));
    let nx = (0..50).map(|kind| OfErrorNumber::Experimenter { experimenter: 0x2320, kind });
    let named = standard.chain(nx).filter(|number| number.name().is_some());
    let refused = Message { xid: 77, body: Body::FlowMod(FlowMod::add(flow())) }.encode().expect("it fits");
    let mut out: Vec<_> = named
        .map(|number| {
            let hello = number.is_hello_failed();
            let data = if hello { Bytes::from_static(b"we \"speak\" \\ 1.5\n\x80") } else { refused.clone() };
            Body::Error(OfError { number, data })
        })
        .collect();
    let number = OfErrorNumber::Standard { kind: 1, code: 6 };
    let other = Message { xid: 5, body: Body::Unknown { kind: 77, body: Bytes::from_static(b"abc") } };
    for data in [
        refused.slice(..64),
        refused.slice(..8),
        refused.slice(..5),
        Bytes::new(),
        [&refused[..], b"and more"].concat().into(),
        other.encode().expect("it fits"),
    ] {
        out.push(Body::Error(OfError { number, data }));
    }
    out
}

fn flows() -> Vec<Body> {
    let full = Flow {
        cookie: 0x1234,
        idle_timeout: 10,
        hard_timeout: 20,
        importance: 5,
        flags: 0x1f,
        match_: Match::new().with(OxmField::ETH_TYPE, 0x800u16).with(OxmField::IP_PROTO, 6u8),
        instructions: vec![
            Instruction::ApplyActions(vec![Action::DecNwTtl, Action::output(PortNo::NORMAL)]),
            Instruction::ClearActions,
            Instruction::WriteActions(vec![Action::Group(3)]),
            Instruction::WriteMetadata { metadata: 0x12, mask: 0xff },
            Instruction::GotoTable(9),
        ],
        ..Flow::new(4, 0x8000, Match::new(), Vec::new())
    };
    let removed = |reason, stats: FlowStats| Body::FlowRemoved(FlowRemoved { reason, stats });
    let bare = Flow::new(0, 0x8000, Match::new(), Vec::new());
    let strict = FlowMod::delete_strict(&flow().with_cookie(9));
    let modify = FlowMod { command: FlowModCommand::Modify, ..FlowMod::add(full.clone()) };
    let drops = Flow::new(3, 0, Match::new(), Vec::new());
    let some_time = |nanos| Duration::new(61, nanos);
    let plain = |flow: Flow, duration| {
        let flow = Flow { importance: 0, flags: 0, instructions: Vec::new(), ..flow };
        FlowStats { flow, duration, idle: None, packet_count: 1, byte_count: 60 }
    };
    vec![
        Body::FlowMod(FlowMod::add(flow())),
        Body::FlowMod(FlowMod::add(full.clone())),
        Body::FlowMod(FlowMod::add(bare.clone())),
        Body::FlowMod(FlowMod::delete_by_cookie(0x4c49, 0xffff)),
        Body::FlowMod(FlowMod { out_port: PortNo(3), out_group: 4, ..strict.clone() }),
        Body::FlowMod(strict),
        Body::FlowMod(FlowMod { cookie_mask: 0, ..modify.clone() }),
        Body::FlowMod(FlowMod { command: FlowModCommand::ModifyStrict, cookie_mask: 3, ..modify }),
        Body::FlowMod(FlowMod { buffer_id: 0x123, ..FlowMod::add(drops) }),
        removed(0, plain(flow(), some_time(0))),
        removed(1, plain(full.clone(), some_time(5_000_000))),
        removed(2, plain(bare.clone(), some_time(123_456_000))),
        removed(3, plain(flow().with_cookie(3), some_time(999_999_999))),
        removed(4, plain(Flow { table_id: 255, ..flow() }, Duration::ZERO)),
        removed(5, plain(flow(), some_time(100_000_000))),
        removed(9, plain(flow(), some_time(1))),
        reply(ReplyBody::FlowDesc(vec![flow_stats()])),
        reply(ReplyBody::FlowDesc(vec![
            FlowStats { flow: full, idle: Some(Duration::from_secs(3)), ..flow_stats() },
            FlowStats { flow: bare, packet_count: u64::MAX, byte_count: u64::MAX, ..flow_stats() },
        ])),
        reply(ReplyBody::FlowDesc(Vec::new())),
        Body::MultipartReply(MultipartReply { more: true, body: ReplyBody::FlowDesc(vec![flow_stats()]) }),
        reply(ReplyBody::Aggregate(AggregateStats { packet_count: 1, byte_count: 2, flow_count: 3 })),
        reply(ReplyBody::Aggregate(AggregateStats { packet_count: u64::MAX, byte_count: 2, flow_count: 3 })),
    ]
}
