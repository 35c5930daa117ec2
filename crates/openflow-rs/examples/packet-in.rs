//! Asks for packets, and prints them:
//!
//! ```console
//! cargo run --example packet-in unix:/run/openvswitch/br0.mgmt 0x0806
//! ```
//!
//! adds a flow to table 0 that sends a copy of each packet of that Ethernet type here and forwards it as a learning
//! switch would, and takes the flow away after ten packets, or a minute without one. Not for a bridge that somebody
//! else's flows are on.

use std::time::Duration;

use ofpacket::{Action, Controller2, Flow, FlowMod, Match, OxmField, PortNo};
use openflow_rs::{Client, Config, Event};

/// What our flow has, and no other.
const COOKIE: u64 = 0x7061_636b_6574_0001;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let target = args.next().ok_or("say where the bridge listens: unix:PATH or tcp:ADDRESS:PORT")?;
    let kind = args.next().ok_or("say which Ethernet type: 0x0806 for ARP")?;
    let kind = u16::from_str_radix(kind.trim_start_matches("0x"), 16)?;

    // A number of our own, so that nobody else gets our packets, nor we theirs.
    let config = Config { controller_id: 0x7069, ..Config::default() };
    let to_us = Controller2 {
        controller_id: config.controller_id,
        userdata: b"example".to_vec().into(),
        ..Controller2::default()
    };
    let (client, mut events) = Client::connect(&target.parse()?, config).await?;
    let actions = vec![Action::Controller(to_us), Action::output(PortNo::NORMAL)];
    let flow = Flow::new(0, 60_000, Match::new().with(OxmField::ETH_TYPE, kind), actions);
    client.bundle(vec![FlowMod::add(flow.with_cookie(COOKIE))]).await?;

    let mut packets = 0;
    while packets < 10 {
        match tokio::time::timeout(Duration::from_secs(60), events.next()).await {
            Ok(Some(Event::PacketIn(packet_in))) if packet_in.cookie == COOKIE => {
                packets += 1;
                let port = packet_in.in_port().map_or_else(|| "?".to_owned(), |port| port.to_string());
                let bytes: String = packet_in.packet.iter().map(|byte| format!("{byte:02x}")).collect();
                println!("from port {port}: {bytes}");
            }
            Ok(Some(Event::Closed(reason))) => return Err(reason.into()),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    client.bundle(vec![FlowMod::delete_by_cookie(COOKIE, u64::MAX)]).await?;
    Ok(())
}
