//! The controller's view of the OVN databases, and the one thing it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use limosa_protocol::MacAddr;
use limosa_protocol::lifecycle::{Binding, LogicalPort};
use limosa_protocol::object::Problem;
use ovsdb_rs::{
    Clause, Function, Mutator, Options, Remotes, Replica, Row, Session, State, TableMonitor, Tls,
    Transaction, Until,
};

const LSP: &str = "Logical_Switch_Port";
const REQUESTED_CHASSIS: &str = "requested-chassis";
/// How long a start waits for a database before it says that it is not there.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// Sessions to both databases that hold the ports of live migrations, the
/// chassis, and nothing else of size.
#[derive(Debug)]
pub(super) struct Databases {
    pub(super) nb: Session,
    pub(super) sb: Session,
    ports: BTreeSet<String>,
}

impl Databases {
    pub(super) fn open(nb: Remotes, sb: Remotes, tls: Option<Tls>) -> Self {
        let mut options = Options::default();
        options.tls = tls;
        let nothing = || vec![Clause::never()];
        let nb = Session::open_with(
            nb,
            "OVN_Northbound",
            vec![
                TableMonitor::new(LSP)
                    .columns(["name", "type", "addresses", "dynamic_addresses", "port_security", "options"])
                    .condition(nothing()),
                TableMonitor::new("NB_Global").columns(["hv_cfg"]),
            ],
            options.clone(),
        );
        let sb = Session::open_with(
            sb,
            "OVN_Southbound",
            vec![
                TableMonitor::new("Port_Binding")
                    .columns(["logical_port", "chassis", "additional_chassis", "datapath", "tunnel_key"])
                    .condition(nothing()),
                TableMonitor::new("Datapath_Binding").columns(["tunnel_key"]),
                TableMonitor::new("Chassis").columns(["name", "encaps"]),
                TableMonitor::new("Chassis_Private").columns(["name", "nb_cfg"]),
                TableMonitor::new("Encap").columns(["type"]),
            ],
            options,
        );
        Self { nb, sb, ports: BTreeSet::new() }
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
        self.nb.set_condition(LSP, clauses("name")).await?;
        self.sb.set_condition("Port_Binding", clauses("logical_port")).await?;
        self.ports = ports;
        Ok(())
    }

    /// Sets the option, or takes it away, in one transaction that is refused if
    /// anyone has changed the port's options meanwhile. Returns the new
    /// `nb_cfg`: once `hv_cfg` is there, every chassis knows.
    pub(super) async fn set_requested_chassis(&self, port: &str, value: Option<&str>) -> anyhow::Result<i64> {
        let named = || [Clause::new("name", Function::Equal, port)];
        let nb = self.nb.replica();
        let (_, row) = lsp_row(&nb, port).with_context(|| format!("logical switch port {port} has gone"))?;
        let options = row.datum("options").cloned().context("the northbound schema has no options")?;
        let as_seen = Row::new().with("options", options);
        let transaction = Transaction::new().wait(LSP, named(), ["options"], [as_seen], Until::Equal);
        let transaction = match value {
            Some(chassis) => transaction.comment(format!("limosa: bind {port} to {chassis}")).set_keys(
                LSP,
                named(),
                "options",
                [(REQUESTED_CHASSIS, chassis)],
            ),
            None => transaction.comment(format!("limosa: no pin on {port} any more")).delete_keys(
                LSP,
                named(),
                "options",
                [REQUESTED_CHASSIS],
            ),
        };
        let transaction = transaction.mutate("NB_Global", [], [("nb_cfg", Mutator::Add, 1)]).select(
            "NB_Global",
            [],
            ["nb_cfg"],
        );
        let results = self.nb.transact(transaction).await?;
        let nb_cfg = results.last().and_then(|select| select.rows.first()).and_then(|row| row.int("nb_cfg"));
        nb_cfg.context("the northbound database has no row in NB_Global: run `ovn-nbctl init`")
    }

    pub(super) fn port(&self, name: &str) -> Option<LogicalPort> {
        let nb = self.nb.replica();
        let (_, row) = lsp_row(&nb, name)?;
        let columns = ["addresses", "dynamic_addresses", "port_security"];
        let words = columns.into_iter().flat_map(|column| row.strs(column)).flat_map(str::split_whitespace);
        let mut macs: Vec<MacAddr> = Vec::new();
        for mac in words.filter_map(|word| word.parse().ok()) {
            if !macs.contains(&mac) {
                macs.push(mac);
            }
        }
        Some(LogicalPort {
            kind: row.str("type").unwrap_or_default().to_owned(),
            macs,
            requested_chassis: row.map_get("options", REQUESTED_CHASSIS).map(str::to_owned),
            activation_strategy: row.map_get("options", "activation-strategy").map(str::to_owned),
        })
    }

    pub(super) fn binding(&self, port: &str) -> Option<Binding> {
        let sb = self.sb.replica();
        let (_, row) = sb.find("Port_Binding", |row| row.str("logical_port") == Some(port))?;
        let name = |uuid| sb.get("Chassis", &uuid).and_then(|row| row.str("name")).map(str::to_owned);
        let datapath = row.uuid("datapath").and_then(|uuid| sb.get("Datapath_Binding", &uuid));
        Some(Binding {
            chassis: row.uuid("chassis").and_then(name),
            additional: row.uuids("additional_chassis").filter_map(name).collect(),
            datapath_key: datapath.and_then(|datapath| datapath.int("tunnel_key")).unwrap_or_default(),
            port_key: row.int("tunnel_key").unwrap_or_default(),
        })
    }

    /// The chassis and their encapsulation types.
    pub(super) fn chassis(&self) -> BTreeMap<String, BTreeSet<String>> {
        let sb = self.sb.replica();
        let encaps = |row: &Row| -> BTreeSet<String> {
            let rows = row.uuids("encaps").filter_map(|uuid| sb.get("Encap", &uuid));
            rows.filter_map(|encap| encap.str("type")).map(str::to_owned).collect()
        };
        sb.table("Chassis").filter_map(|(_, row)| Some((row.str("name")?.to_owned(), encaps(row)))).collect()
    }

    pub(super) fn hv_cfg(&self) -> i64 {
        self.nb.replica().table("NB_Global").find_map(|(_, row)| row.int("hv_cfg")).unwrap_or_default()
    }

    /// Which `nb_cfg` each chassis has caught up with.
    pub(super) fn nb_cfg(&self) -> BTreeMap<String, i64> {
        let sb = self.sb.replica();
        let rows = sb.table("Chassis_Private");
        rows.filter_map(|(_, row)| Some((row.str("name")?.to_owned(), row.int("nb_cfg")?))).collect()
    }

    /// The schema has `Port_Binding.additional_chassis`: OVN 22.09 or later.
    pub(super) fn can_bind_twice(&self) -> bool {
        self.sb.replica().schema().column("Port_Binding", "additional_chassis").is_some()
    }
}

fn lsp_row<'a>(nb: &'a Replica, name: &str) -> Option<(&'a uuid::Uuid, &'a Row)> {
    nb.find(LSP, |row| row.str("name") == Some(name))
}
