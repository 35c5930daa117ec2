//! The protocol of a session without I/O and without a clock: messages and commands in, bytes and outputs out.
//!
//! ```text
//!  connected ──> Schema ──get_schema──> Loading ──monitor_cond_since──> Steady ──┐ update3, transact,
//!      ^                                                                  ^      │ monitor_cond_change,
//!      └──────────────────────── disconnected <── any error ──────────────┴──────┘ echo
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::condition::Clause;
use crate::error::{ConnectionError, ConnectionFailure, Error, ParseError, TransactError};
use crate::monitor::{Missing, Monitors, condition_json, monitor_requests};
use crate::replica::{Replica, Tables, apply, empty_tables};
use crate::schema::Schema;
use crate::transaction::{OpResult, Transaction, refusal};

pub(crate) type TransactReply = Result<Vec<OpResult>, TransactError>;

/// What the shell must pass on, in this order: a caller who has the reply to a transaction also finds its
/// effect in the replica.
#[derive(Debug)]
pub(crate) enum Output {
    Replica(Replica),
    Transacted(oneshot::Sender<TransactReply>, TransactReply),
    ConditionSet(oneshot::Sender<Result<(), Error>>, Result<(), Error>),
}

#[derive(Debug)]
enum Request {
    Schema,
    Monitor { tables: Tables },
    Echo,
    Transact { transaction: Arc<Transaction>, reply: oneshot::Sender<TransactReply> },
    Condition { table: String, condition: Vec<Clause>, reply: oneshot::Sender<Result<(), Error>> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Disconnected,
    Schema,
    Loading,
    Steady,
}

/// The name of our monitor, of which there is one on a connection.
const MONITOR: &str = "replica";

#[derive(Debug)]
pub(crate) struct Machine {
    database: String,
    /// Zero: no probes.
    probe_interval: Duration,
    phase: Phase,
    next_id: u64,
    requests: BTreeMap<u64, Request>,
    last_heard: Instant,
    probe_sent: Option<Instant>,
    /// With the conditions that are wanted.
    monitors: Monitors,
    /// With the conditions that the server has accepted, to go back to when it refuses one.
    accepted: Monitors,
    replica: Replica,
    /// Whether the replica changed since it was last put out.
    dirty: bool,
    outputs: Vec<Output>,
    outbox: Vec<u8>,
}

impl Machine {
    pub(crate) fn new(database: String, monitors: Monitors, probe_interval: Duration, now: Instant) -> Self {
        Self {
            database,
            probe_interval,
            phase: Phase::Disconnected,
            next_id: 0,
            requests: BTreeMap::new(),
            last_heard: now,
            probe_sent: None,
            accepted: monitors.clone(),
            monitors,
            replica: Replica::default(),
            dirty: false,
            outputs: Vec::new(),
            outbox: Vec::new(),
        }
    }

    pub(crate) fn is_steady(&self) -> bool {
        self.phase == Phase::Steady
    }

    /// What the schema of the server lacks, as of the latest monitor.
    pub(crate) fn missing(&self) -> &Arc<Missing> {
        &self.replica.missing
    }

    /// Bytes to send; whoever sends some takes them away.
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// The outputs since the last call, with the latest replica if it changed.
    pub(crate) fn take_outputs(&mut self) -> Vec<Output> {
        self.put_out_replica();
        std::mem::take(&mut self.outputs)
    }

    pub(crate) fn connected(&mut self, now: Instant) {
        self.heard(now);
        self.outbox.clear();
        self.phase = Phase::Schema;
        let params = json!([self.database]);
        self.send("get_schema", params, Request::Schema);
    }

    /// Ends whatever was under way. The tables stay as they are until the next connection has replaced them.
    pub(crate) fn disconnected(&mut self, failure: &ConnectionFailure) {
        self.phase = Phase::Disconnected;
        self.outbox = Vec::new();
        for request in std::mem::take(&mut self.requests).into_values() {
            match request {
                Request::Transact { reply, .. } => {
                    let unknown = TransactError::Unknown { reason: failure.to_string() };
                    self.outputs.push(Output::Transacted(reply, Err(unknown)));
                }
                // Part of the next monitor.
                Request::Condition { reply, .. } => self.outputs.push(Output::ConditionSet(reply, Ok(()))),
                Request::Schema | Request::Monitor { .. } | Request::Echo => {}
            }
        }
        if self.replica.connected {
            self.replica.connected = false;
            self.dirty = true;
        }
    }

    /// Sends a transaction. When there is no connection it comes back as not connected, without a cause.
    pub(crate) fn transact(&mut self, transaction: Arc<Transaction>, reply: oneshot::Sender<TransactReply>) {
        if reply.is_closed() {
            return;
        }
        if !self.is_steady() {
            let error = TransactError::NotConnected { cause: None };
            return self.outputs.push(Output::Transacted(reply, Err(error)));
        }
        let params = transaction.params(&self.database);
        self.send("transact", params, Request::Transact { transaction, reply });
    }

    /// Changes the condition of a table, now and on later connections.
    pub(crate) fn set_condition(
        &mut self,
        table: String,
        condition: Vec<Clause>,
        reply: oneshot::Sender<Result<(), Error>>,
    ) {
        let Some(monitor) = self.monitors.get_mut(&table) else {
            return self.outputs.push(Output::ConditionSet(reply, Err(Error::NotMonitored(table))));
        };
        monitor.set_condition(condition.clone());
        // Before the monitor is sent the condition becomes part of it; a table that the schema lacks has no rows
        // whatever the condition.
        let sent = matches!(self.phase, Phase::Loading | Phase::Steady);
        if !sent || !self.replica.schema.tables.contains_key(&table) {
            return self.outputs.push(Output::ConditionSet(reply, Ok(())));
        }
        let change = json!({ &table: [{ "where": condition_json(monitor, &self.replica.schema) }] });
        let request = Request::Condition { table, condition, reply };
        self.send("monitor_cond_change", json!([MONITOR, MONITOR, change]), request);
    }

    /// Bytes came in, whole messages or not.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.probe_sent = None;
    }

    /// When [`Self::timeout`] wants to be called next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.probe_interval.is_zero() {
            return None;
        }
        Some(self.probe_sent.unwrap_or(self.last_heard) + self.probe_interval)
    }

    /// Probes a silent server, and gives up on one that a probe did not wake.
    pub(crate) fn timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.next_timeout().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if self.probe_sent.is_some() {
            return Err(ConnectionError::Silent(now.duration_since(self.last_heard)));
        }
        self.probe_sent = Some(now);
        self.send("echo", json!([]), Request::Echo);
        Ok(())
    }

    /// Takes one message. After an error the connection must be closed and [`Self::disconnected`] called.
    pub(crate) fn receive(&mut self, message: &Value) -> Result<(), ConnectionError> {
        let id = &message["id"];
        if let Some(method) = message["method"].as_str() {
            return match (method, id) {
                ("update3", Value::Null) => self.update(&message["params"]),
                ("monitor_canceled", Value::Null) => {
                    Err(ConnectionError::Protocol("the server no longer serves the database".to_owned()))
                }
                // Notifications that this client does not use.
                (_, Value::Null) => Ok(()),
                ("echo", id) => self.reply(&json!({ "id": id, "result": message["params"], "error": null })),
                (_, id) => self.reply(&json!({ "id": id, "result": null, "error": "unknown method" })),
            };
        }
        let request = id.as_u64().and_then(|id| self.requests.remove(&id));
        let request = request.ok_or_else(|| ParseError::new("the id of a request under way", id))?;
        let result = match &message["error"] {
            Value::Null => Ok(&message["result"]),
            error => Err(error),
        };
        self.answered(request, result)
    }

    fn answered(&mut self, request: Request, result: Result<&Value, &Value>) -> Result<(), ConnectionError> {
        let refused =
            |method| move |error: &Value| ConnectionError::Refused { method, error: describe(error) };
        match request {
            Request::Schema => {
                let schema = Schema::from_json(result.map_err(refused("get_schema"))?)?;
                self.monitor(schema);
            }
            Request::Monitor { tables } => {
                self.loaded(tables, result.map_err(refused("monitor_cond_since"))?)?;
            }
            // An error is an answer too.
            Request::Echo => {}
            Request::Transact { transaction, reply } => {
                let result = match result {
                    Ok(result) => transaction.results(result, &self.replica.schema),
                    Err(error) => Err(refusal(None, error, &Value::Null)),
                };
                self.put_out_replica();
                self.outputs.push(Output::Transacted(reply, result));
            }
            Request::Condition { table, condition, reply } => {
                let result = self.condition_answered(table, condition, result);
                self.put_out_replica();
                self.outputs.push(Output::ConditionSet(reply, result));
            }
        }
        Ok(())
    }

    fn monitor(&mut self, schema: Schema) {
        let (requests, missing) = monitor_requests(&self.monitors, &schema);
        let tables = empty_tables(&requests, &schema);
        self.accepted = self.monitors.clone();
        self.replica.schema = Arc::new(schema);
        self.replica.missing = Arc::new(missing);
        self.phase = Phase::Loading;
        // No transaction is known to us: everything is sent.
        let params = json!([self.database, MONITOR, requests, Uuid::nil().to_string()]);
        self.send("monitor_cond_since", params, Request::Monitor { tables });
    }

    /// The first contents replace the old tables at once (ovsdb-server(7) section 4.1.15).
    fn loaded(&mut self, mut tables: Tables, result: &Value) -> Result<(), ConnectionError> {
        let updates =
            result.get(2).ok_or_else(|| ParseError::new("[found, transaction, updates]", result))?;
        apply(&mut tables, updates)?;
        self.replica.tables = tables;
        self.replica.connected = true;
        self.dirty = true;
        self.phase = Phase::Steady;
        Ok(())
    }

    fn update(&mut self, params: &Value) -> Result<(), ConnectionError> {
        let updates = match params.as_array().map(Vec::as_slice) {
            Some([monitor, _transaction, updates]) if monitor == MONITOR => updates,
            _ => return Err(ParseError::new("[monitor, transaction, updates]", params).into()),
        };
        if !self.is_steady() {
            return Err(ConnectionError::Protocol("an update before the first contents".to_owned()));
        }
        self.dirty = true;
        Ok(apply(&mut self.replica.tables, updates)?)
    }

    fn condition_answered(
        &mut self,
        table: String,
        condition: Vec<Clause>,
        result: Result<&Value, &Value>,
    ) -> Result<(), Error> {
        let accepted = self.accepted.get_mut(&table).zip(self.monitors.get_mut(&table));
        let Some((accepted, wanted)) = accepted else { return Err(Error::NotMonitored(table)) };
        match result {
            Ok(_) => {
                accepted.set_condition(condition);
                Ok(())
            }
            Err(error) => {
                // Unless another is wanted by now.
                if wanted.wanted() == condition {
                    wanted.set_condition(accepted.wanted().to_vec());
                }
                Err(Error::ConditionRefused { table, error: describe(error) })
            }
        }
    }

    fn put_out_replica(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.replica.generation += 1;
            self.outputs.push(Output::Replica(self.replica.clone()));
        }
    }

    fn send(&mut self, method: &str, params: Value, request: Request) {
        let id = self.next_id;
        self.next_id += 1;
        self.requests.insert(id, request);
        self.write(&json!({ "id": id, "method": method, "params": params }));
    }

    fn reply(&mut self, message: &Value) -> Result<(), ConnectionError> {
        self.write(message);
        Ok(())
    }

    fn write(&mut self, message: &Value) {
        self.outbox.extend_from_slice(message.to_string().as_bytes());
    }
}

/// The `<error>` of a refused request: a string, or an object with `error` and perhaps `details`.
fn describe(error: &Value) -> String {
    match (error.as_str(), error["error"].as_str(), error["details"].as_str()) {
        (Some(text), _, _) | (None, Some(text), None) => text.to_owned(),
        (None, Some(text), Some(details)) => format!("{text}: {details}"),
        (None, None, _) => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
