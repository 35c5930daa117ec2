//! Prints every change of a bridge's flows: `monitor unix:/run/openvswitch/br-int.mgmt`.

use ofpacket::FlowMonitorRequest;
use openflow_rs::{Client, Config, Event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = std::env::args().nth(1).ok_or("usage: monitor unix:SOCKET")?.parse()?;
    let (client, mut events) = Client::connect(&target, Config::default()).await?;
    client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await?;
    while let Some(event) = events.next().await {
        match event {
            Event::FlowUpdates(updates) => updates.iter().for_each(|update| println!("{update:?}")),
            event => println!("{event:?}"),
        }
    }
    Ok(())
}
