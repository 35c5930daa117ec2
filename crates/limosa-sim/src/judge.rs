//! What must hold, and what is excused.
//!
//! After every step:
//! - nothing reaches the target's interface before the guest runs there, and
//!   nothing that comes out of it before gets anywhere (one active side);
//! - the gate opens for the guest's announcement alone;
//! - what reaches the guest, or a peer, was judged by the sender's ingress and
//!   by the receiver's egress policy;
//! - what is sent to the guest where it runs, or by it, arrives, once the switch
//!   knows where it runs; nothing arrives twice before the target takes direct
//!   packets, and nothing that the guest sends ever does;
//! - only flows of ours are changed.
//!
//! At rest: everything has come to an end, packets arrive exactly once on every
//! path, no flow of ours is left and the northbound option is what it should be.
//!
//! A lost packet is excused for the reasons in [`Excuse`], and for no other.

use std::collections::BTreeMap;

use limosa_protocol::node::Plan;
use limosa_protocol::object::{ConditionType, Truth};
use limosa_protocol::{Cookie, Migration, Phase, Purpose, Role, Step};

use crate::Time;
use crate::guest::{Place, Story};
use crate::packet::{Packet, field};
use crate::pipeline::{GUEST_KEY, GUEST_MAC, NAMES, SOURCE, TARGET, peer_mac};
use crate::switch::Port;
use crate::world::{Event, World};

/// Packets that nobody waits for: announcements and noise.
pub(crate) const NOBODY: u32 = u32::MAX;
/// How long after a disturbance packets may still be on their way.
const IN_FLIGHT: Time = 5_000;

/// Why the data plane itself, and not the protocol, has lost a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excuse {
    /// The guest was stopped, resumed or announced itself while the packet was
    /// on its way, or had not announced itself yet: nobody can know where it is.
    GuestMoved,
    /// A switch on the path was down, had been wiped, or had a port that had
    /// just got another number; until OVN's flows, and ours, are back, and where
    /// OVN binds a port anew that was plugged anew, until all have followed.
    Disturbed,
    /// ovn-controller had deleted its flow towards the port and not yet added
    /// the new one (or the port was bound to nobody), where the agent was down
    /// and could not have its guard in place, or pointing to the target.
    HoleWithoutAgent,
    /// The same before the migration has flows or after it, when something of
    /// OVN's has been killed, or an interface was plugged anew.
    HoleOutside,
    /// An ovn-controller on the path was dead or stuck for so long that the
    /// migration went on without it.
    OvnMissing,
    /// A person aborted the migration while the hypervisor went on, and the
    /// target's agent, which alone could have told, was down beyond the deadline.
    AbortedUnseen,
}

impl Excuse {
    const fn label(self) -> &'static str {
        match self {
            Self::GuestMoved => "lost: the guest moved",
            Self::Disturbed => "lost: switch down, wiped or renumbered",
            Self::HoleWithoutAgent => "lost: OVN's hole where the agent was down",
            Self::HoleOutside => "lost: OVN's hole before or after the migration",
            Self::OvnMissing => "lost: ovn-controller gone beyond the deadline",
            Self::AbortedUnseen => "lost: aborted by hand, the target's agent down",
        }
    }
}

/// A packet that someone waits for.
#[derive(Debug)]
struct Flight {
    peer: usize,
    to_guest: bool,
    sent: Time,
    epoch: u32,
    /// It has to arrive.
    due: bool,
    at_rest: bool,
    copies: u32,
    arrived: u32,
    /// Where the guest was when it took it the first time.
    taken_on: Option<usize>,
}

/// A switch that the data plane itself has put out of order.
#[derive(Debug, Default, Clone)]
struct Disturbance {
    active: bool,
    until: Time,
    /// Faults that are not over yet.
    blocked: u32,
    /// OVN's own flows are back, in this version of the table.
    restored: Option<u64>,
    /// OVN binds the port anew, and not before this time is that over.
    rebinding: Option<Time>,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    flights: BTreeMap<u32, Flight>,
    next: u32,
    disturbed: Vec<Disturbance>,
    hole_until: Vec<Time>,
    agent_down_at: Vec<Option<Time>>,
    /// Since when the target takes direct and mirrored packets alike.
    overlap_from: Option<Time>,
    at_rest: bool,
}

impl Ledger {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            flights: BTreeMap::new(),
            next: 0,
            disturbed: vec![Disturbance::default(); count],
            hole_until: vec![0; count],
            agent_down_at: vec![None; count],
            overlap_from: None,
            at_rest: false,
        }
    }

    pub(crate) fn agent_was_down(&mut self, agent: usize, now: Time) {
        self.agent_down_at[agent] = Some(now);
    }

    pub(crate) fn hole_closed(&mut self, chassis: usize, now: Time) {
        self.hole_until[chassis] = now;
    }

    pub(crate) fn rebinds(&mut self, chassis: usize, until: Time) {
        self.disturbed[chassis].rebinding = Some(until);
    }

    pub(crate) fn block(&mut self, chassis: usize, blocked: bool) {
        let disturbance = &mut self.disturbed[chassis];
        disturbance.blocked =
            if blocked { disturbance.blocked + 1 } else { disturbance.blocked.saturating_sub(1) };
    }
}

impl World {
    /// The data plane of a chassis is out of order, by no fault of the protocol.
    pub(crate) fn disturb(&mut self, chassis: usize) {
        self.guest.wiped_since |= chassis == TARGET && self.guest.announced_at.is_some();
        let disturbance = &mut self.ledger.disturbed[chassis];
        (disturbance.active, disturbance.restored) = (true, None);
    }

    /// OVN has its flows there.
    pub(crate) fn restored(&mut self, chassis: usize) {
        let version = self.switches[chassis].table.version;
        let hole = self.ovn[chassis].hole;
        let disturbance = &mut self.ledger.disturbed[chassis];
        if disturbance.active && disturbance.restored.is_none() && !hole {
            disturbance.restored = Some(version);
        }
    }

    /// The agent finds everything in order, in this version of the table.
    pub(crate) fn settled(&mut self, chassis: usize, version: u64) {
        let current = self.agent_is_current(chassis);
        let now = self.now;
        let disturbance = &mut self.ledger.disturbed[chassis];
        let restored = disturbance.restored.is_some_and(|restored| restored <= version);
        if disturbance.active && restored && current && disturbance.blocked == 0 {
            (disturbance.active, disturbance.until) = (false, now);
        }
    }

    pub(crate) fn is_disturbed(&self, chassis: usize) -> bool {
        self.ledger.disturbed[chassis].active
    }

    fn was_disturbed(&mut self, chassis: usize, since: Time) -> bool {
        let phase = self.phase();
        let idle = phase < Phase::Arming || phase.is_final();
        let (now, window) = (self.now, self.lag + IN_FLIGHT);
        let disturbance = &mut self.ledger.disturbed[chassis];
        if disturbance.active && idle && disturbance.restored.is_some() && disturbance.blocked == 0 {
            (disturbance.active, disturbance.until) = (false, now);
        }
        if disturbance.rebinding.is_some_and(|until| until <= now)
            && !disturbance.active
            && self.ovn_is_settled(chassis)
        {
            let disturbance = &mut self.ledger.disturbed[chassis];
            (disturbance.rebinding, disturbance.until) = (None, now);
        }
        let disturbance = &self.ledger.disturbed[chassis];
        disturbance.active
            || disturbance.rebinding.is_some()
            || (disturbance.until > 0 && disturbance.until + window >= since)
    }

    /// What the protocol itself, unmutated, makes of the target.
    pub(crate) fn note_plan(&mut self, chassis: usize, object: &Migration, plan: &Plan) {
        if object.role_of(NAMES[chassis]) != Role::Target {
            return;
        }
        if !plan.status.has(Step::Activated) {
            self.forget();
        } else {
            let has = |purpose| {
                plan.flows
                    .iter()
                    .any(|flow| Cookie::decode(flow.cookie).is_some_and(|c| c.purpose == purpose))
            };
            if object.phase().wants_flows() && has(Purpose::Take) && !has(Purpose::GateDirect) {
                self.ledger.overlap_from.get_or_insert(self.now);
            }
        }
    }

    /// The switch was the only one who knew that the guest had announced itself,
    /// and has been wiped since.
    fn forget(&mut self) {
        if self.guest.announced_at.is_some() && self.guest.wiped_since {
            self.coverage.count("announcement forgotten", Some(self.phase()));
            self.note(|| "guest: its announcement is forgotten".to_owned());
            self.guest.announced_at = None;
            self.guest.epoch += 1;
        }
    }

    /// The guest is known to be there, and packets have to reach it.
    fn guest_is_due(&self, since: Time) -> bool {
        match self.guest.place {
            Place::Source => true,
            Place::Nowhere => false,
            Place::Target => self.guest.announced_at.is_some_and(|at| at + self.lag <= since),
        }
    }

    pub(crate) fn send(&mut self, peer: usize, to_guest: bool) {
        let from = match (to_guest, self.guest.place) {
            (true, _) => peer,
            (false, Place::Source) => SOURCE,
            (false, Place::Target) => TARGET,
            (false, Place::Nowhere) => return,
        };
        let port = if to_guest { Port::Peer } else { Port::Guest };
        let Some(ofport) = self.switches[from].ofport(port) else { return };
        let id = self.ledger.next;
        self.ledger.next += 1;
        let (src, dst) = if to_guest { (peer_mac(peer), GUEST_MAC) } else { (GUEST_MAC, peer_mac(peer)) };
        let mut packet = Packet::new(id);
        packet.fields[field::IN_PORT] = u64::from(ofport);
        packet.fields[field::ETH_SRC] = src;
        packet.fields[field::ETH_DST] = dst;
        packet.fields[field::ETH_TYPE] = 0x0800;
        let flight = Flight {
            peer,
            to_guest,
            sent: self.now,
            epoch: self.guest.epoch,
            due: self.guest_is_due(self.now),
            at_rest: self.ledger.at_rest,
            copies: 1,
            arrived: 0,
            taken_on: None,
        };
        self.ledger.flights.insert(id, flight);
        self.coverage.count("packets", None);
        self.note(|| {
            format!("packet {id}: {} {} the guest", NAMES[peer], if to_guest { "to" } else { "from" })
        });
        self.after(0, Event::Arrive(from, packet));
    }

    pub(crate) fn copy_begun(&mut self, id: u32) {
        if let Some(flight) = self.ledger.flights.get_mut(&id) {
            flight.copies += 1;
        }
    }

    pub(crate) fn copy_done(&mut self, id: u32) {
        if let Some(flight) = self.ledger.flights.get_mut(&id) {
            flight.copies -= 1;
            if flight.copies == 0
                && let Some(flight) = self.ledger.flights.remove(&id)
            {
                self.judge(id, &flight);
            }
        }
    }

    pub(crate) fn reaches_guest(&mut self, chassis: usize, packet: Packet) {
        let place = match self.guest.place {
            Place::Source => SOURCE,
            Place::Target => TARGET,
            Place::Nowhere => usize::MAX,
        };
        if chassis != place {
            // A stopped guest's interface swallows it; one that is yet to run must not get any.
            let early = chassis == TARGET && self.guest.story != Story::FailsBack;
            if early {
                self.violate(format!("packet {} reaches the target before the guest runs there", packet.id));
            }
            return;
        }
        let Some(flight) = self.ledger.flights.get_mut(&packet.id) else { return };
        flight.arrived += 1;
        let (peer, again, sent) = (flight.peer, flight.arrived > 1, flight.sent);
        // The copy of what it took on the source just before it stopped may be on its way longer than the pause.
        let moved = *flight.taken_on.get_or_insert(chassis) != chassis;
        self.check_policy(&packet, Self::peer_policy(peer), Self::policy_of(GUEST_KEY));
        let early = self.ledger.overlap_from.is_none_or(|from| from > self.now);
        if again && early && !moved && !self.was_disturbed(TARGET, sent) {
            self.violate(format!("packet {} reaches the guest twice before the switch", packet.id));
        }
        if again {
            self.coverage.count("delivered twice", Some(self.phase()));
        }
    }

    pub(crate) fn reaches_peer(&mut self, chassis: usize, packet: Packet) {
        let from_guest = packet.fields[field::ETH_SRC] == GUEST_MAC;
        let Some(flight) = self.ledger.flights.get_mut(&packet.id) else {
            return self.violate("what is not the guest's gets out of the target's interface".to_owned());
        };
        if !from_guest || flight.peer != chassis {
            return self.violate(format!("packet {} reaches the wrong peer", packet.id));
        }
        flight.arrived += 1;
        let again = flight.arrived > 1;
        self.check_policy(&packet, Self::policy_of(GUEST_KEY), Self::peer_policy(chassis));
        if again {
            self.violate(format!("packet {} from the guest arrives twice", packet.id));
        }
    }

    fn check_policy(&mut self, packet: &Packet, sender: u32, receiver: u32) {
        if packet.judged_in & sender == 0 {
            self.violate(format!("packet {} has skipped its sender's policy", packet.id));
        }
        if packet.judged_out & receiver == 0 {
            self.violate(format!("packet {} has skipped its receiver's policy", packet.id));
        }
    }

    /// Every copy of a packet has come to its end.
    fn judge(&mut self, id: u32, flight: &Flight) {
        if flight.at_rest && flight.arrived > 1 {
            return self.violate(format!("at rest packet {id} arrives {} times", flight.arrived));
        }
        if flight.arrived > 0 {
            return;
        }
        match self.excuse(flight) {
            Some(excuse) => self.coverage.count(excuse.label(), None),
            None => {
                let who = if flight.to_guest { "to" } else { "from" };
                let what = format!("packet {id}, {} {who} the guest, is lost", NAMES[flight.peer]);
                let rest = if flight.at_rest { " at rest" } else { "" };
                self.violate(format!("{what}{rest}"));
            }
        }
    }

    fn excuse(&mut self, flight: &Flight) -> Option<Excuse> {
        if !flight.due || (flight.to_guest && flight.epoch != self.guest.epoch) {
            return Some(Excuse::GuestMoved);
        }
        let path = [flight.peer, SOURCE, TARGET];
        if path.into_iter().any(|chassis| self.was_disturbed(chassis, flight.sent)) {
            return Some(Excuse::Disturbed);
        }
        if flight.to_guest {
            for chassis in path {
                if let Some(excuse) = self.hole(chassis, flight.sent) {
                    return Some(excuse);
                }
            }
        }
        let missed = self.store.object.as_ref().is_some_and(|object| {
            let caught_up = object.status.progress.condition(ConditionType::CaughtUp);
            caught_up.is_some_and(|condition| condition.status == Truth::False)
        });
        let missing =
            |chassis: usize| !self.ovn[chassis].alive || self.now < self.ovn[chassis].stuck_until + 1_000_000;
        if missed && path.into_iter().any(missing) {
            return Some(Excuse::OvnMissing);
        }
        let taken_back = matches!(self.phase(), Phase::RollingBack | Phase::Armed | Phase::Activated);
        let unseen =
            taken_back && self.guest.place == Place::Target && self.ledger.agent_down_at[TARGET].is_some();
        (unseen && self.guest.story == Story::RacedAbort).then_some(Excuse::AbortedUnseen)
    }

    /// A hole of OVN's where no guard could be.
    fn hole(&self, chassis: usize, since: Time) -> Option<Excuse> {
        let open = self.ovn[chassis].hole || self.ovn_has_no_way(chassis);
        let closed_at = self.ledger.hole_until[chassis];
        let lately = closed_at > 0 && closed_at + self.lag + IN_FLIGHT >= since;
        let agent = &self.agents[chassis];
        let down_at = self.ledger.agent_down_at[chassis];
        let down = !agent.alive || down_at.is_some_and(|at| at + (self.lag + 100_000) * self.slow >= since);
        if !(open || lately) || (!down && self.switches[chassis].table.has(Purpose::Guard)) {
            return None;
        }
        let outside = self.phase() < Phase::Armed || self.phase() >= Phase::Released;
        if outside && self.faults.ovn_struck {
            return Some(Excuse::HoleOutside);
        }
        down.then_some(Excuse::HoleWithoutAgent)
    }

    /// Nothing is going to happen any more.
    pub(crate) fn check_rest(&mut self) {
        let phase = self.phase();
        self.note(|| format!("at rest: {phase}"));
        if !phase.is_final() {
            return self.check_unfinished(phase);
        }
        let expected = match phase {
            Phase::Completed => self.guest.pinned.as_ref().map(|_| NAMES[TARGET].to_owned()),
            _ => self.guest.pinned.clone(),
        };
        if self.nb.requested != expected {
            let found = self.nb.requested.clone();
            self.violate(format!("the option is left as {found:?}, not {expected:?}"));
        }
        for (name, switch) in NAMES.iter().zip(&self.switches) {
            if switch.table.has_ours() {
                return self.violate(format!("flows are left on {name}"));
            }
        }
        let place = if phase == Phase::Completed { Place::Target } else { Place::Source };
        if self.guest.place != place {
            if self.excused_by_story() {
                return;
            }
            self.violate(format!("{phase}, but the guest is {:?}", self.guest.place));
        }
        self.ledger.at_rest = true;
        for peer in 0..self.count {
            self.send(peer, true);
            self.send(peer, false);
        }
        self.drain();
    }

    fn check_unfinished(&mut self, phase: Phase) {
        if self.excused_by_story() {
            return;
        }
        let why = self.store.object.as_ref().and_then(|object| {
            let progressing = object.status.progress.condition(ConditionType::Progressing)?;
            Some(format!("{}: {}", progressing.reason, progressing.message))
        });
        self.violate(format!(
            "at rest in {phase} with the guest {:?} ({}): {}",
            self.guest.place,
            if self.guest.announced_at.is_some() { "announced" } else { "not announced" },
            why.unwrap_or_default()
        ));
    }

    /// The guest has gone to the target and no one could know: its announcements
    /// all met a switch out of order, or a migration that someone had aborted.
    fn excused_by_story(&mut self) -> bool {
        if self.guest.place != Place::Target {
            return false;
        }
        if self.guest.announced_at.is_none() && !self.guest.overheard {
            self.coverage.count("rest: no switch heard the guest", Some(self.phase()));
            return true;
        }
        false
    }
}
