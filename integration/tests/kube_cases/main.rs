//! Every way in which a migration of KubeVirt's can go, on a real API server with the chart's roles and on real OVN
//! databases: where the port is in the end, what its options were on the way, and that nothing was written twice with
//! another content. Then the same with the controller killed, or deposed, at each of its writes.
//!
//! `make test` plays every case plain, and about half of them with controllers that are killed before or after each
//! write; with `LIMOSA_CASES=all` (`make chaos`) every case meets every fate.

mod drain;
mod ended;
mod pins;
mod product;
mod special;
mod table;

use std::time::Instant;

use futures::stream::{self, StreamExt};
use limosa_lab::kube::ApiServer;
use limosa_lab::kube::cluster::Cluster;
use limosa_lab::kube::fate::{Blow, Fate};
use tokio::sync::Mutex;

use table::{Case, play};

/// The chassis of every cluster.
const CHASSIS: [&str; 3] = ["a", "b", "c"];
/// How many clusters are played on at a time. They wait more than they work.
const CLUSTERS: usize = 3;
/// The same, where there is nothing else to do for a while.
const MANY_CLUSTERS: usize = 6;
/// Those in which `make test` kills in both ways: each way to end, and each that takes KubeVirt's word.
const BOTH: [&str; 5] =
    ["success", "never announced", "deleted after Running", "fails back", "never scheduled"];

async fn cluster() -> Cluster {
    let server = ApiServer::shared().await.unwrap();
    Cluster::start(server, &CHASSIS, &[]).await.unwrap()
}

/// Panics with what the controllers said last.
async fn check<T>(cluster: &Cluster, what: &str, result: anyhow::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error:?}\n{}", cluster.log().await),
    }
}

/// Plays cases on clusters of their own, each with the controllers that its fate brings.
async fn strike(cases: Vec<(Case, Fate)>) {
    let clusters = stream::iter(0..CLUSTERS).then(|_| cluster()).map(Mutex::new).collect::<Vec<_>>().await;
    let queue = Mutex::new(cases.into_iter().enumerate());
    let begun = Instant::now();
    let work = clusters.iter().map(|cluster| {
        let queue = &queue;
        async move {
            let cluster = cluster.lock().await;
            loop {
                let Some((i, (case, fate))) = queue.lock().await.next() else { return };
                let what = format!("{}, {fate}", case.name);
                let played = product::once(&cluster, &case, fate, &format!("vm{i}")).await;
                let strikes = played.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                println!("{:>5} s  {what}: struck {strikes} times", begun.elapsed().as_secs());
            }
        }
    });
    futures::future::join_all(work).await;
}

/// All at the same time, as many migrations of one cluster; those that lose a node one by one on another.
#[tokio::test]
async fn every_case_ends_as_it_should() {
    let (with_loss, without): (Vec<Case>, Vec<Case>) =
        table::cases().into_iter().partition(Case::loses_a_node);
    let shared = async {
        let cluster = cluster().await;
        let run = cluster.run(Fate::Live).await.unwrap();
        let each = stream::iter(without.iter().enumerate()).map(|(i, case)| {
            let cluster = &cluster;
            async move { check(cluster, &case.name, play(cluster, case, &format!("vm{i}")).await).await }
        });
        each.buffer_unordered(16).collect::<Vec<()>>().await;
        run.end().await.unwrap();
        assert_eq!(cluster.cast.contradictions(), [""; 0]);
    };
    let alone = strike(with_loss.into_iter().map(|case| (case, Fate::Live)).collect());
    tokio::join!(shared, alone);
}

/// Whoever is killed at whichever write, or deposed: the end is the same.
#[tokio::test]
async fn whoever_is_struck_as_it_writes_the_end_is_the_same() {
    if std::env::var("LIMOSA_CASES").is_ok_and(|which| which == "all") {
        return product::everything(MANY_CLUSTERS).await.unwrap();
    }
    let cases = table::cases();
    let mut struck = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let mut blows = vec![Blow::KilledAfter, Blow::KilledBefore];
        if !BOTH.contains(&case.name.as_str()) {
            blows.remove(i % 2);
            // Which step it was deleted after makes little difference most of the time.
            if case.name.starts_with("deleted") && i % 3 != 0 {
                blows.clear();
            }
        }
        // Each time the lease has to run out.
        if i == 0 {
            blows.push(Blow::Deposed);
        }
        struck.extend(blows.into_iter().map(|blow| (case.clone(), blow.at_each())));
    }
    println!("{} plays of {} cases; there are more with LIMOSA_CASES=all", struck.len(), cases.len());
    strike(struck).await;
}
