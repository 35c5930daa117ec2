//! The flows of OVN's own, as ovn-controller 23.03 writes them
//! (`controller/physical.c`), reduced to one logical switch without routers,
//! load balancers and connection tracking.
//!
//! | table | here |
//! |---|---|
//! | 0 | from an interface or a tunnel into the pipelines |
//! | 8, 9 | logical ingress: a policy for each port, then the port by Ethernet address |
//! | 37 to 41 | REMOTE_OUTPUT 39, LOCAL_OUTPUT 40, loopback check 41 |
//! | 42 | logical egress: a policy for each port |
//! | 64, 65 | LOG_TO_PHY 65 |
//!
//! A policy is a `note`, which a switch ignores: [`crate::packet`] takes it as
//! the judgement on the packet.

use std::rc::Rc;

use bytes::Bytes;
use ofpacket::{Action, Flow, Match, Oxm, OxmField, PortNo};

use crate::packet::{NOTE_EGRESS, NOTE_INGRESS, Rule, compile};
use crate::switch::Port;

pub(crate) const DATAPATH_KEY: u32 = 5;
/// The port key of the guest; the peer on chassis `c` has `c + 1`.
pub(crate) const GUEST_KEY: u16 = 9;
pub(crate) const GUEST_MAC: u64 = 0x0200_0000_0101;
/// The chassis of a schedule: source, target, bystanders.
pub(crate) const NAMES: [&str; 4] = ["a", "b", "x", "y"];
pub(crate) const SOURCE: usize = 0;
pub(crate) const TARGET: usize = 1;

pub(crate) const fn peer_key(chassis: usize) -> u16 {
    chassis as u16 + 1
}

pub(crate) const fn peer_mac(chassis: usize) -> u64 {
    0x0200_0000_0200 + chassis as u64
}

/// Where packets to this chassis' tunnels are addressed.
pub(crate) const fn encap_ip(chassis: usize) -> [u8; 4] {
    [10, 99, 0, chassis as u8 + 1]
}

/// Everything but the flows of the guest's port.
pub(crate) fn base(chassis: usize, count: usize, ports: &[(u32, Port)]) -> Vec<Rc<Rule>> {
    let mut flows = vec![
        Flow::new(0, 0, Match::new(), vec![]),
        Flow::new(37, 0, Match::new(), vec![resubmit(39)]),
        Flow::new(38, 0, Match::new(), vec![resubmit(39)]),
        // What came through a VTEP ramp, what must stay local.
        Flow::new(39, 150, reg10(2, 3), vec![resubmit(40)]),
        Flow::new(39, 150, reg10(16, 16), vec![resubmit(40)]),
        Flow::new(39, 0, Match::new(), vec![resubmit(40)]),
        Flow::new(40, 0, Match::new(), vec![]),
        Flow::new(41, 0, Match::new(), vec![resubmit(42)]),
        Flow::new(64, 0, Match::new(), vec![resubmit(65)]),
        Flow::new(65, 0, Match::new(), vec![]),
    ];
    for (ofport, port) in ports {
        match port {
            Port::Tunnel(peer) => {
                flows.push(from_tunnel(*ofport));
                flows.push(to_tunnels(peer_key(*peer), &[*ofport]));
            }
            Port::Peer => flows.extend(interface(peer_key(chassis), *ofport)),
            Port::Guest => {}
        }
    }
    let peers = (0..count).map(|peer| (peer_key(peer), peer_mac(peer)));
    for (key, mac) in peers.chain([(GUEST_KEY, GUEST_MAC)]) {
        flows.push(Flow::new(
            8,
            100,
            inport(key),
            vec![Action::Note(Bytes::from_static(&[NOTE_INGRESS])), resubmit(9)],
        ));
        let to_mac =
            Match::new().with(OxmField::METADATA, u64::from(DATAPATH_KEY)).with(OxmField::ETH_DST, mac);
        flows.push(Flow::new(9, 100, to_mac, vec![set(OxmField::reg(15), u32::from(key)), resubmit(37)]));
        flows.push(Flow::new(
            42,
            100,
            outport(key),
            vec![Action::Note(Bytes::from_static(&[NOTE_EGRESS])), resubmit(64)],
        ));
    }
    flows.iter().map(|flow| compile(&flow.clone().with_cookie(0x1021_ee0c))).collect()
}

/// The flows of a port that this chassis may bind and has the interface of.
pub(crate) fn interface(key: u16, ofport: u32) -> Vec<Flow> {
    let enter = vec![
        set(OxmField::reg(14), u32::from(key)),
        set(OxmField::METADATA, u64::from(DATAPATH_KEY)),
        resubmit(8),
    ];
    vec![
        Flow::new(0, 100, Match::new().with(OxmField::IN_PORT, ofport), enter),
        Flow::new(40, 100, outport(key), vec![resubmit(41)]),
        Flow::new(41, 100, outport(key).with(OxmField::reg(14), u32::from(key)), vec![]),
        Flow::new(65, 100, outport(key), vec![Action::output(ofport)]),
    ]
}

/// To a port on other chassis, and to this one if it is here, too.
pub(crate) fn to_tunnels(key: u16, ofports: &[u32]) -> Flow {
    let mut actions = vec![
        set(OxmField::TUNNEL_ID, u64::from(DATAPATH_KEY)),
        Action::SetField(Oxm::new(OxmField::tun_metadata(0), u32::from(key))),
        copy(15, OxmField::reg(14), 0, OxmField::tun_metadata(0), 16),
    ];
    actions.extend(ofports.iter().map(|ofport| Action::output(*ofport)));
    actions.push(resubmit(40));
    Flow::new(39, 100, outport(key), actions)
}

fn from_tunnel(ofport: u32) -> Flow {
    let actions = vec![
        copy(24, OxmField::TUNNEL_ID, 0, OxmField::METADATA, 0),
        copy(15, OxmField::tun_metadata(0), 16, OxmField::reg(14), 0),
        copy(16, OxmField::tun_metadata(0), 0, OxmField::reg(15), 0),
        resubmit(40),
    ];
    Flow::new(0, 100, Match::new().with(OxmField::IN_PORT, ofport), actions)
}

fn inport(key: u16) -> Match {
    Match::new().with(OxmField::reg(14), u32::from(key)).with(OxmField::METADATA, u64::from(DATAPATH_KEY))
}

fn outport(key: u16) -> Match {
    Match::new().with(OxmField::reg(15), u32::from(key)).with(OxmField::METADATA, u64::from(DATAPATH_KEY))
}

fn reg10(value: u32, mask: u32) -> Match {
    Match::new().with_masked(OxmField::reg(10), value, mask)
}

fn set(field: OxmField, value: impl ofpacket::IntoValue) -> Action {
    Action::SetField(Oxm::new(field, value))
}

const fn copy(n_bits: u16, src: OxmField, src_offset: u16, dst: OxmField, dst_offset: u16) -> Action {
    Action::CopyField { n_bits, src_offset, dst_offset, src, dst }
}

const fn resubmit(table: u8) -> Action {
    Action::Resubmit { port: PortNo::IN_PORT, table: Some(table), ct: false }
}
