//! Carries the connections that a source tracks for a port to the target.
//!
//! The switch is asked for the entries of the port's zone, and sends the
//! packets that [`limosa_conntrack`] makes of them through the tunnel, where
//! the target's flow commits them. That happens twice: all of them while the
//! guest's traffic still runs through the source, and right before the switch
//! those that have come since.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use limosa_conntrack::Connection;
use limosa_protocol::node::Pass;
use limosa_protocol::object::Connections;
use ofpacket::{Action, PacketOut, PortNo};
use openflow_rs::Client;
use tokio::task::JoinSet;

use super::unixctl;
use crate::store::Key;

/// More entries than this are not carried for one port; the others are counted.
/// Each is remembered with eight bytes until the migration has ended.
const MAX_CONNECTIONS: usize = 65_536;
/// Packets that are handed to the switch at a time.
const BATCH: usize = 512;
/// How soon a pass that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// One pass, with all it needs.
pub(super) struct Job {
    pub(super) client: Client,
    pub(super) ovs_rundir: PathBuf,
    /// As `dpctl` names it.
    pub(super) datapath: String,
    pub(super) zone: u16,
    /// What the switch does with each packet.
    pub(super) actions: Vec<Action>,
}

/// A pass that has ended.
pub(super) struct Carried {
    pub(super) key: Key,
    pub(super) pass: Pass,
    /// What became of the connections, this pass and the one before together.
    pub(super) connections: Connections,
}

/// The passes of all migrations that leave this chassis.
#[derive(Default)]
pub(super) struct Carrier {
    tasks: JoinSet<(Key, Pass, Memory, anyhow::Result<()>)>,
    running: HashSet<Key>,
    memory: BTreeMap<Key, Memory>,
}

#[derive(Default)]
struct Memory {
    done: Option<Pass>,
    /// Digests of the entries that were sent.
    sent: HashSet<u64>,
    refused: BTreeMap<String, u32>,
}

impl Carrier {
    /// Begins a pass, unless it is under way or done.
    pub(super) fn begin(&mut self, key: &Key, pass: Pass, job: impl FnOnce() -> Option<Job>) {
        if self.running.contains(key) {
            return;
        }
        let memory = self.memory.entry(key.clone()).or_default();
        if memory.done.is_some_and(|done| pass <= done) {
            return;
        }
        let Some(job) = job() else { return };
        let (key, mut memory) = (key.clone(), std::mem::take(memory));
        self.running.insert(key.clone());
        self.tasks.spawn(async move {
            let result = job.carry(&mut memory).await;
            if result.is_err() {
                tokio::time::sleep(RETRY).await;
            }
            (key, pass, memory, result)
        });
    }

    /// The next pass that ends; never, while none is under way.
    pub(super) async fn next(&mut self) -> Option<Carried> {
        let (key, pass, mut memory, result) = match self.tasks.join_next().await {
            Some(ended) => ended.expect("a pass does not panic"),
            None => return std::future::pending().await,
        };
        self.running.remove(&key);
        let carried = match result {
            Ok(()) => {
                memory.done = Some(pass);
                let connections =
                    Connections { carried: memory.sent.len() as u32, refused: memory.refused.clone() };
                Some(Carried { key: key.clone(), pass, connections })
            }
            Err(error) => {
                tracing::warn!(
                    migration = key.name,
                    error = format!("{error:#}"),
                    "connections cannot be carried to the target; will try again"
                );
                None
            }
        };
        self.memory.insert(key, memory);
        carried
    }

    /// Forgets migrations that are no more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&Key) -> bool) {
        self.memory.retain(|key, _| is_there(key));
    }
}

impl Job {
    async fn carry(&self, memory: &mut Memory) -> anyhow::Result<()> {
        let zone = format!("zone={}", self.zone);
        let args = ["-m", self.datapath.as_str(), zone.as_str()];
        let dump = unixctl::call(&self.ovs_rundir, "dpctl/dump-conntrack", &args).await?;
        memory.refused.clear();
        let mut batch = Vec::with_capacity(BATCH + 2);
        for connection in limosa_conntrack::parse(&dump) {
            let frames = match connection {
                // A dump without a zone of its own prints every entry.
                Ok(connection) if connection.zone != self.zone => continue,
                Ok(connection) => memory.frames(&connection),
                Err(error) => {
                    tracing::debug!(%error, "an entry of the connection tracker");
                    Err("unreadable")
                }
            };
            match frames {
                Ok(frames) => batch.extend(frames.into_iter().map(|frame| self.packet(frame))),
                Err(why) => *memory.refused.entry(why.to_owned()).or_default() += 1,
            }
            if batch.len() >= BATCH {
                self.send(std::mem::take(&mut batch)).await?;
            }
        }
        self.send(batch).await
    }

    fn packet(&self, frame: Vec<u8>) -> PacketOut {
        PacketOut::new(PortNo::CONTROLLER, self.actions.clone(), frame)
    }

    async fn send(&self, packets: Vec<PacketOut>) -> anyhow::Result<()> {
        if packets.is_empty() {
            return Ok(());
        }
        self.client.packet_outs(packets).await.context("the switch does not take the packets")
    }
}

impl Memory {
    /// The packets of an entry that was not sent before.
    fn frames(&mut self, connection: &Connection) -> Result<Vec<Vec<u8>>, &'static str> {
        let frames = connection.frames().map_err(limosa_conntrack::Refusal::label)?;
        let mut hasher = DefaultHasher::new();
        (connection.protocol, connection.orig, connection.mark, connection.label).hash(&mut hasher);
        (connection.progress as u8).hash(&mut hasher);
        let digest = hasher.finish();
        if frames.is_empty() || self.sent.contains(&digest) {
            return Ok(Vec::new());
        }
        if self.sent.len() == MAX_CONNECTIONS {
            return Err("too_many");
        }
        self.sent.insert(digest);
        Ok(frames)
    }
}
