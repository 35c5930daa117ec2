//! Locks: waited for, given back, stolen, lost with the connection, and asserted in transactions.

use ovsdb_rs::{Lock, Row, TableMonitor, Transaction};
use tokio::time::timeout;

use crate::fixture::{DEADLINE, NB, NB_SCHEMA, Server, open};

async fn acquired(lock: &Lock) {
    timeout(DEADLINE, lock.acquired()).await.expect("the lock").unwrap();
    assert!(lock.is_held());
}

async fn lost(lock: &Lock) {
    timeout(DEADLINE, lock.lost()).await.expect("the loss of the lock").unwrap();
}

fn add(name: &str, lock: &str) -> Transaction {
    Transaction::new().assert(lock).insert("Address_Set", None, Row::new().with("name", name))
}

#[tokio::test]
async fn one_has_it_and_the_next_gets_it() {
    let server = Server::start(NB_SCHEMA);
    let one = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    let two = open(&server.remote(), NB, Vec::new()).await;
    let lock_of_one = one.lock("limosa").await.unwrap();
    acquired(&lock_of_one).await;
    assert_eq!(one.lock("limosa").await.unwrap_err().label(), "lock_in_use");
    assert!(lock_of_one.is_held(), "the second handle that there was not leaves the first alone");
    let lock_of_two = two.lock("limosa").await.unwrap();
    two.transact(Transaction::new().comment("the lock request is answered before this")).await.unwrap();
    assert!(!lock_of_two.is_held());
    one.transact(add("a", "limosa")).await.unwrap();
    let error = two.transact(add("b", "limosa")).await.unwrap_err();
    assert!(error.to_string().contains("operation 0: not owner"), "{error}");
    drop(lock_of_one);
    acquired(&lock_of_two).await;
    two.transact(add("b", "limosa")).await.unwrap();
    // Asked for again by who gave it back, and of another name at the same time.
    let lock_of_one = one.lock("limosa").await.unwrap();
    let other = one.lock("other").await.unwrap();
    acquired(&other).await;
    assert!(!lock_of_one.is_held());
    drop(lock_of_two);
    acquired(&lock_of_one).await;
    server.assert_replicated(&one, NB, &["Address_Set"]).await;
}

#[tokio::test]
async fn who_is_robbed_waits_in_the_queue() {
    let server = Server::start(NB_SCHEMA);
    let one = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    let two = open(&server.remote(), NB, Vec::new()).await;
    let lock_of_one = one.lock("limosa").await.unwrap();
    acquired(&lock_of_one).await;
    let stolen = two.steal("limosa").await.unwrap();
    acquired(&stolen).await;
    lost(&lock_of_one).await;
    assert_eq!(one.transact(add("a", "limosa")).await.unwrap_err().label(), "refused");
    drop(stolen);
    acquired(&lock_of_one).await;
    // A thief who is robbed is in the queue as well.
    drop(lock_of_one);
    let stolen_by_one = one.steal("limosa").await.unwrap();
    acquired(&stolen_by_one).await;
    let stolen_by_two = two.steal("limosa").await.unwrap();
    acquired(&stolen_by_two).await;
    lost(&stolen_by_one).await;
    drop(stolen_by_two);
    acquired(&stolen_by_one).await;
    one.transact(add("a", "limosa")).await.unwrap();
}

#[tokio::test]
async fn a_lock_is_lost_with_the_connection_and_asked_for_again() {
    let mut server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, Vec::new()).await;
    let lock = session.steal("limosa").await.unwrap();
    acquired(&lock).await;
    server.kill();
    lost(&lock).await;
    // While away: from the next connection on.
    let other = session.lock("other").await.unwrap();
    let gone = session.lock("gone").await.unwrap();
    drop(gone);
    server.restart();
    acquired(&lock).await;
    acquired(&other).await;
    session.transact(Transaction::new().assert("limosa").assert("other")).await.unwrap();
    let error = session.transact(Transaction::new().assert("gone")).await.unwrap_err();
    assert_eq!(error.label(), "refused");
}
