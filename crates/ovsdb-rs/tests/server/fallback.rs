//! Servers that are too old for the newest way to monitor: a proxy refuses what they would not know.

use ovsdb_rs::{Clause, Datum, Function, Mutator, Row, TableMonitor, Transaction};

use crate::fixture::{NB, NB_SCHEMA, Server, open, wait_for};
use crate::proxy::Proxy;

const TABLES: [&str; 3] = ["Address_Set", "Logical_Switch", "Logical_Switch_Port"];

fn named(name: &str) -> [Clause; 1] {
    [Clause::new("name", Function::Equal, name)]
}

/// Every kind of change to every kind of column.
fn changes() -> Vec<Transaction> {
    let addresses = |mutator, addresses: &[&str]| {
        let set = Datum::set(addresses.iter().copied());
        Transaction::new().mutate("Address_Set", named("as"), [("addresses", mutator, set)])
    };
    let ids = |pairs: &[(&str, &str)]| {
        Transaction::new().set_keys("Address_Set", named("as"), "external_ids", pairs.iter().copied())
    };
    let new = Transaction::new;
    vec![
        new().insert("Address_Set", None, Row::new().with("name", "as")).insert(
            "Address_Set",
            None,
            Row::new().with("name", "gone"),
        ),
        addresses(Mutator::Insert, &["1.1.1.1", "2.2.2.2"]),
        addresses(Mutator::Delete, &["1.1.1.1"]),
        ids(&[("a", "1"), ("b", "2")]),
        ids(&[("a", "3")]),
        new().delete_keys("Address_Set", named("as"), "external_ids", ["b"]),
        new().delete("Address_Set", named("gone")),
        new().insert("Logical_Switch", None, Row::new().with("name", "sw")),
        new().insert("Logical_Switch_Port", "p", Row::new().with("name", "p").with("tag", 5)).mutate(
            "Logical_Switch",
            named("sw"),
            [("ports", Mutator::Insert, Datum::named_uuid("p"))],
        ),
        new().update(
            "Logical_Switch_Port",
            named("p"),
            Row::new().with("tag", Datum::empty()).with("up", true),
        ),
    ]
}

#[tokio::test]
async fn older_methods_lead_to_the_same_replica() {
    let since = "monitor_cond_since";
    for refused in [&[][..], &[since], &[since, "monitor_cond"]] {
        let mut server = Server::start(NB_SCHEMA);
        let proxy = Proxy::start(&server.remote(), refused).await;
        let monitors = || TABLES.map(TableMonitor::new).into();
        let session = open(&proxy.remote(), NB, monitors()).await;
        let mut tried = vec![since, "monitor_cond", "monitor"];
        tried.truncate(refused.len() + 1);
        for method in tried {
            let of_ours = |(request, _): &(serde_json::Value, _)| request["params"][0] == NB;
            let replies: Vec<_> = proxy.seen(method).into_iter().filter(of_ours).collect();
            assert_eq!(replies.len(), 1, "{method}");
            assert_eq!(replies[0].1["error"].is_null(), !refused.contains(&method), "{method}");
        }
        for change in changes() {
            session.transact(change).await.unwrap();
            server.assert_replicated(&session, NB, &TABLES).await;
        }
        server.nbctl(&["--may-exist", "lsp-add", "sw", "q", "--", "lsp-set-options", "q", "x=1", "y=2"]);
        server.assert_replicated(&session, NB, &TABLES).await;
        // And once more from an empty replica, and from one that was there before.
        let second = open(&proxy.remote(), NB, monitors()).await;
        server.assert_replicated(&second, NB, &TABLES).await;
        server.restart();
        wait_for(&session, "the reconnection", |replica| replica.connected).await;
        while let Err(error) = session.transact(Transaction::new().comment("again")).await {
            assert_eq!(error.label(), "unknown", "{error}");
        }
        server.assert_replicated(&session, NB, &TABLES).await;
    }
}

#[tokio::test]
async fn conditions_hold_where_the_server_knows_them() {
    for (refused, narrowed) in
        [(&["monitor_cond_since"][..], 1), (&["monitor_cond_since", "monitor_cond"], 2)]
    {
        let server = Server::start(NB_SCHEMA);
        server.nbctl(&["create", "Address_Set", "name=a", "--", "create", "Address_Set", "name=b"]);
        let proxy = Proxy::start(&server.remote(), refused).await;
        let monitor = TableMonitor::new("Address_Set").condition(named("a").into());
        let session = open(&proxy.remote(), NB, vec![monitor]).await;
        assert_eq!(session.replica().table("Address_Set").count(), narrowed);
        session.set_condition("Address_Set", named("b").into()).await.unwrap();
        let replica = session.replica();
        assert_eq!(replica.table("Address_Set").count(), narrowed);
        assert!(replica.find("Address_Set", |row| row.str("name") == Some("b")).is_some());
    }
}
