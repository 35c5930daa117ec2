//! Flows as they change.

use std::collections::VecDeque;

use ofpacket::{Action, Flow, FlowMod, FlowMonitorRequest, FlowUpdate, FlowUpdateEvent};
use openflow_rs::{Client, Config, Event, Events, FlowTable};
use tokio::net::UnixStream;

use crate::gate::Gate;
use crate::support::Ovs;
use crate::{by_key, connect, dumped, next, numbered, numbered_mods};

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

/// A connection that does not read while much changes: the switch pauses, and then tells what it left out.
#[tokio::test]
async fn a_pause_loses_nothing() {
    let ovs = Ovs::start();
    let gate = Gate::default();
    let stream = UnixStream::connect(ovs.socket()).await.expect("a socket");
    let (client, mut events) =
        Client::over(gate.before(stream), Config::default()).await.expect("a connection");
    let (other, _events) = connect(&ovs).await;
    other.bundle(numbered_mods(0..1000)).await.expect("a bundle");
    client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await.expect("a monitor");
    gate.shut();
    // Some 4 MB of updates: more than the socket and the 128 KiB after which Open vSwitch pauses.
    other.bundle(numbered_mods(1000..20_000)).await.expect("a bundle");
    let change = |i| Flow { instructions: numbered(i + 1).instructions, ..numbered(i) };
    other.bundle((0..500).map(change).map(FlowMod::add).collect()).await.expect("a bundle");
    let deletes = (500..1500).map(|i| FlowMod::delete_strict(&numbered(i)));
    other.bundle(deletes.collect()).await.expect("a bundle");
    let wanted = dumped(&other).await;
    gate.open();

    let mut table = FlowTable::new(|_| true);
    let mut said = Vec::new();
    while said.len() < 2 {
        let Event::FlowUpdates(updates) = next(&mut events).await else { continue };
        for update in updates {
            table.apply(&update);
            if matches!(update, FlowUpdate::Paused | FlowUpdate::Resumed) {
                assert_eq!(table.is_paused(), update == FlowUpdate::Paused);
                said.push(update);
            }
        }
    }
    assert_eq!(said, [FlowUpdate::Paused, FlowUpdate::Resumed]);
    assert_eq!(by_key(table.iter().cloned()), wanted);
    assert_eq!(table.len(), 19_000);
}

#[tokio::test]
async fn a_monitor_ends_when_it_is_told_to() {
    let ovs = Ovs::start();
    let (client, mut events) = connect(&ovs).await;
    let monitors = vec![FlowMonitorRequest::in_table(1, 1), FlowMonitorRequest::in_table(2, 2)];
    client.monitor_flows(monitors).await.expect("monitors");
    assert!(
        matches!(next(&mut events).await, Event::InitialFlowsDone { monitor_ids } if monitor_ids == [1, 2])
    );
    client.unmonitor_flows(&[1]).await.expect("an end");
    let error = client.unmonitor_flows(&[1]).await.expect_err("there is none");
    assert_eq!(error.label(), "refused", "{error}");
    let flow = |table_id| FlowMod::add(Flow { table_id, ..numbered(1) });
    client.bundle(vec![flow(1), flow(2), flow(3)]).await.expect("a bundle");
    let mut updates = Updates(&mut events, VecDeque::new());
    assert_eq!(updates.next(|_| true).await.1.table_id, 2);
    client.barrier().await.expect("a barrier");
    assert!(events.try_next().is_none());
}
