//! The task of a session: connects, moves bytes between socket and [`Machine`], connects again.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::condition::Clause;
use crate::error::{ConnectionError, ConnectionFailure, Error};
use crate::framer::Framer;
use crate::machine::{Machine, Output, TransactReply};
use crate::monitor::{Missing, TableMonitor};
use crate::remote::Remote;
use crate::replica::Replica;
use crate::session::{State, Target};
use crate::transaction::Transaction;

/// What a handle asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Transact { transaction: Arc<Transaction>, reply: oneshot::Sender<TransactReply> },
    SetCondition { table: String, condition: Vec<Clause>, reply: oneshot::Sender<Result<(), Error>> },
}

/// Bytes read at a time.
const READ_SIZE: usize = 64 << 10;

/// With more than this waiting to be sent nothing more is read, so that a server that asks and does not
/// listen cannot make the outbox grow. In bytes.
const OUTBOX_LIMIT: usize = 1 << 20;

pub(crate) struct Task {
    target: Arc<Target>,
    machine: Machine,
    commands: mpsc::Receiver<Command>,
    replica: watch::Sender<Arc<Replica>>,
    state: watch::Sender<State>,
    /// What was already reported to be missing.
    reported: Arc<Missing>,
}

/// Every handle is gone.
struct Ended;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Task {
    pub(crate) fn new(
        target: Arc<Target>,
        monitors: Vec<TableMonitor>,
        commands: mpsc::Receiver<Command>,
        replica: watch::Sender<Arc<Replica>>,
        state: watch::Sender<State>,
    ) -> Self {
        let monitors = monitors.into_iter().map(|monitor| (monitor.table().to_owned(), monitor)).collect();
        let probe_interval = target.options.probe_interval;
        let machine = Machine::new(target.database.clone(), monitors, probe_interval, Instant::now());
        Self { target, machine, commands, replica, state, reported: Arc::default() }
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
                let cause = match self.meanwhile(connect(remote, &target)).await? {
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
        warn!(
            database = self.target.database,
            remote = %failure.remote,
            error = failure.cause.label(),
            "{}", failure.cause
        );
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
                written = writer.write(self.machine.outbox()), if !self.machine.outbox().is_empty() => {
                    self.written(written)
                }
                command = self.commands.recv() => {
                    self.command(command.ok_or(Ended)?);
                    Ok(())
                }
                read = reader.read(&mut buffer), if listening => self.read(read, &buffer, &mut framer),
                () = sleep_until(timeout.unwrap_or_else(Instant::now).into()), if timeout.is_some() => {
                    self.machine.timeout(Instant::now())
                }
            };
            if self.machine.is_steady() && in_use_since.is_none() {
                *in_use_since = Some(Instant::now());
                info!(database = self.target.database, %remote, "connected");
                self.report_missing();
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

    fn read(
        &mut self,
        read: io::Result<usize>,
        buffer: &[u8],
        framer: &mut Framer,
    ) -> Result<(), ConnectionError> {
        let count = read.map_err(|error| ConnectionError::Io(error.to_string()))?;
        if count == 0 {
            return Err(ConnectionError::ClosedByServer);
        }
        self.machine.heard(Instant::now());
        framer.push(buffer.get(..count).unwrap_or_default());
        while let Some(message) = framer.next_value()? {
            self.machine.receive(&message)?;
        }
        Ok(())
    }

    fn written(&mut self, written: io::Result<usize>) -> Result<(), ConnectionError> {
        let count = written.map_err(|error| ConnectionError::Io(error.to_string()))?;
        self.machine.outbox().drain(..count);
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Transact { transaction, reply } => self.machine.transact(transaction, reply),
            Command::SetCondition { table, condition, reply } => {
                self.machine.set_condition(table, condition, reply);
            }
        }
    }

    /// Passes on what the machine has put out. A caller who no longer waits for an answer does not get it.
    fn pass_on(&mut self) {
        for output in self.machine.take_outputs() {
            match output {
                Output::Replica(replica) => {
                    self.replica.send_replace(Arc::new(replica));
                }
                Output::Transacted(reply, result) => drop(reply.send(result)),
                Output::ConditionSet(reply, result) => drop(reply.send(result)),
            }
        }
    }

    fn report_missing(&mut self) {
        let missing = Arc::clone(self.machine.missing());
        for table in missing.tables.difference(&self.reported.tables) {
            warn!(database = self.target.database, table, "the server's schema has no such table");
        }
        for (table, column) in missing.columns.difference(&self.reported.columns) {
            warn!(database = self.target.database, table, column, "the server's schema has no such column");
        }
        self.reported = missing;
    }
}

async fn connect(remote: &Remote, target: &Target) -> Result<Box<dyn Stream>, ConnectionError> {
    let attempt = async {
        let stream: Box<dyn Stream> = match remote {
            Remote::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Remote::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Requests are small and waited for.
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(stream)
    };
    let limit = target.options.connect_timeout;
    match timeout(limit, attempt).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            let error: io::Error = error;
            Err(ConnectionError::Connect(error.to_string()))
        }
        Err(_) => Err(ConnectionError::ConnectTimeout(limit)),
    }
}
