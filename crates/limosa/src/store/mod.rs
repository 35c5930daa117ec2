//! Where migration objects live: one trait, so that a directory on one machine
//! and the Kubernetes API can serve the same agents and controller.

mod directory;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use limosa_protocol::object::{Migration, NodeStatus, Progress, Want};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use directory::Directory;

/// Every object of a store at one instant.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) migrations: BTreeMap<String, Migration>,
    /// What looks like an object but cannot be read, and why.
    pub(crate) unreadable: Vec<String>,
}

/// Which object is meant: a later one of the same name is another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) uid: Uuid,
}

impl Key {
    pub(crate) fn of(migration: &Migration) -> Self {
        Self { name: migration.metadata.name.clone(), uid: migration.metadata.uid }
    }
}

/// The parts of a status have one writer each, so that none overwrites another's.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Adds an object; the name must be free.
    async fn create(&self, migration: Migration) -> Result<(), StoreError>;
    /// Writes the controller's part of the status.
    async fn put_progress(&self, key: &Key, progress: Progress) -> Result<(), StoreError>;
    /// Writes one chassis' part of the status.
    async fn put_node(&self, key: &Key, chassis: &str, status: NodeStatus) -> Result<(), StoreError>;
    /// Changes what is wanted.
    async fn set_want(&self, key: &Key, want: Want) -> Result<(), StoreError>;
    /// Takes an object away; one that has gone already is no error.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;
    /// The objects, now and after every change.
    fn watch(&self) -> watch::Receiver<Arc<Snapshot>>;
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("a migration named {0} exists already: choose another --name, or see `limosa status`")]
    Exists(String),
    #[error("there is no migration {0} (any more): `limosa status` lists them")]
    NotFound(String),
    #[error(
        "{0:?} cannot be a migration's name: use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends"
    )]
    BadName(String),
    #[error(
        "there is no migration store at {}: is its file system mounted? (a new store is made by the first `limosa migrate`)", path.display()
    )]
    NoStore { path: PathBuf },
    #[error("cannot {doing} {}: {source}; nothing was changed", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
}
