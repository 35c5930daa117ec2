//! The handle to a session.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::condition::Clause;
use crate::error::{ConnectionFailure, Error, TransactError};
use crate::framer::DEFAULT_MAX_MESSAGE;
use crate::lock::Lock;
use crate::monitor::{Missing, TableMonitor};
use crate::remote::{Remote, Remotes};
use crate::replica::{DEFAULT_MAX_REPLICA, Replica};
use crate::task::{Command, Task};
use crate::tls::Tls;
use crate::transaction::{OpResult, Transaction};

/// A replica of one database that follows the server for as long as a handle exists, and the way to change
/// the database. Handles are cheap to clone; when the last is dropped the connection closes.
#[derive(Debug, Clone)]
pub struct Session {
    target: Arc<Target>,
    commands: mpsc::Sender<Command>,
    released: mpsc::UnboundedSender<String>,
    replica: watch::Receiver<Arc<Replica>>,
    state: watch::Receiver<State>,
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) remotes: Remotes,
    pub(crate) database: String,
    pub(crate) options: Options,
}

/// How a session treats its connection. The defaults are those of OVS where it has them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How long a server may be silent before it is sent an echo request, and how long it then has to answer;
    /// zero to wait for ever.
    pub probe_interval: Duration,
    /// How long an attempt to connect may take.
    pub connect_timeout: Duration,
    /// The first and the longest wait between rounds of attempts.
    pub backoff: (Duration, Duration),
    /// How long [`Session::transact`] waits for a connection.
    pub transact_timeout: Duration,
    /// The largest message to accept, in bytes.
    pub max_message: usize,
    /// What the rows of the replica may take, in bytes of memory. With more the connection is given up, and made
    /// again after a wait; the replica stays what it was. For the moment in which a new replica replaces an old
    /// one there are both.
    pub max_replica: usize,
    /// Of a clustered database, whether to use none but the leader, which alone shows every change at once
    /// and grants locks that hold for all. Of no meaning for a database that is not clustered. As with OVS's
    /// own programs, the remotes should name every server of the cluster then.
    ///
    /// Without it a session still leaves a server that has lost its cluster or is behind what it has seen.
    pub leader_only: bool,
    /// For `ssl:` remotes.
    pub tls: Option<Tls>,
    /// Whether a server behind a unix socket is probed too. OVS does not: the kernel tells when such a server
    /// ends. It does not tell when one hangs.
    pub probe_unix: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            backoff: (Duration::from_secs(1), Duration::from_secs(8)),
            transact_timeout: Duration::from_secs(5),
            max_message: DEFAULT_MAX_MESSAGE,
            max_replica: DEFAULT_MAX_REPLICA,
            leader_only: true,
            tls: None,
            probe_unix: true,
        }
    }
}

/// How a session stands, for a person or a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// No connection; another attempt is under way or will be.
    Connecting {
        /// Why the latest attempt failed or the latest connection ended.
        last_error: Option<ConnectionFailure>,
    },
    /// Connected; the first contents are on their way.
    Loading {
        /// To whom.
        remote: Remote,
        /// Why the attempt or connection before failed.
        last_error: Option<ConnectionFailure>,
    },
    /// The replica follows the server.
    Connected {
        /// To whom.
        remote: Remote,
    },
    /// Every handle was dropped.
    Ended,
}

impl State {
    /// A stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connecting { .. } => "connecting",
            Self::Loading { .. } => "loading",
            Self::Connected { .. } => "connected",
            Self::Ended => "ended",
        }
    }
}

impl Session {
    /// Opens a session with the default [`Options`]. It connects in the background: see [`Self::ready`].
    ///
    /// # Panics
    ///
    /// When called outside a tokio runtime.
    pub fn open(remotes: Remotes, database: &str, monitors: Vec<TableMonitor>) -> Self {
        Self::open_with(remotes, database, monitors, Options::default())
    }

    /// Opens a session.
    ///
    /// # Panics
    ///
    /// When called outside a tokio runtime.
    pub fn open_with(
        remotes: Remotes,
        database: &str,
        monitors: Vec<TableMonitor>,
        options: Options,
    ) -> Self {
        let target = Arc::new(Target { remotes, database: database.to_owned(), options });
        let (commands, commands_rx) = mpsc::channel(Self::COMMANDS);
        let (replica_tx, replica) = watch::channel(Arc::new(Replica::default()));
        let (state_tx, state) = watch::channel(State::Connecting { last_error: None });
        let (released, released_rx) = mpsc::unbounded_channel();
        let task = Task::new(Arc::clone(&target), monitors, commands_rx, released_rx, replica_tx, state_tx);
        tokio::spawn(task.run());
        Self { target, commands, released, replica, state }
    }

    /// Commands under way between handles and task; more callers wait their turn.
    const COMMANDS: usize = 64;

    /// The latest snapshot.
    pub fn replica(&self) -> Arc<Replica> {
        Arc::clone(&self.replica.borrow())
    }

    /// Follows the snapshots. A receiver outlives the session: `changed` then fails.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Replica>> {
        self.replica.clone()
    }

    /// How the session stands now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Follows the state.
    pub fn subscribe_state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What is monitored in vain, because the server's schema lacks it; as of the latest snapshot.
    pub fn missing_columns(&self) -> Missing {
        self.replica.borrow().missing().clone()
    }

    /// Waits for the first complete replica, at most that long.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let mut replica = self.replica.clone();
        match timeout(within, replica.wait_for(|replica| replica.generation > 0)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Ended),
            Err(_) => Err(self.not_ready(within)),
        }
    }

    fn not_ready(&self, waited: Duration) -> Error {
        let database = self.target.database.clone();
        match self.last_error() {
            Some(failure) => Error::NotReady { database, waited, failure },
            None => Error::StillWaiting { database, waited, remotes: self.target.remotes.clone() },
        }
    }

    fn last_error(&self) -> Option<ConnectionFailure> {
        match &*self.state.borrow() {
            State::Connecting { last_error } | State::Loading { last_error, .. } => last_error.clone(),
            State::Connected { .. } | State::Ended => None,
        }
    }

    /// Asks for a lock of that name: waits in the server's queue for it, on this connection and later ones,
    /// until the handle is dropped.
    ///
    /// Locks belong to a server, not to a database or a cluster: all who compete for one must be connected to
    /// the same server, for a clustered database by [`Options::leader_only`].
    pub async fn lock(&self, name: &str) -> Result<Lock, Error> {
        self.ask_for_lock(name, false).await
    }

    /// Takes a lock away from whoever has it. Once that was done it is as with [`Self::lock`]: after a loss of
    /// the lock or the connection it is waited for.
    pub async fn steal(&self, name: &str) -> Result<Lock, Error> {
        self.ask_for_lock(name, true).await
    }

    async fn ask_for_lock(&self, name: &str, steal: bool) -> Result<Lock, Error> {
        let (held, receiver) = watch::channel(false);
        let lock = Lock::new(self.clone(), name.to_owned(), receiver);
        let (reply, answer) = oneshot::channel();
        let command = Command::Lock { name: name.to_owned(), steal, held, reply };
        self.commands.send(command).await.map_err(|_| Error::Ended)?;
        answer.await.unwrap_or(Err(Error::Ended))?;
        Ok(lock)
    }

    pub(crate) fn release(&self, name: &str) {
        // Without a task there is no connection, and no lock.
        let _ = self.released.send(name.to_owned());
    }

    /// Carries out a transaction; waits for a connection as long as [`Options::transact_timeout`] says. When
    /// it returns, the replica shows what the transaction changed in the rows that are monitored.
    ///
    /// It is sent at most once. A caller that stops waiting does not take it back.
    ///
    /// A cluster may still carry out one that it was sent once more than once: a server that loses the
    /// leadership tries again by itself. Where that matters, such as when a number is added to, use
    /// [`Self::transact_once`](Session::transact_once).
    pub async fn transact(&self, transaction: Transaction) -> Result<Vec<OpResult>, TransactError> {
        self.transact_within(transaction, self.target.options.transact_timeout).await
    }

    /// [`Self::transact`] with another limit on the wait for a connection. There is none on the wait for the
    /// answer but the inactivity probe's.
    pub async fn transact_within(
        &self,
        transaction: Transaction,
        connect_within: Duration,
    ) -> Result<Vec<OpResult>, TransactError> {
        let transaction = Arc::new(transaction);
        let deadline = Instant::now() + connect_within;
        loop {
            self.connected_by(deadline).await?;
            let (reply, answer) = oneshot::channel();
            let command = Command::Transact { transaction: Arc::clone(&transaction), reply };
            if self.commands.send(command).await.is_err() {
                return Err(TransactError::NotConnected { cause: None });
            }
            match answer.await {
                // Lost between the two steps, nothing was sent.
                Ok(Err(TransactError::NotConnected { .. })) => {}
                Ok(result) => return result,
                Err(_) => return Err(TransactError::Unknown { reason: Error::Ended.to_string() }),
            }
        }
    }

    async fn connected_by(&self, deadline: Instant) -> Result<(), TransactError> {
        let mut state = self.state.clone();
        let connected = state.wait_for(|state| matches!(state, State::Connected { .. }));
        match timeout_at(deadline, connected).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(TransactError::NotConnected { cause: self.last_error() }),
        }
    }

    /// Replaces the condition of a monitored table, on this connection and later ones.
    ///
    /// When connected it returns once the server has applied the condition and the replica shows it. When not,
    /// or when the connection is lost meanwhile, it returns at once: the condition is part of the next monitor.
    pub async fn set_condition(&self, table: &str, condition: Vec<Clause>) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::SetCondition { table: table.to_owned(), condition, reply };
        self.commands.send(command).await.map_err(|_| Error::Ended)?;
        answer.await.unwrap_or(Err(Error::Ended))
    }
}
