//! Transactions whose answers are lost: done exactly once all the same.

use std::time::Duration;

use ovsdb_rs::{Clause, Datum, Function, Mutator, Once, Row, TableMonitor, Transaction, Until, Witness};

use crate::fixture::{DEADLINE, NB, NB_SCHEMA, Server, open};
use crate::proxy::{Lose, Proxy};

/// Adds one to a number, with a mark in a key of this client.
fn add_one(mark: &str) -> (Transaction, Witness) {
    let mark = [("counted-by-test", mark)];
    let transaction = Transaction::new()
        .mutate("NB_Global", [], [("nb_cfg", Mutator::Add, 1)])
        .set_keys("NB_Global", [], "external_ids", mark)
        .select("NB_Global", [], ["nb_cfg"]);
    let clause = Clause::new("external_ids", Function::Includes, Datum::map(mark));
    (transaction, Witness::new("NB_Global", [clause]))
}

#[tokio::test]
async fn a_lost_request_or_reply_is_made_good() {
    let server = Server::start(NB_SCHEMA);
    server.nbctl(&["init"]);
    let proxy = Proxy::start(&server.remote(), &[]).await;
    let session = open(&proxy.remote(), NB, vec![TableMonitor::new("NB_Global")]).await;
    let counted = || session.replica().table("NB_Global").find_map(|(_, row)| row.int("nb_cfg"));
    for (round, lose) in
        [Lose::Nothing, Lose::Request, Lose::Reply, Lose::Request, Lose::Reply].iter().enumerate()
    {
        let (transaction, witness) = add_one(&round.to_string());
        proxy.lose(*lose);
        let once = session.transact_once(&transaction, &witness, DEADLINE).await.unwrap();
        let expected = 1 + round as i64;
        match (once, lose) {
            (Once::Before, Lose::Reply) => {}
            (Once::Done(results), Lose::Nothing | Lose::Request) => {
                assert_eq!(results.len(), 3);
                assert_eq!(results[2].rows[0].int("nb_cfg"), Some(expected));
            }
            (once, lose) => panic!("{lose:?}: {once:?}"),
        }
        assert_eq!(counted(), Some(expected));
        // Given again, such as by another process, it is known to be done.
        let again = session.transact_once(&transaction, &witness, DEADLINE).await.unwrap();
        assert_eq!((again, counted()), (Once::Before, Some(expected)));
    }
    server.assert_replicated(&session, NB, &["NB_Global"]).await;
}

#[tokio::test]
async fn without_a_witness_a_lost_reply_is_unknown() {
    let server = Server::start(NB_SCHEMA);
    server.nbctl(&["init"]);
    let proxy = Proxy::start(&server.remote(), &[]).await;
    let session = open(&proxy.remote(), NB, vec![TableMonitor::new("NB_Global")]).await;
    for lose in [Lose::Request, Lose::Reply] {
        proxy.lose(lose);
        let error = session.transact(add_one("x").0).await.unwrap_err();
        assert_eq!(error.label(), "unknown", "{error}");
    }
    session.transact_within(Transaction::new().comment("connected again"), DEADLINE).await.unwrap();
    let replica = session.replica();
    let (_, row) = replica.find("NB_Global", |_| true).unwrap();
    assert_eq!(row.int("nb_cfg"), Some(1), "only the second was carried out");
}

#[tokio::test]
async fn a_refusal_is_final_only_when_nothing_is_under_way() {
    let server = Server::start(NB_SCHEMA);
    server.nbctl(&["init"]);
    let proxy = Proxy::start(&server.remote(), &[]).await;
    let session = open(&proxy.remote(), NB, Vec::new()).await;
    let (transaction, witness) = add_one("never");
    let seven = Row::new().with("nb_cfg", 7);
    let refused = transaction.wait("NB_Global", [], ["nb_cfg"], [seven], Until::Equal);
    let error = session.transact_once(&refused, &witness, DEADLINE).await.unwrap_err();
    // The index is the caller's, who knows nothing of the witness.
    let text = error.to_string();
    assert!(error.label() == "refused" && text.contains("operation 3: timed out"), "{text}");
    proxy.lose(Lose::Request);
    let error = session.transact_once(&refused, &witness, DEADLINE).await.unwrap_err();
    assert!(error.label() == "unknown" && error.to_string().contains("operation 3: timed out"), "{error}");
    proxy.set_open(false);
    let (transaction, witness) = add_one("away");
    while session.replica().connected {
        session.subscribe().changed().await.unwrap();
    }
    let short = Duration::from_millis(50);
    let error = session.transact_once(&transaction, &witness, short).await.unwrap_err();
    assert_eq!(error.label(), "not_connected", "{error}");
}
