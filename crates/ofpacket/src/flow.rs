//! A flow: what a table holds.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::Match;
use crate::action::{Action, write_list, write_metadata};
use crate::instruction::Instruction;
use crate::match_text;

/// The priority that `ovs-ofctl` leaves out of its text.
pub(crate) const DEFAULT_PRIORITY: u16 = 0x8000;

/// The flags by name.
pub(crate) const FLAGS: [(&str, u16); 5] = [
    ("send_flow_rem", Flow::SEND_FLOW_REM),
    ("check_overlap", Flow::CHECK_OVERLAP),
    ("reset_counts", Flow::RESET_COUNTS),
    ("no_packet_counts", Flow::NO_PKT_COUNTS),
    ("no_byte_counts", Flow::NO_BYT_COUNTS),
];

/// A flow table entry, without its statistics (OpenFlow 1.5, section 5.2).
///
/// The text is `ovs-ofctl dump-flows --no-names --no-stats`'s:
///
/// ```
/// use ofpacket::{Action, Flow, Match, OxmField};
///
/// let flow = Flow::new(65, 100, Match::new().with(OxmField::reg(15), 2u32), vec![Action::output(5u32)]);
/// assert_eq!(flow.with_cookie(1).to_string(), " cookie=0x1, table=65, priority=100,reg15=0x2 actions=output:5");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Which table.
    pub table_id: u8,
    /// The highest matching one wins.
    pub priority: u16,
    /// Whatever its owner says.
    pub cookie: u64,
    /// Seconds without a packet until it goes; 0 for never.
    pub idle_timeout: u16,
    /// Seconds until it goes; 0 for never.
    pub hard_timeout: u16,
    /// What may be evicted first.
    pub importance: u16,
    /// [`Flow::SEND_FLOW_REM`] and others.
    pub flags: u16,
    /// What it matches.
    pub match_: Match,
    /// What it does.
    pub instructions: Vec<Instruction>,
}

/// What makes a flow that very one: a table holds one flow of each key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Which table.
    pub table_id: u8,
    /// Its priority.
    pub priority: u16,
    /// Its match in normal form; kept so by [`Flow::key`].
    match_: Match,
}

impl FlowKey {
    /// The match in normal form.
    pub fn match_(&self) -> &Match {
        &self.match_
    }
}

impl Flow {
    /// `OFPFF_SEND_FLOW_REM`: tell the controllers when it goes.
    pub const SEND_FLOW_REM: u16 = 1;
    /// `OFPFF_CHECK_OVERLAP`: refuse it if it overlaps another of the same priority.
    pub const CHECK_OVERLAP: u16 = 2;
    /// `OFPFF_RESET_COUNTS`: begin to count anew.
    pub const RESET_COUNTS: u16 = 4;
    /// `OFPFF_NO_PKT_COUNTS`.
    pub const NO_PKT_COUNTS: u16 = 8;
    /// `OFPFF_NO_BYT_COUNTS`.
    pub const NO_BYT_COUNTS: u16 = 16;

    /// A flow that applies the actions; with none of them it drops.
    pub fn new(table_id: u8, priority: u16, match_: Match, actions: Vec<Action>) -> Self {
        let instructions =
            if actions.is_empty() { Vec::new() } else { vec![Instruction::ApplyActions(actions)] };
        Self {
            table_id,
            priority,
            cookie: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            flags: 0,
            match_,
            instructions,
        }
    }

    /// With this cookie.
    #[must_use]
    pub fn with_cookie(self, cookie: u64) -> Self {
        Self { cookie, ..self }
    }

    /// The actions that it applies.
    pub fn actions(&self) -> &[Action] {
        self.instructions
            .iter()
            .find_map(|instruction| match instruction {
                Instruction::ApplyActions(actions) => Some(&actions[..]),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// What it is identified by.
    pub fn key(&self) -> FlowKey {
        FlowKey { table_id: self.table_id, priority: self.priority, match_: self.match_.canonical() }
    }

    /// Whether a switch that holds this flow does what it would do with the other: the same key, cookie,
    /// timeouts and instructions, however they are written.
    pub fn same_as(&self, other: &Self) -> bool {
        (self.cookie, self.idle_timeout, self.hard_timeout)
            == (other.cookie, other.idle_timeout, other.hard_timeout)
            && self.key() == other.key()
            && self.canonical_instructions() == other.canonical_instructions()
    }

    /// In the order in which a switch executes them, without those that do nothing.
    fn canonical_instructions(&self) -> Vec<Instruction> {
        let mut out: Vec<_> = self.instructions.iter().map(Instruction::canonical).collect();
        let idle = |instruction: &Instruction| match instruction {
            Instruction::ApplyActions(actions) | Instruction::WriteActions(actions) => actions.is_empty(),
            _ => false,
        };
        out.retain(|instruction| !idle(instruction));
        out.sort_by_key(rank);
        out
    }
}

/// The order of execution (OpenFlow 1.5, section 5.5).
pub(crate) fn rank(instruction: &Instruction) -> u16 {
    match instruction {
        Instruction::Meter(_) => 0,
        Instruction::ApplyActions(_) => 1,
        Instruction::ClearActions => 2,
        Instruction::WriteActions(_) => 3,
        Instruction::WriteMetadata { .. } => 4,
        Instruction::GotoTable(_) => 5,
        Instruction::Other { .. } => 6,
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char(' ')?;
        if self.cookie != 0 {
            write!(f, "cookie={:#x}, ", self.cookie)?;
        }
        if self.table_id != 0 {
            write!(f, "table={}, ", self.table_id)?;
        }
        for (name, seconds) in [("idle_timeout", self.idle_timeout), ("hard_timeout", self.hard_timeout)] {
            if seconds != 0 {
                write!(f, "{name}={seconds}, ")?;
            }
        }
        for (name, _) in FLAGS.iter().filter(|(_, flag)| self.flags & flag != 0) {
            write!(f, "{name} ")?;
        }
        if self.importance != 0 {
            write!(f, "importance={}, ", self.importance)?;
        }
        let mut match_ = match_text::text(&self.match_);
        if self.priority != DEFAULT_PRIORITY {
            let comma = if match_.is_empty() { "" } else { "," };
            match_ = format!("priority={}{comma}{match_}", self.priority);
        }
        if !match_.is_empty() {
            write!(f, "{match_} ")?;
        }
        f.write_str("actions=")?;
        write_instructions(f, &self.instructions)
    }
}

fn write_instructions(f: &mut fmt::Formatter<'_>, instructions: &[Instruction]) -> fmt::Result {
    let mut sorted: Vec<_> = instructions
        .iter()
        .filter(|i| !matches!(i, Instruction::ApplyActions(actions) if actions.is_empty()))
        .collect();
    if sorted.is_empty() {
        return f.write_str("drop");
    }
    sorted.sort_by_key(|instruction| rank(instruction));
    let mut comma = "";
    for instruction in sorted {
        f.write_str(std::mem::replace(&mut comma, ","))?;
        match instruction {
            Instruction::Meter(id) => write!(f, "meter:{id}")?,
            Instruction::ApplyActions(actions) => write_list(f, actions)?,
            Instruction::ClearActions => f.write_str("clear_actions")?,
            Instruction::WriteActions(actions) => {
                f.write_str("write_actions(")?;
                write_list(f, actions)?;
                f.write_str(")")?;
            }
            Instruction::WriteMetadata { metadata, mask } => write_metadata(f, *metadata, *mask)?,
            Instruction::GotoTable(table) => write!(f, "goto_table:{table}")?,
            Instruction::Other { kind, .. } => write!(f, "instruction:{kind}")?,
        }
    }
    Ok(())
}

/// A flow and what it has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStats {
    /// The flow.
    pub flow: Flow,
    /// How long it has been there.
    pub duration: Duration,
    /// How long ago it last matched a packet, if the switch says so.
    pub idle: Option<Duration>,
    /// Packets that matched.
    pub packet_count: u64,
    /// Bytes of these packets.
    pub byte_count: u64,
}
