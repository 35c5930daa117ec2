//! The command line: what each verb takes, and where it leads.

mod args;
mod back;
mod check;
mod drain;
mod explain;
mod flows;
mod manual;
mod migrate;
mod output;
mod status;
mod timeline;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::store::DEFINITION;
use crate::{agent, controller};
use args::{DatabaseArgs, LeaseArgs, MetricsArgs, NodeArgs, StoreArgs, parse_seconds};

/// How kubectl finds its plugin `limosa`.
const PLUGIN: &str = "kubectl-limosa";

/// Live migration of virtual machines on OVN without a gap in the network.
///
/// One agent runs beside every ovn-controller, one controller beside the OVN
/// databases; they meet in a store of migration objects. `migrate` adds an
/// object, `status` shows them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Hold the flows of this chassis' migrations on its integration bridge
    ///
    /// Speaks OpenFlow 1.5 to the bridge's management socket (RUNDIR/br-int.mgmt)
    /// and reads the local Open_vSwitch database (RUNDIR/db.sock). It writes
    /// flows whose cookie begins with 0x4c494d4f and touches no others:
    ///
    ///   ovs-ofctl -O OpenFlow15 dump-flows br-int cookie=0x4c494d4f00000000/0xffffffff00000000
    #[command(verbatim_doc_comment)]
    Agent(AgentArgs),
    /// Carry migrations from step to step, with the northbound options each step needs
    ///
    /// Sets options:requested-chassis of the ports that migrate (and puts it
    /// back), raises NB_Global:nb_cfg and waits for hv_cfg; reads the southbound
    /// database. Writes nothing else.
    Controller(ControllerArgs),
    /// Ask for a logical port to be moved to another chassis
    ///
    /// Only the network follows: the hypervisor moves the guest. Order matters:
    /// ask first (`--wait=arming`: the port is pinned to the source, so that the
    /// target cannot claim it), then plug the guest's interface on the target,
    /// wait for `armed`, then let the hypervisor migrate.
    Migrate(migrate::MigrateArgs),
    /// Wait until a migration has reached a phase, or has ended
    Wait(migrate::WaitArgs),
    /// Give up a migration whose guest does not yet run on the target
    ///
    /// Flows and options go back to what they were. Once the guest runs on the
    /// target the migration goes on all the same.
    Abort(back::AbortArgs),
    /// Say that the guest runs on the source again, for good, wherever the migration has come to
    ///
    /// For a hypervisor that has resumed the guest on the source after it had
    /// announced itself on the target. The port goes back; there is no way to
    /// take this back. Where the guest runs on the target it cuts the guest off.
    Return(back::ReturnArgs),
    /// Wait until no migration is under way and no chassis has anything left of one
    Drain(drain::DrainArgs),
    /// Show the migrations of a store
    Status(status::StatusArgs),
    /// Follow migrations live, until they have ended or Ctrl-C
    Watch(watch::WatchArgs),
    /// Draw a migration: every step on every chassis to the microsecond, and what each waited for
    Timeline(timeline::TimelineArgs),
    /// Show our flows on this chassis' bridge beside OVN's: what, why, counters, and whether they are as they should be
    ///
    /// Reads the bridge (RUNDIR/br-int.mgmt) and the local database, and asks the
    /// store what should be there. Exit status 1 if a flow is missing, changed,
    /// not wanted, or a stray.
    Flows(flows::FlowsArgs),
    /// Find what is wrong with the cluster or, with --node, with this chassis
    ///
    /// Changes nothing. Exit status 1 if something has to be mended.
    Check(check::CheckArgs),
    /// Say what a flow of ours is there for, by its cookie or its line of a dump
    Explain(explain::ExplainArgs),
    /// Print what makes a shell complete this command line
    Completions(manual::CompletionsArgs),
    /// Print the manual page (roff), or write one page for each verb into a directory
    Man(manual::ManArgs),
    /// Print the definition of the Kubernetes resource, for `kubectl apply -f -`
    Crd,
}

#[derive(Debug, ClapArgs)]
struct AgentArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Take every flow of ours off the bridge, print what was there, and end; for a node whose agent is uninstalled
    #[arg(long)]
    cleanup: bool,
    /// When asked to end, go on for so long while a migration from or to this chassis is under way; its flows stay in any case
    #[arg(long, env = "LIMOSA_LINGER", value_name = "SECONDS", default_value = "0", value_parser = parse_seconds)]
    linger: Duration,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, ClapArgs)]
struct ControllerArgs {
    #[command(flatten)]
    databases: DatabaseArgs,
    /// How long the object of a migration that has ended is kept
    #[arg(long, env = "LIMOSA_RETAIN", value_name = "SECONDS", default_value = "86400", value_parser = parse_seconds)]
    retain: Duration,
    /// Send a trace of each migration that has ended to this collector, by OTLP over HTTP: http(s)://HOST:PORT
    ///
    /// OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (with its path), OTEL_EXPORTER_OTLP_HEADERS
    /// and OTEL_RESOURCE_ATTRIBUTES mean what OpenTelemetry's specification says.
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    lease: LeaseArgs,
    #[command(flatten)]
    kubevirt: KubevirtArgs,
}

#[derive(Debug, ClapArgs)]
struct KubevirtArgs {
    /// Leave KubeVirt's migrations alone; with --kubernetes they are carried out
    #[arg(long, env = "LIMOSA_NO_KUBEVIRT")]
    no_kubevirt: bool,
    /// Migrate ports that the CNI seems to migrate itself, too, as if all were annotated limosa.io/take-over
    #[arg(long, env = "LIMOSA_TAKE_OVER", conflicts_with = "no_kubevirt")]
    take_over: bool,
    /// No VM is pinned by its annotation limosa.io/pin; pins that stand are taken off
    #[arg(long, env = "LIMOSA_NO_PINS", conflicts_with = "no_kubevirt")]
    no_pins: bool,
}

impl KubevirtArgs {
    fn options(&self) -> Option<limosa_kubevirt::Options> {
        let Self { no_kubevirt, take_over, no_pins } = *self;
        (!no_kubevirt).then_some(limosa_kubevirt::Options { take_over, pins: !no_pins })
    }
}

impl Args {
    /// What is logged unless somebody says otherwise. A verb says by itself what it finds.
    pub(crate) const fn log_level(&self) -> &'static str {
        match self.verb {
            Verb::Agent(_) | Verb::Controller(_) => "info",
            _ => "off",
        }
    }
}

/// Reads the command line. As `kubectl-limosa`, a plugin of kubectl's, it works on the Kubernetes API.
pub(crate) fn parse() -> Args {
    let words: Vec<OsString> = std::env::args_os().collect();
    let program = words.first().and_then(|path| Path::new(path).file_name()).unwrap_or_default();
    let command = Args::command();
    let words = match program == PLUGIN {
        true => with_kubernetes(&command, words),
        false => words,
    };
    Args::from_arg_matches(&command.get_matches_from(words)).unwrap_or_else(|error| error.exit())
}

/// The words with `--kubernetes` after a verb that knows it.
fn with_kubernetes(command: &clap::Command, mut words: Vec<OsString>) -> Vec<OsString> {
    const FLAG: &str = "--kubernetes";
    let verb = words.get(1).and_then(|verb| command.find_subcommand(verb));
    let knows = verb.is_some_and(|verb| verb.get_arguments().any(|arg| arg.get_id() == "kubernetes"));
    if knows && !words.iter().any(|word| word == FLAG) {
        words.insert(2, FLAG.into());
    }
    words
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Agent(args) if args.cleanup => {
            agent::clean_up(&args.node.ovs_rundir, args.node.chassis.as_deref()).await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Agent(args) => {
            agent::run(agent::Options {
                chassis: args.node.chassis,
                ovs_rundir: args.node.ovs_rundir,
                store: args.store.place(),
                metrics_listen: args.metrics.metrics_listen,
                linger: args.linger,
            })
            .await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Controller(args) => {
            let ControllerArgs { databases, retain, otlp_endpoint, metrics, store, lease, kubevirt } = args;
            let DatabaseArgs { nb, sb, tls } = databases;
            let (tls, store, metrics_listen) = (tls.tls(), store.place(), metrics.metrics_listen);
            let (lease, kubevirt) = (lease.options()?, kubevirt.options());
            controller::run(controller::Options {
                nb,
                sb,
                tls,
                store,
                lease,
                kubevirt,
                retain,
                metrics_listen,
                otlp_endpoint,
            })
            .await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Migrate(args) => migrate::migrate(args).await,
        Verb::Wait(args) => migrate::wait(args).await,
        Verb::Abort(args) => back::abort(args).await,
        Verb::Return(args) => back::go_back(args).await,
        Verb::Drain(args) => drain::drain(args).await,
        Verb::Status(args) => status::status(args).await,
        Verb::Watch(args) => watch::watch(args).await,
        Verb::Timeline(args) => timeline::timeline(args).await,
        Verb::Flows(args) => flows::flows(args).await,
        Verb::Check(args) => check::check(args).await,
        Verb::Explain(args) => explain::explain(args).await,
        Verb::Completions(args) => manual::completions(&args),
        Verb::Man(args) => manual::man(&args),
        Verb::Crd => {
            print!("{DEFINITION}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_plugin_works_on_the_kubernetes_api() {
        let plugin = |words: &[&str]| {
            let words = words.iter().map(OsString::from).collect();
            let words = with_kubernetes(&Args::command(), words);
            let matches = Args::command().try_get_matches_from(words).unwrap();
            matches
                .subcommand()
                .map(|(_, verb)| verb.try_get_one::<bool>("kubernetes").ok().flatten().copied())
        };
        assert_eq!(plugin(&[PLUGIN, "status", "-n", "prod"]), Some(Some(true)));
        assert_eq!(plugin(&[PLUGIN, "status", "--kubernetes"]), Some(Some(true)));
        assert_eq!(plugin(&[PLUGIN, "crd"]), Some(None), "a verb without a store");
    }
}
