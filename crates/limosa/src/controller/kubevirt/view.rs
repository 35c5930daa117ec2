//! What the Kubernetes API shows of KubeVirt, as little of it as is used.
//!
//! Three watches, one published view. An object is cut down as soon as it
//! arrives, and what is cut off wakes nobody. Migrations that have ended are not
//! kept, but for the last few of those that were seen under way: how they ended
//! can then be known before the instance's own state is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use limosa_kubevirt::{Pod, Vmi, Vmim};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Migrations that have ended and are still known; KubeVirt carries out five at
/// a time by default.
const ENDED_KEPT: usize = 256;
/// How long a watch lasts, seconds; one whose connection has died without a word
/// is noticed a little later.
const WATCH_SECONDS: u32 = 45;
/// The label of launcher pods; attachment pods of volumes do not have it.
const LAUNCHER: &str = "kubevirt.io=virt-launcher";

/// Namespace and name.
pub(super) type Key = (String, String);
type Shelf<T> = BTreeMap<Key, Arc<T>>;

/// What is known of KubeVirt.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(super) vmims: Shelf<Vmim>,
    pub(super) vmis: Shelf<Vmi>,
    pub(super) pods: Shelf<Pod>,
    /// Of the migrations, those that have ended, the oldest first.
    ended: VecDeque<Key>,
    /// Which of the three have been listed.
    listed: [bool; 3],
}

impl View {
    /// Everything has been listed once: what is not there does not exist.
    pub(super) fn is_complete(&self) -> bool {
        self.listed == [true; 3]
    }

    /// The launcher pods of a namespace.
    pub(super) fn pods_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Pod> {
        let first = (namespace.to_owned(), String::new());
        let pods = self.pods.range(first..).take_while(move |((other, _), _)| other == namespace);
        pods.map(|(_, pod)| &**pod)
    }
}

/// A kind of object that is watched.
pub(super) trait Watched: PartialEq + Sized + Send + Sync + 'static {
    /// Its place in [`View::listed`].
    const INDEX: usize;
    const KIND: &'static str;
    /// Group, version, plural.
    const RESOURCE: (&'static str, &'static str, &'static str);
    const SELECTOR: Option<&'static str> = None;

    fn decode(object: &serde_json::Value) -> Option<Self>;
    fn shelf(view: &mut View) -> &mut Shelf<Self>;
    fn key(&self) -> Key;
    /// It may be forgotten unless it has been seen before it came to this.
    fn is_ended(&self) -> bool {
        false
    }
    fn is_same_as(&self, other: &Self) -> bool;
}

macro_rules! watched {
    ($type:ident, $index:literal, $kind:literal, $resource:expr, $field:ident $(, $more:item)*) => {
        impl Watched for $type {
            const INDEX: usize = $index;
            const KIND: &'static str = $kind;
            const RESOURCE: (&'static str, &'static str, &'static str) = $resource;
            $($more)*

            fn decode(object: &serde_json::Value) -> Option<Self> {
                Self::decode(object)
            }
            fn shelf(view: &mut View) -> &mut Shelf<Self> {
                &mut view.$field
            }
            fn key(&self) -> Key {
                (self.meta.namespace.clone(), self.meta.name.clone())
            }
            fn is_same_as(&self, other: &Self) -> bool {
                self.meta.uid == other.meta.uid
            }
        }
    };
}

watched!(
    Vmim,
    0,
    "VirtualMachineInstanceMigration",
    ("kubevirt.io", "v1", "virtualmachineinstancemigrations"),
    vmims,
    fn is_ended(&self) -> bool {
        self.is_final()
    }
);
watched!(Vmi, 1, "VirtualMachineInstance", ("kubevirt.io", "v1", "virtualmachineinstances"), vmis);
watched!(Pod, 2, "Pod", ("", "v1", "pods"), pods, const SELECTOR: Option<&'static str> = Some(LAUNCHER););

impl View {
    /// Takes note of an object; true if that changes anything.
    pub(super) fn note<T: Watched>(&mut self, object: T) -> bool {
        let key = object.key();
        let known = T::shelf(self).get(&key).filter(|known| known.is_same_as(&object)).cloned();
        if known.as_deref() == Some(&object) {
            return false;
        }
        if object.is_ended() {
            match &known {
                // It had ended when this process came, or has been forgotten.
                None => return self.forget::<T>(&key),
                Some(known) if !known.is_ended() => self.ended.push_back(key.clone()),
                Some(_) => {}
            }
        }
        T::shelf(self).insert(key, Arc::new(object));
        while self.ended.len() > ENDED_KEPT {
            let Some(key) = self.ended.pop_front() else { break };
            if self.vmims.get(&key).is_some_and(|vmim| vmim.is_final()) {
                self.vmims.remove(&key);
            }
        }
        true
    }

    fn forget<T: Watched>(&mut self, key: &Key) -> bool {
        T::shelf(self).remove(key).is_some()
    }

    /// Takes note of a list of all there are; true if that changes anything.
    pub(super) fn list<T: Watched>(&mut self, objects: Vec<T>) -> bool {
        let keys: BTreeSet<Key> = objects.iter().map(Watched::key).collect();
        let before = T::shelf(self).len();
        T::shelf(self).retain(|key, _| keys.contains(key));
        let mut changed = T::shelf(self).len() != before;
        for object in objects {
            changed |= self.note(object);
        }
        let was_listed = std::mem::replace(&mut self.listed[T::INDEX], true);
        changed || !was_listed
    }
}

/// Begins to watch; the watches end with what is returned.
pub(super) fn watch_all(
    client: &Client,
    namespace: Option<&str>,
) -> (watch::Receiver<Arc<View>>, JoinSet<()>) {
    let (sender, receiver) = watch::channel(Arc::default());
    let mut watches = JoinSet::new();
    watches.spawn(follow::<Vmim>(api::<Vmim>(client, namespace), sender.clone()));
    watches.spawn(follow::<Vmi>(api::<Vmi>(client, namespace), sender.clone()));
    watches.spawn(follow::<Pod>(api::<Pod>(client, namespace), sender));
    (receiver, watches)
}

fn api<T: Watched>(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version, plural) = T::RESOURCE;
    let kind = GroupVersionKind::gvk(group, version, T::KIND);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Follows one kind for good. While the API is away what is known stays.
async fn follow<T: Watched>(api: Api<DynamicObject>, view: watch::Sender<Arc<View>>) {
    // Migrations are listed first: an instance and its pods are then known at
    // least as well as the migration that they are asked about.
    if T::INDEX > 0 && view.subscribe().wait_for(|view| view.listed[0]).await.is_err() {
        return;
    }
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    config.label_selector = T::SELECTOR.map(str::to_owned);
    let mut events = pin!(watcher(api, config).default_backoff());
    let (mut listed, mut failed) = (Vec::new(), None);
    while let Some(event) = events.next().await {
        let edit = |edit: &mut dyn FnMut(&mut View) -> bool| {
            view.send_if_modified(|view| edit(Arc::make_mut(view)));
        };
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.extend(read::<T>(&object)),
            Ok(Event::InitDone) => edit(&mut |view| view.list(std::mem::take(&mut listed))),
            Ok(Event::Apply(object)) => {
                let mut object = read::<T>(&object);
                edit(&mut |view| object.take().is_some_and(|object| view.note(object)));
            }
            Ok(Event::Delete(object)) => {
                let gone = read::<T>(&object);
                edit(&mut |view| gone.as_ref().is_some_and(|gone| view.forget::<T>(&gone.key())));
            }
            Err(error) => {
                let error = error.to_string();
                if failed.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        kind = T::KIND,
                        "cannot be watched (is KubeVirt installed, and is it allowed?); what is known of it stays as it is"
                    );
                }
                failed = Some(error);
                continue;
            }
        }
        if failed.take().is_some() {
            tracing::info!(kind = T::KIND, "is watched again");
        }
    }
}

fn read<T: Watched>(object: &DynamicObject) -> Option<T> {
    serde_json::to_value(object).ok().as_ref().and_then(T::decode)
}
