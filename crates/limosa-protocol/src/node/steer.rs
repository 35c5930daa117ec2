//! Each packet by one way: while the port is bound on both sides OVN sends what
//! is for it to both, and whoever takes both ways has all of it twice. So every
//! chassis first sends to the source alone, as if nothing had been bound; the
//! target takes direct packets; then each chassis, in an instant of its own,
//! sends to the target alone. The target takes both ways meanwhile, and no packet
//! goes both. What is left undone here (an agent is gone, a deadline passes)
//! makes duplicates, and never a loss.

use jiff::SignedDuration;
use ofpacket::Flow;

use super::{Planner, is_for};
use crate::cookie::Purpose;
use crate::flows::{CannotWrite, STEERS_FOR};
use crate::object::{Migration, NodeStatus, Phase, Role, Step};

/// How long packets may be under way through the source, which waits for its
/// turn on a busy machine.
pub const UNDER_WAY: SignedDuration = SignedDuration::from_millis(100);

/// How long after [`Phase::Bound`] the target waits for the others to send to
/// the source alone. Without them packets come twice, and none is lost.
pub const HOLD_DEADLINE: SignedDuration = SignedDuration::from_secs(5);

/// How long after [`Phase::Bound`] a chassis may be told to send one way.
pub const MAY_STEER: SignedDuration = SignedDuration::from_secs(10);

/// How long after [`Phase::Bound`] some may still do so whose agents say nothing
/// more: the last flow has ended by then.
pub const STEER_DEADLINE: SignedDuration =
    SignedDuration::from_secs(MAY_STEER.as_secs() + 2 * STEERS_FOR as i64);

impl Planner<'_> {
    /// Any but the target: to the source alone, and to the target alone once that
    /// takes direct packets.
    ///
    /// The flow ends by itself, and is written for a while only: neither an agent
    /// that is gone nor one that is cut off from the store may keep it beyond the
    /// time that the others reckon with.
    pub(super) fn steer(&self) -> Option<Result<Flow, CannotWrite>> {
        let spec = &self.migration.spec;
        (self.is_holder() && self.may_steer()).then(|| match self.status.role {
            _ if self.target_takes_direct_packets() => self.writer.steer(spec.target()),
            Role::Source => self.writer.steer_here(),
            _ => self.writer.steer(&spec.from),
        })
    }

    /// What the target's own senders do, see [`Self::steer`].
    pub(super) fn steer_own(&self, opens: bool) -> Option<Result<Flow, CannotWrite>> {
        let from = &self.migration.spec.from;
        let steers = self.may_steer() && !self.status.has(Step::Switched);
        steers.then(|| if opens { self.writer.steer_here() } else { self.writer.steer(from) })
    }

    fn may_steer(&self) -> bool {
        self.migration.phase() == Phase::Bound && self.is_before(MAY_STEER)
    }

    /// Takes the steps of a chassis that sends somewhere else. The target takes
    /// mirrored packets until all of a holder's have come.
    pub(super) fn follow(&mut self, flows: &[Flow]) {
        let holder = self.is_holder() && self.migration.phase() == Phase::Bound;
        let steers = flows.iter().any(|flow| is_for(flow, Purpose::Steer));
        match self.target_takes_direct_packets() {
            true if holder => self.take_once_followed(flows, Step::Redirected, UNDER_WAY),
            true => self.take_if_settled(flows, Step::Redirected),
            false if steers => self.take_once_followed(flows, Step::Held, SignedDuration::ZERO),
            false => {}
        }
    }

    fn is_holder(&self) -> bool {
        self.migration.status.progress.holders.contains(&self.writer.facts.chassis)
    }

    /// Whether everybody sends to the source alone, this chassis among them, or some will not.
    pub(super) fn has_everybody(&mut self) -> bool {
        let held = |node: &NodeStatus| node.has(Step::Held) || node.has(Step::Redirected);
        let all = self.status.has(Step::Held) && self.holders().all(|node| node.is_some_and(held));
        all || !self.waits_until(HOLD_DEADLINE)
    }

    /// Whether everybody who has sent to the source alone has ceased to.
    pub(super) fn is_followed(&mut self) -> bool {
        let all = self.holders().all(|node| node.is_some_and(|node| node.has(Step::Redirected)));
        all || !self.waits_until(STEER_DEADLINE)
    }

    fn holders(&self) -> impl Iterator<Item = Option<&NodeStatus>> {
        let Migration { status, .. } = self.migration;
        status.progress.holders.iter().map(|chassis| status.nodes.get(chassis))
    }
}
