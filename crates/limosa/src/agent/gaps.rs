//! How long a guest was silent while it changed chassis, and how soon it was
//! reached, from the counters of its ports. Those count each packet when it
//! passes; the switch brings a flow's up to date twice a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use limosa_protocol::object::{ConditionType, Migration, NodeStatus, Truth};
use limosa_protocol::{Role, Step};
use ofpacket::{PortNo, ReplyBody, RequestBody};
use openflow_rs::Client;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::metrics::AgentMetrics;
use crate::store::Key;

/// How often a port is looked at: on the source, and on the target before and
/// after the guest has announced itself.
const SOURCE: Duration = Duration::from_millis(50);
const TARGET: Duration = Duration::from_secs(1);
const ANNOUNCED: Duration = Duration::from_millis(1);
/// What has not come by then is not on its way: nobody sends to the guest.
const REACHED_BY: Duration = Duration::from_secs(1);

/// What a port has counted, and when that was last seen to rise.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    count: Option<u64>,
    rose: Option<Timestamp>,
}

/// The ports that are looked at: of each migration that waits for its guest,
/// the one on this chassis.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    watched: BTreeMap<Key, (Arc<Mutex<Seen>>, AbortHandle)>,
    /// They end with this.
    tasks: JoinSet<()>,
}

impl Gaps {
    /// Begins to look at a port once this side is ready for the guest to move,
    /// and says what was seen once the guest has.
    pub(super) fn see(
        &mut self,
        migration: &Migration,
        own: &NodeStatus,
        client: Option<Client>,
        metrics: &AgentMetrics,
    ) {
        while self.tasks.try_join_next().is_some() {}
        let key = Key::of(migration);
        let activated = migration.target().and_then(|target| target.steps.get(&Step::Activated));
        let waits = migration.phase().wants_flows() && own.has(Step::Armed) && activated.is_none();
        if own.role == Role::Target && own.has(Step::Activated) && announced(migration) {
            // Its flows may tell of the announcement before its packet-in does.
            if let Some(client) = client {
                self.announced(migration, Some(own), client, metrics);
            }
        } else if !waits || own.has(Step::Activated) {
            if let Some(seen) = self.end(&key)
                && own.role == Role::Source
                && let (Some(activated), Some(rose)) = (activated, seen.rose)
            {
                metrics.silent(activated.duration_since(rose).as_secs_f64().max(0.0));
            }
        } else if let (Some(interface), Some(client)) = (&own.interface, client)
            && !self.watched.contains_key(&key)
        {
            let seen = Arc::<Mutex<Seen>>::default();
            let (port, role) = (PortNo(interface.ofport), own.role);
            let task = self.tasks.spawn(watch(client, port, role, seen.clone()));
            self.watched.insert(key, (seen, task));
        }
    }

    /// The guest has announced itself on this chassis: looks when it gets something.
    pub(super) fn announced(
        &mut self,
        migration: &Migration,
        own: Option<&NodeStatus>,
        client: Client,
        metrics: &AgentMetrics,
    ) {
        let interface = own.and_then(|own| own.interface.as_ref());
        let Some(before) = self.end(&Key::of(migration)).and_then(|seen| seen.count) else { return };
        let Some(port) = interface.map(|interface| PortNo(interface.ofport)) else { return };
        let (begun, metrics) = (Instant::now(), metrics.clone());
        self.tasks.spawn(async move {
            while begun.elapsed() < REACHED_BY {
                match counted(&client, port, Role::Target).await {
                    Some(count) if count > before => return metrics.reached(begun.elapsed()),
                    Some(_) => tokio::time::sleep(ANNOUNCED).await,
                    None => return,
                }
            }
        });
    }

    /// Forgets migrations that are no more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&Key) -> bool) {
        self.watched.retain(|key, (_, task)| {
            let stays = is_there(key);
            if !stays {
                task.abort();
            }
            stays
        });
    }

    fn end(&mut self, key: &Key) -> Option<Seen> {
        let (seen, task) = self.watched.remove(key)?;
        task.abort();
        Some(*seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Nobody had to say that the guest runs on the target.
fn announced(migration: &Migration) -> bool {
    let announced = migration.status.progress.truth(ConditionType::Announced);
    announced.is_none_or(|truth| truth == Truth::True)
}

/// Looks at a port until told otherwise, or until the switch is gone.
async fn watch(client: Client, port: PortNo, role: Role, seen: Arc<Mutex<Seen>>) {
    let every = if role == Role::Source { SOURCE } else { TARGET };
    while let Some(count) = counted(&client, port, role).await {
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.count.is_some_and(|before| count > before) {
                seen.rose = Some(Timestamp::now());
            }
            seen.count = Some(count);
        }
        tokio::time::sleep(every).await;
    }
}

/// The packets that the guest has sent on the source, or that it was given on the target.
async fn counted(client: &Client, port: PortNo, role: Role) -> Option<u64> {
    let parts = client.multipart(RequestBody::PortStats(port)).await.ok()?;
    let stats = parts.into_iter().find_map(|part| match part {
        ReplyBody::PortStats(stats) => stats.into_iter().find(|stats| stats.port_no == port),
        _ => None,
    })?;
    let (received, transmitted) = stats.packets;
    Some(if role == Role::Source { received } else { transmitted })
}
