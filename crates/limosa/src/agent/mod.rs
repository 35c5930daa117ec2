//! `limosa agent`: holds the flows of this chassis' migrations on its
//! integration bridge, and reports what stands there.
//!
//! Whatever changes (an object, an interface, a flow), the same thing happens:
//! [`node::plan`] says which flows should be there, [`diff()`] compares them with
//! those that are, and the difference goes to the switch as one bundle. The
//! switch then tells of its new flows, and the steps they complete are
//! reported.

mod connections;
mod gaps;
mod local;
mod look;
mod report;
mod switch;
mod unixctl;
mod vouch;
mod wipes;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use limosa_protocol::diff::diff;
use limosa_protocol::node::Carry;
use limosa_protocol::object::{NodeStatus, Problem, to_microseconds};
use limosa_protocol::strays::Strays;
use limosa_protocol::{Cookie, Facts, Migration, Phase, Role, Step, Survey, Vouch, node};
use ofpacket::FlowMod;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::logging;
use crate::metrics::{self, AgentMetrics, Readiness};
use crate::shutdown::Shutdown;
use crate::store::{Key, Place, Snapshot};
use connections::{Carried, Carrier, Job, Work};
use gaps::Gaps;
use local::{Integration, Local};
pub(crate) use look::{Bridge, Look, Reading};
use report::Reports;
use switch::{Switch, Told};
use wipes::Wipes;

/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How soon the very same flow mods are sent again. The switch shows what it
/// has done within a fraction of this; should it ever show something else than
/// it was asked for, that must not become a flood.
const RESEND: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) chassis: Option<String>,
    pub(crate) ovs_rundir: PathBuf,
    pub(crate) store: Place,
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// How long to go on for migrations under way, when asked to end.
    pub(crate) linger: Duration,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::new()?;
    let metrics = AgentMetrics::new();
    let (ready, readiness) = watch::channel(Err("the agent has just started".to_owned()));
    if let Some(listen) = options.metrics_listen {
        metrics::serve(listen, metrics.registry.clone(), readiness).await?;
    }
    let store = tokio::select! {
        store = options.store.wait_for() => store,
        () = shutdown.asked() => return Ok(()),
    };
    let objects = store.watch();
    let local = Local::open(&options.ovs_rundir);
    metrics.links.follow("local_database", local.session());
    let named = async {
        local.ready().await;
        match options.chassis {
            Some(chassis) => Ok(chassis),
            None => local.system_id().await,
        }
    };
    let chassis = tokio::select! {
        chassis = named => chassis?,
        () = shutdown.asked() => return Ok(()),
    };
    metrics.chassis(&chassis);
    tracing::info!(chassis, ovs_rundir = %options.ovs_rundir.display(), store = %options.store, "agent started");
    let agent = Agent {
        reports: Reports::new(store, chassis.clone(), metrics.clone()),
        metrics,
        ready,
        wipes: Wipes::default(),
        chassis,
        ovs_rundir: options.ovs_rundir,
        local,
        switch: None,
        carrier: Carrier::default(),
        gaps: Gaps::default(),
        trouble: None,
        sent: None,
        unseen: None,
        strays: Strays::default(),
    };
    agent.follow(objects, shutdown, options.linger).await
}

struct Agent {
    chassis: String,
    ovs_rundir: PathBuf,
    local: Local,
    switch: Option<(Integration, Switch)>,
    carrier: Carrier,
    gaps: Gaps,
    /// Why there is no working switch, said once.
    trouble: Option<Problem>,
    reports: Reports,
    /// What was last sent to the switch, and when: it shows its flows at once,
    /// and what it shows otherwise than it was asked is not asked for at once.
    sent: Option<(Vec<FlowMod>, Instant)>,
    /// Since when the switch has said to have carried out what it does not show yet.
    unseen: Option<Instant>,
    strays: Strays,
    metrics: AgentMetrics,
    ready: watch::Sender<Readiness>,
    wipes: Wipes,
}

impl Agent {
    async fn follow(
        mut self,
        mut objects: watch::Receiver<Arc<Snapshot>>,
        mut shutdown: Shutdown,
        linger: Duration,
    ) -> anyhow::Result<()> {
        let mut database = self.local.subscribe();
        let mut snapshot = objects.borrow_and_update().clone();
        let mut wake = self.turn(&snapshot).await;
        let mut end = None::<Instant>;
        loop {
            if end.is_some_and(|end| end <= Instant::now() || !self.has_a_part(&snapshot)) {
                return Ok(());
            }
            let mut changed = tokio::select! {
                changed = objects.changed() => changed.map(|()| true).context("the store has gone")?,
                changed = database.changed() => {
                    changed.map(|()| true).context("the local database session has ended")?
                }
                told = next(&mut self.switch) => self.hear(told, &snapshot),
                carried = self.carrier.next() => self.note_connections(carried, &snapshot),
                () = sleep_until(wake) => true,
                () = sleep_until(end) => false,
                () = shutdown.asked() => {
                    // Whoever asks twice does not want to wait.
                    let patience = if end.is_none() { linger } else { Duration::ZERO };
                    tracing::info!(patience = patience.as_secs(), "asked to end");
                    end = Some(Instant::now() + patience);
                    false
                }
            };
            // What else is here already belongs to the same picture.
            while let Some(told) = self.switch.as_mut().and_then(|(_, switch)| switch.try_next()) {
                changed |= self.hear(told, &snapshot);
            }
            if changed {
                snapshot = objects.borrow_and_update().clone();
                database.mark_unchanged();
                wake = self.turn(&snapshot).await;
            }
        }
    }

    /// Whether a migration under way is from or to this chassis, or the store
    /// still misses that nothing of one is left here.
    fn has_a_part(&self, snapshot: &Snapshot) -> bool {
        snapshot.migrations.values().any(|migration| {
            let shown = migration.status.nodes.get(&self.chassis);
            let concerned =
                migration.role_of(&self.chassis) != Role::Bystander && !migration.phase().is_final();
            concerned || shown.is_some_and(|shown| !shown.has(Step::Cleaned))
        })
    }

    /// Takes in what the switch tells; false if nothing follows from it.
    fn hear(&mut self, told: Told, snapshot: &Snapshot) -> bool {
        match told {
            Told::Announced(number) => {
                let now = to_microseconds(Timestamp::now());
                let is_meant = |m: &&Migration| {
                    m.status.progress.number == number
                        && m.phase().wants_flows()
                        && m.role_of(&self.chassis) == Role::Target
                };
                if let Some(migration) = snapshot.migrations.values().find(is_meant) {
                    let _span = logging::span(migration).entered();
                    if let Some((_, switch)) = &self.switch {
                        let own = self.reports.own(migration);
                        self.gaps.announced(migration, own, switch.client(), &self.metrics);
                    }
                    self.reports.take(migration, Step::Activated, now);
                }
                true
            }
            Told::Closed(reason) => {
                tracing::warn!(%reason, "the connection to the switch is lost");
                self.metrics.links.error("switch", reason.label());
                self.metrics.links.set("switch", false);
                self.switch = None;
                true
            }
            Told::Flows => true,
            Told::Nothing => false,
        }
    }

    /// Takes in what became of connections that were carried.
    fn note_connections(&mut self, carried: Option<Carried>, snapshot: &Snapshot) -> bool {
        if let Some(Carried { key, connections }) = carried
            && let Some(migration) = snapshot.get(&key)
        {
            let _span = logging::span(migration).entered();
            self.reports.connections(migration, connections);
        }
        true
    }

    /// Compares what should be with what is, and mends the difference. Returns
    /// when to look again although nothing has changed.
    async fn turn(&mut self, snapshot: &Snapshot) -> Option<Instant> {
        self.reports.retain(snapshot);
        self.carrier.retain(|key| snapshot.get(key).is_some());
        self.gaps.retain(|key| snapshot.get(key).is_some());
        let looked = self.look().await;
        self.metrics.links.set("switch", self.switch.is_some());
        self.metrics.links.set("store", snapshot.trouble.is_none());
        self.metrics.left_out.set(snapshot.left_out as i64);
        let outcome = match looked {
            Ok(Some((facts, survey))) => {
                let wake = self.mend(snapshot, &facts, &survey).await;
                let read_at = self.switch.as_ref().and_then(|(_, switch)| switch.read_at());
                wake.map(|wake| [wake, read_at].into_iter().flatten().min())
            }
            // Its flows are on their way.
            Ok(None) => return None,
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(wake) => {
                if self.trouble.take().is_some() {
                    tracing::info!("the switch is back");
                }
                // What stands, stands and is looked after; new migrations are not heard of.
                let ready = snapshot.trouble.clone().map_or(Ok(()), Err);
                self.ready.send_if_modified(|last| std::mem::replace(last, ready.clone()) != ready);
                wake
            }
            Err(problem) => {
                if self.trouble.as_ref() != Some(&problem) {
                    tracing::error!(reason = problem.reason, "{}", problem.message);
                    self.metrics.problems.with_label_values(&[&problem.reason]).inc();
                    self.ready.send_modify(|ready| *ready = Err(problem.message.clone()));
                }
                // Whatever it was, a new connection starts from what is.
                self.switch = None;
                self.metrics.links.set("switch", false);
                self.reports.problem(snapshot, &problem);
                self.trouble = Some(problem);
                Some(Instant::now() + RETRY)
            }
        }
    }

    /// What this chassis is like now; `None` while the switch still tells.
    async fn look(&mut self) -> Result<Option<(Facts, Arc<Survey>)>, Problem> {
        let (bridge, mut facts) = self.local.read(&self.chassis)?;
        if self.switch.as_ref().is_none_or(|(connected, _)| *connected != bridge) {
            self.switch = None;
            self.metrics.links.set("switch", false);
            let switch = Switch::connect(&self.ovs_rundir, &bridge.name, self.metrics.clone()).await?;
            tracing::info!(bridge = bridge.name, "connected to the switch");
            self.switch = Some((bridge, switch));
        }
        let Some((_, switch)) = &mut self.switch else { return Ok(None) };
        let Some(survey) = switch.survey().await? else { return Ok(None) };
        facts.layout = survey.layout;
        facts.geneve_index = switch.geneve_index().await?;
        facts.cached = switch.cached();
        Ok(Some((facts, survey)))
    }

    async fn mend(
        &mut self,
        snapshot: &Snapshot,
        facts: &Facts,
        survey: &Survey,
    ) -> Result<Option<Instant>, Problem> {
        self.metrics.standing.set(survey.ours.len() as i64);
        self.wipes.see(survey, &self.metrics);
        let now = to_microseconds(Timestamp::now());
        let (mut wanted, mut wake_at) = (Vec::new(), None::<Timestamp>);
        let (mut plans, mut vouches) = (Vec::new(), Vec::new());
        for migration in snapshot.migrations.values() {
            let _span = logging::span(migration).entered();
            self.note_arrival(migration, now);
            let own = self.reports.own(migration);
            let Some(plan) = node::plan(migration, own, facts, survey, now) else {
                self.reports.clean_late(migration, survey, now);
                continue;
            };
            wanted.extend(plan.flows);
            wake_at = [wake_at, plan.wake_at].into_iter().flatten().min();
            let work = work(migration, &plan.status, plan.carry, facts);
            plans.push((migration, plan.status, work));
            vouches.extend(plan.vouch);
        }
        let owners = snapshot.migrations.values().map(|m| m.status.progress.number).collect();
        let all_known = snapshot.unreadable.is_empty() && snapshot.left_out == 0;
        let (strays, strays_until) = self.strays.keep(survey, &owners, all_known, now);
        wanted.extend(strays);
        let waits = |(migration, status, _): &(&Migration, NodeStatus, _)| {
            status.problem.is_some().then_some(migration.status.progress.number)
        };
        self.wipes.want(&wanted, &plans.iter().filter_map(waits).collect(), &self.metrics);
        let mods = diff(&wanted, survey.ours.iter());
        if mods.is_empty()
            && let Some(since) = self.unseen.take()
        {
            self.metrics.shown(since.elapsed());
        }
        log_strays(&mods, &owners);
        let sent = self.send(mods).await?;
        let vouched = self.vouch(&vouches).await;
        for (migration, status, work) in plans {
            let _span = logging::span(migration).entered();
            let client = self.switch.as_ref().map(|(_, switch)| switch.client());
            self.gaps.see(migration, &status, client, &self.metrics);
            self.reports.put(migration, status);
            match work {
                Some(work) => self.begin(migration, work),
                None => self.carrier.end(&Key::of(migration)),
            }
        }
        let wake_at = [wake_at, strays_until].into_iter().flatten().min();
        let wait = wake_at.map(|at| at.duration_since(now).unsigned_abs());
        let retries = [(!sent).then_some(RESEND), (!vouched).then_some(RETRY)];
        let wait = [wait].into_iter().chain(retries).flatten().min();
        Ok(wait.map(|wait| Instant::now() + wait))
    }

    fn begin(&mut self, migration: &Migration, work: Work) {
        let (switch, ovs_rundir) = (&self.switch, &self.ovs_rundir);
        self.carrier.begin(&Key::of(migration), work, || {
            let (Integration { datapath, .. }, switch) = switch.as_ref()?;
            let (client, ovs_rundir, datapath) = (switch.client(), ovs_rundir.clone(), datapath.clone());
            Some(Job { client, ovs_rundir, datapath })
        });
    }

    /// The connections are carried when the target has as many as it was sent.
    fn note_arrival(&mut self, migration: &Migration, now: Timestamp) {
        let Some(own) = self.reports.own(migration).filter(|own| !own.has(Step::Carried)) else { return };
        if self.carrier.has_given_all(&Key::of(migration))
            && count(migration.target()) >= count(Some(own))
            && let Some(connections) = &own.connections
        {
            self.metrics.carried(connections);
            self.reports.take(migration, Step::Carried, now);
        }
    }

    /// Says what is to be said of interfaces; false if the database did not take it.
    async fn vouch(&self, vouches: &[Vouch]) -> bool {
        let mut all = true;
        for vouch in vouches {
            let written = self.local.vouch(vouch);
            match self.metrics.links.timed("local_database", |_| "not_taken", written).await {
                Ok(()) => tracing::debug!(?vouch, "written to the local database"),
                Err(problem) => {
                    tracing::warn!(reason = problem.reason, "{}; will try again", problem.message);
                    all = false;
                }
            }
        }
        all
    }

    /// Sends flow mods as one bundle; false if they were sent a moment ago.
    async fn send(&mut self, mods: Vec<FlowMod>) -> Result<bool, Problem> {
        let Some((_, switch)) = self.switch.as_ref().filter(|_| !mods.is_empty()) else {
            return Ok(true);
        };
        if self.sent.as_ref().is_some_and(|(sent, at)| *sent == mods && at.elapsed() < RESEND) {
            return Ok(false);
        }
        switch.bundle(mods.clone()).await?;
        self.wipes.change(&mods, &self.metrics);
        tracing::debug!(count = mods.len(), "flow mods carried out");
        self.sent = Some((mods, Instant::now()));
        self.unseen = Some(Instant::now());
        Ok(true)
    }
}

/// What is to be done with the port's connections: the source sends them, the
/// target counts them, until they are there or the target does without.
fn work(migration: &Migration, own: &NodeStatus, carry: Option<Carry>, facts: &Facts) -> Option<Work> {
    if own.role == Role::Source {
        return carry.map(Work::Give);
    }
    let waits = own.role == Role::Target
        && own.has(Step::Bound)
        && !own.has(Step::Opened)
        && migration.phase().has_reached(Phase::Bound);
    let zone = facts.zones.get(&migration.spec.port).filter(|_| waits)?;
    (count(Some(own)) < count(migration.source())).then_some(Work::Count(*zone))
}

fn count(node: Option<&NodeStatus>) -> u32 {
    node.and_then(|node| node.connections.as_ref()).map_or(0, |connections| connections.carried)
}

/// Says what goes although no object has asked for it.
fn log_strays(mods: &[FlowMod], owners: &BTreeSet<u32>) {
    let numbers = mods.iter().map(|flow_mod| Cookie::migration_of(flow_mod.flow.cookie));
    let strays: BTreeSet<u32> = numbers.filter(|number| !owners.contains(number)).collect();
    for number in strays {
        tracing::warn!(number, "the flows of a migration that the store does not have are taken away");
    }
}

/// `limosa agent --cleanup`: takes every flow of ours off the bridge.
pub(crate) async fn clean_up(ovs_rundir: &Path, chassis: Option<&str>) -> anyhow::Result<()> {
    let local = Local::open(ovs_rundir);
    local.ready().await;
    let failed = |problem: Problem| anyhow::anyhow!("{}", problem.message);
    let (bridge, _) = local.read(chassis.unwrap_or_default()).map_err(failed)?;
    let flows = switch::clean_up(ovs_rundir, &bridge.name).await.map_err(failed)?;
    let migrations: BTreeSet<u32> = flows.iter().map(|f| Cookie::migration_of(f.flow.cookie)).collect();
    println!("{}: {} flows of {} migrations taken away", bridge.name, flows.len(), migrations.len());
    for stats in &flows {
        println!("{}", stats.flow.to_string().trim());
    }
    Ok(())
}

async fn next(switch: &mut Option<(Integration, Switch)>) -> Told {
    match switch {
        Some((_, switch)) => switch.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
