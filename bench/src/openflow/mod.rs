//! openflow-rs and ofpacket, beside a raw socket and `ovs-ofctl`, on a private ovs-vswitchd with the dummy datapath: no
//! traffic, one table, two match fields. The switch does most of the work of whatever is measured here; what is compared
//! is the rest.

mod bundle;
mod dump;
mod raw;
#[path = "../../../crates/ofpacket/tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ofpacket::{Action, Flow, FlowMod, Match, OxmField};
use openflow_rs::{Client, Config, Events, Target};

use crate::report::{Row, publish};
use support::Ovs;

/// Each gives some rows.
const BENCHMARKS: &[fn() -> anyhow::Result<Vec<Row>>] = &[bundle::many, bundle::one, dump::flows];

/// Flows in the large bundles and dumps.
const FLOWS: u32 = 100_000;
/// Measurements of each, one of each kind in turn.
const ROUNDS: usize = 7;

pub(crate) fn run(out: &Path) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for benchmark in BENCHMARKS {
        rows.extend(benchmark()?);
    }
    publish(&rows, &out.join("openflow.json"))
}

/// A flow as OVN's are: `metadata` and a MAC address, a register and the next table.
fn flow(i: u32) -> Flow {
    let [_, b, c, d] = i.to_be_bytes();
    let match_ = Match::new()
        .with(OxmField::METADATA, u64::from(i % 100 + 1))
        .with(OxmField::ETH_DST, [0x0a, 0, 0, b, c, d]);
    let actions = vec![Action::set_field(OxmField::reg(15), i + 1), Action::resubmit(65)];
    Flow::new(32, 50, match_, actions).with_cookie(u64::from(i) + 1)
}

fn flow_mods(n: u32) -> Vec<FlowMod> {
    (0..n).map(flow).map(FlowMod::add).collect()
}

/// The runtime of the measured client: one thread, as the agent's.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot make a runtime")
}

async fn connect(ovs: &Ovs) -> anyhow::Result<(Client, Events)> {
    let config = Config { request_timeout: Duration::from_secs(60), ..Config::default() };
    Ok(Client::connect(&Target::Unix(ovs.socket()), config).await?)
}

/// Empties all tables, and waits until the switch has done so.
async fn clear(client: &Client) -> anyhow::Result<()> {
    client.bundle(vec![FlowMod::delete_by_cookie(0, 0)]).await?;
    Ok(client.barrier().await?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn per_second(n: u32, time: Duration) -> f64 {
    f64::from(n) / time.as_secs_f64()
}
