//! The count afterwards: what the workers know, what the leader has, and what every session believes.

use std::collections::BTreeMap;

use ovsdb_rs::{Row, Session};
use tokio::time::timeout;
use uuid::Uuid;

use super::tally::{Account, DATABASE, Guard, TABLES};
use crate::cluster::Cluster;
use crate::fixture::{DEADLINE, dump, rows};

/// By the name of the worker.
pub(crate) type Accounts = BTreeMap<String, (Guard, Account)>;

pub(crate) fn total(accounts: &Accounts) -> Account {
    accounts.values().fold(Account::default(), |sum, (_, account)| sum.plus(account))
}

/// Holds them against each other.
pub(crate) async fn audit(cluster: &Cluster, accounts: &Accounts, sessions: &[Session]) {
    let leader = cluster.leader(None).await;
    let (remote, replica) = (cluster.unix(leader), sessions[0].replica());
    let held = TABLES.map(|table| (table, dump(&remote, DATABASE, table, &replica)));
    books(&BTreeMap::from(held.clone()), accounts);
    for session in sessions {
        let mut snapshots = session.subscribe();
        let equal =
            snapshots.wait_for(|replica| held.iter().all(|(table, held)| rows(replica, table) == *held));
        assert!(timeout(DEADLINE, equal).await.is_ok(), "a replica is not what the leader has");
    }
}

fn books(held: &BTreeMap<&str, BTreeMap<Uuid, Row>>, accounts: &Accounts) {
    let number = |row: &Row, column: &str| u64::try_from(row.int(column).unwrap()).unwrap();
    let counters = held["Counter"].values().map(|row| number(row, "value"));
    assert_eq!(counters.sum::<u64>(), total(accounts).added);
    assert_eq!(held["Worker"].len(), accounts.len());
    for row in held["Worker"].values() {
        let name = row.str("name").unwrap();
        let (guard, account) = accounts[name];
        assert_eq!([number(row, "done"), number(row, "added")], [account.done, account.added], "{name}");
        let marks = |done: bool| {
            let ours = |mark: &&Row| mark.str("worker") == Some(name) && mark.bool("done") == Some(done);
            held["Mark"].values().filter(ours).count() as u64
        };
        let expected = match guard {
            Guard::Once => [0, 0],
            Guard::Mark => [account.done, account.void],
        };
        assert_eq!([marks(true), marks(false)], expected, "{name}");
    }
}
