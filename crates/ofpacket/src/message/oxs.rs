//! Statistics of flows: OpenFlow's extensible statistics, OXS (OpenFlow 1.5, section 7.2.8).
//!
//! ```text
//! +---+--------+------------------+---------------------+
//! | 0 | length |  OXS fields ...  | pad to 8, uncounted |
//! +---+--------+------------------+---------------------+
//! ```
//!
//! A field looks like a match field: class 0x8002, number, length, value.

use std::time::Duration;

use super::common::{decode_duration, encode_duration};
use crate::flow::{Flow, FlowStats};
use crate::wire::{Reader, Result, Sink, Writer};

/// `OXS_OF_*`: class 0x8002, field, length.
const DURATION: u32 = 0x8002_0008;
const IDLE_TIME: u32 = 0x8002_0208;
const FLOW_COUNT: u32 = 0x8002_0604;
const PACKET_COUNT: u32 = 0x8002_0808;
const BYTE_COUNT: u32 = 0x8002_0a08;
const WHAT: &str = "statistics";

/// All that can be said. A counter of all ones is one that the switch does not tell, as in Open vSwitch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stats {
    pub(super) duration: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) packet_count: u64,
    pub(super) byte_count: u64,
    pub(super) flow_count: Option<u32>,
}

impl Stats {
    pub(super) const NONE: Self =
        Self { duration: None, idle: None, packet_count: u64::MAX, byte_count: u64::MAX, flow_count: None };

    /// Fields that are not known here are left out.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (_, mut body) = r.structure(WHAT, |_| true)?;
        r.skip_padding(4 + body.len());
        let mut stats = Self::NONE;
        while !body.is_empty() {
            let header = body.u32()?;
            let mut value = body.sub((header & 0xff) as usize, WHAT)?;
            match header {
                DURATION => stats.duration = Some(decode_duration(&mut value)?),
                IDLE_TIME => stats.idle = Some(decode_duration(&mut value)?),
                PACKET_COUNT => stats.packet_count = value.u64()?,
                BYTE_COUNT => stats.byte_count = value.u64()?,
                FLOW_COUNT => stats.flow_count = Some(value.u32()?),
                _ => {}
            }
        }
        Ok(stats)
    }

    /// The order is Open vSwitch's (`oxs_put_stats()` in `lib/ox-stat.c`).
    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.pos();
        w.zeros(2);
        w.later();
        for (header, duration) in [(DURATION, self.duration), (IDLE_TIME, self.idle)] {
            if let Some(duration) = duration {
                w.u32(header);
                encode_duration(duration, w);
            }
        }
        for (header, count) in [(PACKET_COUNT, self.packet_count), (BYTE_COUNT, self.byte_count)] {
            if count != u64::MAX {
                w.u32(header);
                w.u64(count);
            }
        }
        if let Some(count) = self.flow_count {
            w.u32(FLOW_COUNT);
            w.u32(count);
        }
        w.patch_len(from + 2, from, WHAT);
        w.pad(from);
    }

    #[inline]
    pub(super) fn of_flow(self, flow: Flow) -> FlowStats {
        let Self { duration, idle, packet_count, byte_count, .. } = self;
        FlowStats { flow, duration: duration.unwrap_or(UNKNOWN), idle, packet_count, byte_count }
    }
}

/// A duration that the switch does not tell, as Open vSwitch prints it.
const UNKNOWN: Duration = Duration::new(0xffff_ffff, 999_999_999);

pub(super) fn encode_flow_stats(stats: &FlowStats, w: &mut Writer<impl Sink>) {
    let &FlowStats { duration, idle, packet_count, byte_count, .. } = stats;
    let duration = Some(duration).filter(|&duration| duration != UNKNOWN);
    Stats { duration, idle, packet_count, byte_count, flow_count: None }.encode(w);
}
