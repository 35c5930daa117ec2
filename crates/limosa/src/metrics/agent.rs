//! What an agent counts: its bridge, its flows and what they did.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use limosa_protocol::object::Connections;
use limosa_protocol::{Role, Step};
use ofpacket::FlowStats;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::flows::{FlowCounts, FlowMetrics};
use super::{Links, Maker};

/// From a wipe on an idle bridge (about a millisecond) to one that waits for
/// ovn-controller's flows (seconds); also how late the flow monitor is, and how
/// soon a guest is reached.
const MILLISECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];
/// From a guest that hardly stops to one that had nothing to say before it did.
const SILENCE: [f64; 8] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0, 60.0];

const ROLES: [&str; 3] = ["Source", "Target", "Bystander"];
const STEPS: [&str; 9] =
    ["Armed", "Activated", "Bound", "Carried", "Held", "Opened", "Switched", "Redirected", "Cleaned"];
/// Of [`limosa_protocol::object::Problem`], as far as it concerns the whole agent.
const PROBLEMS: [&str; 5] =
    ["SwitchUnreachable", "OvsdbUnreachable", "NoBridge", "FlowsRefused", "FlowMonitorWrong"];
/// What becomes of a tracked connection; see "Connections" in ARCHITECTURE.md.
const CONNECTIONS: [&str; 10] = [
    "carried",
    "translated",
    "hairpin",
    "helper",
    "child",
    "label",
    "protocol",
    "sequence_check",
    "too_many",
    "unreadable",
];

#[derive(Debug, Clone)]
pub(crate) struct AgentMetrics {
    pub(crate) registry: Registry,
    /// The connections: `switch`, `local_database`, `store`.
    pub(crate) links: Links,
    /// What kept the agent from working, by reason.
    pub(crate) problems: IntCounterVec,
    /// Guests that were heard to announce themselves.
    pub(crate) announcements: IntCounter,
    /// Objects that there is no room for.
    pub(crate) left_out: IntGauge,
    /// Statuses that the store does not show yet.
    pub(crate) unwritten: IntGauge,
    /// The switch has stopped telling of flows.
    pub(crate) monitor_paused: IntGauge,
    /// Flows of Limosa that the switch shows.
    pub(crate) standing: IntGauge,
    /// Flows in place that others took away, and that are not back.
    pub(crate) missing: IntGauge,
    flow_mods: IntCounterVec,
    steps: IntCounterVec,
    connections: IntCounterVec,
    wipes: IntCounter,
    recovery: Histogram,
    monitor_lag: Histogram,
    activation: Histogram,
    silence: Histogram,
    flows: FlowMetrics,
    counts: Arc<Mutex<FlowCounts>>,
}

impl AgentMetrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        make.build_info();
        Self {
            links: Links::new(&registry, &["switch", "local_database", "store"]),
            left_out: make.left_out(),
            problems: make.counters(
                "limosa_agent_problems_total",
                "Times that something began to keep the agent from working, by reason.",
                &[("reason", &PROBLEMS)],
            ),
            announcements: make.counter(
                "limosa_agent_announcements_total",
                "Announcements of guests (RARP) that the switch told of.",
            ),
            unwritten: make
                .gauge("limosa_agent_unwritten_statuses", "Statuses that the store does not show yet."),
            monitor_paused: make.gauge(
                "limosa_agent_flow_monitor_paused",
                "Whether the switch has stopped telling of changed flows because the agent reads too slowly.",
            ),
            standing: make.gauge("limosa_agent_flows", "Flows of Limosa on the integration bridge."),
            missing: make.gauge(
                "limosa_agent_flows_missing",
                "Flows in place that others took away and that are not back yet.",
            ),
            flow_mods: make.counters(
                "limosa_agent_flow_mods_total",
                "Changes of flows, by how the switch took them.",
                &[("outcome", &["done", "failed"])],
            ),
            steps: make.counters(
                "limosa_agent_steps_total",
                "Steps of migrations that this chassis has taken.",
                &[("role", &ROLES), ("step", &STEPS)],
            ),
            connections: make.counters(
                "limosa_agent_connections_total",
                "Tracked connections of ports that left, by whether the target was given them or why not.",
                &[("outcome", &CONNECTIONS)],
            ),
            wipes: make.counter(
                "limosa_agent_wipes_total",
                "Times that flows in place were lost and had to be put back.",
            ),
            recovery: make.histogram(
                "limosa_agent_wipe_recovery_seconds",
                "Time from the loss of flows that were in place until all of them were back.",
                &MILLISECONDS,
            ),
            monitor_lag: make.histogram(
                "limosa_agent_flow_monitor_lag_seconds",
                "Time from the switch's answer to a bundle until its flow monitor has shown all of it.",
                &MILLISECONDS,
            ),
            activation: make.histogram(
                "limosa_agent_activation_seconds",
                "Time from a guest's announcement until its port on the target was given the first packet, if one came within a second.",
                &MILLISECONDS,
            ),
            silence: make.histogram(
                "limosa_agent_silence_seconds",
                "Time from the last packet of a guest's port on the source until its announcement on the target, to 50 ms.",
                &SILENCE,
            ),
            flows: FlowMetrics::new(&registry),
            counts: Arc::default(),
            registry,
        }
    }

    /// Which chassis this is.
    pub(crate) fn chassis(&self, name: &str) {
        Maker(&self.registry).info("limosa_agent_info", "The chassis of this agent.", "chassis", name);
    }

    /// Takes in the counters of all our flows as they are now. What stood
    /// before a connection was lost is not counted again after it.
    pub(crate) fn count(&self, flows: &[FlowStats]) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(flows, &self.flows);
    }

    /// A bundle of so many flow mods was carried out, or not.
    pub(crate) fn bundle(&self, flow_mods: usize, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.flow_mods.with_label_values(&[outcome]).inc_by(flow_mods as u64);
    }

    /// The flow monitor has shown what a bundle has changed.
    pub(crate) fn shown(&self, after: Duration) {
        self.monitor_lag.observe(after.as_secs_f64());
    }

    /// This chassis has taken a step.
    pub(crate) fn step(&self, role: Role, step: Step) {
        self.steps.with_label_values(&[format!("{role:?}"), format!("{step:?}")]).inc();
    }

    /// The connections of a port that leaves were carried, or not.
    pub(crate) fn carried(&self, connections: &Connections) {
        let refused = connections.refused.iter().map(|(why, count)| (why.as_str(), *count));
        for (outcome, count) in refused.chain([("carried", connections.carried)]) {
            self.connections.with_label_values(&[outcome]).inc_by(count.into());
        }
    }

    /// Flows that were in place were lost.
    pub(crate) fn wiped(&self, flows: usize) {
        self.wipes.inc();
        self.missing.set(flows as i64);
    }

    /// Flows that were in place were lost, and are back.
    pub(crate) fn recovered(&self, after: Duration) {
        self.recovery.observe(after.as_secs_f64());
        self.missing.set(0);
    }

    /// A guest that has announced itself was given its first packet.
    pub(crate) fn reached(&self, after: Duration) {
        self.activation.observe(after.as_secs_f64());
    }

    /// A guest has said nothing for so long until it announced itself.
    pub(crate) fn silent(&self, seconds: f64) {
        self.silence.observe(seconds);
    }
}
