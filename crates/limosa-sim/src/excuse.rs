//! Why a lost packet may be excused; for no other reason is one.

use limosa_protocol::lifecycle::REDIRECT_DEADLINE;
use limosa_protocol::object::{ConditionType, Truth, Want};
use limosa_protocol::{Phase, Purpose};

use crate::Time;
use crate::guest::Place;
use crate::judge::{Flight, IN_FLIGHT};
use crate::pipeline::{SOURCE, TARGET};
use crate::story::Story;
use crate::world::World;

/// Why the data plane itself, and not the protocol, has lost a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// The guest was stopped, resumed or announced itself while the packet was
    /// on its way, or had not announced itself yet: nobody can know where it is.
    /// Or it is back on the source, and OVN does not serve it there yet; or a
    /// guess of the controller's takes it to be elsewhere.
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
    /// The same on the way back, before the datapath there had heard of that: a
    /// port that was on the target alone is pinned to the source at once, because
    /// nobody serves the guest until then. One that is on both waits for the
    /// agents, but not beyond the deadline.
    HoleUnheeded,
    /// An ovn-controller was dead or stuck for so long that the migration went on
    /// without it: the source's, the target's, or the sender's once nothing of
    /// ours is left that passes on what it sends to the source.
    OvnMissing,
    /// Somebody else had made OVN bind the port elsewhere (a CNI changed the
    /// options, an interface appeared before the pin), and OVN has not yet
    /// followed what was made of that.
    Meddled,
    /// Nobody has waited for Limosa before the guest was resumed.
    Hasty,
    /// A person aborted the migration while the hypervisor went on, and the
    /// target's agent, which alone could have told, was down beyond the deadline.
    AbortedUnseen,
}

impl Excuse {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::GuestMoved => "lost: the guest moved",
            Self::Disturbed => "lost: switch down, wiped or renumbered",
            Self::HoleWithoutAgent => "lost: OVN's hole where the agent was down",
            Self::HoleOutside => "lost: OVN's hole before or after the migration",
            Self::HoleUnheeded => "lost: OVN's hole before the agent knew of the way back",
            Self::OvnMissing => "lost: ovn-controller gone beyond the deadline",
            Self::Meddled => "lost: somebody else moved the port",
            Self::Hasty => "lost: the hypervisor did not wait",
            Self::AbortedUnseen => "lost: aborted by hand, the target's agent down",
        }
    }
}

impl World {
    pub(crate) fn excuse(&mut self, flight: &Flight) -> Option<Excuse> {
        if !flight.due || (flight.to_guest && flight.epoch != self.guest.epoch) {
            return Some(Excuse::GuestMoved);
        }
        let served = |from: Time| from + self.lag <= flight.sent;
        let back = self.guest.ran_on_target && self.guest.place == Place::Source && !flight.at_rest;
        let taken_to_be_elsewhere = self.guest.place == Place::Source && self.is_presumed();
        if taken_to_be_elsewhere {
            return Some(Excuse::GuestMoved);
        }
        if back && !self.ledger.serves_from[flight.peer].is_some_and(served) {
            return Some(Excuse::GuestMoved);
        }
        if self.guest.plot.story == Story::Hasty && !flight.at_rest {
            return Some(Excuse::Hasty);
        }
        if !flight.at_rest && self.was_meddled_with(flight.sent) {
            return Some(Excuse::Meddled);
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
            object.status.progress.truth(ConditionType::CaughtUp) == Some(Truth::False)
        });
        let missing =
            |chassis: usize| !self.ovn[chassis].alive || self.now < self.ovn[chassis].stuck_until + 1_000_000;
        let no_relay = self.phase() >= Phase::Released || self.was_agent_down(SOURCE, flight.sent);
        if missed && (missing(SOURCE) || missing(TARGET) || (missing(flight.peer) && no_relay)) {
            return Some(Excuse::OvnMissing);
        }
        let unseen = self.was_taken_back(flight.sent)
            && self.guest.place == Place::Target
            && self.ledger.agent_down_at[TARGET].is_some();
        (unseen && self.guest.plot.story == Story::RacedAbort).then_some(Excuse::AbortedUnseen)
    }

    /// Whether the datapaths could still decide by what had been taken back.
    fn was_taken_back(&self, since: Time) -> bool {
        let lately = self.store.object.as_ref().and_then(|object| {
            let since = Self::timestamp_at(since.saturating_sub(self.lag + IN_FLIGHT));
            object.status.progress.steps.get(&Phase::Bound).map(|bound| since <= *bound)
        });
        match self.phase() {
            Phase::RollingBack | Phase::Armed | Phase::Activated => true,
            Phase::Bound => lately == Some(true),
            _ => false,
        }
    }

    /// A hole of OVN's where no guard could be.
    fn hole(&self, chassis: usize, since: Time) -> Option<Excuse> {
        let open = self.ovn[chassis].hole || self.ovn_has_no_way(chassis);
        let closed_at = self.ledger.hole_until[chassis];
        let lately = closed_at > 0 && closed_at + self.lag + IN_FLIGHT >= since;
        let down = self.was_agent_down(chassis, since);
        let unheeded = self.is_unheeded(chassis, since);
        let guarded = !down && !unheeded && self.switches[chassis].table.has(Purpose::Guard);
        if !(open || lately) || guarded {
            return None;
        }
        let outside = self.phase() < Phase::Armed || self.phase() >= Phase::Released;
        if outside && self.faults.ovn_struck {
            return Some(Excuse::HoleOutside);
        }
        if unheeded {
            return Some(Excuse::HoleUnheeded);
        }
        down.then_some(Excuse::HoleWithoutAgent)
    }

    /// The guest is on the source for good, this agent has not yet done what
    /// belongs to that, and nobody could wait for it.
    fn is_unheeded(&self, chassis: usize, since: Time) -> bool {
        let Some(object) = &self.store.object else { return false };
        let heeded = |from: Time| from + self.lag <= since;
        let waited = self.ledger.left_both_at.is_none_or(|at| {
            let began = object.status.progress.steps.get(&Phase::RollingBack);
            began.is_some_and(|began| *began + REDIRECT_DEADLINE <= Self::timestamp_at(at))
        });
        object.spec.want == Want::Return && !self.ledger.heeded_from[chassis].is_some_and(heeded) && waited
    }

    /// Whether an agent was down shortly before that time, or is.
    fn was_agent_down(&self, chassis: usize, since: Time) -> bool {
        let down_at = self.ledger.agent_down_at[chassis];
        let lately = down_at.is_some_and(|at| at + (self.lag + 100_000) * self.slow >= since);
        !self.agents[chassis].alive || lately
    }

    /// Whether OVN was still busy with what somebody else had made of the port.
    pub(crate) fn was_meddled_with(&mut self, since: Time) -> bool {
        let sides_settled = [SOURCE, TARGET].iter().all(|c| self.ovn_is_settled(*c));
        if self.ledger.meddled && self.options_are_ours() && self.ovn_has_followed() && sides_settled {
            (self.ledger.meddled, self.ledger.meddled_until) = (false, self.now);
        }
        let until = self.ledger.meddled_until;
        self.ledger.meddled || (until > 0 && until + self.lag + IN_FLIGHT >= since)
    }

    fn options_are_ours(&self) -> bool {
        self.store.object.as_ref().is_some_and(|object| {
            let barrier = object.status.progress.barrier.as_ref();
            let set = barrier.map(|barrier| barrier.requested_chassis.as_str());
            object.phase().is_final()
                || (set.is_some() && set == self.nb.requested.as_deref() && self.nb.strategy.is_none())
        })
    }
}
