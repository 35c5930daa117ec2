//! What can go wrong on a connection.

use std::io;
use std::sync::Arc;

use ofpacket::{DecodeError, EncodeError, OfError};

/// A request, or the making of a connection, failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens there.
    #[error("cannot connect to {target}: {source}: check that ovs-vswitchd runs and that the bridge exists")]
    Connect {
        /// Where.
        target: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The bridge does not speak OpenFlow 1.5.
    #[error(
        "the bridge does not speak OpenFlow 1.5 ({offer}): add OpenFlow15 to its protocols, or clear that column"
    )]
    Version {
        /// What it speaks.
        offer: String,
    },
    /// The switch refused.
    #[error("the switch refused {what}: {error}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Why.
        error: OfError,
    },
    /// The switch did not answer in time.
    #[error("no answer to {what} in time: the switch is overloaded or stuck")]
    Timeout {
        /// What was asked.
        what: &'static str,
    },
    /// The answer has more bytes than [`Config::max_reply`](crate::Config::max_reply).
    #[error("the answer to {what} has more than {limit} bytes: ask for less, or allow more")]
    ReplyTooLong {
        /// What was asked.
        what: &'static str,
        /// What was allowed.
        limit: usize,
    },
    /// The answer is of another kind than the question.
    #[error("the switch answered {what} with something else")]
    Unexpected {
        /// What was asked.
        what: &'static str,
    },
    /// The connection is closed, or closed before the answer came.
    #[error("the connection is closed: {0}")]
    Closed(CloseReason),
    /// The request does not fit a message.
    #[error(transparent)]
    TooLarge(#[from] EncodeError),
}

impl Error {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Version { .. } => "version",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::ReplyTooLong { .. } => "reply_too_long",
            Self::Unexpected { .. } => "unexpected",
            Self::Closed(reason) => reason.label(),
            Self::TooLarge(error) => error.label(),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The switch closed it: it stopped, or the bridge was deleted.
    #[error("the switch closed it")]
    Eof,
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The switch sent what cannot be read.
    #[error("the switch sent what cannot be read: {0}")]
    Protocol(#[from] DecodeError),
    /// The switch did not answer a probe.
    #[error("the switch did not answer a probe")]
    Unresponsive,
    /// The switch asks for echo upon echo and reads none.
    #[error("the switch asks for echoes and does not read them")]
    Deaf,
    /// The events were not read.
    #[error("too many events wait to be read")]
    EventOverflow,
    /// The handshake failed, which the maker of the connection was told.
    #[error("the handshake failed")]
    Handshake,
    /// Nobody holds it any more.
    #[error("nobody uses it any more")]
    Unused,
}

impl CloseReason {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Io(_) => "io",
            Self::Protocol(_) => "protocol",
            Self::Unresponsive => "unresponsive",
            Self::Deaf => "deaf",
            Self::EventOverflow => "event_overflow",
            Self::Handshake => "handshake",
            Self::Unused => "unused",
        }
    }
}

/// A bundle was not carried out, or perhaps it was.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The switch refused these messages, by their index, and changed nothing. Of more than 1024 only so many
    /// are here.
    #[error("the switch refused {} of the bundle's messages and changed nothing; the first: {}", .0.len(), first(.0))]
    Rejected(Vec<(usize, OfError)>),
    /// The switch refused the bundle itself, and changed nothing.
    #[error("the switch refused the bundle and changed nothing: {0}")]
    Refused(OfError),
    /// Whether it was carried out is not known: [`Client::settle`](crate::Client::settle) reads back what is
    /// there.
    #[error("whether the flows were changed is not known ({reason}): read them back")]
    Unknown {
        /// What happened after the commit was sent.
        reason: Box<Error>,
    },
    /// The connection closed before the commit was sent: nothing was changed.
    #[error("nothing was changed, the connection is closed: {0}")]
    Closed(CloseReason),
    /// The switch did not answer before the commit was sent: nothing was changed.
    #[error("nothing was changed, the switch did not answer in time")]
    Timeout,
    /// This message is longer than a message can be.
    #[error("nothing was changed, message {index} of the bundle is too large: {error}")]
    TooLarge {
        /// Which one.
        index: usize,
        /// What of it.
        error: EncodeError,
    },
}

fn first(errors: &[(usize, OfError)]) -> String {
    errors.first().map_or_else(String::new, |(index, error)| format!("number {index}, {error}"))
}

impl BundleError {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Refused(_) => "refused",
            Self::Unknown { .. } => "unknown",
            Self::Closed(reason) => reason.label(),
            Self::Timeout => "timeout",
            Self::TooLarge { .. } => "too_large",
        }
    }
}
