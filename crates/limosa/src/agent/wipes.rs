//! Flows that were in place and have been taken away by others:
//! ovn-controller does so whenever it connects. They are put back like any
//! flow that is missing; here they are noticed.

use std::collections::BTreeSet;
use std::time::Duration;

use limosa_protocol::Survey;
use ofpacket::{Flow, FlowKey, FlowMod, FlowModCommand};
use tokio::time::Instant;

use crate::metrics::AgentMetrics;

/// Flows that are not back by then will not be: their migration has ended.
const GIVE_UP: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Wipes {
    /// Our flows when last looked at, without those that we took away ourselves.
    standing: BTreeSet<FlowKey>,
    /// Those that others took away, and since when they have been gone.
    lost: Option<(BTreeSet<FlowKey>, Instant)>,
}

impl Wipes {
    /// Takes in what is on the bridge now.
    pub(super) fn see(&mut self, survey: &Survey, metrics: &AgentMetrics) {
        let ours: BTreeSet<FlowKey> = survey.ours.iter().map(Flow::key).collect();
        match &self.lost {
            Some((lost, since)) if lost.is_subset(&ours) => {
                metrics.recovered(since.elapsed());
                self.lost = None;
            }
            Some((_, since)) if since.elapsed() > GIVE_UP => self.lost = None,
            Some(_) => {}
            None => {
                let lost: BTreeSet<FlowKey> = self.standing.difference(&ours).cloned().collect();
                if !lost.is_empty() {
                    tracing::warn!(
                        flows = lost.len(),
                        "flows that were in place are gone: has ovn-controller connected anew?"
                    );
                    metrics.wiped();
                    self.lost = Some((lost, Instant::now()));
                }
            }
        }
        self.standing = ours;
    }

    /// Takes in what we change ourselves.
    pub(super) fn change(&mut self, mods: &[FlowMod]) {
        for flow_mod in mods.iter().filter(|flow_mod| flow_mod.command != FlowModCommand::Add) {
            let key = flow_mod.flow.key();
            self.standing.remove(&key);
            if let Some((lost, _)) = &mut self.lost {
                lost.remove(&key);
            }
        }
        self.lost.take_if(|(lost, _)| lost.is_empty());
    }
}
