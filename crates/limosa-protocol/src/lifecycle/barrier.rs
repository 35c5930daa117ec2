//! Waiting for every chassis to follow a change of the northbound options.

use super::{BARRIER_DEADLINE, Change, Stepper};
use crate::object::{self, ConditionType, Problem, Truth};

/// Rounds of `hv_cfg` at the bind: B has claimed the port; everyone has followed.
pub(super) const BIND_ROUNDS: u8 = 2;
/// Rounds of `hv_cfg` at the release. A lets go without looking whether B has
/// claimed the port already, and overwrites that (`release_lport` of OVN's
/// `controller/binding.c`): A has let go; B has claimed it, be it for the second
/// time; everyone has followed.
pub(super) const RELEASE_ROUNDS: u8 = 3;

/// Whether every chassis has followed the last change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Barrier {
    Waiting,
    Reached,
    Missed,
}

impl Stepper<'_> {
    /// Whether a chassis has followed the last change, whatever the others do.
    pub(super) fn has_followed(&self, chassis: &str) -> bool {
        let nb_cfg = self.progress.barrier.as_ref().map(|barrier| barrier.nb_cfg);
        nb_cfg.is_some_and(|nb_cfg| self.world.nb_cfg.get(chassis).is_some_and(|reached| *reached >= nb_cfg))
    }

    /// Pins the port to a chassis that has it already.
    pub(super) fn pin(&mut self, chassis: &str) -> Barrier {
        self.ensure(chassis.to_owned(), true, 1)
    }

    /// Makes the northbound option `value` and waits for every chassis to know.
    ///
    /// What a chassis does about the option is two steps: the chassis in
    /// question claims the port in the southbound database, and the others
    /// follow that. `hv_cfg` speaks of the first alone, so it is asked for again
    /// ([`BIND_ROUNDS`], [`RELEASE_ROUNDS`]). Without the claim there is no
    /// deadline: packets go where they went before.
    pub(super) fn ensure(&mut self, value: String, claimed: bool, rounds: u8) -> Barrier {
        let Some(port) = &self.world.port else { return Barrier::Reached };
        let barrier = self.progress.barrier.as_ref().filter(|barrier| barrier.requested_chassis == value);
        let barrier = barrier.filter(|_| port.requested_chassis.as_deref() == Some(&value));
        let Some(&object::Barrier { nb_cfg, since, round, .. }) = barrier else {
            self.change = Some(Change::Set { requested_chassis: value, round: 1, since: self.now });
            return Barrier::Waiting;
        };
        if !claimed {
            return Barrier::Waiting;
        }
        let outcome = if self.world.hv_cfg >= nb_cfg {
            Barrier::Reached
        } else if self.wait_until(since + BARRIER_DEADLINE) {
            Barrier::Missed
        } else {
            Barrier::Waiting
        };
        if round >= rounds {
            return outcome;
        }
        // At the bind the claim says what the first round would: B knows.
        if outcome != Barrier::Waiting || rounds == BIND_ROUNDS {
            // The time for the first round began before the claim. After it a
            // chassis that is down is waited for once, not in every round.
            let since = if outcome == Barrier::Missed && round > 1 { since } else { self.now };
            self.change = Some(Change::Set { requested_chassis: value, round: round + 1, since });
        }
        Barrier::Waiting
    }

    pub(super) fn note_barrier(&mut self, barrier: Barrier) {
        let (truth, why) = if barrier == Barrier::Missed {
            let secs = BARRIER_DEADLINE.as_secs();
            let message = format!(
                "a chassis did not follow the change within {secs} s (`ovn-sbctl list Chassis_Private` shows whose nb_cfg is behind); mirrored packets are taken to the end"
            );
            (Truth::False, Problem::new("DeadlinePassed", message))
        } else {
            (Truth::True, Problem::new("CaughtUp", "every chassis has followed the last change"))
        };
        self.progress.set_condition(ConditionType::CaughtUp, truth, why, self.now);
    }
}
