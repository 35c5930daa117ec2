//! Conditional monitors: rows come and go with their condition, and the condition itself changes.

use std::collections::BTreeSet;

use ovsdb_rs::{Clause, Datum, Error, Function, Replica, Row, TableMonitor, Transaction};

use crate::fixture::{
    NB, NB_SCHEMA, Random, SB, SB_SCHEMA, Server, VSWITCH, VSWITCH_SCHEMA, open, rows, wait_for,
    without_column,
};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn named(name: &str) -> Clause {
    Clause::new("name", Function::Equal, name)
}

fn names(replica: &Replica) -> BTreeSet<String> {
    replica.table("Address_Set").filter_map(|(_, row)| row.str("name").map(str::to_owned)).collect()
}

#[tokio::test]
async fn rows_enter_and_leave_the_condition() {
    let server = Server::start(NB_SCHEMA);
    let marked = Clause::new("external_ids", Function::Includes, Datum::map([("migrating", "yes")]));
    let monitor = TableMonitor::new("Address_Set").columns(["name", "addresses"]).condition(vec![marked]);
    let session = open(&server.remote(), NB, vec![monitor]).await;
    let insert = Transaction::new().insert(
        "Address_Set",
        None,
        Row::new().with("name", "a").with("addresses", Datum::set(["1.1.1.1"])),
    );
    session.transact(insert).await.unwrap();
    assert_eq!(session.replica().table("Address_Set").count(), 0);
    let mark =
        Transaction::new().set_keys("Address_Set", [named("a")], "external_ids", [("migrating", "yes")]);
    session.transact(mark).await.unwrap();
    let replica = session.replica();
    let (_, row) = replica.find("Address_Set", |_| true).expect("the row has entered the condition");
    assert_eq!(row.strs("addresses").collect::<Vec<_>>(), ["1.1.1.1"]);
    assert!(!row.has("external_ids"), "a condition may be about a column that is not monitored");
    let clear = Transaction::new().delete_keys("Address_Set", [named("a")], "external_ids", ["migrating"]);
    session.transact(clear).await.unwrap();
    assert_eq!(session.replica().table("Address_Set").count(), 0);
}

#[tokio::test]
async fn a_condition_changes_while_rows_change() {
    let server = Server::start(NB_SCHEMA);
    let monitors = || {
        let never = TableMonitor::new("Address_Set").condition(vec![Clause::never()]);
        vec![never, TableMonitor::new("NB_Global")]
    };
    let session = open(&server.remote(), NB, monitors()).await;
    let everything = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    let mut random = Random(11);
    for _ in 0..150 {
        let name = random.pick(&NAMES);
        let members = Datum::set([format!("10.0.0.{}", random.below(9))]);
        let change = match random.below(3) {
            0 => Transaction::new().insert("Address_Set", None, Row::new().with("name", name)),
            1 => Transaction::new().delete("Address_Set", [named(name)]),
            _ => {
                Transaction::new().update("Address_Set", [named(name)], Row::new().with("addresses", members))
            }
        };
        let wanted: BTreeSet<&str> = (0..random.below(4)).map(|_| random.pick(&NAMES)).collect();
        // None named is none wanted; an empty list would be all.
        let clauses =
            if wanted.is_empty() { vec![Clause::never()] } else { wanted.iter().map(|n| named(n)).collect() };
        let (changed, set) =
            tokio::join!(session.transact(change), session.set_condition("Address_Set", clauses));
        set.unwrap();
        assert!(changed.is_ok() || changed.unwrap_err().label() == "refused");
        everything.transact(Transaction::new().comment("see it too")).await.unwrap();
        let expected: BTreeSet<String> =
            names(&everything.replica()).into_iter().filter(|name| wanted.contains(name.as_str())).collect();
        assert_eq!(names(&session.replica()), expected);
    }
    session.set_condition("Address_Set", Vec::new()).await.unwrap();
    assert_eq!(rows(&session.replica(), "Address_Set"), rows(&everything.replica(), "Address_Set"));
    server.assert_replicated(&session, NB, &["Address_Set"]).await;
}

#[tokio::test]
async fn a_condition_outlives_the_connection() {
    let mut server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set")]).await;
    for name in ["a", "b", "c"] {
        let insert = Transaction::new().insert("Address_Set", None, Row::new().with("name", name));
        session.transact(insert).await.unwrap();
    }
    session.set_condition("Address_Set", vec![named("a")]).await.unwrap();
    server.kill();
    wait_for(&session, "the outage", |replica| !replica.connected).await;
    assert_eq!(names(&session.replica()), BTreeSet::from(["a".to_owned()]));
    server.restart();
    let replica = wait_for(&session, "the reconnection", |replica| replica.connected).await;
    assert_eq!(names(&replica), BTreeSet::from(["a".to_owned()]));
    server.kill();
    wait_for(&session, "the outage", |replica| !replica.connected).await;
    // While away, too.
    session.set_condition("Address_Set", vec![named("b"), named("c")]).await.unwrap();
    server.restart();
    let replica = wait_for(&session, "the reconnection", |replica| replica.connected).await;
    assert_eq!(names(&replica), BTreeSet::from(["b".to_owned(), "c".to_owned()]));
}

#[tokio::test]
async fn a_condition_that_is_refused_changes_nothing() {
    let mut server = Server::start(NB_SCHEMA);
    let monitor = TableMonitor::new("Address_Set").condition(vec![named("a")]);
    let session = open(&server.remote(), NB, vec![monitor]).await;
    for name in ["a", "b"] {
        let insert = Transaction::new().insert("Address_Set", None, Row::new().with("name", name));
        session.transact(insert).await.unwrap();
    }
    let wrong = vec![Clause::new("name", Function::Equal, 5i64)];
    let error = session.set_condition("Address_Set", wrong).await.unwrap_err();
    assert_eq!(error.label(), "condition_refused", "{error}");
    let error = session.set_condition("ACL", Vec::new()).await.unwrap_err();
    assert_eq!(error, Error::NotMonitored("ACL".to_owned()));
    server.restart();
    let generation = session.replica().generation;
    let replica = wait_for(&session, "the reconnection", |r| r.connected && r.generation > generation).await;
    assert_eq!(names(&replica), BTreeSet::from(["a".to_owned()]));
}

#[tokio::test]
async fn what_the_schema_lacks_is_left_out_and_reported() {
    let server = Server::start_with(&without_column(SB_SCHEMA, "Port_Binding", "additional_chassis"));
    let monitors = vec![
        TableMonitor::new("Port_Binding")
            .columns(["logical_port", "additional_chassis"])
            .condition(vec![Clause::new("additional_chassis", Function::Excludes, Datum::empty())]),
        TableMonitor::new("Chassis").columns(["name"]),
        TableMonitor::new("From_The_Future"),
    ];
    let session = open(&server.remote(), SB, monitors).await;
    let missing = session.missing_columns();
    assert_eq!(missing.tables, BTreeSet::from(["From_The_Future".to_owned()]));
    let column = ("Port_Binding".to_owned(), "additional_chassis".to_owned());
    assert_eq!(missing.columns, BTreeSet::from([column]));
    let insert = Transaction::new()
        .insert("Datapath_Binding", "dp", Row::new().with("tunnel_key", 1i64))
        .insert(
            "Port_Binding",
            None,
            Row::new()
                .with("logical_port", "p")
                .with("tunnel_key", 1i64)
                .with("datapath", Datum::named_uuid("dp")),
        )
        .insert("Chassis", None, Row::new().with("name", "hv1"));
    // A chassis must have an encapsulation: refused, with nothing in the replica.
    assert_eq!(session.transact(insert.clone()).await.unwrap_err().label(), "refused");
    let encap = Row::new().with("type", "geneve").with("ip", "10.0.0.1").with("chassis_name", "hv2");
    let insert = Transaction::new()
        .insert("Encap", "encap", encap)
        .insert("Chassis", None, Row::new().with("name", "hv2").with("encaps", Datum::named_uuid("encap")))
        .insert("Datapath_Binding", "dp", Row::new().with("tunnel_key", 1i64))
        .insert(
            "Port_Binding",
            None,
            Row::new()
                .with("logical_port", "p")
                .with("tunnel_key", 1i64)
                .with("datapath", Datum::named_uuid("dp")),
        );
    session.transact(insert).await.unwrap();
    let replica = session.replica();
    assert!(replica.has_table("Port_Binding") && !replica.has_table("From_The_Future"));
    assert_eq!(replica.table("From_The_Future").count(), 0);
    assert_eq!(replica.table("Port_Binding").count(), 0, "a clause on a missing column holds for no row");
    session.set_condition("Port_Binding", Vec::new()).await.unwrap();
    session.set_condition("From_The_Future", Vec::new()).await.unwrap();
    let replica = session.replica();
    let (_, port) = replica.find("Port_Binding", |_| true).unwrap();
    assert!(port.has("logical_port") && !port.has("additional_chassis"));
}

#[tokio::test]
async fn numbers_are_compared() {
    let server = Server::start(VSWITCH_SCHEMA);
    server.vsctl(&["init", "--", "add-br", "br0"]);
    let above = Clause::new("ofport_request", Function::Greater, 3i64);
    let monitor = TableMonitor::new("Interface").columns(["name"]).condition(vec![above]);
    let session = open(&server.remote(), VSWITCH, vec![monitor]).await;
    for (port, request) in [("p2", "2"), ("p3", "3"), ("p4", "4")] {
        let request = format!("ofport_request={request}");
        server.vsctl(&["add-port", "br0", port, "--", "set", "interface", port, &request]);
    }
    session.transact(Transaction::new().comment("everything before this")).await.unwrap();
    let replica = session.replica();
    let seen: Vec<_> = replica.table("Interface").filter_map(|(_, row)| row.str("name")).collect();
    assert_eq!(seen, ["p4"]);
}
