//! What this chassis has to say of each migration, and what it has said.

use std::collections::BTreeMap;

use jiff::Timestamp;
use limosa_protocol::object::{Migration, NodeStatus, Problem};
use limosa_protocol::{Phase, Step};

use crate::store::{Key, Snapshot, Store, StoreError};

/// This chassis' share of every object's status. What was found out is kept
/// here until the store has taken it, and is not forgotten if the store does
/// not answer.
pub(super) struct Reports {
    store: Box<dyn Store>,
    chassis: String,
    own: BTreeMap<Key, NodeStatus>,
}

impl Reports {
    pub(super) fn new(store: Box<dyn Store>, chassis: String) -> Self {
        Self { store, chassis, own: BTreeMap::new() }
    }

    /// What is known of this chassis' share: more than the object shows, maybe.
    pub(super) fn own<'a>(&'a self, migration: &'a Migration) -> Option<&'a NodeStatus> {
        self.own.get(&Key::of(migration)).or_else(|| migration.status.nodes.get(&self.chassis))
    }

    /// Notes a step that was heard of; the next report carries it.
    pub(super) fn take(&mut self, migration: &Migration, step: Step, now: Timestamp) {
        let mut status = self.own_or_new(migration);
        status.take(step, now);
        self.know(migration, status);
    }

    /// Writes a status if the object does not show it yet; false if the store
    /// would not take it.
    pub(super) async fn put(&mut self, migration: &Migration, status: NodeStatus) -> bool {
        self.know(migration, status.clone());
        if migration.status.nodes.get(&self.chassis) == Some(&status) {
            return true;
        }
        match self.store.put_node(&Key::of(migration), &self.chassis, status).await {
            // Deleted: the next snapshot will show it.
            Ok(()) | Err(StoreError::NotFound(_)) => true,
            Err(error) => {
                tracing::error!(migration = migration.metadata.name, %error, "the status cannot be written");
                false
            }
        }
    }

    /// Reports what keeps this chassis from doing anything at all.
    pub(super) async fn problem(&mut self, snapshot: &Snapshot, problem: &Problem) {
        let concerned = |m: &&Migration| m.phase() >= Phase::Arming && !m.phase().is_final();
        for migration in snapshot.migrations.values().filter(concerned) {
            let mut status = self.own_or_new(migration);
            status.problem = Some(problem.clone());
            self.put(migration, status).await;
        }
    }

    /// Forgets what the store no longer has.
    pub(super) fn retain(&mut self, snapshot: &Snapshot) {
        self.own
            .retain(|key, _| snapshot.migrations.get(&key.name).is_some_and(|m| m.metadata.uid == key.uid));
    }

    fn know(&mut self, migration: &Migration, status: NodeStatus) {
        log(migration, &self.chassis, self.own(migration), &status);
        self.own.insert(Key::of(migration), status);
    }

    fn own_or_new(&self, migration: &Migration) -> NodeStatus {
        let new = || NodeStatus::new(migration.role_of(&self.chassis));
        self.own(migration).cloned().unwrap_or_else(new)
    }
}

/// One line for each step, and one for each new thing to wait for.
fn log(migration: &Migration, chassis: &str, old: Option<&NodeStatus>, new: &NodeStatus) {
    let (name, role) = (&migration.metadata.name, new.role);
    let taken = |step: &Step| old.is_some_and(|old| old.has(*step));
    for step in new.steps.keys().filter(|step| !taken(step)) {
        tracing::info!(migration = name, chassis, ?role, "{step:?}");
    }
    let known = old.and_then(|old| old.problem.as_ref());
    if let Some(problem) = new.problem.as_ref().filter(|problem| known != Some(problem)) {
        tracing::info!(migration = name, chassis, reason = problem.reason, "waiting: {}", problem.message);
    }
}
