//! What Limosa's flows have counted.

use std::collections::{BTreeSet, HashMap};

use limosa_protocol::{Cookie, Purpose};
use ofpacket::{FlowKey, FlowStats};
use prometheus::{IntCounter, IntCounterVec, Registry};

use super::Maker;

#[derive(Debug, Clone)]
pub(super) struct FlowMetrics {
    packets: IntCounterVec,
    bytes: IntCounterVec,
    duplicates: IntCounter,
}

impl FlowMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let make = Maker(registry);
        let purposes = Purpose::ALL.map(Purpose::label);
        Self {
            packets: make.counters(
                "limosa_flow_packets_total",
                "Packets that Limosa's flows took, by what the flow is there for.",
                &[("purpose", &purposes)],
            ),
            bytes: make.counters(
                "limosa_flow_bytes_total",
                "Bytes that Limosa's flows took, by what the flow is there for.",
                &[("purpose", &purposes)],
            ),
            duplicates: make.counter(
                "limosa_duplicate_packets_dropped_total",
                "Packets that the target dropped because its guest gets them another way as well.",
            ),
        }
    }
}

/// Adds up what flows have counted, each of which begins at zero and may be
/// replaced by another at any time.
#[derive(Debug, Default)]
pub(super) struct FlowCounts {
    last: HashMap<(u64, FlowKey), (u64, u64)>,
}

impl FlowCounts {
    pub(super) fn add(&mut self, flows: &[FlowStats], metrics: &FlowMetrics) {
        let cookies = || flows.iter().filter_map(|stats| Cookie::decode(stats.flow.cookie));
        let gated: BTreeSet<u32> =
            cookies().filter(|c| c.purpose == Purpose::GateOut).map(|c| c.migration).collect();
        let mut now = HashMap::with_capacity(flows.len());
        for stats in flows {
            let key = (stats.flow.cookie, stats.flow.key());
            let counts = (stats.packet_count, stats.byte_count);
            let last = self.last.get(&key).copied().filter(|last| last.0 <= counts.0 && last.1 <= counts.1);
            let last = last.unwrap_or_default();
            if let Some(cookie) = Cookie::decode(stats.flow.cookie) {
                let (purpose, packets) = ([cookie.purpose.label()], counts.0 - last.0);
                metrics.packets.with_label_values(&purpose).inc_by(packets);
                metrics.bytes.with_label_values(&purpose).inc_by(counts.1 - last.1);
                // While the gate is shut nothing else reaches the guest here.
                let is_gate = matches!(cookie.purpose, Purpose::GateDirect | Purpose::GateMirrored);
                if is_gate && !gated.contains(&cookie.migration) {
                    metrics.duplicates.inc_by(packets);
                }
            }
            now.insert(key, counts);
        }
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use limosa_protocol::Role;
    use ofpacket::{Flow, Match, OxmField};

    use super::*;

    fn stats(purpose: Purpose, port: u32, packet_count: u64) -> FlowStats {
        let cookie = Cookie { migration: 1, role: Role::Target, purpose }.encode();
        let match_ = Match::new().with(OxmField::IN_PORT, port);
        let flow = Flow::new(0, 1100, match_, vec![]).with_cookie(cookie);
        FlowStats { flow, duration: Duration::ZERO, idle: None, packet_count, byte_count: 10 * packet_count }
    }

    #[test]
    fn counts_go_on_over_flows_that_are_replaced() {
        let (metrics, mut counts) = (FlowMetrics::new(&Registry::new()), FlowCounts::default());
        let gate = |port, packets| stats(Purpose::GateOut, port, packets);
        for read in
            [vec![gate(1, 5)], vec![gate(1, 7), gate(2, 1)], vec![gate(1, 3)], vec![], vec![gate(1, 3)]]
        {
            counts.add(&read, &metrics);
        }
        assert_eq!(metrics.packets.with_label_values(&["gate_out"]).get(), 5 + 2 + 1 + 3 + 3);
        assert_eq!(metrics.bytes.with_label_values(&["gate_out"]).get(), 140);
    }

    #[test]
    fn what_a_gate_drops_is_a_duplicate_once_the_guest_is_served() {
        let (metrics, mut counts) = (FlowMetrics::new(&Registry::new()), FlowCounts::default());
        counts.add(&[stats(Purpose::GateOut, 1, 0), stats(Purpose::GateMirrored, 2, 9)], &metrics);
        counts.add(&[stats(Purpose::DivertIn, 1, 4), stats(Purpose::GateDirect, 3, 2)], &metrics);
        counts.add(&[stats(Purpose::GateMirrored, 2, 5)], &metrics);
        assert_eq!(metrics.duplicates.get(), 2 + 5);
    }
}
