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
//! A lost packet is excused for the reasons in [`crate::excuse::Excuse`], and for no other.

use std::collections::BTreeMap;

use limosa_protocol::node::Plan;
use limosa_protocol::object::ConditionType;
use limosa_protocol::{Cookie, Migration, Phase, Purpose, Role, Step};

use crate::Time;
use crate::guest::Place;
use crate::packet::{Packet, field};
use crate::pipeline::{GUEST_KEY, GUEST_MAC, NAMES, SOURCE, TARGET, peer_mac};
use crate::switch::Port;
use crate::world::{Event, World};

/// Packets that nobody waits for: announcements and noise.
pub(crate) const NOBODY: u32 = u32::MAX;
/// How long after a disturbance packets may still be on their way.
pub(crate) const IN_FLIGHT: Time = 5_000;

/// A packet that someone waits for.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) peer: usize,
    pub(crate) to_guest: bool,
    pub(crate) sent: Time,
    pub(crate) epoch: u32,
    /// It has to arrive.
    pub(crate) due: bool,
    pub(crate) at_rest: bool,
    /// It takes one way only.
    steered: bool,
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
    pub(crate) hole_until: Vec<Time>,
    pub(crate) agent_down_at: Vec<Option<Time>>,
    /// Since when the target takes direct and mirrored packets alike.
    overlap_from: Option<Time>,
    pub(crate) at_rest: bool,
    /// Somebody else has moved the port, until OVN has followed what we made of that.
    pub(crate) meddled: bool,
    pub(crate) meddled_until: Time,
    /// Since when each agent has in place what belongs to a guest that is on the
    /// source for good: the target's gate is shut, all others look to the source.
    pub(crate) heeded_from: [Option<Time>; NAMES.len()],
    /// When a port that OVN had on both sides was pinned to the source.
    pub(crate) left_both_at: Option<Time>,
    /// Since when OVN alone carries what each peer has to do with a guest that is
    /// back on the source. What is steered elsewhere follows when its agent knows,
    /// or ends by itself.
    pub(crate) serves_from: [Option<Time>; NAMES.len()],
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
            meddled: false,
            meddled_until: 0,
            heeded_from: [None; NAMES.len()],
            left_both_at: None,
            serves_from: [None; NAMES.len()],
        }
    }

    pub(crate) fn meddle(&mut self) {
        self.meddled = true;
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
        self.ledger.heeded_from[chassis] = None;
        let disturbance = &mut self.ledger.disturbed[chassis];
        (disturbance.active, disturbance.restored) = (true, None);
    }

    /// An announcement that met a decision from before a disturbance has put flows in place that are as old.
    pub(crate) fn disturbed_again(&mut self, chassis: usize) {
        if self.was_disturbed(chassis, self.now) {
            let version = self.switches[chassis].table.version;
            let disturbance = &mut self.ledger.disturbed[chassis];
            disturbance.active = true;
            disturbance.restored.get_or_insert(version);
        }
    }

    /// OVN has its flows there, if it has heard of all ports: it may have been in
    /// the middle of something else when they changed.
    pub(crate) fn restored(&mut self, chassis: usize) {
        let version = self.switches[chassis].table.version;
        let ovn = &self.ovn[chassis];
        let complete = !ovn.hole && ovn.ports == self.switches[chassis].ports;
        let disturbance = &mut self.ledger.disturbed[chassis];
        if disturbance.active && disturbance.restored.is_none() && complete {
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

    /// The same, of an agent that knows that the guest is on the source for good.
    /// What it has not heard of yet it cannot shut: OVN may serve an interface
    /// that was plugged anew, or fill a bridge, before the local database or the
    /// flow monitor has told the agent.
    pub(crate) fn heeds(&mut self, chassis: usize, version: u64) {
        let knows_flows = self.switches[chassis].table.version == version;
        if knows_flows && self.agent_is_current(chassis) {
            self.ledger.heeded_from[chassis].get_or_insert(self.now);
        }
    }

    pub(crate) fn was_disturbed(&mut self, chassis: usize, since: Time) -> bool {
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

    /// The guest is known to be there, and packets between it and this peer
    /// have to arrive.
    fn guest_is_due(&mut self, peer: usize) -> bool {
        let before = self.now.saturating_sub(self.lag);
        match self.guest.place {
            Place::Nowhere => false,
            _ if self.ledger.at_rest => true,
            Place::Source if self.guest.ran_on_target => {
                self.note_serving();
                self.ledger.serves_from[peer].is_some_and(|from| from <= before)
            }
            Place::Source => true,
            Place::Target => self.guest.announced_at.is_some_and(|at| at <= before),
        }
    }

    pub(crate) fn note_serving(&mut self) {
        let (now, serves) = (self.now, self.source_serves());
        for peer in 0..self.count {
            let steers = self.switches[peer].steers_from.is_some();
            let leads = serves && self.ovn_leads_to_source(peer) && !steers;
            let from = &mut self.ledger.serves_from[peer];
            *from = leads.then(|| from.unwrap_or(now));
        }
    }

    /// OVN serves a guest that is back on the source, and nothing of ours is there.
    fn source_serves(&self) -> bool {
        let table = &self.switches[SOURCE].table;
        let purposes = [Purpose::Mirror, Purpose::Reverse, Purpose::Relay, Purpose::Guard];
        self.sb.chassis == Some(SOURCE)
            && self.ovn_serves(SOURCE)
            && !purposes.into_iter().any(|purpose| table.has(purpose))
    }

    /// The orchestrator has said that the guest runs on the target, and both
    /// sides have heard of it.
    pub(crate) fn note_activation(&mut self) {
        if self.guest.place != Place::Target || !self.guest.told || self.guest.announced_at.is_some() {
            return;
        }
        let has = |chassis: usize, purpose| self.switches[chassis].table.has(purpose);
        let open = has(TARGET, Purpose::DivertIn) && has(TARGET, Purpose::DivertOut);
        if open && has(SOURCE, Purpose::Mirror) && has(SOURCE, Purpose::Reverse) {
            self.announced();
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
            due: self.guest_is_due(peer),
            at_rest: self.ledger.at_rest,
            steered: to_guest
                && self.switches[from].steers_from.is_some_and(|since| since + self.lag <= self.now),
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
            // A stopped guest's interface swallows it; one that is yet to run must
            // not get any, nor one that is dead for good.
            if chassis == TARGET && self.target_is_shut() {
                self.violate(format!("packet {} reaches the target, where no guest runs", packet.id));
            }
            return;
        }
        let Some(flight) = self.ledger.flights.get_mut(&packet.id) else { return };
        flight.arrived += 1;
        let (peer, again, sent, steered) = (flight.peer, flight.arrived > 1, flight.sent, flight.steered);
        // The copy of what it took on the source just before it stopped may be on its way longer than the pause.
        let moved = *flight.taken_on.get_or_insert(chassis) != chassis;
        self.check_policy(&packet, Self::peer_policy(peer), Self::policy_of(GUEST_KEY));
        let early = self.ledger.overlap_from.is_none_or(|from| from > self.now);
        let disturbed = self.was_disturbed(TARGET, sent) || self.was_meddled_with(sent);
        if again && early && !moved && !disturbed {
            self.violate(format!("packet {} reaches the guest twice before the switch", packet.id));
        }
        if again && steered {
            let path = [peer, SOURCE, TARGET];
            if !moved && !path.into_iter().any(|chassis| self.was_disturbed(chassis, sent)) {
                self.violate(format!("packet {} reaches the guest twice, by one way", packet.id));
            }
        }
        if again {
            self.coverage.count("delivered twice", Some(self.phase()));
        }
        if steered {
            self.coverage.count("delivered by one way", Some(self.phase()));
        }
    }

    /// Nothing may pass the target's interface: the guest has not run there yet,
    /// or it is on the source for good and the target's agent knows.
    fn target_is_shut(&mut self) -> bool {
        if self.guest.ran_on_target {
            let window = self.lag + IN_FLIGHT;
            return self.ledger.heeded_from[TARGET].is_some_and(|from| from + window < self.now);
        }
        // What was refused is OVN's own matter.
        if self.phase() == Phase::Rejected {
            return false;
        }
        // OVN has let the port go there before there could be a gate; or the
        // source was gone for so long that the guest was taken to run here.
        !self.was_meddled_with(self.now) && !self.is_presumed()
    }

    /// Nobody has announced anything, and the controller has made its guess.
    pub(crate) fn is_presumed(&self) -> bool {
        self.store.object.as_ref().is_some_and(|object| {
            let announced = object.status.progress.condition(ConditionType::Announced);
            announced.is_some_and(|condition| condition.reason == "SourceGone")
        })
    }

    pub(crate) fn reaches_peer(&mut self, chassis: usize, packet: Packet) {
        let from_guest = packet.fields[field::ETH_SRC] == GUEST_MAC;
        let Some(flight) = self.ledger.flights.get_mut(&packet.id) else {
            if self.target_is_shut() {
                self.violate("what is not the guest's gets out of the target's interface".to_owned());
            }
            return;
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
}
