//! What groups have done, and what they can do.

use std::fmt::{self, Write};
use std::time::Duration;

use super::common::{decode_age, decode_all, encode_age, entry};
use super::table_features::action_names;
use super::text::{self, Hex};
use crate::wire::{Reader, Result, Sink, Writer};

/// What a group has done (OpenFlow 1.5, section 7.3.5.10).
///
/// ```text
/// +--------+---+----------+-----------+---+--------------+------------+----------+
/// | length | 0 | group_id | ref_count | 0 | packet_count | byte_count | duration |
/// +--------+---+----------+-----------+---+--------------+------------+----------+
/// | packets and bytes of each bucket ...                                         |
/// +------------------------------------------------------------------------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStats {
    /// Which one.
    pub group_id: u32,
    /// Flows and groups that use it.
    pub ref_count: u32,
    /// Packets that it took.
    pub packet_count: u64,
    /// Bytes of these packets.
    pub byte_count: u64,
    /// How long it has been there, if the switch knows.
    pub duration: Option<Duration>,
    /// Packets and bytes of each bucket; all ones if the switch does not know.
    pub buckets: Vec<(u64, u64)>,
}

const WHAT: &str = "group statistics";

impl GroupStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry(r, 4, 40, WHAT)?;
        let (group_id, ref_count) = (r.u32()?, r.u32()?);
        r.skip(4)?;
        Ok(Self {
            group_id,
            ref_count,
            packet_count: r.u64()?,
            byte_count: r.u64()?,
            duration: decode_age(&mut r)?,
            buckets: decode_all(&mut r, |r| Ok((r.u64()?, r.u64()?)))?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        w.zeros(2);
        w.u32(self.group_id);
        w.u32(self.ref_count);
        w.zeros(4);
        w.u64(self.packet_count);
        w.u64(self.byte_count);
        encode_age(self.duration, w);
        for &(packets, bytes) in &self.buckets {
            w.u64(packets);
            w.u64(bytes);
        }
        w.patch_len(from, from, WHAT);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, "\n group_id={},", self.group_id)?;
        if let Some(duration) = self.duration {
            out.write_str("duration=")?;
            text::duration(out, duration)?;
            out.write_char(',')?;
        }
        let Self { ref_count, packet_count, byte_count, .. } = self;
        write!(out, "ref_count={ref_count},packet_count={packet_count},byte_count={byte_count}")?;
        for (i, (packets, bytes)) in self.buckets.iter().enumerate().filter(|(_, (n, _))| *n != u64::MAX) {
            write!(out, ",bucket{i}:packet_count={packets},byte_count={bytes}")?;
        }
        Ok(())
    }
}

/// What a switch's groups can do (OpenFlow 1.5, section 7.3.5.12): for each of the types all, select,
/// indirect and fast failover.
///
/// ```text
/// +-------+--------------+----------------+-------------+
/// | types | capabilities | max_groups [4] | actions [4] |
/// +-------+--------------+----------------+-------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupFeatures {
    /// Bit `n`: there are groups of type `n`.
    pub types: u32,
    /// `ofp_group_capabilities`.
    pub capabilities: u32,
    /// How many there may be, of each type.
    pub max_groups: [u32; 4],
    /// Bit `n`: a bucket may have the action of type `n`; for each type of group.
    pub actions: [u32; 4],
}

impl GroupFeatures {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            types: r.u32()?,
            capabilities: r.u32()?,
            max_groups: [r.u32()?, r.u32()?, r.u32()?, r.u32()?],
            actions: [r.u32()?, r.u32()?, r.u32()?, r.u32()?],
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.types);
        w.u32(self.capabilities);
        self.max_groups.iter().chain(&self.actions).for_each(|&n| w.u32(n));
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, "\n Group table:\n    Types:  {:#x}\n", self.types)?;
        writeln!(out, "    Capabilities:  {:#x}", self.capabilities)?;
        for (i, name) in ["all", "select", "indirect", "fast failover"].into_iter().enumerate() {
            if self.types & 1 << i != 0 {
                let max = Hex(self.max_groups[i].into());
                writeln!(out, "    {name} group:\n       max_groups={max}")?;
                let actions = action_names(self.actions[i]);
                writeln!(out, "       actions: {}", if actions.is_empty() { "<none>" } else { &actions })?;
            }
        }
        Ok(())
    }
}
