//! Being told of flows as they change (OpenFlow 1.5, sections 7.3.5.17 and 7.3.5.18). Open vSwitch has it
//! since 3.0.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::common::entry;
use super::flow_mod::FLOW_REMOVED_REASONS;
use super::text::{self, Hex};
use super::{GROUP_ANY, TABLE_ALL};
use crate::flow::Flow;
use crate::instruction::Instruction;
use crate::wire::{Reader, Result, Sink, Writer};
use crate::{Match, PortNo};

wire_enum! {
    /// What to do with a monitor.
    FlowMonitorCommand: u8 {
        /// Make it.
        Add = 0 "add",
        /// Change it.
        Modify = 1 "modify",
        /// End it.
        Delete = 2 "delete",
    }
}

/// Tell me of these flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowMonitorRequest {
    /// The controller's number for it.
    pub monitor_id: u32,
    /// Only flows that output there; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Only flows that use this group; [`GROUP_ANY`] for all.
    pub out_group: u32,
    /// Which events, and how much of them: [`FlowMonitorRequest::INITIAL`] and others.
    pub flags: u16,
    /// In this table, or [`TABLE_ALL`].
    pub table_id: u8,
    /// What to do.
    pub command: FlowMonitorCommand,
    /// Only flows at least as specific.
    pub match_: Match,
}

impl FlowMonitorRequest {
    /// The flows that are there now.
    pub const INITIAL: u16 = 1;
    /// Flows that are added.
    pub const ADD: u16 = 2;
    /// Flows that go.
    pub const REMOVED: u16 = 4;
    /// Flows that change.
    pub const MODIFY: u16 = 8;
    /// With their instructions.
    pub const INSTRUCTIONS: u16 = 16;
    /// One's own changes in full too. Open vSwitch refuses it (`lib/ofp-monitor.c`, BAD_FLAGS), and takes
    /// [`ONLY_OWN`](Self::ONLY_OWN) for it.
    pub const NO_ABBREV: u16 = 32;
    /// One's own changes only; in Open vSwitch, one's own changes in full too.
    pub const ONLY_OWN: u16 = 64;

    /// Everything about all flows of all tables; changes made on the same connection come abbreviated.
    pub fn everything(monitor_id: u32) -> Self {
        Self::in_table(monitor_id, TABLE_ALL)
    }

    /// Everything about all flows of one table.
    pub fn in_table(monitor_id: u32, table_id: u8) -> Self {
        Self {
            monitor_id,
            out_port: PortNo::ANY,
            out_group: GROUP_ANY,
            flags: Self::INITIAL | Self::ADD | Self::REMOVED | Self::MODIFY | Self::INSTRUCTIONS,
            table_id,
            command: FlowMonitorCommand::Add,
            match_: Match::new(),
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            monitor_id: r.u32()?,
            out_port: PortNo(r.u32()?),
            out_group: r.u32()?,
            flags: r.u16()?,
            table_id: r.u8()?,
            command: FlowMonitorCommand::from_wire(r.u8()?),
            match_: Match::decode(r)?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.monitor_id);
        w.u32(self.out_port.0);
        w.u32(self.out_group);
        w.u16(self.flags);
        w.u8(self.table_id);
        w.u8(self.command.to_wire());
        self.match_.encode(w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, "\n id={}", self.monitor_id)?;
        if self.command == FlowMonitorCommand::Delete {
            return write!(out, " command={}", self.command);
        }
        out.write_str(" flags=")?;
        const FLAGS: [&str; 7] = ["initial", "add", "delete", "modify", "actions", "no-abbrev", "own"];
        let names: Vec<_> = FLAGS.iter().enumerate().map(|(i, &name)| (1 << i, name)).collect();
        text::bits(out, self.flags.into(), &names, ',')?;
        if self.out_port != PortNo::ANY {
            write!(out, " out_port={}", self.out_port)?;
        }
        if self.out_group != 0 && self.out_group != GROUP_ANY {
            // Open vSwitch prints it as a signed number.
            write!(out, " out_group={}", self.out_group.cast_signed())?;
        }
        if self.table_id != TABLE_ALL {
            write!(out, " table={}", self.table_id)?;
        }
        let match_ = self.match_.to_string();
        if match_.is_empty() { Ok(()) } else { write!(out, " {match_}") }
    }
}

/// What a monitor saw.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlowUpdate {
    /// A flow.
    Full {
        /// What happened to it.
        event: FlowUpdateEvent,
        /// If it was removed, why: `ofp_flow_removed_reason`.
        reason: u8,
        /// The flow. Flags and importance are not told; instructions may be missing if it was removed.
        flow: Flow,
    },
    /// A change that this connection asked for itself.
    Abbrev {
        /// In this request.
        xid: u32,
    },
    /// The connection is too slow: only what changes in flows told before is told, until resumed.
    Paused,
    /// What was left out has been told now.
    Resumed,
    /// Any other, as it was.
    Other {
        /// `ofp_flow_update_event`.
        event: u16,
        /// What follows the event.
        body: Bytes,
    },
}

/// What happened to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowUpdateEvent {
    /// It was there when the monitor was made.
    Initial,
    /// It was added.
    Added,
    /// It went.
    Removed,
    /// Its instructions changed.
    Modified,
}

const ABBREV: u16 = 4;
const PAUSED: u16 = 5;
const RESUMED: u16 = 6;
const WHAT: &str = "flow update";

impl FlowUpdate {
    /// ```text
    /// +--------+-------+-------+--------+------+------+----------+---+--------+
    /// | length | event | table | reason | idle | hard | priority | 0 | cookie |
    /// +--------+-------+-------+--------+------+------+----------+---+--------+
    /// | match                           | instructions                        |
    /// +---------------------------------+-------------------------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry(r, 2, 8, WHAT)?;
        let event = match r.u16()? {
            0 => FlowUpdateEvent::Initial,
            1 => FlowUpdateEvent::Added,
            2 => FlowUpdateEvent::Removed,
            3 => FlowUpdateEvent::Modified,
            ABBREV => return Ok(Self::Abbrev { xid: r.u32()? }),
            PAUSED => return Ok(Self::Paused),
            RESUMED => return Ok(Self::Resumed),
            event => return Ok(Self::Other { event, body: r.rest() }),
        };
        let (table_id, reason) = (r.u8()?, r.u8()?);
        let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
        r.skip(4)?;
        let cookie = r.u64()?;
        let match_ = Match::decode(&mut r)?;
        let instructions = Instruction::decode_all(r)?;
        let flow = Flow {
            cookie,
            idle_timeout,
            hard_timeout,
            instructions,
            ..Flow::new(table_id, priority, match_, Vec::new())
        };
        Ok(Self::Full { event, reason, flow })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        match self {
            Self::Full { event, reason, flow } => {
                w.u16(match event {
                    FlowUpdateEvent::Initial => 0,
                    FlowUpdateEvent::Added => 1,
                    FlowUpdateEvent::Removed => 2,
                    FlowUpdateEvent::Modified => 3,
                });
                w.u8(flow.table_id);
                w.u8(*reason);
                w.u16(flow.idle_timeout);
                w.u16(flow.hard_timeout);
                w.u16(flow.priority);
                w.zeros(4);
                w.u64(flow.cookie);
                flow.match_.encode(w);
                flow.instructions.iter().for_each(|instruction| instruction.encode(w));
            }
            Self::Abbrev { xid } => {
                w.u16(ABBREV);
                w.u32(*xid);
            }
            Self::Paused | Self::Resumed => {
                w.u16(if *self == Self::Paused { PAUSED } else { RESUMED });
                w.zeros(4);
            }
            Self::Other { event, body } => {
                w.u16(*event);
                w.slice(body);
            }
        }
        w.patch_len(from, from, WHAT);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        out.write_str("\n event=")?;
        let flow = match self {
            Self::Full { event, reason, flow } => {
                match event {
                    FlowUpdateEvent::Initial => out.write_str("INITIAL")?,
                    FlowUpdateEvent::Added => out.write_str("ADDED")?,
                    FlowUpdateEvent::Modified => out.write_str("MODIFIED")?,
                    FlowUpdateEvent::Removed => {
                        let reason = text::name_or_number(&FLOW_REMOVED_REASONS, (*reason).into());
                        write!(out, "DELETED reason={reason}")?;
                    }
                }
                flow
            }
            Self::Abbrev { xid } => return write!(out, "ABBREV xid={xid:#x}"),
            Self::Paused => return out.write_str("PAUSED"),
            Self::Resumed => return out.write_str("RESUMED"),
            Self::Other { event, .. } => return write!(out, "{event}"),
        };
        write!(out, " table={}", flow.table_id)?;
        for (name, seconds) in [("idle_timeout", flow.idle_timeout), ("hard_timeout", flow.hard_timeout)] {
            if seconds != 0 {
                write!(out, " {name}={seconds}")?;
            }
        }
        write!(out, " cookie={} {}", Hex(flow.cookie), flow.match_)?;
        if flow.instructions.is_empty() {
            return Ok(());
        }
        write!(out, "{}{}", if out.ends_with(' ') { "" } else { " " }, text::instructions(&flow.instructions))
    }
}
