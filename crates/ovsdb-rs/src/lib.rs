//! An OVSDB client: RFC 7047 with the extensions of Open vSwitch (ovsdb-server(7)), for databases of one server
//! or a cluster of them.
//!
//! A [`Session`] keeps a [`Replica`] of some tables of one database, whatever happens to the connection, and
//! carries out [`Transaction`]s.
//!
//! ```text
//!   Session (handle, cheap to clone)      task.rs               machine.rs             replica.rs
//!   transact, set_condition, ──commands─> sockets, TLS, ──────> requests, replies, ──> tables, rows,
//!   lock, replica, subscribe <──watch──── timers, backoff       leader, probes         differences
//! ```
//!
//! # Following
//!
//! Rows are read as structs, which [`table!`] declares. A change wakes whoever waits; a snapshot stays as it is
//! for as long as it is held.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//!
//! use ovsdb_rs::{Clause, Function, Options, Session, TableMonitor, Tls};
//!
//! ovsdb_rs::table! {
//!     struct PortBinding in "Port_Binding" {
//!         logical_port: String,
//!         chassis: Option<uuid::Uuid>,
//!         options: BTreeMap<String, String>,
//!     }
//! }
//!
//! let mut options = Options::default();
//! options.tls = Some(Tls::new("/etc/ovn/cacert.pem", "/etc/ovn/cert.pem", "/etc/ovn/privkey.pem"));
//! let vm1 = Clause::new("logical_port", Function::Equal, "vm1");
//! let session = Session::open_with(
//!     "ssl:ovn-sb-0:6642,ssl:ovn-sb-1:6642,ssl:ovn-sb-2:6642".parse()?,
//!     "OVN_Southbound",
//!     vec![TableMonitor::of::<PortBinding>().condition(vec![vm1])],
//!     options,
//! );
//! session.ready(Duration::from_secs(5)).await?;
//! let mut replicas = session.subscribe();
//! loop {
//!     for port in replicas.borrow_and_update().rows::<PortBinding>() {
//!         println!("{} is bound to {:?}", port.logical_port, port.chassis);
//!     }
//!     replicas.changed().await?;
//! }
//! # }
//! ```
//!
//! # Changing
//!
//! A transaction is done, or refused with the server's reason, or not sent; or its answer is lost with the
//! connection, and it is unknown. [`Session::transact_once`] settles that with a [`Witness`].
//!
//! ```no_run
//! # async fn example(session: ovsdb_rs::Session) -> Result<(), Box<dyn std::error::Error>> {
//! use ovsdb_rs::{Clause, Function, Transaction};
//!
//! let named = || [Clause::new("name", Function::Equal, "vm1")];
//! let pin = Transaction::new()
//!     .comment("pin vm1")
//!     .set_keys("Logical_Switch_Port", named(), "options", [("requested-chassis", "hv1")]);
//! session.transact(pin).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Whatever happens
//!
//! * The remotes are tried in turn, with a random wait that grows after each round in which none would do.
//! * Of a cluster the leader is followed ([`Options::leader_only`]); a server that lost its cluster or is behind
//!   what was seen already is left in any case.
//! * A clustered server sends only what changed since the connection was lost, if it still knows. Any other
//!   sends everything anew, which replaces the old contents at once: a snapshot is never half of one.
//! * Servers without `monitor_cond_since` (before OVS 2.12) or `monitor_cond` (before OVS 2.6) are asked for
//!   what they know; the last kind sends every row, whatever the condition.
//! * What the schema of a server lacks is left out and reported once ([`Replica::missing`]).
//! * A server that says nothing, nonsense or too much is left with a typed error and in bounded memory. A large
//!   message is read on a thread of its own.

#![warn(missing_docs)]

mod backoff;
mod condition;
mod connect;
mod datum;
mod error;
mod framer;
#[doc(hidden)]
pub mod fuzzing;
mod lock;
mod machine;
mod monitor;
mod pairs;
mod remote;
mod replica;
mod row;
mod rows;
mod schema;
mod session;
mod task;
mod tls;
mod transaction;
mod typed;
mod updates;
mod wire;
mod witness;

pub use condition::{Clause, Function};
pub use datum::{Atom, Datum};
pub use error::{ConnectionError, ConnectionFailure, Error, ParseError, TransactError};
pub use framer::{DEFAULT_MAX_MESSAGE, FrameError, Framer};
pub use lock::Lock;
pub use monitor::{Missing, TableMonitor};
pub use pairs::Pairs;
pub use remote::{DEFAULT_PORT, Endpoint, Remote, RemoteError, Remotes};
pub use replica::{DEFAULT_MAX_REPLICA, Replica};
pub use row::{Row, StringMap};
pub use schema::{AtomicType, BaseType, ColumnType, Schema, TableSchema};
pub use session::{Options, Session, State};
pub use tls::{Tls, TlsError};
pub use transaction::{Mutator, OpResult, Transaction, Until};
#[doc(hidden)]
pub use typed::column_name;
pub use typed::{Element, Field, Shape, Typed};
pub use uuid::Uuid;
pub use witness::{Once, Witness};
