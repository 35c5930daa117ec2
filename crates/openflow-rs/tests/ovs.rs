//! Against a real `ovs-vswitchd`.

#[path = "../../ofpacket/tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ofpacket::{
    Action, Controller2, Flow, FlowKey, FlowMod, FlowMonitorRequest, FlowUpdate, FlowUpdateEvent, Learn,
    LearnSpec, Match, OxmField, PacketOut, PortNo, TlvMap,
};
use openflow_rs::{BundleError, Client, CloseReason, Config, Error, Event, Events, FlowTable, Target};
use support::Ovs;

const OURS: u64 = 0x4c49_4d4f_0000_0000;

async fn connect(ovs: &Ovs) -> (Client, Events) {
    Client::connect(&Target::Unix(ovs.socket()), Config::default()).await.expect("a connection")
}

/// The next event, which must come in time.
async fn next(events: &mut Events) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
    next.expect("an event in time").expect("the connection lives")
}

/// The next flow updates of a connection, one by one.
struct Updates<'a>(&'a mut Events, VecDeque<FlowUpdate>);

impl Updates<'_> {
    /// The next one that is about a flow for which `is` holds.
    async fn next(&mut self, is: impl Fn(&Flow) -> bool) -> (FlowUpdateEvent, Flow) {
        loop {
            match self.1.pop_front() {
                Some(FlowUpdate::Full { event, flow, .. }) if is(&flow) => return (event, flow),
                Some(_) => {}
                None => {
                    if let Event::FlowUpdates(updates) = next(self.0).await {
                        self.1.extend(updates);
                    }
                }
            }
        }
    }
}

fn numbered(i: u32) -> Flow {
    let m = Match::new().with(OxmField::METADATA, u64::from(i)).with(OxmField::reg(15), i % 7);
    let actions = vec![
        Action::Clone(vec![Action::set_field(OxmField::NXM_IN_PORT, 0u16), Action::output(3u32)]),
        Action::set_field(OxmField::reg(10), i),
        Action::resubmit(66),
    ];
    Flow::new(65, 100, m, actions).with_cookie(OURS | u64::from(i))
}

fn by_key(flows: impl IntoIterator<Item = Flow>) -> BTreeMap<FlowKey, Flow> {
    flows.into_iter().map(|flow| (flow.key(), flow)).collect()
}

#[tokio::test]
async fn a_bundle_is_what_the_dump_shows() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    assert_eq!(client.desc().await.expect("a description").manufacturer, "Nicira, Inc.");
    assert!(client.features().n_tables > 200);
    let ports = client.port_desc().await.expect("ports");
    assert_eq!(
        ports.iter().map(|port| (port.port_no, &port.name[..])).collect::<Vec<_>>(),
        [(PortNo::LOCAL, "br0")]
    );

    let asked = by_key((0..1000).map(numbered));
    client.bundle(asked.values().cloned().map(FlowMod::add).collect()).await.expect("a bundle");
    let shown = client.dump_flows(None, OURS, u64::MAX << 32).await.expect("flows");
    let shown = by_key(shown.into_iter().map(|stats| stats.flow));
    assert_eq!(shown.keys().collect::<Vec<_>>(), asked.keys().collect::<Vec<_>>());
    for (key, flow) in &shown {
        assert!(flow.same_as(&asked[key]), "{flow} is not {}", asked[key]);
    }

    // One table, one cookie.
    assert_eq!(client.dump_flows(Some(64), 0, 0).await.expect("flows"), []);
    let one = client.dump_flows(Some(65), OURS | 5, u64::MAX).await.expect("flows");
    assert!(matches!(&one[..], [stats] if stats.flow.same_as(&numbered(5))), "{one:?}");

    let mut mods = vec![FlowMod::delete_strict(&numbered(5))];
    mods.extend([FlowMod::delete_by_cookie(OURS | 7, u64::MAX), FlowMod::add(numbered(2000))]);
    client.bundle(mods).await.expect("a bundle");
    assert_eq!(client.dump_flows(None, 0, 0).await.expect("flows").len(), 999);
    client.bundle(vec![FlowMod::delete_by_cookie(OURS, u64::MAX << 32)]).await.expect("a bundle");
    assert_eq!(client.dump_flows(None, 0, 0).await.expect("flows"), []);
    client.bundle(vec![]).await.expect("an empty bundle");
    client.barrier().await.expect("a barrier");
}

#[tokio::test]
async fn one_bad_flow_refuses_the_whole_bundle() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    client.bundle(vec![FlowMod::add(numbered(1))]).await.expect("a bundle");
    let before = ovs.ofctl(&["--no-stats"], "dump-flows", &[]);

    // Cannot be decoded: refused when it is put into the bundle.
    let actions = vec![Action::set_field(OxmField::ETH_TYPE, 5u16)];
    let undecodable = Flow::new(65, 1, Match::new(), actions);
    // Can be decoded, but not carried out: refused when the bundle is committed.
    let overlapping = Flow { flags: Flow::CHECK_OVERLAP, ..Flow::new(65, 100, Match::new(), vec![]) };
    for (bad, name) in [(undecodable, "OFPBAC_BAD_SET_ARGUMENT"), (overlapping, "OFPFMFC_OVERLAP")] {
        let mut mods: Vec<_> = (10..200).map(numbered).map(FlowMod::add).collect();
        mods.insert(100, FlowMod::add(bad));
        let error = client.bundle(mods).await.expect_err("a refusal");
        let BundleError::Rejected(errors) = &error else { panic!("{error:?}") };
        let [(100, refusal)] = &errors[..] else { panic!("{errors:?}") };
        assert_eq!(refusal.to_string(), name);
        assert!(error.to_string().contains("number 100"), "{error}");
        assert_eq!(ovs.ofctl(&["--no-stats"], "dump-flows", &[]), before);
    }
    client.bundle((10..200).map(numbered).map(FlowMod::add).collect()).await.expect("it works again");

    // What does not fit a message is refused without asking.
    let long = Flow::new(0, 1, Match::new(), vec![Action::Exit; 8000]);
    let error = client.bundle(vec![FlowMod::add(numbered(5)), FlowMod::add(long)]).await;
    assert!(matches!(error, Err(BundleError::TooLarge { index: 1, .. })), "{error:?}");
    client.barrier().await.expect("the connection lives");
}

#[tokio::test]
async fn a_monitor_tells_of_everybodys_flows() {
    let ovs = Ovs::start();
    ovs.ofctl(&[], "add-flow", &["table=9,cookie=0x1,reg15=3,actions=output:1"]);
    let (client, mut events) = connect(&ovs).await;
    client.bundle((0..1000).map(numbered).map(FlowMod::add).collect()).await.expect("a bundle");
    client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await.expect("a monitor");

    let mut table = FlowTable::new(|_| true);
    loop {
        match next(&mut events).await {
            Event::FlowUpdates(updates) => updates.iter().for_each(|update| {
                assert!(matches!(update, FlowUpdate::Full { event: FlowUpdateEvent::Initial, .. }));
                table.apply(update);
            }),
            Event::InitialFlowsDone { monitor_ids } => break assert_eq!(monitor_ids, [1]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(table.len(), 1001);
    assert!(table.iter().any(|flow| flow.same_as(&numbered(77))));

    // Somebody else's changes.
    let mut updates = Updates(&mut events, VecDeque::new());
    let is_foreign = |flow: &Flow| flow.table_id == 9;
    ovs.ofctl(&[], "mod-flows", &["table=9,reg15=3,actions=output:2"]);
    let (event, flow) = updates.next(is_foreign).await;
    assert_eq!((event, flow.actions()), (FlowUpdateEvent::Modified, &[Action::output(2u32)][..]));
    ovs.ofctl(&[], "add-flow", &["table=9,reg14=3,actions=output:4"]);
    let (event, flow) = updates.next(is_foreign).await;
    assert_eq!(
        (event, flow.to_string()),
        (FlowUpdateEvent::Added, " table=9, reg14=0x3 actions=output:4".into())
    );
    ovs.ofctl(&[], "del-flows", &["table=9"]);
    for _ in 0..2 {
        assert_eq!(updates.next(is_foreign).await.0, FlowUpdateEvent::Removed);
    }

    // Our own changes, in full.
    client.bundle(vec![FlowMod::add(numbered(5000))]).await.expect("a bundle");
    let (event, flow) = updates.next(|_| true).await;
    assert_eq!(event, FlowUpdateEvent::Added);
    assert!(flow.same_as(&numbered(5000)), "{flow}");

    // Somebody deletes everything, as ovn-controller does when it starts.
    ovs.ofctl(&[], "del-flows", &[]);
    table.apply(&FlowUpdate::Full { event: FlowUpdateEvent::Added, reason: 0, flow });
    let mut removed = 0;
    while removed < 1001 {
        if let Event::FlowUpdates(updates) = next(&mut events).await {
            removed += updates.iter().filter(|update| table.apply(update)).count();
        }
    }
    assert!(table.iter().all(|flow| flow.table_id == 9), "{table:?}");
}

/// A packet that is learned from, and the packet-in for it.
#[tokio::test]
async fn learned_flows_and_packet_ins_arrive() {
    let ovs = Ovs::start();
    ovs.ofctl(&[], "add-tlv-map", &["{class=0x102,type=0x80,len=4}->tun_metadata0"]);
    ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=5".split(' '));
    let (client, mut events) = connect(&ovs).await;
    let (stranger, mut strangers_events) =
        Client::connect(&Target::Unix(ovs.socket()), Config { controller_id: 7, ..Config::default() })
            .await
            .expect("another connection");
    let maps = client.tlv_table().await.expect("the table of tunnel options");
    assert_eq!(maps, [TlvMap { class: 0x102, kind: 0x80, len: 4, index: 0 }]);
    client.monitor_flows(vec![FlowMonitorRequest::in_table(1, 70)]).await.expect("a monitor");

    let learn = Learn {
        priority: 1100,
        cookie: OURS | 1,
        table_id: 70,
        specs: vec![
            LearnSpec::match_value(OxmField::reg(15), 2u32),
            LearnSpec::match_bits(OxmField::tun_metadata(0), 0, 32, 0x8000_0002u32),
            LearnSpec::load_bits(OxmField::TUNNEL_ID, 0, 24, 5u32),
            LearnSpec::output(OxmField::NXM_IN_PORT),
        ],
        ..Learn::default()
    };
    let controller = Controller2 {
        controller_id: Config::default().controller_id,
        userdata: vec![1, 2, 3].into(),
        ..Controller2::default()
    };
    let rarp = Match::new().with(OxmField::ETH_TYPE, 0x8035u16);
    let gate = Flow::new(0, 100, rarp, vec![Action::Learn(learn), Action::Controller(controller)]);
    client.bundle(vec![FlowMod::add(gate.with_cookie(OURS | 2))]).await.expect("a bundle");

    let mut packet = vec![0xff; 6];
    packet.extend([2, 0, 0, 0, 0, 1, 0x80, 0x35]);
    packet.resize(60, 0);
    let hex: String = packet.iter().map(|b| format!("{b:02x}")).collect();
    ovs.appctl(&["netdev-dummy/receive", "p1", &hex]);

    let (mut learned, mut packet_in) = (None, None);
    while learned.is_none() || packet_in.is_none() {
        match next(&mut events).await {
            Event::FlowUpdates(updates) => learned = updates.into_iter().next().or(learned),
            Event::PacketIn(packet) => packet_in = Some(packet),
            _ => {}
        }
    }
    let Some(FlowUpdate::Full { event: FlowUpdateEvent::Added, flow, .. }) = learned else {
        panic!("{learned:?}");
    };
    let text = " cookie=0x4c494d4f00000001, table=70, priority=1100,reg15=0x2,tun_metadata0=0x80000002 \
                actions=set_field:0x5/0xffffff->tun_id,output:5";
    assert_eq!(flow.to_string(), text);
    let packet_in = packet_in.expect("a packet-in");
    assert_eq!((&packet_in.userdata[..], packet_in.in_port()), (&[1, 2, 3][..], Some(PortNo(5))));
    assert_eq!((packet_in.cookie, &packet_in.packet[..]), (OURS | 2, &packet[..]));

    // The stranger, who has another id, was told nothing: what it asked for came, and nothing before that.
    stranger.monitor_flows(vec![FlowMonitorRequest::in_table(1, 99)]).await.expect("a monitor");
    assert!(matches!(next(&mut strangers_events).await, Event::InitialFlowsDone { .. }));
    assert!(strangers_events.try_next().is_none());
    drop(stranger);

    // The same packet, from us.
    let out = PacketOut::new(PortNo::LOCAL, vec![Action::output(PortNo::TABLE)], packet);
    client.packet_out(out.clone()).await.expect("the switch takes the packet");
    loop {
        if let Event::PacketIn(packet_in) = next(&mut events).await {
            break assert_eq!(packet_in.in_port(), Some(PortNo::LOCAL));
        }
    }
    // A packet that the switch does not take.
    let bad = PacketOut { actions: vec![Action::Group(99)], ..out };
    let error = client.packet_out(bad).await.expect_err("a refusal");
    assert_eq!(error.label(), "refused", "{error}");
}

#[tokio::test]
async fn ports_are_told() {
    let ovs = Ovs::start();
    let (_client, mut events) = connect(&ovs).await;
    ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=5".split(' '));
    loop {
        if let Event::PortStatus(status) = next(&mut events).await {
            assert_eq!((status.port.port_no, &status.port.name[..]), (PortNo(5), "p1"));
            return;
        }
    }
}

#[tokio::test]
async fn a_dead_switch_fails_what_waits() {
    let ovs = Ovs::start();
    let (client, mut events) = connect(&ovs).await;
    client.barrier().await.expect("a barrier");
    let asking = tokio::spawn({
        let client = client.clone();
        async move {
            loop {
                if let Err(error) = client.dump_flows(None, 0, 0).await {
                    return error;
                }
            }
        }
    });
    ovs.kill("ovs-vswitchd");
    let error = tokio::time::timeout(Duration::from_secs(20), asking).await;
    let error = error.expect("an end in time").expect("no panic");
    assert!(matches!(error, Error::Closed(CloseReason::Eof | CloseReason::Io(_))), "{error:?}");
    assert!(matches!(next(&mut events).await, Event::Closed(CloseReason::Eof | CloseReason::Io(_))));
    assert!(events.next().await.is_none());
    assert!(matches!(client.bundle(vec![FlowMod::add(numbered(1))]).await, Err(BundleError::Closed(_))));
    let error = Client::connect(&Target::Unix(ovs.socket()), Config::default()).await;
    assert_eq!(error.map(|_| ()).expect_err("nobody listens").label(), "connect");
}

#[tokio::test]
async fn a_bridge_without_1_5_is_named() {
    let ovs = Ovs::start();
    ovs.vsctl("set bridge br0 protocols=OpenFlow13".split(' '));
    let connected = Client::connect(&Target::Unix(ovs.socket()), Config::default()).await;
    let error = connected.map(|_| ()).expect_err("no version in common");
    assert!(matches!(error, Error::Version { .. }), "{error:?}");
    assert!(error.to_string().contains("(OpenFlow13): add OpenFlow15"), "{error}");
}

/// Much more than the socket holds, in both directions at once.
#[tokio::test]
async fn it_reads_while_it_writes() {
    let ovs = Ovs::start();
    let (client, mut events) = connect(&ovs).await;
    client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await.expect("a monitor");
    let followed = tokio::spawn(async move {
        let mut table = FlowTable::new(|flow| flow.table_id == 65);
        while table.len() < 20_000 {
            if let Event::FlowUpdates(updates) = next(&mut events).await {
                updates.iter().for_each(|update| {
                    table.apply(update);
                });
            }
        }
    });
    let (bundle, dump) = tokio::join!(
        client.bundle((0..20_000).map(numbered).map(FlowMod::add).collect()),
        client.dump_flows(None, 0, 0)
    );
    bundle.expect("a bundle");
    dump.expect("a dump");
    assert_eq!(client.dump_flows(None, 0, 0).await.expect("a dump").len(), 20_000);
    followed.await.expect("all were told");
}
