//! Servers that die, freeze and come back.

use std::time::Duration;

use ovsdb_rs::{Session, State, TableMonitor, TransactError, Transaction};
use tokio::time::timeout;

use crate::fixture::{DEADLINE, NB, NB_SCHEMA, Server, add, open, quick, remove, rows, wait_for};

#[tokio::test]
async fn the_replica_is_equal_again_after_a_restart() {
    let mut server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    for name in ["a", "b"] {
        session.transact(add(name)).await.unwrap();
    }
    let mut snapshots = session.subscribe();
    server.kill();
    let away = wait_for(&session, "the outage", |replica| !replica.connected).await;
    assert_eq!(away.table("Address_Set").count(), 2, "what was known stays");
    server.restart_elsewhere();
    server.nbctl(&["destroy", "Address_Set", "a", "--", "create", "Address_Set", "name=c"]);
    server.restart();
    let seen = |replica: &ovsdb_rs::Replica| {
        replica.connected && replica.find("Address_Set", |row| row.str("name") == Some("c")).is_some()
    };
    wait_for(&session, "what happened meanwhile", seen).await;
    server.assert_replicated(&session, NB, &["Address_Set"]).await;
    assert!(matches!(session.state(), State::Connected { .. }));
    // Never empty, never half: each snapshot on the way was complete.
    assert_eq!(snapshots.borrow_and_update().table("Address_Set").count(), 2);
}

#[tokio::test]
async fn a_transaction_in_flight_is_never_reported_done_by_mistake() {
    let mut server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    // Frozen, it takes the request and never answers.
    server.freeze();
    let asking = session.clone();
    let asked = tokio::spawn(async move { asking.transact_within(add("lost"), DEADLINE).await });
    let error = timeout(DEADLINE, asked).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.label(), "unknown", "{error}");
    assert!(error.to_string().contains("silent"), "{error}");
    // The next one waits for the connection that follows.
    server.restart();
    session.transact_within(add("kept"), DEADLINE).await.unwrap();
    server.assert_replicated(&session, NB, &["Address_Set"]).await;
}

#[tokio::test]
async fn what_was_reported_done_survives_a_server_that_dies_at_any_moment() {
    let mut server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    let mut done = Vec::new();
    for round in 0..10 {
        let names: Vec<String> = (0..20).map(|index| format!("r{round}i{index}")).collect();
        let tasks: Vec<_> = names
            .iter()
            .map(|name| {
                let (session, transaction) = (session.clone(), add(name));
                tokio::spawn(async move { session.transact_within(transaction, Duration::ZERO).await })
            })
            .collect();
        // The server dies when some are through and others are not, more of them each round.
        let seen = names[round * 2].clone();
        let through = |replica: &ovsdb_rs::Replica| {
            !replica.connected || replica.find("Address_Set", |row| row.str("name") == Some(&seen)).is_some()
        };
        wait_for(&session, "some of them", through).await;
        server.restart();
        for (name, task) in names.into_iter().zip(tasks) {
            match timeout(DEADLINE, task).await.unwrap().unwrap() {
                Ok(results) => done.push((name, results[0].uuid.unwrap())),
                Err(TransactError::NotConnected { .. } | TransactError::Unknown { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        // The old connection's end may not have been noticed yet.
        while let Err(error) = session.transact_within(Transaction::new().comment("again"), DEADLINE).await {
            assert_eq!(error.label(), "unknown", "{error}");
        }
    }
    let replica = session.replica();
    assert!(!done.is_empty());
    for (name, uuid) in done {
        let row = replica.get("Address_Set", &uuid).unwrap_or_else(|| panic!("{name} was reported done"));
        assert_eq!(row.str("name"), Some(name.as_str()));
    }
    server.assert_replicated(&session, NB, &["Address_Set"]).await;
}

#[tokio::test]
async fn the_next_remote_of_the_list_is_tried() {
    let mut first = Server::start(NB_SCHEMA);
    let second = Server::start(NB_SCHEMA);
    let remotes = format!("unix:/nonexistent/socket,{},{}", first.remote(), second.remote());
    let session = open(&remotes, NB, vec![TableMonitor::new("Address_Set")]).await;
    session.transact(add("on-the-first")).await.unwrap();
    assert_eq!(session.state(), State::Connected { remote: first.remote().parse().unwrap() });
    first.kill();
    let on_second =
        |replica: &ovsdb_rs::Replica| replica.connected && replica.table("Address_Set").count() == 0;
    wait_for(&session, "the second server", on_second).await;
    session.transact(add("on-the-second")).await.unwrap();
    assert_eq!(rows(&session.replica(), "Address_Set").len(), 1);
    second.assert_replicated(&session, NB, &["Address_Set"]).await;
}

#[tokio::test]
async fn a_session_ends_with_its_last_handle() {
    let server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, Vec::new()).await;
    let other = session.clone();
    let mut snapshots = session.subscribe();
    drop(session);
    other.transact(remove("nothing")).await.unwrap();
    drop(other);
    snapshots.mark_unchanged();
    timeout(DEADLINE, async { while snapshots.changed().await.is_ok() {} }).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_served_is_named() {
    let server = Server::start(NB_SCHEMA);
    let session = Session::open_with(server.remote().parse().unwrap(), "OVN_Sideways", Vec::new(), quick());
    let mut state = session.subscribe_state();
    let failed = state.wait_for(|state| matches!(state, State::Connecting { last_error: Some(_) }));
    timeout(DEADLINE, failed).await.unwrap().unwrap();
    // Also while the next attempt is under way.
    let error = session.ready(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.label(), "refused");
    let text = error.to_string();
    assert!(text.contains("OVN_Sideways") && text.contains(&server.remote()), "{text}");
    assert!(text.contains("get_schema") && text.contains("check that the remote serves"), "{text}");
}
