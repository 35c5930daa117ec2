//! Locks (RFC 7047 sections 4.1.8 to 4.1.10): asked for again on every connection.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::sync::watch;

use super::{Machine, Phase, Request};

#[derive(Debug)]
pub(super) struct LockEntry {
    held: watch::Sender<bool>,
    /// To be stolen, which was not answered yet.
    steal: bool,
    /// Stolen on this connection. Who loses such a lock is not in the queue for it any more.
    stole: bool,
    /// The request that was not answered yet: what is said of the lock before its answer is about another one,
    /// of the same name, that was given back.
    awaits: Option<u64>,
}

pub(super) type Locks = BTreeMap<String, LockEntry>;

impl Machine {
    /// Asks for a lock, now and on later connections; there it is not stolen again. False when this session
    /// asks for it already.
    pub(crate) fn lock(&mut self, name: String, steal: bool, held: watch::Sender<bool>) -> bool {
        if self.locks.get(&name).is_some_and(|entry| !entry.held.is_closed()) {
            return false;
        }
        self.unlock(&name);
        self.locks.insert(name.clone(), LockEntry { held, steal, stole: false, awaits: None });
        if self.phase != Phase::Disconnected {
            self.request_lock(name);
        }
        true
    }

    /// Gives a lock back, or its place in the queue, if its handle is gone.
    pub(crate) fn unlock(&mut self, name: &str) {
        if self.locks.get(name).is_none_or(|entry| !entry.held.is_closed()) {
            return;
        }
        self.locks.remove(name);
        if self.phase != Phase::Disconnected {
            self.send("unlock", json!([name]), Request::Ignored);
        }
    }

    fn request_lock(&mut self, name: String) {
        let steal = self.locks.get(&name).is_some_and(|entry| entry.steal);
        let method = if steal { "steal" } else { "lock" };
        let id = self.send(method, json!([name]), Request::Lock { name: name.clone() });
        if let Some(entry) = self.locks.get_mut(&name) {
            entry.awaits = Some(id);
        }
    }

    /// On a new connection.
    pub(super) fn request_locks(&mut self) {
        for name in self.locks.keys().cloned().collect::<Vec<_>>() {
            self.request_lock(name);
        }
    }

    /// With the connection.
    pub(super) fn lose_locks(&mut self) {
        for entry in self.locks.values_mut() {
            (entry.stole, entry.awaits) = (false, None);
            entry.held.send_replace(false);
        }
    }

    pub(super) fn lock_answered(&mut self, id: u64, name: &str, locked: bool) {
        let Some(entry) = self.locks.get_mut(name).filter(|entry| entry.awaits == Some(id)) else { return };
        entry.awaits = None;
        entry.stole = std::mem::take(&mut entry.steal);
        entry.held.send_replace(locked);
    }

    /// By a `locked` or `stolen` notification.
    pub(super) fn lock_notified(&mut self, name: String, locked: bool) {
        let Some(entry) = self.locks.get_mut(&name).filter(|entry| entry.awaits.is_none()) else { return };
        entry.held.send_replace(locked);
        if !locked && std::mem::take(&mut entry.stole) {
            self.send("unlock", json!([name]), Request::Ignored);
            self.request_lock(name);
        }
    }
}
