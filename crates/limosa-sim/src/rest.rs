//! What must hold once nothing is going to happen any more.

use limosa_protocol::Phase;
use limosa_protocol::object::{ConditionType, Restore, Want};

use crate::guest::Place;
use crate::pipeline::{NAMES, SOURCE, TARGET};
use crate::world::World;

impl World {
    /// Nothing is going to happen any more.
    pub(crate) fn check_rest(&mut self) {
        let phase = self.phase();
        self.note(|| format!("at rest: {phase}"));
        if !phase.is_final() {
            return self.check_unfinished(phase);
        }
        let want = self.store.object.as_ref().map(|object| object.spec.want);
        if phase == Phase::Rejected && want == Some(Want::Complete) && self.guest.plot.orchestrated {
            self.violate("what makes sense is refused".to_owned());
        }
        let side = if phase == Phase::Completed { TARGET } else { SOURCE };
        let mut expected = self.guest.options.clone();
        // Without a target's name nothing is known to be the other side.
        let unnamed = phase == Phase::RolledBack && self.guest.plot.late_target;
        let found: Restore = self.nb.options();
        if phase != Phase::Rejected && !(unnamed && found == expected) {
            expected.requested_chassis = expected.requested_chassis.map(|_| NAMES[side].to_owned());
        }
        if found != expected {
            self.violate(format!("the options are left as {found:?}, not {expected:?}"));
        }
        for said in self.guest.installed.clone() {
            if said.vouched_by.is_some() || (side == SOURCE && said.installed && !said.by_ovn) {
                self.violate(format!("what was said of an interface is left: {said:?}"));
            }
        }
        for (name, switch) in NAMES.iter().zip(&self.switches) {
            if switch.table.has_ours() {
                return self.violate(format!("flows are left on {name}"));
            }
        }
        let place = if phase == Phase::Completed { Place::Target } else { Place::Source };
        // OVN may have moved it alone before anyone looked.
        if self.guest.place != place && phase != Phase::Rejected {
            if self.excused_by_story() {
                return;
            }
            self.violate(format!("{phase}, but the guest is {:?}", self.guest.place));
        }
        self.ledger.at_rest = true;
        // Nothing is left in a datapath's cache.
        self.now += 1_000_000;
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
        if self.is_presumed() {
            self.coverage.count("rest: a wrong guess", Some(self.phase()));
            return true;
        }
        if self.guest.told_late && self.guest.ran_on_target {
            self.coverage.count("rest: back on the source after the end", Some(self.phase()));
            return true;
        }
        if self.guest.place != Place::Target || self.guest.told {
            return false;
        }
        if self.guest.announced_at.is_none() && !self.guest.overheard {
            self.coverage.count("rest: no switch heard the guest", Some(self.phase()));
            return true;
        }
        false
    }
}
