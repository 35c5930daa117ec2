//! A real OVN cluster on one machine, a guest that migrates in it, and what it
//! takes to account for every packet meanwhile.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use limosa_lab::{Daemon, Guest, Lab, LabOptions, LogicalPort, migrate, probe::Prober};
//!
//! let lab = Lab::start(LabOptions { chassis: 3, ..LabOptions::default() }).await?;
//! lab.switch("ls0").await?;
//! lab.port("ls0", LogicalPort::new("p1", "02:00:00:00:02:15", "192.168.7.21")).await?;
//! lab.port("ls0", LogicalPort::new("vm1", "02:00:00:00:01:01", "192.168.7.10")).await?;
//! let peer = lab.endpoint("ch1", "p1").await?;
//!
//! let mut source = Guest::start(&lab, "ch1", "vm1").await?;
//! let prober = Prober::start(&lab, &peer.ns, "192.168.7.10", 1000).await?;
//! // Pin the port to ch1 before ch2 has an interface for it, or ch2 claims it.
//! lab.nbctl(&["--wait=hv", "lsp-set-options", "vm1", "requested-chassis=ch1"]).await?;
//! let mut target = Guest::prepare_incoming(&lab, "ch2", "vm1").await?;
//! let times = migrate(&mut source, &mut target).await?;
//!
//! lab.daemon("ch2", Daemon::OvnController).kill9().await?;
//! println!("{}", lab.ofctl("ch2", "dump-flows", &["table=0"]).await?);
//! println!("paused for {} ms, {:?}", times.pause_ms(), prober.finish().await?);
//! # Ok(())
//! # }
//! ```
//!
//! # What there is
//!
//! * [`Lab`]: the cluster. Its databases are at [`Lab::nb`] and [`Lab::sb`], its
//!   chassis are [`Chassis`] `ch1` to `chN` with their sockets in
//!   [`Chassis::ovs_rundir`] (`br-int.mgmt`, `db.sock`); sockets are reached by
//!   path from outside. [`Lab::nbctl`], [`Lab::sbctl`], [`Lab::vsctl`],
//!   [`Lab::ofctl`], [`Lab::appctl`], [`Lab::dump_flows`]; [`Lab::spawn_in`] and
//!   [`Lab::run_in`] run anything in a namespace of the lab: [`CENTRAL`], a
//!   chassis, an [`Endpoint`]. [`Lab::sync`] waits until all chassis caught up.
//! * [`DaemonHandle`]: each daemon can be stopped, killed, paused, resumed and
//!   started; [`DaemonHandle::pid`] and [`DaemonHandle::crash_lines`] tell
//!   whether it lived through a test.
//! * [`Endpoint`]: a namespace behind a logical port. The same port can be
//!   plugged on two chassis ([`Lab::endpoint_unbound`]) and announced with
//!   [`Lab::send_rarp`]: a migration without QEMU. `limosa-lab echo`
//!   ([`worker::binary`]) answers in it as the guest does.
//! * [`Guest`], [`migrate`]: a real guest under QEMU, and its
//!   migration in one go or step by step. [`qmp`] is its monitor.
//! * [`probe::Prober`], [`sniff::Sniffer`], [`tcp::HeldTcp`]: measurements that
//!   run in a namespace until `finish`, and [`analysis::analyse`], which
//!   accounts for every packet. All times are nanoseconds of `CLOCK_MONOTONIC`
//!   ([`clock`]).
//! * [`Foreign`]: somebody else's flows, groups and meters, which have to stay
//!   what they are.
//! * [`kube`]: a real Kubernetes API server, and KubeVirt's part in a migration.
//! * [`connections`]: connections of every kind, held while the guest moves, under
//!   a [`policy`] that denies by default.
//! * [`prometheus`]: a real Prometheus that scrapes agents and controller, and the
//!   queries of the chart's dashboards and alerts.
//! * [`chaos`]: one migration after the other, with one process killed in each.
//! * [`docs`]: every command that the documentation names, run on a lab.
//! * [`demo`]: guest, probes and Limosa together; [`demo::Limosa`] runs its
//!   agents, its controller and its command line in a lab.
//!
//! # What it needs
//!
//! Root, and the packages that `integration/install.sh` installs; nothing runs
//! outside the lab's own namespaces. Labs share the machine, unless one asks to
//! have it alone ([`LabOptions::alone`]), as whatever measures should. Switches
//! and measurements run with real-time priority where that is allowed.
//! Tests of other packages that measure need
//! the `limosa-lab` binary next to theirs: `cargo build -p limosa-lab`.
//! `LIMOSA_LAB_KEEP=1` keeps the directory of each lab, with all its logs.

pub mod analysis;
mod busy;
pub mod chaos;
mod chassis;
pub mod clock;
pub mod connections;
mod daemon;
pub mod demo;
pub mod docs;
mod foreign;
mod guest;
mod holder;
mod image;
pub mod kube;
mod lab;
mod memory;
mod network;
#[path = "../guest/pattern.rs"]
mod pattern;
pub mod policy;
pub mod probe;
mod process;
pub mod prometheus;
pub mod qmp;
pub mod raw;
mod rundir;
pub mod sniff;
pub mod tcp;
pub mod worker;

pub use chassis::Chassis;
pub use daemon::{Daemon, DaemonHandle};
pub use foreign::Foreign;
pub use guest::{Guest, MigrationTimes, migrate};
pub use holder::{OUTSIDE, ROOT};
pub use image::Image;
pub use lab::{CENTRAL, Lab, LabOptions};
pub use memory::Memory;
pub use network::{Endpoint, LogicalPort};
pub use process::{LabProcess, Process};
