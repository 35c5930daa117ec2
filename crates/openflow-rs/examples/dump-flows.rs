//! Prints the flows of a bridge, as `ovs-ofctl dump-flows --no-names` does:
//!
//! ```console
//! cargo run --example dump-flows unix:/run/openvswitch/br-int.mgmt
//! cargo run --example dump-flows tcp:127.0.0.1:6653 65
//! cargo run --example dump-flows unix:/run/openvswitch/br-int.mgmt all 0x4c494d4f00000000/0xffffffff00000000
//! ```
//!
//! The second argument is a table, the third a cookie and the bits of it that count.

use openflow_rs::{Client, Config};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let target = args.next().ok_or("say where the bridge listens: unix:PATH or tcp:ADDRESS:PORT")?;
    let table = match args.next().as_deref() {
        None | Some("all") => None,
        Some(table) => Some(table.parse()?),
    };
    let (cookie, mask) = match args.next() {
        Some(text) => match text.split_once('/') {
            Some((cookie, mask)) => (number(cookie)?, number(mask)?),
            None => (number(&text)?, u64::MAX),
        },
        None => (0, 0),
    };

    let (client, _events) = Client::connect(&target.parse()?, Config::default()).await?;
    let mut flows = client.dump_flows(table, cookie, mask).await?;
    flows.sort_by_key(|stats| (stats.flow.table_id, std::cmp::Reverse(stats.flow.priority)));
    for stats in flows {
        let (packets, bytes) = (stats.packet_count, stats.byte_count);
        println!("n_packets={packets}, n_bytes={bytes},{}", stats.flow);
    }
    Ok(())
}

fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
}
