//! A switch: its table, the datapath's cached decisions, and what becomes of a
//! packet.

use std::rc::Rc;

use limosa_protocol::Purpose;
use ofpacket::{Flow, FlowKey, FlowMod, FlowModCommand};

use crate::Time;
use crate::packet::{Op, Packet, Rule, compile, field, learned};

/// The flows of a bridge at one instant.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) version: u64,
    /// By table, the highest priority first.
    pub(crate) rules: Vec<Rc<Rule>>,
}

impl Table {
    fn lookup(&self, table: u8, packet: &Packet) -> Option<&Rc<Rule>> {
        let start = self.rules.partition_point(|rule| rule.flow.table_id < table);
        self.rules[start..]
            .iter()
            .take_while(|rule| rule.flow.table_id == table)
            .find(|rule| rule.matches(packet))
    }

    pub(crate) fn has(&self, purpose: Purpose) -> bool {
        self.rules.iter().any(|rule| rule.purpose == Some(purpose))
    }

    pub(crate) fn has_ours(&self) -> bool {
        self.rules.iter().any(|rule| rule.ours)
    }
}

/// What a port leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// The tunnel to another chassis.
    Tunnel(usize),
    /// The peer that lives on this chassis.
    Peer,
    /// The guest's interface.
    Guest,
}

/// What a switch does with a packet.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are packets")]
pub(crate) enum Out {
    Send(Port, Packet),
    PacketIn { id: u16, userdata: u64 },
}

/// A cached decision of the datapath: packets of the class are still treated
/// by an older table until a revalidator has looked at it.
#[derive(Debug)]
struct Cached {
    class: [u64; 7],
    table: Rc<Table>,
    refresh_at: Time,
}

#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) up: bool,
    /// Which run of ovs-vswitchd this is.
    pub(crate) generation: u32,
    /// OVN's Geneve option is mapped.
    pub(crate) mapped: bool,
    pub(crate) ports: Vec<(u32, Port)>,
    pub(crate) table: Rc<Table>,
    cache: Vec<Cached>,
    /// When flows end by themselves.
    ends: Vec<(FlowKey, Time)>,
    /// Since when packets for the guest go one way only.
    pub(crate) steers_from: Option<Time>,
    /// A revalidator comes by at the latest after this.
    lag: Time,
}

/// A resubmission deeper than this is a loop.
const MAX_DEPTH: u8 = 32;

impl Switch {
    pub(crate) fn new(ports: Vec<(u32, Port)>, lag: Time) -> Self {
        let (table, cache, ends) = (Rc::default(), Vec::new(), Vec::new());
        Self { up: true, generation: 0, mapped: false, ports, table, cache, ends, steers_from: None, lag }
    }

    pub(crate) fn ofport(&self, port: Port) -> Option<u32> {
        self.ports.iter().find(|(_, known)| *known == port).map(|(ofport, _)| *ofport)
    }

    /// Another table from now on; the cached decisions follow one by one.
    pub(crate) fn install(&mut self, rules: Vec<Rc<Rule>>, now: Time, rng: &mut fastrand::Rng) {
        for cached in &mut self.cache {
            if cached.refresh_at <= now || cached.refresh_at == Time::MAX {
                if cached.refresh_at <= now {
                    cached.table = self.table.clone();
                }
                cached.refresh_at = now + rng.u64(0..=self.lag);
            }
        }
        self.table = Rc::new(Table { version: self.table.version + 1, rules });
        self.steers_from = self.table.has(Purpose::Steer).then(|| self.steers_from.unwrap_or(now));
    }

    /// Flows that were added just now end by themselves, at these times.
    pub(crate) fn note_ends(&mut self, mods: &[FlowMod], now: Time) -> Vec<Time> {
        let ends: Vec<(FlowKey, Time)> = mods
            .iter()
            .filter(|flow_mod| flow_mod.command == FlowModCommand::Add && flow_mod.flow.hard_timeout > 0)
            .map(|flow_mod| (flow_mod.flow.key(), now + Time::from(flow_mod.flow.hard_timeout) * 1_000_000))
            .collect();
        self.ends.retain(|(key, _)| !ends.iter().any(|(new, _)| new == key));
        self.ends.extend(ends.iter().cloned());
        ends.into_iter().map(|(_, at)| at).collect()
    }

    /// The rules without those whose time is over; none if there are no such.
    pub(crate) fn without_ended(&mut self, now: Time) -> Option<Vec<Rc<Rule>>> {
        let over: Vec<_> = self.ends.extract_if(.., |(_, at)| *at <= now).collect();
        let ended =
            |rule: &Rc<Rule>| rule.flow.hard_timeout > 0 && over.iter().any(|(key, _)| *key == rule.key);
        let rules = &self.table.rules;
        rules.iter().any(ended).then(|| rules.iter().filter(|rule| !ended(rule)).cloned().collect())
    }

    /// ovs-vswitchd starts anew, with an empty table.
    pub(crate) fn restart(&mut self) {
        self.up = true;
        self.generation += 1;
        self.mapped = false;
        self.cache.clear();
        self.ends.clear();
        self.steers_from = None;
        self.table = Rc::new(Table { version: self.table.version + 1, rules: Vec::new() });
    }

    /// The rules after an atomic bundle.
    pub(crate) fn after(&self, mods: &[FlowMod]) -> Vec<Rc<Rule>> {
        let mut rules = self.table.rules.clone();
        for flow_mod in mods {
            let rule = compile(&flow_mod.flow);
            match flow_mod.command {
                FlowModCommand::Add => insert(&mut rules, rule),
                FlowModCommand::DeleteStrict => {
                    rules.retain(|old| old.key != rule.key || old.flow.cookie != rule.flow.cookie);
                }
                other => panic!("the simulation knows no {other:?}"),
            }
        }
        rules
    }

    pub(crate) fn find(&self, key: &FlowKey) -> Option<&Rc<Rule>> {
        self.table.rules.iter().find(|rule| rule.key == *key)
    }

    /// Treats a packet that came in on a port. Flows that it made the switch
    /// learn are returned; they are the caller's to install.
    pub(crate) fn forward(&mut self, packet: Packet, now: Time) -> (Vec<Out>, Vec<Flow>) {
        let table = self.decision_for(&packet, now);
        let mut run = Run { table: &table, ports: &self.ports, out: Vec::new(), learned: Vec::new() };
        let mut packet = packet;
        run.table(&mut packet, 0, 0);
        (run.out, run.learned)
    }

    fn decision_for(&mut self, packet: &Packet, now: Time) -> Rc<Table> {
        if self.lag == 0 {
            return self.table.clone();
        }
        let class = packet.class();
        match self.cache.iter_mut().find(|cached| cached.class == class) {
            Some(cached) => {
                if cached.refresh_at <= now {
                    cached.table = self.table.clone();
                    cached.refresh_at = Time::MAX;
                }
                cached.table.clone()
            }
            None => {
                let table = self.table.clone();
                self.cache.push(Cached { class, table: table.clone(), refresh_at: Time::MAX });
                table
            }
        }
    }
}

/// Puts a rule where it belongs, in place of one with the same key.
pub(crate) fn insert(rules: &mut Vec<Rc<Rule>>, rule: Rc<Rule>) {
    if let Some(old) = rules.iter_mut().find(|old| old.key == rule.key) {
        *old = rule;
        return;
    }
    let order = |rule: &Rule| (rule.flow.table_id, u16::MAX - rule.flow.priority);
    let at = rules.partition_point(|old| order(old) <= order(&rule));
    rules.insert(at, rule);
}

struct Run<'a> {
    table: &'a Table,
    ports: &'a [(u32, Port)],
    out: Vec<Out>,
    learned: Vec<Flow>,
}

impl<'a> Run<'a> {
    fn table(&mut self, packet: &mut Packet, table: u8, depth: u8) {
        assert!(depth < MAX_DEPTH, "a packet is resubmitted again and again");
        let all: &'a Table = self.table;
        if let Some(rule) = all.lookup(table, packet) {
            self.ops(packet, &rule.ops, depth);
        }
    }

    fn ops(&mut self, packet: &mut Packet, ops: &'a [Op], depth: u8) {
        for op in ops {
            match op {
                Op::Set { field, value, mask } => {
                    packet.fields[*field] = packet.fields[*field] & !mask | value & mask;
                }
                Op::Copy { src, src_shift, dst, dst_shift, mask } => {
                    let bits = packet.fields[*src] >> src_shift & mask;
                    packet.fields[*dst] = packet.fields[*dst] & !(mask << dst_shift) | bits << dst_shift;
                }
                Op::Resubmit(table) => self.table(packet, *table, depth + 1),
                Op::Output(port) => self.output(packet, *port),
                Op::Clone(ops) => self.ops(&mut packet.clone(), ops, depth + 1),
                Op::Learn(learn) => self.learned.push(learned(learn, packet)),
                Op::Controller { id, userdata } => {
                    self.out.push(Out::PacketIn { id: *id, userdata: *userdata });
                }
                Op::JudgedIn => packet.judged_in |= 1 << packet.fields[field::REG + 14],
                Op::JudgedOut => packet.judged_out |= 1 << packet.fields[field::REG + 15],
            }
        }
    }

    /// Nothing goes out of the port that it came in on.
    fn output(&mut self, packet: &Packet, ofport: u32) {
        if packet.fields[field::IN_PORT] == u64::from(ofport) {
            return;
        }
        if let Some((_, port)) = self.ports.iter().find(|(known, _)| *known == ofport) {
            self.out.push(Out::Send(*port, *packet));
        }
    }
}
