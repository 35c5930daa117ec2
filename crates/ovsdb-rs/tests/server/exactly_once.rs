//! Ten thousand transactions on a cluster whose leader is killed, stopped and cut off again and again.

mod audit;
mod chaos;
mod follower;
mod tally;

use std::time::{Duration, Instant};

use ovsdb_rs::{Options, Row, Session, TableMonitor, Transaction};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::audit::{Accounts, audit, total};
use self::follower::Follower;
use self::tally::{COUNTERS, DATABASE, Guard, TABLES, Worker};
use crate::cluster::Cluster;
use crate::fixture::DEADLINE;

const SERVERS: usize = 3;
const TRANSACTIONS: u64 = 10_000;
const ROUNDS: u64 = 12;
const SESSIONS: usize = 4;
const FOLLOWERS: usize = 2;
const WORKERS: usize = 20;

/// Attempts to connect of one session for each fault: a few rounds through the servers, and no storm.
const ATTEMPTS: usize = 4 * SERVERS;

/// A session, every second one of which stays with the leader, that finds out within two seconds that a server is gone.
async fn open(cluster: &Cluster, n: usize) -> Session {
    let mut options = Options::default();
    options.backoff = (Duration::from_millis(100), Duration::from_secs(1));
    options.connect_timeout = Duration::from_secs(1);
    options.leader_only = n.is_multiple_of(2);
    options.probe_interval = Duration::from_secs(1);
    let monitors = TABLES.map(TableMonitor::new).to_vec();
    let remotes = cluster.remotes(n % SERVERS).parse().unwrap();
    let session = Session::open_with(remotes, DATABASE, monitors, options);
    session.ready(DEADLINE).await.unwrap();
    session
}

#[tokio::test]
async fn every_transaction_counts_once_whatever_befalls_the_leader() {
    let started = Instant::now();
    let mut cluster = Cluster::start(SERVERS, &tally::schema()).await;
    let mut sessions = Vec::new();
    for n in 0..SESSIONS + FOLLOWERS {
        sessions.push(open(&cluster, n).await);
    }
    let worker = |n: usize| Worker {
        session: sessions[n % SESSIONS].clone(),
        name: format!("worker {n}"),
        guard: if (n / SESSIONS).is_multiple_of(2) { Guard::Once } else { Guard::Mark },
    };
    let counters = (0..COUNTERS).map(|n| Row::new().with("name", format!("c{n}")));
    let rows = counters.fold(Transaction::new(), |rows, row| rows.insert("Counter", None, row));
    let rows = (0..WORKERS).fold(rows, |rows, n| worker(n).row(rows));
    sessions[0].transact(rows).await.unwrap();
    let followers: Vec<Follower> = sessions[SESSIONS..].iter().map(Follower::start).collect();

    let (settled, progress) = watch::channel(0);
    let mut working = JoinSet::new();
    for n in 0..WORKERS {
        let (worker, settled) = (worker(n), settled.clone());
        working.spawn(async move {
            let (name, guard) = (worker.name.clone(), worker.guard);
            let share = TRANSACTIONS / WORKERS as u64;
            (name, (guard, worker.work(share, || settled.send_modify(|count| *count += 1)).await))
        });
    }
    chaos::disturb(&mut cluster, ROUNDS, TRANSACTIONS, progress).await;
    let finished = timeout(DEADLINE, working.join_all()).await.expect("every worker comes to an end");
    let accounts: Accounts = finished.into_iter().collect();

    let total = total(&accounts);
    assert_eq!(total.done + total.refused + total.void, TRANSACTIONS, "{total:?}");
    audit(&cluster, &accounts, &sessions).await;
    let attempts = cluster.attempts();
    let bound = (SESSIONS + FOLLOWERS) * ATTEMPTS * ROUNDS as usize;
    assert!(attempts <= bound, "{attempts} attempts to connect, more than {bound}");
    let resumed = cluster.resumed();
    assert!(resumed > 0, "no session went on where it had been: nothing is shown of that");
    drop((sessions, settled));
    let mut seen = Vec::new();
    for follower in followers {
        seen.push(follower.finish().await);
    }
    println!(
        "{total:?}; {attempts} attempts to connect, {resumed} went on where they had been; snapshots seen: \
         {seen:?}; {:?}",
        started.elapsed()
    );
}
