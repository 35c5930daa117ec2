//! `limosa check`: what is wrong, and what to do about it.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::args::{DatabaseArgs, NodeArgs, StoreArgs};
use super::output::OutputArgs;
use crate::check::{Accounts, Scope, run};

#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    /// Check this chassis instead of the cluster
    #[arg(long)]
    node: bool,
    /// With --node: where this chassis' agent serves its metrics
    #[arg(long, env = "LIMOSA_METRICS_LISTEN", value_name = "IP:PORT")]
    agent: Option<SocketAddr>,
    /// With --kubernetes: the agents' service account
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "limosa/limosa-agent")]
    agent_account: String,
    /// With --kubernetes: the controllers' service account
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "limosa/limosa-controller")]
    controller_account: String,
    #[command(flatten)]
    chassis: NodeArgs,
    #[command(flatten)]
    databases: DatabaseArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let scope = if args.node {
        let NodeArgs { chassis, ovs_rundir } = args.chassis;
        Scope::Node { chassis, ovs_rundir, agent: args.agent }
    } else {
        let DatabaseArgs { nb, sb, tls } = args.databases;
        let accounts = Accounts { agent: args.agent_account, controller: args.controller_account };
        Scope::Cluster { nb, sb, tls: tls.tls(), accounts }
    };
    let report = run(scope, &args.store.place()).await;
    args.output.print(&report, || report.text())?;
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
