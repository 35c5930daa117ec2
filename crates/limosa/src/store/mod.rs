//! Where migration objects live: one trait, so that a directory on one machine
//! and the Kubernetes API can serve the same agents and controller.

mod directory;
mod kept;
mod kubernetes;
mod place;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use limosa_protocol::object::{Migration, NodeStatus, Progress, Spec, Want};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use directory::Directory;
pub(crate) use kept::Limits;
#[cfg(test)]
pub(crate) use kubernetes::testing;
pub(crate) use kubernetes::{Access, DEFINITION, Kubernetes, Which};
pub(crate) use place::{Place, open_when_there};

/// Every object of a store at one instant.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// By [`Migration::full_name`].
    pub(crate) migrations: BTreeMap<String, Migration>,
    /// What looks like an object but cannot be read, and why.
    pub(crate) unreadable: Vec<String>,
    /// How many objects there was no room for ([`Limits`]): whatever is not here may still be there.
    pub(crate) left_out: usize,
    /// Why the store cannot be read now, if so; the objects are as they were before.
    pub(crate) trouble: Option<String>,
}

impl Snapshot {
    /// This very object, and not another of its name.
    pub(crate) fn get(&self, key: &Key) -> Option<&Migration> {
        self.migrations.get(&key.name).filter(|migration| migration.metadata.uid == key.uid)
    }

    /// Refuses one more object, if there is no room for it.
    fn check_room(&self, limits: Limits) -> Result<(), StoreError> {
        let live = self.migrations.values().filter(|migration| !migration.phase().is_final()).count();
        let most = limits.objects.min(Limits::MOST.objects);
        let is_full = live >= most || (self.left_out > 0 && live == self.migrations.len());
        if is_full { Err(StoreError::Full(live + self.left_out)) } else { Ok(()) }
    }
}

/// Which object is meant: a later one of the same name is another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// [`Migration::full_name`].
    pub(crate) name: String,
    pub(crate) uid: Uuid,
}

impl Key {
    pub(crate) fn of(migration: &Migration) -> Self {
        Self { name: migration.full_name(), uid: migration.metadata.uid }
    }
}

/// The parts of a status have one writer each, so that none overwrites another's.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Adds an object, whose name must be free; returns it as it is in the store,
    /// which may choose `metadata.uid` and the time by itself.
    async fn create(&self, migration: Migration) -> Result<Migration, StoreError>;
    /// Writes the controller's part of the status: on top of what this process has written or seen last, or not at all,
    /// for two controllers may each believe for a moment that they lead.
    async fn put_progress(&self, key: &Key, progress: Progress) -> Result<(), StoreError>;
    /// Writes one chassis' part of the status.
    async fn put_node(&self, key: &Key, chassis: &str, status: NodeStatus) -> Result<(), StoreError>;
    /// Fills in the target, which can be done once; the same again is no error.
    async fn set_target(&self, key: &Key, chassis: &str) -> Result<(), StoreError>;
    /// Changes what is wanted; [`Want::Return`] is for good.
    async fn set_want(&self, key: &Key, want: Want) -> Result<(), StoreError>;
    /// Takes an object away; one that has gone already is no error. In a store
    /// with finalizers it goes when its migration has ended.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;
    /// Called for an object whose phase is final, as often as it is seen: it may be
    /// deleted now, and goes out of sight if `is_clean`: nobody has anything to do
    /// with it any more.
    async fn finish(&self, migration: &Migration, is_clean: bool) -> Result<(), StoreError>;
    /// Deletes what has ended at least so long ago.
    async fn forget(&self, retain: Duration) -> Result<(), StoreError>;
    /// The objects, now and after every change. What has ended may be left out.
    fn watch(&self) -> watch::Receiver<Arc<Snapshot>>;
}

/// The spec with its target filled in; `None` if that is the target already.
fn with_target(name: &str, spec: &Spec, chassis: &str) -> Result<Option<Spec>, StoreError> {
    match spec.to.as_deref() {
        Some(to) if to == chassis => Ok(None),
        Some(to) => Err(StoreError::TargetSet { name: name.to_owned(), to: to.to_owned() }),
        None => Ok(Some(Spec { to: Some(chassis.to_owned()), ..spec.clone() })),
    }
}

/// The spec with another wish; `None` if it is the wish already.
fn with_want(name: &str, spec: &Spec, want: Want) -> Result<Option<Spec>, StoreError> {
    match spec.want {
        old if old == want => Ok(None),
        Want::Return => Err(StoreError::Returning(name.to_owned())),
        _ => Ok(Some(Spec { want, ..spec.clone() })),
    }
}

/// Whether this can have been decided on top of `base`, of which no step is ever undone. What another controller has
/// written late may have been seen only after the decision.
fn continues(base: &Progress, progress: &Progress) -> bool {
    base.steps.iter().all(|(phase, at)| progress.steps.get(phase) == Some(at))
}

/// Whether a migration has ended at least so long ago.
fn ended_before(migration: &Migration, retain: Duration) -> bool {
    let phase = migration.phase();
    let ended = migration.status.progress.steps.get(&phase);
    let since = ended.map_or(Duration::ZERO, |ended| Timestamp::now().duration_since(*ended).unsigned_abs());
    phase.is_final() && since > retain
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("a migration named {0} exists already: choose another --name, or see `limosa status`")]
    Exists(String),
    #[error(
        "the store holds {0} migrations, and no more are followed: wait until some have ended, or abort and delete some (`limosa status` lists them)"
    )]
    Full(usize),
    #[error("there is no migration {0} (any more): `limosa status` lists them")]
    NotFound(String),
    #[error("{name:?} cannot be a migration's name: {rule}")]
    BadName { name: String, rule: &'static str },
    #[error("migration {name} goes to {to} already; for another target abort it and ask for a new one")]
    TargetSet { name: String, to: String },
    #[error("migration {0} is on its way back for good; ask for a new one")]
    Returning(String),
    #[error(
        "there is no migration store at {}: is its file system mounted? (a new store is made by the first `limosa migrate`)", path.display()
    )]
    NoStore { path: PathBuf },
    #[error("cannot {doing} {}: {source}; nothing was changed", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("cannot tell where the Kubernetes API is ({0}): set KUBECONFIG or --kubeconfig, or run in a pod")]
    NoCluster(String),
    #[error(
        "the cluster does not know PortMigration (limosa.io/v1alpha1): install the definition (`limosa crd | kubectl apply -f -`, or charts/limosa/crds)"
    )]
    NoDefinition,
    #[error("not allowed: {0}; the rules that are needed are in charts/limosa/files")]
    Forbidden(String),
    #[error("the API server does not know who asks: {0}; is the token in the kubeconfig still valid?")]
    Unauthorized(String),
    #[error("the API server refuses it: {0}")]
    Refused(String),
    #[error("somebody else has written the progress of migration {0}: is a second controller at work?")]
    Conflict(String),
    #[error("another controller may lead by now: nothing is written")]
    NotLeading,
    #[error("the Kubernetes API does not answer: {0}")]
    Unreachable(String),
}

impl StoreError {
    /// A stable name for metrics.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Exists(_) => "exists",
            Self::Full(_) => "full",
            Self::NotFound(_) => "not_found",
            Self::BadName { .. } => "bad_name",
            Self::TargetSet { .. } => "target_set",
            Self::Returning(_) => "returning",
            Self::NoStore { .. } => "no_store",
            Self::Io { .. } => "io",
            Self::Unreadable { .. } => "unreadable",
            Self::NoCluster(_) => "no_cluster",
            Self::NoDefinition => "no_definition",
            Self::Forbidden(_) => "forbidden",
            Self::Unauthorized(_) => "unauthorized",
            Self::Refused(_) => "refused",
            Self::Conflict(_) => "conflict",
            Self::NotLeading => "not_leading",
            Self::Unreachable(_) => "unreachable",
        }
    }
}
