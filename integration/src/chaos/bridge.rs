//! What happens on an integration bridge, seen through a flow monitor of the
//! lab's own.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use ofpacket::{Flow, FlowMonitorRequest, FlowUpdate, FlowUpdateEvent};
use openflow_rs::{Client, Config, Event, Events, FlowTable, Target};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::report::since_ms;
use crate::chassis::Chassis;
use crate::clock::{MS, monotonic_ns};
use crate::demo::is_ours;
use crate::holder::within;

/// How soon a switch that is away is looked for again.
const AGAIN: Duration = Duration::from_millis(10);

/// What an outage leaves behind it in the datapath's cache, and how far the
/// clocks of a loss and of a flow monitor's event may be apart.
const MARGIN_NS: i64 = 30 * MS;

/// How many changes of OVN's flows are kept.
const KEPT: usize = 4096;

/// A change of a flow.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) at_ns: i64,
    pub(super) event: FlowUpdateEvent,
    pub(super) flow: Flow,
    /// The very same flow stood there already.
    pub(super) repeated: bool,
}

/// A time in which the switch could not forward: it was down, or all its
/// flows had been deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Where.
    pub chassis: String,
    /// What the switch was without: `its ovs-vswitchd`, or `OVN's flows`.
    pub without: &'static str,
    /// From when, nanoseconds of `CLOCK_MONOTONIC`.
    pub from_ns: i64,
    /// Until when, nanoseconds of `CLOCK_MONOTONIC`; none while it lasts.
    pub to_ns: Option<i64>,
    /// When the last of Limosa's flows that went with it was put back, if any was.
    pub ours_back_ns: Option<i64>,
}

impl Outage {
    /// For a person; times are milliseconds since `zero_ns`.
    pub fn in_words(&self, zero_ns: i64) -> String {
        let Self { chassis, without, from_ns, to_ns, ours_back_ns, .. } = self;
        let from = since_ms(zero_ns, *from_ns);
        let to = to_ns.map_or_else(|| "the end".to_owned(), |to| format!("{} ms", since_ms(zero_ns, to)));
        let ours = ours_back_ns.map(|back| format!(", Limosa's back at {} ms", since_ms(zero_ns, back)));
        format!("{chassis} without {without} from {from} ms to {to}{}", ours.unwrap_or_default())
    }

    /// Whether flows of Limosa's that went with it were still missing then.
    pub fn still_covers(&self, at_ns: i64) -> bool {
        at_ns >= self.from_ns && self.ours_back_ns.is_some_and(|back| at_ns <= back + MARGIN_NS)
    }

    /// Whether what happened then may be its fault.
    pub fn covers(&self, at_ns: i64) -> bool {
        at_ns >= self.from_ns - MARGIN_NS && self.to_ns.is_none_or(|to| at_ns <= to + MARGIN_NS)
    }
}

/// Everything that was seen on one bridge.
#[derive(Debug)]
pub(super) struct Log {
    chassis: String,
    connected: bool,
    ours: FlowTable,
    others: FlowTable,
    /// How many flows that are not ours there were before an outage.
    level: usize,
    /// Of Limosa's flows.
    pub(super) changes: Vec<Change>,
    /// Of the other flows, the latest.
    pub(super) others_changes: VecDeque<Change>,
    outages: Vec<Outage>,
}

impl Log {
    fn new(chassis: &str) -> Self {
        Self {
            chassis: chassis.to_owned(),
            connected: false,
            ours: FlowTable::new(|flow| is_ours(flow.cookie)),
            others: FlowTable::new(|flow| !is_ours(flow.cookie)),
            level: 0,
            changes: Vec::new(),
            others_changes: VecDeque::new(),
            outages: Vec::new(),
        }
    }

    /// Limosa's flows, now.
    pub(super) fn ours(&self) -> impl Iterator<Item = &Flow> + Clone {
        self.ours.iter()
    }

    /// How many of the others there are.
    pub(super) fn others(&self) -> usize {
        self.others.len()
    }

    /// Whether nothing is the matter with the switch.
    pub(super) fn is_whole(&self) -> bool {
        self.connected && self.outages.last().is_none_or(|outage| outage.to_ns.is_some())
    }

    /// When the switch could not forward, and when Limosa's flows were back.
    pub(super) fn outages(&self) -> Vec<Outage> {
        let with_ours = |outage: &Outage| Outage { ours_back_ns: self.ours_back(outage), ..outage.clone() };
        self.outages.iter().map(with_ours).collect()
    }

    fn ours_back(&self, outage: &Outage) -> Option<i64> {
        let went = |c: &&Change| c.event == FlowUpdateEvent::Removed && outage.covers(c.at_ns);
        let back = |gone: &Change| {
            let key = gone.flow.key();
            let mut later = self.changes.iter().filter(|c| c.at_ns > gone.at_ns && c.flow.key() == key);
            later.next().map(|c| c.at_ns)
        };
        self.changes.iter().filter(went).filter_map(back).max()
    }

    /// Forgets what was, before something new is tried.
    fn forget(&mut self) {
        self.level = self.others.len();
        self.changes.clear();
        self.others_changes.clear();
        self.outages.clear();
    }

    fn take(&mut self, at_ns: i64, updates: &[FlowUpdate]) {
        for update in updates {
            let FlowUpdate::Full { event, flow, .. } = update else { continue };
            let mut change = Change { at_ns, event: *event, flow: flow.clone(), repeated: false };
            if is_ours(flow.cookie) {
                let adds = matches!(event, FlowUpdateEvent::Added | FlowUpdateEvent::Modified);
                change.repeated = adds && self.ours.get(&flow.key()).is_some_and(|stood| stood.same_as(flow));
                self.changes.push(change);
            } else if *event != FlowUpdateEvent::Initial {
                if self.others_changes.len() == KEPT {
                    self.others_changes.pop_front();
                }
                self.others_changes.push_back(change);
            }
            self.ours.apply(update);
            self.others.apply(update);
            if self.connected {
                self.judge(at_ns);
            }
        }
    }

    /// Whether an outage has begun, or ended.
    fn judge(&mut self, at_ns: i64) {
        if self.is_whole() {
            self.level = self.level.max(self.others());
            if self.others() < self.level / 2 {
                self.begin_outage(at_ns, "OVN's flows");
            }
        } else if self.others() >= self.level / 4 * 3 {
            self.end_outage(at_ns);
        }
    }

    fn begin_outage(&mut self, from_ns: i64, without: &'static str) {
        if self.is_whole() {
            self.outages.push(Outage {
                chassis: self.chassis.clone(),
                without,
                from_ns,
                to_ns: None,
                ours_back_ns: None,
            });
        }
    }

    fn end_outage(&mut self, at_ns: i64) {
        if let Some(outage) = self.outages.last_mut() {
            outage.to_ns.get_or_insert(at_ns);
        }
    }
}

/// A bridge that is watched, across every restart of its switch.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) chassis: String,
    log: Arc<Mutex<Log>>,
    changed: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Bridge {
    /// Begins to watch br-int of a chassis; returns once its flows are known.
    pub(super) async fn watch(chassis: &Chassis) -> Result<Self> {
        let name = chassis.name().to_owned();
        let log = Arc::new(Mutex::new(Log::new(&name)));
        let (sender, changed) = watch::channel(());
        let socket = chassis.ovs_rundir().join("br-int.mgmt");
        let task = tokio::spawn(follow(socket, Arc::clone(&log), sender));
        let bridge = Self { chassis: name, log, changed, task };
        bridge.until("known", Duration::from_secs(30), |log| log.connected).await?;
        bridge.forget();
        Ok(bridge)
    }

    /// Looks at what was seen.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Log) -> T) -> T {
        look(&self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets what was, before something new is tried.
    pub(super) fn forget(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).forget();
    }

    /// Waits until what was seen is as wanted.
    pub(super) async fn until(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Log) -> bool,
    ) -> Result<()> {
        let mut changed = self.changed.clone();
        within(deadline, &format!("br-int of {} to be {what}", self.chassis), async {
            changed.wait_for(|()| self.look(&wanted)).await.map(drop).context("the watch has ended")
        })
        .await
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(socket: PathBuf, log: Arc<Mutex<Log>>, changed: watch::Sender<()>) {
    let with = |change: &mut dyn FnMut(&mut Log)| {
        change(&mut log.lock().unwrap_or_else(PoisonError::into_inner));
        changed.send_replace(());
    };
    loop {
        let Ok((_client, mut events)) = connect(&socket).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        while let Some(event) = events.next().await {
            let at_ns = monotonic_ns();
            match event {
                Event::FlowUpdates(updates) => with(&mut |log| log.take(at_ns, &updates)),
                Event::InitialFlowsDone { .. } => with(&mut |log| {
                    log.connected = true;
                    log.judge(at_ns);
                }),
                Event::Closed(_) => with(&mut |log| {
                    log.begin_outage(at_ns, "its ovs-vswitchd");
                    log.connected = false;
                    log.ours.clear();
                    log.others.clear();
                }),
                _ => {}
            }
        }
    }
}

async fn connect(socket: &Path) -> Result<(Client, Events)> {
    let config = Config { max_event_bytes: 1 << 30, ..Config::default() };
    let (client, events) = Client::connect(&Target::Unix(socket.to_owned()), config).await?;
    client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await?;
    Ok((client, events))
}
