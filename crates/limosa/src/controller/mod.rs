//! `limosa controller`: takes every migration from phase to phase.
//!
//! Each turn looks at the objects and at the databases, lets
//! [`limosa_protocol::lifecycle::decide`] say what should be, writes the object and then the
//! northbound option. Nothing is remembered that the store or the databases
//! do not hold; whatever is interrupted is decided again.

mod advance;
mod audit;
mod databases;
mod election;
mod ended;
mod kubevirt;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use limosa_protocol::object::{ConditionType, Migration, Problem, Progress, Truth, Want, to_microseconds};
use ovsdb_rs::{Remotes, Tls};
use tokio::sync::watch;

use crate::lease::Fence;
use crate::metrics::{self, ControllerMetrics, Readiness};
use crate::shutdown::Shutdown;
use crate::store::{Key, Place, Snapshot, Store};
use crate::traces::Traces;
use audit::Audit;
use databases::{Databases, WriteError};
pub(crate) use databases::{LEADER, MARK};
pub(crate) use election::{LeaseOptions, identity};
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
    /// Where traces of migrations go.
    pub(crate) otlp_endpoint: Option<String>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::new()?;
    let metrics = ControllerMetrics::new();
    let (ready, readiness) = watch::channel(Err("the controller has just started".to_owned()));
    if let Some(listen) = options.metrics_listen {
        metrics::serve(listen, metrics.registry.clone(), readiness).await?;
    }
    let traces = Traces::start(options.otlp_endpoint, metrics.traces.clone())?;
    let databases = Databases::open(options.nb, options.sb, options.tls);
    metrics.links.follow("northbound", &databases.nb);
    metrics.links.follow("southbound", &databases.sb);
    let mut desk = Desk { databases, kubevirt: None, retain: options.retain, metrics, traces, ready };
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
                result = controller.follow() => result.and_then(|()| anyhow::bail!(
                    "another controller has started on this northbound database: without an election the last one works, and this one ends"
                )),
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
    traces: Option<Traces>,
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
            audit: Audit::default(),
            metrics: &self.metrics,
            traces: self.traces.as_ref(),
            ready: &self.ready,
        }
    }
}

struct Controller<'a> {
    store: Box<dyn Store>,
    /// Where one of several controllers is elected, whether this one is.
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
    audit: Audit,
    metrics: &'a ControllerMetrics,
    traces: Option<&'a Traces>,
    ready: &'a watch::Sender<Readiness>,
}

impl Controller<'_> {
    /// Works until another controller leads.
    async fn follow(&mut self) -> anyhow::Result<()> {
        self.metrics.leads(true);
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
        let pins = self.kubevirt.as_ref().map(|kubevirt| kubevirt.pins(&self.databases.nodes()));
        let pins = pins.unwrap_or_default();
        let ports = migrations.iter().map(|migration| migration.spec.port.clone());
        let ports = ports.chain(pins.keys().cloned()).collect();
        if let Err(error) = self.databases.follow(ports).await {
            tracing::error!(%error, "the databases do not follow the ports of the migrations");
            return Some(RETRY);
        }
        let trouble = self.databases.trouble();
        let ready = trouble.as_ref().map(|trouble| trouble.message.clone());
        let ready = ready.or_else(|| snapshot.trouble.clone()).map_or(Ok(()), Err);
        self.ready.send_modify(|last| *last = ready);
        if let Some(trouble) = trouble {
            return sooner(wait, self.tell(&mut migrations, &trouble).await);
        }
        if let Err(error) = self.claim().await {
            tracing::error!("the northbound database does not take this controller as the leader: {error:#}");
            return Some(RETRY);
        }
        if let Some(kubevirt) = self.kubevirt.as_mut() {
            let next = kubevirt.turn(snapshot, &self.databases.nodes(), &*self.store).await;
            wait = sooner(wait, next);
            if self.fence.as_ref().is_none_or(Fence::may_write) {
                let written = kubevirt.write_pins(&pins, &migrations, self.databases).await;
                self.note_deposed(&written);
                if let Err(error) = written {
                    tracing::error!("a standing pin cannot be written: {error:#}");
                    self.metrics.links.error("northbound", error.label());
                    wait = sooner(wait, Some(RETRY));
                }
            }
        }
        wait = sooner(wait, self.advance(&mut migrations).await);
        self.see_chassis();
        self.metrics.waiting.set(self.not_before.len() as i64);
        let due = self.audit.turn(snapshot, &migrations, self.databases, self.metrics).await;
        sooner(wait, Some(due))
    }

    fn see_chassis(&self) {
        let cluster = self.databases.cluster();
        let newest = cluster.nb_cfg.values().max().copied().unwrap_or_default();
        self.metrics.chassis.set(cluster.hostnames.len() as i64);
        self.metrics.behind.set(cluster.nb_cfg.values().filter(|nb_cfg| **nb_cfg < newest).count() as i64);
    }

    /// Tells the northbound database who leads, before anything is written there.
    async fn claim(&mut self) -> anyhow::Result<()> {
        if self.claimed {
            return Ok(());
        }
        let result = match &self.fence {
            Some(fence) => {
                let fence = databases::Fence { holder: fence.holder().to_owned(), term: fence.term() };
                self.databases.lead(fence).await
            }
            None => self.databases.take_over(identity()).await,
        };
        self.note_deposed(&result);
        result?;
        self.databases.follow_standing().await?;
        self.claimed = true;
        Ok(())
    }

    fn note_deposed<T>(&mut self, result: &Result<T, WriteError>) {
        match result {
            // Somebody has cleared the column; without an election that deposes nobody.
            Err(WriteError::Deposed { found: None, .. }) if self.fence.is_none() => self.claimed = false,
            Err(WriteError::Deposed { .. }) => self.deposed = true,
            _ => {}
        }
    }

    /// Says on every object why it does not go on.
    async fn tell(&mut self, migrations: &mut [Migration], trouble: &Problem) -> Option<Duration> {
        let now = to_microseconds(Timestamp::now());
        let told = migrations.iter().map(|migration| {
            let mut progress = migration.status.progress.clone();
            progress.set_condition(ConditionType::Progressing, Truth::False, trouble.clone(), now);
            progress
        });
        let told = told.enumerate().collect();
        let failed = self.write(migrations, told).await;
        (!failed.is_empty()).then_some(RETRY)
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
}

impl Drop for Controller<'_> {
    fn drop(&mut self) {
        self.metrics.leads(false);
    }
}

/// The sooner of two times to wait, where `None` is for ever.
fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    [a, b].into_iter().flatten().min()
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
