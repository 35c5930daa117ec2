//! What a migration means for one chassis: the flows that belong on its
//! bridge now, and what its agent has to report.
//!
//! [`plan`] is a pure function of the object, of what the chassis is seen to
//! be, and of the time. Called again after anything has changed, it converges;
//! it does not matter what was missed in between, or who was restarted.

mod steer;

use std::iter;

use jiff::{SignedDuration, Timestamp};
use limosa_conntrack::Backends;
use ofpacket::{Action, Flow};

use crate::cookie::{Cookie, Purpose};
use crate::diff::diff;
use crate::facts::{Facts, Installed};
use crate::flows::{CannotWrite, Writer};
use crate::layout::VifOutput;
use crate::object::{
    ConditionType, InterfaceStatus, Migration, NodeStatus, Phase, Problem, Role, Step, Truth, Want,
};
use crate::survey::Survey;
use crate::vouch::Vouch;

pub use steer::{HOLD_DEADLINE, MAY_STEER, STEER_DEADLINE, UNDER_WAY};

/// How long flows have to stand before the datapath decides by them, at least.
/// They reach its cache within a revalidation, not all at one instant. Nobody
/// relies on flows that are younger.
pub const REVALIDATION: SignedDuration = SignedDuration::from_millis(20);

/// What a revalidator takes for one decision in the datapath's cache, generously:
/// it sends a packet through all of OVN's tables. The revalidation is longer by that.
const REVALIDATE: SignedDuration = SignedDuration::from_micros(50);

/// And no longer than this.
const MAX_REVALIDATION: SignedDuration = SignedDuration::from_secs(1);

/// How long the others keep their flows for a target that does not say whether
/// the guest runs there, once the migration is rolled back.
pub const ROLL_BACK_DEADLINE: SignedDuration = SignedDuration::from_secs(30);

/// How long after [`Phase::Bound`] the target waits for the source's
/// connections. Ten thousand take about a second, and again if some were lost;
/// without an agent on the source they never come. The guest's traffic runs
/// through the source meanwhile.
pub const CARRY_DEADLINE: SignedDuration = SignedDuration::from_secs(5);

/// What is to be done on one chassis for one migration.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The flows that belong on the bridge, all of them and no others.
    pub flows: Vec<Flow>,
    /// What to report; taken steps are those that the bridge is seen to hold.
    pub status: NodeStatus,
    /// The connections that the target has to be given.
    pub carry: Option<Carry>,
    /// What has to be written to the guest's interface in the local OVSDB.
    pub vouch: Option<Vouch>,
    /// When to plan again although nothing has changed.
    pub wake_at: Option<Timestamp>,
}

/// A pass over the connections that are tracked for the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carry {
    pub pass: Pass,
    /// Which connections: the port's zone on this chassis.
    pub zone: u16,
    /// What the switch does with each packet that is made of them.
    pub actions: Vec<Action>,
    /// Where load balancers have sent some of them, as far as this chassis has said so.
    pub backends: Backends,
}

/// The order is that of the passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// All of them, as soon as the target can take them.
    Ahead,
    /// Those that have come since, right before the target decides by itself.
    Last,
}

/// Plans one migration on the chassis of `facts`. `own` is what this chassis
/// last reported, or found out and could not report yet.
///
/// `None`: the migration does not concern the switches (yet, or any more).
#[must_use]
pub fn plan(
    migration: &Migration,
    own: Option<&NodeStatus>,
    facts: &Facts,
    survey: &Survey,
    now: Timestamp,
) -> Option<Plan> {
    let phase = migration.phase();
    if phase < Phase::Arming || phase.is_final() {
        return None;
    }
    let progress = &migration.status.progress;
    let subject = progress.subject?;
    let role = migration.role_of(&facts.chassis);
    let mut status = own.cloned().unwrap_or_else(|| NodeStatus::new(role));
    status.interface = facts.interfaces.get(&migration.spec.port).cloned();
    status.problem = None;
    let returns = migration.spec.want == Want::Return;
    if phase.wants_flows() && !returns {
        status.steps.remove(&Step::Cleaned);
    }
    let writer = Writer { facts, number: progress.number, role, subject };
    let mut planner = Planner {
        migration,
        writer,
        survey,
        status,
        now,
        incomplete: false,
        carry: None,
        vouch: None,
        wake_at: None,
    };
    planner.note_activation();
    let flows = match phase {
        _ if returns => planner.go_back(role),
        Phase::RollingBack => planner.roll_back(role),
        _ if phase.wants_flows() => planner.flows(role),
        _ => Ok(planner.clean()),
    };
    let flows = flows.unwrap_or_else(|why| {
        planner.status.problem = Some(Problem::new(why.label(), why.to_string()));
        // What stands, stands: a tunnel that is being re-created is no reason
        // to open or close anything.
        survey.of_migration(progress.number).cloned().collect()
    });
    let Planner { status, carry, vouch, wake_at, .. } = planner;
    Some(Plan { flows, status, carry, vouch, wake_at })
}

/// Where load balancers have sent connections of the port, as the source says.
fn backends(source: Option<&NodeStatus>) -> Backends {
    let said = source.and_then(|source| source.connections.as_ref());
    said.into_iter().flat_map(|said| said.backends.iter().copied()).collect()
}

struct Planner<'a> {
    migration: &'a Migration,
    writer: Writer<'a>,
    survey: &'a Survey,
    status: NodeStatus,
    now: Timestamp,
    /// Some flow could not be written yet.
    incomplete: bool,
    carry: Option<Carry>,
    vouch: Option<Vouch>,
    wake_at: Option<Timestamp>,
}

impl Planner<'_> {
    /// The switch has opened the gate by itself, whoever looked on; or the
    /// controller says that the guest must be here.
    fn note_activation(&mut self) {
        let number = self.writer.number;
        let is_learned = |flow: &Flow| is_for(flow, Purpose::DivertIn) || is_for(flow, Purpose::DivertOut);
        if self.survey.of_migration(number).any(is_learned) {
            let at = self.survey.announced_at.get(&number).copied();
            self.status.take(Step::Activated, at.unwrap_or(self.now));
        }
        let told = self.truth(ConditionType::Announced) == Some(Truth::False);
        if told && self.status.role == Role::Target && self.status.interface.is_some() {
            self.status.take(Step::Activated, self.now);
        }
    }

    fn flows(&mut self, role: Role) -> Result<Vec<Flow>, CannotWrite> {
        match role {
            Role::Source => self.source(),
            Role::Target => self.target(),
            Role::Bystander => self.bystander(),
        }
    }

    /// The flows, as far as they can be written. After a wipe OVN's tables may
    /// not be there for seconds; what needs none of them is put back at once,
    /// and carries the guest's traffic meanwhile. But nothing begins so.
    fn write(
        &mut self,
        flows: impl IntoIterator<Item = Result<Flow, CannotWrite>>,
    ) -> Result<Vec<Flow>, CannotWrite> {
        let has_begun = !self.status.steps.is_empty();
        let mut written = Vec::new();
        for flow in flows {
            match flow {
                Err(why @ CannotWrite::MissingTable(_)) if has_begun => {
                    self.incomplete = true;
                    self.status.problem = Some(Problem::new(why.label(), why.to_string()));
                }
                flow => written.push(flow?),
            }
        }
        Ok(written)
    }

    /// The target's gate stays shut until its announcement rule is gone, and the
    /// others wait for that: a guest that announces itself meanwhile loses nothing.
    fn roll_back(&mut self, role: Role) -> Result<Vec<Flow>, CannotWrite> {
        let stands = self.survey.of_migration(self.writer.number);
        if role == Role::Target {
            if self.status.has(Step::Activated) && self.interface().is_some_and(|interface| interface.link_up)
            {
                self.status.steps.remove(&Step::Cleaned);
                return self.target();
            }
            let announces = |flow: &&Flow| is_for(flow, Purpose::Announce);
            if stands.clone().any(|flow| announces(&flow)) {
                return Ok(stands.filter(|flow| !announces(flow)).cloned().collect());
            }
            return Ok(self.clean());
        }
        let began = self.migration.status.progress.steps.get(&Phase::RollingBack);
        let by = began.map(|began| *began + ROLL_BACK_DEADLINE).filter(|by| self.now < *by);
        let target = self.migration.target().filter(|target| target.interface.is_some());
        if by.is_some() && target.is_some_and(|target| !target.has(Step::Cleaned)) {
            self.wake_at = by;
            return self.flows(role);
        }
        Ok(self.clean())
    }

    /// The guest is on the source for good. The source's own flows go at once,
    /// and OVN's carry its traffic as far as they stand. The target shuts its
    /// gate, for as long as something may come out of the interface there; all
    /// look to the source while OVN has no flow for the port, until every
    /// chassis has followed the way back.
    fn go_back(&mut self, role: Role) -> Result<Vec<Flow>, CannotWrite> {
        let from = &self.migration.spec.from;
        let caught_up = self.migration.status.progress.condition(ConditionType::CaughtUp);
        let followed = self.migration.phase() == Phase::RollingBack && caught_up.is_some();
        let interface = self.interface().filter(|_| role == Role::Target);
        let is_over = interface.is_none() && (role == Role::Source || followed);
        let flows = match interface {
            Some(interface) => self.write([
                Ok(self.writer.gate_out(interface.ofport)),
                self.writer.take(from),
                Ok(self.writer.gate_mirrored()),
                self.writer.gate_direct(),
                self.writer.guard(from),
            ])?,
            None if is_over => self.clean(),
            None => self.write([self.writer.guard(from)])?,
        };
        if !is_over {
            self.withdraw(false);
            self.status.steps.remove(&Step::Cleaned);
        }
        self.take_if_settled(&flows, Step::Returned);
        Ok(flows)
    }

    fn clean(&mut self) -> Vec<Flow> {
        self.withdraw(self.migration.phase() == Phase::Released);
        if self.vouch.is_none() {
            self.take_if_settled(&[], Step::Cleaned);
        }
        Vec::new()
    }

    /// Takes back what was said of the target's interface.
    fn withdraw(&mut self, true_now: bool) {
        if self.status.role == Role::Target
            && let Some(interface) = &self.status.interface
        {
            let name = &self.migration.full_name();
            self.vouch = Vouch::take_back(&interface.name, self.installed(), name, true_now);
        }
    }

    fn installed(&self) -> Option<&Installed> {
        self.writer.facts.installed.get(&self.migration.spec.port)
    }

    /// The source mirrors only what the target's gate holds back.
    fn source(&mut self) -> Result<Vec<Flow>, CannotWrite> {
        let to = self.migration.spec.target();
        let interface = self.interface();
        if interface.is_none() && !self.migration.phase().is_past_activation() {
            self.status.problem = Some(self.interface_missing());
        }
        let is_ready = |target: &NodeStatus| target.has(Step::Armed) || target.has(Step::Activated);
        if !self.migration.target().is_some_and(is_ready) {
            return Ok(Vec::new());
        }
        let ofport = interface.map(|interface| interface.ofport);
        let mirror = self.writer.mirror(ofport, to);
        let reverse = ofport.map(|ofport| self.writer.reverse(ofport, to));
        let mut flows = self.write([Some(mirror), reverse].into_iter().flatten())?;
        if ofport.is_some() {
            self.take_if_settled(&flows, Step::Armed);
        }
        self.carry(to);
        let steer = self.steer();
        flows.extend(self.write(steer)?);
        if self.target_takes_direct_packets() {
            flows.extend(self.write([self.writer.guard(to)])?);
            // Whoever knows of both sends to the target by itself: a relay would deliver everything twice,
            // for as long as that chassis takes to follow the release.
            if !self.everyone_knows_of_both() {
                let relays = self.writer.relay(to);
                let relays =
                    relays.map_or_else(|why| vec![Err(why)], |relays| relays.into_iter().map(Ok).collect());
                flows.extend(self.write(relays)?);
            }
        }
        self.follow(&flows);
        Ok(flows)
    }

    /// Whether it is less than that since the port was bound on both sides.
    fn is_before(&self, time: SignedDuration) -> bool {
        let bound = self.migration.status.progress.steps.get(&Phase::Bound);
        bound.is_some_and(|bound| self.now < *bound + time)
    }

    /// Until then at the latest, after the port was bound on both sides, something is waited for.
    fn waits_until(&mut self, time: SignedDuration) -> bool {
        let waits = self.is_before(time);
        if waits && let Some(bound) = self.migration.status.progress.steps.get(&Phase::Bound) {
            self.wake(*bound + time);
        }
        waits
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Whether every chassis has followed the bind, and sends to both.
    fn everyone_knows_of_both(&self) -> bool {
        self.truth(ConditionType::CaughtUp) == Some(Truth::True)
    }

    /// Connections go to a target that has OVN's flows, and with them a zone.
    fn carry(&mut self, to: &str) {
        let Migration { spec, .. } = self.migration;
        let target = self.migration.target();
        let target_can = target.is_some_and(|target| target.has(Step::Bound) && !target.has(Step::Opened));
        if self.status.has(Step::Carried) || !target_can {
            return;
        }
        let pass = if self.migration.phase().has_reached(Phase::Bound) { Pass::Last } else { Pass::Ahead };
        match (self.writer.facts.zones.get(&spec.port), self.writer.commit_there(to)) {
            (Some(&zone), Ok(actions)) => {
                let backends = backends(Some(&self.status));
                self.carry = Some(Carry { pass, zone, actions, backends });
            }
            // Nothing is tracked for the port.
            (None, _) if pass == Pass::Last => self.status.take(Step::Carried, self.now),
            _ => {}
        }
    }

    /// Whether what the source tracked is here, or will not come.
    fn has_connections(&mut self) -> bool {
        let carried = self.migration.source().is_some_and(|source| source.has(Step::Carried));
        carried || !self.waits_until(CARRY_DEADLINE)
    }

    fn target(&mut self) -> Result<Vec<Flow>, CannotWrite> {
        let from = &self.migration.spec.from;
        let Some(interface) = self.interface() else {
            self.status.problem = Some(self.interface_missing());
            return Ok(Vec::new());
        };
        let ofport = interface.ofport;
        if !self.status.has(Step::Activated) {
            let flows = self.write([
                Ok(self.writer.gate_out(ofport)),
                self.writer.take(from),
                Ok(self.writer.gate_mirrored()),
                self.writer.gate_direct(),
                self.writer.announce(ofport, from),
                self.writer.guard(from),
            ])?;
            if self.is_settled(&flows) {
                let name = &self.migration.full_name();
                self.vouch = Vouch::give(&interface.name, self.installed(), name);
            }
            if interface.link_up {
                self.take_if_settled(&flows, Step::Armed);
            } else {
                self.status.problem = Some(self.link_down(&interface));
            }
            return Ok(flows);
        }
        if self.has_ovn_flows(ofport) {
            self.status.take(Step::Bound, self.now);
        } else if self.migration.phase() >= Phase::Activated {
            self.status.problem = Some(self.not_bound(&interface));
        }
        let commit = match self.writer.facts.zones.get(&self.migration.spec.port) {
            Some(&zone) if self.status.has(Step::Bound) => {
                self.writer.commit(from, zone, &backends(self.migration.source()))?
            }
            _ => Vec::new(),
        };
        let may_open = self.migration.phase().has_reached(Phase::Bound)
            && self.has_ovn_flows(ofport)
            && self.has_connections()
            && self.has_everybody();
        if !may_open && !self.status.has(Step::Opened) {
            let flows = [
                self.writer.divert_out(ofport, from),
                self.writer.take(from),
                Ok(self.writer.divert_in(ofport)),
                self.writer.gate_direct(),
                self.writer.guard(from),
            ];
            let steer = self.steer_own(false);
            let flows = self.write(flows.into_iter().chain(commit.into_iter().map(Ok)).chain(steer))?;
            if self.migration.phase() == Phase::Bound {
                self.take_once_followed(&flows, Step::Held, SignedDuration::ZERO);
            }
            return Ok(flows);
        }
        let steer = self.steer_own(true);
        let both = [self.writer.take(from), Ok(self.writer.divert_in(ofport))];
        let overlap = self.write(both.into_iter().chain(steer))?;
        self.take_once_followed(&overlap, Step::Opened, SignedDuration::ZERO);
        if !self.status.has(Step::Opened) || !self.is_followed() {
            return Ok(overlap);
        }
        if !self.every_chassis_caught_up() {
            // Some chassis may still send to the source alone.
            self.take_if_settled(&overlap, Step::Switched);
            return Ok(overlap);
        }
        let neither = [self.writer.take(from), Ok(self.writer.gate_mirrored())];
        let closed = self.write(neither.into_iter().chain(self.steer_own(true)))?;
        self.take_once_followed(&closed, Step::Switched, SignedDuration::ZERO);
        Ok(closed)
    }

    /// How long until the datapath decides by the flows that stand.
    fn revalidation(&self) -> SignedDuration {
        let decisions = i32::try_from(self.writer.facts.cached).unwrap_or(i32::MAX);
        (REVALIDATION + REVALIDATE.saturating_mul(decisions)).min(MAX_REVALIDATION)
    }

    fn bystander(&mut self) -> Result<Vec<Flow>, CannotWrite> {
        let spec = &self.migration.spec;
        let to = if self.target_takes_direct_packets() { spec.target() } else { &spec.from };
        let steer = self.steer();
        let flows = self.write(iter::once(self.writer.guard(to)).chain(steer))?;
        self.follow(&flows);
        Ok(flows)
    }

    /// A step is taken when the bridge is seen to hold its flows.
    fn take_if_settled(&mut self, flows: &[Flow], step: Step) {
        if !self.status.has(step) && self.is_settled(flows) {
            self.status.take(step, self.now);
        }
    }

    /// The same, once the datapath decides by them, and `longer`.
    fn take_once_followed(&mut self, flows: &[Flow], step: Step, longer: SignedDuration) {
        if self.status.has(step) || !self.is_settled(flows) {
            return;
        }
        let Some(changed_at) = self.survey.changed_at.get(&self.writer.number) else { return };
        let at = *changed_at + self.revalidation() + longer;
        if self.now < at { self.wake(at) } else { self.status.take(step, self.now) }
    }

    /// The bridge is seen to hold all of these flows, and no others of this migration.
    fn is_settled(&self, flows: &[Flow]) -> bool {
        !self.incomplete && diff(flows, self.survey.of_migration(self.writer.number)).is_empty()
    }

    fn interface(&self) -> Option<InterfaceStatus> {
        self.status.interface.clone()
    }

    fn target_takes_direct_packets(&self) -> bool {
        self.migration.target().is_some_and(|target| target.has(Step::Opened))
    }

    fn has_ovn_flows(&self, ofport: u32) -> bool {
        let (port_key, datapath_key) = (self.writer.subject.port_key, self.writer.subject.datapath_key);
        self.survey.inputs.contains(&ofport)
            && self.survey.outputs.contains(&VifOutput { datapath_key, port_key, ofport })
    }

    fn every_chassis_caught_up(&self) -> bool {
        self.truth(ConditionType::CaughtUp).is_none_or(|truth| truth == Truth::True)
    }

    fn truth(&self, kind: ConditionType) -> Option<Truth> {
        self.migration.status.progress.truth(kind)
    }

    fn interface_missing(&self) -> Problem {
        let (port, chassis) = (&self.migration.spec.port, &self.writer.facts.chassis);
        Problem::new(
            "InterfaceMissing",
            format!(
                "chassis {chassis} has no interface with external_ids:iface-id={port} on its integration bridge: plug the guest's interface there"
            ),
        )
    }

    fn link_down(&self, interface: &InterfaceStatus) -> Problem {
        let chassis = &self.writer.facts.chassis;
        Problem::new(
            "InterfaceDown",
            format!(
                "the link of {} on chassis {chassis} is down: is the guest's QEMU running there?",
                interface.name
            ),
        )
    }

    fn not_bound(&self, interface: &InterfaceStatus) -> Problem {
        let (port, chassis) = (&self.migration.spec.port, &self.writer.facts.chassis);
        Problem::new(
            "WaitingForOvn",
            format!(
                "OVN has no flows yet for {port} on {} of chassis {chassis}; traffic runs through {}: is ovn-controller running on {chassis}?",
                interface.name, self.migration.spec.from
            ),
        )
    }
}

fn is_for(flow: &Flow, purpose: Purpose) -> bool {
    Cookie::decode(flow.cookie).is_some_and(|cookie| cookie.purpose == purpose)
}
