//! An OVSDB client: RFC 7047 with the extensions of Open vSwitch (ovsdb-server(7)).
//!
//! A [`Session`] keeps a [`Replica`] of some tables of one database, whatever happens to the connection, and
//! carries out [`Transaction`]s.
//!
//! ```text
//!   Session (handle, cheap to clone)      task.rs               machine.rs             replica.rs
//!   transact, set_condition ──commands──> socket, framer, ────> requests, replies, ──> tables, rows,
//!   replica, subscribe, state <──watch─── timers, backoff       probes                 differences
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use ovsdb_rs::{Clause, Function, Session, TableMonitor, Transaction};
//!
//! let session = Session::open(
//!     "unix:/run/ovn/ovnnb_db.sock".parse()?,
//!     "OVN_Northbound",
//!     vec![TableMonitor::new("Logical_Switch_Port").columns(["name", "options"])],
//! );
//! session.ready(Duration::from_secs(5)).await?;
//! for (uuid, row) in session.replica().table("Logical_Switch_Port") {
//!     println!("{uuid} {:?} {:?}", row.str("name"), row.map_get("options", "requested-chassis"));
//! }
//! let named = || [Clause::new("name", Function::Equal, "vm1")];
//! let pin = Transaction::new()
//!     .comment("pin vm1")
//!     .set_keys("Logical_Switch_Port", named(), "options", [("requested-chassis", "hv1")]);
//! session.transact(pin).await?;
//! # Ok(())
//! # }
//! ```

mod backoff;
mod condition;
mod datum;
mod error;
mod framer;
mod machine;
mod monitor;
mod remote;
mod replica;
mod row;
mod rows;
mod schema;
mod session;
mod task;
mod transaction;

pub use condition::{Clause, Function};
pub use datum::{Atom, Datum};
pub use error::{ConnectionError, ConnectionFailure, Error, ParseError, TransactError};
pub use framer::{DEFAULT_MAX_MESSAGE, FrameError, Framer};
pub use monitor::{Missing, TableMonitor};
pub use remote::{DEFAULT_PORT, Remote, RemoteError, Remotes};
pub use replica::Replica;
pub use row::{Row, StringMap};
pub use schema::{AtomicType, BaseType, ColumnType, Schema, TableSchema};
pub use session::{Options, Session, State};
pub use transaction::{Mutator, OpResult, Transaction, Until};
