//! Adds the flows of a file to a bridge, all of them or none, as `ovs-ofctl --bundle add-flows` does:
//!
//! ```console
//! cargo run --example add-flows unix:/run/openvswitch/br0.mgmt flows.txt
//! cargo run --example add-flows unix:/run/openvswitch/br0.mgmt -    # from the standard input
//! ```
//!
//! One flow a line; empty lines and what follows `#` are left out.

use std::io::Read;
use std::time::Instant;

use ofpacket::{Flow, FlowMod};
use openflow_rs::{BundleError, Client, Config, Settled};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let target = args.next().ok_or("say where the bridge listens: unix:PATH or tcp:ADDRESS:PORT")?;
    let file = args.next().ok_or("give a file of flows, or - for the standard input")?;
    let mut text = String::new();
    match &file[..] {
        "-" => std::io::stdin().read_to_string(&mut text)?,
        file => std::fs::File::open(file)?.read_to_string(&mut text)?,
    };
    let (mut lines, mut mods) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let flow: Flow = line.parse().map_err(|error| format!("{file}:{number}: {error}"))?;
            lines.push(number);
            mods.push(FlowMod::add(flow));
        }
    }

    let (client, _events) = Client::connect(&target.parse()?, Config::default()).await?;
    let begin = Instant::now();
    match client.bundle(mods.clone()).await {
        Ok(()) => println!("{} flows added in {:?}", mods.len(), begin.elapsed()),
        // Each refusal belongs to a line.
        Err(BundleError::Rejected(errors)) => {
            for (index, error) in &errors {
                eprintln!("{file}:{}: {error}", lines[*index]);
            }
            return Err("no flow was added".into());
        }
        // Only the switch knows.
        Err(error @ BundleError::Unknown { .. }) => match client.settle(&mods).await? {
            Settled::Done => println!("{error}: they were"),
            other => return Err(format!("{error}: {other:?}").into()),
        },
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
