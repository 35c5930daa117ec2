//! The agents, as `limosa agent` does it (`crates/limosa/src/agent`): the same
//! pure functions, called in the same order, with everything that takes time
//! in between.

use std::rc::Rc;

use limosa_protocol::diff::diff;
use limosa_protocol::facts::Tunnel;
use limosa_protocol::flows::CONTROLLER_ID;
use limosa_protocol::node::Plan;
use limosa_protocol::object::{InterfaceStatus, Migration, NodeStatus, Problem, Want};
use limosa_protocol::{Cookie, Facts, Phase, Role, Step, Survey};
use ofpacket::{Flow, FlowMod};
use uuid::Uuid;

use crate::Time;
use crate::pipeline::{NAMES, encap_ip};
use crate::store::View;
use crate::switch::{Port, Table};
use crate::world::{Event, World};

/// The agent's own pauses (`agent::RETRY`, `agent::RESEND`).
const RETRY: Time = 500_000;
const RESEND: Time = 50_000;
/// The logical port of the guest.
pub(crate) const PORT: &str = "vm1";

#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// Counts starts; what belongs to an earlier run is not heard any more.
    pub(crate) run: u32,
    pub(crate) alive: bool,
    /// What the last turn saw of the store, and what the watch has now.
    snapshot: View,
    latest: View,
    own: Option<(Uuid, NodeStatus)>,
    facts: Facts,
    /// Which run of the switch it is connected to.
    connection: Option<u32>,
    /// The flows, once the first state is complete.
    flows: Option<Rc<Table>>,
    flows_told: Option<Rc<Table>>,
    survey: Option<(u64, Rc<Survey>)>,
    inbox: Vec<u32>,
    sent: Option<(Vec<FlowMod>, Time)>,
    turn: Option<Turn>,
    /// A turn is due after the present one.
    again: bool,
    timer: u32,
    /// How often it has waited for something so far.
    waits: u32,
}

/// A turn under way.
#[derive(Debug, Default)]
struct Turn {
    status: Option<(Uuid, NodeStatus)>,
    mods: Vec<FlowMod>,
    wake: Option<Time>,
    retry: bool,
    /// There is no working switch.
    trouble: bool,
}

impl World {
    pub(crate) fn start_agent(&mut self, a: usize) {
        let view = self.store.view();
        let facts = self.facts_of(a);
        let agent = &mut self.agents[a];
        let run = agent.run + 1;
        *agent = Agent { run, alive: true, snapshot: view.clone(), latest: view, facts, ..Agent::default() };
        self.note(|| format!("agent {}: starts", NAMES[a]));
        self.ledger.agent_was_down(a, self.now);
        self.poke(a);
    }

    pub(crate) fn stop_agent(&mut self, a: usize) {
        let phase = self.phase();
        self.coverage.count("agent killed", Some(phase));
        self.note(|| format!("agent {}: killed", NAMES[a]));
        let agent = &mut self.agents[a];
        (agent.alive, agent.run) = (false, agent.run + 1);
        self.ledger.agent_was_down(a, self.now);
    }

    fn lives(&self, a: usize, run: u32) -> bool {
        self.agents[a].alive && self.agents[a].run == run
    }

    /// The agent waits for an answer; true if it is killed at this very point.
    fn agent_waits(&mut self, a: usize) -> bool {
        self.agents[a].waits += 1;
        let killed = self.faults.kills_agent(a, self.agents[a].waits);
        if killed {
            self.coverage.count("agent killed while it waits", None);
            let down = self.down_time();
            self.stop_agent(a);
            self.after(down, Event::Mend(crate::faults::Fault::Agent(a, 0)));
        }
        killed
    }

    /// Something has changed for the agent.
    fn poke(&mut self, a: usize) {
        if self.agents[a].turn.is_some() {
            self.agents[a].again = true;
            return;
        }
        self.agents[a].turn = Some(Turn::default());
        let delay = self.some(10, 200);
        self.after(delay, Event::AgentTurn(a, self.agents[a].run));
    }

    pub(crate) fn agent_sees(&mut self, a: usize, run: u32, revision: u64, object: Rc<Migration>) {
        if self.lives(a, run) && self.agents[a].latest.see(revision, object) {
            self.poke(a);
        }
    }

    pub(crate) fn agent_wake(&mut self, a: usize, run: u32, timer: u32) {
        if self.lives(a, run) && self.agents[a].timer == timer {
            self.poke(a);
        }
    }

    /// The flow monitor, the packet-ins and the end of a connection.
    pub(crate) fn tell_monitor(&mut self, chassis: usize) {
        let table = self.switches[chassis].table.clone();
        let (run, generation) = (self.agents[chassis].run, self.switches[chassis].generation);
        if self.agents[chassis].connection == Some(generation) {
            let delay = self.some(50, 1_000);
            self.after(delay, Event::Monitor { agent: chassis, run, generation, table });
        }
    }

    pub(crate) fn monitor(&mut self, a: usize, run: u32, generation: u32, table: Rc<Table>) {
        let agent = &mut self.agents[a];
        let newer = agent.flows_told.as_ref().is_none_or(|old| old.version < table.version);
        if self.lives(a, run) && self.agents[a].connection == Some(generation) && newer {
            self.agents[a].flows_told = Some(table);
            self.poke(a);
        }
    }

    pub(crate) fn tell_packet_in(&mut self, chassis: usize, id: u16, userdata: u64) {
        assert_eq!(id, CONTROLLER_ID, "a packet-in for ovn-controller, which does not survive it");
        let cookie = Cookie::decode(userdata).expect("a packet-in of ours");
        let (run, generation) = (self.agents[chassis].run, self.switches[chassis].generation);
        // A switch may drop packet-ins when it is busy; a repeated one is nothing new.
        for _ in 0..[0, 1, 1, 1, 2][self.rng.usize(0..5)] {
            let delay = self.some(50, 2_000);
            let number = cookie.migration;
            self.after(delay, Event::PacketIn { agent: chassis, run, generation, number });
        }
    }

    pub(crate) fn packet_in(&mut self, a: usize, run: u32, generation: u32, number: u32) {
        if self.lives(a, run) && self.agents[a].connection == Some(generation) {
            self.agents[a].inbox.push(number);
            self.poke(a);
        }
    }

    pub(crate) fn disconnected(&mut self, a: usize, run: u32, generation: u32) {
        if self.lives(a, run) && self.agents[a].connection == Some(generation) {
            self.disconnect(a);
            self.poke(a);
        }
    }

    fn disconnect(&mut self, a: usize) {
        let agent = &mut self.agents[a];
        (agent.connection, agent.flows, agent.flows_told, agent.survey) = (None, None, None, None);
    }

    pub(crate) fn facts(&mut self, a: usize, run: u32) {
        if self.lives(a, run) {
            self.agents[a].facts = self.facts_of(a);
            self.poke(a);
        }
    }

    /// What the local database shows.
    fn facts_of(&self, chassis: usize) -> Facts {
        let switch = &self.switches[chassis];
        let mut facts = Facts {
            chassis: NAMES[chassis].to_owned(),
            encap_ips: vec![encap_ip(chassis).into()],
            // At 50 us each.
            cached: (self.lag / 50) as u32,
            ..Facts::default()
        };
        for (ofport, port) in &switch.ports {
            match port {
                Port::Tunnel(peer) => {
                    let tunnel = Tunnel { ofport: *ofport, kind: "geneve".to_owned() };
                    facts.tunnels.insert(NAMES[*peer].to_owned(), tunnel);
                }
                Port::Guest => {
                    let link_up = self.guest.link_up(chassis);
                    let interface = InterfaceStatus { name: "tap0".to_owned(), ofport: *ofport, link_up };
                    facts.interfaces.insert(PORT.to_owned(), interface);
                    let said = self.guest.installed.get(chassis).cloned().unwrap_or_default();
                    facts.installed.insert(PORT.to_owned(), said);
                }
                Port::Peer => {}
            }
        }
        facts
    }

    pub(crate) fn agent_turn(&mut self, a: usize, run: u32) {
        if !self.lives(a, run) {
            return;
        }
        let now = self.timestamp();
        let agent = &mut self.agents[a];
        // The packet-ins were heard before the store was looked at again.
        let inbox = std::mem::take(&mut agent.inbox);
        if let Some(object) = agent.snapshot.object.clone() {
            let meant = object.phase().wants_flows() && object.role_of(NAMES[a]) == Role::Target;
            if meant && inbox.contains(&object.status.progress.number) {
                let mut status = agent.own_or_new(&object, a);
                status.take(Step::Activated, now);
                agent.own = Some((object.metadata.uid, status));
            }
        }
        agent.snapshot = agent.latest.clone();
        agent.flows = agent.flows_told.clone();
        let uid = agent.snapshot.object.as_ref().map(|object| object.metadata.uid);
        agent.own.take_if(|(known, _)| Some(*known) != uid);
        if agent.connection.is_none() {
            return self.connect(a);
        }
        let Some(table) = agent.flows.clone() else { return self.end_turn(a) };
        if !self.switches[a].up || self.agents[a].connection != Some(self.switches[a].generation) {
            return self.switch_lost(a);
        }
        self.mend_flows(a, &table);
    }

    fn connect(&mut self, a: usize) {
        if !self.switches[a].up {
            return self.switch_lost(a);
        }
        self.agents[a].connection = Some(self.switches[a].generation);
        self.tell_monitor(a);
        self.end_turn(a);
    }

    /// Says on the object that there is no switch, and tries again.
    fn switch_lost(&mut self, a: usize) {
        self.coverage.count("switch unreachable", None);
        self.disconnect(a);
        let agent = &mut self.agents[a];
        let mut turn = Turn { trouble: true, ..Turn::default() };
        let concerned =
            |object: &&Rc<Migration>| object.phase() >= Phase::Arming && !object.phase().is_final();
        if let Some(object) = agent.snapshot.object.as_ref().filter(concerned) {
            let mut status = agent.own_or_new(object, a);
            status.problem = Some(Problem::new("SwitchUnreachable", "is ovs-vswitchd running?"));
            turn.status = Some((object.metadata.uid, status));
        }
        agent.turn = Some(turn);
        self.put_status(a);
    }

    fn mend_flows(&mut self, a: usize, table: &Rc<Table>) {
        let now = self.timestamp();
        let survey = self.survey(a, table);
        let agent = &mut self.agents[a];
        agent.facts.layout = survey.layout;
        agent.facts.geneve_index = self.switches[a].mapped.then_some(0);
        let mut turn = Turn::default();
        let (mut wanted, mut vouch, mut returns) = (Vec::new(), None, false);
        if let Some(object) = agent.snapshot.object.clone() {
            let own = agent.own(&object, a).cloned();
            let facts = agent.facts.clone();
            if let Some(plan) = self.plan(a, &object, own.as_ref(), &facts, &survey, now) {
                wanted = plan.flows;
                vouch = plan.vouch;
                returns = object.spec.want == Want::Return && plan.status.problem.is_none();
                turn.wake =
                    plan.wake_at.map(|at| at.duration_since(now).as_micros().max(0) as Time + self.now);
                turn.status = Some((object.metadata.uid, plan.status));
            }
        }
        turn.mods = diff(&wanted, survey.ours.iter());
        if turn.mods.is_empty() {
            self.settled(a, table.version);
            if returns {
                self.heeds(a, table.version);
            }
        }
        if let Some(vouch) = vouch {
            self.vouch(a, &vouch);
        }
        let agent = &mut self.agents[a];
        let fresh = |(sent, at): &(Vec<FlowMod>, Time)| *sent == turn.mods && self.now < at + RESEND;
        if !turn.mods.is_empty() && agent.sent.as_ref().is_some_and(fresh) {
            turn.retry = true;
            turn.mods.clear();
        }
        agent.turn = Some(turn);
        self.send_bundle(a);
    }

    fn plan(
        &mut self,
        a: usize,
        object: &Migration,
        own: Option<&NodeStatus>,
        facts: &Facts,
        survey: &Survey,
        now: jiff::Timestamp,
    ) -> Option<Plan> {
        let plan = limosa_protocol::node::plan(object, own, facts, survey, now)?;
        self.note_plan(a, object, &plan);
        match self.mutation {
            None => Some(plan),
            Some(mutation) => mutation.plan(plan, object, own, facts, survey, now),
        }
    }

    /// [`Survey::of`] of the flows; of OVN's own part only when that has changed.
    fn survey(&mut self, a: usize, table: &Table) -> Rc<Survey> {
        if let Some((version, survey)) = &self.agents[a].survey
            && *version == table.version
        {
            return survey.clone();
        }
        let flows: Vec<&Flow> = table.rules.iter().map(|rule| &rule.flow).collect();
        let survey = Survey::of(flows.iter().copied().filter(|flow| Survey::is_of_interest(flow)));
        let before = self.agents[a].survey.as_ref().map(|(_, survey)| &**survey);
        let survey = Rc::new(survey.since(before, self.timestamp()));
        self.agents[a].survey = Some((table.version, survey.clone()));
        survey
    }

    fn send_bundle(&mut self, a: usize) {
        let mods = self.agents[a].turn.as_ref().map(|turn| turn.mods.clone()).unwrap_or_default();
        if mods.is_empty() {
            return self.put_status(a);
        }
        let (run, generation) = (self.agents[a].run, self.switches[a].generation);
        self.note(|| {
            let lines: Vec<String> = mods.iter().map(|m| format!("{:?}{}", m.command, m.flow)).collect();
            format!("agent {}: bundle of {}\n    {}", NAMES[a], mods.len(), lines.join("\n    "))
        });
        let delay = self.some(50, 500);
        self.after(delay, Event::Bundle { agent: a, run, generation, mods });
        self.agent_waits(a);
    }

    /// The bundle at the switch. A process that has died meanwhile may have
    /// got its message out or not.
    pub(crate) fn bundle(&mut self, a: usize, run: u32, generation: u32, mods: Vec<FlowMod>) {
        let orphan = !self.lives(a, run);
        if orphan && self.rng.bool() {
            return self.coverage.count("bundle lost with its agent", None);
        }
        let done = self.switches[a].up && self.switches[a].generation == generation;
        if done {
            for flow_mod in &mods {
                let key = flow_mod.flow.key();
                let foreign = self.switches[a].find(&key).is_some_and(|rule| !rule.ours);
                if foreign || !Cookie::is_ours(flow_mod.flow.cookie) {
                    self.violate(format!("a flow that is not ours is changed:{}", flow_mod.flow));
                }
            }
            let rules = self.switches[a].after(&mods);
            self.install(a, rules);
            for at in self.switches[a].note_ends(&mods, self.now) {
                self.after(at - self.now, Event::FlowsEnd { chassis: a, generation });
            }
        }
        if !orphan {
            let delay = self.some(20, 500);
            self.after(delay, Event::BundleDone { agent: a, run, done });
        }
    }

    pub(crate) fn bundle_done(&mut self, a: usize, run: u32, done: bool) {
        if !self.lives(a, run) {
            return;
        }
        if !done {
            return self.switch_lost(a);
        }
        let Some(turn) = &self.agents[a].turn else { return };
        self.agents[a].sent = Some((turn.mods.clone(), self.now));
        self.put_status(a);
    }

    fn put_status(&mut self, a: usize) {
        let agent = &mut self.agents[a];
        let (run, status) = (agent.run, agent.turn.as_ref().and_then(|turn| turn.status.clone()));
        if let Some((uid, status)) = status {
            agent.own = Some((uid, status.clone()));
            let shown = agent.snapshot.object.as_ref().and_then(|object| object.status.nodes.get(NAMES[a]));
            if shown != Some(&status) {
                self.note(|| {
                    let steps: Vec<_> = status.steps.keys().collect();
                    let why = status.problem.as_ref().map_or("", |problem| &problem.reason);
                    format!("agent {}: reports {steps:?} {why}", NAMES[a])
                });
                let delay = self.some(100, 1_000);
                self.after(delay, Event::PutNode { agent: a, run, status, uid });
                self.agent_waits(a);
                return;
            }
        }
        self.end_turn(a);
    }

    pub(crate) fn put_node(&mut self, a: usize, run: u32, status: NodeStatus, uid: Uuid) {
        let orphan = !self.lives(a, run);
        let (takes, answers) = self.store_answers();
        if takes && !(orphan && self.rng.bool()) {
            self.edit(|object| {
                if object.metadata.uid == uid {
                    object.status.nodes.insert(NAMES[a].to_owned(), status);
                }
            });
        }
        let delay = self.some(50, 500);
        self.after(delay, Event::PutNodeDone { agent: a, run, done: answers });
    }

    pub(crate) fn put_node_done(&mut self, a: usize, run: u32, done: bool) {
        if self.lives(a, run) {
            if let Some(turn) = &mut self.agents[a].turn {
                turn.retry |= !done;
            }
            self.end_turn(a);
        }
    }

    fn end_turn(&mut self, a: usize) {
        let agent = &mut self.agents[a];
        let turn = agent.turn.take().unwrap_or_default();
        let wake = if turn.trouble { Some(self.now + RETRY) } else { turn.wake };
        let wake = [wake, turn.retry.then_some(self.now + RESEND)].into_iter().flatten().min();
        agent.timer += 1;
        let (run, timer) = (agent.run, agent.timer);
        if let Some(at) = wake {
            self.after(at.saturating_sub(self.now), Event::AgentWake(a, run, timer));
        }
        if std::mem::take(&mut self.agents[a].again) {
            self.poke(a);
        }
    }
}

impl Agent {
    fn own<'a>(&'a self, object: &'a Migration, a: usize) -> Option<&'a NodeStatus> {
        let known = self.own.as_ref().filter(|(uid, _)| *uid == object.metadata.uid);
        known.map(|(_, status)| status).or_else(|| object.status.nodes.get(NAMES[a]))
    }

    fn own_or_new(&self, object: &Migration, a: usize) -> NodeStatus {
        self.own(object, a).cloned().unwrap_or_else(|| NodeStatus::new(object.role_of(NAMES[a])))
    }

    /// What it knows of the chassis, for comparison.
    pub(crate) fn knows(&self, facts: &Facts) -> bool {
        self.facts.interfaces == facts.interfaces && self.facts.tunnels == facts.tunnels
    }
}

impl World {
    /// Whether an agent has heard of everything that its chassis is.
    pub(crate) fn agent_is_current(&self, a: usize) -> bool {
        self.agents[a].alive && self.agents[a].knows(&self.facts_of(a))
    }
}
