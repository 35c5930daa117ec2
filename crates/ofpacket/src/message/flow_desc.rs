//! Questions about flows, and flows with what they have done.

use std::fmt::{self, Write};

use super::common::entry;
use super::oxs::{self, Stats};
use super::text::{self, Count};
use super::{GROUP_ANY, TABLE_ALL};
use crate::flow::{Flow, FlowStats};
use crate::instruction::Instruction;
use crate::wire::{Reader, Result, Sink, Writer};
use crate::{Match, PortNo};

/// Which flows to tell of (OpenFlow 1.5, sections 7.3.5.2 and 7.3.5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowDescRequest {
    /// From this table, or [`TABLE_ALL`].
    pub table_id: u8,
    /// Only those that output there; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Only those that use this group; [`GROUP_ANY`] for all.
    pub out_group: u32,
    /// The cookie's bits.
    pub cookie: u64,
    /// Which of them count.
    pub cookie_mask: u64,
    /// Only those at least as specific.
    pub match_: Match,
}

impl Default for FlowDescRequest {
    /// All flows.
    fn default() -> Self {
        Self {
            table_id: TABLE_ALL,
            out_port: PortNo::ANY,
            out_group: GROUP_ANY,
            cookie: 0,
            cookie_mask: 0,
            match_: Match::new(),
        }
    }
}

impl FlowDescRequest {
    /// ```text
    /// +----------+---+----------+-----------+---+--------+-------------+-------+
    /// | table_id | 0 | out_port | out_group | 0 | cookie | cookie_mask | match |
    /// +----------+---+----------+-----------+---+--------+-------------+-------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let table_id = r.u8()?;
        r.skip(3)?;
        let (out_port, out_group) = (PortNo(r.u32()?), r.u32()?);
        r.skip(4)?;
        let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
        Ok(Self { table_id, out_port, out_group, cookie, cookie_mask, match_: Match::decode(r)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u8(self.table_id);
        w.zeros(3);
        w.u32(self.out_port.0);
        w.u32(self.out_group);
        w.zeros(4);
        w.u64(self.cookie);
        w.u64(self.cookie_mask);
        self.match_.encode(w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        if self.table_id != TABLE_ALL {
            write!(out, " table={}", self.table_id)?;
        }
        if self.out_port != PortNo::ANY {
            write!(out, " out_port={}", self.out_port)?;
        }
        write!(out, " {}", self.match_)
    }
}

const WHAT: &str = "flow description";

/// A flow with its statistics (OpenFlow 1.5, section 7.3.5.2, `ofp_flow_desc`).
///
/// ```text
/// +--------+---+-------+---+----------+------+------+-------+------------+--------+
/// | length | 0 | table | 0 | priority | idle | hard | flags | importance | cookie |
/// +--------+---+-------+---+----------+------+------+-------+------------+--------+
/// | match               | statistics              | instructions                  |
/// +---------------------+-------------------------+-------------------------------+
/// ```
pub(super) fn decode_flow(r: &mut Reader<'_>) -> Result<FlowStats> {
    let mut r = entry(r, 4, 24, WHAT)?;
    let table_id = r.u8()?;
    r.skip(1)?;
    let (priority, idle_timeout, hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let (flags, importance, cookie) = (r.u16()?, r.u16()?, r.u64()?);
    let match_ = Match::decode(&mut r)?;
    let stats = Stats::decode(&mut r)?;
    let instructions = Instruction::decode_all(r)?;
    Ok(stats.of_flow(Flow {
        table_id,
        priority,
        cookie,
        idle_timeout,
        hard_timeout,
        importance,
        flags,
        match_,
        instructions,
    }))
}

pub(super) fn encode_flow(stats: &FlowStats, w: &mut Writer<impl Sink>) {
    let flow = &stats.flow;
    let from = w.later();
    w.zeros(2);
    w.u8(flow.table_id);
    w.u8(0);
    w.u16(flow.priority);
    w.u16(flow.idle_timeout);
    w.u16(flow.hard_timeout);
    w.u16(flow.flags);
    w.u16(flow.importance);
    w.u64(flow.cookie);
    flow.match_.encode(w);
    oxs::encode_flow_stats(stats, w);
    flow.instructions.iter().for_each(|instruction| instruction.encode(w));
    w.patch_len(from, from, WHAT);
}

pub(super) fn flow_text(stats: &FlowStats, out: &mut String) -> fmt::Result {
    let FlowStats { flow, duration, idle, packet_count, byte_count } = stats;
    write!(out, "\n cookie={:#x}, duration=", flow.cookie)?;
    text::duration(out, *duration)?;
    let (packets, bytes) = (Count(*packet_count), Count(*byte_count));
    write!(out, ", table={}, n_packets={packets}, n_bytes={bytes}, ", flow.table_id)?;
    out.write_str(&text::limits(flow))?;
    if let Some(idle) = idle {
        write!(out, "idle_age={}, ", idle.as_secs())?;
    }
    let match_ = text::prioritised(flow.priority, &flow.match_);
    let space = if match_.is_empty() { "" } else { " " };
    write!(out, "{match_}{space}{}", text::instructions(&flow.instructions))
}

/// What flows have done, all together (OpenFlow 1.5, section 7.3.5.3).
///
/// ```text
/// +------------+
/// | statistics |
/// +------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregateStats {
    /// Packets that matched; all ones if the switch does not know.
    pub packet_count: u64,
    /// Bytes of these packets; all ones if the switch does not know.
    pub byte_count: u64,
    /// Flows.
    pub flow_count: u32,
}

impl AggregateStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let Stats { packet_count, byte_count, flow_count, .. } = Stats::decode(r)?;
        Ok(Self { packet_count, byte_count, flow_count: flow_count.unwrap_or(u32::MAX) })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let Self { packet_count, byte_count, flow_count } = *self;
        let flow_count = Some(flow_count).filter(|&count| count != u32::MAX);
        Stats { packet_count, byte_count, flow_count, ..Stats::NONE }.encode(w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let Self { packet_count, byte_count, flow_count } = self;
        write!(out, " packet_count={packet_count} byte_count={byte_count} flow_count={flow_count}")
    }
}
