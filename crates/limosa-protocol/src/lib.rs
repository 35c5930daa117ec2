//! How a logical port is handed from one chassis to another, as data: no
//! sockets, no files, no clock. Time and what was seen are passed in; what
//! should be comes out.
//!
//! ```text
//!   PortMigration (object)     NB/SB facts            switch facts, flows
//!            |                     |                        |
//!            +------> lifecycle <--+      +------> node <---+
//!                     (controller)        |       (agent)
//!                         |               |          |
//!               next phase, NB option     |   wanted flows, own status
//!                                         |          |
//!                                      flows, layout, diff, cookie
//! ```
//!
//! The five steps of a migration are *arm*, *activate*, *bind*, *switch* and
//! *release*; [`object::Phase`] names the last one that is done.
//! [`lifecycle`] decides when the next may begin, [`node`] decides what each
//! step means for the flows of one chassis, [`flows`] spells those flows out.

pub mod cookie;
pub mod diff;
pub mod facts;
pub mod flows;
pub mod layout;
mod lenient;
pub mod lifecycle;
pub mod mac;
pub mod node;
pub mod object;
pub mod strays;
pub mod survey;
pub mod timeline;
pub mod vouch;

pub use cookie::{Cookie, Purpose};
pub use facts::Facts;
pub use mac::MacAddr;
pub use object::{Migration, NodeStatus, Phase, Role, Step};
pub use survey::Survey;
pub use vouch::Vouch;
