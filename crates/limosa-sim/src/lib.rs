//! The whole protocol in virtual time.
//!
//! One seed is one schedule: a migration between two chassis with one or two
//! bystanders, in which everything takes a random time and some things go
//! wrong. What decides is the production code of `limosa-protocol`; what is
//! judged is where packets go, through the very flows that it writes.
//!
//! ```text
//!   hypervisor, guest     store     NB -- northd -- SB         faults
//!        |                  |        |               |
//!        v                  v        v               v
//!   interfaces  <->  agents, controller       ovn-controllers
//!                           |                        |
//!                           v                        v
//!                    switches: tables, datapath caches, tunnels   -> packets -> judge
//! ```
//!
//! The same seed gives the same schedule, event by event.

mod agent;
mod controller;
mod coverage;
mod excuse;
mod faults;
mod guest;
mod judge;
mod mutation;
mod ovn;
mod packet;
mod pipeline;
mod rest;
mod store;
mod story;
mod switch;
mod world;

pub use coverage::Coverage;
pub use mutation::Mutation;

/// Microseconds since the beginning of a schedule.
pub type Time = u64;

/// How a schedule is drawn and watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What is wrong with the protocol.
    pub mutation: Option<Mutation>,
    /// Keep a line for everything that happens.
    pub trace: bool,
    /// Nothing goes wrong.
    pub no_faults: bool,
}

/// How a schedule ended.
#[derive(Debug)]
pub struct Outcome {
    /// The first thing that must not be.
    pub violation: Option<Violation>,
    /// What happened how often.
    pub coverage: Coverage,
    /// The schedule, line by line, if it was asked for.
    pub trace: Vec<String>,
    /// When everything had come to rest.
    pub ended: Time,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What it is.
    pub what: String,
    /// When it was seen.
    pub at: Time,
}

/// Plays one schedule.
#[must_use]
pub fn play(seed: u64, options: &Options) -> Outcome {
    world::World::new(seed, options).run()
}
