//! The controller's view of the OVN databases; what it writes there is in `write.rs`.

mod standing;
mod tables;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use limosa_kubevirt::Nodes;
use limosa_protocol::MacAddr;
use limosa_protocol::lifecycle::{Binding, Cluster, LogicalPort};
use limosa_protocol::object::Problem;
use ovsdb_rs::{Clause, Function, Options, Remotes, Replica, Session, State, TableMonitor, Tls, Typed};

use tables::{Chassis, ChassisPrivate, DatapathBinding, Encap, NbGlobal, PortBinding, SwitchPort};
pub(super) use write::{Fence, Mark, PortOptions, WriteError};
pub(crate) use write::{LEADER, MARK};

const REQUESTED_CHASSIS: &str = "requested-chassis";
const ACTIVATION_STRATEGY: &str = "activation-strategy";
/// How long a start waits for a database before it says that it is not there.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// Sessions to both databases that hold the ports of live migrations, the
/// chassis, and nothing else of size.
#[derive(Debug)]
pub(super) struct Databases {
    pub(super) nb: Session,
    pub(super) sb: Session,
    ports: BTreeSet<String>,
    /// The ports that have a standing pin of ours.
    standing: BTreeSet<String>,
    /// Who we are to the northbound database, once it knows; before that nothing is written.
    fence: Option<Fence>,
    /// The term of a leader that we have yielded to.
    later: Option<u64>,
}

impl Databases {
    pub(super) fn open(nb: Remotes, sb: Remotes, tls: Option<Tls>) -> Self {
        let mut options = Options::default();
        options.tls = tls;
        let nothing = || vec![Clause::never()];
        let nb = Session::open_with(
            nb,
            "OVN_Northbound",
            vec![TableMonitor::of::<SwitchPort>().condition(nothing()), TableMonitor::of::<NbGlobal>()],
            options.clone(),
        );
        let sb = Session::open_with(
            sb,
            "OVN_Southbound",
            vec![
                TableMonitor::of::<PortBinding>().condition(nothing()),
                TableMonitor::of::<DatapathBinding>(),
                TableMonitor::of::<Chassis>(),
                TableMonitor::of::<ChassisPrivate>(),
                TableMonitor::of::<Encap>(),
            ],
            options,
        );
        Self { nb, sb, ports: BTreeSet::new(), standing: BTreeSet::new(), fence: None, later: None }
    }

    /// Waits for both databases, but not for long: what is not there is said
    /// where people look.
    pub(super) async fn ready(&self) {
        let _ = tokio::join!(self.nb.ready(SAY_AFTER), self.sb.ready(SAY_AFTER));
    }

    /// Why nothing can be decided now, if so.
    pub(super) fn trouble(&self) -> Option<Problem> {
        let away = |(session, name): &(&Session, &str)| {
            if session.replica().connected {
                return None;
            }
            let why = match session.state() {
                State::Connecting { last_error: Some(failure) } => {
                    format!("{failure}; {}", failure.cause.hint())
                }
                state => state.label().to_owned(),
            };
            Some(format!("the {name} does not answer ({why})"))
        };
        let sessions = [
            (&self.nb, "OVN northbound database (--nb, OVN_NB_DB)"),
            (&self.sb, "OVN southbound database (--sb, OVN_SB_DB)"),
        ];
        let message = sessions.iter().find_map(away)?;
        Some(Problem::new("DatabaseUnreachable", format!("{message}; flows and options stay as they are")))
    }

    /// Follows these ports, those with a standing pin and no others; returns when the replicas show them.
    pub(super) async fn follow(&mut self, mut ports: BTreeSet<String>) -> anyhow::Result<()> {
        ports.extend(self.standing.iter().cloned());
        if ports == self.ports {
            return Ok(());
        }
        let clauses = |column: &str| -> Vec<Clause> {
            if ports.is_empty() {
                return vec![Clause::never()];
            }
            ports.iter().map(|port| Clause::new(column, Function::Equal, port.as_str())).collect()
        };
        self.nb.set_condition(SwitchPort::TABLE, clauses("name")).await?;
        self.sb.set_condition(PortBinding::TABLE, clauses("logical_port")).await?;
        self.ports = ports;
        Ok(())
    }

    fn switch_port(&self, name: &str) -> Option<SwitchPort> {
        let nb = self.nb.replica();
        let (uuid, row) = nb.find(SwitchPort::TABLE, |row| row.str("name") == Some(name))?;
        Some(SwitchPort::from_row(*uuid, row))
    }

    /// The chassis by the nodes they run on.
    pub(super) fn nodes(&self) -> Nodes {
        Nodes::new(self.sb.replica().rows().map(|row: Chassis| (row.name, row.hostname)))
    }

    /// What the replicas show of the chassis now.
    pub(super) fn cluster(&self) -> Cluster {
        let (nb, sb) = (self.nb.replica(), self.sb.replica());
        let chassis = || sb.rows::<Chassis>();
        let kind = |encap: Encap| encap.r#type;
        Cluster {
            chassis: chassis()
                .map(|row| (row.name, sb.referenced(&row.encaps).map(kind).collect()))
                .collect(),
            hostnames: chassis().map(|row| (row.name, row.hostname)).collect(),
            hv_cfg: nb.rows().next().map_or(0, |global: NbGlobal| global.hv_cfg),
            nb_cfg: sb.rows().map(|row: ChassisPrivate| (row.name, row.nb_cfg)).collect(),
            // As of OVN 22.06.
            can_bind_twice: sb.has_column(PortBinding::TABLE, "additional_chassis"),
        }
    }

    /// What the replicas show now.
    pub(super) fn view(&self) -> View {
        let (nb, sb) = (self.nb.replica(), self.sb.replica());
        let ports = nb.rows().map(|row: SwitchPort| (row.name.clone(), logical_port(row)));
        let bindings = sb.rows().map(|row: PortBinding| (row.logical_port.clone(), binding(&sb, row)));
        View { ports: ports.collect(), bindings: bindings.collect(), cluster: Arc::new(self.cluster()) }
    }
}

/// The databases at one instant, as far as they are followed.
#[derive(Debug)]
pub(super) struct View {
    pub(super) cluster: Arc<Cluster>,
    /// By name.
    pub(super) ports: HashMap<String, LogicalPort>,
    /// By logical port.
    pub(super) bindings: HashMap<String, Binding>,
}

fn logical_port(mut row: SwitchPort) -> LogicalPort {
    let addresses = row.addresses.iter().chain(&row.dynamic_addresses).chain(&row.port_security);
    let mut macs: Vec<MacAddr> = Vec::new();
    for mac in addresses.flat_map(|text| text.split_whitespace()).filter_map(|word| word.parse().ok()) {
        if !macs.contains(&mac) {
            macs.push(mac);
        }
    }
    LogicalPort {
        namespace: namespace(&row),
        kind: row.r#type,
        macs,
        requested_chassis: row.options.remove(REQUESTED_CHASSIS),
        activation_strategy: row.options.remove(ACTIVATION_STRATEGY),
        pinned_by: row.external_ids.remove(MARK),
    }
}

/// The Kubernetes namespace that a port was made for: OVN-Kubernetes writes `namespace`, Kube-OVN `pod=NAMESPACE/NAME`.
fn namespace(row: &SwitchPort) -> Option<String> {
    let of_pod = || row.external_ids.get("pod")?.split_once('/').map(|(namespace, _)| namespace.to_owned());
    row.external_ids.get("namespace").cloned().or_else(of_pod)
}

fn binding(sb: &Replica, row: PortBinding) -> Binding {
    let name = |chassis: Chassis| chassis.name;
    let datapath: Option<DatapathBinding> = sb.row(&row.datapath);
    Binding {
        chassis: sb.referenced(&row.chassis).map(name).next(),
        additional: sb.referenced(&row.additional_chassis).map(name).collect(),
        datapath_key: datapath.map_or(0, |datapath| datapath.tunnel_key),
        port_key: row.tunnel_key,
    }
}
