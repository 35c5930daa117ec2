//! A session that only follows, and holds every snapshot that it sees against what must be true of each.

use std::collections::BTreeMap;

use ovsdb_rs::{Replica, Session};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::tally::RECENT;

pub(crate) struct Follower(JoinHandle<u64>);

/// What never becomes less, by row.
type Counts = BTreeMap<(&'static str, Uuid), i64>;

impl Follower {
    /// Of a session that is ready, and for as long as that lives.
    pub(crate) fn start(session: &Session) -> Self {
        let mut snapshots = session.subscribe();
        Self(tokio::spawn(async move {
            let mut before = Counts::new();
            let mut seen = 0;
            loop {
                let replica = snapshots.borrow_and_update().clone();
                let now = check(&replica);
                for (row, count) in &before {
                    let now = now.get(row).copied();
                    assert!(now >= Some(*count), "{row:?} went from {count} to {now:?}: {replica:?}");
                }
                before = now;
                seen += 1;
                if snapshots.changed().await.is_err() {
                    return seen;
                }
            }
        }))
    }

    /// The number of snapshots that it has seen, once every handle of the session is gone.
    pub(crate) async fn finish(self) -> u64 {
        self.0.await.expect("every snapshot is as it must be")
    }
}

fn check(replica: &Replica) -> Counts {
    let mut counts = Counts::new();
    let mut difference = 0;
    for (uuid, row) in replica.table("Counter") {
        let value = row.int("value").unwrap();
        counts.insert(("Counter", *uuid), value);
        difference += value;
    }
    for (uuid, row) in replica.table("Worker") {
        let done = row.int("done").unwrap();
        counts.insert(("Worker", *uuid), done);
        difference -= row.int("added").unwrap();
        let recent: Vec<i64> = row.ints("recent").collect();
        let expected: Vec<i64> = ((done - RECENT + 1).max(1)..=done).collect();
        assert_eq!(recent, expected, "a difference was lost, or applied twice: {row:?}");
    }
    // A snapshot is made of whole transactions.
    assert_eq!(difference, 0, "{replica:?}");
    counts
}
