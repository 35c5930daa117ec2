//! A connection to an OpenFlow 1.5 switch, as Open vSwitch is one: bundles, flow monitors, packet-ins.
//!
//! [`Client::connect`] speaks to a bridge's management socket the way `ovs-ofctl` does, without becoming
//! the bridge's controller: nothing about the bridge changes by it. Questions are asked through the
//! [`Client`], which is cheap to clone; what the switch tells by itself comes out of [`Events`]. A
//! [`Session`] makes the connection again whenever it is lost, and keeps a table of the flows.
//!
//! # Changing flows
//!
//! A [bundle](Client::bundle) is carried out as a whole or not at all, and no packet sees a part of it:
//!
//! ```no_run
//! use ofpacket::{Action, Flow, FlowMod, Match, OxmField};
//! use openflow_rs::{BundleError, Client, Config, Settled};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let target = "unix:/run/openvswitch/br-int.mgmt".parse()?;
//! let (client, _events) = Client::connect(&target, Config::default()).await?;
//!
//! // One flow for each of 1000 ports, all at once.
//! let to_port = |port: u32| {
//!     let match_ = Match::new().with(OxmField::METADATA, 7u64).with(OxmField::reg(15), port);
//!     Flow::new(65, 100, match_, vec![Action::output(port)]).with_cookie(0x1234)
//! };
//! let mods: Vec<FlowMod> = (1..=1000).map(to_port).map(FlowMod::add).collect();
//! match client.bundle(mods.clone()).await {
//!     Ok(()) => {}
//!     Err(BundleError::Rejected(errors)) => {
//!         for (index, error) in errors {
//!             println!("{error}:{}", mods[index].flow);
//!         }
//!     }
//!     // COMMIT was sent and not answered: the flows themselves tell.
//!     Err(BundleError::Unknown { .. }) => match client.settle(&mods).await? {
//!         Settled::Done => {}
//!         Settled::NotDone | Settled::Mixed { .. } => client.bundle(mods).await?,
//!     },
//!     Err(error) => return Err(error.into()),
//! }
//! assert_eq!(client.dump_flows(Some(65), 0x1234, u64::MAX).await?.len(), 1000);
//! # Ok(())
//! # }
//! ```
//!
//! # Following flows
//!
//! ```no_run
//! use openflow_rs::{Client, Config, Event, FlowTable};
//! use ofpacket::FlowMonitorRequest;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let target = "tcp:192.0.2.1:6653".parse()?;
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
//! A [`Session`] does that on every connection anew, and replaces the table at one blow.
//!
//! # What is bounded
//!
//! Whatever the switch sends or does not read, a connection holds at most [`Config::max_event_bytes`] of
//! events, [`Config::max_reply`] of each answer in parts, 1024 errors of 64 bytes for each bundle, 128 KiB that
//! were read, and some 1 MiB that are to be written; of a bundle, however large, not more than 128 KiB are
//! encoded ahead of the switch. Bytes are counted as they are on the wire; decoded, flows take some four
//! times as much. A request that is too large for that is a typed error, events that are not read end the
//! connection. It always reads while it writes, so that neither side waits for the other.
//!
//! # Inside
//!
//! [`machine`] is the protocol without sockets and without a clock; `connection` is the thin shell that
//! moves its bytes.

#![warn(missing_docs)]

mod backoff;
mod bundle;
mod client;
mod connection;
mod error;
mod event;
mod flow_table;
pub mod machine;
mod request;
mod session;
mod settle;
mod target;

use std::time::Duration;

pub use client::Client;
pub use error::{BundleError, CloseReason, Error};
pub use event::{Event, Events};
pub use flow_table::FlowTable;
pub use ofpacket::{OfError, OfErrorNumber, PacketIn2, PortDesc, PortStatus, SwitchDesc, TlvMap};
pub use session::{Session, SessionConfig, SessionEvent};
pub use settle::Settled;
pub use target::{Target, TargetError};

/// How to behave on a connection.
#[derive(Debug, Clone)]
pub struct Config {
    /// Packet-ins for this id come to us. Not 0: everybody who chose none gets those for 0, ovn-controller
    /// among them.
    pub controller_id: u16,
    /// How long the switch may let a request wait, and the handshake: for an answer that comes in parts, from
    /// one part to the next; for a bundle, from taking some of its bytes to taking more (128 KiB, as a rule), then
    /// for the answers to CLOSE and to COMMIT. A bundle of 100,000 flows takes less than half a second in all.
    pub request_timeout: Duration,
    /// After so long without a byte from the switch it is asked whether it is there; after as long again
    /// without an answer the connection is closed.
    pub probe_interval: Duration,
    /// Whether to be told of flows that go and have asked for it; a flow monitor tells of all of them.
    pub flow_removed: bool,
    /// Bytes of an answer in parts, as they come from the switch; decoded, flows take some four times as much.
    /// A flow takes 100 to 300 bytes.
    pub max_reply: usize,
    /// Bytes of events that may wait to be read, as they come from the switch. One more closes the connection,
    /// since what was lost could only be had again by beginning anew.
    pub max_event_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            controller_id: 0x4c4d,
            request_timeout: Duration::from_secs(5),
            probe_interval: Duration::from_secs(5),
            flow_removed: false,
            max_reply: 256 << 20,
            max_event_bytes: 64 << 20,
        }
    }
}
