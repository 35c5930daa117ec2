//! The northbound options: setting them, waiting for every chassis to follow,
//! and making them what they were.

use super::{BARRIER_DEADLINE, Change, OVERWRITE_PAUSE, Stepper};
use crate::object::{self, ConditionType, Problem, Restore, Truth};

/// Rounds of `hv_cfg` at the bind: B has claimed the port; everyone has followed.
pub(super) const BIND_ROUNDS: u8 = 2;
/// Rounds of `hv_cfg` at the release. A lets go without looking whether B has
/// claimed the port already, and overwrites that (`release_lport` of OVN's
/// `controller/binding.c`): A has let go; B has claimed it, be it for the second
/// time; everyone has followed. The same on the way back, with A and B changed.
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
        nb_cfg.is_some_and(|nb_cfg| {
            self.world.cluster.nb_cfg.get(chassis).is_some_and(|reached| *reached >= nb_cfg)
        })
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
        let stands = port.requested_chassis.as_deref() == Some(&value) && port.activation_strategy.is_none();
        let noted = self.progress.barrier.clone().filter(|barrier| barrier.requested_chassis == value);
        let Some(object::Barrier { nb_cfg, since, round, .. }) = noted.clone().filter(|_| stands) else {
            // Whoever changes it may not give up either.
            if let Some(object::Barrier { since, .. }) = noted
                && !self.wait_until(since + OVERWRITE_PAUSE)
            {
                return Barrier::Waiting;
            }
            let overwrites = noted.map(|_| self.overwritten());
            let (round, since) = (1, self.now);
            self.change = Some(Change::Set { requested_chassis: value, round, since, overwrites });
            return Barrier::Waiting;
        };
        if !claimed {
            return Barrier::Waiting;
        }
        let outcome = if self.world.cluster.hv_cfg >= nb_cfg {
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
            let (round, overwrites) = (round + 1, None);
            self.change = Some(Change::Set { requested_chassis: value, round, since, overwrites });
        }
        Barrier::Waiting
    }

    /// What is to be said once the options have been set again.
    fn overwritten(&self) -> Problem {
        let port = self.world.port.clone().unwrap_or_default();
        let found = |option: Option<String>| option.unwrap_or_else(|| "unset".to_owned());
        let message = format!(
            "someone else made options:requested-chassis of {} {} and options:activation-strategy {}; they have been set again, {} times so far: switch off whatever else moves the port",
            self.migration.spec.port,
            found(port.requested_chassis),
            found(port.activation_strategy),
            self.progress.overwritten + 1
        );
        Problem::new("Overwritten", message)
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

    /// Says what [`Self::ensure`] is waiting for.
    pub(super) fn wait_for_claim(&mut self, chassis: &str, claimed: bool, what: &str) {
        if claimed {
            let message = format!("waiting for every chassis to learn that {what} (NB_Global:hv_cfg)");
            self.wait("CatchingUp", message);
        } else {
            let message = format!(
                "waiting for {chassis} to claim the port (Port_Binding): is ovn-controller running on {chassis}?"
            );
            self.wait("Claiming", message);
        }
    }

    /// Makes the northbound options what they were, without our mark; true once they are.
    ///
    /// What named one of the two sides names the one that the guest is on now:
    /// an operator's pin moves with the guest, and what a CNI's live migration
    /// has left behind ("from,to") comes to an end.
    pub(super) fn restore(&mut self, winner: &str) -> bool {
        let Some(port) = &self.world.port else { return true };
        let spec = &self.migration.spec;
        let mut before = self.progress.restore.clone().unwrap_or_default();
        if let Some(value) = &mut before.requested_chassis {
            let mut names: Vec<&str> = Vec::new();
            for name in value.split(',') {
                let sides = || [Some(&spec.from), spec.to.as_ref()].into_iter().flatten();
                let side = sides().find(|side| self.world.cluster.is_named(name, side));
                // In the words in which it was: a chassis for a chassis, a host for a host.
                let host = self.world.cluster.hostnames.get(winner).map(String::as_str);
                let name = match side {
                    None => name,
                    Some(side) if name == side => winner,
                    Some(_) => host.filter(|host| !host.is_empty()).unwrap_or(winner),
                };
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            *value = names.join(",");
        }
        let found = Restore {
            requested_chassis: port.requested_chassis.clone(),
            activation_strategy: port.activation_strategy.clone(),
        };
        let ours = port.pinned_by == Some(self.migration.full_name());
        let done = found == before && !ours;
        if !done {
            // From here on another value is nobody's interference.
            self.progress.barrier = None;
            self.change = Some(Change::Restore(before));
        }
        done
    }
}
