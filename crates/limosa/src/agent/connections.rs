//! Carries the connections that a source tracks for a port to the target.
//!
//! The switch is asked for the entries of the port's zone, and sends the
//! packets that [`limosa_conntrack`] makes of them through the tunnel, where
//! the target's flow commits them. That happens once while every chassis
//! catches up, and once right before the target decides by itself. Packets may
//! get lost, and none is answered; so the target counts what it has, and the
//! source sends all of them again until that is enough.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use limosa_conntrack::{Backends, Connection};
use limosa_protocol::node::{Carry, Pass};
use limosa_protocol::object::Connections;
use ofpacket::{PacketOut, PortNo};
use openflow_rs::Client;
use tokio::task::{AbortHandle, JoinSet};

use super::unixctl;
use crate::store::Key;

/// More entries than this are not carried for one port; the others are counted.
const MAX_CONNECTIONS: u32 = 65_536;
/// Packets that are handed to the switch at a time; what a socket of the target's
/// has room for while its switch does something else.
const BATCH: usize = 128;
/// The userspace datapath, as `dpctl` names it.
const USERSPACE: &str = "netdev@";
/// The protocol number of TCP.
const TCP: u8 = 6;
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How soon all is sent again that the target does not have.
const AGAIN: Duration = Duration::from_millis(100);
/// How soon the target counts (again).
const COUNT: Duration = Duration::from_millis(20);

/// What is to be done with the connections of a port.
pub(super) enum Work {
    /// They are sent.
    Give(Carry),
    /// Those in this zone are counted.
    Count(u16),
}

/// The switch to do it with.
pub(super) struct Job {
    pub(super) client: Client,
    pub(super) ovs_rundir: PathBuf,
    /// As `dpctl` names it.
    pub(super) datapath: String,
}

/// Work that has ended.
pub(super) struct Carried {
    pub(super) key: Key,
    /// Source: what became of the connections. Target: how many there are.
    pub(super) connections: Connections,
}

/// The work for all migrations that concern this chassis, one piece at a time for each.
#[derive(Default)]
pub(super) struct Carrier {
    tasks: JoinSet<(Key, Option<Pass>, anyhow::Result<Connections>)>,
    running: BTreeMap<Key, AbortHandle>,
    /// The last pass that is over.
    done: BTreeMap<Key, Pass>,
}

impl Carrier {
    /// Begins it, unless something is under way; what has been done is done again
    /// after a while, the first pass excepted.
    pub(super) fn begin(&mut self, key: &Key, work: Work, job: impl FnOnce() -> Option<Job>) {
        let done = self.done.get(key).copied();
        let (pass, pause) = match &work {
            Work::Give(carry) if carry.pass == Pass::Ahead && done.is_some() => return,
            Work::Give(carry) if done == Some(Pass::Last) => (Some(carry.pass), AGAIN),
            Work::Give(carry) => (Some(carry.pass), Duration::ZERO),
            Work::Count(_) => (None, COUNT),
        };
        if self.running.contains_key(key) {
            return;
        }
        let Some(job) = job() else { return };
        let task_key = key.clone();
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            let result = match work {
                Work::Give(carry) => job.give(&carry).await,
                Work::Count(zone) => job.count(zone).await,
            };
            if result.is_err() {
                tokio::time::sleep(RETRY).await;
            }
            (task_key, pass, result)
        });
        self.running.insert(key.clone(), task);
    }

    /// Nothing more is to be done.
    pub(super) fn end(&mut self, key: &Key) {
        if let Some(task) = self.running.remove(key) {
            task.abort();
        }
    }

    /// Whether everything has been sent that the source tracked in the end.
    pub(super) fn has_given_all(&self, key: &Key) -> bool {
        self.done.get(key) == Some(&Pass::Last)
    }

    /// What ends next; never, while nothing is under way.
    pub(super) async fn next(&mut self) -> Option<Carried> {
        let (key, pass, result) = match self.tasks.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(error)) if error.is_cancelled() => return None,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return std::future::pending().await,
        };
        self.running.remove(&key);
        match result {
            Ok(connections) => {
                if let Some(pass) = pass {
                    self.done.insert(key.clone(), pass);
                }
                Some(Carried { key, connections })
            }
            Err(error) => {
                tracing::warn!(
                    migration = key.name,
                    error = format!("{error:#}"),
                    "connections cannot be carried; will try again"
                );
                None
            }
        }
    }

    /// Forgets migrations that are no more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&Key) -> bool) {
        self.done.retain(|key, _| is_there(key));
    }
}

impl Job {
    async fn ask(&self, method: &str, args: &[&str]) -> anyhow::Result<String> {
        unixctl::call(&self.ovs_rundir, method, args).await
    }

    async fn give(&self, carry: &Carry) -> anyhow::Result<Connections> {
        let zone = format!("zone={}", carry.zone);
        let dump = self.ask("dpctl/dump-conntrack", &["-m", &self.datapath, &zone]).await?;
        let checks_sequence = checks_sequence(&self.ovs_rundir, &self.datapath).await?;
        let mut connections = Connections::default();
        let mut backends = carry.backends.clone();
        let mut batch = Vec::with_capacity(BATCH);
        for frame in frames(&dump, carry.zone, checks_sequence, &mut connections, &mut backends) {
            batch.push(PacketOut::new(PortNo::CONTROLLER, carry.actions.clone(), frame));
            if batch.len() == BATCH {
                self.send(std::mem::take(&mut batch)).await?;
            }
        }
        self.send(batch).await?;
        connections.backends = backends.as_slice().to_vec();
        Ok(connections)
    }

    async fn count(&self, zone: u16) -> anyhow::Result<Connections> {
        let said = self.ask("dpctl/ct-stats-show", &[&self.datapath, &format!("zone={zone}")]).await?;
        let total = said.lines().find_map(|line| line.trim().strip_prefix("Total: ")?.parse().ok());
        let carried =
            total.with_context(|| format!("cannot read the tracker's number of connections: {said}"))?;
        Ok(Connections { carried, ..Connections::default() })
    }

    async fn send(&self, packets: Vec<PacketOut>) -> anyhow::Result<()> {
        if packets.is_empty() {
            return Ok(());
        }
        self.client.packet_outs(packets).await.context("the switch does not take the packets")
    }
}

/// What is sent for the entries of the zone, [`MAX_CONNECTIONS`] of them at most, and what becomes of each.
fn frames<'a>(
    dump: &'a str,
    zone: u16,
    checks_sequence: bool,
    connections: &'a mut Connections,
    backends: &'a mut Backends,
) -> impl Iterator<Item = Vec<u8>> + use<'a> {
    // A dump without a zone of its own prints every entry.
    let of_zone =
        move |entry: &Result<Connection, _>| entry.as_ref().map_or(true, |entry| entry.zone == zone);
    limosa_conntrack::parse(dump).filter(of_zone).flat_map(move |entry| {
        let frames = match &entry {
            Ok(connection) if connection.protocol == TCP && checks_sequence => Err("sequence_check"),
            Ok(_) if connections.carried == MAX_CONNECTIONS => Err("too_many"),
            Ok(connection) => connection.frames(backends).map_err(limosa_conntrack::Refusal::label),
            Err(error) => {
                tracing::debug!(%error, "an entry of the connection tracker");
                Err("unreadable")
            }
        };
        match &frames {
            Ok(frames) => connections.carried += u32::from(!frames.is_empty()),
            Err(why) => *connections.refused.entry((*why).to_owned()).or_default() += 1,
        }
        frames.unwrap_or_default()
    })
}

/// Whether the tracker drops TCP segments that are not near the last ones.
/// It does not tell where those were, so that nothing can be made for it to
/// go on from: an entry that does not fit is worse than none. The kernel lets
/// everything pass of a connection that it has met in its middle. Chassis
/// are taken to be alike.
pub(super) async fn checks_sequence(ovs_rundir: &Path, datapath: &str) -> anyhow::Result<bool> {
    if !datapath.starts_with(USERSPACE) {
        return Ok(false);
    }
    let said = unixctl::call(ovs_rundir, "dpctl/ct-get-tcp-seq-chk", &[datapath]).await?;
    Ok(!said.contains("disabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_are_carried_than_the_limit() {
        const MORE: u32 = 100;
        let entry = |n: u32| {
            let (a, b) = (n >> 8 & 0xff, n & 0xff);
            let (here, there) = ("dst=10.0.0.1", format!("src=10.9.{a}.{b}"));
            let zone = 9 + n / (MAX_CONNECTIONS + MORE);
            format!(
                "udp,orig=({there},{here},sport={0},dport=53),reply=(src=10.0.0.1,dst=10.9.{a}.{b},sport=53,dport={0}),zone={zone}\n",
                1000 + (n >> 16)
            )
        };
        // The last hundred are another zone's.
        let dump: String = (0..MAX_CONNECTIONS + 2 * MORE).map(entry).collect();
        let (mut connections, mut backends) = (Connections::default(), Backends::default());
        assert!(frames(&dump, 9, false, &mut connections, &mut backends).count() >= MAX_CONNECTIONS as usize);
        assert_eq!(connections.carried, MAX_CONNECTIONS);
        assert_eq!(connections.refused, BTreeMap::from([("too_many".to_owned(), MORE)]));
    }
}
