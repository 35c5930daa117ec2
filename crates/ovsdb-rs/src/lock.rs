//! Locks of a server, by which sessions agree who may act (RFC 7047 section 4.1.8).

use tokio::sync::watch;

use crate::error::Error;
use crate::session::Session;

/// A lock that a session has or waits for ([`Session::lock`]), and a handle of that session. Given back when it
/// is dropped, which does not wait for the server.
///
/// What is done under a lock belongs into a transaction with
/// [`Transaction::assert`](crate::Transaction::assert): only the server knows at that moment who has it.
#[derive(Debug)]
pub struct Lock {
    session: Session,
    name: String,
    /// `None` only while this is dropped: then the task sees that nobody listens.
    held: Option<watch::Receiver<bool>>,
}

impl Lock {
    pub(crate) fn new(session: Session, name: String, held: watch::Receiver<bool>) -> Self {
        Self { session, name, held: Some(held) }
    }

    /// The name of the lock.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the server says, as far as is known, that the lock is ours.
    pub fn is_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| *held.borrow())
    }

    /// Waits until the lock is ours.
    pub async fn acquired(&self) -> Result<(), Error> {
        self.becomes(true).await
    }

    /// Waits until the lock is not ours: it was stolen or the connection was lost. It may become ours again.
    pub async fn lost(&self) -> Result<(), Error> {
        self.becomes(false).await
    }

    async fn becomes(&self, wanted: bool) -> Result<(), Error> {
        let mut held = self.held.clone().ok_or(Error::Ended)?;
        held.wait_for(|held| *held == wanted).await.map(drop).map_err(|_| Error::Ended)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.held = None;
        self.session.release(&self.name);
    }
}
