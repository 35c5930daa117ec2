//! Flows that were in place and have been taken away by others:
//! ovn-controller does so whenever it connects. They are put back like any
//! flow that is missing; here they are noticed.

use std::collections::{BTreeMap, BTreeSet};

use limosa_protocol::{Cookie, Survey};
use ofpacket::{Flow, FlowKey, FlowMod, FlowModCommand};
use tokio::time::Instant;

use crate::metrics::AgentMetrics;

#[derive(Debug, Default)]
pub(super) struct Wipes {
    /// Our flows when last looked at, without those that we took away ourselves,
    /// and the number of the migration that each is of.
    standing: BTreeMap<FlowKey, u32>,
    /// Those that others took away, and since when they have been gone.
    lost: Option<(BTreeMap<FlowKey, u32>, Instant)>,
}

impl Wipes {
    /// Takes in what is on the bridge now.
    pub(super) fn see(&mut self, survey: &Survey, metrics: &AgentMetrics) {
        let ours: BTreeMap<FlowKey, u32> =
            survey.ours.iter().map(|flow| (flow.key(), Cookie::migration_of(flow.cookie))).collect();
        let missing = |flows: &BTreeMap<FlowKey, u32>| -> BTreeMap<FlowKey, u32> {
            let missing = flows.iter().filter(|(key, _)| !ours.contains_key(*key));
            missing.map(|(key, number)| (key.clone(), *number)).collect()
        };
        match &self.lost {
            Some((lost, since)) => {
                let still = missing(lost).len();
                metrics.missing.set(still as i64);
                if still == 0 {
                    metrics.recovered(since.elapsed());
                    self.lost = None;
                }
            }
            None => {
                let lost = missing(&self.standing);
                if !lost.is_empty() {
                    tracing::warn!(
                        flows = lost.len(),
                        "flows that were in place are gone: has ovn-controller connected anew?"
                    );
                    metrics.wiped(lost.len());
                    self.lost = Some((lost, Instant::now()));
                }
            }
        }
        self.standing = ours;
    }

    /// Takes in which flows belong on the bridge. What is not among them need not
    /// come back, unless its migration, one of `unsettled`, still waits for
    /// something that it cannot be written without.
    pub(super) fn want(&mut self, wanted: &[Flow], unsettled: &BTreeSet<u32>, metrics: &AgentMetrics) {
        let Some((lost, since)) = &mut self.lost else { return };
        let wanted: BTreeSet<FlowKey> = wanted.iter().map(Flow::key).collect();
        lost.retain(|key, number| wanted.contains(key) || unsettled.contains(number));
        let still = lost.keys().filter(|key| !self.standing.contains_key(*key)).count();
        metrics.missing.set(still as i64);
        if still == 0 && !lost.is_empty() {
            metrics.recovered(since.elapsed());
            lost.clear();
        }
        self.forget_if_empty(metrics);
    }

    /// Takes in what we change ourselves.
    pub(super) fn change(&mut self, mods: &[FlowMod], metrics: &AgentMetrics) {
        for flow_mod in mods.iter().filter(|flow_mod| flow_mod.command != FlowModCommand::Add) {
            let key = flow_mod.flow.key();
            self.standing.remove(&key);
            if let Some((lost, _)) = &mut self.lost {
                lost.remove(&key);
            }
        }
        self.forget_if_empty(metrics);
    }

    fn forget_if_empty(&mut self, metrics: &AgentMetrics) {
        if self.lost.take_if(|(lost, _)| lost.is_empty()).is_some() {
            metrics.missing.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use limosa_protocol::{Purpose, Role};
    use ofpacket::{Match, OxmField};

    use super::*;

    fn flow(migration: u32, port: u32) -> Flow {
        let cookie = Cookie { migration, role: Role::Target, purpose: Purpose::GateOut }.encode();
        Flow::new(0, 1100, Match::new().with(OxmField::IN_PORT, port), vec![]).with_cookie(cookie)
    }

    fn survey(ours: &[Flow]) -> Survey {
        Survey { ours: ours.to_vec(), ..Survey::default() }
    }

    #[test]
    fn what_is_gone_is_missing_until_it_is_back_or_nobody_wants_it() {
        let (metrics, mut wipes) = (AgentMetrics::new(), Wipes::default());
        let (one, two, three) = (flow(1, 1), flow(1, 2), flow(2, 3));
        let back = survey(std::slice::from_ref(&one));
        wipes.see(&survey(&[one.clone(), two, three]), &metrics);
        wipes.see(&survey(&[]), &metrics);
        assert_eq!(metrics.missing.get(), 3);
        wipes.see(&back, &metrics);
        assert_eq!(metrics.missing.get(), 2);
        // The first migration cannot say yet what it wants; the second has ended.
        wipes.want(&[], &[1].into(), &metrics);
        wipes.see(&back, &metrics);
        assert_eq!(metrics.missing.get(), 1);
        wipes.want(std::slice::from_ref(&one), &BTreeSet::new(), &metrics);
        assert_eq!((metrics.missing.get(), wipes.lost.is_none()), (0, true));
        wipes.change(&[FlowMod::delete_strict(&one)], &metrics);
        wipes.see(&survey(&[]), &metrics);
        assert_eq!(metrics.missing.get(), 0, "we took it away ourselves");
    }
}
