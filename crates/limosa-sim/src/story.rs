//! What the hypervisor and its orchestrator have in mind.

use crate::guest::Move;
use crate::{Options, Time};

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// The guest moves.
    Moves,
    /// The migration is cancelled before the guest was stopped.
    Cancelled,
    /// The target's QEMU dies before the guest ran there.
    TargetDies,
    /// Someone aborts the migration while the hypervisor goes on.
    RacedAbort,
    /// The migration fails before the guest ran on the target; the orchestrator says so.
    Returned,
    /// The target dies after the guest has announced itself there; the source
    /// resumes it, and the orchestrator says so.
    FailsBack,
    /// The guest announces nothing; the orchestrator says that it runs on the target.
    Paused,
    /// Nobody waits for Limosa; the orchestrator says where the guest runs.
    Hasty,
}

/// A story, and what else is different in it.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) story: Story,
    /// The object names the virtual machine.
    pub(crate) orchestrated: bool,
    /// The object's target is named later.
    pub(crate) late_target: bool,
    /// The target's interface appears before the pin.
    pub(crate) early_plug: bool,
    /// A CNI has begun OVN's own live migration; Limosa takes over.
    pub(crate) take_over: bool,
    /// How often a CNI changes the options in between.
    pub(crate) meddles: u32,
    /// The target's QEMU starts once the interface is said to be ready.
    pub(crate) waits_for_cni: bool,
    /// The orchestrator does not take long to speak of an announced guest.
    pub(crate) told_soon: bool,
    /// The link of the target's interface stays down.
    pub(crate) link_down: bool,
}

impl Plot {
    pub(crate) fn draw(rng: &mut fastrand::Rng, options: &Options) -> Self {
        let story = match rng.u8(0..100) {
            0..44 => Story::Moves,
            44..52 => Story::Cancelled,
            52..60 => Story::TargetDies,
            60..67 => Story::RacedAbort,
            67..75 => Story::Returned,
            75..86 => Story::FailsBack,
            86..94 => Story::Paused,
            _ => Story::Hasty,
        };
        let orchestrated = match story {
            Story::RacedAbort => false,
            Story::Moves | Story::Cancelled | Story::TargetDies => rng.bool(),
            _ => true,
        };
        let mut one_in = |n: u8| rng.u8(0..n) == 0;
        Self {
            story,
            orchestrated,
            late_target: orchestrated && one_in(3),
            early_plug: orchestrated && one_in(6),
            take_over: orchestrated && one_in(8),
            meddles: match (orchestrated && one_in(6), one_in(3)) {
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => 4,
            } * u32::from(!options.no_faults),
            waits_for_cni: story != Story::Hasty && one_in(2),
            told_soon: one_in(3),
            link_down: one_in(2),
        }
    }

    /// OVN may bind the port to the target, or let go of it on the source, by
    /// no fault of the protocol.
    pub(crate) const fn is_meddled_with(&self) -> bool {
        self.early_plug || self.take_over || self.meddles > 0 || matches!(self.story, Story::Hasty)
    }

    /// What the hypervisor does from now on, and when.
    pub(crate) fn steps(&self, rng: &mut fastrand::Rng, soon: Time, other: Time) -> Vec<(Time, Move)> {
        // A large guest takes minutes; here it is long enough for every deadline.
        let copied = if rng.u8(0..10) == 0 { soon + 40_000_000 } else { soon };
        let pause = rng.u64(200..30_000);
        let resumed = copied + pause;
        let moves = [(copied, Move::Stop), (resumed, Move::Resume)];
        let dies =
            [(copied, Move::Stop), (copied + pause / 2, Move::LinkDown), (resumed, Move::ResumeOnSource)];
        let back = resumed + other + 1_000;
        match self.story {
            Story::Moves => {
                let soon = if self.told_soon { 1 } else { 100 };
                let told = (resumed + other * soon, Move::Activate);
                let told = self.orchestrated.then_some(told);
                moves.into_iter().chain(told).collect()
            }
            Story::Cancelled => vec![(copied, Move::Abort)],
            Story::TargetDies if rng.bool() => dies.to_vec(),
            Story::TargetDies => vec![(copied, Move::UnplugTarget)],
            Story::RacedAbort => {
                let aborts = ((copied + pause / 2 + other).saturating_sub(20_000), Move::Abort);
                moves.into_iter().chain([aborts]).collect()
            }
            Story::Returned if rng.bool() => vec![(copied, Move::Return)],
            Story::Returned => dies.into_iter().chain([(resumed + other, Move::Return)]).collect(),
            Story::FailsBack => {
                // The orchestrator may say so before or after anyone has taken the next step.
                let said = back + [other, other * 50][rng.usize(0..2)];
                let ghosts = [100, 5_000, 60_000, 900_000].map(|at| (said + at, Move::Noise(1)));
                let back =
                    [(resumed + other, Move::LinkDown), (back, Move::ResumeOnSource), (said, Move::Return)];
                moves.into_iter().chain(back).chain(ghosts).collect()
            }
            Story::Paused | Story::Hasty => {
                let told = [(resumed + other, Move::Activate)];
                moves.into_iter().chain(told).collect()
            }
        }
    }
}
