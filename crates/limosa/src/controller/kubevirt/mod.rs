//! KubeVirt's migrations, as migrations of OVN ports.
//!
//! What should exist is decided in `limosa-kubevirt`; here the API is watched,
//! the decision compared with the store, and the difference written. A turn
//! that finds nothing new writes nothing.

mod events;
mod pins;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use limosa_kubevirt::{Existing, Intent, Nodes, Options, Pod, Seen, Vmi, Vmim, Wanted, intent};
use limosa_protocol::object::{Migration, OwnerReference, Want, to_microseconds};
use prometheus::{IntCounterVec, Registry};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::RETRY;
use crate::store::{Key, Snapshot, Store, StoreError};
use events::{Herald, left_alone, news, own_reference, publisher, reference};
use view::{View, Watched, watch_all};

/// Carries what KubeVirt says into the store.
#[derive(Debug)]
pub(crate) struct Kubevirt {
    view: watch::Receiver<Arc<View>>,
    options: Options,
    herald: Herald,
    /// Objects that were made (true) or found made, by KubeVirt's migration and
    /// full name. One that has gone while its migration goes on has ended or was
    /// taken away: it is not made again.
    made: BTreeMap<String, BTreeMap<String, bool>>,
    /// What has been asked for and may not be seen yet.
    asked: BTreeMap<Key, (Option<String>, Want)>,
    outcomes: IntCounterVec,
    /// The watches and the publisher; they end with this.
    _tasks: JoinSet<()>,
}

impl Kubevirt {
    /// Begins to watch, in one namespace or in all.
    pub(crate) fn new(
        client: Client,
        namespace: Option<&str>,
        options: Options,
        registry: &Registry,
    ) -> Self {
        let (view, mut tasks) = watch_all(&client, namespace);
        let (posts, publish) = publisher(client);
        tasks.spawn(publish);
        Self::with(view, options, Herald::new(posts), registry, tasks)
    }

    fn with(
        view: watch::Receiver<Arc<View>>,
        options: Options,
        herald: Herald,
        registry: &Registry,
        tasks: JoinSet<()>,
    ) -> Self {
        let outcomes = crate::metrics::kubevirt_outcomes(registry);
        let (made, asked) = (BTreeMap::new(), BTreeMap::new());
        Self { view, options, herald, made, asked, outcomes, _tasks: tasks }
    }

    /// One look at everything; how soon the next, if nothing changes.
    pub(crate) async fn turn(
        &mut self,
        snapshot: &Snapshot,
        nodes: &Nodes,
        store: &dyn Store,
    ) -> Option<Duration> {
        let view = self.view.borrow_and_update().clone();
        // Without the API there is nothing to be written; what is known stays.
        if !view.is_complete() || snapshot.trouble.is_some() {
            return None;
        }
        self.tidy(&view, snapshot);
        let objects: Vec<Existing<'_>> = snapshot.migrations.values().map(existing).collect();
        let mut wait = None;
        for case in cases(&view, snapshot) {
            let vmi = view.vmis.get(&(case.namespace.clone(), case.vmi.clone())).map(|vmi| &**vmi);
            let pods: Vec<&Pod> = view.pods_in(&case.namespace).collect();
            let (vmim, begun) = (case.vmim, self.made.contains_key(&case.uid));
            let seen = Seen { uid: &case.uid, vmim, vmi, pods: &pods, objects: &objects, begun, nodes };
            let intent = intent(&seen, self.options);
            for wanted in &intent.objects {
                if let Err(error) = self.carry_out(&case, wanted, snapshot, store).await {
                    tracing::error!(migration = wanted.name, %error, "what KubeVirt says cannot be carried into the store");
                    wait = Some(RETRY);
                }
            }
            self.tell(&case, vmi, &intent, snapshot);
        }
        wait
    }

    async fn carry_out(
        &mut self,
        case: &Case<'_>,
        wanted: &Wanted,
        snapshot: &Snapshot,
        store: &dyn Store,
    ) -> Result<(), StoreError> {
        let made = self.made.entry(case.uid.clone()).or_default();
        let mut fresh = Migration::new(wanted.name.clone(), Uuid::new_v4(), wanted.spec.clone(), now());
        fresh.metadata.namespace = Some(case.namespace.clone()).filter(|namespace| !namespace.is_empty());
        fresh.metadata.owner_references = case.vmim.map(owner).into_iter().collect();
        let full_name = fresh.full_name();
        let Some(migration) = snapshot.migrations.get(&full_name) else {
            if made.contains_key(&full_name) {
                return Ok(());
            }
            let is_new = make(fresh, store).await?;
            self.outcomes.with_label_values(&["Made"]).inc_by(is_new.into());
            made.insert(full_name, is_new);
            return Ok(());
        };
        made.entry(full_name).or_default();
        let (key, spec) = (Key::of(migration), &migration.spec);
        // A change of what KubeVirt wants is heeded, not that it still wants what it did: a person may have given
        // the migration up meanwhile.
        let asked = self.asked.entry(key.clone()).or_insert_with(|| (spec.to.clone(), Want::Complete));
        if let Some(to) = &wanted.spec.to
            && asked.0.is_none()
        {
            there(store.set_target(&key, to).await)?;
            asked.0.clone_from(&wanted.spec.to);
        }
        if wanted.spec.want != spec.want && wanted.spec.want != asked.1 {
            there(store.set_want(&key, wanted.spec.want).await)?;
            asked.1 = wanted.spec.want;
        }
        Ok(())
    }

    fn tell(&mut self, case: &Case<'_>, vmi: Option<&Vmi>, intent: &Intent, snapshot: &Snapshot) {
        let on_vmim = case.vmim.map(|vmim| reference::<Vmim>(&vmim.meta));
        let on_vmi = vmi.map(|vmi| reference::<Vmi>(&vmi.meta));
        let both: Vec<ObjectReference> = on_vmim.iter().chain(&on_vmi).cloned().collect();
        let made = self.made.get(&case.uid);
        for migration in snapshot.migrations.values().filter(|m| owner_uid(m) == case.uid) {
            let name = migration.full_name();
            let found =
                self.herald.meet(&name) && !made.and_then(|made| made.get(&name)).is_some_and(|mine| *mine);
            let Some(news) = news(migration) else { continue };
            if found {
                // Somebody else has seen it happen, and said so.
                self.herald.hush(&name, news);
            } else {
                self.herald.say(&name, news, &both, Some(&own_reference(migration)));
            }
        }
        if let Some(news) = left_alone(&intent.left_alone) {
            // That there is nothing to do is not the instance's trouble.
            let on = if news.warning { both } else { on_vmim.into_iter().collect() };
            if self.herald.say(&case.uid, news, &on, None) {
                for left in intent.left_alone.iter().filter(|left| !left.why.is_quiet()) {
                    self.outcomes.with_label_values(&[left.why.label()]).inc();
                }
            }
        }
    }

    /// Forgets what is about nothing any more.
    fn tidy(&mut self, view: &View, snapshot: &Snapshot) {
        let owners = snapshot.migrations.values().map(owner_uid);
        let uids: BTreeSet<&str> =
            view.vmims.values().map(|vmim| vmim.meta.uid.as_str()).chain(owners).collect();
        let keys: BTreeSet<Key> = snapshot.migrations.values().map(Key::of).collect();
        self.made.retain(|uid, _| uids.contains(uid.as_str()));
        self.asked.retain(|key, _| keys.contains(key));
        self.herald.keep(|about| uids.contains(about) || snapshot.migrations.contains_key(about));
    }
}

/// Waits until a turn is due; for good, if there is nobody to listen to.
pub(crate) async fn due(kubevirt: &mut Option<Kubevirt>) {
    if let Some(kubevirt) = kubevirt
        && kubevirt.view.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// One migration of KubeVirt that has to be looked at.
struct Case<'a> {
    uid: String,
    namespace: String,
    /// The name of the virtual machine instance.
    vmi: String,
    vmim: Option<&'a Vmim>,
}

/// The migrations that are under way, and those that have objects.
fn cases<'a>(view: &'a View, snapshot: &Snapshot) -> Vec<Case<'a>> {
    let owned: BTreeMap<&str, &Migration> =
        snapshot.migrations.values().map(|migration| (owner_uid(migration), migration)).collect();
    let seen =
        view.vmims.values().filter(|vmim| !vmim.is_final() || owned.contains_key(vmim.meta.uid.as_str()));
    let mut cases: Vec<Case<'_>> = seen
        .map(|vmim| Case {
            uid: vmim.meta.uid.clone(),
            namespace: vmim.meta.namespace.clone(),
            vmi: vmim.vmi.clone(),
            vmim: Some(vmim),
        })
        .collect();
    let known: BTreeSet<String> = cases.iter().map(|case| case.uid.clone()).collect();
    let orphans = owned.into_iter().filter(|(uid, _)| !uid.is_empty() && !known.contains(*uid));
    cases.extend(orphans.map(|(uid, migration)| Case {
        uid: uid.to_owned(),
        namespace: migration.metadata.namespace.clone().unwrap_or_default(),
        vmi: migration.spec.guest.as_ref().map(|guest| guest.vm.clone()).unwrap_or_default(),
        vmim: None,
    }));
    cases
}

fn existing(migration: &Migration) -> Existing<'_> {
    Existing {
        name: &migration.metadata.name,
        migration: owner_uid(migration),
        spec: &migration.spec,
        created: migration.metadata.creation_timestamp,
        ended: migration.phase().is_final(),
    }
}

/// Adds an object; false if it has been there before.
async fn make(migration: Migration, store: &dyn Store) -> Result<bool, StoreError> {
    let (name, port) = (migration.full_name(), migration.spec.port.clone());
    match store.create(migration).await {
        Ok(_) => {
            tracing::info!(migration = name, port, "KubeVirt migrates its guest");
            Ok(true)
        }
        // It has ended, and is out of sight.
        Err(StoreError::Exists(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn owner(vmim: &Vmim) -> OwnerReference {
    let (group, version, _) = Vmim::RESOURCE;
    OwnerReference {
        api_version: format!("{group}/{version}"),
        kind: Vmim::KIND.to_owned(),
        name: vmim.meta.name.clone(),
        uid: vmim.meta.uid.clone(),
    }
}

/// The UID of KubeVirt's migration that an object was made for; empty if it was
/// made for none.
fn owner_uid(migration: &Migration) -> &str {
    let owners = &migration.metadata.owner_references;
    owners.iter().find(|owner| owner.kind == Vmim::KIND).map_or("", |owner| &owner.uid)
}

fn now() -> Timestamp {
    to_microseconds(Timestamp::now())
}

/// What has gone meanwhile, or was decided otherwise by somebody else, is nothing
/// to ask for any more.
fn there(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(StoreError::NotFound(_) | StoreError::TargetSet { .. } | StoreError::Returning(_)) => Ok(()),
        other => other,
    }
}
