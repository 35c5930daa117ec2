//! Transactions: done, refused with the server's reason, and read back.

use std::time::Duration;

use ovsdb_rs::{Clause, Datum, Function, Mutator, Row, TableMonitor, TransactError, Transaction, Until};
use uuid::Uuid;

use crate::fixture::{NB, NB_SCHEMA, Server, open, quick};

fn named(name: &str) -> [Clause; 1] {
    [Clause::new("name", Function::Equal, name)]
}

#[tokio::test]
async fn a_wait_that_does_not_hold_refuses_everything() {
    let server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, vec![TableMonitor::new("Logical_Switch_Port")]).await;
    server.nbctl(&["ls-add", "sw", "--", "lsp-add", "sw", "p", "--", "lsp-set-options", "p", "pin=hv1"]);
    let pin = |chassis: &str| Row::new().with("options", Datum::map([("pin", chassis)]));
    let move_to = |from: &str, to: &str| {
        Transaction::new()
            .comment("move the pin")
            .wait("Logical_Switch_Port", named("p"), ["options"], [pin(from)], Until::Equal)
            .update("Logical_Switch_Port", named("p"), pin(to))
    };
    let done = session.transact(move_to("hv1", "hv2")).await.unwrap();
    assert_eq!(done.iter().map(|result| result.count).collect::<Vec<_>>(), [0, 0, 1]);
    match session.transact(move_to("hv1", "hv3")).await.unwrap_err() {
        TransactError::Refused { op, error, details } => {
            assert_eq!((op, error.as_str()), (Some(1), "timed out"));
            assert!(details.contains("test failed"), "{details}");
        }
        other => panic!("{other}"),
    }
    let replica = session.replica();
    let (_, port) = replica.find("Logical_Switch_Port", |row| row.str("name") == Some("p")).unwrap();
    assert_eq!(port.map_get("options", "pin"), Some("hv2"));
    let gone = Transaction::new()
        .wait("Logical_Switch_Port", named("q"), ["name"], [Row::new().with("name", "q")], Until::NotEqual)
        .insert("Address_Set", None, Row::new().with("name", "as"));
    assert!(session.transact(gone).await.unwrap()[1].uuid.is_some());
}

#[tokio::test]
async fn keys_of_a_map_are_set_and_removed_one_by_one() {
    let server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    let ids = Datum::map([("mine", "1"), ("theirs", "2")]);
    let row = Row::new().with("name", "as").with("external_ids", ids);
    session.transact(Transaction::new().insert("Address_Set", None, row)).await.unwrap();
    let edit = async |transaction: Transaction| {
        session.transact(transaction).await.unwrap();
        let replica = session.replica();
        let (_, row) = replica.find("Address_Set", |_| true).unwrap();
        row.map("external_ids").iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    let new = || Transaction::new();
    let column = "external_ids";
    let set = new().set_keys("Address_Set", named("as"), column, [("mine", "3"), ("more", "4")]);
    assert_eq!(edit(set).await, ["mine=3", "more=4", "theirs=2"]);
    // A plain insert leaves a key that is there alone.
    let insert = (column, Mutator::Insert, Datum::map([("theirs", "9")]));
    assert_eq!(
        edit(new().mutate("Address_Set", named("as"), [insert])).await,
        ["mine=3", "more=4", "theirs=2"]
    );
    let stale = new().delete_pairs("Address_Set", named("as"), column, [("mine", "1"), ("more", "4")]);
    assert_eq!(edit(stale).await, ["mine=3", "theirs=2"]);
    assert_eq!(edit(new().delete_keys("Address_Set", named("as"), column, ["mine"])).await, ["theirs=2"]);
}

#[tokio::test]
async fn what_is_selected_comes_back_typed() {
    let server = Server::start(NB_SCHEMA);
    // No monitor at all is a session too.
    let session = open(&server.remote(), NB, Vec::new()).await;
    let transaction = Transaction::new()
        .insert("Logical_Switch_Port", "new_port", Row::new().with("name", "p").with("tag", 7i64))
        .insert(
            "Logical_Switch",
            None,
            Row::new().with("name", "sw").with("ports", Datum::named_uuid("new_port")),
        )
        .select("Logical_Switch_Port", named("p"), ["_uuid", "tag", "up", "name"])
        .delete("Logical_Switch", [Clause::new("name", Function::NotEqual, "sw")]);
    let results = session.transact(transaction).await.unwrap();
    let port = results[0].uuid.unwrap();
    let row = &results[2].rows[0];
    assert_eq!((row.uuid("_uuid"), row.int("tag"), row.str("name")), (Some(port), Some(7), Some("p")));
    assert_eq!((row.bool("up"), row.has("up"), row.has("type")), (None, true, false));
    assert_eq!(results[3].count, 0);
    let by_uuid = [Clause::new("_uuid", Function::Equal, port)];
    let all =
        session.transact(Transaction::new().select("Logical_Switch_Port", by_uuid, [""; 0])).await.unwrap();
    assert!(all[0].rows[0].has("type"), "no columns named, all given");
}

#[tokio::test]
async fn a_refusal_names_the_operation_and_the_reason() {
    let server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    let add = |name: &str| Row::new().with("name", name);
    let cases = [
        // Found at the commit, after the last operation.
        (
            Transaction::new().insert("Address_Set", None, add("x")).insert("Address_Set", None, add("x")),
            None,
            "constraint violation",
        ),
        (
            Transaction::new().insert("Address_Set", None, add("y")).mutate(
                "Address_Set",
                named("y"),
                [("external_ids", Mutator::Insert, Datum::named_uuid("nil"))],
            ),
            Some(1),
            "syntax error",
        ),
        (Transaction::new().delete("No_Such_Table", []), Some(0), "syntax error"),
        (
            Transaction::new().update("Address_Set", [], Row::new().with("x", Uuid::nil())),
            Some(0),
            "unknown column",
        ),
    ];
    for (transaction, expected_op, expected_error) in cases {
        match session.transact(transaction).await.unwrap_err() {
            TransactError::Refused { op, error, details } => {
                assert_eq!(op, expected_op, "{error}: {details}");
                assert_eq!(error, expected_error, "{details}");
                assert!(!details.is_empty());
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(session.replica().table("Address_Set").count(), 0, "none of it was done");
}

#[tokio::test]
async fn without_a_server_a_transaction_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let remote = format!("unix:{}", dir.path().join("none").display());
    let session = ovsdb_rs::Session::open_with(remote.parse().unwrap(), NB, Vec::new(), quick());
    let within = Duration::from_millis(100);
    match session.transact_within(Transaction::new().comment("x"), within).await.unwrap_err() {
        TransactError::NotConnected { cause: Some(failure) } => {
            assert_eq!(failure.remote.to_string(), remote);
            assert_eq!(failure.cause.label(), "connect");
        }
        other => panic!("{other}"),
    }
    let error = session.ready(within).await.unwrap_err();
    assert_eq!(error.label(), "connect");
    let text = error.to_string();
    assert!(text.contains(&remote) && text.contains("check that ovsdb-server runs"), "{text}");
}
