//! What the sampling of packets has done (`NXST_IPFIX_BRIDGE`, `NXST_IPFIX_FLOW`).

use std::fmt::{self, Write};

use super::text::Count;
use crate::wire::{Reader, Result, Sink, Writer};

/// What an exporter of IPFIX has done. A counter is all ones if the switch does not know.
///
/// ```text
/// +-------------+---------------+------+-----------+-----------+------------+
/// | total_flows | current_flows | pkts | ipv4_pkts | ipv6_pkts | error_pkts |
/// +-------------+---+-----------+------+--+--------+--+--------+--------+---+
/// | ipv4_error_pkts | ipv6_error_pkts     | tx_pkts   | tx_errors       |
/// +-----------------+----+---+------------+-----------+-----------------+
/// | collector_set_id     | 0 |
/// +----------------------+---+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of the IPFIX counters say it")]
pub struct IpfixStats {
    pub total_flows: u64,
    pub current_flows: u64,
    pub pkts: u64,
    pub ipv4_pkts: u64,
    pub ipv6_pkts: u64,
    pub error_pkts: u64,
    pub ipv4_error_pkts: u64,
    pub ipv6_error_pkts: u64,
    pub tx_pkts: u64,
    pub tx_errors: u64,
    pub collector_set_id: u32,
}

impl IpfixStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let stats = Self {
            total_flows: r.u64()?,
            current_flows: r.u64()?,
            pkts: r.u64()?,
            ipv4_pkts: r.u64()?,
            ipv6_pkts: r.u64()?,
            error_pkts: r.u64()?,
            ipv4_error_pkts: r.u64()?,
            ipv6_error_pkts: r.u64()?,
            tx_pkts: r.u64()?,
            tx_errors: r.u64()?,
            collector_set_id: r.u32()?,
        };
        r.skip(4)?;
        Ok(stats)
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let (first, second) = self.lines();
        let [flows, current, pkts, ipv4, ipv6, tx] = first;
        let [errors, ipv4_errors, ipv6_errors, tx_errors] = second;
        [flows, current, pkts, ipv4, ipv6, errors, ipv4_errors, ipv6_errors, tx, tx_errors]
            .iter()
            .for_each(|&count| w.u64(count));
        w.u32(self.collector_set_id);
        w.zeros(4);
    }

    /// The counters in the order in which they are printed.
    fn lines(&self) -> ([u64; 6], [u64; 4]) {
        (
            [self.total_flows, self.current_flows, self.pkts, self.ipv4_pkts, self.ipv6_pkts, self.tx_pkts],
            [self.error_pkts, self.ipv4_error_pkts, self.ipv6_error_pkts, self.tx_errors],
        )
    }

    pub(super) fn bridge_text(&self, out: &mut String) -> fmt::Result {
        out.write_str("\n  bridge ipfix: ")?;
        self.text(out, 16)
    }

    pub(super) fn flow_text(&self, out: &mut String) -> fmt::Result {
        write!(out, "  id {:>3}: ", self.collector_set_id)?;
        self.text(out, 10)
    }

    fn text(&self, out: &mut String, indent: usize) -> fmt::Result {
        let (first, second) = self.lines();
        let [flows, current, pkts, ipv4, ipv6, tx] = first.map(Count);
        write!(out, "flows={flows}, current flows={current}, sampled pkts={pkts}, ")?;
        writeln!(out, "ipv4 ok={ipv4}, ipv6 ok={ipv6}, tx pkts={tx}")?;
        let [all, ipv4, ipv6, tx] = second.map(Count);
        write!(out, "{:indent$}pkts errs={all}, ipv4 errs={ipv4}, ", "")?;
        writeln!(out, "ipv6 errs={ipv6}, tx errs={tx}")
    }
}
