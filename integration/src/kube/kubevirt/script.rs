//! Lists of steps: every way in which a migration can go.

use super::Step;

/// A list of steps: one of those below, changed as a test wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script(Vec<Step>);

/// A migration that succeeds.
const SUCCESS: [Step; 28] = [
    Step::Create,
    Step::Pending,
    Step::TargetPod,
    Step::Scheduling,
    Step::TargetBound,
    Step::ActivePods,
    Step::TargetPodRunning,
    Step::Scheduled,
    Step::Handoff,
    Step::PreparingTarget,
    Step::TargetAddress,
    Step::TargetReady,
    Step::Start,
    Step::Running,
    Step::DomainDetected,
    Step::GuestResumes,
    Step::DomainReady,
    Step::ReadyAnnotation,
    Step::End,
    Step::TargetPodReady,
    Step::Completed,
    Step::Succeeded,
    Step::LabelRemoved,
    Step::StateCopied,
    Step::Finalized,
    Step::SourcePodEnded,
    Step::SourcePodDeleted,
    Step::ActivePods,
];

/// What follows on the failure of a migration that was handed over, when the source reports it.
const FAILED: [Step; 6] = [
    Step::Failed,
    Step::LabelRemoved,
    Step::StateCopied,
    Step::Finalized,
    Step::TargetPodFailed,
    Step::TargetPodDeleted,
];

/// Somebody deletes the migration while it runs.
const ABORT: [Step; 3] = [Step::Delete, Step::AbortCondition, Step::AbortRequested];

/// The same, and the source says that it cannot be aborted.
const ABORT_FAILED: [Step; 5] =
    [Step::Delete, Step::AbortCondition, Step::AbortRequested, Step::Aborting, Step::AbortFailed];

impl Script {
    /// These steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(steps.into_iter().collect())
    }

    /// A migration that succeeds.
    pub fn success() -> Self {
        Self::new(SUCCESS)
    }

    /// Succeeds, and pages follow the guest: it resumes on the target early.
    pub fn post_copy() -> Self {
        Self::success().insert_after(Step::Running, [Step::PostCopy])
    }

    /// Succeeds, and the guest stands still on the source for a while, because it would not converge otherwise.
    pub fn paused_by_migration() -> Self {
        Self::success().insert_after(Step::Running, [Step::PausedByMigration])
    }

    /// Succeeds, although somebody deletes it while memory is copied: the abort comes too late.
    pub fn abort_fails() -> Self {
        Self::success().insert_after(Step::DomainDetected, ABORT_FAILED)
    }

    /// The same with newer versions of KubeVirt, which say nothing of how the abort went.
    pub fn abort_is_not_answered() -> Self {
        Self::success().insert_after(Step::DomainDetected, ABORT)
    }

    /// The abort fails, because pages follow the guest: nothing is aborted then.
    pub fn abort_of_post_copy_fails() -> Self {
        Self::post_copy().insert_after(Step::PostCopy, ABORT_FAILED)
    }

    /// The abort fails, virt-handler asks again, and the second one succeeds.
    pub fn aborted_at_last() -> Self {
        Self::abort_fails().through(Step::AbortFailed).then([Step::AbortSucceeded]).then(FAILED)
    }

    /// The abort fails, the migration goes on, and fails by itself before the guest has resumed on the target.
    pub fn abort_fails_then_fails() -> Self {
        Self::abort_fails().through(Step::AbortFailed).then([Step::MigrationFailed]).then(FAILED)
    }

    /// The abort fails, the guest resumes on the target, and yet it ends up on the source: see
    /// [`fails_back`](Self::fails_back).
    pub fn abort_fails_then_fails_back() -> Self {
        Self::abort_fails().through(Step::GuestResumes).then([Step::MigrationFailed]).then(FAILED)
    }

    /// Deleted while memory is copied: the source aborts it.
    pub fn aborted() -> Self {
        Self::deleted_after(Step::DomainDetected)
    }

    /// Fails on the source before the guest has resumed on the target.
    pub fn fails_before_resume() -> Self {
        Self::success().through(Step::DomainDetected).then([Step::MigrationFailed]).then(FAILED)
    }

    /// The guest has resumed on the target and has announced itself there, and yet it ends up on the source: the answer of
    /// the target's libvirt was lost. Nothing is announced on the source.
    pub fn fails_back() -> Self {
        Self::success().through(Step::GuestResumes).then([Step::MigrationFailed]).then(FAILED)
    }

    /// No node will do for the target's pod, and after five minutes virt-controller gives up.
    pub fn never_scheduled() -> Self {
        let end = [Step::Unschedulable, Step::TargetPodDeleted, Step::Failed, Step::Finalized];
        Self::success().through(Step::Scheduling).then(end)
    }

    /// The target's node dies while memory is copied: the source's libvirt notices, and the guest goes on there.
    pub fn target_node_dies() -> Self {
        let end =
            [Step::Failed, Step::LabelRemoved, Step::StateCopied, Step::Finalized, Step::TargetNodeRemoved];
        Self::success()
            .through(Step::DomainDetected)
            .then([Step::MigrationFailed, Step::TargetNodeLost])
            .then(end)
    }

    /// The target's node dies after the guest has resumed there: the guest is lost.
    pub fn target_node_dies_with_guest() -> Self {
        let end =
            [Step::TargetNodeLost, Step::GuestFailed, Step::Failed, Step::Finalized, Step::TargetNodeRemoved];
        Self::success().through(Step::DomainReady).then(end)
    }

    /// The source's node dies while memory is copied: the guest is lost.
    pub fn source_node_dies_with_guest() -> Self {
        let end = [
            Step::GuestFailed,
            Step::Failed,
            Step::TargetPodDeleted,
            Step::Finalized,
            Step::SourceNodeRemoved,
        ];
        Self::success().through(Step::DomainDetected).then([Step::SourceNodeLost]).then(end)
    }

    /// The source's node dies after the guest has resumed on the target, which finishes the migration alone.
    pub fn source_node_dies() -> Self {
        let without_it = Self::success().without(Step::SourcePodEnded).without(Step::SourcePodDeleted);
        without_it.insert_after(Step::GuestResumes, [Step::SourceNodeLost]).then([Step::SourceNodeRemoved])
    }

    /// Goes on up to and with `step`; then somebody deletes the migration object, and what follows depends on how far it
    /// had come: it is cancelled, or aborted once it runs, or has its way, because the guest runs on the target already.
    pub fn deleted_after(step: Step) -> Self {
        let begun = Self::success().through(step).then([Step::Delete]);
        let rest = Self::success().after(step);
        if step < Step::Handoff {
            let pod = (step >= Step::TargetPod).then_some(Step::TargetPodDeleted);
            return begun.then(pod).then([Step::Cancelled, Step::Finalized]);
        }
        if step >= Step::Succeeded {
            return begun.then(rest.0);
        }
        let asked = begun.then([Step::AbortCondition]);
        if step >= Step::GuestResumes {
            return asked.then([Step::AbortRequested]).then(rest.0);
        }
        // Acted upon once it runs, and not before.
        let until_running = rest.0.into_iter().filter(|step| *step <= Step::Running);
        asked.then(until_running).then([Step::AbortRequested, Step::AbortSucceeded]).then(FAILED)
    }

    /// Every script above, with a name, and that which is deleted after each of its steps: for a table of all cases.
    pub fn all() -> Vec<(String, Self)> {
        let named = [
            ("success", Self::success()),
            ("post-copy", Self::post_copy()),
            ("paused by migration", Self::paused_by_migration()),
            ("abort fails", Self::abort_fails()),
            ("abort is not answered", Self::abort_is_not_answered()),
            ("abort of post-copy fails", Self::abort_of_post_copy_fails()),
            ("aborted at last", Self::aborted_at_last()),
            ("abort fails, then the migration fails", Self::abort_fails_then_fails()),
            ("abort fails, then the guest falls back", Self::abort_fails_then_fails_back()),
            ("fails before resume", Self::fails_before_resume()),
            ("fails back", Self::fails_back()),
            ("never scheduled", Self::never_scheduled()),
            ("target node dies", Self::target_node_dies()),
            ("target node dies with guest", Self::target_node_dies_with_guest()),
            ("source node dies with guest", Self::source_node_dies_with_guest()),
            ("source node dies", Self::source_node_dies()),
        ];
        let named = named.into_iter().map(|(name, script)| (name.to_owned(), script));
        let until_final = SUCCESS.into_iter().take_while(|step| *step < Step::Finalized);
        let deleted = until_final.map(|step| (format!("deleted after {step:?}"), Self::deleted_after(step)));
        named.chain(deleted).collect()
    }

    /// Up to and with the first `step`.
    #[must_use]
    pub fn through(mut self, step: Step) -> Self {
        self.0.truncate(self.place(step) + 1);
        self
    }

    /// Up to the first `step`, without it.
    #[must_use]
    pub fn before(mut self, step: Step) -> Self {
        self.0.truncate(self.place(step));
        self
    }

    /// What follows on the first `step`.
    #[must_use]
    pub fn after(mut self, step: Step) -> Self {
        self.0.drain(..=self.place(step));
        self
    }

    /// Without `step`, wherever it is.
    #[must_use]
    pub fn without(mut self, step: Step) -> Self {
        self.0.retain(|s| *s != step);
        self
    }

    /// With the first `step` made once more.
    #[must_use]
    pub fn twice(self, step: Step) -> Self {
        self.insert_after(step, [step])
    }

    /// With `steps` after the first `step`.
    #[must_use]
    pub fn insert_after(mut self, step: Step, steps: impl IntoIterator<Item = Step>) -> Self {
        let place = self.place(step) + 1;
        self.0.splice(place..place, steps);
        self
    }

    /// With `steps` at its end.
    #[must_use]
    pub fn then(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.0.extend(steps);
        self
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// # Panics
    ///
    /// When the step is not in the script: the test says something else than it means.
    fn place(&self, step: Step) -> usize {
        let found = self.0.iter().position(|s| *s == step);
        found.unwrap_or_else(|| panic!("the script has no step {step:?}: {:?}", self.0))
    }
}

impl<'a> IntoIterator for &'a Script {
    type Item = Step;
    type IntoIter = std::iter::Copied<std::slice::Iter<'a, Step>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_and_mended() {
        let script = Script::success();
        let (begun, rest) = (script.clone().through(Step::Handoff), script.clone().after(Step::Handoff));
        assert_eq!(begun.clone().then(&rest), script);
        assert_eq!(begun.steps().last(), Some(&Step::Handoff));
        assert_eq!(script.clone().before(Step::Pending).steps(), [Step::Create]);
        assert!(!script.clone().without(Step::ActivePods).steps().contains(&Step::ActivePods));
        let twice = script.clone().twice(Step::Start);
        assert_eq!(twice.steps().len(), script.steps().len() + 1);
    }

    #[test]
    fn what_is_deleted_ends_as_far_as_it_had_come() {
        let ends = |step| Script::deleted_after(step);
        assert_eq!(
            ends(Step::Create).steps(),
            [Step::Create, Step::Delete, Step::Cancelled, Step::Finalized]
        );
        assert!(ends(Step::Scheduled).steps().ends_with(&[
            Step::TargetPodDeleted,
            Step::Cancelled,
            Step::Finalized
        ]));
        let aborted = ends(Step::TargetAddress);
        let running = aborted.steps().iter().position(|s| *s == Step::Running);
        let requested = aborted.steps().iter().position(|s| *s == Step::AbortRequested);
        assert!(running < requested && running.is_some());
        assert!(!aborted.steps().contains(&Step::GuestResumes));
        assert!(ends(Step::End).steps().contains(&Step::Succeeded));
        assert!(!ends(Step::Succeeded).steps().contains(&Step::AbortCondition));
    }
}
