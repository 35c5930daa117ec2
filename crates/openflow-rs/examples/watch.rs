//! Prints the flows of a bridge, and then what changes: `cargo run --example watch unix:/run/openvswitch/br-int.mgmt`.

use ofpacket::{FlowMonitorRequest, FlowUpdate};
use openflow_rs::{Client, Config, Event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = std::env::args().nth(1).ok_or("give the bridge's socket: unix:PATH")?;
    let (client, mut events) = Client::connect(&target.parse()?, Config::default()).await?;
    println!("{:?}", client.desc().await?);
    client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await?;
    while let Some(event) = events.next().await {
        let Event::FlowUpdates(updates) = event else {
            println!("{event:?}");
            continue;
        };
        for update in updates {
            match update {
                FlowUpdate::Full { event, flow, .. } => println!("{event:?}{flow}"),
                other => println!("{other:?}"),
            }
        }
    }
    Ok(())
}
