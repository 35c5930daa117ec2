//! The OVSDB client beside the Python library of Open vSwitch and OVN's own tools.

mod follow;
mod server;
mod transact;

use std::path::Path;

use crate::report;

/// Rounds, in each of which every contender has its turn; the median counts.
const ROUNDS: usize = 5;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Be the process that is measured: follow this port on this remote.
    #[arg(long, hide = true, num_args = 2, value_names = ["REMOTE", "PORT"])]
    follow: Option<Vec<String>>,
}

pub(crate) fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if let Some([remote, port]) = args.follow.as_deref() {
            return follow::child(remote, port).await;
        }
        let mut rows = follow::rows().await?;
        rows.extend(transact::rows().await?);
        report::publish(&rows, &out.join("ovsdb.json"))
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// For the person who waits.
fn note(text: &str) {
    eprintln!("{text}");
}
