//! The integration bridge, followed: its flows, and what the switch tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use limosa_protocol::cookie::{Cookie, MAGIC, MAGIC_MASK};
use limosa_protocol::flows::CONTROLLER_ID;
use limosa_protocol::object::{Problem, to_microseconds};
use limosa_protocol::{Purpose, Survey};
use ofpacket::{
    FlowKey, FlowMod, FlowModCommand, FlowMonitorRequest, FlowStats, FlowUpdate, FlowUpdateEvent,
};
use openflow_rs::{BundleError, Client, CloseReason, Config, Event, Events, FlowTable, Target};
use tokio::time::Instant;

use super::unixctl;
use crate::metrics::AgentMetrics;

/// OVN's Geneve option (`ovn/lib/ovn-util.h`, ovn-architecture(7)).
const GENEVE_CLASS: u16 = 0x102;
const GENEVE_TYPE: u8 = 0x80;
/// How often our flows are read from the switch, for their counters, and to
/// compare them with what the monitor shows. They are the same, unless one of
/// the two programs is wrong.
const READ_EVERY: Duration = Duration::from_secs(10);
/// The same while there are none.
const READ_NOTHING_EVERY: Duration = Duration::from_secs(60);
/// How soon it is looked again when they are not: an update may be on its way.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// A connection to the bridge, with a table of the flows that matter to us.
#[derive(Debug)]
pub(super) struct Switch {
    client: Client,
    events: Events,
    flows: FlowTable,
    /// The first state of the table is complete.
    complete: bool,
    /// When guests have announced themselves, by migration, as the ages of the
    /// learned flows say. Read once: what is learned from then on is seen at once.
    announced_at: BTreeMap<u32, Timestamp>,
    /// When to read the switch's own flows next; before the first time nothing
    /// is concluded from the table.
    read_at: Option<Instant>,
    in_doubt: bool,
    /// What was seen last, to know since when flows have been as they are.
    seen: Option<Arc<Survey>>,
    /// The index of OVN's Geneve option, as long as it cannot change. The switch
    /// does not tell of changes, and one that is given thousands of flows lets
    /// every question wait, and the hand-over with it.
    geneve_index: Option<u8>,
    /// Decisions in the datapath's cache, as far as ovs-vswitchd has said it.
    cached: Option<u32>,
    metrics: AgentMetrics,
    ovs_rundir: PathBuf,
    socket: String,
}

/// What an event means for the agent.
#[derive(Debug)]
pub(super) enum Told {
    /// Flows have changed, or the table has become complete.
    Flows,
    /// The guest of this migration has announced itself.
    Announced(u32),
    /// Nothing of interest.
    Nothing,
    /// The connection has gone, for this reason.
    Closed(CloseReason),
}

impl Switch {
    /// Connects to a bridge's management socket.
    pub(super) async fn connect(
        ovs_rundir: &Path,
        bridge: &str,
        metrics: AgentMetrics,
    ) -> Result<Self, Problem> {
        let (client, events, socket) = connect(ovs_rundir, bridge, Some(&metrics)).await?;
        let all = vec![FlowMonitorRequest::everything(1)];
        client.monitor_flows(all).await.map_err(|error| unreachable(&socket, &error))?;
        Ok(Self {
            client,
            events,
            flows: FlowTable::new(Survey::is_of_interest),
            complete: false,
            announced_at: BTreeMap::new(),
            read_at: None,
            in_doubt: false,
            seen: None,
            geneve_index: None,
            cached: None,
            metrics,
            ovs_rundir: ovs_rundir.to_owned(),
            socket,
        })
    }

    /// Waits for the next event and keeps the table up to date.
    pub(super) async fn next(&mut self) -> Told {
        match self.events.next().await {
            Some(event) => self.note(event),
            None => Told::Closed(CloseReason::Unused),
        }
    }

    /// The next event, if one is here already.
    pub(super) fn try_next(&mut self) -> Option<Told> {
        self.events.try_next().map(|event| self.note(event))
    }

    fn note(&mut self, event: Event) -> Told {
        match event {
            Event::FlowUpdates(updates) => {
                let mut changed = false;
                for update in &updates {
                    changed |= self.flows.apply(update);
                    // Whoever gives OVN's option another index has to delete OVN's flows first.
                    if takes_away_input(update) {
                        self.geneve_index = None;
                    }
                }
                if changed { Told::Flows } else { Told::Nothing }
            }
            Event::InitialFlowsDone { .. } => {
                self.complete = true;
                Told::Flows
            }
            Event::PacketIn(packet_in) => {
                let cookie = packet_in.userdata.as_ref().try_into().map(u64::from_be_bytes);
                match cookie.ok().and_then(Cookie::decode) {
                    Some(cookie) => {
                        self.metrics.announcements.inc();
                        Told::Announced(cookie.migration)
                    }
                    None => Told::Nothing,
                }
            }
            Event::Error(error) => {
                tracing::warn!(%error, "the switch reports an error");
                self.metrics.links.error("switch", "reported");
                Told::Nothing
            }
            Event::Closed(reason) => Told::Closed(reason),
            _ => Told::Nothing,
        }
    }

    /// What the flows say; `None` until the first state is complete.
    pub(super) async fn survey(&mut self) -> Result<Option<Arc<Survey>>, Problem> {
        if !self.complete {
            return Ok(None);
        }
        if self.read_at.is_none_or(|at| at <= Instant::now()) {
            self.read().await?;
        }
        self.metrics.monitor_paused.set(self.flows.is_paused().into());
        let now = to_microseconds(Timestamp::now());
        let survey = Survey::of(self.flows.iter()).since(self.seen.as_deref(), now);
        if survey.ours.is_empty() {
            self.geneve_index = None;
        }
        let survey = Arc::new(Survey { announced_at: self.announced_at.clone(), ..survey });
        self.seen = Some(Arc::clone(&survey));
        Ok(Some(survey))
    }

    /// When [`Self::survey`] should be called again although nothing has changed.
    pub(super) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Reads our flows from the switch and compares them with the table.
    async fn read(&mut self) -> Result<(), Problem> {
        let first = self.read_at.is_none();
        let now = to_microseconds(Timestamp::now());
        let (flows, cached) = tokio::join!(self.count(), unixctl::cached(&self.ovs_rundir));
        let flows = flows?;
        if let Err(error) = &cached
            && (first || self.cached.is_some())
        {
            tracing::warn!("packets may be lost where the datapath has a large cache: {error:#}");
        }
        self.cached = cached.ok();
        self.geneve_index = None;
        if first {
            self.announced_at = announcements(&flows, now);
        }
        let there: BTreeSet<FlowKey> = flows.iter().map(|stats| stats.flow.key()).collect();
        let is_ours = |flow: &&ofpacket::Flow| Cookie::is_ours(flow.cookie);
        let shown: BTreeSet<FlowKey> = self.flows.iter().filter(is_ours).map(ofpacket::Flow::key).collect();
        let differs = there != shown;
        let wait = match differs {
            true => READ_AGAIN,
            false if flows.is_empty() => READ_NOTHING_EVERY,
            false => READ_EVERY,
        };
        self.read_at = Some(Instant::now() + wait);
        let was_in_doubt = std::mem::replace(&mut self.in_doubt, differs);
        if differs && was_in_doubt {
            let (there, shown) = (there.len(), shown.len());
            let message = format!(
                "{} has {there} flows of ours, its flow monitor shows {shown} or others: beginning anew with what the switch has",
                self.socket
            );
            return Err(Problem::new("FlowMonitorWrong", message));
        }
        Ok(())
    }

    /// Reads our flows from the switch and adds up what they have counted.
    async fn count(&self) -> Result<Vec<FlowStats>, Problem> {
        let flows = ours(&self.client).await.map_err(|error| unreachable(&self.socket, &error))?;
        self.metrics.count(&flows);
        Ok(flows)
    }

    /// The `tun_metadata` index of OVN's Geneve option, if it is mapped.
    pub(super) async fn geneve_index(&mut self) -> Result<Option<u8>, Problem> {
        if self.geneve_index.is_none() {
            let asked = geneve_index(&self.client).await;
            self.geneve_index = asked.map_err(|error| unreachable(&self.socket, &error))?;
        }
        Ok(self.geneve_index)
    }

    /// Decisions in the datapath's cache, some seconds ago.
    pub(super) fn cached(&self) -> u32 {
        self.cached.unwrap_or_default()
    }

    /// The connection, for what is done beside everything else.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Carries out flow mods as one atomic bundle: all of them or none.
    pub(super) async fn bundle(&self, mods: Vec<FlowMod>) -> Result<(), Problem> {
        // What flows that go have counted goes with them; the switch answers in the order in which it is asked.
        let takes_away = mods.iter().any(|flow_mod| flow_mod.command != FlowModCommand::Add);
        let count = async { if takes_away { self.count().await.map(drop) } else { Ok(()) } };
        let sent = self.client.bundle(mods.clone());
        let sent = self.metrics.links.timed("switch", BundleError::label, sent);
        let (counted, result) = tokio::join!(biased; count, sent);
        self.metrics.bundle(mods.len(), result.is_ok());
        counted?;
        match result {
            Ok(()) => Ok(()),
            Err(BundleError::Rejected(errors)) => {
                let refused = |(i, error): &(usize, openflow_rs::OfError)| match mods.get(*i) {
                    Some(flow_mod) => format!("{error} for {}", flow_mod.flow),
                    None => error.to_string(),
                };
                let refused: Vec<String> = errors.iter().map(refused).collect();
                let message =
                    format!("{} refused flows, and none was changed: {}", self.socket, refused.join("; "));
                Err(Problem::new("FlowsRefused", message))
            }
            // Done or not, the flow monitor will show it.
            Err(error) => Err(unreachable(&self.socket, &error)),
        }
    }
}

/// Takes every flow of ours off a bridge, whatever it was there for; returns
/// those that were there.
pub(super) async fn clean_up(ovs_rundir: &Path, bridge: &str) -> Result<Vec<FlowStats>, Problem> {
    let (client, _events, socket) = connect(ovs_rundir, bridge, None).await?;
    let failed = |error: openflow_rs::Error| unreachable(&socket, &error);
    let flows = ours(&client).await.map_err(failed)?;
    if !flows.is_empty() {
        let delete = vec![FlowMod::delete_by_cookie(MAGIC, MAGIC_MASK)];
        let refused = |error: BundleError| {
            Problem::new("FlowsRefused", format!("{socket} would not delete our flows: {error}"))
        };
        client.bundle(delete).await.map_err(refused)?;
        let left = ours(&client).await.map_err(failed)?;
        if !left.is_empty() {
            let message = format!("{} flows of ours are there again: is an agent running?", left.len());
            return Err(Problem::new("FlowsCameBack", message));
        }
    }
    Ok(flows)
}

/// A connection to a bridge's management socket, whose path is returned as well.
pub(super) async fn connect(
    ovs_rundir: &Path,
    bridge: &str,
    metrics: Option<&AgentMetrics>,
) -> Result<(Client, Events, String), Problem> {
    let socket = ovs_rundir.join(format!("{bridge}.mgmt"));
    let said = socket.display().to_string();
    let config = Config { controller_id: CONTROLLER_ID, ..Config::default() };
    match Client::connect(&Target::Unix(socket), config).await {
        Ok((client, events)) => Ok((client, events, said)),
        Err(error) => {
            if let Some(metrics) = metrics {
                metrics.links.error("switch", error.label());
            }
            Err(match error {
                // It names the socket, and asks for what else can be wrong.
                openflow_rs::Error::Connect { .. } => Problem::new(
                    "SwitchUnreachable",
                    format!("{error}, and that --ovs-rundir is its run directory"),
                ),
                _ => unreachable(&said, &error),
            })
        }
    }
}

/// The `tun_metadata` index of OVN's Geneve option, if it is mapped.
pub(super) async fn geneve_index(client: &Client) -> Result<Option<u8>, openflow_rs::Error> {
    let maps = client.tlv_table().await?;
    let ours = maps.iter().find(|map| map.class == GENEVE_CLASS && map.kind == GENEVE_TYPE);
    Ok(ours.and_then(|map| u8::try_from(map.index).ok()))
}

/// The error says what to do.
pub(super) fn unreachable(socket: &str, error: &impl Display) -> Problem {
    Problem::new("SwitchUnreachable", format!("{socket}: {error}"))
}

async fn ours(client: &Client) -> Result<Vec<FlowStats>, openflow_rs::Error> {
    client.dump_flows(None, MAGIC, MAGIC_MASK).await
}

/// True for the end of one of OVN's own flows in the first table.
fn takes_away_input(update: &FlowUpdate) -> bool {
    matches!(update, FlowUpdate::Full { event: FlowUpdateEvent::Removed, flow, .. }
        if flow.table_id == 0 && !Cookie::is_ours(flow.cookie))
}

/// When the flows that announcements leave behind have come, by migration.
fn announcements(flows: &[FlowStats], now: Timestamp) -> BTreeMap<u32, Timestamp> {
    let learned = flows.iter().filter_map(|stats| {
        let cookie = Cookie::decode(stats.flow.cookie)?;
        let is_learned = matches!(cookie.purpose, Purpose::DivertIn | Purpose::DivertOut);
        let age = SignedDuration::try_from(stats.duration).ok()?;
        is_learned.then_some((cookie.migration, to_microseconds(now.checked_sub(age).ok()?)))
    });
    let mut first = BTreeMap::new();
    for (migration, at) in learned {
        first.entry(migration).and_modify(|first: &mut Timestamp| *first = at.min(*first)).or_insert(at);
    }
    first
}
