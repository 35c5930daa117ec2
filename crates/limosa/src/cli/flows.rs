//! `limosa flows`: our flows on this chassis' bridge, and whether they are right.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args as ClapArgs;
use limosa_protocol::object::Problem;

use super::args::{NodeArgs, StoreArgs};
use super::output::OutputArgs;
use crate::agent::Look;
use crate::store::Which;
use crate::view::audit::{self, Audit};
use crate::view::flows_text;

#[derive(Debug, ClapArgs)]
pub(super) struct FlowsArgs {
    /// Only this migration's
    name: Option<String>,
    /// Do not ask a store what should be there
    #[arg(long)]
    no_verify: bool,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn flows(args: FlowsArgs) -> anyhow::Result<ExitCode> {
    let failed = |problem: Problem| anyhow!("{}", problem.message);
    let look = Look::open(&args.node.ovs_rundir, args.node.chassis.as_deref()).await.map_err(failed)?;
    let bridge = look.bridge().await.map_err(failed)?;
    let place = args.store.place();
    let name = match &args.name {
        Some(name) => Some(place.full_name(name).await?),
        None => None,
    };
    let store = match args.no_verify {
        true => None,
        false => Some(place.open(Which::All).await?),
    };
    if let Some(store) = &store {
        store.watch().borrow().unreadable.iter().for_each(|why| eprintln!("limosa: {why}"));
    }
    let mut found = audit::settled(&bridge, store.as_deref()).await.map_err(failed)?;
    if let Some(name) = &name {
        keep_only(&mut found, name);
    }
    args.output.print(&found, || flows_text::text(&found))?;
    Ok(if found.findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn keep_only(audit: &mut Audit, name: &str) {
    audit.migrations.retain(|share| share.object.as_ref().is_some_and(|object| object.name == name));
    let lines = audit.migrations.iter().flat_map(|share| &share.flows);
    audit.findings = lines.filter(|line| line.verdict.is_finding()).count();
}
