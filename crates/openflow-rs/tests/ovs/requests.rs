//! Everything else that can be asked or told.

use ofpacket::{
    Action, AsyncConfig, Body, Controller2, Flow, FlowMod, FlowMonitorRequest, FlowUpdate, FlowUpdateEvent,
    Learn, LearnSpec, Match, OxmField, PacketOut, PortNo, RequestBody, Role, RoleMessage, TlvMap,
};
use openflow_rs::{BundleError, Client, CloseReason, Config, Error, Event, Target};

use crate::support::Ovs;
use crate::{OURS, connect, next, numbered, soon};

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
    let error = soon(asking).await;
    let error = error.expect("no panic");
    assert!(matches!(error, Error::Closed(CloseReason::Eof | CloseReason::Io(_))), "{error:?}");
    assert!(matches!(next(&mut events).await, Event::Closed(CloseReason::Eof | CloseReason::Io(_))));
    assert!(events.next().await.is_none());
    assert!(matches!(client.bundle(vec![FlowMod::add(numbered(1))]).await, Err(BundleError::Closed(_))));
    // The socket may outlive the connection for a moment.
    let nobody_listens = async {
        loop {
            let connected = Client::connect(&Target::Unix(ovs.socket()), Config::default()).await;
            if matches!(connected, Err(Error::Connect { .. })) {
                return;
            }
        }
    };
    soon(nobody_listens).await;
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

/// A bridge that listens on the loopback.
#[tokio::test]
async fn tcp_is_as_good_as_a_unix_socket() {
    let ovs = Ovs::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = free.expect("a port").port();
    ovs.vsctl(["set-controller", "br0", &format!("ptcp:{port}:127.0.0.1")]);
    let target: Target = format!("tcp:127.0.0.1:{port}").parse().expect("a target");
    let (client, mut events) = Client::connect(&target, Config::default()).await.expect("a connection");
    client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await.expect("a monitor");
    client.bundle((0..2000).map(numbered).map(FlowMod::add).collect()).await.expect("a bundle");
    assert_eq!(client.dump_flows(None, 0, 0).await.expect("flows").len(), 2000);
    let mut told = 0;
    while told < 2000 {
        if let Event::FlowUpdates(updates) = next(&mut events).await {
            told += updates.len();
        }
    }
    ovs.vsctl(["del-controller", "br0"]);
    assert!(matches!(next(&mut events).await, Event::Closed(_)));
    let error = Client::connect(&target, Config::default()).await.map(|_| ()).expect_err("nobody listens");
    assert_eq!(error.label(), "connect");
}

#[tokio::test]
async fn the_handling_of_fragments_stays_what_it_was() {
    let ovs = Ovs::start();
    for (mode, flags) in [("nx-match", 3), ("drop", 1), ("normal", 0)] {
        ovs.ofctl(&[], "set-frags", &[mode]);
        let (client, _events) = connect(&ovs).await;
        let config = client.switch_config().await.expect("a configuration");
        assert_eq!(config.flags, flags);
        assert!(config.miss_send_len > 0, "else there are no packet-ins");
        assert_eq!(ovs.ofctl(&[], "get-frags", &[]).trim(), mode);
    }
}

#[tokio::test]
async fn roles_are_told_and_changed() {
    let ovs = Ovs::start();
    let (client, mut events) = connect(&ovs).await;
    let (rival, _rivals_events) = connect(&ovs).await;
    let ask = |role, generation_id| RoleMessage { role, generation_id };
    let role = |role: RoleMessage| role.role;
    let no_change = ask(Role::NoChange, 0);
    assert_eq!(role(client.role(no_change).await.expect("a role")), Role::Equal, "nobody asked for another");
    let all = AsyncConfig(vec![(AsyncConfig::ROLE_STATUS - 1, 7), (AsyncConfig::ROLE_STATUS, 7)]);
    client.set_async_config(all).await.expect("a choice");
    let chosen = client.async_config().await.expect("a choice");
    assert_eq!(chosen.get(AsyncConfig::ROLE_STATUS), Some(7));
    assert_eq!(chosen.get(AsyncConfig::PORT_STATUS), Some(7), "the rest is as it was");

    assert_eq!(role(client.role(ask(Role::Primary, 5)).await.expect("a role")), Role::Primary);
    assert_eq!(role(rival.role(ask(Role::Primary, 6)).await.expect("a role")), Role::Primary);
    let told = next(&mut events).await;
    assert!(matches!(&told, Event::Other(body) if body.kind() == 30), "{told:?}");
    assert_eq!(role(client.role(no_change).await.expect("a role")), Role::Secondary);
    let stale = client.role(ask(Role::Primary, 4)).await.expect_err("an old generation");
    assert!(matches!(stale, Error::Refused { .. }), "{stale:?}");

    let mods = (0..5000).map(numbered).map(FlowMod::add).collect();
    let error = client.bundle(mods).await.expect_err("a secondary changes nothing");
    assert!(
        matches!(&error, BundleError::Refused(error) if error.to_string() == "OFPBRC_IS_SECONDARY"),
        "{error:?}"
    );
    assert!(events.try_next().is_none(), "the refusals belong to the bundle");
    assert_eq!(role(client.role(ask(Role::Equal, 0)).await.expect("a role")), Role::Equal);
    client.bundle(vec![FlowMod::add(numbered(1))]).await.expect("equal again");
}

/// Whatever this crate has no name for.
#[tokio::test]
async fn anything_can_be_asked() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let table_features = |kind| RequestBody::Other { kind, body: Default::default() };
    let parts = client.multipart(table_features(12)).await.expect("table features");
    assert!(parts.len() > 10, "some 2 MB in {} parts", parts.len());
    let error = client.multipart(table_features(0x7777)).await.expect_err("there is no such thing");
    assert!(error.to_string().contains("OFPBRC_BAD_STAT"), "{error}");
    let echo = client.request(Body::EchoRequest("hello".into())).await.expect("an echo");
    assert_eq!(echo, Body::EchoReply("hello".into()));
    let error = client.request(Body::Unknown { kind: 99, body: Default::default() }).await;
    assert_eq!(error.expect_err("there is no such thing").label(), "refused");

    let small = Config { max_reply: 100_000, ..Config::default() };
    let (client, _events) = Client::connect(&Target::Unix(ovs.socket()), small).await.expect("a connection");
    let error = client.multipart(table_features(12)).await.expect_err("too much");
    assert!(matches!(error, Error::ReplyTooLong { limit: 100_000, .. }), "{error:?}");
    soon(client.barrier()).await.expect("the connection lives");
}
