//! Questions, and what is said about the connection itself.

use bytes::Bytes;
use ofpacket::*;

use crate::samples::{flow, flow_stats, property, reply, request};

pub(crate) fn requests() -> Vec<Body> {
    let all = FlowDescRequest::default();
    let some = FlowDescRequest {
        table_id: 3,
        out_port: PortNo(4),
        match_: Match::new().with(OxmField::reg(1), 5u32),
        ..FlowDescRequest::default()
    };
    let queue = QueueRequest { port_no: PortNo(5), queue_id: 6 };
    let mut out: Vec<_> = [
        RequestBody::Desc,
        RequestBody::FlowDesc(all.clone()),
        RequestBody::FlowDesc(some.clone()),
        RequestBody::Aggregate(all),
        RequestBody::Aggregate(some),
        RequestBody::TableStats,
        RequestBody::GroupFeatures,
        RequestBody::MeterFeatures,
        RequestBody::TableDesc,
        RequestBody::IpfixBridge,
        RequestBody::IpfixFlow,
        RequestBody::QueueStats(QueueRequest::default()),
        RequestBody::QueueStats(queue),
        RequestBody::QueueDesc(QueueRequest::default()),
        RequestBody::QueueDesc(queue),
        RequestBody::Other { kind: 17, body: Bytes::from_static(&[0; 8]) },
        RequestBody::Other { kind: 0xffff, body: Bytes::from_static(&[0, 0, 0x23, 0x20, 0, 0, 0, 99]) },
        RequestBody::Other { kind: 0xffff, body: Bytes::from_static(&[0, 0, 0, 1, 0, 0, 0, 3]) },
    ]
    .into_iter()
    .map(request)
    .collect();
    for id in [1, 0xffff_fffe, 0xffff_ffff] {
        out.push(request(RequestBody::PortStats(PortNo(id))));
        out.push(request(RequestBody::PortDesc(PortNo(id))));
    }
    for id in [1, GROUP_ALL, GROUP_ANY] {
        out.push(request(RequestBody::GroupStats(id)));
        out.push(request(RequestBody::GroupDesc(id)));
    }
    for id in [1, METER_ALL, METER_CONTROLLER, METER_SLOWPATH, 0xffff_0000, 0xffff_0001] {
        out.push(request(RequestBody::MeterStats(id)));
        out.push(request(RequestBody::MeterConfig(id)));
    }
    let more = MultipartRequest { more: true, body: RequestBody::TableFeatures(Vec::new()) };
    out.push(Body::MultipartRequest(more));
    let desc = SwitchDesc {
        manufacturer: "Somebody".to_owned(),
        hardware: "Something".to_owned(),
        software: "3.1.0".to_owned(),
        serial: "None".to_owned(),
        datapath: "brücke".to_owned(),
    };
    out.push(reply(ReplyBody::Desc(Box::new(desc))));
    out.push(reply(ReplyBody::Desc(Box::default())));
    out
}

pub(crate) fn monitors() -> Vec<Body> {
    use FlowUpdateEvent::{Added, Initial, Modified, Removed};

    let ask = |monitors: &[FlowMonitorRequest]| request(RequestBody::FlowMonitor(monitors.to_vec()));
    let all = FlowMonitorRequest::everything(7);
    let some = FlowMonitorRequest {
        out_port: PortNo(3),
        out_group: 4,
        flags: FlowMonitorRequest::ADD | FlowMonitorRequest::ONLY_OWN,
        command: FlowMonitorCommand::Modify,
        match_: Match::new().with(OxmField::IN_PORT, PortNo(9)),
        ..FlowMonitorRequest::in_table(8, 5)
    };
    let end = FlowMonitorRequest { command: FlowMonitorCommand::Delete, ..all.clone() };
    let update = |event, reason, flow: Flow| FlowUpdate::Full {
        event,
        reason,
        flow: Flow { importance: 0, flags: 0, ..flow },
    };
    let timed = Flow { idle_timeout: 5, hard_timeout: 6, ..flow().with_cookie(0xabc) };
    let empty = Flow::new(0, 0, Match::new(), Vec::new());
    vec![
        ask(std::slice::from_ref(&all)),
        ask(&[all, some, end]),
        reply(ReplyBody::FlowMonitor(vec![update(Initial, 0, flow()), update(Added, 0, timed.clone())])),
        reply(ReplyBody::FlowMonitor(vec![
            update(Removed, 2, timed.clone()),
            update(Removed, 0, empty.clone()),
        ])),
        reply(ReplyBody::FlowMonitor(vec![update(Modified, 0, timed), update(Modified, 0, empty)])),
        reply(ReplyBody::FlowMonitor(vec![FlowUpdate::Abbrev { xid: 0x1234 }])),
        reply(ReplyBody::FlowMonitor(vec![FlowUpdate::Paused, FlowUpdate::Resumed])),
        reply(ReplyBody::FlowMonitor(Vec::new())),
    ]
}

pub(crate) fn control() -> Vec<Body> {
    use BundleControlType as Type;

    let roles = [Role::NoChange, Role::Equal, Role::Primary, Role::Secondary];
    let mut out = Vec::new();
    for (generation_id, role) in [7, u64::MAX, 0, 12].into_iter().zip(roles) {
        out.push(Body::RoleRequest(RoleMessage { role, generation_id }));
        out.push(Body::RoleReply(RoleMessage { role, generation_id: generation_id ^ 1 }));
        out.push(Body::Experimenter(match role {
            Role::NoChange => Experimenter::RoleReply(Role::Primary),
            role => Experimenter::RoleRequest(role),
        }));
    }
    for reason in 0..4 {
        let properties = if reason == 2 { vec![property(0xffff, b"12345678")] } else { Vec::new() };
        out.push(Body::RoleStatus(RoleStatus {
            role: Role::Secondary,
            reason,
            generation_id: 3,
            properties,
        }));
    }
    let mut kinds: Vec<_> = (0..12).map(|kind| (kind, 0)).collect();
    out.push(Body::GetAsyncReply(AsyncConfig(kinds.clone())));
    for ((_, reasons), all) in kinds.iter_mut().zip([0x3f, 0x3f, 7, 7, 0x3f, 0x3f, 7, 7, 0x18, 0x18, 3, 3]) {
        *reasons = all;
    }
    out.push(Body::SetAsync(AsyncConfig(kinds.clone())));
    out.push(Body::GetAsyncReply(AsyncConfig(kinds)));
    out.push(Body::SetAsync(AsyncConfig(vec![(AsyncConfig::PORT_STATUS, 5), (AsyncConfig::ROLE_STATUS, 1)])));
    out.push(Body::SetAsync(AsyncConfig::default()));
    for (bundle_id, kind) in (0..).zip([
        Type::OpenRequest,
        Type::OpenReply,
        Type::CloseRequest,
        Type::CloseReply,
        Type::CommitRequest,
        Type::CommitReply,
        Type::DiscardRequest,
        Type::DiscardReply,
    ]) {
        let flags = [0, 1, 2, 3, 0x8003][bundle_id as usize % 5];
        out.push(Body::BundleControl(BundleControl { bundle_id, kind, flags, properties: Bytes::new() }));
    }
    let adds = [
        Body::FlowMod(FlowMod::add(flow())),
        Body::GroupMod(GroupMod::delete(1)),
        Body::PortMod(PortMod {
            port_no: PortNo(1),
            hw_addr: [2; 6],
            config: 1,
            mask: 1,
            properties: Vec::new(),
        }),
        Body::PacketOut(PacketOut::new(PortNo::CONTROLLER, vec![Action::output(2u32)], Bytes::new())),
    ];
    for body in adds {
        let body = Box::new(body);
        out.push(Body::BundleAdd(BundleAdd { bundle_id: 0x12, flags: 3, body, properties: Bytes::new() }));
    }
    out
}

pub(crate) fn extensions() -> Vec<Body> {
    let maps = vec![
        TlvMap { class: 0x102, kind: 0x80, len: 4, index: 0 },
        TlvMap { class: 0xffff, kind: 0, len: 124, index: 63 },
        TlvMap { class: 0, kind: 1, len: 8, index: 5 },
    ];
    let table =
        |command, maps: &[TlvMap]| Experimenter::TlvTableMod(TlvTableMod { command, maps: maps.to_vec() });
    let flush = |ip_proto, properties: &[CtFlushProperty]| {
        Experimenter::CtFlush(CtFlush { ip_proto, properties: properties.to_vec() })
    };
    let v4 = |last| std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped();
    let v6: std::net::Ipv6Addr = "fe80::1".parse().expect("an address");
    use CtTupleProperty::{Dst, DstPort, IcmpCode, IcmpId, IcmpType, Src, SrcPort};
    let orig = CtFlushProperty::Orig(vec![Src(v4(1)), Dst(v4(2)), SrcPort(80), DstPort(8080)]);
    let ping = CtFlushProperty::Orig(vec![Src(v4(9)), IcmpId(3), IcmpCode(1)]);
    let reply_v6 = CtFlushProperty::Reply(vec![Src(v6), IcmpId(1), IcmpType(128), IcmpCode(3)]);
    let removed = |table_id| {
        let flow = Flow {
            idle_timeout: 30,
            ..Flow::new(table_id, 10, Match::new().with(OxmField::reg(0), 1u32), Vec::new())
        };
        Experimenter::FlowRemoved(NxFlowRemoved { reason: 0, stats: FlowStats { flow, ..flow_stats() } })
    };
    let ipfix = |collector_set_id| IpfixStats {
        total_flows: 1,
        current_flows: 2,
        pkts: 3,
        ipv4_pkts: 4,
        ipv6_pkts: 5,
        error_pkts: 6,
        ipv4_error_pkts: 7,
        ipv6_error_pkts: 8,
        tx_pkts: 9,
        tx_errors: u64::MAX,
        collector_set_id,
    };
    let config = NxAsyncConfig { packet_in: [0x3f, 2], port_status: [7, 1], flow_removed: [0, 0xf] };
    let mut out: Vec<_> = [
        Experimenter::FlowModTableId(true),
        Experimenter::FlowModTableId(false),
        Experimenter::SetPacketInFormat(0),
        Experimenter::SetPacketInFormat(1),
        Experimenter::SetPacketInFormat(2),
        Experimenter::FlowAge,
        Experimenter::SetAsyncConfig(config),
        Experimenter::SetControllerId(0x4c49),
        Experimenter::CtFlushZone(7),
        Experimenter::TlvTableRequest,
        table(TlvTableCommand::Add, &maps),
        table(TlvTableCommand::Delete, &maps[..1]),
        table(TlvTableCommand::Clear, &[]),
        Experimenter::TlvTableReply(TlvTable { max_option_space: 252, max_fields: 64, maps }),
        Experimenter::TlvTableReply(TlvTable { max_option_space: 252, max_fields: 64, maps: Vec::new() }),
        flush(6, &[orig, CtFlushProperty::Zone(5)]),
        flush(58, &[reply_v6]),
        flush(1, &[CtFlushProperty::Reply(vec![Dst(v4(9)), IcmpId(3), IcmpType(8)]), ping]),
        flush(0, &[]),
        removed(4),
        removed(255),
        Experimenter::Other { experimenter: 0x2320, subtype: 99, body: Bytes::from_static(b"12345678") },
        Experimenter::Other { experimenter: 0x1234, subtype: 10, body: Bytes::new() },
    ]
    .into_iter()
    .map(Body::Experimenter)
    .collect();
    out.push(reply(ReplyBody::IpfixBridge(ipfix(0))));
    out.push(reply(ReplyBody::IpfixFlow(vec![ipfix(1), ipfix(12345)])));
    out.push(reply(ReplyBody::IpfixFlow(Vec::new())));
    out
}
