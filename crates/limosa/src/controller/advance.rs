//! From step to step: what is decided of all migrations together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use limosa_protocol::Phase;
use limosa_protocol::lifecycle::{Change, Decision, World, decide};
use limosa_protocol::object::{Condition, ConditionType, Migration, Progress, Restore, to_microseconds};

use super::databases::{Mark, PortOptions, View, WriteError};
use super::{Controller, RETRY, sooner};
use crate::logging;
use crate::store::{Key, StoreError};

/// How many writes to the store are under way at once.
const AT_ONCE: usize = 16;

impl Controller<'_> {
    /// Takes the migrations as far as they go without anything else changing;
    /// how long until they may go further.
    ///
    /// They go in rounds of a step or a change each, all of them together: the
    /// changes of the northbound database that are due at one time share one
    /// transaction and one `nb_cfg`. Each `nb_cfg` makes every chassis answer.
    pub(super) async fn advance(&mut self, migrations: &mut [Migration]) -> Option<Duration> {
        let mut wait = None;
        let mut going = Vec::new();
        for (i, migration) in migrations.iter().enumerate() {
            match self.not_before.get(&Key::of(migration)) {
                Some(at) => wait = sooner(wait, Some(at.saturating_duration_since(Instant::now()))),
                None => going.push(i),
            }
        }
        // More rounds than that are someone else changing the same option all
        // the time.
        for _ in Phase::ALL {
            if going.is_empty() {
                return wait;
            }
            let (decided, next) = self.round(migrations, &going).await;
            wait = sooner(wait, next);
            let failed = self.change(migrations, &decided.changes).await;
            if !failed.is_empty() {
                wait = sooner(wait, Some(RETRY));
            }
            let changed = decided.changes.into_iter().map(|(i, _)| i).filter(|i| !failed.contains(i));
            going = decided.entered.into_iter().chain(changed).collect();
        }
        sooner(wait, Some(RETRY))
    }

    /// Decides once of each of these, and writes what was decided.
    async fn round(&mut self, migrations: &mut [Migration], going: &[usize]) -> (Decided, Option<Duration>) {
        let view = self.databases.view();
        let mut accounts = Accounts::of(migrations);
        let (mut decided, mut wait) = (Decided::default(), None);
        let (mut writes, mut next) = (Vec::new(), BTreeMap::new());
        for &i in going {
            let migration = &migrations[i];
            let Some(world) = accounts.world(migration, &view) else {
                decided.entered.push(i);
                continue;
            };
            let now = to_microseconds(Timestamp::now());
            let Decision { progress, change, wake_at } = decide(migration, &world, now);
            accounts.note(migration, &progress);
            let entered = progress.phase != migration.phase();
            let wake = wake_at.map(|at| at.duration_since(now).unsigned_abs());
            next.insert(i, (change, entered, wake));
            writes.push((i, progress));
        }
        let failed = self.write(migrations, writes).await;
        for (i, (change, entered, wake)) in next {
            match change {
                _ if failed.contains(&i) => wait = sooner(wait, Some(RETRY)),
                Some(change) => decided.changes.push((i, change)),
                None if entered => decided.entered.push(i),
                None => wait = sooner(wait, wake),
            }
        }
        (decided, wait)
    }

    /// Changes options as decided, and notes what is to be waited for; which migrations it failed for.
    async fn change(&mut self, migrations: &mut [Migration], changes: &[(usize, Change)]) -> BTreeSet<usize> {
        let mut failed = BTreeSet::new();
        let mut notes = Vec::new();
        let all: Vec<&(usize, Change)> = changes.iter().collect();
        let mut batches = vec![all];
        while let Some(batch) = batches.pop().filter(|batch| !batch.is_empty()) {
            let names: Vec<String> = batch.iter().map(|(i, _)| migrations[*i].full_name()).collect();
            let pins: Vec<PortOptions<'_>> = batch
                .iter()
                .zip(&names)
                .map(|((i, change), name)| pin(&migrations[*i].spec.port, change, name))
                .collect();
            match self.set_options(&pins).await {
                Ok(nb_cfg) => notes.extend(batch.iter().filter_map(|(i, change)| {
                    let mut progress = migrations[*i].status.progress.clone();
                    change.note(nb_cfg, &mut progress).then_some((*i, progress))
                })),
                // The others have nothing to do with it.
                Err(error) if batch.len() > 1 && error.is_of_one_port() => {
                    batches.extend(batch.iter().map(|change| vec![*change]));
                }
                Err(error) => {
                    for (i, _) in batch {
                        self.put_off(&migrations[*i], &error);
                        failed.insert(*i);
                    }
                }
            }
        }
        failed.extend(self.write(migrations, notes).await);
        failed
    }

    /// Writes the options of all these ports, and one `nb_cfg` that every chassis has to reach.
    async fn set_options(&mut self, pins: &[PortOptions<'_>]) -> Result<i64, WriteError> {
        if self.fence.as_ref().is_some_and(|fence| !fence.may_write()) {
            return Err(WriteError::NotLeading);
        }
        let written = self.databases.set_options(pins);
        let result = self.metrics.links.timed("northbound", WriteError::label, written).await;
        self.note_deposed(&result);
        result
    }

    /// Writes the progress of each, where it is another; which of them it failed for.
    pub(super) async fn write(
        &mut self,
        migrations: &mut [Migration],
        writes: Vec<(usize, Progress)>,
    ) -> BTreeSet<usize> {
        let (store, links) = (&*self.store, &self.metrics.links);
        let changed = writes.into_iter().filter(|(i, progress)| *progress != migrations[*i].status.progress);
        let written = changed.map(|(i, progress)| {
            let key = Key::of(&migrations[i]);
            async move {
                let written = store.put_progress(&key, progress.clone());
                let result = links.timed("store", StoreError::label, written).await;
                (i, key, progress, result)
            }
        });
        let written: Vec<_> = stream::iter(written.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
        let mut failed = BTreeSet::new();
        let mut conflict = false;
        for (i, key, progress, result) in written {
            let migration = &mut migrations[i];
            match result {
                // Deleted: the next snapshot will show it.
                Ok(()) | Err(StoreError::NotFound(_)) => {
                    self.metrics.note(migration, &progress);
                    logging::span(migration).in_scope(|| log(migration, &progress));
                    self.written.insert(key, progress.clone());
                    let before = std::mem::replace(&mut migration.status.progress, progress).phase;
                    // The agents' records are complete at the end: it waits for them.
                    if let Some(traces) = self.traces.filter(|_| before != migration.phase())
                        && migration.phase().is_final()
                    {
                        traces.ended(migration);
                    }
                }
                Err(error) => {
                    if matches!(error, StoreError::Conflict(_)) {
                        self.written.remove(&key);
                        conflict = true;
                    }
                    self.put_off(migration, &error);
                    failed.insert(i);
                }
            }
        }
        // A faster controller leaves none of our writes for the database to refuse.
        if conflict {
            let leads = self.databases.still_leads().await;
            self.note_deposed(&leads);
        }
        failed
    }

    fn put_off(&mut self, migration: &Migration, error: &dyn std::error::Error) {
        logging::span(migration).in_scope(|| tracing::error!("{error}"));
        self.not_before.insert(Key::of(migration), Instant::now() + RETRY);
    }
}

/// Those that go on: by a change, or having entered a phase.
#[derive(Default)]
struct Decided {
    changes: Vec<(usize, Change)>,
    entered: Vec<usize>,
}

/// What migrations have to leave to each other.
struct Accounts {
    /// Numbers that are taken.
    numbers: BTreeSet<u32>,
    /// Who moves a port.
    movers: BTreeMap<String, String>,
    /// Ports that somebody has begun to move in this round. Until that is written it is not so.
    begun: BTreeSet<String>,
}

impl Accounts {
    fn of(migrations: &[Migration]) -> Self {
        let accepted = || migrations.iter().filter(|migration| migration.status.progress.number != 0);
        Self {
            numbers: accepted().map(|migration| migration.status.progress.number).collect(),
            movers: accepted()
                .map(|migration| (migration.spec.port.clone(), migration.full_name()))
                .collect(),
            begun: BTreeSet::new(),
        }
    }

    /// The world of a migration, if it can be told in this round. Before it is
    /// accepted the others count.
    fn world(&self, migration: &Migration, view: &View) -> Option<World> {
        let port = &migration.spec.port;
        let new = migration.status.progress.number == 0;
        if new && self.begun.contains(port) {
            return None;
        }
        Some(World {
            cluster: view.cluster.clone(),
            port: view.ports.get(port).cloned(),
            binding: view.bindings.get(port).cloned(),
            rival: self.movers.get(port).filter(|_| new).cloned(),
            numbers: if new { self.numbers.clone() } else { BTreeSet::new() },
        })
    }

    fn note(&mut self, migration: &Migration, progress: &Progress) {
        if progress.number != migration.status.progress.number {
            self.numbers.insert(progress.number);
            self.begun.insert(migration.spec.port.clone());
        }
    }
}

fn pin<'a>(port: &'a str, change: &Change, name: &'a str) -> PortOptions<'a> {
    let (options, mark) = match change {
        Change::Set { requested_chassis, .. } => {
            let requested_chassis = Some(requested_chassis.clone());
            (Restore { requested_chassis, activation_strategy: None }, Mark::Set(name))
        }
        Change::Restore(options) => (options.clone(), Mark::Clear(name)),
    };
    PortOptions { port, options, mark }
}

/// One line for each step, and one for each new reason to wait.
fn log(migration: &Migration, progress: &Progress) {
    let phase = progress.phase;
    if phase != migration.phase() {
        let ended = progress.condition(ConditionType::Succeeded).filter(|_| phase.is_final());
        let why = ended.map(|ended| format!(": {}", ended.message)).unwrap_or_default();
        tracing::info!("{phase}{why}");
        return;
    }
    let Some(Condition { reason, message, .. }) = progress.condition(ConditionType::Progressing) else {
        return;
    };
    match migration.status.progress.condition(ConditionType::Progressing) {
        Some(before) if before.message == *message => {}
        // Of a hundred chassis each may be the last that it waits for.
        Some(before) if before.reason == *reason => tracing::debug!(%phase, reason, "{message}"),
        _ => tracing::info!(%phase, reason, "{message}"),
    }
}
