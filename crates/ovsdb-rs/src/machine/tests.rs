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
        let mut machine = Machine::new("D".to_owned(), monitors, true, INTERVAL, start);
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

    fn receive(&mut self, message: Value) -> Result<(), ConnectionError> {
        self.machine.receive(message.to_string().as_bytes())
    }

    fn answer(&mut self, request: &Value, result: &Value) {
        self.receive(json!({ "id": request["id"], "result": result, "error": null })).unwrap();
    }

    fn refuse(&mut self, request: &Value) {
        let error = json!({ "error": "syntax error", "details": "no" });
        self.refuse_with(request, error);
    }

    fn refuse_with(&mut self, request: &Value, error: Value) {
        self.receive(json!({ "id": request["id"], "result": null, "error": error })).unwrap();
    }

    /// A server without `_Server`.
    fn answer_server(&mut self) {
        let request = self.sent_one("monitor");
        assert_eq!(request["params"][0], "_Server");
        self.refuse_with(&request, json!({ "error": "unknown database" }));
    }

    fn answer_schema(&mut self) {
        self.answer_server();
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
fn a_server_that_makes_up_the_first_contents_has_more_time() {
    let mut bench = Bench::new();
    bench.answer_schema();
    bench.sent_one("monitor_cond_since");
    let start = bench.start;
    bench.machine.timeout(start + INTERVAL).unwrap();
    bench.sent_one("echo");
    bench.machine.timeout(start + 6 * INTERVAL).unwrap();
    assert_eq!(bench.machine.timeout(start + 7 * INTERVAL).unwrap_err().label(), "silent");
}

#[test]
fn the_last_transaction_is_named_only_by_who_has_all_before_it() {
    let first = "6a6ae8e8-0001-4000-8000-0000000000a1";
    let second = "6a6ae8e8-0001-4000-8000-0000000000a2";
    let modify = json!({ "T": { ROW: { "modify": { "name": "x" } } } });
    let update = |last: &str, updates: &Value| json!({ "id": null, "method": "update3", "params": [MONITOR, last, updates] });
    let mut bench = Bench::new();
    let connect = |bench: &mut Bench, reply: Value| {
        bench.answer_schema();
        let request = bench.sent_one("monitor_cond_since");
        bench.answer(&request, &reply);
        request["params"][3].as_str().unwrap().to_owned()
    };
    let nil = Uuid::nil().to_string();
    let initial = json!([false, first, { "T": { ROW: { "initial": {} } } }]);
    assert_eq!(connect(&mut bench, initial.clone()), nil);
    // As far as the first contents, then as far as an update.
    bench.reconnect();
    assert_eq!(connect(&mut bench, json!([true, first, {}])), first);
    bench.receive(update(second, &modify)).unwrap();
    bench.reconnect();
    assert_eq!(connect(&mut bench, json!([true, second, modify])), second);
    assert!(bench.machine.resumed());
    let row = bench.machine.replica.find("T", |row| row.str("name") == Some("x"));
    assert!(row.is_some(), "a value of a scalar column is new, not a difference");
    // A server that keeps no history, such as one that is not clustered.
    bench.receive(update(&nil, &json!({}))).unwrap();
    bench.reconnect();
    assert_eq!(connect(&mut bench, initial.clone()), nil);
    // An update of which half was applied.
    let broken = json!({ "T": { ROW: { "modify": { "name": "y" } }, "no UUID": {} } });
    assert_eq!(bench.receive(update(second, &broken)).unwrap_err().label(), "protocol");
    bench.reconnect();
    assert_eq!(connect(&mut bench, initial.clone()), nil);
    // A condition whose rows may be there or not.
    bench.set_condition(named("in flight"));
    bench.sent_one("monitor_cond_change");
    bench.reconnect();
    assert_eq!(connect(&mut bench, initial.clone()), nil);
    // Lost while loading with a new condition: the old rows are not those of the new one.
    bench.reconnect();
    bench.set_condition(named("new"));
    bench.answer_schema();
    bench.sent_one("monitor_cond_since");
    bench.reconnect();
    assert_eq!(connect(&mut bench, initial), nil);
    // Changes since a transaction that was not named belong to somebody else's tables.
    bench.receive(update(&nil, &json!({}))).unwrap();
    bench.reconnect();
    bench.answer_schema();
    let request = bench.sent_one("monitor_cond_since");
    let answer = json!({ "id": request["id"], "result": [true, first, {}], "error": null });
    assert_eq!(bench.receive(answer).unwrap_err().label(), "protocol");
}

#[test]
fn without_an_interval_there_are_no_probes() {
    let mut machine = Machine::new("D".to_owned(), Monitors::new(), true, Duration::ZERO, Instant::now());
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
        bench.receive(update).unwrap();
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
    assert_eq!(bench.receive(answer).unwrap_err().label(), "protocol");
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
    bench.answer_server();
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
    let columns = ["name", "model", "connected", "leader", "cid", "index"];
    let params = json!(["_Server", "server", { "Database": [{ "columns": columns }] }]);
    assert_eq!(request, json!({ "id": 0, "method": "monitor", "params": params }));
}
