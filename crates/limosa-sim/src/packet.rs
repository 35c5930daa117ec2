//! Packets, and flows in a form that is quick to match.
//!
//! Exactly those fields and actions are known that OVN's pipeline (as modelled
//! in [`crate::pipeline`]) and Limosa's flows use. Any other one is a panic:
//! the simulation must not judge what it does not understand.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use limosa_protocol::Purpose;
use limosa_protocol::cookie::Cookie;
use limosa_protocol::layout::actions;
use ofpacket::{Action, Flow, FlowKey, Learn, LearnDst, LearnSrc, Match, Oxm, OxmField, PortNo};

/// Where each field is in [`Packet::fields`].
pub(crate) mod field {
    pub(crate) const IN_PORT: usize = 0;
    pub(crate) const TUN_ID: usize = 1;
    /// OVN's Geneve option, `tun_metadata0`.
    pub(crate) const OPTION: usize = 2;
    pub(crate) const TUN_DST: usize = 3;
    pub(crate) const METADATA: usize = 4;
    pub(crate) const ETH_SRC: usize = 5;
    pub(crate) const ETH_DST: usize = 6;
    pub(crate) const ETH_TYPE: usize = 7;
    pub(crate) const ARP_OP: usize = 8;
    pub(crate) const ARP_SHA: usize = 9;
    /// The first of 16 registers.
    pub(crate) const REG: usize = 10;
    pub(crate) const COUNT: usize = REG + 16;
}

/// What is in a packet, and what the simulation alone knows of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) fields: [u64; field::COUNT],
    /// Which packet of the ledger this is a copy of.
    pub(crate) id: u32,
    /// The logical ports (bits, by port key) whose ingress policy has judged it.
    pub(crate) judged_in: u32,
    /// The same for egress.
    pub(crate) judged_out: u32,
    /// How many switches have had it.
    pub(crate) hops: u8,
}

impl Packet {
    pub(crate) const fn new(id: u32) -> Self {
        Self { fields: [0; field::COUNT], id, judged_in: 0, judged_out: 0, hops: 0 }
    }

    /// Tells apart what a datapath caches separate decisions for.
    pub(crate) fn class(&self) -> [u64; 7] {
        let f = &self.fields;
        [
            f[field::IN_PORT],
            f[field::TUN_ID],
            f[field::OPTION],
            f[field::ETH_SRC],
            f[field::ETH_DST],
            f[field::ETH_TYPE],
            f[field::ARP_SHA],
        ]
    }
}

/// Whose policy a packet passes; carried in a `note`, which a switch ignores.
pub(crate) const NOTE_INGRESS: u8 = 1;
pub(crate) const NOTE_EGRESS: u8 = 2;

/// A compiled action.
#[derive(Debug)]
pub(crate) enum Op {
    Set {
        field: usize,
        value: u64,
        mask: u64,
    },
    Copy {
        src: usize,
        src_shift: u16,
        dst: usize,
        dst_shift: u16,
        mask: u64,
    },
    Resubmit(u8),
    Output(u32),
    Clone(Vec<Self>),
    Learn(Learn),
    /// A packet-in with this userdata, to the connection of this id.
    Controller {
        id: u16,
        userdata: u64,
    },
    JudgedIn,
    JudgedOut,
}

/// A flow in a table.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) key: FlowKey,
    pub(crate) flow: Flow,
    matches: Vec<(usize, u64, u64)>,
    pub(crate) ops: Vec<Op>,
    /// It carries our cookie.
    pub(crate) ours: bool,
    pub(crate) purpose: Option<Purpose>,
}

impl Rule {
    pub(crate) fn matches(&self, packet: &Packet) -> bool {
        self.matches.iter().all(|(field, value, mask)| packet.fields[*field] & mask == *value)
    }
}

thread_local! {
    /// The same flows come up in every schedule.
    static RULES: RefCell<HashMap<Flow, Rc<Rule>>> = RefCell::default();
}

/// Compiles a flow.
pub(crate) fn compile(flow: &Flow) -> Rc<Rule> {
    if let Some(rule) = RULES.with_borrow(|rules| rules.get(flow).cloned()) {
        return rule;
    }
    let key = flow.key();
    let matches = key.match_().iter().map(|oxm| (field_of(oxm.field), number(oxm), mask_of(oxm))).collect();
    let purpose = Cookie::decode(flow.cookie).map(|cookie| cookie.purpose);
    let ops = actions(flow).iter().filter_map(op).collect();
    let rule =
        Rc::new(Rule { key, flow: flow.clone(), matches, ops, ours: Cookie::is_ours(flow.cookie), purpose });
    RULES.with_borrow_mut(|rules| rules.insert(flow.clone(), rule.clone()));
    rule
}

fn op(action: &Action) -> Option<Op> {
    Some(match action {
        Action::SetField(oxm) => {
            Op::Set { field: field_of(oxm.field), value: number(oxm), mask: mask_of(oxm) }
        }
        Action::CopyField { n_bits, src_offset, dst_offset, src, dst } => Op::Copy {
            src: field_of(*src),
            src_shift: *src_offset,
            dst: field_of(*dst),
            dst_shift: *dst_offset,
            mask: (1 << n_bits) - 1,
        },
        Action::Resubmit { port: PortNo::IN_PORT, table: Some(table), ct: false } => Op::Resubmit(*table),
        Action::Output { port, .. } => Op::Output(port.0),
        Action::Clone(inner) => Op::Clone(inner.iter().filter_map(op).collect()),
        Action::Learn(learn) => Op::Learn(learn.clone()),
        Action::Controller(to) => Op::Controller {
            id: to.controller_id,
            userdata: to.userdata.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)),
        },
        Action::Note(data) => match data[0] {
            NOTE_INGRESS => Op::JudgedIn,
            NOTE_EGRESS => Op::JudgedOut,
            other => panic!("the simulation knows no note {other}"),
        },
        other => panic!("the simulation knows no action {other:?}"),
    })
}

fn field_of(oxm: OxmField) -> usize {
    let known = [
        (OxmField::IN_PORT, field::IN_PORT),
        (OxmField::NXM_IN_PORT, field::IN_PORT),
        (OxmField::TUNNEL_ID, field::TUN_ID),
        (OxmField::tun_metadata(0), field::OPTION),
        (OxmField::TUN_IPV4_DST, field::TUN_DST),
        (OxmField::METADATA, field::METADATA),
        (OxmField::ETH_SRC, field::ETH_SRC),
        (OxmField::ETH_DST, field::ETH_DST),
        (OxmField::ETH_TYPE, field::ETH_TYPE),
        (OxmField::ARP_OP, field::ARP_OP),
        (OxmField::ARP_SHA, field::ARP_SHA),
    ];
    known
        .into_iter()
        .find(|(name, _)| *name == oxm)
        .map(|(_, at)| at)
        .or_else(|| (0..16).find(|i| OxmField::reg(*i) == oxm).map(|i| field::REG + usize::from(i)))
        .unwrap_or_else(|| panic!("the simulation knows no field {oxm}"))
}

fn number(oxm: &Oxm) -> u64 {
    oxm.to_u128().and_then(|n| u64::try_from(n).ok()).unwrap_or_else(|| panic!("{oxm} is too wide"))
}

fn mask_of(oxm: &Oxm) -> u64 {
    oxm.mask_u128().and_then(|n| u64::try_from(n).ok()).unwrap_or_else(|| panic!("{oxm} is too wide"))
}

/// The flow that a `learn` makes of a packet (nicira-ext.h, NXAST_LEARN).
pub(crate) fn learned(learn: &Learn, packet: &Packet) -> Flow {
    let (mut match_, mut actions) = (Match::new(), Vec::new());
    for spec in &learn.specs {
        let value = match &spec.src {
            LearnSrc::Field(from, 0) => packet.fields[field_of(*from)],
            LearnSrc::Immediate(bytes) => bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)),
            other @ LearnSrc::Field(..) => panic!("the simulation knows no learning from {other:?}"),
        };
        match spec.dst {
            // The switch shows the one in_port field for the other.
            LearnDst::Match(to, 0) if to == OxmField::NXM_IN_PORT => {
                match_ = match_.with(OxmField::IN_PORT, value as u32);
            }
            LearnDst::Match(to, 0) if spec.n_bits <= 32 => match_ = match_.with(to, value as u32),
            LearnDst::Match(to, 0) => match_ = match_.with(to, value),
            LearnDst::Load(to, 0) if spec.n_bits <= 32 => {
                actions.push(Action::SetField(Oxm::new(to, value as u32)));
            }
            LearnDst::Load(to, 0) => actions.push(Action::SetField(Oxm::new(to, value))),
            LearnDst::Output => actions.push(Action::Output { port: PortNo(value as u32), max_len: 0 }),
            ref other => panic!("the simulation knows no learning to {other:?}"),
        }
    }
    Flow::new(learn.table_id, learn.priority, match_, actions).with_cookie(learn.cookie)
}
