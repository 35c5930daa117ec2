//! The client's side of a connection without a socket, for the fuzz targets. No part of the API.

use std::time::{Duration, Instant};

use crate::error::{ConnectionError, ConnectionFailure};
use crate::framer::Framer;
use crate::machine::{Machine, Output};
use crate::monitor::TableMonitor;
use crate::remote::Remote;
use crate::replica::Replica;

/// Of a session that has just been connected.
#[derive(Debug)]
pub struct Client {
    framer: Framer,
    machine: Machine,
    replica: Replica,
}

impl Client {
    pub fn connected(database: &str, monitors: Vec<TableMonitor>) -> Self {
        let monitors = monitors.into_iter().map(|monitor| (monitor.table().to_owned(), monitor)).collect();
        let now = Instant::now();
        let mut machine = Machine::new(database.to_owned(), monitors, true, Duration::ZERO, now);
        machine.connected(now);
        Self { framer: Framer::default(), machine, replica: Replica::default() }
    }

    /// Takes what a server sends. An error ends the connection.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.framer.push(bytes);
        while let Some(frame) = self.framer.next_frame()? {
            self.machine.receive(&frame)?;
        }
        Ok(())
    }

    /// What is sent to the server, since the last call.
    pub fn sent(&mut self) -> Vec<u8> {
        std::mem::take(self.machine.outbox())
    }

    pub fn disconnected(&mut self) {
        let failure = ConnectionFailure {
            remote: Remote::Unix("server".into()),
            cause: ConnectionError::ClosedByServer,
        };
        self.machine.disconnected(&failure);
    }

    /// The latest snapshot.
    pub fn replica(&mut self) -> &Replica {
        for output in self.machine.take_outputs() {
            if let Output::Replica(replica) = output {
                self.replica = replica;
            }
        }
        &self.replica
    }
}
