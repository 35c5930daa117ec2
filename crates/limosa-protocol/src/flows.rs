//! The flows themselves: one function per purpose, one purpose per flow.
//!
//! ```text
//!            source A                                   target B
//!   LOG_TO_PHY  K: Mirror ---mirrored packets---> table 0:  Take
//!      |                                          delivery:   GateMirrored, or DivertIn --> V
//!      v                                          table 0:  GateOut, or DivertOut <-------- V
//!      S      table 0: Reverse <--reverse frames--------------'          Announce <-------- V
//!                                                 LOG_TO_PHY K: GateDirect
//! ```
//!
//! A mirrored packet and a reverse frame travel in the ordinary Geneve tunnel
//! with OVN's option, whose bit 31 OVN leaves clear and we set:
//!
//! ```text
//!  31   30           16 15            0
//! +----+---------------+---------------+
//! | 1  | inport        | K             |  mirrored: A's pipeline let it through to K
//! | 1  | K             | 0             |  reverse, B to A: the guest sent it on B
//! | 1  | K             | 0             |  commit, A to B: a connection of K's
//! +----+---------------+---------------+
//! ```

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use limosa_conntrack::{Backends, Burden, COMMITS, CONFIRMS};
use ofpacket::{
    Action, Controller2, Ct, CtZone, Flow, Learn, LearnDst, LearnSpec, LearnSrc, Match, Nat, Oxm, OxmField,
    PortNo,
};

use crate::cookie::{Cookie, Purpose};
use crate::facts::{Facts, Tunnel};
use crate::layout::MissingTable;
use crate::object::{Role, Subject};

/// The controller id of the agent's connection. ovn-controller's is 0, and it
/// does not survive a packet-in of ours.
pub const CONTROLLER_ID: u16 = 0x4c69;

/// How long a [`Purpose::Steer`] stands at most, seconds.
pub const STEERS_FOR: u16 = 5;

/// Above every priority of OVN's in table 0 (1050) and LOG_TO_PHY (1000).
mod priority {
    /// In the delivery table, which is ours alone.
    pub(super) const NOT_DELIVERED: u16 = 1;
    pub(super) const DELIVERED: u16 = 2;
    pub(super) const GATE: u16 = 1100;
    /// Below what it learns: the first announcement is the last that reaches
    /// the agent, however many a guest sends.
    pub(super) const ANNOUNCE: u16 = 1150;
    pub(super) const DIVERT: u16 = 1200;
    pub(super) const REVERSE: u16 = 1200;
    pub(super) const MIRROR: u16 = 1100;
    /// Above OVN's flows for ports (100, 110), below those for packets that must
    /// not leave the chassis (150).
    pub(super) const STEER: u16 = 120;
    /// Below OVN's flows for ports (100), above its catch-all (0).
    pub(super) const UNDER: u16 = 50;
}

/// A table that no release of OVN uses. Here mirrored packets are delivered:
/// `learn` cannot match on some bits of a `tun_metadata` field, so table 0
/// recognises them, and what is learned is a flow on the port alone.
const DELIVERY: u8 = 253;

const MARK: u32 = 1 << 31;
const ETH_TYPE_IPV4: u16 = 0x0800;
const ETH_TYPE_IPV6: u16 = 0x86dd;
const ETH_TYPE_RARP: u16 = 0x8035;
/// ARP_OP of a reverse request, RFC 903.
const RARP_REQUEST: u16 = 3;
/// Enough of the announcement to name its sender; the userdata names the migration.
const ANNOUNCE_MAX_LEN: u16 = 64;

/// Why the flows of a migration cannot be written on this chassis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotWrite {
    #[error(transparent)]
    MissingTable(#[from] MissingTable),
    #[error(
        "the integration bridge has no tunnel to chassis {0} (an interface with external_ids:ovn-chassis-id={0}@...): does the chassis exist, and is its encapsulation reachable from here?"
    )]
    NoTunnel(String),
    #[error(
        "the tunnel to chassis {0} is {1}, which carries no option to mark mirrored packets with: use geneve (external_ids:ovn-encap-type)"
    )]
    NoOption(String, String),
    #[error(
        "the integration bridge maps no tun_metadata field to OVN's Geneve option (class 0x102, type 0x80): is ovn-controller connected to the bridge? (`ovs-ofctl dump-tlv-map`)"
    )]
    NoGeneveIndex,
}

impl CannotWrite {
    /// One word for a [`crate::object::Problem`].
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::MissingTable(_) => "MissingTable",
            Self::NoTunnel(_) => "NoTunnel",
            Self::NoOption(..) => "TunnelWithoutOption",
            Self::NoGeneveIndex => "NoGeneveOption",
        }
    }
}

/// Writes the flows of one migration on one chassis.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    pub facts: &'a Facts,
    /// The migration's number, for the cookies.
    pub number: u32,
    pub role: Role,
    pub subject: Subject,
}

impl<'a> Writer<'a> {
    /// Source, LOG_TO_PHY: what A's pipeline has accepted for K goes to `ofport`
    /// (S, while it is there) and, marked, to `target`.
    pub fn mirror(&self, ofport: Option<u32>, target: &str) -> Result<Flow, CannotWrite> {
        let path = self.path(target)?;
        // A switch sends nothing out of the port that it came in on; what the
        // target itself sent would never come back to it.
        let mut copy = vec![set(OxmField::NXM_IN_PORT, 0u16)];
        copy.extend(path.send_from_inport(MARK | self.port_key()));
        let mut actions: Vec<Action> = ofport.map(output).into_iter().collect();
        actions.push(Action::Clone(copy));
        Ok(self.flow(
            self.facts.layout.log_to_phy()?,
            priority::MIRROR,
            self.for_port(),
            actions,
            Purpose::Mirror,
        ))
    }

    /// Source, table 0: a frame that the guest sent on `target` is treated as
    /// if it had come from `ofport` (S).
    pub fn reverse(&self, ofport: u32, target: &str) -> Result<Flow, CannotWrite> {
        let match_ = self.path(target)?.arrival(self.on_behalf(), u32::MAX);
        let actions = vec![
            // OpenFlow 1.0's port numbers, which are those of the switch.
            set(OxmField::NXM_IN_PORT, ofport as u16),
            Action::Resubmit { port: PortNo::IN_PORT, table: Some(0), ct: false },
        ];
        Ok(self.flow(0, priority::REVERSE, match_, actions, Purpose::Reverse))
    }

    /// Target, table 0: nothing leaves `ofport` (V).
    #[must_use]
    pub fn gate_out(&self, ofport: u32) -> Flow {
        self.flow(0, priority::GATE, from_port(ofport), vec![], Purpose::GateOut)
    }

    /// Target, table 0: mirrored packets are recognised, and go to the delivery table.
    pub fn take(&self, source: &str) -> Result<Flow, CannotWrite> {
        let match_ = self.path(source)?.arrival(MARK | self.port_key(), MARK | 0xffff);
        let actions = vec![
            set(OxmField::reg(15), self.port_key()),
            set(OxmField::METADATA, u64::from(self.subject.datapath_key)),
            Action::Resubmit { port: PortNo::IN_PORT, table: Some(DELIVERY), ct: false },
        ];
        Ok(self.flow(0, priority::DIVERT, match_, actions, Purpose::Take))
    }

    /// Target, delivery: mirrored packets end here.
    #[must_use]
    pub fn gate_mirrored(&self) -> Flow {
        self.flow(DELIVERY, priority::NOT_DELIVERED, self.for_port(), vec![], Purpose::GateMirrored)
    }

    /// Target, LOG_TO_PHY: packets that come without A's pipeline end here.
    pub fn gate_direct(&self) -> Result<Flow, CannotWrite> {
        Ok(self.flow(
            self.facts.layout.log_to_phy()?,
            priority::GATE,
            self.for_port(),
            vec![],
            Purpose::GateDirect,
        ))
    }

    /// Target, table 0: the guest's own announcement on `ofport` (V) opens the
    /// gate within the switch, tells the agent, and goes on to A.
    pub fn announce(&self, ofport: u32, source: &str) -> Result<Flow, CannotWrite> {
        let mac = self.subject.mac.0;
        let path = self.path(source)?;
        let match_ = from_port(ofport)
            .with(OxmField::ETH_SRC, mac)
            .with(OxmField::ETH_TYPE, ETH_TYPE_RARP)
            .with(OxmField::ARP_OP, RARP_REQUEST)
            .with(OxmField::ARP_SHA, mac);
        let mut actions = vec![
            set(OxmField::reg(0), path.tunnel.ofport),
            self.learn_divert_in(),
            self.learn_divert_out(ofport, &path),
            Action::Controller(Controller2 {
                max_len: ANNOUNCE_MAX_LEN,
                controller_id: CONTROLLER_ID,
                userdata: Bytes::copy_from_slice(&self.cookie(Purpose::Announce).to_be_bytes()),
                ..Controller2::default()
            }),
        ];
        actions.extend(path.send(self.on_behalf()));
        Ok(self.flow(0, priority::ANNOUNCE, match_, actions, Purpose::Announce))
    }

    /// Target, table 0: what the guest sends on `ofport` (V) runs A's pipeline.
    pub fn divert_out(&self, ofport: u32, source: &str) -> Result<Flow, CannotWrite> {
        let actions = self.path(source)?.send(self.on_behalf());
        Ok(self.flow(0, priority::DIVERT, from_port(ofport), actions, Purpose::DivertOut))
    }

    /// Target, delivery: mirrored packets go to `ofport` (V).
    #[must_use]
    pub fn divert_in(&self, ofport: u32) -> Flow {
        self.flow(DELIVERY, priority::DELIVERED, self.for_port(), vec![output(ofport)], Purpose::DivertIn)
    }

    /// REMOTE_OUTPUT, below OVN's: while OVN has no flow for K, it is on `peer`.
    pub fn guard(&self, peer: &str) -> Result<Flow, CannotWrite> {
        let actions = self.path(peer)?.send_from_inport(self.port_key());
        Ok(self.flow(
            self.facts.layout.remote_output()?,
            priority::UNDER,
            self.for_port(),
            actions,
            Purpose::Guard,
        ))
    }

    /// REMOTE_OUTPUT, above OVN's: K is on `peer`, and nowhere else. It ends by
    /// itself after [`STEERS_FOR`], or packets would go astray for as long as
    /// nobody is there to take it away.
    pub fn steer(&self, peer: &str) -> Result<Flow, CannotWrite> {
        self.steer_by(self.path(peer)?.send_from_inport(self.port_key()))
    }

    /// The same where it is this chassis that has K: no copy leaves it.
    pub fn steer_here(&self) -> Result<Flow, CannotWrite> {
        let table = self.facts.layout.local_output()?;
        self.steer_by(vec![Action::Resubmit { port: PortNo::IN_PORT, table: Some(table), ct: false }])
    }

    fn steer_by(&self, actions: Vec<Action>) -> Result<Flow, CannotWrite> {
        let table = self.facts.layout.remote_output()?;
        let flow = self.flow(table, priority::STEER, self.for_port(), actions, Purpose::Steer);
        Ok(Flow { hard_timeout: STEERS_FOR, ..flow })
    }

    /// Source, LOCAL_OUTPUT, below OVN's: packets that reach A through a tunnel
    /// after it has let go of K go on to `target`, unmarked, so that B's
    /// pipeline judges them. One flow for each address that tunnels end at.
    pub fn relay(&self, target: &str) -> Result<Vec<Flow>, CannotWrite> {
        let table = self.facts.layout.local_output()?;
        let actions = self.path(target)?.send_from_inport(self.port_key());
        let relay = |ip: &IpAddr| {
            let match_ = match ip {
                IpAddr::V4(ip) => self.for_port().with(OxmField::TUN_IPV4_DST, *ip),
                IpAddr::V6(ip) => self.for_port().with(OxmField::TUN_IPV6_DST, *ip),
            };
            self.flow(table, priority::UNDER, match_, actions.clone(), Purpose::Relay)
        };
        Ok(self.facts.encap_ips.iter().map(relay).collect())
    }

    /// Target, table 0: the packets that [`limosa_conntrack`] makes of a
    /// connection are tracked in K's zone, and go nowhere. Each family of
    /// addresses needs a flow for those that are committed (in their direction,
    /// whatever there is already) and one for the others; so does each backend of
    /// a load balancer.
    pub fn commit(&self, source: &str, zone: u16, backends: &Backends) -> Result<Vec<Flow>, CannotWrite> {
        let path = self.path(source)?;
        let moves = Burden::MOVES.map(|step| Action::CopyField {
            n_bits: step.bits,
            src_offset: step.from_bit,
            dst_offset: step.to_bit,
            src: if step.from_dst { OxmField::ETH_DST } else { OxmField::ETH_SRC },
            dst: if step.to_label { OxmField::CT_LABEL } else { OxmField::CT_MARK },
        });
        let tracked = |flags, actions: &[Action]| {
            let zone = CtZone::Immediate(zone);
            Action::Ct(Ct { flags, zone, table: None, alg: 0, actions: actions.to_vec() })
        };
        let begun = Ct::COMMIT | Ct::FORCE;
        let kinds = [(COMMITS, tracked(begun, &moves)), (CONFIRMS, tracked(0, &[]))];
        let of_family = |family| kinds.clone().map(|(ttl, action)| (family, ttl, action));
        let translated = (0u8..).zip(backends.as_slice()).map(|(place, backend)| {
            let (family, to) = translate_to(*backend);
            let actions = [std::slice::from_ref(&to), &moves].concat();
            (family, Backends::ttl(place), tracked(begun, &actions))
        });
        let all = [ETH_TYPE_IPV4, ETH_TYPE_IPV6].into_iter().flat_map(of_family).chain(translated);
        let flows = all.map(|(family, ttl, action)| {
            let arrival = path.arrival(self.on_behalf(), u32::MAX);
            let match_ = arrival.with(OxmField::ETH_TYPE, family).with(OxmField::IP_TTL, ttl);
            self.flow(0, priority::DIVERT, match_, vec![action], Purpose::Commit)
        });
        Ok(flows.collect())
    }

    /// Source: what is done with a packet for [`Self::commit`].
    pub fn commit_there(&self, target: &str) -> Result<Vec<Action>, CannotWrite> {
        Ok(self.path(target)?.send(self.on_behalf()))
    }

    /// What the announcement puts in place by itself: [`Self::divert_in`].
    fn learn_divert_in(&self) -> Action {
        let specs = vec![
            match_value(OxmField::reg(15), &self.port_key().to_be_bytes()),
            match_value(OxmField::METADATA, &u64::from(self.subject.datapath_key).to_be_bytes()),
            // The announcement comes from V.
            LearnSpec { n_bits: 16, src: LearnSrc::Field(OxmField::NXM_IN_PORT, 0), dst: LearnDst::Output },
        ];
        self.learn(DELIVERY, priority::DELIVERED, specs, Purpose::DivertIn)
    }

    /// What the announcement puts in place by itself: [`Self::divert_out`].
    fn learn_divert_out(&self, ofport: u32, path: &Path<'_>) -> Action {
        // `learn` can output only to what a field holds: reg0, see `announce`.
        let to_tunnel =
            LearnSpec { n_bits: 32, src: LearnSrc::Field(OxmField::reg(0), 0), dst: LearnDst::Output };
        let mut specs = vec![match_value(OxmField::NXM_IN_PORT, &(ofport as u16).to_be_bytes())];
        specs.extend(path.header(self.on_behalf()).into_iter().map(|oxm| LearnSpec {
            n_bits: oxm.value.len() as u16 * 8,
            src: LearnSrc::Immediate(Bytes::copy_from_slice(&oxm.value)),
            dst: LearnDst::Load(oxm.field, 0),
        }));
        specs.push(to_tunnel);
        self.learn(0, priority::DIVERT, specs, Purpose::DivertOut)
    }

    fn learn(&self, table_id: u8, priority: u16, specs: Vec<LearnSpec>, purpose: Purpose) -> Action {
        Action::Learn(Learn { priority, cookie: self.cookie(purpose), table_id, specs, ..Learn::default() })
    }

    fn flow(&self, table: u8, priority: u16, match_: Match, actions: Vec<Action>, purpose: Purpose) -> Flow {
        Flow::new(table, priority, match_, actions).with_cookie(self.cookie(purpose))
    }

    const fn cookie(&self, purpose: Purpose) -> u64 {
        Cookie { migration: self.number, role: self.role, purpose }.encode()
    }

    const fn port_key(&self) -> u32 {
        self.subject.port_key as u32
    }

    /// The option of reverse and commit: no packet of OVN's has no outport.
    const fn on_behalf(&self) -> u32 {
        MARK | self.port_key() << 16
    }

    /// Packets on their way to K, after the pipelines.
    fn for_port(&self) -> Match {
        Match::new()
            .with(OxmField::reg(15), self.port_key())
            .with(OxmField::METADATA, u64::from(self.subject.datapath_key))
    }

    fn path(&self, peer: &str) -> Result<Path<'a>, CannotWrite> {
        let tunnel = self.facts.tunnels.get(peer).ok_or_else(|| CannotWrite::NoTunnel(peer.to_owned()))?;
        if tunnel.kind != "geneve" {
            return Err(CannotWrite::NoOption(peer.to_owned(), tunnel.kind.clone()));
        }
        let option = self.facts.geneve_index.map(OxmField::tun_metadata).ok_or(CannotWrite::NoGeneveIndex)?;
        Ok(Path { tunnel, option, datapath_key: self.subject.datapath_key })
    }
}

/// The way to another chassis, for packets of one datapath.
struct Path<'a> {
    tunnel: &'a Tunnel,
    /// The `tun_metadata` field that holds OVN's Geneve option.
    option: OxmField,
    datapath_key: u32,
}

impl Path<'_> {
    /// Packets of the datapath that come from there and carry the option.
    fn arrival(&self, option: u32, mask: u32) -> Match {
        let match_ = from_port(self.tunnel.ofport).with(OxmField::TUNNEL_ID, u64::from(self.datapath_key));
        if mask == u32::MAX {
            match_.with(self.option, option)
        } else {
            match_.with_masked(self.option, option, mask)
        }
    }

    /// What a packet for the chassis needs set.
    fn header(&self, option: u32) -> Vec<Oxm> {
        vec![Oxm::new(OxmField::TUNNEL_ID, u64::from(self.datapath_key)), Oxm::new(self.option, option)]
    }

    fn send(&self, option: u32) -> Vec<Action> {
        let mut actions: Vec<Action> = self.header(option).into_iter().map(Action::SetField).collect();
        actions.push(output(self.tunnel.ofport));
        actions
    }

    /// The same, with the logical input port where OVN puts it.
    fn send_from_inport(&self, option: u32) -> Vec<Action> {
        let mut actions = self.send(option);
        let inport = Action::CopyField {
            n_bits: 15,
            src_offset: 0,
            dst_offset: 16,
            src: OxmField::reg(14),
            dst: self.option,
        };
        actions.insert(actions.len() - 1, inport);
        actions
    }
}

/// The family of addresses, and what makes this destination of another.
fn translate_to(backend: SocketAddr) -> (u16, Action) {
    let nat = Nat { flags: Nat::DST, ports: (Some(backend.port()), None), ..Nat::default() };
    let (family, nat) = match backend.ip() {
        IpAddr::V4(address) => (ETH_TYPE_IPV4, Nat { ipv4: (Some(address), None), ..nat }),
        IpAddr::V6(address) => (ETH_TYPE_IPV6, Nat { ipv6: (Some(address), None), ..nat }),
    };
    (family, Action::Nat(nat))
}

fn from_port(ofport: u32) -> Match {
    Match::new().with(OxmField::IN_PORT, ofport)
}

fn output(ofport: u32) -> Action {
    Action::Output { port: PortNo(ofport), max_len: 0 }
}

fn set(field: OxmField, value: impl ofpacket::IntoValue) -> Action {
    Action::SetField(Oxm::new(field, value))
}

fn match_value(field: OxmField, value: &[u8]) -> LearnSpec {
    let n_bits = value.len() as u16 * 8;
    LearnSpec {
        n_bits,
        src: LearnSrc::Immediate(Bytes::copy_from_slice(value)),
        dst: LearnDst::Match(field, 0),
    }
}
