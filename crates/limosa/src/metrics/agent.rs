//! What an agent counts: its bridge, its flows and what they did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use limosa_protocol::object::Connections;
use limosa_protocol::{Cookie, Purpose, Role, Step};
use ofpacket::{FlowKey, FlowStats};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{build_info, register};

/// From a wipe on an idle bridge (about a millisecond) to one that waits for
/// ovn-controller's flows (seconds).
const RECOVERY: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

#[derive(Debug, Clone)]
pub(crate) struct AgentMetrics {
    pub(crate) registry: Registry,
    /// The connections that are there: `openflow`, `ovsdb`, `store`.
    pub(crate) connected: IntGaugeVec,
    /// Connections that were made to the switch.
    pub(crate) connects: IntCounter,
    /// What kept the agent from working, by reason.
    pub(crate) problems: IntCounterVec,
    /// Guests that were heard to announce themselves.
    pub(crate) announcements: IntCounter,
    /// Statuses that the store does not show yet.
    pub(crate) unwritten: IntGauge,
    flows: IntGauge,
    packets: IntCounterVec,
    bytes: IntCounterVec,
    flow_mods: IntCounterVec,
    steps: IntCounterVec,
    connections: IntCounterVec,
    wipes: IntCounter,
    recovery: Histogram,
    counts: Arc<Mutex<FlowCounts>>,
}

impl AgentMetrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        build_info(&registry);
        let counters = |name, help, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let counter = |name, help| register(&registry, IntCounter::new(name, help));
        let gauge = |name, help| register(&registry, IntGauge::new(name, help));
        let recovery = HistogramOpts::new(
            "limosa_agent_wipe_recovery_seconds",
            "Time from the loss of flows that were in place until all of them were back.",
        );
        let metrics = Self {
            connected: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "limosa_agent_connected",
                        "Whether the agent is connected to the switch, to the local database and to the store.",
                    ),
                    &["to"],
                ),
            ),
            connects: counter("limosa_agent_openflow_connects_total", "Connections made to the switch."),
            problems: counters(
                "limosa_agent_problems_total",
                "Times that something began to keep the agent from working, by reason.",
                &["reason"],
            ),
            announcements: counter(
                "limosa_agent_announcements_total",
                "Announcements of guests (RARP) that the switch told of.",
            ),
            unwritten: gauge("limosa_agent_unwritten_statuses", "Statuses that the store does not show yet."),
            flows: gauge("limosa_agent_flows", "Flows of Limosa on the integration bridge."),
            packets: counters(
                "limosa_flow_packets_total",
                "Packets that Limosa's flows took, by what the flow is there for.",
                &["purpose"],
            ),
            bytes: counters(
                "limosa_flow_bytes_total",
                "Bytes that Limosa's flows took, by what the flow is there for.",
                &["purpose"],
            ),
            flow_mods: counters(
                "limosa_agent_flow_mods_total",
                "Changes of flows, by how the switch took them.",
                &["outcome"],
            ),
            steps: counters(
                "limosa_agent_steps_total",
                "Steps of migrations that this chassis has taken.",
                &["role", "step"],
            ),
            connections: counters(
                "limosa_agent_connections_total",
                "Tracked connections of ports that left, by whether the target was given them or why not.",
                &["outcome"],
            ),
            wipes: counter(
                "limosa_agent_wipes_total",
                "Times that flows in place were lost and had to be put back.",
            ),
            recovery: register(&registry, Histogram::with_opts(recovery.buckets(RECOVERY.to_vec()))),
            counts: Arc::default(),
            registry,
        };
        for purpose in Purpose::ALL {
            metrics.packets.with_label_values(&[purpose.label()]);
            metrics.bytes.with_label_values(&[purpose.label()]);
        }
        for outcome in ["done", "failed"] {
            metrics.flow_mods.with_label_values(&[outcome]);
        }
        for to in ["openflow", "ovsdb", "store"] {
            metrics.connected.with_label_values(&[to]);
        }
        metrics
    }

    /// Takes in the counters of all our flows as they are now. What stood
    /// before a connection was lost is not counted again after it.
    pub(crate) fn count(&self, flows: &[FlowStats]) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(flows, self);
    }

    /// A bundle of so many flow mods was carried out, or not.
    pub(crate) fn bundle(&self, flow_mods: usize, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.flow_mods.with_label_values(&[outcome]).inc_by(flow_mods as u64);
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

    /// Flows that were in place were lost, and are back.
    pub(crate) fn recovered(&self, after: Duration) {
        self.recovery.observe(after.as_secs_f64());
    }

    /// Flows that were in place were lost.
    pub(crate) fn wiped(&self) {
        self.wipes.inc();
    }
}

/// Adds up what flows have counted, each of which begins at zero and may be
/// replaced by another at any time.
#[derive(Debug, Default)]
struct FlowCounts {
    last: HashMap<(u64, FlowKey), (u64, u64)>,
}

impl FlowCounts {
    fn add(&mut self, flows: &[FlowStats], metrics: &AgentMetrics) {
        metrics.flows.set(flows.len() as i64);
        let mut now = HashMap::with_capacity(flows.len());
        for stats in flows {
            let key = (stats.flow.cookie, stats.flow.key());
            let counts = (stats.packet_count, stats.byte_count);
            let last = self.last.get(&key).copied().filter(|last| last.0 <= counts.0 && last.1 <= counts.1);
            let last = last.unwrap_or_default();
            if let Some(cookie) = Cookie::decode(stats.flow.cookie) {
                let purpose = [cookie.purpose.label()];
                metrics.packets.with_label_values(&purpose).inc_by(counts.0 - last.0);
                metrics.bytes.with_label_values(&purpose).inc_by(counts.1 - last.1);
            }
            now.insert(key, counts);
        }
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use ofpacket::{Flow, Match, OxmField};

    use super::*;

    #[test]
    fn counts_go_on_over_flows_that_are_replaced() {
        let metrics = AgentMetrics::new();
        let stats = |port: u32, packet_count| {
            let cookie = Cookie { migration: 1, role: Role::Target, purpose: Purpose::GateOut }.encode();
            let match_ = Match::new().with(OxmField::IN_PORT, port);
            let flow = Flow::new(0, 1100, match_, vec![]).with_cookie(cookie);
            FlowStats {
                flow,
                duration: Duration::ZERO,
                idle: None,
                packet_count,
                byte_count: 10 * packet_count,
            }
        };
        for read in
            [vec![stats(1, 5)], vec![stats(1, 7), stats(2, 1)], vec![stats(1, 3)], vec![], vec![stats(1, 3)]]
        {
            metrics.count(&read);
        }
        assert_eq!(metrics.packets.with_label_values(&["gate_out"]).get(), 5 + 2 + 1 + 3 + 3);
        assert_eq!(metrics.bytes.with_label_values(&["gate_out"]).get(), 140);
    }
}
