//! `limosa-bench`: Limosa's crates measured beside what else does the same work, on one machine in one
//! run. Machines are noisy; what counts is the ratio.

mod kubernetes;
mod openflow;
mod ovsdb;
mod report;

use std::path::PathBuf;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about, version)]
struct Args {
    /// Where the reports go.
    #[arg(long, global = true, default_value = "target/bench")]
    out: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// The controller on a Kubernetes API with many migrations that have ended; needs limosa beside this program.
    Kubernetes(kubernetes::Args),
    /// openflow-rs beside a raw socket and ovs-ofctl, on a private ovs-vswitchd.
    Openflow,
    /// The OVSDB client: following one port among many, transactions.
    Ovsdb(ovsdb::Args),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.what {
        What::Kubernetes(what) => kubernetes::run(&what, &args.out),
        What::Openflow => openflow::run(&args.out),
        What::Ovsdb(what) => ovsdb::run(&what, &args.out),
    }
}
