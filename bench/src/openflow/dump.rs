//! Reading back what is there.

use std::time::Instant;

use anyhow::ensure;
use ofpacket::{Body, FlowDescRequest, Message, MultipartRequest, RequestBody};

use super::raw::Raw;
use super::support::Ovs;
use super::{FLOWS, ROUNDS, connect, flow_mods, median, per_second, runtime};
use crate::report::Row;

/// In the flags of a multipart reply, bytes 10 and 11: another one follows.
const MORE: u8 = 1;

/// A dump of 100,000 flows: into memory, into text with `ovs-ofctl`, and with a raw socket that only counts.
pub(super) fn flows() -> anyhow::Result<Vec<Row>> {
    let ovs = Ovs::start();
    runtime()?.block_on(async {
        let (client, _events) = connect(&ovs).await?;
        client.bundle(flow_mods(FLOWS)).await?;
        let mut raw = Raw::connect(&ovs.socket())?;
        let body = RequestBody::FlowDesc(FlowDescRequest::default());
        let body = Body::MultipartRequest(MultipartRequest::new(body));
        let request = Message { xid: 7, body }.encode()?;
        let (mut ours, mut raws, mut ofctls) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let flows = client.dump_flows(None, 0, 0).await?;
            ours.push(begin.elapsed());
            ensure!(flows.len() == FLOWS as usize, "{} flows", flows.len());

            let begin = Instant::now();
            raw.write(&request)?;
            raw.frame(|frame| Ok(frame[11] & MORE == 0))?;
            raws.push(begin.elapsed());

            let begin = Instant::now();
            let text = ovs.ofctl(&[], "dump-flows", &[]);
            ofctls.push(begin.elapsed());
            // Beside the flows there is a line for each part of the reply.
            ensure!(text.lines().count() >= FLOWS as usize, "{} lines", text.lines().count());
        }
        let row = |name, times| Row::new(name, per_second(FLOWS, median(times)), "flows/s");
        let raw = row("dump of 100,000 flows, raw socket, not decoded", raws);
        let ofctl = row("dump of 100,000 flows, ovs-ofctl dump-flows --no-names", ofctls);
        let ours = row("dump of 100,000 flows, openflow-rs", ours);
        Ok(vec![ours.clone().beside(&raw), ours.beside(&ofctl), raw, ofctl])
    })
}
