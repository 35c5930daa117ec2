//! Our flows on a bridge, compared with what the objects want there. What
//! should be is [`node::plan`]'s answer, and what differs is [`diff()`]'s: the
//! very functions that the agent goes by.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use limosa_protocol::diff::diff;
use limosa_protocol::object::Problem;
use limosa_protocol::{Cookie, Migration, Phase, Role, node};
use ofpacket::{Flow, FlowKey, FlowModCommand, FlowStats, Match, OxmField};
use serde::Serialize;

use crate::agent::{Bridge, Reading};
use crate::store::{Snapshot, Store};

/// A bridge, with our flows by migration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Audit {
    pub(crate) chassis: String,
    pub(crate) bridge: String,
    /// OVN's tables, as found; none that was not.
    pub(crate) remote_output: Option<u8>,
    pub(crate) local_output: Option<u8>,
    pub(crate) log_to_phy: Option<u8>,
    /// False where no store was asked what should be here.
    pub(crate) verified: bool,
    pub(crate) migrations: Vec<Share>,
    /// How many flows are not as they should be.
    pub(crate) findings: usize,
}

/// One migration's flows on this chassis.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Share {
    /// The number in the cookies.
    pub(crate) number: u32,
    /// The object, if the store has one.
    #[serde(flatten)]
    pub(crate) object: Option<Object>,
    pub(crate) flows: Vec<Line>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) port: String,
    pub(crate) from: String,
    pub(crate) to: Option<String>,
    pub(crate) phase: Phase,
    /// This chassis' part.
    pub(crate) role: Role,
    /// What keeps this chassis from its next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
}

/// A flow that is there, or should be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) cookie: String,
    pub(crate) verdict: Verdict,
    #[serde(flatten)]
    pub(crate) meaning: Option<Decoded>,
    pub(crate) table: u8,
    /// As `ovs-ofctl --no-stats dump-flows` writes it.
    pub(crate) flow: String,
    /// How it should read, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<String>,
    /// Nothing for a flow that is missing.
    #[serde(flatten)]
    pub(crate) counted: Option<Counted>,
    /// OVN's flows of the same table for the same packets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside: Vec<Beside>,
}

/// What a cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decoded {
    pub(crate) purpose: &'static str,
    pub(crate) of: Role,
    pub(crate) what: &'static str,
    pub(crate) why: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counted {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) age_seconds: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Beside {
    pub(crate) packets: u64,
    pub(crate) flow: String,
}

/// Whether a flow is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// As the object wants it.
    Right,
    /// Nobody was asked.
    Unverified,
    /// The object wants it, and it is not there.
    Missing,
    /// It is there, and does something else than the object wants.
    Changed,
    /// Its migration does not want it here, or not any more.
    Unwanted,
    /// The store has no migration of its number.
    Stray,
}

impl Verdict {
    pub(crate) const fn is_finding(self) -> bool {
        !matches!(self, Self::Right | Self::Unverified)
    }

    /// What to make of it.
    pub(crate) const fn hint(self) -> &'static str {
        match self {
            Self::Right | Self::Unverified => "",
            Self::Missing => "missing: the migration wants it here; a running agent puts it back at once",
            Self::Changed => {
                "changed: somebody else has written to it; a running agent puts it right at once"
            }
            Self::Unwanted => "not wanted here at this step; a running agent takes it away at once",
            Self::Stray => {
                "a stray: the store has no migration of this number; a running agent takes it away after a minute, `limosa agent --cleanup` all flows of ours at once"
            }
        }
    }
}

impl Decoded {
    pub(crate) fn of(cookie: u64) -> Option<Self> {
        let Cookie { role, purpose, .. } = Cookie::decode(cookie)?;
        let meaning = purpose.meaning();
        Some(Self { purpose: meaning.label, of: role, what: meaning.what, why: meaning.why })
    }
}

/// An agent mends a difference in milliseconds: what is still there after so
/// many looks is one.
const LOOKS: usize = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Reads a bridge and compares it with the objects of a store, if there is one,
/// until nothing differs, or for a second.
pub(crate) async fn settled(bridge: &Bridge, store: Option<&dyn Store>) -> Result<Audit, Problem> {
    let mut looks = 0;
    loop {
        let snapshot = store.map(|store| store.watch().borrow().clone());
        let found = audit(&bridge.read().await?, snapshot.as_deref(), Timestamp::now());
        looks += 1;
        if found.findings == 0 || looks == LOOKS {
            return Ok(found);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Compares a bridge with the objects of a store; without one nothing is verified.
fn audit(reading: &Reading, snapshot: Option<&Snapshot>, now: Timestamp) -> Audit {
    let Reading { bridge, facts, survey, flows } = reading;
    let stats: BTreeMap<FlowKey, &FlowStats> = flows.iter().map(|stats| (stats.flow.key(), stats)).collect();
    let mut shares: BTreeMap<u32, Share> = BTreeMap::new();
    let mut wanted = Vec::new();
    for migration in snapshot.iter().flat_map(|snapshot| snapshot.migrations.values()) {
        let plan = node::plan(migration, migration.status.nodes.get(&facts.chassis), facts, survey, now);
        let number = migration.status.progress.number;
        let is_here = survey.of_migration(number).next().is_some();
        let (status, wants) = plan.map(|plan| (plan.status, plan.flows)).unzip();
        let wants = wants.unwrap_or_default();
        if is_here || !wants.is_empty() {
            let waits_for = status.and_then(|status| status.problem).map(|problem| problem.message);
            let object = Some(Object::of(migration, &facts.chassis, waits_for));
            shares.insert(number, Share { number, object, flows: Vec::new() });
        }
        wanted.extend(wants);
    }
    let by_key: BTreeMap<FlowKey, &Flow> = wanted.iter().map(|flow| (flow.key(), flow)).collect();
    let mods = diff(&wanted, survey.ours.iter());
    let differs: BTreeSet<FlowKey> = mods.iter().map(|flow_mod| flow_mod.flow.key()).collect();
    let known: BTreeSet<u32> =
        shares.values().filter(|share| share.object.is_some()).map(|share| share.number).collect();
    let foreign: Vec<&FlowStats> = flows.iter().filter(|stats| !Cookie::is_ours(stats.flow.cookie)).collect();

    let present = survey.ours.iter().map(|flow| {
        let key = flow.key();
        let number = Cookie::migration_of(flow.cookie);
        let verdict = match (differs.contains(&key), by_key.contains_key(&key)) {
            _ if snapshot.is_none() => Verdict::Unverified,
            (false, _) => Verdict::Right,
            (true, true) => Verdict::Changed,
            (true, false) if known.contains(&number) => Verdict::Unwanted,
            (true, false) => Verdict::Stray,
        };
        let wanted = by_key.get(&key).copied().filter(|_| verdict == Verdict::Changed);
        Line::new(flow, verdict, wanted, stats.get(&key).copied(), &foreign)
    });
    let is_missing = |flow: &&Flow| !stats.get(&flow.key()).is_some_and(|s| Cookie::is_ours(s.flow.cookie));
    let missing = mods
        .iter()
        .filter(|flow_mod| flow_mod.command == FlowModCommand::Add)
        .map(|flow_mod| &flow_mod.flow)
        .filter(is_missing)
        .map(|flow| Line::new(flow, Verdict::Missing, None, None, &foreign));
    for (number, line) in present.chain(missing) {
        let share = shares.entry(number);
        share.or_insert(Share { number, object: None, flows: Vec::new() }).flows.push(line);
    }
    let mut migrations: Vec<Share> = shares.into_values().collect();
    for share in &mut migrations {
        share.flows.sort_by(|a, b| (a.table, &a.flow).cmp(&(b.table, &b.flow)));
    }
    let layout = facts.layout;
    Audit {
        chassis: facts.chassis.clone(),
        bridge: bridge.clone(),
        remote_output: layout.remote_output,
        local_output: layout.local_output,
        log_to_phy: layout.log_to_phy,
        verified: snapshot.is_some(),
        findings: migrations.iter().flat_map(|s| &s.flows).filter(|l| l.verdict.is_finding()).count(),
        migrations,
    }
}

impl Object {
    fn of(migration: &Migration, chassis: &str, waits_for: Option<String>) -> Self {
        let spec = &migration.spec;
        Self {
            name: migration.full_name(),
            port: spec.port.clone(),
            from: spec.from.clone(),
            to: spec.to.clone(),
            phase: migration.phase(),
            role: migration.role_of(chassis),
            waits_for,
        }
    }
}

impl Line {
    fn new(
        flow: &Flow,
        verdict: Verdict,
        wanted: Option<&Flow>,
        stats: Option<&FlowStats>,
        foreign: &[&FlowStats],
    ) -> (u32, Self) {
        let beside = foreign.iter().filter(|other| is_beside(flow, &other.flow));
        let line = Self {
            cookie: format!("{:#x}", flow.cookie),
            verdict,
            meaning: Decoded::of(flow.cookie),
            table: flow.table_id,
            flow: text(flow),
            wanted: wanted.map(text),
            counted: stats.map(|stats| Counted {
                packets: stats.packet_count,
                bytes: stats.byte_count,
                age_seconds: stats.duration.as_secs(),
            }),
            beside: beside
                .map(|other| Beside { packets: other.packet_count, flow: text(&other.flow) })
                .collect(),
        };
        (Cookie::migration_of(wanted.unwrap_or(flow).cookie), line)
    }
}

fn text(flow: &Flow) -> String {
    flow.to_string().trim().to_owned()
}

/// Whether a flow of OVN's is for the packets of ours: those of the same port,
/// on their way in or out.
fn is_beside(ours: &Flow, other: &Flow) -> bool {
    let (ours_match, other_match) = (ours.match_.canonical(), other.match_.canonical());
    let decisive = [OxmField::IN_PORT, OxmField::reg(15)];
    let Some(field) = decisive.into_iter().find(|field| ours_match.get(*field).is_some()) else {
        return false;
    };
    ours.table_id == other.table_id && other_match.get(field).is_some() && agree(&ours_match, &other_match)
}

/// No field that both name without a mask has two values.
fn agree(a: &Match, b: &Match) -> bool {
    a.iter()
        .filter(|oxm| oxm.mask.is_none())
        .all(|oxm| b.get(oxm.field).is_none_or(|other| other.mask.is_some() || other.value == oxm.value))
}

#[cfg(test)]
mod tests;
