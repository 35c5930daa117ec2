//! The count afterwards: what the workers know, what the leader has, and what every session believes.

use std::collections::BTreeMap;

use ovsdb_rs::{Replica, Session};
use serde_json::json;
use tokio::time::timeout;

use crate::cluster::{Cluster, DEADLINE, Rows};
use crate::tally::{Account, Guard, TABLES};

/// By the name of the worker.
pub(crate) type Accounts = BTreeMap<String, (Guard, Account)>;

pub(crate) fn total(accounts: &Accounts) -> Account {
    accounts.values().fold(Account::default(), |sum, (_, account)| sum.plus(account))
}

/// Holds them against each other.
pub(crate) async fn audit(cluster: &Cluster, accounts: &Accounts, sessions: &[Session]) {
    let leader = cluster.leader(None).await;
    let mut dump = BTreeMap::new();
    for table in TABLES {
        dump.insert(table, cluster.dump(leader, table).await);
    }
    books(&dump, accounts);
    for session in sessions {
        let mut snapshots = session.subscribe();
        let equal = snapshots.wait_for(|replica| dump.iter().all(|(table, rows)| same(replica, table, rows)));
        assert!(timeout(DEADLINE, equal).await.is_ok(), "a replica is not what the leader has");
    }
}

fn books(dump: &BTreeMap<&str, Rows>, accounts: &Accounts) {
    let counters = dump["Counter"].values().map(|row| row["value"].as_u64().unwrap());
    assert_eq!(counters.sum::<u64>(), total(accounts).added);
    assert_eq!(dump["Worker"].len(), accounts.len());
    for row in dump["Worker"].values() {
        let name = row["name"].as_str().unwrap();
        let (guard, account) = accounts[name];
        assert_eq!([&row["done"], &row["added"]], [&json!(account.done), &json!(account.added)], "{name}");
        let marks = |done: bool| {
            let ours = |mark: &&BTreeMap<_, _>| mark["worker"] == name && mark["done"] == done;
            dump["Mark"].values().filter(ours).count() as u64
        };
        let expected = match guard {
            Guard::Once => [0, 0],
            Guard::Mark => [account.done, account.void],
        };
        assert_eq!([marks(true), marks(false)], expected, "{name}");
    }
}

/// Whether a replica has these rows and no other.
fn same(replica: &Replica, table: &str, dump: &Rows) -> bool {
    replica.table(table).count() == dump.len()
        && replica.table(table).all(|(uuid, row)| {
            let held = dump.get(&uuid.to_string());
            held.is_some_and(|held| row.iter().all(|(column, datum)| held[column] == datum.to_json()))
        })
}
