//! The protocol of a session without I/O and without a clock: messages and commands in, bytes and outputs out.
//!
//! ```text
//!  connected ──> Server ──_Server──> Schema ──get_schema──> Loading ──monitor──> Steady ──┐ updates, transact,
//!      ^                                                                           ^      │ conditions, locks,
//!      └───────────────────────────── disconnected <── any error ──────────────────┴──────┘ echo
//! ```

mod cluster;
mod locks;
mod monitoring;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use self::cluster::Cluster;
use self::locks::Locks;
pub(crate) use self::monitoring::Method;
use crate::condition::Clause;
use crate::error::{ConnectionError, ConnectionFailure, Error, ParseError, TransactError};
use crate::monitor::{Missing, Monitors};
use crate::replica::{DEFAULT_MAX_REPLICA, Replica, Tables};
use crate::schema::Schema;
use crate::transaction::{OpResult, Transaction, refusal};
use crate::wire::{self, Message};

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
    /// The monitor of `_Server`.
    Server,
    Schema,
    Monitor {
        tables: Tables,
    },
    /// An error is an answer too: `echo`, `unlock`.
    Ignored,
    Lock {
        name: String,
    },
    Transact {
        transaction: Arc<Transaction>,
        reply: oneshot::Sender<TransactReply>,
    },
    Condition {
        table: String,
        condition: Vec<Clause>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Disconnected,
    Server,
    Schema,
    Loading,
    Steady,
}

/// The name of our monitor of the database, of which there is one on a connection.
const MONITOR: &str = "replica";

/// The name of that of `_Server`.
const SERVER_MONITOR: &str = "server";

/// How many times as long a server has to answer a probe while it makes up the first contents: of a large
/// database that takes it long, it does nothing else meanwhile, and who gives up makes it do it again.
const LOADING_PATIENCE: u32 = 6;

#[derive(Debug)]
pub(crate) struct Machine {
    database: String,
    /// Zero: no probes.
    probe_interval: Duration,
    phase: Phase,
    next_id: u64,
    requests: BTreeMap<u64, Request>,
    /// What the rows of the replica may take, in bytes.
    max_replica: usize,
    last_heard: Instant,
    probe_sent: Option<Instant>,
    /// With the conditions that are wanted.
    monitors: Monitors,
    /// With the conditions that the server has accepted, to go back to when it refuses one.
    accepted: Monitors,
    replica: Replica,
    /// The tables as they were last put out.
    put_out: Tables,
    /// The transaction that the tables show, for a server to go on from; nil when there is none to name.
    last_transaction: Uuid,
    method: Method,
    /// Whether the latest first contents were only what had changed.
    resumed: bool,
    cluster: Cluster,
    locks: Locks,
    /// Whether the replica changed since it was last put out.
    dirty: bool,
    outputs: Vec<Output>,
    outbox: Vec<u8>,
}

impl Machine {
    pub(crate) fn new(
        database: String,
        monitors: Monitors,
        leader_only: bool,
        probe_interval: Duration,
        now: Instant,
    ) -> Self {
        Self {
            cluster: Cluster::new(database.clone(), leader_only),
            database,
            probe_interval,
            phase: Phase::Disconnected,
            next_id: 0,
            requests: BTreeMap::new(),
            max_replica: DEFAULT_MAX_REPLICA,
            last_heard: now,
            probe_sent: None,
            accepted: monitors.clone(),
            monitors,
            replica: Replica::default(),
            put_out: Tables::new(),
            last_transaction: Uuid::nil(),
            method: Method::Since,
            resumed: false,
            locks: Locks::new(),
            dirty: false,
            outputs: Vec::new(),
            outbox: Vec::new(),
        }
    }

    pub(crate) fn set_max_replica(&mut self, bytes: usize) {
        self.max_replica = bytes;
    }

    pub(crate) fn is_steady(&self) -> bool {
        self.phase == Phase::Steady
    }

    /// What the schema of the server lacks, as of the latest monitor.
    pub(crate) fn missing(&self) -> &Arc<Missing> {
        &self.replica.missing
    }

    /// How the server was asked to monitor.
    pub(crate) fn method(&self) -> Method {
        self.method
    }

    /// Whether the latest connection went on where the one before had ended.
    pub(crate) fn resumed(&self) -> bool {
        self.resumed
    }

    /// How often to probe on the connection that is to be made; zero: not at all.
    pub(crate) fn set_probe_interval(&mut self, interval: Duration) {
        self.probe_interval = interval;
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
        self.phase = Phase::Server;
        self.cluster.connected();
        self.send("monitor", Cluster::monitor_params(SERVER_MONITOR), Request::Server);
        self.request_locks();
    }

    fn get_schema(&mut self) {
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
                Request::Condition { reply, .. } => {
                    // Part of the next monitor; whether the tables show it already is not known.
                    self.last_transaction = Uuid::nil();
                    self.outputs.push(Output::ConditionSet(reply, Ok(())));
                }
                _ => {}
            }
        }
        self.lose_locks();
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
        Some(match self.probe_sent {
            None => self.last_heard + self.probe_interval,
            Some(sent) if self.phase == Phase::Loading => sent + LOADING_PATIENCE * self.probe_interval,
            Some(sent) => sent + self.probe_interval,
        })
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
        self.send("echo", json!([]), Request::Ignored);
        Ok(())
    }

    /// Takes one message. After an error the connection must be closed and [`Self::disconnected`] called.
    pub(crate) fn receive(&mut self, frame: &[u8]) -> Result<(), ConnectionError> {
        let message = Message::read(frame)?;
        if let Some(method) = message.method.as_deref() {
            return if message.id.is_null() {
                self.notified(method, message.params)
            } else {
                self.asked(method, &message)
            };
        }
        let id = message.id.as_u64().and_then(|id| Some((id, self.requests.remove(&id)?)));
        let (id, request) =
            id.ok_or_else(|| ParseError::new("the id of a request under way", &message.id))?;
        let result = match message.error {
            None => Ok(message.result),
            Some(error) => Err(wire::read::<Value>(Some(error))?),
        };
        self.answered(id, request, result)
    }

    fn notified(&mut self, method: &str, params: Option<&RawValue>) -> Result<(), ConnectionError> {
        match method {
            "update" => {
                let (monitor, updates) = wire::read::<(Value, &RawValue)>(params)?;
                if monitor == SERVER_MONITOR {
                    return self.cluster.update(updates);
                }
                self.update(params)
            }
            "update2" | "update3" => self.update(params),
            "monitor_canceled" => {
                Err(ConnectionError::Protocol("the server no longer serves the database".to_owned()))
            }
            "locked" | "stolen" => {
                let (name,) = wire::read::<(String,)>(params)?;
                self.lock_notified(name, method == "locked");
                Ok(())
            }
            // Others are of no use to this client.
            _ => Ok(()),
        }
    }

    fn asked(&mut self, method: &str, message: &Message<'_>) -> Result<(), ConnectionError> {
        let id = &message.id;
        if method == "echo" {
            let params = wire::read::<Value>(message.params)?;
            self.write(&json!({ "id": id, "result": params, "error": null }));
        } else {
            self.write(&json!({ "id": id, "result": null, "error": "unknown method" }));
        }
        Ok(())
    }

    fn answered(
        &mut self,
        id: u64,
        request: Request,
        result: Result<Option<&RawValue>, Value>,
    ) -> Result<(), ConnectionError> {
        match request {
            Request::Server => {
                // A server without `_Server` is a single one, before OVS 2.9.
                if let Ok(updates) = result {
                    self.cluster.update(wire::read(updates)?)?;
                }
                self.get_schema();
            }
            Request::Schema => {
                let refused =
                    |error: Value| ConnectionError::Refused { method: "get_schema", error: describe(&error) };
                let schema = wire::read::<Value>(result.map_err(refused)?)?;
                self.monitor(Schema::from_json(&schema)?, Method::Since);
            }
            Request::Monitor { tables } => self.monitor_answered(tables, result)?,
            Request::Ignored => {}
            Request::Lock { name } => {
                let locked = result.ok().map(wire::read::<Value>).transpose()?;
                self.lock_answered(id, &name, locked.is_some_and(|locked| locked["locked"] == true));
            }
            Request::Transact { transaction, reply } => {
                let result = match result {
                    Ok(result) => transaction.results(&wire::read(result)?, &self.replica.schema),
                    Err(error) => Err(refusal(None, &error, &Value::Null)),
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

    fn put_out_replica(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.replica.generation += 1;
            self.put_out = self.replica.tables.clone();
            self.outputs.push(Output::Replica(self.replica.clone()));
        }
    }

    /// Returns the id of the request.
    fn send(&mut self, method: &str, params: Value, request: Request) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.requests.insert(id, request);
        self.write(&json!({ "id": id, "method": method, "params": params }));
        id
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
