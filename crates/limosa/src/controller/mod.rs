//! `limosa controller`: takes every migration from phase to phase.
//!
//! Each turn looks at the objects and at the databases, lets
//! [`lifecycle::decide`] say what should be, writes the object and then the
//! northbound option. Nothing is remembered that the store or the databases
//! do not hold; whatever is interrupted is decided again.

mod databases;
mod election;
mod kubevirt;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use limosa_protocol::Phase;
use limosa_protocol::lifecycle::{Change, Decision, World, decide};
use limosa_protocol::object::{
    Barrier, ConditionType, Migration, Problem, Progress, Restore, Truth, Want, to_microseconds,
};
use ovsdb_rs::{Remotes, Tls};
use tokio::sync::watch;

use crate::lease::Fence;
use crate::metrics::{self, ControllerMetrics, Readiness};
use crate::shutdown::Shutdown;
use crate::store::{Key, Place, Snapshot, Store, StoreError};
use databases::{Databases, Mark, WriteError};
pub(crate) use election::LeaseOptions;
use kubevirt::Kubevirt;

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) nb: Remotes,
    pub(crate) sb: Remotes,
    pub(crate) tls: Option<Tls>,
    pub(crate) store: Place,
    pub(crate) lease: LeaseOptions,
    /// Carry out KubeVirt's migrations, and how.
    pub(crate) kubevirt: Option<limosa_kubevirt::Options>,
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
    let mut desk = Desk { databases, kubevirt: None, retain: options.retain, metrics, ready };
    match &options.store {
        Place::Kubernetes(access) => {
            election::run(desk, access, &options.lease, options.kubevirt, shutdown).await
        }
        Place::Directory(_) => {
            let store = tokio::select! {
                (store, ()) = async { tokio::join!(options.store.wait_for(), desk.databases.ready()) } => store,
                () = shutdown.asked() => return Ok(()),
            };
            tracing::info!(store = %options.store, "controller started");
            let mut controller = desk.controller(store, None);
            tokio::select! {
                result = controller.follow() => result,
                () = shutdown.asked() => Ok(()),
            }
        }
    }
}

/// What a controller works with, whoever leads.
struct Desk {
    databases: Databases,
    /// Whose migrations are carried out, besides those that people ask for.
    kubevirt: Option<Kubevirt>,
    retain: Duration,
    metrics: ControllerMetrics,
    ready: watch::Sender<Readiness>,
}

impl Desk {
    /// A controller that knows nothing yet, and may write while `fence` says so.
    fn controller(&mut self, store: Box<dyn Store>, fence: Option<Fence>) -> Controller<'_> {
        Controller {
            store,
            fence,
            claimed: false,
            deposed: false,
            databases: &mut self.databases,
            kubevirt: &mut self.kubevirt,
            retain: self.retain,
            written: BTreeMap::new(),
            not_before: BTreeMap::new(),
            metrics: &self.metrics,
            ready: &self.ready,
        }
    }
}

struct Controller<'a> {
    store: Box<dyn Store>,
    /// Of several controllers, whether this one leads.
    fence: Option<Fence>,
    /// The databases know that it does.
    claimed: bool,
    /// They know that another does.
    deposed: bool,
    databases: &'a mut Databases,
    kubevirt: &'a mut Option<Kubevirt>,
    retain: Duration,
    /// What was last written, which the store's watch may not show yet.
    written: BTreeMap<Key, Progress>,
    /// What failed is not tried again before, whatever else changes: a change of
    /// the database that could not be noted in the store wakes the controller by
    /// itself, and would be made again at once.
    not_before: BTreeMap<Key, Instant>,
    metrics: &'a ControllerMetrics,
    ready: &'a watch::Sender<Readiness>,
}

impl Controller<'_> {
    /// Works until another controller leads.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let mut objects = self.store.watch();
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
            if self.deposed {
                return Ok(());
            }
            tokio::select! {
                changed = objects.changed() => changed.context("the store has gone")?,
                changed = nb.changed() => changed.context("the northbound session has ended")?,
                changed = sb.changed() => changed.context("the southbound session has ended")?,
                () = kubevirt::due(&mut *self.kubevirt) => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// One look at everything; how long until the next, if nothing changes.
    async fn turn(&mut self, snapshot: &Snapshot) -> Option<Duration> {
        let live: BTreeSet<Key> = snapshot.migrations.values().map(Key::of).collect();
        self.written.retain(|key, _| live.contains(key));
        self.not_before.retain(|_, at| *at > Instant::now());
        let mut wait = self.finish(snapshot).await;
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
        let ready = trouble.as_ref().map(|trouble| trouble.message.clone());
        let ready = ready.or_else(|| snapshot.trouble.clone()).map_or(Ok(()), Err);
        self.ready.send_modify(|last| *last = ready);
        if let Some(trouble) = trouble {
            return [wait, self.tell(&mut migrations, &trouble).await].into_iter().flatten().min();
        }
        if let Err(error) = self.claim().await {
            tracing::error!("the northbound database does not take this controller as the leader: {error:#}");
            return Some(RETRY);
        }
        if let Some(kubevirt) = self.kubevirt.as_mut() {
            let next = kubevirt.turn(snapshot, &self.databases.nodes(), &*self.store).await;
            wait = [wait, next].into_iter().flatten().min();
        }
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
                    tracing::error!(migration = migrations[i].full_name(), "{error:#}");
                    self.not_before.insert(key, Instant::now() + RETRY);
                    Some(RETRY)
                }
            };
            wait = [wait, next].into_iter().flatten().min();
        }
        wait
    }

    /// Lets go of what has ended, and deletes what has ended long ago.
    async fn finish(&mut self, snapshot: &Snapshot) -> Option<Duration> {
        let mut wait = None;
        for migration in snapshot.migrations.values().filter(|m| m.phase().is_final()) {
            let key = Key::of(migration);
            if self.not_before.contains_key(&key) {
                wait = Some(RETRY);
            } else if let Err(error) = self.store.finish(migration).await {
                tracing::error!(migration = key.name, %error, "an ended migration cannot be let go");
                self.not_before.insert(key, Instant::now() + RETRY);
                wait = Some(RETRY);
            }
        }
        if snapshot.trouble.is_none()
            && let Err(error) = self.store.forget(self.retain).await
        {
            tracing::error!(%error, "ended migrations cannot be deleted");
        }
        wait
    }

    /// Tells the northbound database who leads, before anything is written there.
    async fn claim(&mut self) -> anyhow::Result<()> {
        let Some(fence) = self.fence.as_ref().filter(|_| !self.claimed) else { return Ok(()) };
        let fence = databases::Fence { holder: fence.holder().to_owned(), term: fence.term() };
        let result = self.databases.lead(fence).await;
        self.deposed |= matches!(result, Err(WriteError::Deposed { .. }));
        result?;
        self.claimed = true;
        Ok(())
    }

    /// Says on every object why it does not go on.
    async fn tell(&mut self, migrations: &mut [Migration], trouble: &Problem) -> Option<Duration> {
        let mut wait = None;
        for migration in migrations {
            let mut progress = migration.status.progress.clone();
            let now = to_microseconds(Timestamp::now());
            progress.set_condition(ConditionType::Progressing, Truth::False, trouble.clone(), now);
            if let Err(error) = self.write(migration, progress).await {
                tracing::error!(migration = migration.full_name(), %error, "the status cannot be written");
                wait = Some(RETRY);
            }
        }
        wait
    }

    /// The object with what this process has written of it. One that is to be
    /// deleted is given up, unless its guest runs on the target.
    fn latest(&self, migration: &Migration) -> Migration {
        let mut migration = migration.clone();
        if migration.metadata.deletion_timestamp.is_some() && migration.spec.want == Want::Complete {
            migration.spec.want = Want::Abort;
        }
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
        let name = migration.full_name();
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
                    let (port, mark) = (&migration.spec.port, Mark::Set(&name));
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
                    let mark = Mark::Clear(&name);
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
                if matches!(error, StoreError::Conflict(_)) {
                    self.written.remove(&key);
                }
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
    async fn set_options(&mut self, port: &str, options: &Restore, mark: Mark<'_>) -> anyhow::Result<i64> {
        if self.fence.as_ref().is_some_and(|fence| !fence.may_write()) {
            return Err(StoreError::NotLeading.into());
        }
        let result = self.databases.set_options(port, options, mark).await;
        self.deposed |= matches!(result, Err(WriteError::Deposed { .. }));
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
            hostnames: self.databases.hostnames(),
            hv_cfg: self.databases.hv_cfg(),
            nb_cfg: self.databases.nb_cfg(),
            can_bind_twice: self.databases.can_bind_twice(),
            rival: rival.map(Migration::full_name),
            numbers: others().map(|other| other.status.progress.number).collect(),
        }
    }
}

/// One line for each step, and one for each new reason to wait.
fn log(migration: &Migration, progress: &Progress) {
    let name = migration.full_name();
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
