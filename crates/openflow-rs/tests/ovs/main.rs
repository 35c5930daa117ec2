//! Against a real `ovs-vswitchd`.

mod bundles;
mod gate;
mod monitors;
mod requests;
mod session;
#[path = "../../../ofpacket/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use ofpacket::{Action, Flow, FlowKey, FlowMod, Match, OxmField};
use openflow_rs::{Client, Config, Event, Events, Target};
use support::Ovs;

const OURS: u64 = 0x4c49_4d4f_0000_0000;

async fn connect(ovs: &Ovs) -> (Client, Events) {
    Client::connect(&Target::Unix(ovs.socket()), Config::default()).await.expect("a connection")
}

/// What must come in time.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

/// The next event, which must come in time.
async fn next(events: &mut Events) -> Event {
    soon(events.next()).await.expect("the connection lives")
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

fn numbered_mods(numbers: std::ops::Range<u32>) -> Vec<FlowMod> {
    numbers.map(numbered).map(FlowMod::add).collect()
}

/// The flows that the switch has.
async fn dumped(client: &Client) -> BTreeMap<FlowKey, Flow> {
    let flows = client.dump_flows(None, 0, 0).await.expect("a dump");
    by_key(flows.into_iter().map(|stats| stats.flow))
}
