//! What KubeVirt writes into an API server while a guest lives and migrates, one write at a time.
//!
//! Three parties write, and none of them waits for us: virt-controller (the phases of the migration object, the
//! pods, the hand-over to the handlers), virt-handler on the source and on the target
//! (`status.migrationState` of the guest), and Kubernetes itself (scheduler, kubelet, garbage collector). Here
//! each of their writes is a [`Step`], made when a test says so, with the content and through the door that they
//! use: status subresource where there is one, binding, graceful deletion, finalizer. A [`Script`] is a list of steps:
//!
//! ```no_run
//! # use limosa_lab::kube::kubevirt::{Migration, Script, Step};
//! # async fn announce() -> anyhow::Result<()> { Ok(()) }
//! # async fn example(migration: Migration) -> anyhow::Result<()> {
//! // A table of cases reads like the phases:
//! let cases = [
//!     ("nobody saw the target's pod pending", Script::success().without(Step::TargetPod)),
//!     ("ready before the end of the copy is known", Script::success().twice(Step::DomainReady)),
//!     ("taken back before the guest ran on the target", Script::aborted()),
//!     ("deleted while the target got ready", Script::deleted_after(Step::TargetAddress)),
//! ];
//! for step in &Script::success() {
//!     if step == Step::GuestResumes {
//!         announce().await?;
//!     }
//!     migration.step(step).await?;
//! }
//! # drop(cases); Ok(())
//! # }
//! ```
//!
//! A step needs only what is there: steps can be left out, repeated and exchanged, as far as the API server takes part.
//! A repeated step writes what stands there already, and then nothing changes; only what KubeVirt gives a new time gets
//! the first one again. [`Guest::touch`] makes an event without a meaning.
//!
//! What is written, and in which order, follows KubeVirt 1.9 (`pkg/virt-controller/watch/migration/migration.go`,
//! `pkg/virt-handler/migration-source.go` and `migration-target.go`, `pkg/virt-controller/services/template.go`).
//! Names of pod interfaces follow the older scheme (`net1`).

mod guest;
mod migration;
mod node;
mod pod;
mod script;
mod step;

pub use guest::{Binding, Guest, GuestSpec, Nic};
pub use migration::Migration;
pub use node::{node_lost, node_ready, node_removed, nodes};
pub use script::Script;
pub use step::Step;

use anyhow::Result;
use jiff::{Timestamp, Unit};
use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};

/// Names of labels, annotations and finalizers (KubeVirt's `api/core/v1/types.go`).
pub mod key {
    /// On launcher pods: the UID of their guest.
    pub const CREATED_BY: &str = "kubevirt.io/created-by";
    /// On the target's pod: the UID of the migration.
    pub const MIGRATION_UID: &str = "kubevirt.io/migrationJobUID";
    /// Annotation of the target's pod: the name of the migration.
    pub const MIGRATION_NAME: &str = "kubevirt.io/migrationJobName";
    /// Annotation of the target's pod: when the guest was seen to run there.
    pub const READY_TIMESTAMP: &str = "kubevirt.io/migration-target-ready-timestamp";
    /// On migrations: the name of their guest.
    pub const VMI_NAME: &str = "kubevirt.io/vmi-name";
    /// On guests: where they run.
    pub const NODE_NAME: &str = "kubevirt.io/nodeName";
    /// On guests: where they migrate to.
    pub const TARGET_NODE: &str = "kubevirt.io/migrationTargetNodeName";
    /// The finalizer of migrations.
    pub const MIGRATION_FINALIZER: &str = "kubevirt.io/migrationJobFinalize";
    /// The readiness gate of launcher pods.
    pub const UNPAUSED: &str = "kubevirt.io/virtual-machine-unpaused";
}

const DEFINITIONS: &str = include_str!("../../../kubernetes/kubevirt.yaml");

/// Makes KubeVirt's kinds known to the server. May be done again.
///
/// # Errors
///
/// When the server refuses.
pub async fn install(client: &Client) -> Result<()> {
    super::apply(client, DEFINITIONS).await
}

/// The kind `VirtualMachineInstance`.
pub fn guests() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("kubevirt.io", "v1", "VirtualMachineInstance"))
}

/// The kind `VirtualMachineInstanceMigration`.
pub fn migrations() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("kubevirt.io", "v1", "VirtualMachineInstanceMigration"))
}

/// Now, as Kubernetes notes it: in whole seconds.
fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
}
