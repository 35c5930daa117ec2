//! To come.
pub mod analysis;
mod chassis;
pub mod clock;
mod daemon;
pub mod demo;
mod guest;
mod holder;
mod image;
mod lab;
mod network;
pub mod probe;
mod process;
pub mod qmp;
pub mod raw;
mod rundir;
pub mod sniff;
pub mod tcp;
pub mod worker;

pub use chassis::Chassis;
pub use daemon::{Daemon, DaemonHandle};
pub use guest::{Guest, MigrationTimes, migrate};
pub use holder::ROOT;
pub use image::Image;
pub use lab::{CENTRAL, Lab, LabOptions};
pub use network::{Endpoint, LogicalPort};
pub use process::{LabProcess, Process};
