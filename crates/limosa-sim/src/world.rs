//! Virtual time, the queue of what is going to happen, and the parts of the
//! world. Each part's behaviour is in its own file, as methods of [`World`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use jiff::Timestamp;
use limosa_protocol::object::NodeStatus;
use limosa_protocol::{Migration, Phase};
use ofpacket::{Flow, FlowMod};

use crate::agent::Agent;
use crate::controller::{Controller, Write};
use crate::coverage::Coverage;
use crate::faults::{Fault, Faults, Trigger};
use crate::guest::{Guest, Move};
use crate::judge::Ledger;
use crate::mutation::Mutation;
use crate::ovn::{Nb, OvnController, Sb, SbWrite};
use crate::packet::{Packet, Rule, compile};
use crate::pipeline::{NAMES, SOURCE, peer_key};
use crate::store::{Seer, Store};
use crate::switch::{Out, Port, Switch, insert};
use crate::{Options, Outcome, Time, Violation};

/// Something that happens at a point in time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A packet reaches a switch; which of its ports is in its fields.
    Arrive(usize, Packet),
    /// A packet is sent: by a peer to the guest, or by the guest to a peer.
    Send {
        peer: usize,
        to_guest: bool,
    },
    /// A change of the object becomes visible to someone.
    Seen(Seer, u32, u64, Rc<Migration>),
    AgentTurn(usize, u32),
    AgentWake(usize, u32, u32),
    /// A bundle reaches the switch.
    Bundle {
        agent: usize,
        run: u32,
        generation: u32,
        mods: Vec<FlowMod>,
    },
    /// The time of some flow is over.
    FlowsEnd {
        chassis: usize,
        generation: u32,
    },
    /// The switch's reply to it reaches the agent: carried out or not.
    BundleDone {
        agent: usize,
        run: u32,
        done: bool,
    },
    /// A chassis' status reaches the store.
    PutNode {
        agent: usize,
        run: u32,
        status: NodeStatus,
        uid: uuid::Uuid,
    },
    /// The store's reply reaches the agent.
    PutNodeDone {
        agent: usize,
        run: u32,
        done: bool,
    },
    /// The flow monitor has told an agent everything up to here.
    Monitor {
        agent: usize,
        run: u32,
        generation: u32,
        table: Rc<crate::switch::Table>,
    },
    PacketIn {
        agent: usize,
        run: u32,
        generation: u32,
        number: u32,
    },
    /// What the local database says reaches an agent.
    Facts {
        agent: usize,
        run: u32,
    },
    Disconnected {
        agent: usize,
        run: u32,
        generation: u32,
    },
    ControllerTurn(u32),
    ControllerWake(u32, u32),
    /// A message of the controller's reaches the store or the database.
    Write(u32, Write),
    /// The reply reaches the controller.
    Written(u32, Result<Write, ()>),
    NbSeen(Rc<Nb>),
    SbSeen(Option<usize>, u32, Rc<Sb>),
    Northd,
    OvnConnect(usize, u32),
    OvnFill(usize, u32),
    OvnRun(usize, u32),
    OvnAdd(usize, u32),
    SbWrite(SbWrite),
    Hypervisor(Move),
    Fault(Fault),
    Mend(Fault),
}

struct Entry(Time, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(crate) struct World {
    pub(crate) now: Time,
    queue: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) mutation: Option<Mutation>,
    /// How many chassis there are.
    pub(crate) count: usize,
    /// What a revalidation of the datapath takes at most.
    pub(crate) lag: Time,
    /// How slow watchers are in this schedule: a factor.
    pub(crate) slow: Time,
    pub(crate) switches: Vec<Switch>,
    pub(crate) ovn: Vec<OvnController>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) controller: Controller,
    pub(crate) store: Store,
    pub(crate) nb: Rc<Nb>,
    pub(crate) sb: Rc<Sb>,
    pub(crate) northd_up: bool,
    pub(crate) guest: Guest,
    pub(crate) ledger: Ledger,
    pub(crate) faults: Faults,
    pub(crate) coverage: Coverage,
    trace: Option<Vec<String>>,
    violation: Option<Violation>,
    stirred: Time,
}

/// More events than any schedule that comes to an end has.
const MAX_EVENTS: u32 = 300_000;

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(3..=4);
        let lag = [0, 5_000, 15_000, 60_000][rng.usize(0..4)];
        let slow = [1, 1, 1, 20][rng.usize(0..4)];
        let pinned = rng.bool().then(|| NAMES[SOURCE].to_owned());
        let faults = Faults::draw(&mut rng, count, options);
        let guest = Guest::draw(&mut rng, options);
        let (requested, strategy) = match &guest.plot {
            plot if plot.take_over => (Some("a,b".to_owned()), Some("rarp".to_owned())),
            // A port that is pinned already is not stolen.
            plot if plot.early_plug => (None, None),
            _ => (pinned, None),
        };
        let ports = |chassis: usize| {
            let tunnels = (0..count).filter(|peer| *peer != chassis);
            let mut ports: Vec<(u32, Port)> =
                tunnels.map(|peer| (peer as u32 + 1, Port::Tunnel(peer))).collect();
            ports.push((10, Port::Peer));
            if chassis == SOURCE {
                ports.push((20, Port::Guest));
            }
            ports
        };
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            mutation: options.mutation,
            count,
            lag,
            slow,
            switches: (0..count).map(|chassis| Switch::new(ports(chassis), lag)).collect(),
            ovn: (0..count).map(|_| OvnController::default()).collect(),
            agents: (0..count).map(|_| Agent::default()).collect(),
            controller: Controller::default(),
            store: Store::default(),
            nb: Rc::new(Nb { requested, strategy, nb_cfg: 1, hv_cfg: 1, ..Nb::default() }),
            sb: Rc::default(),
            northd_up: true,
            guest,
            ledger: Ledger::new(count),
            faults,
            coverage: Coverage::default(),
            trace: options.trace.then(Vec::new),
            violation: None,
            stirred: 0,
            rng,
        };
        world.begin();
        world
    }

    /// OVN is settled, the guest runs on the source; everyone starts.
    fn begin(&mut self) {
        self.begin_ovn();
        for agent in 0..self.count {
            let at = self.rng.u64(0..30_000);
            self.at(at, Event::Mend(Fault::Agent(agent, 0)));
        }
        let at = self.rng.u64(0..30_000);
        self.at(at, Event::Mend(Fault::Controller(0)));
        let at = self.rng.u64(0..30_000);
        self.at(at, Event::Hypervisor(Move::Create));
        for (trigger, fault) in self.faults.drawn.clone() {
            if let Trigger::At(at) = trigger {
                self.at(at, Event::Fault(fault));
            }
        }
    }

    /// Runs until nothing is going to happen any more, and judges that.
    pub(crate) fn run(mut self) -> Outcome {
        self.drain();
        if self.violation.is_none() {
            self.check_rest();
        }
        let phase = self.store.object.as_ref().map(|object| object.phase());
        if let Some(phase) = phase {
            self.coverage.count("ended", Some(phase));
        }
        let progress = self.store.object.as_ref().map(|object| object.status.progress.clone());
        let progress = progress.unwrap_or_default();
        for (times, what) in [(progress.stolen, "port stolen"), (progress.overwritten, "options set again")] {
            (0..times).for_each(|_| self.coverage.count(what, phase));
        }
        Outcome {
            violation: self.violation,
            coverage: self.coverage,
            trace: self.trace.unwrap_or_default(),
            ended: self.now,
        }
    }

    pub(crate) fn drain(&mut self) {
        let mut left = MAX_EVENTS;
        while self.violation.is_none() {
            let Some(Reverse(Entry(at, _, event))) = self.queue.pop() else { return };
            self.now = at;
            self.handle(event);
            left -= 1;
            if left == 0 {
                self.violate("it does not come to rest".to_owned());
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(chassis, packet) => self.arrive(chassis, packet),
            Event::Send { peer, to_guest } => self.send(peer, to_guest),
            Event::Seen(seer, run, revision, object) => self.seen(seer, run, revision, object),
            Event::AgentTurn(agent, run) => self.agent_turn(agent, run),
            Event::AgentWake(agent, run, timer) => self.agent_wake(agent, run, timer),
            Event::Bundle { agent, run, generation, mods } => self.bundle(agent, run, generation, mods),
            Event::FlowsEnd { chassis, generation } => self.flows_end(chassis, generation),
            Event::BundleDone { agent, run, done } => self.bundle_done(agent, run, done),
            Event::PutNode { agent, run, status, uid } => self.put_node(agent, run, status, uid),
            Event::PutNodeDone { agent, run, done } => self.put_node_done(agent, run, done),
            Event::Monitor { agent, run, generation, table } => self.monitor(agent, run, generation, table),
            Event::PacketIn { agent, run, generation, number } => {
                self.packet_in(agent, run, generation, number);
            }
            Event::Facts { agent, run } => self.facts(agent, run),
            Event::Disconnected { agent, run, generation } => self.disconnected(agent, run, generation),
            Event::ControllerTurn(run) => self.controller_turn(run),
            Event::ControllerWake(run, timer) => self.controller_wake(run, timer),
            Event::Write(run, write) => self.controller_write(run, write),
            Event::Written(run, result) => self.controller_written(run, result),
            Event::NbSeen(nb) => self.nb_seen(nb),
            Event::SbSeen(None, _, sb) => self.sb_seen(sb),
            Event::SbSeen(Some(chassis), run, sb) => self.ovn_sees(chassis, run, sb),
            Event::Northd => self.northd(),
            Event::OvnConnect(chassis, run) => self.ovn_connect(chassis, run),
            Event::OvnFill(chassis, run) => self.ovn_fill(chassis, run),
            Event::OvnRun(chassis, run) => self.ovn_run(chassis, run),
            Event::OvnAdd(chassis, run) => self.ovn_add(chassis, run),
            Event::SbWrite(write) => self.sb_write(write),
            Event::Hypervisor(step) => self.hypervisor(step),
            Event::Fault(fault) => self.strike(fault),
            Event::Mend(fault) => self.mend(fault),
        }
    }

    /// Something happens after this long.
    pub(crate) fn after(&mut self, delay: Time, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Entry(at, self.sequence, event)));
    }

    /// A delay from the range, now and then ten times as long.
    pub(crate) fn some(&mut self, from: Time, to: Time) -> Time {
        let delay = self.rng.u64(from..=to);
        if self.rng.u8(..) < 8 { delay * 10 } else { delay }
    }

    /// The virtual time as the protocol sees it.
    pub(crate) fn timestamp(&self) -> Timestamp {
        Self::timestamp_at(self.now)
    }

    pub(crate) fn timestamp_at(at: Time) -> Timestamp {
        Timestamp::from_microsecond(1_000_000_000_000_000 + at as i64).expect("a time this century")
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10}.{:03} ms  {}", self.now / 1000, self.now % 1000, line()));
        }
    }

    pub(crate) fn violate(&mut self, what: String) {
        self.note(|| format!("VIOLATION: {what}"));
        self.violation.get_or_insert(Violation { what, at: self.now });
    }

    pub(crate) fn phase(&self) -> Phase {
        self.store.object.as_ref().map_or(Phase::Pending, |object| object.phase())
    }

    /// A switch holds other rules from now on.
    pub(crate) fn install(&mut self, chassis: usize, rules: Vec<Rc<Rule>>) {
        self.switches[chassis].install(rules, self.now, &mut self.rng);
        self.tell_monitor(chassis);
        self.note_activation();
        self.note_serving();
        self.stir();
    }

    fn flows_end(&mut self, chassis: usize, generation: u32) {
        let switch = &mut self.switches[chassis];
        if switch.up
            && switch.generation == generation
            && let Some(rules) = switch.without_ended(self.now)
        {
            self.coverage.count("a flow ends by itself", Some(self.phase()));
            self.note(|| format!("switch {}: flows end by themselves", NAMES[chassis]));
            self.install(chassis, rules);
        }
    }

    fn learn(&mut self, chassis: usize, flows: &[Flow]) {
        let mut rules = self.switches[chassis].table.rules.clone();
        let (mut changed, mut overwrites) = (false, false);
        for flow in flows {
            let rule = compile(flow);
            let old = self.switches[chassis].find(&rule.key);
            if old.is_none_or(|old| old.flow != rule.flow) {
                overwrites |= old.is_some();
                insert(&mut rules, rule);
                changed = true;
            }
        }
        if overwrites {
            self.disturbed_again(chassis);
        }
        if changed {
            self.note(|| format!("switch {}: learns {} flows", NAMES[chassis], flows.len()));
            self.install(chassis, rules);
        }
        if !flows.is_empty() {
            self.announced();
        }
    }

    /// Something has changed on the way of packets: let some pass.
    pub(crate) fn stir(&mut self) {
        if self.now < self.stirred + 200 {
            return;
        }
        self.stirred = self.now;
        for peer in 0..self.count {
            for to_guest in [true, false] {
                let delay = match self.rng.u8(0..8) {
                    0..3 => self.rng.u64(0..1_500),
                    3 => self.rng.u64(0..20_000),
                    _ => continue,
                };
                self.after(delay, Event::Send { peer, to_guest });
            }
        }
    }

    pub(crate) fn arrive(&mut self, chassis: usize, mut packet: Packet) {
        packet.hops += 1;
        if packet.hops > 8 {
            return self.violate(format!("packet {} goes round and round", packet.id));
        }
        let switch = &mut self.switches[chassis];
        if !switch.up {
            self.note(|| format!("packet {}: lost, switch {} is down", packet.id, NAMES[chassis]));
            return self.copy_done(packet.id);
        }
        let (out, learned) = switch.forward(packet, self.now);
        let to = |out: &Out| match out {
            Out::Send(Port::Tunnel(peer), _) => format!("->{}", NAMES[*peer]),
            Out::Send(port, _) => format!("->{port:?}"),
            Out::PacketIn { .. } => "->agent".to_owned(),
        };
        self.note(|| {
            let out: Vec<String> = out.iter().map(to).collect();
            format!("packet {} at {}: {}", packet.id, NAMES[chassis], out.join(" "))
        });
        for out in out {
            match out {
                Out::Send(Port::Tunnel(peer), packet) => self.tunnel(chassis, peer, packet),
                Out::Send(Port::Peer, packet) => self.reaches_peer(chassis, packet),
                Out::Send(Port::Guest, packet) => self.reaches_guest(chassis, packet),
                Out::PacketIn { id, userdata } => self.tell_packet_in(chassis, id, userdata),
            }
        }
        self.learn(chassis, &learned);
        self.copy_done(packet.id);
    }

    /// What is kept of a packet from one switch to another is in the header.
    fn tunnel(&mut self, from: usize, to: usize, packet: Packet) {
        use crate::packet::field;
        let Some(in_port) = self.switches[to].ofport(Port::Tunnel(from)) else { return };
        let mut copy = Packet { fields: [0; field::COUNT], ..packet };
        for kept in [
            field::TUN_ID,
            field::OPTION,
            field::ETH_SRC,
            field::ETH_DST,
            field::ETH_TYPE,
            field::ARP_OP,
            field::ARP_SHA,
        ] {
            copy.fields[kept] = packet.fields[kept];
        }
        copy.fields[field::IN_PORT] = u64::from(in_port);
        copy.fields[field::TUN_DST] = u64::from(u32::from_be_bytes(crate::pipeline::encap_ip(to)));
        self.copy_begun(packet.id);
        let delay = self.some(30, 300);
        self.after(delay, Event::Arrive(to, copy));
    }

    /// The bit of a policy in what a packet has passed.
    pub(crate) const fn policy_of(key: u16) -> u32 {
        1 << key
    }

    pub(crate) const fn peer_policy(peer: usize) -> u32 {
        Self::policy_of(peer_key(peer))
    }
}
