//! The controller on a real API server: what a migration costs there, and that what has ended costs nothing. The same
//! three times: beside nothing else, beside migrations that have ended, and with all agents of a large cluster watching.

mod cluster;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::stream::{self, StreamExt};
use limosa_lab::kube::ApiServer;
use limosa_lab::kube::actor::{Actor, Move, untouched};
use limosa_lab::kube::cluster::{Cluster, Run};
use limosa_lab::kube::fate::Fate;
use limosa_lab::kube::kubevirt::{Script, Step};
use limosa_protocol::Phase;
use limosa_protocol::object::Want;

use crate::report::{Row, publish};

/// How many guests are worked on at a time, where nothing is timed.
const PARALLEL: usize = 16;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Migrations that run
    #[arg(long, default_value_t = 100)]
    running: usize,
    /// Migrations that have ended: KubeVirt's and Limosa's
    #[arg(long, default_value_t = 10_000)]
    ended: usize,
    /// Nodes whose agents watch
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
}

/// What was measured.
struct Measured {
    memory: u64,
    /// From the controller's start to the object of the first migration, asked for by KubeVirt a moment before.
    first: Duration,
    /// From what KubeVirt writes to the object that is made, and to the wish in it.
    made: Vec<Duration>,
    wished: Vec<Duration>,
    requests: f64,
    writes: f64,
}

pub(crate) fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    // The feature `rovs` brings a second one, and rustls does not choose by itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let server = ApiServer::launch().await?;
        let cluster = Cluster::start(&server, &["a", "b"], &[]).await?;
        let (running, what) = (args.running, format!("{} ran", args.running));
        let alone = rows(&measure(&cluster, "alone", running).await?, &what, &[]);
        cluster::add_ended(&cluster, args.ended).await?;
        let what = format!("{what}, {} ended", args.ended);
        let beside = rows(&measure(&cluster, "beside", running).await?, &what, &alone);
        let _agents = cluster::watch(&server, &cluster.namespace, args.nodes).await?;
        let what = format!("{what}, {} agents watch", args.nodes);
        let watched = rows(&measure(&cluster, "watched", running).await?, &what, &alone);
        publish(&[alone, beside, watched].concat(), &out.join("kubernetes.json"))
    })
}

fn rows(measured: &Measured, what: &str, beside: &[Row]) -> Vec<Row> {
    let ms = |times: &[Duration], part: usize| {
        let at = (times.len() * part / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    let values = [
        ("memory of the controller", measured.memory as f64 / 1_048_576.0, "MiB"),
        ("start of the controller to first object", measured.first.as_secs_f64() * 1000.0, "ms"),
        ("accepted by KubeVirt to object made, p50", ms(&measured.made, 50), "ms"),
        ("accepted by KubeVirt to object made, p99", ms(&measured.made, 99), "ms"),
        ("guest ready to object patched, p50", ms(&measured.wished, 50), "ms"),
        ("guest ready to object patched, p99", ms(&measured.wished, 99), "ms"),
        ("requests for a migration", measured.requests, "requests"),
        ("writes of objects for a migration", measured.writes, "requests"),
    ];
    let row = |(i, (name, value, unit)): (usize, (&str, f64, &'static str))| {
        let row = Row::new(format!("{name} ({what})"), value, unit);
        match beside.get(i) {
            Some(other) => row.beside(other),
            None => row,
        }
    };
    values.into_iter().enumerate().map(row).collect()
}

/// Migrates guests with a fresh controller, one of which has been waiting for it: what nobody times at the same time,
/// what is timed one by one, when the controller has nothing else to do.
async fn measure(cluster: &Cluster, name: &str, count: usize) -> anyhow::Result<Measured> {
    eprintln!("{name}: {count} guests migrate");
    let options = untouched();
    let actors = stream::iter(0..=count).map(|i| {
        let (guest, options) = (format!("{name}-{i}"), &options);
        async move { Actor::new(cluster, &guest, "a", 1, options).await }
    });
    let actors: Vec<_> = actors.buffered(PARALLEL).collect().await;
    let actors: Vec<Actor<'_>> = actors.into_iter().collect::<anyhow::Result<_>>()?;
    let moves: Vec<_> =
        actors.iter().map(|actor| actor.migrate(&format!("{}-move", actor.guest.name()), "a", "b")).collect();
    let [first, others @ ..] = &moves[..] else { anyhow::bail!("nobody migrates") };
    for step in [Step::Create, Step::Pending] {
        first.migration.step(step).await?;
    }
    let begun = Instant::now();
    let run = cluster.run(Fate::Live).await?;
    object(cluster, first, |_| true).await?;
    let first = begun.elapsed();
    let result = migrate(cluster, &run, &moves, others).await.map(|rest| Measured { first, ..rest });
    let log = cluster.log().await;
    let measured = result.with_context(|| log)?;
    for actor in &actors {
        actor.guest.delete().await?;
    }
    run.end().await?;
    Ok(measured)
}

/// Migrates all of them; `others` are yet to be asked for.
async fn migrate(
    cluster: &Cluster,
    run: &Run<'_>,
    moves: &[Move<'_>],
    others: &[Move<'_>],
) -> anyhow::Result<Measured> {
    let before = run.traffic();
    let script = Script::success;
    all(others, &Script::new([Step::Create])).await?;
    let made = timed(cluster, others, Step::Pending, |_| true).await?;
    all(moves, &script().after(Step::Pending).through(Step::DomainDetected)).await?;
    all(moves, &Script::new([Step::GuestResumes])).await?;
    for one in moves {
        one.reach(Phase::Released).await?;
    }
    let memory = run.memory().await?;
    let wished = timed(cluster, moves, Step::DomainReady, |want| want == Want::Activate).await?;
    all(moves, &script().after(Step::DomainReady)).await?;
    for one in moves {
        one.end(Phase::Completed).await?;
    }
    let after = run.traffic();
    let each = |after: u64, before: u64| (after - before) as f64 / moves.len() as f64;
    let (requests, writes) = (each(after.requests, before.requests), each(after.writes, before.writes));
    Ok(Measured { memory, first: Duration::ZERO, made, wished, requests, writes })
}

async fn all(moves: &[Move<'_>], script: &Script) -> anyhow::Result<()> {
    let plays = stream::iter(moves).map(|one| one.play(script));
    let plays: Vec<anyhow::Result<()>> = plays.buffer_unordered(PARALLEL).collect().await;
    plays.into_iter().collect()
}

/// From KubeVirt's write, that included, until who watches the objects sees what follows from it; in order.
async fn timed(
    cluster: &Cluster,
    moves: &[Move<'_>],
    step: Step,
    follows: impl Fn(Want) -> bool,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for one in moves {
        let begun = Instant::now();
        one.migration.step(step).await?;
        object(cluster, one, &follows).await?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times)
}

/// Waits until the object of this migration wants that.
async fn object(cluster: &Cluster, one: &Move<'_>, wants: impl Fn(Want) -> bool) -> anyhow::Result<()> {
    let port = &one.actor.ports[0];
    let seen = cluster.cast.until("the object to follow", |objects| {
        objects.values().any(|object| object.spec.port == *port && wants(object.spec.want)).then_some(())
    });
    seen.await
}
