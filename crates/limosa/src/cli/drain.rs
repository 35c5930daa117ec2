//! `limosa drain`: what has to be over before Limosa is uninstalled.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use limosa_protocol::Step;
use limosa_protocol::object::{Migration, Want};
use tokio::time::{Instant, timeout_at};

use super::args::{LeaseNameArgs, StoreArgs, parse_seconds};
use crate::controller::identity;
use crate::lease::{Elector, Leadership, Timing};
use crate::store::{Access, Key, Place, Snapshot, Store, Which};

/// How soon a migration that could not be given up is given up again.
const RETRY: Duration = Duration::from_secs(1);
/// How the lease is held that is taken from the controllers: long enough for them to be deleted.
const HELD: Timing = Timing {
    duration: Duration::from_secs(120),
    renew_deadline: Duration::from_secs(30),
    retry: Duration::from_secs(10),
};

#[derive(Debug, ClapArgs)]
pub(super) struct DrainArgs {
    /// Give up migrations whose guest does not yet run on its target, but for KubeVirt's, which would go on without us
    #[arg(long)]
    abort: bool,
    /// Fail after so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "240", value_parser = parse_seconds)]
    timeout: Duration,
    /// In the end take the lease from the controllers, so that they begin nothing more: it runs out two minutes later
    #[arg(long, requires = "kubernetes")]
    stop: bool,
    #[command(flatten)]
    lease: LeaseNameArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn drain(args: DrainArgs) -> anyhow::Result<ExitCode> {
    let place = args.store.place();
    let store = place.open(Which::Live).await?;
    let elector = match &place {
        Place::Kubernetes(access) if args.stop => Some(elector(access, &args.lease).await?),
        _ => None,
    };
    let (mut lease, mut are_stopped) = (None, elector.is_none());
    let end = Instant::now() + args.timeout;
    let mut watch = store.watch();
    let mut told = BTreeSet::new();
    loop {
        let snapshot = watch.borrow_and_update().clone();
        let left: Vec<String> = snapshot.migrations.values().filter_map(what_is_left).collect();
        let unknown = snapshot.unreadable.iter().chain(&snapshot.trouble);
        let left: BTreeSet<String> = left.into_iter().chain(unknown.cloned()).collect();
        if left.is_empty() {
            // What has begun until then is seen in the next turn.
            if let Some(elector) = elector.as_ref().filter(|_| !are_stopped) {
                (lease, are_stopped) = (seize(elector).await?, true);
                continue;
            }
            println!("nothing is left of any migration");
            return Ok(ExitCode::SUCCESS);
        }
        // It cannot end without a controller.
        if let Some(leadership) = lease.take() {
            leadership.release().await;
            are_stopped = false;
        }
        for line in left.difference(&told) {
            println!("{line}");
        }
        let refused = args.abort && !give_up(&*store, &snapshot).await;
        let until = if refused { end.min(Instant::now() + RETRY) } else { end };
        let changed = timeout_at(until, watch.changed()).await;
        if let Ok(changed) = changed {
            changed.context("the store has gone")?;
        } else if Instant::now() >= end {
            for line in &left {
                eprintln!("limosa: {line}");
            }
            eprintln!("limosa: not over after {} s: see `limosa status NAME`", args.timeout.as_secs());
            return Ok(ExitCode::FAILURE);
        }
        told = left;
    }
}

async fn elector(access: &Access, lease: &LeaseNameArgs) -> anyhow::Result<Elector> {
    let (client, home) = access.client().await?;
    let namespace = lease.lease_namespace.as_deref().unwrap_or(&home);
    Ok(Elector::new(client, namespace, &lease.lease_name, format!("drain_{}", identity()), HELD))
}

/// Takes the lease; none if there is none.
async fn seize(elector: &Elector) -> anyhow::Result<Option<Leadership>> {
    let seized = elector.seize().await.map_err(anyhow::Error::msg);
    seized.context("take the lease from the controllers")
}

/// What a migration still has, if anything.
fn what_is_left(migration: &Migration) -> Option<String> {
    let (name, phase) = (migration.full_name(), migration.phase());
    if !phase.is_final() {
        let whose = migration.spec.guest.as_ref().map_or_else(String::new, |guest| {
            format!(
                "; it ends with migration {} of guest {}: wait for that, or cancel it",
                guest.migration, guest.vm
            )
        });
        return Some(format!("{name}: {phase}, {}{whose}", phase.meaning()));
    }
    let nodes = migration.status.nodes.iter();
    let unclean: Vec<&str> =
        nodes.filter(|(_, node)| !node.has(Step::Cleaned)).map(|(chassis, _)| chassis.as_str()).collect();
    if !unclean.is_empty() {
        return Some(format!(
            "{name}: {phase}, but its flows are not known to be gone from {}",
            unclean.join(", ")
        ));
    }
    // Whoever uninstalls the definition next would wait for it for good.
    (!migration.metadata.finalizers.is_empty()).then(|| format!("{name}: {phase}, but not let go of"))
}

/// Gives up what can still be given up; false if something was not.
///
/// Not what an orchestrator carries out: it would go on, and its guest would
/// arrive where nothing is ready for it. Its migrations end by themselves.
async fn give_up(store: &dyn Store, snapshot: &Snapshot) -> bool {
    let mut all = true;
    for migration in snapshot.migrations.values() {
        let phase = migration.phase();
        let is_over = phase.is_final() || phase.is_past_activation();
        if is_over || migration.spec.want != Want::Complete || migration.spec.guest.is_some() {
            continue;
        }
        if let Err(error) = store.set_want(&Key::of(migration), Want::Abort).await {
            eprintln!("limosa: {}: {error}", migration.full_name());
            all = false;
        }
    }
    all
}
