//! What this chassis has to say of each migration, and what it has said.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use limosa_protocol::object::{Connections, Migration, NodeStatus, Problem};
use limosa_protocol::{Phase, Step, Survey};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::logging;
use crate::metrics::{AgentMetrics, Links};
use crate::store::{Key, Snapshot, Store, StoreError};

/// How soon a status that the store would not take is offered again.
const RETRY: Duration = Duration::from_millis(500);

/// This chassis' share of every object's status. What was found out is kept
/// here until the store shows it. The store is written to beside the agent's
/// other work: one that is full, away or hanging keeps no flow waiting.
pub(super) struct Reports {
    chassis: String,
    own: BTreeMap<Key, NodeStatus>,
    /// What the store does not show yet.
    unwritten: watch::Sender<BTreeMap<Key, NodeStatus>>,
    writer: JoinHandle<()>,
    metrics: AgentMetrics,
}

impl Reports {
    pub(super) fn new(store: Box<dyn Store>, chassis: String, metrics: AgentMetrics) -> Self {
        let (unwritten, to_write) = watch::channel(BTreeMap::new());
        let writer = tokio::spawn(write(store, chassis.clone(), to_write, metrics.links.clone()));
        Self { chassis, own: BTreeMap::new(), unwritten, writer, metrics }
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

    /// Notes what became of the port's connections; the next report carries it.
    pub(super) fn connections(&mut self, migration: &Migration, connections: Connections) {
        let status = NodeStatus { connections: Some(connections), ..self.own_or_new(migration) };
        self.know(migration, status);
    }

    /// Reports a status, if the object does not show it yet.
    pub(super) fn put(&mut self, migration: &Migration, status: NodeStatus) {
        self.know(migration, status.clone());
        let key = Key::of(migration);
        let shown = migration.status.nodes.get(&self.chassis) == Some(&status);
        self.unwritten.send_if_modified(|unwritten| {
            if shown {
                unwritten.remove(&key).is_some()
            } else {
                unwritten.insert(key, status.clone()) != Some(status)
            }
        });
    }

    /// Says that nothing is left of a migration that has ended while this chassis
    /// was away. The store keeps its object in sight until then.
    pub(super) fn clean_late(&mut self, migration: &Migration, survey: &Survey, now: Timestamp) {
        let number = migration.status.progress.number;
        let owes = self.own(migration).is_some_and(|own| !own.has(Step::Cleaned));
        if migration.phase().is_final() && owes && survey.of_migration(number).next().is_none() {
            let mut status = self.own_or_new(migration);
            status.take(Step::Cleaned, now);
            self.put(migration, status);
        }
    }

    /// Reports what keeps this chassis from doing anything at all.
    pub(super) fn problem(&mut self, snapshot: &Snapshot, problem: &Problem) {
        let concerned = |m: &&Migration| m.phase() >= Phase::Arming && !m.phase().is_final();
        for migration in snapshot.migrations.values().filter(concerned) {
            let _span = logging::span(migration).entered();
            let mut status = self.own_or_new(migration);
            status.problem = Some(problem.clone());
            self.put(migration, status);
        }
    }

    /// Forgets what the store no longer has.
    pub(super) fn retain(&mut self, snapshot: &Snapshot) {
        let is_there = |key: &Key| snapshot.get(key).is_some();
        self.own.retain(|key, _| is_there(key));
        self.unwritten.send_if_modified(|unwritten| {
            unwritten.retain(|key, _| is_there(key));
            false
        });
        self.metrics.unwritten.set(self.unwritten.borrow().len() as i64);
    }

    fn know(&mut self, migration: &Migration, status: NodeStatus) {
        self.log(migration, &status);
        self.own.insert(Key::of(migration), status);
    }

    /// One line for each step, and one for each new thing to wait for.
    fn log(&self, migration: &Migration, new: &NodeStatus) {
        let (role, chassis) = (new.role, &self.chassis);
        let old = self.own(migration);
        let taken = |step: &Step| old.is_some_and(|old| old.has(*step));
        for step in new.steps.keys().filter(|step| !taken(step)) {
            tracing::info!(chassis, ?role, "{step:?}");
            self.metrics.step(role, *step);
        }
        let known = old.and_then(|old| old.problem.as_ref());
        if let Some(problem) = new.problem.as_ref().filter(|problem| known != Some(problem)) {
            tracing::info!(chassis, reason = problem.reason, "waiting: {}", problem.message);
        }
    }

    fn own_or_new(&self, migration: &Migration) -> NodeStatus {
        let new = || NodeStatus::new(migration.role_of(&self.chassis));
        self.own(migration).cloned().unwrap_or_else(new)
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// Writes what has to be written, until the store shows it.
async fn write(
    store: Box<dyn Store>,
    chassis: String,
    mut to_write: watch::Receiver<BTreeMap<Key, NodeStatus>>,
    links: Links,
) {
    let mut trouble = BTreeMap::new();
    loop {
        let statuses = to_write.borrow_and_update().clone();
        for (key, status) in &statuses {
            let written = store.put_node(key, &chassis, status.clone());
            match links.timed("store", StoreError::label, written).await {
                // Deleted: the next snapshot will show it.
                Ok(()) | Err(StoreError::NotFound(_)) => drop(trouble.remove(key)),
                Err(error) => {
                    let error = error.to_string();
                    if trouble.insert(key.clone(), error.clone()).as_ref() != Some(&error) {
                        tracing::error!(
                            migration = key.name,
                            error,
                            "the status cannot be written; will try again"
                        );
                    }
                }
            }
        }
        let retry = async {
            if statuses.is_empty() { std::future::pending().await } else { tokio::time::sleep(RETRY).await }
        };
        tokio::select! {
            changed = to_write.changed() => if changed.is_err() { return },
            () = retry => {}
        }
    }
}

#[cfg(test)]
mod tests;
