//! Where the guest is, and what is therefore wanted of a migration.

use limosa_protocol::object::{Spec, Want};

use crate::api::{Phase, Pod, Vmi, Vmim};
use crate::nodes::Nodes;

/// The further of two wishes: what is wanted never goes back.
pub(crate) fn further(a: Want, b: Want) -> Want {
    let rank = |want: &Want| {
        [Want::Complete, Want::Abort, Want::Activate, Want::Return].iter().position(|w| w == want)
    };
    [a, b].into_iter().max_by_key(rank).unwrap_or(a)
}

/// What KubeVirt's objects say of one migration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub(crate) uid: &'a str,
    /// None once nothing is known of it any more, which is so after its end.
    pub(crate) vmim: Option<&'a Vmim>,
    /// The very instance that is (or was) to migrate, if it runs.
    pub(crate) vmi: Option<&'a Vmi>,
    pub(crate) target: Option<&'a Pod>,
}

impl Evidence<'_> {
    /// The guest runs on the target or is there paused by its user, or
    /// was at one time.
    ///
    /// Safe as a word to activate on: QEMU's announcement leaves before the
    /// target's virt-handler can see the guest run (it is flushed by `cont`), so
    /// what comes by way of the API is always later. `targetNodeDomainDetected`
    /// is none of it: the guest does not run yet.
    pub(crate) fn is_there(&self) -> bool {
        let said = |vmi: &Vmi| {
            let state = vmi.migration(self.uid);
            state.is_some_and(|state| state.ready || (state.completed && !state.failed))
        };
        self.has_moved()
            || self.vmi.is_some_and(said)
            || self.target.is_some_and(|pod| pod.ready)
            || self.vmim.is_some_and(|vmim| vmim.phase == Phase::Succeeded)
    }

    /// The instance's node is the target: written once the migration has ended
    /// well, so nothing brings the guest back.
    fn has_moved(&self) -> bool {
        let Some(vmi) = self.vmi else { return false };
        vmi.migration(self.uid).is_some_and(|state| {
            !vmi.node.is_empty() && state.target_node == vmi.node && state.source_node != vmi.node
        })
    }

    /// The node that KubeVirt has chosen, from the hand-off or from the target pod.
    pub(crate) fn target_node(&self) -> Option<&str> {
        let state = self.vmi.and_then(|vmi| vmi.migration(self.uid));
        let nodes = [state.map(|state| &state.target_node), self.target.map(|pod| &pod.node)];
        nodes.into_iter().flatten().map(String::as_str).find(|node| !node.is_empty())
    }

    /// What is to be wanted of an object with this `spec`.
    ///
    /// Neither `abortRequested` nor `abortStatus` nor a deletion of the
    /// migration is an outcome: it may still succeed.
    pub(crate) fn want(&self, spec: &Spec, nodes: &Nodes) -> Want {
        // No guest anywhere, after a failed post-copy or with its node: what ends
        // an object from every phase is Return.
        let Some(vmi) = self.vmi else { return Want::Return };
        let state = vmi.migration(self.uid);
        let on = nodes.chassis(&vmi.node).ok().filter(|on| *on != spec.from);
        match (on, &spec.to) {
            (_, Some(_)) if self.has_moved() => return Want::Activate,
            (Some(on), Some(to)) if on == to => return Want::Activate,
            // It has moved on while nobody looked, or to where there is no
            // chassis: nothing is left to hand over.
            (Some(_), _) => return Want::Return,
            (None, None) if self.has_moved() => return Want::Return,
            (None, _) => {}
        }
        if state.is_some_and(|state| state.failed) {
            return Want::Return;
        }
        if self.is_there() {
            return if spec.to.is_some() { Want::Activate } else { Want::Complete };
        }
        let active = self.vmim.is_some_and(|vmim| !vmim.is_final());
        match state {
            _ if active => Want::Complete,
            // KubeVirt has given up, but has not said where the guest is.
            Some(_) => Want::Abort,
            // Before the hand-off, or another migration's turn: it is where its node is.
            None => Want::Return,
        }
    }
}
