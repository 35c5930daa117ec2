//! The objects of the API as a stream of snapshots.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use limosa_protocol::Migration;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::kept::{Entry, Kept, Notice};
use super::super::{Limits, Snapshot, StoreError};
use super::access::explain;

/// How long a watch lasts, seconds. A connection that has died without a word is noticed a few seconds later.
pub(super) const WATCH_SECONDS: u32 = 45;
/// How soon a watch that failed begins anew: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How soon everything is listed again while there is more than is kept: to count it, and where there is
/// room again.
const LIST_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));

/// Follows the objects for good. During an outage the last snapshot stays what it is, but for its trouble.
///
/// After every failure the objects are listed again: a watch that goes on says nothing, and only a list tells
/// that the server is back, with what state it may be.
pub(super) async fn follow(
    api: Api<DynamicObject>,
    config: watcher::Config,
    limits: Limits,
    sender: watch::Sender<Arc<Snapshot>>,
) {
    let (min, max) = BACKOFF;
    let backoff = ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).with_jitter();
    let mut pauses = backoff.without_max_times().build();
    let (mut objects, mut notice) = (Kept::new(limits), Notice::default());
    let mut failed = None;
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()));
        let (mut listed, mut listed_at) = (Kept::new(limits), None);
        while let Ok(Some(event)) = until(list_again(&objects, listed_at), events.next()).await {
            match event {
                Ok(Event::Init) => listed = Kept::new(limits),
                Ok(Event::InitApply(object)) => {
                    let (name, entry) = read(object, &objects);
                    listed.insert(name, entry);
                }
                Ok(Event::InitDone) => {
                    objects = std::mem::replace(&mut listed, Kept::new(limits));
                    listed_at = Some(Instant::now());
                    notice.see(&"the Kubernetes API", &objects);
                    pauses = backoff.without_max_times().build();
                    publish(&sender, &objects, None);
                    if std::mem::take(&mut failed).is_some() {
                        tracing::info!("the Kubernetes API is back");
                    }
                }
                Ok(Event::Apply(object)) => {
                    let (name, entry) = read(object, &objects);
                    objects.insert(name, entry);
                    notice.see(&"the Kubernetes API", &objects);
                    publish(&sender, &objects, None);
                }
                Ok(Event::Delete(object)) => {
                    objects.remove(&full_name(&object));
                    publish(&sender, &objects, None);
                }
                // The state that the watch went on from is no longer kept.
                Err(watcher::Error::WatchError(status)) if status.code == 410 => break,
                Err(error) => {
                    let error = because(error).to_string();
                    if failed.as_ref() != Some(&error) {
                        tracing::warn!(error, "the store cannot be read; every migration stays what it was");
                    }
                    failed = Some(error.clone());
                    publish(&sender, &objects, Some(error));
                    break;
                }
            }
        }
        tokio::time::sleep(pauses.next().unwrap_or(max)).await;
    }
}

/// When to list everything again although the watch goes on.
fn list_again(objects: &Kept, listed_at: Option<Instant>) -> Option<Instant> {
    let (full, room) = LIST_AGAIN;
    let at = listed_at.filter(|_| objects.left_out() > 0)?;
    Some(at + if objects.has_room() { room } else { full })
}

async fn until<F: Future>(at: Option<Instant>, future: F) -> Result<F::Output, tokio::time::error::Elapsed> {
    match at {
        Some(at) => tokio::time::timeout_at(at, future).await,
        None => Ok(future.await),
    }
}

fn because(error: watcher::Error) -> StoreError {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => explain("", error),
        WatchError(status) => explain("", kube::Error::Api(status)),
        NoResourceVersion => StoreError::Unreachable("a list without a resource version".to_owned()),
    }
}

/// One object. What has become unreadable stays what it was: its flows must not go because of a newer version.
pub(super) fn read(mut object: DynamicObject, known: &Kept) -> (String, Entry) {
    object.metadata.managed_fields = None;
    let name = full_name(&object);
    let entry = migration(&object).map_err(|why| {
        let last = match known.get(&name) {
            Some(Ok(last) | Err((_, Some(last)))) => Some(last.clone()),
            Some(Err((_, None))) | None => None,
        };
        let same = last.filter(|last| Some(last.metadata.uid.to_string()) == object.metadata.uid);
        (format!("{name}: {why}"), same)
    });
    (name, entry)
}

/// The object in our own terms.
pub(super) fn migration(object: &DynamicObject) -> Result<Migration, String> {
    let read = |object| serde_json::to_value(object).and_then(serde_json::from_value);
    read(object).map_err(|e| format!("not a migration that this version understands: {e}"))
}

fn full_name(object: &DynamicObject) -> String {
    let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
    format!("{}/{}", namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default())
}

fn publish(sender: &watch::Sender<Arc<Snapshot>>, objects: &Kept, trouble: Option<String>) {
    let snapshot = objects.snapshot(trouble);
    sender.send_if_modified(|last| {
        let changed = **last != snapshot;
        if changed {
            *last = Arc::new(snapshot);
        }
        changed
    });
}
