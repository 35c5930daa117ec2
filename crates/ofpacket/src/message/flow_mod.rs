//! Changing the flow tables, and the news that a flow went.

use std::fmt::{self, Write};

use super::common::{decode_duration, encode_duration};
use super::oxs::{self, Stats};
use super::text::{self, name_or_number};
use super::{GROUP_ANY, NO_BUFFER, TABLE_ALL};
use crate::flow::{Flow, FlowStats};
use crate::instruction::Instruction;
use crate::wire::{Reader, Result, Sink, Writer};
use crate::{Match, PortNo};

wire_enum! {
    /// What to do with a flow.
    FlowModCommand: u8 {
        /// Add it, in place of one with the same key.
        Add = 0 "ADD",
        /// Change the instructions of all that it covers.
        Modify = 1 "MOD",
        /// Change the instructions of the one with the same key.
        ModifyStrict = 2 "MOD_STRICT",
        /// Remove all that it covers.
        Delete = 3 "DEL",
        /// Remove the one with the same key.
        DeleteStrict = 4 "DEL_STRICT",
    }
}

/// Change the flow tables (OpenFlow 1.5, section 7.3.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// To change or remove: the bits of the cookie that must be equal.
    pub cookie_mask: u64,
    /// [`NO_BUFFER`], or a buffered packet to send through the flow.
    pub buffer_id: u32,
    /// To remove: only flows that output there. [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// To remove: only flows that use this group. [`GROUP_ANY`] for all.
    pub out_group: u32,
    /// The flow.
    pub flow: Flow,
}

impl FlowMod {
    fn new(command: FlowModCommand, flow: Flow) -> Self {
        Self {
            command,
            cookie_mask: 0,
            buffer_id: NO_BUFFER,
            out_port: PortNo::ANY,
            out_group: GROUP_ANY,
            flow,
        }
    }

    /// Add the flow, in place of one with the same key.
    pub fn add(flow: Flow) -> Self {
        Self::new(FlowModCommand::Add, flow)
    }

    /// Remove the flow with the same key, but only if it has the same cookie.
    pub fn delete_strict(flow: &Flow) -> Self {
        let flow = Flow { instructions: Vec::new(), ..flow.clone() };
        Self { cookie_mask: u64::MAX, ..Self::new(FlowModCommand::DeleteStrict, flow) }
    }

    /// Remove, from all tables, the flows whose cookie agrees in the bits of `mask`.
    pub fn delete_by_cookie(cookie: u64, mask: u64) -> Self {
        let flow = Flow::new(TABLE_ALL, 0, Match::new(), Vec::new()).with_cookie(cookie);
        Self { cookie_mask: mask, ..Self::new(FlowModCommand::Delete, flow) }
    }

    /// ```text
    /// +--------+-------------+-------+---------+------+------+----------+-----------+
    /// | cookie | cookie_mask | table | command | idle | hard | priority | buffer_id |
    /// +--------+--+----------+-+-----+-+-------+----+-+------+-----+----+-----------+
    /// | out_port  | out_group  | flags | importance | match        | instructions   |
    /// +-----------+------------+-------+------------+--------------+----------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (cookie, cookie_mask, table_id) = (r.u64()?, r.u64()?, r.u8()?);
        let command = FlowModCommand::from_wire(r.u8()?);
        let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
        let (buffer_id, out_port, out_group) = (r.u32()?, PortNo(r.u32()?), r.u32()?);
        let (flags, importance) = (r.u16()?, r.u16()?);
        let match_ = Match::decode(r)?;
        let instructions = Instruction::decode_all(r.sub(r.len(), "instruction")?)?;
        let flow = Flow {
            table_id,
            priority,
            cookie,
            idle_timeout,
            hard_timeout,
            importance,
            flags,
            match_,
            instructions,
        };
        Ok(Self { command, cookie_mask, buffer_id, out_port, out_group, flow })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let flow = &self.flow;
        w.u64(flow.cookie);
        w.u64(self.cookie_mask);
        w.u8(flow.table_id);
        w.u8(self.command.to_wire());
        w.u16(flow.idle_timeout);
        w.u16(flow.hard_timeout);
        w.u16(flow.priority);
        w.u32(self.buffer_id);
        w.u32(self.out_port.0);
        w.u32(self.out_group);
        w.u16(flow.flags);
        w.u16(flow.importance);
        flow.match_.encode(w);
        flow.instructions.iter().for_each(|instruction| instruction.encode(w));
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let (flow, add) = (&self.flow, self.command == FlowModCommand::Add);
        match self.command {
            FlowModCommand::Other(command) => write!(out, " cmd:{command}")?,
            command => write!(out, " {command}")?,
        }
        if flow.table_id != 0 {
            write!(out, " table:{}", flow.table_id)?;
        }
        let match_ = text::prioritised(flow.priority, &flow.match_);
        write!(out, " {match_}{}", if match_.is_empty() { "" } else { " " })?;
        if add && flow.cookie != 0 && flow.cookie != u64::MAX {
            write!(out, "cookie:{:#x} ", flow.cookie)?;
        }
        if !add && self.cookie_mask != 0 {
            write!(out, "cookie:{:#x}/{:#x} ", flow.cookie, self.cookie_mask)?;
        }
        for (name, n) in [("idle", flow.idle_timeout), ("hard", flow.hard_timeout)] {
            if n != 0 {
                write!(out, "{name}:{n} ")?;
            }
        }
        if add && flow.importance != 0 {
            write!(out, "importance:{} ", flow.importance)?;
        }
        if self.buffer_id != NO_BUFFER {
            write!(out, "buf:{:#x} ", self.buffer_id)?;
        }
        if self.out_port != PortNo::ANY {
            write!(out, "out_port:{} ", self.out_port)?;
        }
        let flags = Flow { flags: flow.flags, ..Flow::new(0, 0, Match::new(), Vec::new()) };
        write!(out, "{}{}", text::limits(&flags), text::instructions(&flow.instructions))
    }
}

/// A flow went (OpenFlow 1.5, section 7.4.2). Its instructions are not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRemoved {
    /// `ofp_flow_removed_reason`: 0 idle, 1 hard timeout, 2 deleted, 3 its group, 4 its meter, 5 evicted.
    pub reason: u8,
    /// The flow, and what it had done.
    pub stats: FlowStats,
}

impl FlowRemoved {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (table_id, reason, priority) = (r.u8()?, r.u8()?, r.u16()?);
        let (idle_timeout, hard_timeout, cookie) = (r.u16()?, r.u16()?, r.u64()?);
        let flow = Flow {
            cookie,
            idle_timeout,
            hard_timeout,
            ..Flow::new(table_id, priority, Match::decode(r)?, Vec::new())
        };
        Ok(Self { reason, stats: Stats::decode(r)?.of_flow(flow) })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let flow = &self.stats.flow;
        w.u8(flow.table_id);
        w.u8(self.reason);
        w.u16(flow.priority);
        w.u16(flow.idle_timeout);
        w.u16(flow.hard_timeout);
        w.u64(flow.cookie);
        flow.match_.encode(w);
        oxs::encode_flow_stats(&self.stats, w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        removed_text(out, self.reason, &self.stats)
    }
}

/// The names of `ofp_flow_removed_reason`.
pub(super) const FLOW_REMOVED_REASONS: [&str; 6] =
    ["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"];

fn removed_text(out: &mut String, reason: u8, stats: &FlowStats) -> fmt::Result {
    let FlowStats { flow, duration, packet_count, byte_count, .. } = stats;
    write!(out, " {}", text::prioritised(flow.priority, &flow.match_))?;
    write!(out, " reason={}", name_or_number(&FLOW_REMOVED_REASONS, reason.into()))?;
    if flow.table_id != TABLE_ALL {
        write!(out, " table_id={}", flow.table_id)?;
    }
    if flow.cookie != 0 {
        write!(out, " cookie:{:#x}", flow.cookie)?;
    }
    out.write_str(" duration")?;
    text::duration(out, *duration)?;
    write!(out, " idle{}", flow.idle_timeout)?;
    if flow.hard_timeout != 0 {
        write!(out, " hard{}", flow.hard_timeout)?;
    }
    writeln!(out, " pkts{packet_count} bytes{byte_count}")
}

/// A flow went, in Open vSwitch's older form (`NXT_FLOW_REMOVED`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NxFlowRemoved {
    /// `ofp_flow_removed_reason`.
    pub reason: u8,
    /// The flow, without hard timeout, and what it had done. Table 255 stands for one that is not told.
    pub stats: FlowStats,
}

impl NxFlowRemoved {
    /// ```text
    /// +--------+----------+--------+-----------+----------+------+-----------+---------+-------+
    /// | cookie | priority | reason | table + 1 | duration | idle | match_len | packets | bytes |
    /// +--------+----------+--------+-----------+----------+------+-----------+---------+-------+
    /// | match fields, padded to 8                                                              |
    /// +----------------------------------------------------------------------------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (cookie, priority, reason) = (r.u64()?, r.u16()?, r.u8()?);
        let table_id = r.u8()?.wrapping_sub(1);
        let duration = decode_duration(r)?;
        let (idle_timeout, match_len) = (r.u16()?, r.u16()?);
        let (packet_count, byte_count) = (r.u64()?, r.u64()?);
        let match_ = decode_nx_match(r, match_len)?;
        let flow = Flow { cookie, idle_timeout, ..Flow::new(table_id, priority, match_, Vec::new()) };
        Ok(Self { reason, stats: FlowStats { flow, duration, idle: None, packet_count, byte_count } })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let FlowStats { flow, duration, packet_count, byte_count, .. } = &self.stats;
        w.u64(flow.cookie);
        w.u16(flow.priority);
        w.u8(self.reason);
        w.u8(flow.table_id.wrapping_add(1));
        encode_duration(*duration, w);
        w.u16(flow.idle_timeout);
        let len_at = w.later();
        w.u64(*packet_count);
        w.u64(*byte_count);
        encode_nx_match(&flow.match_, len_at, w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        removed_text(out, self.reason, &self.stats)
    }
}

/// Match fields of this length, and the zeros behind them.
pub(super) fn decode_nx_match(r: &mut Reader<'_>, len: u16) -> Result<Match> {
    let len = usize::from(len);
    let fields = r.sub(len, "match")?;
    r.skip_padding(len);
    Match::decode_fields(fields)
}

/// Match fields, their length at `len_at`, and the zeros behind them.
pub(super) fn encode_nx_match(match_: &Match, len_at: usize, w: &mut Writer<impl Sink>) {
    let from = w.pos();
    match_.encode_fields(w);
    w.patch_len(len_at, from, "match");
    w.pad(from);
}
