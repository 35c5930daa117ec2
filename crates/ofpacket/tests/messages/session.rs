//! A real switch accepts our messages, and shows what they asked for; what it says is read, printed and written
//! as it was.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use ofpacket::*;

use crate::support::{Ovs, read_frame};
use crate::text::compare;

/// A connection, and all that was said on it.
struct Raw {
    stream: UnixStream,
    next_xid: u32,
    said: Vec<Vec<u8>>,
}

impl Raw {
    fn connect(ovs: &Ovs) -> Self {
        let mut raw = Self { stream: ovs.converse(), next_xid: 1, said: Vec::new() };
        raw.send(Body::Hello(Hello::only_1_5()));
        assert!(matches!(raw.receive().body, Body::Hello(hello) if hello.speaks(6)));
        // Asynchronous messages come only to those who want packets.
        raw.ask(Body::SetConfig(SwitchConfig { flags: 0, miss_send_len: 65535 }));
        raw
    }

    fn send(&mut self, body: Body) -> u32 {
        let xid = self.next_xid;
        self.next_xid += 1;
        let bytes = Message { xid, body }.encode().expect("a message that fits");
        self.stream.write_all(&bytes).expect("the switch reads");
        self.said.push(bytes.to_vec());
        xid
    }

    fn receive(&mut self) -> Message {
        let frame = read_frame(&mut self.stream);
        let message = Message::decode(&frame).expect("a message that can be read");
        assert!(!matches!(message.body, Body::Unknown { .. }), "{message}");
        self.said.push(frame);
        message
    }

    /// Sends; what the switch says until it has done it, with nothing refused.
    fn ask(&mut self, body: Body) -> Vec<Body> {
        let bodies = self.try_ask(body);
        let refused = bodies.iter().find(|body| matches!(body, Body::Error(_)));
        assert_eq!(refused, None, "{bodies:?}");
        bodies
    }

    fn try_ask(&mut self, body: Body) -> Vec<Body> {
        self.send(body);
        let barrier = self.send(Body::BarrierRequest);
        let mut bodies = Vec::new();
        loop {
            let message = self.receive();
            if (message.xid, &message.body) == (barrier, &Body::BarrierReply) {
                return bodies;
            }
            bodies.push(message.body);
        }
    }

    /// The one answer to a question.
    fn one(&mut self, body: Body) -> Body {
        let mut bodies = self.ask(body);
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        bodies.swap_remove(0)
    }

    /// The whole answer to a question.
    fn query(&mut self, request: RequestBody) -> ReplyBody {
        let mut answer = Reassembly::new(8 << 20);
        let xid = self.send(Body::MultipartRequest(MultipartRequest::new(request)));
        loop {
            let message = self.receive();
            if message.xid != xid {
                continue;
            }
            let len = self.said.last().map_or(0, Vec::len);
            let Body::MultipartReply(part) = message.body else { panic!("{message}") };
            assert!(!matches!(part.body, ReplyBody::Other { .. }), "{part:?}");
            if let Some(body) = answer.add(part, len).expect("parts of one answer") {
                return body;
            }
        }
    }

    /// The next message that is wanted.
    fn wait<T>(&mut self, wanted: impl Fn(&Body) -> Option<T>) -> T {
        loop {
            let message = self.receive();
            if let Some(found) = wanted(&message.body) {
                return found;
            }
        }
    }
}

fn nx(message: Experimenter) -> Body {
    Body::Experimenter(message)
}

fn flow(table_id: u8, actions: Vec<Action>) -> Flow {
    Flow::new(table_id, 7, Match::new().with(OxmField::METADATA, 5u64), actions)
}

fn bucket(bucket_id: u32, port: u32, properties: &[BucketProperty]) -> Bucket {
    Bucket { bucket_id, actions: vec![Action::output(port)], properties: properties.to_vec() }
}

fn basics(raw: &mut Raw) {
    assert!(matches!(raw.one(Body::FeaturesRequest), Body::FeaturesReply(f) if f.n_tables == 254));
    assert!(matches!(raw.one(Body::GetConfigRequest), Body::GetConfigReply(c) if c.miss_send_len == 65535));
    let echo = raw.one(Body::EchoRequest(Bytes::new()));
    assert_eq!(echo, Body::EchoReply(Bytes::new()));
    let all = AsyncConfig(
        (0..6).map(|kind| (2 * kind + 1, [0x3f, 7, 0x3f, 7, 0x18, 3][usize::from(kind)])).collect(),
    );
    raw.ask(Body::SetAsync(all.clone()));
    let Body::GetAsyncReply(config) = raw.one(Body::GetAsyncRequest) else { panic!("no async config") };
    for &(kind, reasons) in &all.0 {
        assert_eq!(config.get(kind), Some(reasons), "{config:?}");
    }
    let role = Body::RoleRequest(RoleMessage { role: Role::NoChange, generation_id: 0 });
    assert!(matches!(raw.one(role), Body::RoleReply(RoleMessage { role: Role::Equal, .. })));
    let role = raw.one(nx(Experimenter::RoleRequest(Role::Equal)));
    assert_eq!(role, nx(Experimenter::RoleReply(Role::Equal)));
    let map = TlvMap { class: 0x102, kind: 0x80, len: 4, index: 0 };
    for message in [
        Experimenter::SetPacketInFormat(Experimenter::PACKET_IN_FORMAT_NXT2),
        Experimenter::SetControllerId(7),
        Experimenter::FlowModTableId(true),
        Experimenter::FlowAge,
        Experimenter::TlvTableMod(TlvTableMod { command: TlvTableCommand::Add, maps: vec![map] }),
        Experimenter::CtFlushZone(9),
    ] {
        assert_eq!(raw.ask(nx(message)), []);
    }
    let Body::Experimenter(Experimenter::TlvTableReply(table)) = raw.one(nx(Experimenter::TlvTableRequest))
    else {
        panic!("no TLV table")
    };
    assert_eq!(table.maps, [map]);
}

/// Ports and tables are changed, and read back.
fn ports_and_tables(raw: &mut Raw) {
    let ReplyBody::PortDesc(ports) = raw.query(RequestBody::PortDesc(PortNo::ANY)) else {
        panic!("no ports")
    };
    assert_eq!(ports.iter().map(|port| port.port_no.0).collect::<BTreeSet<_>>(), [1, 2, 0xffff_fffe].into());
    let hw_addr = ports.iter().find(|port| port.port_no.0 == 1).expect("port 1").hw_addr;
    let properties = Vec::new();
    let change = PortMod { port_no: PortNo(1), hw_addr, config: 0x20, mask: 0x20, properties };
    raw.send(Body::PortMod(change));
    let status =
        raw.wait(|body| if let Body::PortStatus(status) = body { Some(status.clone()) } else { None });
    assert_eq!((status.reason, status.port.config), (PortStatus::MODIFY, 0x20));
    let ReplyBody::PortDesc(ports) = raw.query(RequestBody::PortDesc(PortNo(1))) else { panic!("no port") };
    assert!(matches!(&ports[..], [port] if port.config == 0x20), "{ports:?}");

    let vacancy = TableProperty::Vacancy { down: 20, up: 60, vacancy: 0 };
    let config = TableDesc::EVICTION | TableDesc::VACANCY_EVENTS;
    assert_eq!(raw.ask(Body::TableMod(TableMod { table_id: 9, config, properties: vec![vacancy] })), []);
    let ReplyBody::TableDesc(tables) = raw.query(RequestBody::TableDesc) else { panic!("no tables") };
    assert_eq!(tables[9].config, config);
    let is_vacancy = |p: &TableProperty| matches!(p, TableProperty::Vacancy { down: 20, up: 60, .. });
    assert!(tables[9].properties.iter().any(is_vacancy), "{tables:?}");
}

/// Groups and meters are made, and read back.
fn groups_and_meters(raw: &mut Raw) {
    let weights = [BucketProperty::Weight(10), BucketProperty::WatchPort(PortNo(1))];
    let fields = Match::new().with(OxmField::ETH_SRC, [0xff; 6]).with(OxmField::IPV4_DST, 0xffff_ff00u32);
    let hash = GroupProperty::SelectionMethod { method: "hash".to_owned(), param: 5, fields };
    let select = Group {
        group_id: 1,
        kind: GroupType::Select,
        buckets: vec![bucket(0, 1, &weights), bucket(7, 2, &weights[..1])],
        properties: vec![hash],
    };
    let all =
        Group { group_id: 2, kind: GroupType::All, buckets: vec![bucket(1, 2, &[])], properties: Vec::new() };
    for group in [&select, &all] {
        assert_eq!(raw.ask(Body::GroupMod(GroupMod::new(GroupModCommand::Add, group.clone()))), []);
    }
    let more = Group { buckets: vec![bucket(5, 1, &[])], ..all.clone() };
    let insert =
        GroupMod { command_bucket_id: BUCKET_FIRST, ..GroupMod::new(GroupModCommand::InsertBucket, more) };
    assert_eq!(raw.ask(Body::GroupMod(insert)), []);
    let ReplyBody::GroupDesc(groups) = raw.query(RequestBody::GroupDesc(1)) else { panic!("no groups") };
    let [group] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!((&group.buckets, group.kind), (&select.buckets, select.kind));
    let [GroupProperty::SelectionMethod { fields, .. }] = &group.properties[..] else { panic!("{group:?}") };
    assert_eq!(fields.canonical().iter().count(), 2);
    let ReplyBody::GroupDesc(groups) = raw.query(RequestBody::GroupDesc(GROUP_ALL)) else {
        panic!("no groups")
    };
    let buckets = groups.iter().find(|group| group.group_id == 2).map(|group| group.buckets.clone());
    assert_eq!(buckets, Some(vec![bucket(5, 1, &[]), bucket(1, 2, &[])]));

    let bands = vec![MeterBand::Drop { rate: 1000, burst_size: 100 }];
    let meter = MeterConfig {
        flags: MeterConfig::PKTPS | MeterConfig::BURST | MeterConfig::STATS,
        meter_id: 3,
        bands,
    };
    assert_eq!(raw.ask(Body::MeterMod(MeterMod { command: MeterModCommand::Add, meter: meter.clone() })), []);
    let ReplyBody::MeterConfig(meters) = raw.query(RequestBody::MeterConfig(3)) else { panic!("no meters") };
    assert_eq!(meters, [meter]);
}

/// Every other question.
fn questions(raw: &mut Raw) {
    let all = FlowDescRequest::default();
    for request in [
        RequestBody::Desc,
        RequestBody::FlowDesc(all.clone()),
        RequestBody::Aggregate(all),
        RequestBody::TableStats,
        RequestBody::PortStats(PortNo::ANY),
        RequestBody::PortStats(PortNo(1)),
        RequestBody::QueueStats(QueueRequest::default()),
        RequestBody::QueueDesc(QueueRequest { port_no: PortNo(1), ..QueueRequest::default() }),
        RequestBody::GroupStats(GROUP_ALL),
        RequestBody::GroupFeatures,
        RequestBody::MeterStats(METER_ALL),
        RequestBody::MeterFeatures,
        RequestBody::IpfixBridge,
        RequestBody::IpfixFlow,
    ] {
        raw.query(request);
    }
    let ReplyBody::TableFeatures(tables) = raw.query(RequestBody::TableFeatures(Vec::new())) else {
        panic!("no table features")
    };
    assert_eq!(tables.len(), 254);
}

/// Flows come and go, one at a time and in a bundle, under the eyes of a monitor.
fn flows(raw: &mut Raw) {
    let monitor = FlowMonitorRequest { flags: 0x5f, ..FlowMonitorRequest::everything(4) };
    raw.query(RequestBody::FlowMonitor(vec![monitor.clone()]));
    let kept = Flow { flags: Flow::SEND_FLOW_REM, ..flow(3, vec![Action::output(2u32)]).with_cookie(0x77) };
    let is_update = |body: &Body| match body {
        Body::MultipartReply(MultipartReply { body: ReplyBody::FlowMonitor(updates), .. }) => {
            updates.first().cloned()
        }
        _ => None,
    };
    raw.send(Body::FlowMod(FlowMod::add(kept.clone())));
    let update = raw.wait(is_update);
    assert!(matches!(&update, FlowUpdate::Full { flow, .. } if flow.same_as(&kept)), "{update:?}");
    let ReplyBody::FlowDesc(flows) = raw.query(RequestBody::FlowDesc(FlowDescRequest::default())) else {
        panic!("no flows")
    };
    assert!(flows.iter().any(|stats| stats.flow.same_as(&kept)), "{flows:?}");
    raw.send(Body::FlowMod(FlowMod::delete_strict(&kept)));
    let removed =
        raw.wait(|body| if let Body::FlowRemoved(removed) = body { Some(removed.clone()) } else { None });
    assert_eq!((removed.reason, removed.stats.flow.cookie), (2, 0x77));

    let control = |kind| {
        let properties = Bytes::new();
        Body::BundleControl(BundleControl { bundle_id: 5, kind, flags: BundleControl::ATOMIC, properties })
    };
    for (kind, reply) in [
        (BundleControlType::OpenRequest, BundleControlType::OpenReply),
        (BundleControlType::CommitRequest, BundleControlType::CommitReply),
    ] {
        let news = raw.ask(control(kind));
        let done = |body: &Body| matches!(body, Body::BundleControl(control) if control.kind == reply);
        assert!(news.iter().any(done), "{news:?}");
        if kind == BundleControlType::OpenRequest {
            let body = Box::new(Body::FlowMod(FlowMod::add(flow(4, vec![Action::Group(1)]))));
            let flags = BundleControl::ATOMIC;
            raw.ask(Body::BundleAdd(BundleAdd { bundle_id: 5, flags, body, properties: Bytes::new() }));
        }
    }
    let end = FlowMonitorRequest { command: FlowMonitorCommand::Delete, ..monitor };
    raw.ask(Body::MultipartRequest(MultipartRequest::new(RequestBody::FlowMonitor(vec![end]))));

    // A table that may hold ten flows tells that it is nearly full.
    for i in 0..9u32 {
        let flow = Flow::new(9, 1, Match::new().with(OxmField::reg(0), i), Vec::new());
        raw.send(Body::FlowMod(FlowMod::add(flow)));
    }
    let status =
        raw.wait(|body| if let Body::TableStatus(status) = body { Some(status.clone()) } else { None });
    assert_eq!((status.reason, status.table.table_id), (TableStatus::VACANCY_DOWN, 9));
}

/// A packet comes to the controller in every form, and goes on from where it stopped.
fn packets(raw: &mut Raw) {
    let arp = "ffffffffffff0a0000000001080600010800060400010a00000000010a0000010000000000000a000002";
    let byte = |i| u8::from_str_radix(&arp[i..i + 2], 16).expect("two digits");
    let arp: Bytes = (0..arp.len()).step_by(2).map(byte).collect();
    let pause = Controller2 {
        controller_id: 7,
        userdata: Bytes::from_static(b"\x01\x02"),
        pause: true,
        ..Controller2::default()
    };
    let push = Action::StackPush { field: OxmField::reg(1), ofs: 0, n_bits: 32 };
    let actions = vec![
        Action::set_field(OxmField::reg(1), 0x1234u32),
        push,
        Action::Controller(pause),
        Action::Output { port: PortNo::CONTROLLER, max_len: 0xffff },
        Action::output(2u32),
    ];
    raw.ask(Body::FlowMod(FlowMod::add(Flow::new(0, 7, Match::new(), actions).with_cookie(0x55))));
    let send =
        || Body::PacketOut(PacketOut::new(PortNo(1), vec![Action::output(PortNo::TABLE)], arp.clone()));
    raw.send(send());
    let stopped = raw.wait(|body| match body {
        Body::Experimenter(Experimenter::PacketIn2(packet)) => Some(packet.clone()),
        _ => None,
    });
    assert_eq!((&stopped.packet, stopped.in_port()), (&arp, Some(PortNo(1))));
    assert!(stopped.continuation.is_some());
    // Those without an id of their own go to the controllers with id 0.
    raw.ask(nx(Experimenter::SetControllerId(0)));
    raw.send(nx(Experimenter::Resume(PacketIn2 { userdata: Bytes::new(), ..stopped })));
    raw.wait(|body| matches!(body, Body::Experimenter(Experimenter::PacketIn2(_))).then_some(()));

    let plain = vec![Action::Output { port: PortNo::CONTROLLER, max_len: 0xffff }];
    raw.ask(Body::FlowMod(FlowMod::add(Flow::new(0, 7, Match::new(), plain).with_cookie(0x66))));
    raw.ask(nx(Experimenter::SetPacketInFormat(Experimenter::PACKET_IN_FORMAT_NXT)));
    raw.send(send());
    raw.wait(|body| matches!(body, Body::Experimenter(Experimenter::PacketIn(_))).then_some(()));
    raw.ask(nx(Experimenter::SetPacketInFormat(Experimenter::PACKET_IN_FORMAT_STANDARD)));
    raw.send(send());
    let packet = raw.wait(|body| if let Body::PacketIn(packet) = body { Some(packet.clone()) } else { None });
    assert_eq!(packet.cookie, 0x66);
    assert_eq!((usize::from(packet.total_len), packet.packet), (arp.len(), arp.clone()));
}

/// What other controllers do is told.
fn others(raw: &mut Raw, ovs: &Ovs) {
    let primary = |generation_id| Body::RoleRequest(RoleMessage { role: Role::Primary, generation_id });
    raw.ask(primary(1));
    let mut other = Raw::connect(ovs);
    other.ask(Body::GroupMod(GroupMod::delete(2)));
    other.ask(Body::MeterMod(MeterMod::delete(3)));
    raw.wait(|body| {
        matches!(body, Body::RequestForward(f) if matches!(*f.body, Body::GroupMod(_))).then_some(())
    });
    raw.wait(|body| {
        matches!(body, Body::RequestForward(f) if matches!(*f.body, Body::MeterMod(_))).then_some(())
    });
    other.ask(primary(2));
    let status =
        raw.wait(|body| if let Body::RoleStatus(status) = body { Some(status.clone()) } else { None });
    assert_eq!((status.role, status.generation_id), (Role::Secondary, 2));
    // Whoever is secondary may not change flows.
    let refused = raw.try_ask(Body::FlowMod(FlowMod::add(flow(1, Vec::new()))));
    assert!(matches!(&refused[..], [Body::Error(e)] if e.number.name() == Some("OFPBRC_IS_SECONDARY")));
    raw.said.append(&mut other.said);
}

#[test]
fn a_switch_understands_us_and_we_understand_it() {
    let ovs = Ovs::start();
    let setup = "add-port br0 p1 -- set interface p1 type=dummy ofport_request=1 -- add-port br0 p2 -- \
                 set interface p2 type=dummy ofport_request=2 -- --id=@t create flow_table flow_limit=10 -- \
                 --id=@i create ipfix targets=\"127.0.0.1:9\" -- --id=@s get bridge br0 -- \
                 --id=@c create flow_sample_collector_set id=1 bridge=@s ipfix=@i -- \
                 set bridge br0 flow_tables:9=@t ipfix=@i";
    ovs.vsctl(setup.split_whitespace());
    let mut raw = Raw::connect(&ovs);
    basics(&mut raw);
    ports_and_tables(&mut raw);
    groups_and_meters(&mut raw);
    flows(&mut raw);
    questions(&mut raw);
    packets(&mut raw);
    others(&mut raw, &ovs);
    compare(&raw.said);
}
