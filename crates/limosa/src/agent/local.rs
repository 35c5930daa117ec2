//! What the local Open_vSwitch database says of this chassis.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use limosa_protocol::Vouch;
use limosa_protocol::facts::{Facts, Tunnel};
use limosa_protocol::layout::Layout;
use limosa_protocol::object::{InterfaceStatus, Problem};
use ovsdb_rs::{Remote, Remotes, Replica, Session, TableMonitor, Uuid};
use tokio::sync::watch;

ovsdb_rs::table! {
    /// Its one row; see ovs-vswitchd.conf.db(5) for all of these tables.
    struct Global in "Open_vSwitch" {
        external_ids: BTreeMap<String, String>,
    }

    struct Bridge in "Bridge" {
        name: String,
        ports: Vec<Uuid>,
        datapath_type: String,
        external_ids: BTreeMap<String, String>,
    }

    struct Port in "Port" {
        interfaces: Vec<Uuid>,
        external_ids: BTreeMap<String, String>,
    }

    struct Interface in "Interface" {
        name: String,
        r#type: String,
        ofport: Option<i64>,
        link_state: Option<String>,
        external_ids: BTreeMap<String, String>,
    }
}

const DEFAULT_BRIDGE: &str = "br-int";
/// How long the database may be away at the start before that is said.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// The integration bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Integration {
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
                TableMonitor::of::<Global>(),
                TableMonitor::of::<Bridge>(),
                TableMonitor::of::<Port>(),
                TableMonitor::of::<Interface>(),
            ],
        );
        Self { session, socket: socket.display().to_string() }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Replica>> {
        self.session.subscribe()
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Writes to the row of an interface.
    pub(super) async fn vouch(&self, vouch: &Vouch) -> Result<(), Problem> {
        super::vouch::write(&self.session, vouch).await
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
        let read = |replica: &Replica| replica.rows::<Global>().next()?.external_ids.remove("system-id");
        let mut replicas = self.session.subscribe();
        let replica = replicas.wait_for(|replica| read(replica).is_some()).await?;
        read(&replica).context("the local database has no system-id")
    }

    /// The integration bridge and what is known of it, without the tables and
    /// the TLV map, which only the switch knows.
    pub(super) fn read(&self, chassis: &str) -> Result<(Integration, Facts), Problem> {
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
        let global: Option<Global> = replica.rows().next();
        let global = global.ok_or_else(|| missing("row in Open_vSwitch: run `ovs-vsctl init`"))?;
        let name = global.own_id("ovn-bridge", chassis).unwrap_or(DEFAULT_BRIDGE);
        let bridge = replica.rows().find(|bridge: &Bridge| bridge.name == name).ok_or_else(|| {
            missing(&format!("bridge {name}, OVN's integration bridge: is ovn-controller running here? (external_ids:ovn-bridge names another)"))
        })?;
        let encap_ips = global.own_id("ovn-encap-ip", chassis).unwrap_or_default();
        let mut facts = Facts {
            chassis: chassis.to_owned(),
            encap_ips: encap_ips.split(',').filter_map(|ip| ip.trim().parse().ok()).collect(),
            interfaces: BTreeMap::new(),
            zones: zones(&bridge),
            installed: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            geneve_index: None,
            layout: Layout::default(),
            cached: 0,
        };
        for port in replica.referenced::<Port>(&bridge.ports) {
            let peer = port.external_ids.get("ovn-chassis-id").and_then(|id| id.split('@').next());
            for interface in replica.referenced(&port.interfaces) {
                add_interface(&mut facts, peer, interface);
            }
        }
        let datapath = match bridge.datapath_type.as_str() {
            "" => "system@ovs-system".to_owned(),
            kind => format!("{kind}@ovs-{kind}"),
        };
        Ok((Integration { name: bridge.name, datapath }, facts))
    }
}

/// Which zone ovn-controller has given to which port (OVN `controller/ct-zone.c`).
fn zones(bridge: &Bridge) -> BTreeMap<String, u16> {
    let zone = |(key, value): (&String, &String)| {
        Some((key.strip_prefix("ct-zone-")?.to_owned(), value.parse().ok()?))
    };
    bridge.external_ids.iter().filter_map(zone).collect()
}

fn add_interface(facts: &mut Facts, peer: Option<&str>, mut row: Interface) {
    // An interface that could not be opened has ofport -1.
    let Some(ofport) = row.ofport.and_then(|ofport| u32::try_from(ofport).ok()) else { return };
    if let Some(peer) = peer {
        facts.tunnels.insert(peer.to_owned(), Tunnel { ofport, kind: row.r#type });
    }
    let installed = super::vouch::read(&row.external_ids);
    if let Some(iface_id) = row.external_ids.remove("iface-id") {
        let link_up = row.link_state.as_deref() != Some("down");
        facts.installed.insert(iface_id.clone(), installed);
        facts.interfaces.insert(iface_id, InterfaceStatus { name: row.name, ofport, link_up });
    }
}

impl Global {
    /// A setting of this chassis, which several chassis on one host may each have
    /// under `KEY-CHASSIS` (ovn-controller(8)).
    fn own_id(&self, key: &str, chassis: &str) -> Option<&str> {
        let ids = &self.external_ids;
        ids.get(&format!("{key}-{chassis}")).or_else(|| ids.get(key)).map(String::as_str)
    }
}
