//! The command line: what each verb takes, and where it leads.

mod migrate;
mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use limosa_protocol::{MacAddr, Phase};
use ovsdb_rs::{Remotes, Tls};

use crate::controller::LeaseOptions;
use crate::lease::Timing;
use crate::store::{Access, DEFINITION, Place};
use crate::{agent, controller};

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
    Abort(migrate::AbortArgs),
    /// Show the migrations of a store
    Status(status::StatusArgs),
    /// Print the definition of the Kubernetes resource, for `kubectl apply -f -`
    Crd,
}

#[derive(Debug, Clone, ClapArgs)]
struct StoreArgs {
    /// The directory of migration objects that agents, controller and verbs share
    #[arg(long, env = "LIMOSA_STORE", value_name = "DIR", default_value = "/var/lib/limosa")]
    store: PathBuf,
    /// The objects are in the Kubernetes API instead (KUBECONFIG, ~/.kube/config or the pod's service account)
    #[arg(long, env = "LIMOSA_KUBERNETES", conflicts_with = "store")]
    kubernetes: bool,
    /// Another kubeconfig
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    kubeconfig: Option<PathBuf>,
    /// Only this namespace [default: all of them, and the kubeconfig's own for a name without any]
    #[arg(short, long, env = "LIMOSA_NAMESPACE", requires = "kubernetes")]
    namespace: Option<String>,
}

impl StoreArgs {
    fn place(self) -> Place {
        if self.kubernetes {
            Place::Kubernetes(Access { kubeconfig: self.kubeconfig, namespace: self.namespace })
        } else {
            Place::Directory(self.store)
        }
    }
}

/// Of several controllers on one cluster, which one works.
#[derive(Debug, ClapArgs)]
struct LeaseArgs {
    /// The Lease that the working controller holds
    #[arg(long, value_name = "NAME", default_value = "limosa-controller", requires = "kubernetes")]
    lease_name: String,
    /// Its namespace [default: the pod's, or the kubeconfig's]
    #[arg(long, env = "LIMOSA_LEASE_NAMESPACE", value_name = "NAMESPACE", requires = "kubernetes")]
    lease_namespace: Option<String>,
    /// How long others wait after its last renewal
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = parse_seconds, requires = "kubernetes")]
    lease_duration: Duration,
    /// After how long without a renewal it is given up
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds, requires = "kubernetes")]
    lease_renew_deadline: Duration,
    /// How often it is renewed, and looked at
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds, requires = "kubernetes")]
    lease_retry: Duration,
}

impl LeaseArgs {
    fn options(self) -> anyhow::Result<LeaseOptions> {
        let timing = Timing {
            duration: self.lease_duration,
            renew_deadline: self.lease_renew_deadline,
            retry: self.lease_retry,
        };
        anyhow::ensure!(
            timing.duration > timing.renew_deadline && timing.renew_deadline > timing.retry.mul_f64(1.2),
            "--lease-duration has to be longer than --lease-renew-deadline, and that longer than --lease-retry by a fifth"
        );
        Ok(LeaseOptions { namespace: self.lease_namespace, name: self.lease_name, timing })
    }
}

#[derive(Debug, Clone, ClapArgs)]
struct MetricsArgs {
    /// Serve Prometheus metrics (/metrics), /healthz and /readyz here [default: nowhere]
    #[arg(long, env = "LIMOSA_METRICS_LISTEN", value_name = "IP:PORT")]
    metrics_listen: Option<SocketAddr>,
}

#[derive(Debug, ClapArgs)]
struct AgentArgs {
    /// This chassis' name in the southbound database [default: the external_ids:system-id of the local Open_vSwitch row]
    #[arg(long, env = "LIMOSA_CHASSIS", value_name = "NAME")]
    chassis: Option<String>,
    /// The run directory of ovs-vswitchd, with db.sock and BRIDGE.mgmt
    #[arg(long, env = "OVS_RUNDIR", value_name = "DIR", default_value = "/var/run/openvswitch")]
    ovs_rundir: PathBuf,
    /// Take every flow of ours off the bridge, print what was there, and end; for a node whose agent is uninstalled
    #[arg(long)]
    cleanup: bool,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// The files of an `ssl:` remote, as OVN's own programs name them. They are
/// read again when they change.
#[derive(Debug, Clone, ClapArgs)]
struct TlsArgs {
    /// The certificates that a database server's is checked against (PEM)
    #[arg(short = 'C', long, env = "OVN_CA_CERT", value_name = "FILE", requires_all = ["certificate", "private_key"])]
    ca_cert: Option<PathBuf>,
    /// Our own certificate (PEM)
    #[arg(short = 'c', long, env = "OVN_CERTIFICATE", value_name = "FILE", requires = "ca_cert")]
    certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(short = 'p', long, env = "OVN_PRIVATE_KEY", value_name = "FILE", requires = "ca_cert")]
    private_key: Option<PathBuf>,
}

impl TlsArgs {
    fn tls(self) -> Option<Tls> {
        Some(Tls::new(self.ca_cert?, self.certificate?, self.private_key?))
    }
}

#[derive(Debug, ClapArgs)]
struct ControllerArgs {
    /// The OVN northbound database (unix:FILE, tcp:HOST:PORT or ssl:HOST:PORT; the servers of a cluster separated by commas)
    #[arg(long, env = "OVN_NB_DB", value_name = "REMOTE", default_value = "unix:/var/run/ovn/ovnnb_db.sock")]
    nb: Remotes,
    /// The OVN southbound database
    #[arg(long, env = "OVN_SB_DB", value_name = "REMOTE", default_value = "unix:/var/run/ovn/ovnsb_db.sock")]
    sb: Remotes,
    #[command(flatten)]
    tls: TlsArgs,
    /// How long the object of a migration that has ended is kept
    #[arg(long, env = "LIMOSA_RETAIN", value_name = "SECONDS", default_value = "86400", value_parser = parse_seconds)]
    retain: Duration,
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
}

impl KubevirtArgs {
    fn options(&self) -> Option<limosa_kubevirt::Options> {
        (!self.no_kubevirt).then_some(limosa_kubevirt::Options { take_over: self.take_over })
    }
}

/// How a verb prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// The objects themselves
    Json,
}

#[derive(Debug, Clone, ClapArgs)]
struct OutputArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Agent(args) if args.cleanup => {
            agent::clean_up(&args.ovs_rundir, args.chassis.as_deref()).await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Agent(args) => {
            agent::run(agent::Options {
                chassis: args.chassis,
                ovs_rundir: args.ovs_rundir,
                store: args.store.place(),
                metrics_listen: args.metrics.metrics_listen,
            })
            .await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Controller(args) => {
            let ControllerArgs { nb, sb, tls, retain, metrics, store, lease, kubevirt } = args;
            let (tls, store, metrics_listen) = (tls.tls(), store.place(), metrics.metrics_listen);
            let (lease, kubevirt) = (lease.options()?, kubevirt.options());
            let options = controller::Options { nb, sb, tls, store, lease, kubevirt, retain, metrics_listen };
            controller::run(options).await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Migrate(args) => migrate::migrate(args).await,
        Verb::Wait(args) => migrate::wait(args).await,
        Verb::Abort(args) => migrate::abort(args).await,
        Verb::Status(args) => status::status(args).await,
        Verb::Crd => {
            print!("{DEFINITION}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A phase on the command line, for `--wait` and `--for`.
fn parse_phase(text: &str) -> Result<Phase, String> {
    text.parse().map_err(|e: limosa_protocol::object::ParsePhaseError| e.to_string())
}

fn parse_mac(text: &str) -> Result<MacAddr, String> {
    text.parse().map_err(|e: limosa_protocol::mac::ParseMacError| e.to_string())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|e| e.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
