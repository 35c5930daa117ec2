//! Races and clocks, written down one message at a time.

use serde_json::Deserializer;

use super::*;
use crate::condition::Function;
use crate::framer::Framer;
use crate::monitor::TableMonitor;
use crate::remote::Remote;
use crate::row::Row;

const INTERVAL: Duration = Duration::from_secs(5);
const ROW: &str = "6a6ae8e8-0001-4000-8000-000000000001";

fn named(name: &str) -> Vec<Clause> {
    vec![Clause::new("name", Function::Equal, name)]
}

struct Bench {
    machine: Machine,
    start: Instant,
    /// Of callers who wait for an answer.
    waiting: Vec<oneshot::Receiver<TransactReply>>,
}

impl Bench {
    /// Connected, with one table monitored under a condition.
    fn new() -> Self {
        let start = Instant::now();
        let monitor = TableMonitor::new("T").condition(named("first"));
        let monitors = Monitors::from([("T".to_owned(), monitor)]);
        let mut machine = Machine::new("D".to_owned(), monitors, INTERVAL, start);
        machine.connected(start);
        Self { machine, start, waiting: Vec::new() }
    }

    /// What is to be sent.
    fn sent(&mut self) -> Vec<Value> {
        let outbox = std::mem::take(self.machine.outbox());
        Deserializer::from_slice(&outbox).into_iter().collect::<Result<_, _>>().unwrap()
    }

    /// The only message that is to be sent.
    fn sent_one(&mut self, method: &str) -> Value {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0]["method"], method);
        sent.remove(0)
    }

    fn answer(&mut self, request: &Value, result: &Value) {
        let answer = json!({ "id": request["id"], "result": result, "error": null });
        self.machine.receive(&answer).unwrap();
    }

    fn refuse(&mut self, request: &Value) {
        let error = json!({ "error": "syntax error", "details": "no" });
        self.machine.receive(&json!({ "id": request["id"], "result": null, "error": error })).unwrap();
    }

    fn answer_schema(&mut self) {
        let request = self.sent_one("get_schema");
        let columns = json!({ "name": { "type": "string" } });
        self.answer(&request, &json!({ "name": "D", "tables": { "T": { "columns": columns } } }));
    }

    /// Up to the first contents; returns the condition that was asked for.
    fn load(&mut self) -> Value {
        self.answer_schema();
        let request = self.sent_one("monitor_cond_since");
        self.answer(&request, &json!([false, Uuid::nil(), { "T": { ROW: { "initial": {} } } }]));
        request["params"][2]["T"][0]["where"].clone()
    }

    fn reconnect(&mut self) {
        let remote: Remote = "unix:/db".parse().unwrap();
        self.machine.disconnected(&ConnectionFailure { remote, cause: ConnectionError::ClosedByServer });
        self.machine.connected(self.start);
    }

    fn set_condition(&mut self, condition: Vec<Clause>) {
        self.machine.set_condition("T".to_owned(), condition, oneshot::channel().0);
    }

    fn transact(&mut self) {
        let insert = Transaction::new().insert("T", None, Row::new().with("name", "x"));
        let (reply, answer) = oneshot::channel();
        self.waiting.push(answer);
        self.machine.transact(Arc::new(insert), reply);
    }
}

/// The outputs in short.
fn labels(outputs: &[Output]) -> Vec<&'static str> {
    let label = |output: &Output| match output {
        Output::Replica(replica) if replica.connected => "replica",
        Output::Replica(_) => "replica of a lost connection",
        Output::Transacted(_, Ok(_)) => "done",
        Output::Transacted(_, Err(error)) => error.label(),
        Output::ConditionSet(_, Ok(())) => "condition set",
        Output::ConditionSet(_, Err(error)) => error.label(),
    };
    outputs.iter().map(label).collect()
}

#[test]
fn a_silent_server_is_probed_once_and_then_given_up() {
    let mut bench = Bench::new();
    bench.load();
    let (start, second) = (bench.start, Duration::from_secs(1));
    bench.machine.timeout(start + INTERVAL - second).unwrap();
    assert!(bench.sent().is_empty());
    bench.machine.timeout(start + INTERVAL).unwrap();
    let echo = bench.sent_one("echo");
    bench.machine.timeout(start + INTERVAL + second).unwrap();
    assert!(bench.sent().is_empty());
    // Any byte counts, and the answer is understood when it comes.
    bench.machine.heard(start + INTERVAL + second);
    bench.answer(&echo, &json!([]));
    assert_eq!(bench.machine.next_timeout(), Some(start + 2 * INTERVAL + second));
    bench.machine.timeout(start + 3 * INTERVAL).unwrap();
    bench.sent_one("echo");
    let error = bench.machine.timeout(start + 4 * INTERVAL).unwrap_err();
    assert_eq!(error.label(), "silent");
}

#[test]
fn without_an_interval_there_are_no_probes() {
    let mut machine = Machine::new("D".to_owned(), Monitors::new(), Duration::ZERO, Instant::now());
    machine.connected(Instant::now());
    assert_eq!(machine.next_timeout(), None);
    machine.timeout(Instant::now() + 1000 * INTERVAL).unwrap();
}

#[test]
fn an_answer_comes_after_the_replica_that_shows_it() {
    let mut bench = Bench::new();
    bench.load();
    assert_eq!(labels(&bench.machine.take_outputs()), ["replica"]);
    bench.transact();
    let request = bench.sent_one("transact");
    let updates = json!({ "T": { ROW: { "modify": { "name": "x" } } } });
    for _ in 0..2 {
        let update = json!({ "id": null, "method": "update3", "params": [MONITOR, Uuid::nil(), updates] });
        bench.machine.receive(&update).unwrap();
    }
    bench.answer(&request, &json!([{ "uuid": ["uuid", ROW] }]));
    // Two updates at once are one snapshot.
    assert_eq!(labels(&bench.machine.take_outputs()), ["replica", "done"]);
    assert!(bench.machine.take_outputs().is_empty());
}

#[test]
fn a_transaction_is_sent_only_with_a_replica_and_never_twice() {
    let mut bench = Bench::new();
    bench.transact();
    bench.load();
    bench.transact();
    bench.machine.take_outputs();
    let request = bench.sent_one("transact");
    bench.reconnect();
    assert_eq!(labels(&bench.machine.take_outputs()), ["unknown", "replica of a lost connection"]);
    bench.load();
    assert!(bench.sent().is_empty());
    // An answer out of the past ends the connection.
    let answer = json!({ "id": request["id"], "result": [{}], "error": null });
    assert_eq!(bench.machine.receive(&answer).unwrap_err().label(), "protocol");
}

#[test]
fn a_caller_who_left_before_it_was_sent_is_not_served() {
    let mut bench = Bench::new();
    bench.load();
    let (reply, answer) = oneshot::channel();
    drop(answer);
    bench.machine.transact(Arc::new(Transaction::new().comment("x")), reply);
    assert!(bench.sent().is_empty());
}

#[test]
fn a_condition_set_at_any_moment_holds_on_the_next_connection() {
    let mut bench = Bench::new();
    bench.set_condition(named("before the schema"));
    assert_eq!(labels(&bench.machine.take_outputs()), ["condition set"]);
    bench.answer_schema();
    let monitor = bench.sent_one("monitor_cond_since");
    assert_eq!(monitor["params"][2]["T"][0]["where"], json!([["name", "==", "before the schema"]]));
    bench.set_condition(named("while loading"));
    let change = bench.sent_one("monitor_cond_change");
    assert_eq!(change["params"][2]["T"][0]["where"], json!([["name", "==", "while loading"]]));
    bench.reconnect();
    assert_eq!(labels(&bench.machine.take_outputs()), ["condition set"]);
    assert_eq!(bench.load(), json!([["name", "==", "while loading"]]));
}

#[test]
fn conditions_that_are_refused_lead_back_to_the_last_accepted_one() {
    let mut bench = Bench::new();
    bench.load();
    bench.set_condition(named("accepted"));
    let accepted = bench.sent_one("monitor_cond_change");
    bench.answer(&accepted, &json!({}));
    bench.set_condition(named("one"));
    let one = bench.sent_one("monitor_cond_change");
    bench.set_condition(named("two"));
    let two = bench.sent_one("monitor_cond_change");
    bench.refuse(&one);
    bench.refuse(&two);
    let labels = labels(&bench.machine.take_outputs());
    assert_eq!(labels, ["replica", "condition set", "condition_refused", "condition_refused"]);
    bench.reconnect();
    assert_eq!(bench.load(), json!([["name", "==", "accepted"]]));
}

#[test]
fn a_table_that_the_next_server_lacks_is_gone_once_that_is_known() {
    let mut bench = Bench::new();
    bench.load();
    bench.reconnect();
    let request = bench.sent_one("get_schema");
    bench.answer(&request, &json!({ "name": "D", "tables": {} }));
    assert!(bench.machine.replica.has_table("T"), "the old replica stays until there is a new one");
    let request = bench.sent_one("monitor_cond_since");
    bench.answer(&request, &json!([false, Uuid::nil(), {}]));
    assert!(!bench.machine.replica.has_table("T"));
    assert!(bench.machine.missing().tables.contains("T"));
    bench.set_condition(Vec::new());
    assert!(bench.sent().is_empty());
}

#[test]
fn no_clause_is_every_row_and_no_possible_clause_is_none() {
    for (condition, expected) in [
        (vec![], json!([true])),
        (vec![Clause::never()], json!([false])),
        (vec![Clause::new("missing", Function::Equal, "x")], json!([false])),
    ] {
        let mut bench = Bench::new();
        bench.set_condition(condition);
        assert_eq!(bench.load(), expected);
    }
}

#[test]
fn what_is_sent_is_framed_as_what_is_received() {
    let mut bench = Bench::new();
    let mut framer = Framer::default();
    framer.push(bench.machine.outbox());
    let request = framer.next_value().unwrap().unwrap();
    assert_eq!(request, json!({ "id": 0, "method": "get_schema", "params": ["D"] }));
}
