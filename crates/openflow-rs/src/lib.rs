//! A connection to an OpenFlow 1.5 switch, as Open vSwitch is one: bundles, flow monitors, packet-ins.
//!
//! [`Client::connect`] speaks to a bridge's management socket the way `ovs-ofctl` does, without becoming
//! the bridge's controller: nothing about the bridge changes by it. Questions are asked through the
//! [`Client`], which is cheap to clone; what the switch tells by itself comes out of [`Events`].
//!
//! ```no_run
//! use openflow_rs::{Client, Config, Event, FlowTable};
//! use ofpacket::FlowMonitorRequest;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let target = "unix:/run/openvswitch/br-int.mgmt".parse()?;
//! let (client, mut events) = Client::connect(&target, Config::default()).await?;
//! client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await?;
//! let mut table = FlowTable::new(|flow| flow.cookie >> 32 != 0);
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::FlowUpdates(updates) => updates.iter().for_each(|update| {
//!             table.apply(update);
//!         }),
//!         Event::InitialFlowsDone { .. } => println!("{} flows with a wide cookie", table.len()),
//!         Event::Closed(reason) => println!("lost the switch: {reason}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`machine`] is the protocol without sockets and without a clock; `connection` is the thin shell that
//! moves its bytes.

mod bundle;
mod client;
mod connection;
mod error;
mod event;
mod flow_table;
pub mod machine;
mod request;
mod target;

use std::time::Duration;

pub use client::Client;
pub use error::{BundleError, CloseReason, Error};
pub use event::{Event, Events};
pub use flow_table::FlowTable;
pub use ofpacket::{OfError, OfErrorNumber, PacketIn2, PortDesc, PortStatus, SwitchDesc, TlvMap};
pub use target::{Target, TargetError};

/// How to behave on a connection.
#[derive(Debug, Clone)]
pub struct Config {
    /// Packet-ins for this id come to us. Not 0: everybody who chose none gets those for 0, ovn-controller
    /// among them.
    pub controller_id: u16,
    /// How long a request may take, and the handshake. A dump of 100,000 flows takes a third of a second.
    pub request_timeout: Duration,
    /// After so long without a byte from the switch it is asked whether it is there; after as long again
    /// without an answer the connection is closed.
    pub probe_interval: Duration,
    /// Whether to be told of flows that go and have asked for it; a flow monitor tells of all of them.
    pub flow_removed: bool,
    /// How many events may wait to be read; one more closes the connection, since what was lost could only
    /// be had again by beginning anew.
    pub max_events: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            controller_id: 0x4c4d,
            request_timeout: Duration::from_secs(5),
            probe_interval: Duration::from_secs(5),
            flow_removed: false,
            max_events: 65_536,
        }
    }
}
