//! All or none.

use ofpacket::{
    Action, Body, Controller2, Flow, FlowMod, FlowMonitorRequest, Match, OxmField, PacketOut, PortNo,
};
use openflow_rs::{BundleError, Client, Config, Event, FlowTable, Settled};
use tokio::net::UnixStream;

use crate::gate::{Commit, Gate};
use crate::support::Ovs;
use crate::{OURS, by_key, connect, next, numbered, numbered_mods};

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

/// `OFPT_GROUP_MOD` that adds a group of type "all" with one bucket, which outputs to a port.
fn add_group(group: u32, port: u32) -> Body {
    let mut body = vec![0, 0, 0, 0];
    body.extend(group.to_be_bytes());
    // 24 bytes of buckets, no bucket to place it at.
    body.extend([0, 24, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    // The bucket: its length, that of its actions, its number.
    body.extend([0, 24, 0, 16, 0, 0, 0, 1]);
    body.extend([0, 0, 0, 16]);
    body.extend(port.to_be_bytes());
    body.extend([0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    Body::Unknown { kind: 15, body: body.into() }
}

#[tokio::test]
async fn groups_and_packets_are_bundled_with_flows() {
    let ovs = Ovs::start();
    let (client, mut events) = connect(&ovs).await;
    let to_us = Controller2 {
        controller_id: Config::default().controller_id,
        userdata: vec![9].into(),
        ..Controller2::default()
    };
    let by_group = Flow::new(3, 1, Match::new(), vec![Action::Group(7), Action::Controller(to_us)]);
    let packet = PacketOut::new(PortNo::LOCAL, vec![Action::output(PortNo::TABLE)], vec![0x22; 60]);
    let bundle = vec![
        add_group(7, 5),
        Body::FlowMod(FlowMod::add(by_group)),
        Body::FlowMod(FlowMod::add(Flow::new(0, 1, Match::new(), vec![Action::resubmit(3)]))),
        Body::PacketOut(packet),
    ];
    client.bundle_of(bundle.clone()).await.expect("a bundle");
    loop {
        // The packet met the flows that came with it.
        if let Event::PacketIn(packet_in) = next(&mut events).await {
            break assert_eq!((&packet_in.userdata[..], packet_in.table_id), (&[9][..], 3));
        }
    }
    assert!(
        ovs.ofctl(&[], "dump-groups", &[])
            .contains("group_id=7,type=all,bucket=bucket_id:1,actions=output:5")
    );

    // The group exists: nothing is done, and nobody sees the packet.
    let error = client.bundle_of(bundle).await.expect_err("a group that is there already");
    assert!(matches!(&error, BundleError::Rejected(errors) if errors[0].0 == 0), "{error:?}");
    client.send(vec![add_group(8, 5)]).await.expect("a group");
    let error = client.send(vec![add_group(9, 5), add_group(8, 5), add_group(10, 5)]).await;
    assert_eq!(error.expect_err("a group that is there already").label(), "refused");
    let groups = ovs.ofctl(&[], "dump-groups", &[]);
    assert!(
        ["group_id=8", "group_id=9", "group_id=10"].iter().all(|group| groups.contains(group)),
        "{groups}"
    );
}

/// What the documentation says of other messages in a bundle.
#[tokio::test]
async fn meters_and_ports_are_not_bundled() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let meter = Body::Unknown { kind: 29, body: vec![0, 2, 0, 0, 0, 0, 0, 1].into() };
    let flow = || Body::FlowMod(FlowMod::add(numbered(1)));
    let error = client.bundle_of(vec![flow(), meter, flow()]).await.expect_err("a refusal");
    let BundleError::Rejected(errors) = &error else { panic!("{error:?}") };
    assert_eq!((errors.len(), errors[0].0, errors[0].1.to_string()), (1, 1, "OFPBFC_MSG_UNSUP".to_owned()));

    let mut port_mod = vec![0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0];
    port_mod.extend(client.port_desc().await.expect("ports")[0].hw_addr);
    port_mod.resize(24, 0);
    let port_mod = Body::Unknown { kind: 16, body: port_mod.into() };
    client.send(vec![port_mod.clone()]).await.expect("alone it is fine");
    let error = client.bundle_of(vec![flow(), port_mod]).await.expect_err("a refusal");
    assert!(matches!(error, BundleError::Rejected(_) | BundleError::Refused(_)), "{error:?}");
    assert_eq!(client.dump_flows(None, 0, 0).await.expect("a dump"), []);
}

#[tokio::test]
async fn what_became_of_a_bundle_is_read_back() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    client.bundle(numbered_mods(0..20)).await.expect("a bundle");

    // All kinds of flow mods, some of which override others.
    let other = |i| Flow { table_id: 66, ..numbered(i) };
    let changed = Flow {
        instructions: Flow::new(0, 0, Match::new(), vec![Action::output(9u32)]).instructions,
        ..numbered(3)
    };
    let modify = |command| FlowMod { command, cookie_mask: 0, ..FlowMod::add(changed.clone()) };
    let mods = vec![
        FlowMod::add(other(1)),
        FlowMod { cookie_mask: 0, ..FlowMod::delete_strict(&numbered(1)) },
        FlowMod::delete_by_cookie(OURS | 2, u64::MAX),
        FlowMod::delete_strict(&numbered(4)),
        modify(ofpacket::FlowModCommand::ModifyStrict),
        modify(ofpacket::FlowModCommand::Modify),
        FlowMod::add(other(7)),
        FlowMod::delete_strict(&other(7)),
        FlowMod::add(Flow { table_id: 67, ..numbered(8) }),
    ];
    assert_eq!(client.settle(&mods).await.expect("a dump"), Settled::NotDone);
    client.bundle(mods.clone()).await.expect("a bundle");
    assert_eq!(client.settle(&mods).await.expect("a dump"), Settled::Done);
    client
        .bundle(vec![FlowMod::delete_strict(&other(1)), FlowMod::add(numbered(4))])
        .await
        .expect("a bundle");
    assert_eq!(client.settle(&mods).await.expect("a dump"), Settled::Mixed { missing: vec![0, 3] });
    client.bundle(mods.clone()).await.expect("it is sent again");
    assert_eq!(client.settle(&mods).await.expect("a dump"), Settled::Done);
    assert_eq!(client.settle(&[]).await.expect("no dump"), Settled::Done);

    let deletes: Vec<_> = [5, 6].map(|i| FlowMod::delete_strict(&numbered(i))).to_vec();
    assert_eq!(client.settle(&deletes).await.expect("a dump"), Settled::NotDone);
    client.bundle(deletes[1..].to_vec()).await.expect("a bundle");
    assert_eq!(client.settle(&deletes).await.expect("a dump"), Settled::Mixed { missing: vec![0] });
}

/// The answer to COMMIT does not come, or COMMIT does not arrive: only the flows tell.
#[tokio::test]
async fn a_bundle_without_an_answer_is_settled() {
    let ovs = Ovs::start();
    for (commit, settled) in [(Commit::Shuts, Settled::Done), (Commit::IsLost, Settled::NotDone)] {
        let gate = Gate::default();
        let stream = UnixStream::connect(ovs.socket()).await.expect("a socket");
        let config = Config { request_timeout: std::time::Duration::from_secs(2), ..Config::default() };
        let (client, _events) = Client::over(gate.before(stream), config).await.expect("a connection");
        gate.on_commit(commit);
        let mods = numbered_mods(0..100);
        let error = client.bundle(mods.clone()).await.expect_err("no answer");
        assert!(matches!(error, BundleError::Unknown { .. }), "{error:?}");
        gate.open();
        gate.on_commit(Commit::Passes);
        assert_eq!(client.settle(&mods).await.expect("a dump"), settled);
        client.bundle(mods.clone()).await.expect("it is sent again");
        client
            .bundle(mods.iter().map(|add| FlowMod::delete_strict(&add.flow)).collect())
            .await
            .expect("a bundle");
    }
}
