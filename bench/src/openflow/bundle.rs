//! Bundles: many flows at once, and one flow at a time.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use ofpacket::{BundleControlType, TABLE_ALL};
use openflow_rs::Client;

use super::raw::{Encoded, Raw, encode};
use super::support::Ovs;
use super::{FLOWS, ROUNDS, clear, connect, flow, flow_mods, median, per_second, runtime};
use crate::report::Row;

/// A tick of the processor time that the kernel tells takes 10 ms.
const PAUSE: Duration = Duration::from_millis(20);
/// So many without a tick are rest.
const QUIET_PAUSES: u32 = 10;
const MAX_PAUSES: u32 = 1000;

/// One atomic bundle of 100,000 flows, from the flows in memory to the answer to COMMIT. The raw socket writes OPEN,
/// ADDs, CLOSE and COMMIT, encoded before, without waiting for anything; `ovs-ofctl` reads the flows as text.
pub(super) fn many() -> anyhow::Result<Vec<Row>> {
    let ovs = Ovs::start();
    let mods = flow_mods(FLOWS);
    let Encoded { adds, close, commit } = encode(mods.clone())?;
    let all = [adds, close, commit].concat();
    let file = ovs.path("flows.txt").display().to_string();
    let mut text = String::new();
    for i in 0..FLOWS {
        writeln!(text, "{}", flow(i))?;
    }
    std::fs::write(&file, text)?;

    runtime()?.block_on(async {
        let (client, _events) = connect(&ovs).await?;
        let mut raw = Raw::connect(&ovs.socket())?;
        let (mut ours, mut raws, mut ofctls) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mods = mods.clone();
            empty(&ovs, &client).await?;
            let begin = Instant::now();
            client.bundle(mods).await?;
            ours.push(begin.elapsed());
            check(&client).await?;

            empty(&ovs, &client).await?;
            let begin = Instant::now();
            raw.write(&all)?;
            raw.until(BundleControlType::CommitReply)?;
            raws.push(begin.elapsed());
            check(&client).await?;

            empty(&ovs, &client).await?;
            let begin = Instant::now();
            ovs.ofctl(&["--bundle"], "add-flows", &[&file]);
            ofctls.push(begin.elapsed());
            check(&client).await?;
        }
        let row = |name, times| Row::new(name, per_second(FLOWS, median(times)), "flows/s");
        let raw = row("100,000 flows in one bundle, raw socket", raws);
        let ofctl = row("100,000 flows in one bundle, ovs-ofctl --bundle add-flows", ofctls);
        let ours = row("100,000 flows in one bundle, openflow-rs", ours);
        Ok(vec![ours.clone().beside(&raw), ours.beside(&ofctl), raw, ofctl])
    })
}

/// Removes all flows, and waits until the switch has done its other threads' part of that too (it frees the flows after
/// a grace period), which would otherwise take its share of the processors from what comes next.
async fn empty(ovs: &Ovs, client: &Client) -> anyhow::Result<()> {
    clear(client).await?;
    let (mut still, mut before) = (0, ovs.ticks());
    for _ in 0..MAX_PAUSES {
        if still == QUIET_PAUSES {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
        let now = ovs.ticks();
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    bail!("ovs-vswitchd does not come to rest")
}

/// All flows are there: the aggregate would be cheaper, but the codec is what is trusted here.
async fn check(client: &Client) -> anyhow::Result<()> {
    let one = client.dump_flows(None, u64::from(FLOWS), u64::MAX).await?;
    ensure!(one.len() == 1 && one[0].flow.table_id != TABLE_ALL, "the last flow is not there");
    Ok(())
}

/// Bundles of one flow in a row, at most so many.
const SINGLES: usize = 4000;
/// Of one kind before the next kind.
const BLOCK: usize = 50;

/// An atomic bundle of one flow, one after the other, each of them from the flow in memory to the answer to COMMIT: the
/// median. The raw socket does the same, encoded before: OPEN, ADD and CLOSE in one write, and COMMIT when CLOSE is
/// answered. Beside it, what it would be without that wait, and without the safety that it is for.
pub(super) fn one() -> anyhow::Result<Vec<Row>> {
    let ovs = Ovs::start();
    let mods = flow_mods(1);
    let Encoded { adds, close, commit } = encode(mods.clone())?;
    let (up_to_close, all) = ([&adds[..], &close].concat(), [&adds[..], &close, &commit].concat());
    runtime()?.block_on(async {
        let (client, _events) = connect(&ovs).await?;
        let mut raw = Raw::connect(&ovs.socket())?;
        let (mut ours, mut raws, mut pipelined) = (Vec::new(), Vec::new(), Vec::new());
        while ours.len() < SINGLES {
            for _ in 0..BLOCK {
                let mods = mods.clone();
                let begin = Instant::now();
                client.bundle(mods).await?;
                ours.push(begin.elapsed());
            }
            for _ in 0..BLOCK {
                let begin = Instant::now();
                raw.write(&up_to_close)?;
                raw.until(BundleControlType::CloseReply)?;
                raw.write(&commit)?;
                raw.until(BundleControlType::CommitReply)?;
                raws.push(begin.elapsed());
            }
            for _ in 0..BLOCK {
                let begin = Instant::now();
                raw.write(&all)?;
                raw.until(BundleControlType::CommitReply)?;
                pipelined.push(begin.elapsed());
            }
        }
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let row = |name, times| Row::new(name, micros(median(times)), "us");
        let ours = row("one flow in a bundle, openflow-rs, p50", ours);
        let raw = row("one flow in a bundle, raw socket, COMMIT after CLOSE's reply, p50", raws);
        let pipelined = row("one flow in a bundle, raw socket, all at once, p50", pipelined);
        Ok(vec![ours.clone().beside(&raw), ours.beside(&pipelined), raw, pipelined])
    })
}
