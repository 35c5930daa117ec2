//! Prints what changes in the flows of a bridge, and goes on when the switch has been away:
//!
//! ```console
//! cargo run --example monitor unix:/run/openvswitch/br-int.mgmt
//! cargo run --example monitor unix:/run/openvswitch/br-int.mgmt 65
//! ```
//!
//! The second argument is the table whose flows are kept; those of other tables are printed all the same.

use ofpacket::{FlowUpdate, FlowUpdateEvent};
use openflow_rs::{Event, Session, SessionConfig, SessionEvent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let target = args.next().ok_or("say where the bridge listens: unix:PATH or tcp:ADDRESS:PORT")?;
    let table: Option<u8> = args.next().map(|table| table.parse()).transpose()?;
    let is_kept = move |flow: &ofpacket::Flow| table.is_none_or(|table| flow.table_id == table);
    let mut session = Session::new(target.parse()?, SessionConfig::default(), is_kept);
    loop {
        match session.next().await {
            SessionEvent::Connected(features) => println!("connected to {:016x}", features.datapath_id),
            SessionEvent::TableReplaced => {
                println!("{} flows:", session.flows().len());
                session.flows().iter().for_each(|flow| println!(" {flow}"));
            }
            SessionEvent::FlowUpdates { updates, .. } => {
                updates.iter().for_each(print);
                println!("{} flows", session.flows().len());
            }
            SessionEvent::Event(Event::PortStatus(status)) => {
                println!("port {} ({})", status.port.port_no, status.port.name);
            }
            SessionEvent::Lost { reason, retry_in } => println!("{reason}; next attempt in {retry_in:?}"),
            _ => {}
        }
    }
}

fn print(update: &FlowUpdate) {
    match update {
        FlowUpdate::Full { event, flow, .. } => {
            let sign = match event {
                FlowUpdateEvent::Removed => '-',
                FlowUpdateEvent::Modified => '~',
                FlowUpdateEvent::Initial | FlowUpdateEvent::Added => '+',
            };
            println!("{sign}{flow}");
        }
        FlowUpdate::Paused => println!("the switch pauses: we are too slow"),
        FlowUpdate::Resumed => println!("the switch has told what it left out"),
        other => println!("{other:?}"),
    }
}
