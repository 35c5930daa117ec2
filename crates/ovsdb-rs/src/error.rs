//! What can go wrong, each with a stable `label()` that metrics and logs share.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::framer::FrameError;
use crate::remote::{Remote, Remotes};
use crate::tls::TlsError;

/// JSON that is not what the protocol or the schema says it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct ParseError {
    /// What should have been there.
    pub expected: String,
    /// The beginning of what was there instead.
    pub found: String,
}

impl ParseError {
    /// Longest excerpt of the offending JSON, in characters: enough to recognise it in a log line.
    const EXCERPT: usize = 120;

    pub(crate) fn new(expected: impl Into<String>, found: &Value) -> Self {
        let text = match found {
            // Containers can be as large as a message: name them instead of printing them whole.
            Value::Object(map) => {
                let keys: Vec<&str> = map.keys().take(8).map(String::as_str).collect();
                format!("an object with {keys:?}")
            }
            Value::Array(items) if items.len() > 8 => format!("an array of {} elements", items.len()),
            Value::String(text) if text.len() > Self::EXCERPT => "a long string".to_owned(),
            other => other.to_string(),
        };
        Self { expected: expected.into(), found: text.chars().take(Self::EXCERPT).collect() }
    }

    pub(crate) fn missing(expected: &str, key: &str) -> Self {
        Self { expected: format!("{expected} with {key:?}"), found: "none".to_owned() }
    }
}

/// Why a connection could not be made, or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody listens there, or nobody may connect.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Nobody has answered within this time.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// The name of the host has no address: which name, and why.
    #[error("cannot resolve {0}")]
    Resolve(String),
    /// Our own certificates are not usable.
    #[error("{0}")]
    Certificates(Box<TlsError>),
    /// The handshake failed, or one end does not trust the other.
    #[error("tls: {0}")]
    Tls(String),
    /// A server of a cluster that follows, where the leader is wanted
    /// ([`Options::leader_only`](crate::Options)).
    #[error("not the leader of the cluster")]
    NotLeader,
    /// A server of a cluster, or a relay, that has no connection to it.
    #[error("the server is not connected to its cluster")]
    NotInCluster,
    /// A server of a cluster that knows less than this session already does.
    #[error("the server is behind: at index {index} of the log, this session at {seen}")]
    Stale {
        /// Of the server's log.
        index: u64,
        /// Of the log of any server of the cluster, so far.
        seen: u64,
    },
    /// The server has ended the connection.
    #[error("the server closed the connection")]
    ClosedByServer,
    /// The connection broke, as the system says.
    #[error("connection lost: {0}")]
    Io(String),
    /// What was received is not JSON, or is too large.
    #[error("the server does not speak OVSDB: {0}")]
    Framing(#[from] FrameError),
    /// The monitored rows take more memory than [`Options::max_replica`](crate::Options), in bytes.
    #[error("the monitored tables have more rows than fit into {} MiB", .0 >> 20)]
    ReplicaTooLarge(usize),
    /// What was received is JSON, but not what belongs there.
    #[error("unexpected message: {0}")]
    Protocol(String),
    /// A request that every connection begins with was refused.
    #[error("the server refused {method}: {error}")]
    Refused {
        /// Which request.
        method: &'static str,
        /// The server's words.
        error: String,
    },
    /// The server was silent for this time, and gave no answer to a probe either.
    #[error("the server has been silent for {0:?} and did not answer an echo request")]
    Silent(Duration),
}

impl ConnectionError {
    /// A stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::Resolve(_) => "resolve",
            Self::Certificates(_) => "certificates",
            Self::Tls(_) => "tls",
            Self::NotLeader => "not_leader",
            Self::NotInCluster => "not_in_cluster",
            Self::Stale { .. } => "stale",
            Self::ClosedByServer => "closed_by_server",
            Self::Io(_) => "io",
            Self::Framing(_) => "framing",
            Self::ReplicaTooLarge(_) => "replica_too_large",
            Self::Protocol(_) => "protocol",
            Self::Refused { .. } => "refused",
            Self::Silent(_) => "silent",
        }
    }

    /// What a person should look at.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Connect(_) | Self::ConnectTimeout(_) => {
                "check that ovsdb-server runs and listens on that remote"
            }
            Self::Resolve(_) => "check the host's name and the resolver",
            Self::Certificates(_) => "check the PEM files of the CA, the certificate and the key",
            Self::Tls(_) => "check that both ends have certificates of the same CA, and TLS 1.2 or later",
            Self::NotLeader => "name every server of the cluster, or do not ask for the leader",
            Self::NotInCluster | Self::Stale { .. } => "check the cluster: ovs-appctl cluster/status",
            Self::ClosedByServer | Self::Io(_) => "check the log of ovsdb-server",
            Self::Framing(_) | Self::Protocol(_) => "check that the remote is an ovsdb-server's",
            Self::ReplicaTooLarge(_) => "monitor fewer rows, or raise the limit",
            Self::Refused { .. } => "check that the remote serves that database",
            Self::Silent(_) => "check the load of ovsdb-server and the path to it",
        }
    }
}

/// A [`ConnectionError`] and the remote it happened with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{remote}: {cause}")]
pub struct ConnectionFailure {
    /// With whom.
    pub remote: Remote,
    /// What went wrong.
    pub cause: ConnectionError,
}

impl From<TlsError> for ConnectionError {
    fn from(error: TlsError) -> Self {
        Self::Certificates(Box::new(error))
    }
}

impl From<ParseError> for ConnectionError {
    fn from(error: ParseError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Errors of a [`Session`](crate::Session), apart from those of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no replica yet, because no connection can be made.
    #[error("no replica of {database} within {waited:?}: {failure}; {}", .failure.cause.hint())]
    NotReady {
        /// Of which database.
        database: String,
        /// For how long it was waited for.
        waited: Duration,
        /// The latest failure.
        failure: ConnectionFailure,
    },
    /// There is no replica yet, and no reason for it is known.
    #[error("no replica of {database} from {remotes} within {waited:?}, no failure either; allow more time")]
    StillWaiting {
        /// Of which database.
        database: String,
        /// For how long it was waited for.
        waited: Duration,
        /// From where.
        remotes: Remotes,
    },
    /// A condition for a table that the session does not follow.
    #[error("table {0} is not monitored by this session; name it when the session is opened")]
    NotMonitored(String),
    /// A condition that does not fit the columns.
    #[error("the server refused the condition on {table}: {error}; the previous one stays")]
    ConditionRefused {
        /// On which table.
        table: String,
        /// The server's words.
        error: String,
    },
    /// A second handle for one lock.
    #[error("this session asks for the lock {0:?} already; use that handle or drop it")]
    LockInUse(String),
    /// The task of the session is gone, such as with its runtime.
    #[error("the session has ended")]
    Ended,
}

impl Error {
    /// A stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotReady { failure, .. } => failure.cause.label(),
            Self::StillWaiting { .. } => "still_waiting",
            Self::NotMonitored(_) => "not_monitored",
            Self::ConditionRefused { .. } => "condition_refused",
            Self::LockInUse(_) => "lock_in_use",
            Self::Ended => "ended",
        }
    }
}

/// Why a transaction was not done, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactError {
    /// Nothing was changed.
    #[error("the server refused {}: {error}: {details}", Operation(*.op))]
    Refused {
        /// Index of the operation in the order they were added, from 0; `None` when the request as a whole or
        /// its commit was refused.
        op: Option<usize>,
        /// The server's word (RFC 7047 section 3.1 `<error>`), such as `timed out` or `constraint violation`.
        error: String,
        /// More about it, for a person; may be empty.
        details: String,
    },
    /// The transaction was sent, and whether it was done cannot be known.
    #[error("sent, but whether it was done is unknown: {reason}; look at the database before trying again")]
    Unknown {
        /// Why there is no answer, or none that says it.
        reason: String,
    },
    /// The transaction was not sent.
    #[error("not sent, no connection{}", Because(.cause.as_ref()))]
    NotConnected {
        /// The latest failure; `None` when the first attempt is still under way.
        cause: Option<ConnectionFailure>,
    },
}

impl TransactError {
    /// A stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Unknown { .. } => "unknown",
            Self::NotConnected { .. } => "not_connected",
        }
    }

    /// The `wait` that did not hold, by its index, when that is why the transaction was refused.
    pub fn failed_wait(&self) -> Option<usize> {
        match self {
            // The one reason for these words: no wait of ours waits.
            Self::Refused { op, error, .. } if error == "timed out" => *op,
            _ => None,
        }
    }
}

struct Operation(Option<usize>);

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => write!(f, "operation {index}"),
            None => f.write_str("the transaction"),
        }
    }
}

struct Because<'a>(Option<&'a ConnectionFailure>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |failure| write!(f, ": {failure}"))
    }
}
