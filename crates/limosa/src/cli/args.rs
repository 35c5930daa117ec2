//! What several verbs take.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use limosa_protocol::{MacAddr, Phase};
use ovsdb_rs::{Remotes, Tls};

use crate::controller::LeaseOptions;
use crate::lease::Timing;
use crate::store::{Access, Place};

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct StoreArgs {
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
    pub(super) fn place(self) -> Place {
        if self.kubernetes {
            Place::Kubernetes(Access { kubeconfig: self.kubeconfig, namespace: self.namespace })
        } else {
            Place::Directory(self.store)
        }
    }
}

/// The switch and the local database of the chassis that a verb runs on.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct NodeArgs {
    /// This chassis' name in the southbound database [default: the external_ids:system-id of the local Open_vSwitch row]
    #[arg(long, env = "LIMOSA_CHASSIS", value_name = "NAME")]
    pub(super) chassis: Option<String>,
    /// The run directory of ovs-vswitchd, with db.sock and BRIDGE.mgmt
    #[arg(long, env = "OVS_RUNDIR", value_name = "DIR", default_value = "/var/run/openvswitch")]
    pub(super) ovs_rundir: PathBuf,
}

/// OVN's two databases.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct DatabaseArgs {
    /// The OVN northbound database (unix:FILE, tcp:HOST:PORT or ssl:HOST:PORT; the servers of a cluster separated by commas)
    #[arg(long, env = "OVN_NB_DB", value_name = "REMOTE", default_value = "unix:/var/run/ovn/ovnnb_db.sock")]
    pub(super) nb: Remotes,
    /// The OVN southbound database
    #[arg(long, env = "OVN_SB_DB", value_name = "REMOTE", default_value = "unix:/var/run/ovn/ovnsb_db.sock")]
    pub(super) sb: Remotes,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
}

/// The Lease that the working controller holds.
#[derive(Debug, ClapArgs)]
pub(super) struct LeaseNameArgs {
    /// The Lease that the working controller holds
    #[arg(long, value_name = "NAME", default_value = "limosa-controller", requires = "kubernetes")]
    pub(super) lease_name: String,
    /// Its namespace [default: the pod's, or the kubeconfig's]
    #[arg(long, env = "LIMOSA_LEASE_NAMESPACE", value_name = "NAMESPACE", requires = "kubernetes")]
    pub(super) lease_namespace: Option<String>,
}

/// Of several controllers on one cluster, which one works.
#[derive(Debug, ClapArgs)]
pub(super) struct LeaseArgs {
    #[command(flatten)]
    lease: LeaseNameArgs,
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
    pub(super) fn options(self) -> anyhow::Result<LeaseOptions> {
        let timing = Timing {
            duration: self.lease_duration,
            renew_deadline: self.lease_renew_deadline,
            retry: self.lease_retry,
        };
        anyhow::ensure!(
            timing.duration > timing.renew_deadline && timing.renew_deadline > timing.retry.mul_f64(1.2),
            "--lease-duration has to be longer than --lease-renew-deadline, and that longer than --lease-retry by a fifth"
        );
        let LeaseNameArgs { lease_name: name, lease_namespace: namespace } = self.lease;
        Ok(LeaseOptions { namespace, name, timing })
    }
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct MetricsArgs {
    /// Serve Prometheus metrics (/metrics), /healthz and /readyz here [default: nowhere]
    #[arg(long, env = "LIMOSA_METRICS_LISTEN", value_name = "IP:PORT")]
    pub(super) metrics_listen: Option<SocketAddr>,
}

/// The files of an `ssl:` remote, as OVN's own programs name them. They are
/// read again when they change.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct TlsArgs {
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
    pub(super) fn tls(self) -> Option<Tls> {
        Some(Tls::new(self.ca_cert?, self.certificate?, self.private_key?))
    }
}

/// A phase on the command line, for `--wait` and `--for`.
pub(super) fn parse_phase(text: &str) -> Result<Phase, String> {
    text.parse().map_err(|e: limosa_protocol::object::ParsePhaseError| e.to_string())
}

pub(super) fn parse_mac(text: &str) -> Result<MacAddr, String> {
    text.parse().map_err(|e: limosa_protocol::mac::ParseMacError| e.to_string())
}

pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|e| e.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
