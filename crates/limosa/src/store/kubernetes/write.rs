//! What is written of an object, by whom, and when it is not.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use kube::api::{DynamicObject, Patch, PatchParams};
use limosa_protocol::object::{FINALIZER, Migration, NodeStatus, Progress, Spec};
use serde_json::{Map, Value, json};

use super::super::continues;
use super::{ENDED, Key, Kubernetes, REQUESTER, StoreError, follow, in_time, split};

/// The field manager of the controller's part of the status.
const CONTROLLER: &str = "limosa-controller";
/// The field manager of the agents' parts: one for all, or the managers of a large cluster would be most of an object.
const AGENTS: &str = "limosa-agent";
/// How often a write is tried that somebody else has come between. All agents of a cluster may report at the same
/// moment, each a write of its own, and on a busy server every try takes a while.
const TRIES: usize = 32;

/// What this process has written last of an object.
#[derive(Debug, Clone)]
pub(super) struct Written {
    part: Value,
    progress: Progress,
    version: String,
}

impl Kubernetes {
    /// One chassis' part of the status. It is not written again while the object
    /// does not show something else that is later.
    ///
    /// What an agent has had to say during an outage may come to another object
    /// of the same name. Server-side apply takes no notice of a UID, and with a
    /// resource version the agents would be in each other's way; hence a patch
    /// that tests the UID.
    pub(super) async fn write_node(
        &self,
        key: &Key,
        chassis: &str,
        status: NodeStatus,
    ) -> Result<(), StoreError> {
        let shown = self.shown(key).ok_or_else(|| StoreError::NotFound(key.name.clone()))?;
        let part = without_nulls(json!(status));
        let is_there = match self.last(key) {
            Some(last) if !is_later(&shown, &last.version) => last.part == part,
            _ => shown.status.nodes.get(chassis) == Some(&status),
        };
        if is_there {
            return Ok(());
        }
        let object = self.patch_node(key, chassis, &part).await?;
        self.remember(key, part, &object);
        Ok(())
    }

    /// Writes a chassis' part to this very object and no other.
    pub(super) async fn patch_node(
        &self,
        key: &Key,
        chassis: &str,
        part: &Value,
    ) -> Result<DynamicObject, StoreError> {
        let (namespace, name) = split(&key.name)?;
        // RFC 6901, section 3.
        let pointer = format!("/status/nodes/{}", chassis.replace('~', "~0").replace('/', "~1"));
        let patch = json!([
            { "op": "test", "path": "/metadata/uid", "value": key.uid },
            { "op": "add", "path": pointer, "value": part },
        ]);
        let url =
            format!("{}/{name}/status?fieldManager={AGENTS}", self.in_namespace(namespace).resource_url());
        let request = http::Request::patch(url)
            .header(http::header::CONTENT_TYPE, "application/json-patch+json")
            .body(patch.to_string().into_bytes())
            .map_err(|e| StoreError::Refused(e.to_string()))?;
        match in_time(&key.name, self.client().request(request)).await {
            // Why it was refused: most likely it is another object by now.
            Err(StoreError::Refused(why)) => self.read(key).await.and(Err(StoreError::Refused(why))),
            result => result,
        }
    }

    /// The controller's part. It goes out on top of what was read or written last
    /// and nothing else: agents may come between, another controller may not.
    pub(super) async fn write_progress(&self, key: &Key, progress: Progress) -> Result<(), StoreError> {
        let shown = self.shown(key).ok_or_else(|| StoreError::NotFound(key.name.clone()))?;
        let mut last = self.last(key);
        if let Some(written) = last.take_if(|last| is_later(&shown, &last.version))
            && shown.status.progress != written.progress
        {
            self.written().remove(key);
            return Err(StoreError::Conflict(key.name.clone()));
        }
        let base = last.as_ref().map_or(&shown.status.progress, |last| &last.progress);
        if *base == progress {
            return Ok(());
        }
        if !continues(base, &progress) {
            self.written().remove(key);
            return Err(StoreError::Conflict(key.name.clone()));
        }
        let mut version = match &last {
            Some(last) => last.version.clone(),
            None => shown.metadata.resource_version.clone().unwrap_or_default(),
        };
        if !progress.phase.is_final() {
            version = self.hold(key, &shown, version).await?;
        }
        let part = without_nulls(json!(progress));
        let mut changes = merge_patch(&without_nulls(json!(base)), &part);
        // Where the agents put theirs.
        changes["nodes"] = json!({});
        for _ in 0..TRIES {
            self.may_write()?;
            match self.patch_progress(key, &version, &changes).await {
                Ok(object) => {
                    self.remember(key, part, &object);
                    return Ok(());
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
            let now = self.read(key).await?;
            if now.status.progress != *base {
                self.written().remove(key);
                return Err(StoreError::Conflict(key.name.clone()));
            }
            version = now.metadata.resource_version.unwrap_or_default();
        }
        Err(StoreError::Unreachable(format!("{} changes all the time", key.name)))
    }

    /// An object that somebody made by hand gets its finalizer before anything
    /// is done that has to be undone.
    async fn hold(&self, key: &Key, shown: &Migration, version: String) -> Result<String, StoreError> {
        let metadata = &shown.metadata;
        let is_held = metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if is_held || metadata.deletion_timestamp.is_some() || self.last(key).is_some() {
            return Ok(version);
        }
        self.may_write()?;
        let mut finalizers = metadata.finalizers.clone();
        finalizers.push(FINALIZER.to_owned());
        let patch =
            json!({ "metadata": { "finalizers": finalizers, "resourceVersion": version, "uid": key.uid } });
        let object = self.merge(key, &patch).await?;
        Ok(object.metadata.resource_version.unwrap_or_default())
    }

    /// The counterpart, once a migration has ended.
    pub(super) async fn let_go(&self, migration: &Migration, is_clean: bool) -> Result<(), StoreError> {
        let metadata = &migration.metadata;
        let is_held = metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        let is_ended = metadata.labels.contains_key(ENDED);
        if !is_held && (!is_clean || is_ended) {
            return Ok(());
        }
        self.may_write()?;
        let others: Vec<&String> = metadata.finalizers.iter().filter(|other| *other != FINALIZER).collect();
        let mut changes = json!({
            "finalizers": others, "resourceVersion": metadata.resource_version, "uid": metadata.uid,
        });
        if is_clean {
            changes["labels"] = json!({ ENDED: "true" });
        }
        match self.merge(&Key::of(migration), &json!({ "metadata": changes })).await {
            // Whoever came between is seen soon.
            Ok(_) | Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes one field of the spec on top of what it is now.
    pub(super) async fn respec(
        &self,
        key: &Key,
        field: &str,
        edit: impl Fn(&Spec) -> Result<Option<Spec>, StoreError> + Send,
    ) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            self.may_write()?;
            let now = self.read(key).await?;
            let Some(spec) = edit(&now.spec)? else { return Ok(()) };
            let version = now.metadata.resource_version;
            let patch = json!({
                "metadata": { "resourceVersion": version, "uid": key.uid },
                "spec": { field: json!(spec)[field] },
            });
            match self.merge(key, &patch).await {
                Err(StoreError::Conflict(_)) => {}
                result => return result.map(drop),
            }
        }
        Err(StoreError::Unreachable(format!("{} changes all the time", key.name)))
    }

    /// The object as it is now.
    async fn read(&self, key: &Key) -> Result<Migration, StoreError> {
        let (namespace, name) = split(&key.name)?;
        let object = in_time(&key.name, self.in_namespace(namespace).get(name)).await?;
        match follow::migration(&object) {
            Ok(migration) if migration.metadata.uid == key.uid => Ok(migration),
            Ok(_) => Err(StoreError::NotFound(key.name.clone())),
            Err(why) => Err(StoreError::Refused(format!("{}: {why}", key.name))),
        }
    }

    async fn merge(&self, key: &Key, patch: &Value) -> Result<DynamicObject, StoreError> {
        let (namespace, name) = split(&key.name)?;
        let params = PatchParams { field_manager: Some(REQUESTER.to_owned()), ..PatchParams::default() };
        let api = self.in_namespace(namespace);
        in_time(&key.name, api.patch(name, &params, &Patch::Merge(patch))).await
    }

    /// Writes those of the controller's fields that change. Server-side apply
    /// would know by itself which these are, but Kubernetes 1.20 makes a null of
    /// some fields that are left out, and then refuses it.
    async fn patch_progress(
        &self,
        key: &Key,
        version: &str,
        changes: &Value,
    ) -> Result<DynamicObject, StoreError> {
        let (namespace, name) = split(&key.name)?;
        let metadata = json!({ "resourceVersion": version, "uid": key.uid });
        let patch = json!({ "metadata": metadata, "status": changes });
        let params = PatchParams { field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() };
        let api = self.in_namespace(namespace);
        in_time(&key.name, api.patch_status(name, &params, &Patch::Merge(&patch))).await
    }

    fn last(&self, key: &Key) -> Option<Written> {
        self.written().get(key).cloned()
    }

    fn remember(&self, key: &Key, part: Value, object: &DynamicObject) {
        let snapshot = self.snapshots.borrow().clone();
        let mut written = self.written();
        written.retain(|key, _| snapshot.get(key).is_some());
        if let Ok(migration) = follow::migration(object) {
            let version = migration.metadata.resource_version.unwrap_or_default();
            written.insert(key.clone(), Written { part, progress: migration.status.progress, version });
        }
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<Key, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the object was seen in a later state than `version`. The numbers are
/// etcd's revisions; should they not be numbers some day, every state is later,
/// and a request more is made.
fn is_later(shown: &Migration, version: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    let shown = shown.metadata.resource_version.as_deref().and_then(number);
    match (shown, number(version)) {
        (Some(shown), Some(version)) => shown > version,
        _ => true,
    }
}

/// What makes `new` of `old` (RFC 7396).
fn merge_patch(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let changed = changed
        .map(|(name, value)| (name.clone(), merge_patch(old.get(name).unwrap_or(&Value::Null), value)));
    Value::Object(gone.chain(changed).collect())
}

/// A null would make its writer the owner of a field that is not there.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let some = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(some.map(|(name, value)| (name, without_nulls(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_written() {
        let old =
            json!({ "phase": "Armed", "barrier": { "round": 1 }, "steps": { "a": 1, "b": 2 }, "list": [1] });
        let new = json!({ "phase": "Armed", "steps": { "a": 1, "c": 3 }, "list": [1, 2] });
        let patch = json!({ "barrier": null, "steps": { "b": null, "c": 3 }, "list": [1, 2] });
        assert_eq!(merge_patch(&old, &new), patch);
        assert_eq!(merge_patch(&new, &new), json!({}));
        assert_eq!(merge_patch(&Value::Null, &new), new);
    }
}
