//! The task of a session: connects, moves bytes between socket and [`Machine`], connects again.

use std::io;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::condition::Clause;
use crate::connect::{Stream, connect, lost};
use crate::error::{ConnectionError, ConnectionFailure, Error};
use crate::framer::Framer;
use crate::machine::{Machine, Output, TransactReply};
use crate::monitor::{Missing, Monitors, TableMonitor};
use crate::remote::Remote;
use crate::replica::Replica;
use crate::session::{State, Target};
use crate::tls::TlsFiles;
use crate::transaction::Transaction;

/// What a handle asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Transact { transaction: Arc<Transaction>, reply: oneshot::Sender<TransactReply> },
    SetCondition { table: String, condition: Vec<Clause>, reply: oneshot::Sender<Result<(), Error>> },
    Lock { name: String, steal: bool, held: watch::Sender<bool>, reply: oneshot::Sender<Result<(), Error>> },
}

/// Bytes read at a time.
const READ_SIZE: usize = 64 << 10;

/// A message from this size on, in bytes, is read on a thread where that blocks nobody else's timers: it takes
/// some ten milliseconds.
const LARGE_MESSAGE: usize = 1 << 20;

/// With more than this waiting to be sent nothing more is read, so that a server that asks and does not
/// listen cannot make the outbox grow. In bytes.
const OUTBOX_LIMIT: usize = 1 << 20;

pub(crate) struct Task {
    target: Arc<Target>,
    machine: Machine,
    tls: Option<TlsFiles>,
    commands: mpsc::Receiver<Command>,
    /// Names of locks whose handles are gone.
    released: mpsc::UnboundedReceiver<String>,
    replica: watch::Sender<Arc<Replica>>,
    state: watch::Sender<State>,
    /// What was already reported to be missing.
    reported: Arc<Missing>,
    /// Whether a large message was read since a replica was passed on.
    large: bool,
}

/// Every handle is gone.
struct Ended;

impl Task {
    pub(crate) fn new(
        target: Arc<Target>,
        monitors: Vec<TableMonitor>,
        commands: mpsc::Receiver<Command>,
        released: mpsc::UnboundedReceiver<String>,
        replica: watch::Sender<Arc<Replica>>,
        state: watch::Sender<State>,
    ) -> Self {
        let monitors = monitors.into_iter().map(|monitor| (monitor.table().to_owned(), monitor)).collect();
        let options = &target.options;
        let mut machine = Machine::new(
            target.database.clone(),
            monitors,
            options.leader_only,
            options.probe_interval,
            Instant::now(),
        );
        machine.set_max_replica(options.max_replica);
        let tls = options.tls.clone().map(TlsFiles::new);
        Self {
            target,
            machine,
            tls,
            commands,
            released,
            replica,
            state,
            reported: Arc::default(),
            large: false,
        }
    }

    pub(crate) async fn run(mut self) {
        // Its only end is that of the handles.
        let Err(Ended) = self.keep_connecting().await;
        self.state.send_replace(State::Ended);
    }

    async fn keep_connecting(&mut self) -> Result<std::convert::Infallible, Ended> {
        let target = Arc::clone(&self.target);
        let (first, most) = target.options.backoff;
        let mut backoff = Backoff::new(first, most, target.remotes.as_slice().len());
        loop {
            for remote in target.remotes.as_slice() {
                let mut in_use_since = None;
                let mut tls = self.tls.take();
                let connected = self.meanwhile(connect(remote, &target.options, &mut tls)).await?;
                self.tls = tls;
                let cause = match connected {
                    Ok(stream) => self.converse(stream, remote, &mut in_use_since).await?,
                    Err(cause) => cause,
                };
                self.failed(ConnectionFailure { remote: remote.clone(), cause });
                let wait = backoff.after_failure(in_use_since, Instant::now());
                debug!(database = target.database, wait_ms = wait.as_millis(), "waiting to connect");
                self.meanwhile(sleep(wait)).await?;
            }
        }
    }

    fn failed(&mut self, failure: ConnectionFailure) {
        let (database, remote, cause) = (&self.target.database, &failure.remote, &failure.cause);
        if *cause == ConnectionError::NotLeader {
            debug!(database, %remote, "{cause}; on to the next");
        } else {
            warn!(database, %remote, error = cause.label(), "{cause}");
        }
        self.machine.disconnected(&failure);
        self.state.send_replace(State::Connecting { last_error: Some(failure) });
        self.pass_on();
    }

    /// Waits for something while there is no connection.
    async fn meanwhile<F: Future>(&mut self, future: F) -> Result<F::Output, Ended> {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                output = &mut future => return Ok(output),
                command = self.commands.recv() => self.command(command.ok_or(Ended)?),
                Some(name) = self.released.recv() => self.machine.unlock(&name),
            }
            self.pass_on();
        }
    }

    /// Talks to a server until that fails; the result is why.
    async fn converse(
        &mut self,
        stream: Box<dyn Stream>,
        remote: &Remote,
        in_use_since: &mut Option<Instant>,
    ) -> Result<ConnectionError, Ended> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut framer = Framer::new(self.target.options.max_message);
        let mut buffer = vec![0; READ_SIZE];
        let mut unflushed = false;
        self.machine.set_probe_interval(self.probe_interval(remote));
        self.machine.connected(Instant::now());
        self.state.send_modify(|state| {
            if let State::Connecting { last_error } = state {
                *state = State::Loading { remote: remote.clone(), last_error: last_error.take() };
            }
        });
        loop {
            let listening = self.machine.outbox().len() < OUTBOX_LIMIT;
            let timeout = self.machine.next_timeout();
            // In this order: what was asked leaves first, and nothing that has arrived counts as silence.
            let outcome = tokio::select! {
                biased;
                written = send(&mut writer, self.machine.outbox()),
                    if unflushed || !self.machine.outbox().is_empty() =>
                {
                    unflushed = written.as_ref().is_ok_and(|count| *count > 0);
                    self.written(written)
                }
                command = self.commands.recv() => {
                    self.command(command.ok_or(Ended)?);
                    Ok(())
                }
                Some(name) = self.released.recv() => {
                    self.machine.unlock(&name);
                    Ok(())
                }
                read = reader.read(&mut buffer), if listening => {
                    self.read(read, &buffer, &mut framer).await
                }
                () = sleep_until(timeout.unwrap_or_else(Instant::now).into()), if timeout.is_some() => {
                    self.machine.timeout(Instant::now())
                }
            };
            if self.machine.is_steady() && in_use_since.is_none() {
                *in_use_since = Some(Instant::now());
                self.report(remote);
            }
            self.pass_on();
            if in_use_since.is_some() && !matches!(*self.state.borrow(), State::Connected { .. }) {
                self.state.send_replace(State::Connected { remote: remote.clone() });
            }
            if let Err(cause) = outcome {
                return Ok(cause);
            }
        }
    }

    async fn read(
        &mut self,
        read: io::Result<usize>,
        buffer: &[u8],
        framer: &mut Framer,
    ) -> Result<(), ConnectionError> {
        let count = read.map_err(lost)?;
        if count == 0 {
            return Err(ConnectionError::ClosedByServer);
        }
        self.machine.heard(Instant::now());
        framer.push(buffer.get(..count).unwrap_or_default());
        while let Some(frame) = framer.next_frame()? {
            if frame.len() < LARGE_MESSAGE {
                self.machine.receive(&frame)?;
            } else {
                self.receive_large(frame).await?;
            }
        }
        Ok(())
    }

    /// On another thread.
    async fn receive_large(&mut self, frame: Vec<u8>) -> Result<(), ConnectionError> {
        let nobody = Machine::new(String::new(), Monitors::new(), false, Duration::ZERO, Instant::now());
        let mut machine = std::mem::replace(&mut self.machine, nobody);
        let received = spawn_blocking(move || {
            let result = machine.receive(&frame);
            (machine, result)
        });
        let (machine, result) = match received.await {
            Ok(received) => received,
            // Cancelled only where the runtime ends, and this task with it.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
        };
        self.machine = machine;
        self.machine.heard(Instant::now());
        self.large = true;
        result
    }

    fn probe_interval(&self, remote: &Remote) -> Duration {
        let options = &self.target.options;
        match remote {
            Remote::Unix(_) if !options.probe_unix => Duration::ZERO,
            _ => options.probe_interval,
        }
    }

    fn written(&mut self, written: io::Result<usize>) -> Result<(), ConnectionError> {
        let count = written.map_err(lost)?;
        self.machine.outbox().drain(..count);
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Transact { transaction, reply } => self.machine.transact(transaction, reply),
            Command::SetCondition { table, condition, reply } => {
                self.machine.set_condition(table, condition, reply);
            }
            Command::Lock { name, steal, held, reply } => {
                let asked = self.machine.lock(name.clone(), steal, held);
                // The handle is gone with a caller who does not wait: then its lock is given back.
                let _ = reply.send(if asked { Ok(()) } else { Err(Error::LockInUse(name)) });
            }
        }
    }

    /// Passes on what the machine has put out. A caller who no longer waits for an answer does not get it.
    fn pass_on(&mut self) {
        for output in self.machine.take_outputs() {
            match output {
                Output::Replica(replica) => {
                    let old = self.replica.send_replace(Arc::new(replica));
                    if std::mem::take(&mut self.large) {
                        // What was replaced is perhaps as large, and takes as long to give back.
                        drop(spawn_blocking(move || drop(old)));
                    }
                }
                Output::Transacted(reply, result) => drop(reply.send(result)),
                Output::ConditionSet(reply, result) => drop(reply.send(result)),
            }
        }
    }

    fn report(&mut self, remote: &Remote) {
        let database = &self.target.database;
        let method = self.machine.method().name();
        info!(database, %remote, method, resumed = self.machine.resumed(), "connected");
        if self.machine.ignores_conditions() {
            warn!(database, %remote, "the server knows no conditions: every row of the tables is replicated");
        }
        let missing = Arc::clone(self.machine.missing());
        for table in missing.tables.difference(&self.reported.tables) {
            warn!(database, table, "the server's schema has no such table");
        }
        for (table, column) in missing.columns.difference(&self.reported.columns) {
            warn!(database, table, column, "the server's schema has no such column");
        }
        for (table, column) in missing.other_type.difference(&self.reported.other_type) {
            warn!(database, table, column, "the column has another type in the server's schema");
        }
        self.reported = missing;
    }
}

/// Sends some of the outbox, or what a TLS stream still holds back of it.
async fn send(writer: &mut WriteHalf<Box<dyn Stream>>, outbox: &[u8]) -> io::Result<usize> {
    if outbox.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(outbox).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}
