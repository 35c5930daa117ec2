//! What an agent knows of its own chassis, gathered from the local OVSDB and
//! the switch.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::layout::Layout;
use crate::object::InterfaceStatus;

/// Everything about one chassis that decides how flows are written there.
/// Port numbers, table numbers and indices are local to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The chassis' name: `Open_vSwitch.external_ids:system-id`.
    pub chassis: String,
    /// Where other chassis send tunnelled packets to: `external_ids:ovn-encap-ip`.
    pub encap_ips: Vec<IpAddr>,
    /// Interfaces of the integration bridge that have an `external_ids:iface-id`, by it.
    pub interfaces: BTreeMap<String, InterfaceStatus>,
    /// The connection tracking zones of logical ports (`Bridge.external_ids:ct-zone-<port>`).
    pub zones: BTreeMap<String, u16>,
    /// Whether those interfaces are said to be ready, by the same.
    pub installed: BTreeMap<String, Installed>,
    /// Tunnels to other chassis, by the chassis' name.
    pub tunnels: BTreeMap<String, Tunnel>,
    /// Which `tun_metadata` field of the bridge holds OVN's Geneve option
    /// (class 0x102, type 0x80), from the bridge's TLV table.
    pub geneve_index: Option<u8>,
    /// OVN's table numbers, as far as they were found.
    pub layout: Layout,
    /// Decisions in the datapath's cache (`ovs-appctl upcall/show`), some
    /// seconds ago.
    pub cached: u32,
}

/// A tunnel port of the integration bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    pub ofport: u32,
    /// `Interface.type`: geneve, vxlan, stt.
    pub kind: String,
}

/// What the `external_ids` of an interface say of its being ready for use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// `ovn-installed` is true.
    pub installed: bool,
    /// `ovn-installed-ts` is there: ovn-controller has said so itself.
    pub by_ovn: bool,
    /// `limosa-vouched`: the migration whose agent has said so.
    pub vouched_by: Option<String>,
}
