//! The writes of a migration.

/// One write of a migration: who makes it, where, and what it says. In the order of a migration that succeeds, then what
/// else may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// User: the migration object, with KubeVirt's finalizer and label.
    Create,
    /// virt-controller: phase `Pending`, and the source's pod.
    Pending,
    /// virt-controller: the target's pod, which has no node yet.
    TargetPod,
    /// virt-controller: phase `Scheduling`.
    Scheduling,
    /// Scheduler: the target's pod is bound to its node.
    TargetBound,
    /// virt-controller: the guest's `activePods`, as the pods are.
    ActivePods,
    /// Kubelet: the target's pod runs and is on the network. It does not get `Ready` yet.
    TargetPodRunning,
    /// virt-controller: phase `Scheduled`.
    Scheduled,
    /// virt-controller: the hand-over, in one patch of the guest: a fresh `migrationState` with this migration's UID, both
    /// nodes and both pods, and the label of the target's node.
    Handoff,
    /// virt-controller: phase `PreparingTarget`.
    PreparingTarget,
    /// Target's virt-handler: `targetNodeAddress` and ports.
    TargetAddress,
    /// virt-controller: phase `TargetReady`.
    TargetReady,
    /// Source's virt-handler: `startTimestamp` and mode `PreCopy`.
    Start,
    /// virt-controller: phase `Running`.
    Running,
    /// Target's virt-handler: `targetNodeDomainDetected`. The guest does not run there yet.
    DomainDetected,
    /// No write: here the guest stops on the source and resumes on the target, and announces itself.
    GuestResumes,
    /// Target's virt-handler: `targetNodeDomainReadyTimestamp`.
    DomainReady,
    /// virt-controller: the same time as an annotation of the target's pod. Left out by KubeVirt when the migration ends
    /// before virt-controller looks.
    ReadyAnnotation,
    /// Target's virt-handler: `endTimestamp`, and in the same update the guest's node, as status and as label.
    End,
    /// virt-controller: the gate of the target's pod, which is `Ready` now.
    TargetPodReady,
    /// Target's virt-handler: `completed`.
    Completed,
    /// virt-controller: phase `Succeeded`.
    Succeeded,
    /// Target's virt-handler: the guest loses the label of the target's node.
    LabelRemoved,
    /// virt-controller: the guest's `migrationState`, copied into the final migration object.
    StateCopied,
    /// virt-controller: the finalizer of the migration object goes, and with it the object, if it was deleted.
    Finalized,
    /// Kubelet: the source's launcher has ended.
    SourcePodEnded,
    /// virt-controller or the garbage collector: the source's pod is deleted.
    SourcePodDeleted,

    /// User: the migration object is deleted, which asks for its end. It stays until [`Finalized`](Self::Finalized).
    Delete,
    /// virt-controller: condition `migrationAbortRequested` of a migration that was handed over already.
    AbortCondition,
    /// virt-controller: condition `migrationAbortRequested` and phase `Failed` in one, before the hand-over.
    Cancelled,
    /// virt-controller: `abortRequested` of the guest's migration. Not before phase `Running`, and no outcome yet.
    AbortRequested,
    /// Source's virt-handler: `abortStatus` `Aborting`; not written by newer versions.
    Aborting,
    /// Source's virt-handler: the migration was aborted: `failed`, `completed`, `endTimestamp`, `abortStatus` `Succeeded`.
    AbortSucceeded,
    /// Source's virt-handler: `abortStatus` `Failed`: the migration goes on. Newer versions show it only when the
    /// migration fails nevertheless.
    AbortFailed,
    /// Source's virt-handler: the migration has failed: `failed`, `completed`, `endTimestamp`, `failureReason`. The guest
    /// runs on the source.
    MigrationFailed,
    /// virt-controller: phase `Failed`.
    Failed,
    /// virt-controller: the guest has no `migrationState` any more.
    StateCleared,
    /// virt-controller: the guest itself is lost, phase `Failed` of the guest.
    GuestFailed,
    /// Source's virt-handler: mode `PostCopy`.
    PostCopy,
    /// Source's virt-handler: mode `Paused`: the guest may stand still on the source for long.
    PausedByMigration,
    /// Scheduler: no node will do for the target's pod.
    Unschedulable,
    /// Kubelet: the target's launcher was told to end, or broke down.
    TargetPodFailed,
    /// virt-controller, or who cleans up after a node: the target's pod is deleted.
    TargetPodDeleted,
    /// Node controller: the source's node is not heard of any more.
    SourceNodeLost,
    /// Node controller: the target's node is not heard of any more.
    TargetNodeLost,
    /// Someone takes the source's node out of the cluster; its pods go with it.
    SourceNodeRemoved,
    /// Someone takes the target's node out of the cluster; its pods go with it.
    TargetNodeRemoved,
}

impl Step {
    /// The phase that the migration object gets, if the step gives it one.
    pub fn phase(self) -> Option<&'static str> {
        match self {
            Self::Pending => Some("Pending"),
            Self::Scheduling => Some("Scheduling"),
            Self::Scheduled => Some("Scheduled"),
            Self::PreparingTarget => Some("PreparingTarget"),
            Self::TargetReady => Some("TargetReady"),
            Self::Running => Some("Running"),
            Self::Succeeded => Some("Succeeded"),
            Self::Failed | Self::Cancelled => Some("Failed"),
            _ => None,
        }
    }
}
