//! The store in Kubernetes: a custom resource, watched.
//!
//! The controller's part of a status is written by server-side apply on top of the state that it knows, an agent's by a
//! patch of its own field, so that the API server keeps the writers apart. What has ended carries a label and is seen
//! by nobody but the verbs.

mod access;
mod follow;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use kube::{Api, Client};
use limosa_protocol::object::{API_VERSION, FINALIZER, KIND, Migration, NodeStatus, Progress, Want};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Key, Limits, Snapshot, Store, StoreError, ended_before, with_target, with_want};
use crate::lease::Fence;
pub(crate) use access::Access;
use access::explain;
use write::{Written, without_nulls};

/// The definition of the resource, for `limosa crd`.
pub(crate) const DEFINITION: &str = include_str!("../../../../../charts/limosa/crds/portmigrations.yaml");

/// On an object whose migration has ended and of which no chassis has anything left.
const ENDED: &str = "limosa.io/ended";
/// The field manager of what people and the controller ask for.
const REQUESTER: &str = "limosa";
/// How long a request may take. A server that hangs must not keep everything else waiting.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often what has ended is looked for; with a shorter time to keep it, as often as that.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Objects asked for at a time; each may be as large as the API server takes them, some 1.5 MB.
const PAGE: u32 = 100;

/// Which objects are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// All that have not ended.
    Live,
    /// All that there are.
    All,
    /// One, by its full name.
    One(String),
}

impl Which {
    /// How much of it is kept: programs go on whatever there is.
    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::Live => Limits::MOST,
            Self::All | Self::One(_) => Limits::NONE,
        }
    }
}

/// The objects of a cluster, or of one namespace of it.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    /// All objects in sight.
    api: Api<DynamicObject>,
    /// Where an object goes whose namespace is not given.
    namespace: String,
    /// The pod's own namespace, or the kubeconfig's.
    home: String,
    limits: Limits,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    watcher: Arc<Watcher>,
    /// Who may write the progress; anybody if there is none.
    fence: Option<Fence>,
    /// What this process has written last of each object.
    written: Mutex<BTreeMap<Key, Written>>,
    forgotten: Mutex<Option<Instant>>,
}

/// Ends with the last store that shows its objects.
#[derive(Debug)]
struct Watcher(JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Kubernetes {
    /// Returns when the objects are known.
    pub(crate) async fn open(access: &Access, which: Which) -> Result<Self, StoreError> {
        let limits = which.limits();
        Self::open_with(access, which, limits).await
    }

    async fn open_with(access: &Access, which: Which, limits: Limits) -> Result<Self, StoreError> {
        let (client, home) = access.client().await?;
        let mut config = watcher::Config::default().timeout(follow::WATCH_SECONDS).page_size(PAGE);
        let scope = match &which {
            Which::Live => {
                config = config.labels(&format!("!{ENDED}"));
                access.namespace.as_deref()
            }
            Which::All => access.namespace.as_deref(),
            Which::One(name) => {
                let (namespace, name) = split(name)?;
                config = config.fields(&format!("metadata.name={name}"));
                Some(namespace)
            }
        };
        let api = match scope {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource()),
            None => Api::all_with(client, &resource()),
        };
        in_time("", api.list(&ListParams::default().limit(1))).await?;
        let unknown = Snapshot { trouble: Some("no list has come".to_owned()), ..Snapshot::default() };
        let (sender, mut snapshots) = watch::channel(Arc::new(unknown));
        let watcher = tokio::spawn(follow::follow(api.clone(), config, limits, sender));
        let watcher = Arc::new(Watcher(watcher));
        let known = snapshots.wait_for(|snapshot| snapshot.trouble.is_none());
        let known = tokio::time::timeout(REQUEST_TIMEOUT, known).await.is_ok();
        if let Some(trouble) = snapshots.borrow().trouble.clone().filter(|_| !known) {
            return Err(StoreError::Unreachable(trouble));
        }
        Ok(Self {
            api,
            namespace: access.namespace.clone().unwrap_or_else(|| home.clone()),
            home,
            limits,
            snapshots,
            watcher,
            fence: None,
            written: Mutex::default(),
            forgotten: Mutex::default(),
        })
    }

    /// The same objects for a controller that leads: it writes while `fence` says so.
    pub(crate) fn fenced(&self, fence: Fence) -> Self {
        Self {
            api: self.api.clone(),
            namespace: self.namespace.clone(),
            home: self.home.clone(),
            limits: self.limits,
            snapshots: self.snapshots.clone(),
            watcher: Arc::clone(&self.watcher),
            fence: Some(fence),
            written: Mutex::default(),
            forgotten: Mutex::default(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.api.clone().into_client()
    }

    /// The pod's own namespace, or the kubeconfig's.
    pub(crate) fn home(&self) -> &str {
        &self.home
    }

    fn in_namespace(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), namespace, &resource())
    }

    /// Nothing is written by a controller whose time may be over.
    fn may_write(&self) -> Result<(), StoreError> {
        match &self.fence {
            Some(fence) if !fence.may_write() => Err(StoreError::NotLeading),
            _ => Ok(()),
        }
    }

    fn shown(&self, key: &Key) -> Option<Migration> {
        let snapshot = self.snapshots.borrow();
        snapshot.get(key).cloned()
    }
}

#[async_trait]
impl Store for Kubernetes {
    async fn create(&self, mut migration: Migration) -> Result<Migration, StoreError> {
        self.may_write()?;
        self.snapshots.borrow().check_room(self.limits)?;
        let namespace = migration.metadata.namespace.get_or_insert_with(|| self.namespace.clone()).clone();
        let name = migration.metadata.name.clone();
        check_name(&name)?;
        migration.metadata.finalizers = vec![FINALIZER.to_owned()];
        let full_name = migration.full_name();
        let mut object = json!(migration);
        // These are the server's to choose.
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.retain(|field, _| {
                !["uid", "creationTimestamp", "resourceVersion"].contains(&field.as_str())
            });
        }
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        let object: DynamicObject = serde_json::from_value(without_nulls(object))
            .map_err(|e| StoreError::Refused(format!("{full_name}: {e}")))?;
        let params = PostParams { field_manager: Some(REQUESTER.to_owned()), ..PostParams::default() };
        let api = self.in_namespace(&namespace);
        let made = in_time(&full_name, api.create(&params, &object)).await?;
        follow::migration(&made).map_err(StoreError::Refused)
    }

    async fn put_progress(&self, key: &Key, progress: Progress) -> Result<(), StoreError> {
        self.write_progress(key, progress).await
    }

    async fn put_node(&self, key: &Key, chassis: &str, status: NodeStatus) -> Result<(), StoreError> {
        self.write_node(key, chassis, status).await
    }

    async fn set_target(&self, key: &Key, chassis: &str) -> Result<(), StoreError> {
        self.respec(key, "to", |spec| with_target(&key.name, spec, chassis)).await
    }

    async fn set_want(&self, key: &Key, want: Want) -> Result<(), StoreError> {
        self.respec(key, "want", |spec| with_want(&key.name, spec, want)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.may_write()?;
        let (namespace, name) = split(&key.name)?;
        let uid = Some(key.uid.to_string());
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid, ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        let api = self.in_namespace(namespace);
        match in_time(&key.name, api.delete(name, &params)).await {
            // A conflict is about the UID: it is another object by now.
            Ok(_) | Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn finish(&self, migration: &Migration, is_clean: bool) -> Result<(), StoreError> {
        self.let_go(migration, is_clean).await
    }

    async fn forget(&self, retain: Duration) -> Result<(), StoreError> {
        {
            let mut forgotten = self.forgotten.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let pause = FORGET_EVERY.min(retain).max(Duration::from_secs(1));
            if forgotten.is_some_and(|at| at.elapsed() < pause) {
                return Ok(());
            }
            *forgotten = Some(Instant::now());
        }
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = in_time("", self.api.list(&params)).await?;
            for migration in page.items.iter().filter_map(|object| follow::migration(object).ok()) {
                if ended_before(&migration, retain) && migration.metadata.deletion_timestamp.is_none() {
                    self.delete(&Key::of(&migration)).await?;
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }
}

/// The resource as the API names it.
fn resource() -> ApiResource {
    let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, KIND), "portmigrations")
}

/// Waits for an answer, but not for good.
async fn in_time<T>(name: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, StoreError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| explain(name, error)),
        Err(_) => Err(StoreError::Unreachable(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
    }
}

/// Namespace and name.
fn split(full_name: &str) -> Result<(&str, &str), StoreError> {
    let rule = "in Kubernetes it is NAMESPACE/NAME";
    full_name.split_once('/').ok_or_else(|| StoreError::BadName { name: full_name.to_owned(), rule })
}

/// RFC 1123 subdomains, as the API server wants them; checked here because what
/// it says of a bad one is hard to read.
fn check_name(name: &str) -> Result<(), StoreError> {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(edge) && label.ends_with(edge) && label.chars().all(|c| edge(c) || c == '-')
    };
    if name.len() <= 253 && name.split('.').all(is_label) {
        return Ok(());
    }
    let rule = "use at most 253 lower-case letters, digits, hyphens and dots, with a letter or digit at both ends of every part";
    Err(StoreError::BadName { name: name.to_owned(), rule })
}

#[cfg(test)]
mod definition;
#[cfg(test)]
mod rules;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
