//! Which store is meant, as the command line names it.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use super::{Access, Directory, Kubernetes, Store, StoreError, Which};

/// How soon a directory that is not there is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The same for a cluster, which every agent of it asks.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A store by its address.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Directory(PathBuf),
    Kubernetes(Access),
}

impl Place {
    /// Opens the store for a verb.
    pub(crate) async fn open(&self, which: Which) -> Result<Box<dyn Store>, StoreError> {
        Ok(match self {
            Self::Directory(path) => Box::new(Directory::open(path, which.limits()).await?),
            Self::Kubernetes(access) => Box::new(Kubernetes::open(access, which).await?),
        })
    }

    /// The same, making a directory that is not there yet.
    pub(crate) async fn open_or_create(&self, which: Which) -> Result<Box<dyn Store>, StoreError> {
        match self {
            Self::Directory(path) => Ok(Box::new(Directory::open_or_create(path).await?)),
            Self::Kubernetes(_) => self.open(which).await,
        }
    }

    /// Opens the store for an agent or a controller, as soon as it is there.
    pub(crate) async fn wait_for(&self) -> Box<dyn Store> {
        open_when_there(self, || self.open(Which::Live)).await
    }

    /// What a name on the command line stands for: in Kubernetes it may say its
    /// namespace, `NAMESPACE/NAME`.
    pub(crate) async fn full_name(&self, name: &str) -> Result<String, StoreError> {
        match self {
            Self::Kubernetes(access) if !name.contains('/') => {
                Ok(format!("{}/{name}", access.default_namespace().await?))
            }
            _ => Ok(name.to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Kubernetes(access) => write!(f, "{access}"),
        }
    }
}

/// Opens a store as soon as it is there; says once what it waits for.
pub(crate) async fn open_when_there<S, F>(place: &Place, open: impl Fn() -> F) -> S
where
    F: Future<Output = Result<S, StoreError>>,
{
    let mut said = None;
    loop {
        match open().await {
            Ok(store) => return store,
            Err(error) => {
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::warn!(store = %place, "waiting for the store (--store, --kubernetes): {error}");
                    said = Some(error);
                }
            }
        }
        tokio::time::sleep(match place {
            Place::Directory(_) => LOOK_AGAIN,
            Place::Kubernetes(_) => ASK_AGAIN,
        })
        .await;
    }
}
