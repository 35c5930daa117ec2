//! The controller's view of the OVN databases; what it writes there is in `write.rs`.

mod tables;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use limosa_kubevirt::Nodes;
use limosa_protocol::MacAddr;
use limosa_protocol::lifecycle::{Binding, LogicalPort};
use limosa_protocol::object::Problem;
use ovsdb_rs::{Clause, Function, Options, Remotes, Session, State, TableMonitor, Tls, Typed};

use tables::{Chassis, ChassisPrivate, DatapathBinding, Encap, NbGlobal, PortBinding, SwitchPort};
use write::MARK;
pub(super) use write::{Fence, Mark, WriteError};

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
    /// Without an election of leaders there is none.
    fence: Option<Fence>,
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
        Self { nb, sb, ports: BTreeSet::new(), fence: None }
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

    /// Follows these ports and no others; returns when the replicas show them.
    pub(super) async fn follow(&mut self, ports: BTreeSet<String>) -> anyhow::Result<()> {
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
        self.nb.replica().rows().find(|row: &SwitchPort| row.name == name)
    }

    pub(super) fn port(&self, name: &str) -> Option<LogicalPort> {
        let mut row = self.switch_port(name)?;
        let addresses = row.addresses.iter().chain(&row.dynamic_addresses).chain(&row.port_security);
        let mut macs: Vec<MacAddr> = Vec::new();
        for mac in addresses.flat_map(|text| text.split_whitespace()).filter_map(|word| word.parse().ok()) {
            if !macs.contains(&mac) {
                macs.push(mac);
            }
        }
        Some(LogicalPort {
            kind: row.r#type,
            macs,
            requested_chassis: row.options.remove(REQUESTED_CHASSIS),
            activation_strategy: row.options.remove(ACTIVATION_STRATEGY),
            pinned_by: row.external_ids.remove(MARK),
        })
    }

    pub(super) fn binding(&self, port: &str) -> Option<Binding> {
        let sb = self.sb.replica();
        let row = sb.rows().find(|row: &PortBinding| row.logical_port == port)?;
        let name = |chassis: Chassis| chassis.name;
        let datapath: Option<DatapathBinding> = sb.row(&row.datapath);
        Some(Binding {
            chassis: sb.referenced(&row.chassis).map(name).next(),
            additional: sb.referenced(&row.additional_chassis).map(name).collect(),
            datapath_key: datapath.map_or(0, |datapath| datapath.tunnel_key),
            port_key: row.tunnel_key,
        })
    }

    /// The chassis and their encapsulation types.
    pub(super) fn chassis(&self) -> BTreeMap<String, BTreeSet<String>> {
        let sb = self.sb.replica();
        let kind = |encap: Encap| encap.r#type;
        sb.rows().map(|row: Chassis| (row.name, sb.referenced(&row.encaps).map(kind).collect())).collect()
    }

    /// The chassis by the nodes they run on.
    pub(super) fn nodes(&self) -> Nodes {
        Nodes::new(self.hostnames())
    }

    /// What the hosts of the chassis are called, by chassis.
    pub(super) fn hostnames(&self) -> BTreeMap<String, String> {
        self.sb.replica().rows().map(|row: Chassis| (row.name, row.hostname)).collect()
    }

    pub(super) fn hv_cfg(&self) -> i64 {
        self.nb.replica().rows().next().map_or(0, |global: NbGlobal| global.hv_cfg)
    }

    /// Which `nb_cfg` each chassis has caught up with.
    pub(super) fn nb_cfg(&self) -> BTreeMap<String, i64> {
        self.sb.replica().rows().map(|row: ChassisPrivate| (row.name, row.nb_cfg)).collect()
    }

    /// The schema has `Port_Binding.additional_chassis`, as of OVN 22.06.
    pub(super) fn can_bind_twice(&self) -> bool {
        self.sb.replica().has_column(PortBinding::TABLE, "additional_chassis")
    }
}
