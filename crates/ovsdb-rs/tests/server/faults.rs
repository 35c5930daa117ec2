//! Listeners that misbehave: each must end in a typed error and another attempt, and in no more memory than
//! it is worth.

use std::time::Duration;

use ovsdb_rs::{Framer, Options, Row, Session, State, TableMonitor, TransactError, Transaction};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::fixture::{DEADLINE, fails, quick, wait_for};

/// One end of a connection, played by the test.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    framer: Framer,
}

impl Peer {
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(DEADLINE, listener.accept()).await.expect("another attempt").unwrap();
        Self { stream, framer: Framer::default() }
    }

    async fn receive(&mut self) -> Value {
        let mut buffer = [0; 4096];
        loop {
            if let Some(value) = self.framer.next_value().unwrap() {
                return value;
            }
            let count = timeout(DEADLINE, self.stream.read(&mut buffer)).await.unwrap().unwrap();
            assert!(count > 0, "the client has closed the connection");
            self.framer.push(&buffer[..count]);
        }
    }

    /// The next request of this method, answering echo requests before it.
    pub(crate) async fn request(&mut self, method: &str) -> Value {
        loop {
            let message = self.receive().await;
            if message["method"] == "echo" {
                self.send(&json!({ "id": message["id"], "result": [], "error": null })).await;
            } else {
                assert_eq!(message["method"], method, "{message}");
                return message;
            }
        }
    }

    async fn send(&mut self, message: &Value) {
        self.stream.write_all(message.to_string().as_bytes()).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, method: &str, result: Value) {
        let request = self.request(method).await;
        self.send(&json!({ "id": request["id"], "result": result, "error": null })).await;
    }

    /// Has no `_Server` database.
    pub(crate) async fn answer_server(&mut self) {
        let request = self.request("monitor").await;
        assert_eq!(request["params"][0], "_Server");
        let error = json!({ "error": "unknown database" });
        self.send(&json!({ "id": request["id"], "result": null, "error": error })).await;
    }

    async fn answer_schema(&mut self) {
        self.answer_server().await;
        self.answer("get_schema", schema()).await;
    }

    /// Plays a server with one table of one row up to the first contents.
    async fn load(&mut self, name: &str) {
        self.answer_schema().await;
        let rows = json!({ "T": { ROW: { "initial": { "name": name } } } });
        self.answer("monitor_cond_since", json!([false, NO_TRANSACTION, rows])).await;
    }

    async fn closed(&mut self) {
        let mut buffer = [0; 4096];
        let end = async { while matches!(self.stream.read(&mut buffer).await, Ok(count) if count > 0) {} };
        timeout(DEADLINE, end).await.expect("the client closes the connection");
    }
}

const ROW: &str = "6a6ae8e8-0001-4000-8000-000000000001";
const NO_TRANSACTION: &str = "00000000-0000-0000-0000-000000000000";

fn schema() -> Value {
    json!({ "name": "D", "version": "1.0.0", "tables": { "T": { "columns": {
        "name": { "type": "string" },
        "members": { "type": { "key": "string", "min": 0, "max": "unlimited" } },
    } } } })
}

async fn listen(options: Options) -> (TcpListener, Session) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let session = Session::open_with(remote, "D", vec![TableMonitor::new("T")], options);
    (listener, session)
}

#[tokio::test]
async fn what_is_not_ovsdb_is_a_typed_error_and_then_another_attempt() {
    let nested = format!("{{\"a\":{}", "[".repeat(100_000));
    let cases: [(&[u8], &str); 8] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "framing"),
        (b"{\"id\":0,\"result\":}", "framing"),
        (nested.as_bytes(), "framing"),
        (b"{\"id\":77,\"result\":{},\"error\":null}", "protocol"),
        (b"[]", "protocol"),
        (b"{\"id\":0,\"result\":{\"tables\":5},\"error\":null}", "protocol"),
        (b"{\"id\":0,\"error\":\"no\"}{\"id\":1,\"result\":{\"tables\":5}}", "protocol"),
        (b"{\"id\":0,\"error\":\"no\"}{\"id\":1,\"error\":{\"error\":\"unknown database\"}}", "refused"),
    ];
    for (garbage, label) in cases {
        let (listener, session) = listen(quick()).await;
        let mut peer = Peer::accept(&listener).await;
        peer.stream.write_all(garbage).await.unwrap();
        fails(&session, label).await;
        assert_eq!(session.ready(Duration::ZERO).await.unwrap_err().label(), label);
        let mut peer = Peer::accept(&listener).await;
        peer.load("good").await;
        session.ready(DEADLINE).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let (listener, session) = listen(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    assert_eq!(peer.receive().await["method"], "monitor");
    // The probe, which it does not answer either.
    assert_eq!(peer.receive().await["method"], "echo");
    fails(&session, "silent").await;
    peer.closed().await;
    Peer::accept(&listener).await.load("good").await;
    session.ready(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_stop_talking_is_given_up() {
    let mut options = quick();
    options.max_message = 1 << 20;
    let (listener, session) = listen(options).await;
    let mut peer = Peer::accept(&listener).await;
    let flood = async {
        let chunk = vec![b'x'; 1 << 16];
        peer.stream.write_all(b"{\"id\": \"").await?;
        // Far more than the limit; the client hangs up long before.
        for _ in 0..1024 {
            peer.stream.write_all(&chunk).await?;
        }
        std::io::Result::Ok(())
    };
    assert!(timeout(DEADLINE, flood).await.unwrap().is_err(), "the client took 64 MiB");
    fails(&session, "framing").await;
}

/// Each message is small, and there is no end of them; nor is there of one row's set.
#[tokio::test]
async fn a_database_that_does_not_stop_growing_is_given_up() {
    let mut options = quick();
    options.max_replica = 1 << 20;
    let (listener, session) = listen(options).await;
    let text = "x".repeat(1 << 16);
    for one_row in [false, true] {
        let mut peer = Peer::accept(&listener).await;
        peer.load("good").await;
        let mut sent = 0;
        for n in 0..64 {
            let change = match one_row {
                true => json!({ ROW: { "modify": { "members": format!("{n}{text}") } } }),
                false => json!({ ROW.replace("0001", &format!("1{n:03}")): { "insert": { "name": text } } }),
            };
            let params = json!(["replica", NO_TRANSACTION, { "T": change }]);
            let update = json!({ "id": null, "method": "update3", "params": params });
            if peer.stream.write_all(update.to_string().as_bytes()).await.is_err() {
                break;
            }
            sent += 1;
        }
        fails(&session, "replica_too_large").await;
        assert!(sent >= 1 << 4, "the client hung up after {sent}");
        // Whoever reads the replica has what fitted, and is told that it is old.
        let replica = session.replica();
        assert!(!replica.connected);
        let rows = replica.table("T").count();
        assert!((1..=16).contains(&rows), "{rows}");
    }
    // First contents of that size are refused as well, and smaller ones are welcome again.
    let mut peer = Peer::accept(&listener).await;
    peer.load(&"x".repeat(1 << 20)).await;
    fails(&session, "replica_too_large").await;
    peer.closed().await;
    Peer::accept(&listener).await.load("good").await;
    session.ready(DEADLINE).await.unwrap();
    assert_eq!(session.replica().table("T").count(), 1);
}

#[tokio::test]
async fn echo_requests_are_answered_from_the_first_moment() {
    let (listener, session) = listen(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.send(&json!({ "id": "echo", "method": "echo", "params": ["a", 1] })).await;
    let server_request = peer.request("monitor").await;
    assert_eq!(peer.receive().await, json!({ "id": "echo", "result": ["a", 1], "error": null }));
    peer.send(&json!({ "id": server_request["id"], "result": null, "error": "unknown database" })).await;
    peer.answer("get_schema", schema()).await;
    peer.answer("monitor_cond_since", json!([false, NO_TRANSACTION, {}])).await;
    session.ready(DEADLINE).await.unwrap();
    peer.send(&json!({ "id": 5, "method": "steal", "params": [] })).await;
    assert_eq!(peer.receive().await, json!({ "id": 5, "result": null, "error": "unknown method" }));
    // Our probes, each answered, keep an idle connection.
    for _ in 0..3 {
        let echo = peer.receive().await;
        assert_eq!(echo["method"], "echo");
        peer.send(&json!({ "id": echo["id"], "result": [], "error": null })).await;
    }
    assert!(matches!(session.state(), State::Connected { .. }));
}

#[tokio::test]
async fn an_update_that_contradicts_the_replica_brings_a_fresh_one() {
    let other = "6a6ae8e8-0001-4000-8000-000000000002";
    let contradictions = [
        json!({ "T": { other: { "modify": { "name": "x" } } } }),
        json!({ "T": { other: { "delete": null } } }),
        json!({ "T": { "not-a-uuid": { "insert": {} } } }),
        json!({ "T": { ROW: { "modify": { "name": "half" } }, "not-a-uuid": { "insert": {} } } }),
        json!({ "T": { ROW: { "modify": { "no_such_column": 1 } } } }),
        json!({ "T": { ROW: { "modify": { "name": 1 } } } }),
        json!({ "T": { ROW: { "modify": { "members": ["map", []] } } } }),
        json!({ "T": { ROW: { "replace": {} } } }),
        json!({ "U": { ROW: { "insert": {} } } }),
        json!([]),
    ];
    let (listener, session) = listen(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.load("0").await;
    for (round, updates) in contradictions.into_iter().enumerate() {
        let here = |name: String| {
            move |replica: &ovsdb_rs::Replica| {
                replica.connected && replica.find("T", |row| row.str("name") == Some(&name)).is_some()
            }
        };
        wait_for(&session, "the row", here(round.to_string())).await;
        let params = json!(["replica", NO_TRANSACTION, updates]);
        peer.send(&json!({ "id": null, "method": "update3", "params": params })).await;
        peer.closed().await;
        peer = Peer::accept(&listener).await;
        // Until the fresh one is complete, the old rows stay, marked as what they are.
        let replica = session.replica();
        assert!(!replica.connected);
        assert_eq!(replica.table("T").count(), 1, "{updates}");
        assert!(replica.find("T", |row| row.str("name") == Some(&round.to_string())).is_some(), "{updates}");
        peer.load(&(round + 1).to_string()).await;
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_leaves_the_outcome_unknown() {
    let (listener, session) = listen(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.load("row").await;
    session.ready(DEADLINE).await.unwrap();
    for result in [json!({}), json!([]), json!([null]), json!([{ "uuid": 5 }]), json!([{}, {}])] {
        let insert = Transaction::new().insert("T", None, Row::new().with("name", "x"));
        let (outcome, ()) = tokio::join!(session.transact(insert), peer.answer("transact", result.clone()));
        assert!(matches!(outcome, Err(TransactError::Unknown { .. })), "{result}: {outcome:?}");
    }
    // A cluster that lost the server it had passed the transaction to.
    let ask = session.transact(Transaction::new().comment("x"));
    let refuse = async {
        let request = peer.request("transact").await;
        peer.send(&json!({ "id": request["id"], "result": null, "error": "canceled" })).await;
    };
    assert!(matches!(tokio::join!(ask, refuse).0, Err(TransactError::Unknown { .. })));
}

#[tokio::test]
async fn a_database_that_is_removed_ends_the_connection() {
    let (listener, session) = listen(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.load("row").await;
    session.ready(DEADLINE).await.unwrap();
    peer.send(&json!({ "id": null, "method": "monitor_canceled", "params": ["replica"] })).await;
    peer.closed().await;
    let mut peer = Peer::accept(&listener).await;
    peer.load("row").await;
    wait_for(&session, "the fresh replica", |replica| replica.connected && replica.generation > 2).await;
}
