//! `limosa controller`: takes every migration from phase to phase.
//!
//! Each turn looks at the objects and at the databases, lets
//! [`lifecycle::decide`] say what should be, writes the object and then the
//! northbound option. Nothing is remembered that the store or the databases
//! do not hold; whatever is interrupted is decided again.

mod databases;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use limosa_protocol::Phase;
use limosa_protocol::lifecycle::{Change, Decision, World, decide};
use limosa_protocol::object::{
    Barrier, ConditionType, Migration, Problem, Progress, Restore, Truth, to_microseconds,
};
use ovsdb_rs::{Remotes, Tls};
use tokio::sync::watch;

use crate::metrics::{self, ControllerMetrics, Readiness};
use crate::shutdown::Shutdown;
use crate::store::{Directory, Key, Snapshot, Store, StoreError};
use databases::{Databases, Mark};

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) nb: Remotes,
    pub(crate) sb: Remotes,
    pub(crate) tls: Option<Tls>,
    pub(crate) store: PathBuf,
    /// How long an object is kept after its migration has ended.
    pub(crate) retain: Duration,
    pub(crate) metrics_listen: Option<SocketAddr>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::new()?;
    let metrics = ControllerMetrics::new();
    let (ready, readiness) = watch::channel(Err("the controller has just started".to_owned()));
    if let Some(listen) = options.metrics_listen {
        metrics::serve(listen, metrics.registry.clone(), readiness).await?;
    }
    let databases = Databases::open(options.nb, options.sb, options.tls);
    let store = tokio::select! {
        (store, ()) = async { tokio::join!(Directory::wait_for(&options.store), databases.ready()) } => store,
        () = shutdown.asked() => return Ok(()),
    };
    let objects = store.watch();
    tracing::info!(store = %options.store.display(), "controller started");
    let retain = options.retain;
    let mut controller = Controller {
        store: Box::new(store),
        databases,
        retain,
        written: BTreeMap::new(),
        not_before: BTreeMap::new(),
        metrics,
        ready,
    };
    controller.follow(objects, shutdown).await
}

struct Controller {
    store: Box<dyn Store>,
    databases: Databases,
    retain: Duration,
    /// What was last written, which the store's watch may not show yet.
    written: BTreeMap<Key, Progress>,
    /// What failed is not tried again before, whatever else changes: a change of
    /// the database that could not be noted in the store wakes the controller by
    /// itself, and would be made again at once.
    not_before: BTreeMap<Key, Instant>,
    metrics: ControllerMetrics,
    ready: watch::Sender<Readiness>,
}

impl Controller {
    async fn follow(
        &mut self,
        mut objects: watch::Receiver<Arc<Snapshot>>,
        mut shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        let (mut nb, mut sb) = (self.databases.nb.subscribe(), self.databases.sb.subscribe());
        let mut unreadable = Vec::new();
        loop {
            let snapshot = objects.borrow_and_update().clone();
            for why in snapshot.unreadable.iter().filter(|why| !unreadable.contains(*why)) {
                tracing::error!("{why}");
            }
            unreadable.clone_from(&snapshot.unreadable);
            nb.mark_unchanged();
            sb.mark_unchanged();
            self.metrics.see(&snapshot);
            let wait = self.turn(&snapshot).await;
            tokio::select! {
                changed = objects.changed() => changed.context("the store has gone")?,
                changed = nb.changed() => changed.context("the northbound session has ended")?,
                changed = sb.changed() => changed.context("the southbound session has ended")?,
                () = sleep(wait) => {}
                () = shutdown.asked() => return Ok(()),
            }
        }
    }

    /// One look at everything; how long until the next, if nothing changes.
    async fn turn(&mut self, snapshot: &Snapshot) -> Option<Duration> {
        let live: BTreeSet<Key> = snapshot.migrations.values().map(Key::of).collect();
        self.written.retain(|key, _| live.contains(key));
        self.forget(snapshot).await;
        let mut migrations: Vec<Migration> = snapshot.migrations.values().map(|m| self.latest(m)).collect();
        migrations.retain(|migration| !migration.phase().is_final());
        migrations.sort_by_key(|migration| (migration.metadata.creation_timestamp, migration.metadata.uid));
        let ports = migrations.iter().map(|migration| migration.spec.port.clone()).collect();
        if let Err(error) = self.databases.follow(ports).await {
            tracing::error!(%error, "the databases do not follow the ports of the migrations");
            return Some(RETRY);
        }
        for (database, session) in [("northbound", &self.databases.nb), ("southbound", &self.databases.sb)] {
            let connected = session.replica().connected;
            self.metrics.connected.with_label_values(&[database]).set(connected.into());
        }
        let trouble = self.databases.trouble();
        let ready = trouble.as_ref().map_or(Ok(()), |trouble| Err(trouble.message.clone()));
        self.ready.send_modify(|last| *last = ready);
        if let Some(trouble) = trouble {
            return self.tell(&mut migrations, &trouble).await;
        }
        let mut wait: Option<Duration> = None;
        self.not_before.retain(|_, at| *at > Instant::now());
        for i in 0..migrations.len() {
            let key = Key::of(&migrations[i]);
            if let Some(at) = self.not_before.get(&key) {
                wait = [wait, Some(at.saturating_duration_since(Instant::now()))].into_iter().flatten().min();
                continue;
            }
            let next = match self.advance(&migrations, i).await {
                Ok((progress, next)) => {
                    migrations[i].status.progress = progress;
                    next
                }
                Err(error) => {
                    tracing::error!(migration = migrations[i].metadata.name, "{error:#}");
                    self.not_before.insert(key, Instant::now() + RETRY);
                    Some(RETRY)
                }
            };
            wait = [wait, next].into_iter().flatten().min();
        }
        wait
    }

    /// Deletes what has ended long ago.
    async fn forget(&self, snapshot: &Snapshot) {
        let now = Timestamp::now();
        for migration in snapshot.migrations.values().filter(|m| m.phase().is_final()) {
            let ended = migration.status.progress.steps.get(&migration.phase());
            let since = ended.map_or(Duration::ZERO, |ended| now.duration_since(*ended).unsigned_abs());
            if since > self.retain
                && let Err(error) = self.store.delete(&Key::of(migration)).await
            {
                tracing::error!(migration = migration.metadata.name, %error, "an ended migration cannot be deleted");
            }
        }
    }

    /// Says on every object why it does not go on.
    async fn tell(&mut self, migrations: &mut [Migration], trouble: &Problem) -> Option<Duration> {
        let mut wait = None;
        for migration in migrations {
            let mut progress = migration.status.progress.clone();
            let now = to_microseconds(Timestamp::now());
            progress.set_condition(ConditionType::Progressing, Truth::False, trouble.clone(), now);
            if let Err(error) = self.write(migration, progress).await {
                tracing::error!(migration = migration.metadata.name, %error, "the status cannot be written");
                wait = Some(RETRY);
            }
        }
        wait
    }

    /// The object with what this process has written of it.
    fn latest(&self, migration: &Migration) -> Migration {
        let mut migration = migration.clone();
        if let Some(progress) = self.written.get(&Key::of(&migration)) {
            migration.status.progress = progress.clone();
        }
        migration
    }

    /// Takes one migration as far as it goes without anything else changing.
    async fn advance(
        &mut self,
        migrations: &[Migration],
        i: usize,
    ) -> anyhow::Result<(Progress, Option<Duration>)> {
        let mut migration = migrations[i].clone();
        // A step or a change each turn; more than that is someone else
        // changing the same option all the time.
        for _ in Phase::ALL {
            let now = to_microseconds(Timestamp::now());
            let world = self.world(migrations, i);
            let Decision { progress, change, wake_at } = decide(&migration, &world, now);
            let entered = progress.phase != migration.phase();
            self.write(&mut migration, progress).await?;
            match change {
                Some(Change::Set { requested_chassis, round, since }) => {
                    let (port, mark) = (&migration.spec.port, Mark::Set(&migration.metadata.name));
                    let options = Restore {
                        requested_chassis: Some(requested_chassis.clone()),
                        activation_strategy: None,
                    };
                    let nb_cfg = self.set_options(port, &options, mark).await?;
                    let barrier = Barrier { requested_chassis, nb_cfg, since, round };
                    let mut progress = migration.status.progress.clone();
                    progress.barrier = Some(barrier);
                    self.write(&mut migration, progress).await?;
                }
                Some(Change::Restore(options)) => {
                    let mark = Mark::Clear(&migration.metadata.name);
                    self.set_options(&migration.spec.port, &options, mark).await?;
                }
                None if entered => {}
                None => {
                    let wait = wake_at.map(|at| at.duration_since(now).unsigned_abs());
                    return Ok((migration.status.progress, wait));
                }
            }
        }
        Ok((migration.status.progress, Some(RETRY)))
    }

    async fn write(&mut self, migration: &mut Migration, progress: Progress) -> Result<(), StoreError> {
        if progress == migration.status.progress {
            return Ok(());
        }
        let key = Key::of(migration);
        match self.store.put_progress(&key, progress.clone()).await {
            // Deleted: the next snapshot will show it.
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            Err(error) => {
                self.metrics.write_errors.with_label_values(&["store"]).inc();
                return Err(error);
            }
        }
        self.metrics.note(migration, &progress);
        log(migration, &progress);
        self.written.insert(key, progress.clone());
        migration.status.progress = progress;
        Ok(())
    }

    /// Writes the port's options; returns the `nb_cfg` that every chassis has to reach.
    async fn set_options(&self, port: &str, options: &Restore, mark: Mark<'_>) -> anyhow::Result<i64> {
        let result = self.databases.set_options(port, options, mark).await;
        if result.is_err() {
            self.metrics.write_errors.with_label_values(&["northbound"]).inc();
        }
        Ok(result?)
    }

    fn world(&self, migrations: &[Migration], i: usize) -> World {
        let migration = &migrations[i];
        let others = || migrations.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other);
        let accepted = |other: &&Migration| other.status.progress.number != 0;
        let rival = others().filter(accepted).find(|other| other.spec.port == migration.spec.port);
        World {
            port: self.databases.port(&migration.spec.port),
            binding: self.databases.binding(&migration.spec.port),
            chassis: self.databases.chassis(),
            hv_cfg: self.databases.hv_cfg(),
            nb_cfg: self.databases.nb_cfg(),
            can_bind_twice: self.databases.can_bind_twice(),
            rival: rival.map(|other| other.metadata.name.clone()),
            numbers: others().map(|other| other.status.progress.number).collect(),
        }
    }
}

/// One line for each step, and one for each new reason to wait.
fn log(migration: &Migration, progress: &Progress) {
    let name = &migration.metadata.name;
    let condition =
        |progress: &Progress, kind| progress.condition(kind).map(|c| c.message.clone()).unwrap_or_default();
    if progress.phase != migration.phase() {
        let (spec, phase) = (&migration.spec, progress.phase);
        let why = phase.is_final().then(|| format!(": {}", condition(progress, ConditionType::Succeeded)));
        let why = why.unwrap_or_default();
        tracing::info!(
            migration = name,
            port = spec.port,
            from = spec.from,
            to = spec.target(),
            "{phase}{why}"
        );
        return;
    }
    let waiting = condition(progress, ConditionType::Progressing);
    if waiting != condition(&migration.status.progress, ConditionType::Progressing) && !waiting.is_empty() {
        tracing::info!(migration = name, phase = %progress.phase, "{waiting}");
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
