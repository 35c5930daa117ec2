//! A bridge played by hand: the flows that OVN 23.03 puts there, and what the
//! switch does with ours.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use limosa_protocol::cookie::{Cookie, Purpose};
use limosa_protocol::diff::diff;
use limosa_protocol::facts::{Installed, Tunnel};
use limosa_protocol::node::{Carry, Plan, REVALIDATION, plan};
use limosa_protocol::object::{InterfaceStatus, Migration, NodeStatus, Role, Spec, Subject};
use limosa_protocol::{Facts, Phase, Step, Survey, Vouch};
use ofpacket::{
    Action, Flow, FlowKey, FlowModCommand, Instruction, Learn, LearnDst, LearnSrc, Match, Oxm, OxmField,
    PortNo,
};
use uuid::Uuid;

/// A chassis of the fabric: its name, the tunnels to its peers, the ofport of
/// `vm1` if it has one.
pub(crate) struct Place {
    name: &'static str,
    tunnels: [(&'static str, u32); 2],
    vm1: Option<u32>,
    bound: bool,
}

pub(crate) const A: Place = Place { name: "a", tunnels: [("b", 1), ("x", 2)], vm1: Some(3), bound: true };
pub(crate) const B: Place = Place { name: "b", tunnels: [("a", 1), ("x", 2)], vm1: Some(4), bound: false };
pub(crate) const X: Place = Place { name: "x", tunnels: [("a", 1), ("b", 2)], vm1: None, bound: false };

const DATAPATH_KEY: u32 = 1;
const PORT_KEY: u16 = 4;

/// `vm1` on its way from a to b.
pub(crate) fn migration(phase: Phase) -> Migration {
    let spec = Spec::new("vm1", "a", Some("b".to_owned()));
    let mut migration = Migration::new("m".into(), Uuid::from_u128(1), spec, Timestamp::UNIX_EPOCH);
    migration.status.progress.phase = phase;
    migration.status.progress.number = 0x2a;
    let mac = "02:00:00:00:01:01".parse().unwrap();
    migration.status.progress.subject = Some(Subject { mac, datapath_key: DATAPATH_KEY, port_key: PORT_KEY });
    migration
}

/// The target's status once its gate stands.
pub(crate) fn armed_objects() -> NodeStatus {
    let mut status = NodeStatus::new(Role::Target);
    status.take(Step::Armed, Timestamp::UNIX_EPOCH);
    status
}

pub(crate) struct Bridge {
    pub(crate) facts: Facts,
    flows: BTreeMap<FlowKey, Flow>,
    now: Timestamp,
    hide_log_to_phy: bool,
    announced_at: Option<Timestamp>,
    changed_at: Timestamp,
    /// What the agent has written to the interface's row, in order.
    pub(crate) vouches: Vec<Vouch>,
}

impl Bridge {
    pub(crate) fn of(place: &Place) -> Self {
        let tunnel = |ofport| Tunnel { ofport, kind: "geneve".into() };
        let facts = Facts {
            chassis: place.name.into(),
            encap_ips: vec!["10.99.0.1".parse().unwrap()],
            interfaces: BTreeMap::new(),
            tunnels: place.tunnels.iter().map(|(peer, port)| ((*peer).to_owned(), tunnel(*port))).collect(),
            geneve_index: Some(0),
            ..Facts::default()
        };
        let mut bridge = Self {
            facts,
            flows: BTreeMap::new(),
            now: Timestamp::UNIX_EPOCH,
            hide_log_to_phy: false,
            announced_at: None,
            changed_at: Timestamp::UNIX_EPOCH,
            vouches: Vec::new(),
        };
        bridge.install_ovn(place);
        if let Some(ofport) = place.vm1 {
            bridge.replug(ofport);
        }
        if place.bound {
            bridge.ovn_binds();
        }
        bridge
    }

    /// What ovn-controller 23.03 installs, as far as it matters here.
    fn install_ovn(&mut self, place: &Place) {
        for (_, ofport) in place.tunnels {
            let key = Action::CopyField {
                n_bits: 24,
                src_offset: 0,
                dst_offset: 0,
                src: OxmField::TUNNEL_ID,
                dst: OxmField::METADATA,
            };
            self.add(Flow::new(0, 100, from(ofport), vec![key, resubmit(40)]));
        }
        self.add(Flow::new(0, 0, Match::new(), vec![]));
        self.add(Flow::new(38, 0, Match::new(), vec![resubmit(39)]));
        let ramp = Match::new().with_masked(OxmField::reg(10), 2u32, 3u32);
        self.add(Flow::new(39, 150, ramp, vec![resubmit(40)]));
        self.add(Flow::new(39, 0, Match::new(), vec![resubmit(40)]));
        self.add(Flow::new(40, 0, Match::new(), vec![]));
        self.add(Flow::new(64, 0, Match::new(), vec![resubmit(65)]));
        self.add(Flow::new(65, 0, Match::new(), vec![]));
    }

    /// OVN installs its own flows for `vm1`'s interface here.
    pub(crate) fn ovn_binds(&mut self) {
        let ofport = self.facts.interfaces["vm1"].ofport;
        let metadata = Action::SetField(Oxm::new(OxmField::METADATA, u64::from(DATAPATH_KEY)));
        self.add(Flow::new(0, 100, from(ofport), vec![metadata, resubmit(8)]).with_cookie(0x1021_ee0c));
        let to_port = Match::new()
            .with(OxmField::reg(15), u32::from(PORT_KEY))
            .with(OxmField::METADATA, u64::from(DATAPATH_KEY));
        let output = Action::Output { port: PortNo(ofport), max_len: 0 };
        self.add(Flow::new(65, 100, to_port, vec![output]).with_cookie(0x1021_ee0c));
    }

    /// Plans and carries out until the plan changes nothing any more; the
    /// status goes into the object.
    pub(crate) fn plan_until_settled(&mut self, migration: &mut Migration) {
        let chassis = self.facts.chassis.clone();
        for _ in 0..5 {
            let own = migration.status.nodes.get(&chassis).cloned();
            let plan = self.plan(migration);
            let mods = diff(&plan.flows, self.flows.values());
            let settled = mods.is_empty() && plan.vouch.is_none() && own.as_ref() == Some(&plan.status);
            plan.vouch.into_iter().for_each(|vouch| self.say(vouch));
            migration.status.nodes.insert(chassis.clone(), plan.status);
            if settled {
                return;
            }
            if !mods.is_empty() {
                self.changed_at = self.now;
            }
            for flow_mod in mods {
                match flow_mod.command {
                    FlowModCommand::Add => self.add(flow_mod.flow),
                    _ => drop(self.flows.remove(&flow_mod.flow.key())),
                }
            }
        }
        panic!("the plan does not settle:\n{}", self.dump());
    }

    fn plan(&mut self, migration: &Migration) -> Plan {
        let mut survey = Survey::of(self.flows.values());
        survey.announced_at =
            self.announced_at.map(|at| (migration.status.progress.number, at)).into_iter().collect();
        survey.changed_at = [(migration.status.progress.number, self.changed_at)].into();
        self.facts.layout = survey.layout;
        if self.hide_log_to_phy {
            self.facts.layout.log_to_phy = None;
        }
        let own = migration.status.nodes.get(&self.facts.chassis);
        plan(migration, own, &self.facts, &survey, self.now).expect("a plan")
    }

    /// The connections that have to go to the target now.
    pub(crate) fn carry(&mut self, migration: &Migration) -> Option<Carry> {
        self.plan(migration).carry
    }

    /// The local database takes what the agent has to say.
    fn say(&mut self, vouch: Vouch) {
        let said = self.facts.installed.entry("vm1".into()).or_default();
        match &vouch {
            Vouch::Give { by, .. } => {
                *said = Installed { installed: true, by_ovn: false, vouched_by: Some(by.clone()) };
            }
            Vouch::TakeBack { installed, .. } => {
                said.vouched_by = None;
                said.installed &= !installed;
            }
        }
        self.vouches.push(vouch);
    }

    /// The switch carries out the `learn` actions of the announcement rule.
    pub(crate) fn guest_announces_itself(&mut self) {
        let is_rule =
            |flow: &&Flow| Cookie::decode(flow.cookie).is_some_and(|c| c.purpose == Purpose::Announce);
        let rule = self.flows.values().find(is_rule).expect("no announcement rule").clone();
        let mut fields = BTreeMap::new();
        fields.insert(OxmField::NXM_IN_PORT, u64::from(self.facts.interfaces["vm1"].ofport));
        for action in limosa_protocol::layout::actions(&rule) {
            match action {
                Action::SetField(oxm) => {
                    fields.insert(oxm.field, number(&oxm.value));
                }
                Action::Learn(learn) => self.add(learned(learn, &fields)),
                _ => {}
            }
        }
    }

    pub(crate) fn time_passes(&mut self) {
        self.time_passes_by(REVALIDATION);
    }

    pub(crate) fn time_passes_by(&mut self, time: SignedDuration) {
        self.now += time + SignedDuration::from_millis(1);
    }

    /// What ends by itself has ended.
    pub(crate) fn time_is_over(&mut self) {
        self.flows.retain(|_, flow| flow.hard_timeout == 0);
        self.changed_at = self.now;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn replug(&mut self, ofport: u32) {
        let interface = InterfaceStatus { name: "tap0".into(), ofport, link_up: true };
        self.facts.interfaces.insert("vm1".into(), interface);
    }

    pub(crate) fn unplug(&mut self) {
        self.facts.interfaces.clear();
    }

    pub(crate) fn link_down(&mut self) {
        self.facts.interfaces.get_mut("vm1").unwrap().link_up = false;
    }

    pub(crate) fn hide_log_to_phy(&mut self) {
        self.hide_log_to_phy = true;
    }

    /// The switch has been asked since when the learned flows are there.
    pub(crate) fn announced_at(&mut self, at: Timestamp) {
        self.announced_at = Some(at);
    }

    /// ovn-controller of another release connects: every flow goes, and
    /// OVN's come back in other tables.
    pub(crate) fn ovn_moves_its_tables_by(&mut self, by: u8) {
        let moved = |table: u8| if table == 0 { 0 } else { table + by };
        let foreign = self.foreign();
        self.flows.clear();
        for mut flow in foreign {
            flow.table_id = moved(flow.table_id);
            for instruction in &mut flow.instructions {
                let Instruction::ApplyActions(actions) = instruction else { continue };
                for action in actions {
                    if let Action::Resubmit { table: Some(table), .. } = action {
                        *table = moved(*table);
                    }
                }
            }
            self.add(flow);
        }
    }

    /// ovn-controller connects, and has not yet computed its flows.
    pub(crate) fn wipe_everything(&mut self) {
        self.flows.clear();
    }

    pub(crate) fn ovn_is_back(&mut self, place: &Place) {
        self.install_ovn(place);
    }

    /// ovn-controller connects: every flow goes, and OVN's are back at once.
    pub(crate) fn wipe(&mut self) {
        self.flows.retain(|_, flow| !Cookie::is_ours(flow.cookie));
    }

    pub(crate) fn status<'a>(&self, migration: &'a Migration) -> &'a NodeStatus {
        &migration.status.nodes[&self.facts.chassis]
    }

    pub(crate) fn take_on(&self, migration: &mut Migration, chassis: &str, steps: &[Step]) {
        let role = migration.role_of(chassis);
        let node = migration.status.nodes.entry(chassis.into()).or_insert_with(|| NodeStatus::new(role));
        steps.iter().for_each(|step| node.take(*step, self.now));
    }

    pub(crate) fn ours(&self) -> Vec<Flow> {
        self.flows.values().filter(|flow| Cookie::is_ours(flow.cookie)).cloned().collect()
    }

    pub(crate) fn foreign(&self) -> Vec<Flow> {
        self.flows.values().filter(|flow| !Cookie::is_ours(flow.cookie)).cloned().collect()
    }

    pub(crate) fn dump(&self) -> String {
        self.ours().iter().map(|flow| flow.to_string().trim().to_owned()).collect::<Vec<_>>().join("\n")
    }

    fn add(&mut self, flow: Flow) {
        self.flows.insert(flow.key(), flow);
    }
}

/// The flow that a `learn` makes, given the packet's fields (nicira-ext.h, NXAST_LEARN).
fn learned(learn: &Learn, fields: &BTreeMap<OxmField, u64>) -> Flow {
    let (mut match_, mut actions) = (Match::new(), Vec::new());
    for spec in &learn.specs {
        let value = match &spec.src {
            LearnSrc::Field(field, 0) => fields[field],
            LearnSrc::Immediate(value) => number(value),
            other @ LearnSrc::Field(..) => panic!("{other:?} is not played here"),
        };
        match spec.dst {
            // The switch shows the one in_port field for the other.
            LearnDst::Match(field, 0) if field == OxmField::NXM_IN_PORT => {
                match_ = match_.with(OxmField::IN_PORT, value as u32);
            }
            LearnDst::Match(field, 0) if spec.n_bits <= 32 => match_ = match_.with(field, value as u32),
            LearnDst::Match(field, 0) => match_ = match_.with(field, value),
            LearnDst::Load(field, 0) if spec.n_bits <= 32 => {
                actions.push(Action::SetField(Oxm::new(field, value as u32)));
            }
            LearnDst::Load(field, 0) => actions.push(Action::SetField(Oxm::new(field, value))),
            LearnDst::Output => actions.push(Action::Output { port: PortNo(value as u32), max_len: 0 }),
            ref other => panic!("{other:?} is not played here"),
        }
    }
    Flow::new(learn.table_id, learn.priority, match_, actions).with_cookie(learn.cookie)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn from(ofport: u32) -> Match {
    Match::new().with(OxmField::IN_PORT, ofport)
}

fn resubmit(table: u8) -> Action {
    Action::Resubmit { port: PortNo::IN_PORT, table: Some(table), ct: false }
}
