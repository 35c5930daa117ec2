//! What the local Open_vSwitch database says of this chassis.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use limosa_protocol::facts::{Facts, Tunnel};
use limosa_protocol::layout::Layout;
use limosa_protocol::object::{InterfaceStatus, Problem};
use ovsdb_rs::{Remote, Remotes, Replica, Row, Session, TableMonitor};
use tokio::sync::watch;

const DEFAULT_BRIDGE: &str = "br-int";
/// How long the database may be away at the start before that is said.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// The integration bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) name: String,
    /// As ovs-dpctl(8) names it.
    pub(super) datapath: String,
}

/// The local database, followed.
#[derive(Debug)]
pub(super) struct Local {
    session: Session,
    socket: String,
}

impl Local {
    pub(super) fn open(ovs_rundir: &Path) -> Self {
        let socket = ovs_rundir.join("db.sock");
        let session = Session::open(
            Remotes::from(Remote::Unix(socket.clone())),
            "Open_vSwitch",
            vec![
                TableMonitor::new("Open_vSwitch").columns(["external_ids"]),
                TableMonitor::new("Bridge").columns(["name", "ports", "datapath_type", "external_ids"]),
                TableMonitor::new("Port").columns(["interfaces", "external_ids"]),
                TableMonitor::new("Interface").columns([
                    "name",
                    "type",
                    "ofport",
                    "link_state",
                    "external_ids",
                ]),
            ],
        );
        Self { session, socket: socket.display().to_string() }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Replica>> {
        self.session.subscribe()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.session.replica().connected
    }

    /// Waits for the database, but not for long: an agent without it has
    /// something to say, too.
    pub(super) async fn ready(&self) {
        if let Err(error) = self.session.ready(SAY_AFTER).await {
            tracing::error!(%error, "the local database is not there yet");
        }
    }

    /// `external_ids:system-id`, as soon as the database has one.
    pub(super) async fn system_id(&self) -> anyhow::Result<String> {
        let read =
            |replica: &Replica| Some(global(replica)?.map_get("external_ids", "system-id")?.to_owned());
        let mut replicas = self.session.subscribe();
        let replica = replicas.wait_for(|replica| read(replica).is_some()).await?;
        read(&replica).context("the local database has no system-id")
    }

    /// The integration bridge and what is known of it, without the tables and
    /// the TLV map, which only the switch knows.
    pub(super) fn read(&self, chassis: &str) -> Result<(Bridge, Facts), Problem> {
        let replica = self.session.replica();
        if !replica.connected {
            return Err(Problem::new(
                "OvsdbUnreachable",
                format!(
                    "chassis {chassis}: the local Open_vSwitch database does not answer at {}: is ovsdb-server running, and is --ovs-rundir its run directory?",
                    self.socket
                ),
            ));
        }
        let missing = |what: &str| {
            Problem::new(
                "NoBridge",
                format!("chassis {chassis}: the local Open_vSwitch database has no {what}"),
            )
        };
        let global = global(&replica).ok_or_else(|| missing("row in Open_vSwitch: run `ovs-vsctl init`"))?;
        let name = own_id(global, "ovn-bridge", chassis).unwrap_or(DEFAULT_BRIDGE);
        let (_, bridge) = replica.find("Bridge", |row| row.str("name") == Some(name)).ok_or_else(|| {
            missing(&format!("bridge {name}, OVN's integration bridge: is ovn-controller running here? (external_ids:ovn-bridge names another)"))
        })?;
        let encap_ips = own_id(global, "ovn-encap-ip", chassis).unwrap_or_default();
        let mut facts = Facts {
            chassis: chassis.to_owned(),
            encap_ips: encap_ips.split(',').filter_map(|ip| ip.trim().parse().ok()).collect(),
            interfaces: BTreeMap::new(),
            zones: zones(bridge),
            tunnels: BTreeMap::new(),
            geneve_index: None,
            layout: Layout::default(),
        };
        for port in bridge.uuids("ports").filter_map(|uuid| replica.get("Port", &uuid)) {
            let peer = port.map_get("external_ids", "ovn-chassis-id").and_then(|id| id.split('@').next());
            for interface in port.uuids("interfaces").filter_map(|uuid| replica.get("Interface", &uuid)) {
                add_interface(&mut facts, peer, interface);
            }
        }
        let datapath = match bridge.str("datapath_type") {
            None | Some("" | "system") => "system@ovs-system".to_owned(),
            Some(kind) => format!("{kind}@ovs-{kind}"),
        };
        Ok((Bridge { name: name.to_owned(), datapath }, facts))
    }
}

/// Which zone ovn-controller has given to which port (OVN `controller/ct-zone.c`).
fn zones(bridge: &Row) -> BTreeMap<String, u16> {
    let ids = bridge.map("external_ids");
    let zone =
        |(key, value): (&str, &str)| Some((key.strip_prefix("ct-zone-")?.to_owned(), value.parse().ok()?));
    ids.iter().filter_map(zone).collect()
}

fn add_interface(facts: &mut Facts, peer: Option<&str>, row: &Row) {
    // An interface that could not be opened has ofport -1.
    let Some(ofport) = row.int("ofport").and_then(|ofport| u32::try_from(ofport).ok()) else { return };
    if let Some(peer) = peer {
        let kind = row.str("type").unwrap_or_default().to_owned();
        facts.tunnels.insert(peer.to_owned(), Tunnel { ofport, kind });
    }
    if let Some(iface_id) = row.map_get("external_ids", "iface-id") {
        let interface = InterfaceStatus {
            name: row.str("name").unwrap_or_default().to_owned(),
            ofport,
            link_up: row.str("link_state") != Some("down"),
        };
        facts.interfaces.insert(iface_id.to_owned(), interface);
    }
}

fn global(replica: &Replica) -> Option<&Row> {
    replica.table("Open_vSwitch").next().map(|(_, row)| row)
}

/// A setting of this chassis, which several chassis on one host may each have
/// under `KEY-CHASSIS` (ovn-controller(8)).
fn own_id<'a>(global: &'a Row, key: &str, chassis: &str) -> Option<&'a str> {
    let ids = global.map("external_ids");
    ids.get(&format!("{key}-{chassis}")).or_else(|| ids.get(key))
}
