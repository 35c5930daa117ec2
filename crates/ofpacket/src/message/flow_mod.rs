//! Changing the flow tables, and the news that a flow went.

use std::time::Duration;

use super::multipart::{decode_stats, encode_stats};
use super::{GROUP_ANY, NO_BUFFER, TABLE_ALL};
use crate::flow::{Flow, FlowStats};
use crate::instruction::Instruction;
use crate::wire::{Reader, Result, Writer};
use crate::{Match, PortNo};

/// What to do with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlowModCommand {
    /// Add it, in place of one with the same key.
    Add,
    /// Change the instructions of all that it covers.
    Modify,
    /// Change the instructions of the one with the same key.
    ModifyStrict,
    /// Remove all that it covers.
    Delete,
    /// Remove the one with the same key.
    DeleteStrict,
    /// Any other number.
    Other(u8),
}

impl FlowModCommand {
    fn from_wire(command: u8) -> Self {
        match command {
            0 => Self::Add,
            1 => Self::Modify,
            2 => Self::ModifyStrict,
            3 => Self::Delete,
            4 => Self::DeleteStrict,
            other => Self::Other(other),
        }
    }

    fn to_wire(self) -> u8 {
        match self {
            Self::Add => 0,
            Self::Modify => 1,
            Self::ModifyStrict => 2,
            Self::Delete => 3,
            Self::DeleteStrict => 4,
            Self::Other(other) => other,
        }
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

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
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
        let mut stats =
            FlowStats { flow, duration: Duration::ZERO, idle: None, packet_count: 0, byte_count: 0 };
        decode_stats(r, &mut stats)?;
        Ok(Self { reason, stats })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        let flow = &self.stats.flow;
        w.u8(flow.table_id);
        w.u8(self.reason);
        w.u16(flow.priority);
        w.u16(flow.idle_timeout);
        w.u16(flow.hard_timeout);
        w.u64(flow.cookie);
        flow.match_.encode(w);
        encode_stats(&self.stats, w);
    }
}
