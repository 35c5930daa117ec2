//! Meters: limits on rates.

use std::fmt::{self, Write};
use std::time::Duration;

use bytes::Bytes;

use super::common::{decode_all, decode_duration, encode_duration, entry, entry_at};
use super::text;
use crate::wire::{Reader, Result, Sink, Writer};

wire_enum! {
    /// What to do with a meter.
    MeterModCommand: u16 {
        /// Add it; there must be none of this number.
        Add = 0 "ADD",
        /// Change it.
        Modify = 1 "MOD",
        /// Remove it, with the flows that use it.
        Delete = 2 "DEL",
    }
}

/// All meters, as a meter number in requests.
pub const METER_ALL: u32 = 0xffff_ffff;
/// The meter of packets that the datapath hands to the switch's slow path.
pub const METER_SLOWPATH: u32 = 0xffff_fffd;
/// The meter of packets for the controller.
pub const METER_CONTROLLER: u32 = 0xffff_fffe;

/// Change the meter table (OpenFlow 1.5, section 7.3.4.4).
///
/// ```text
/// +---------+-------+----------+-----------+
/// | command | flags | meter_id | bands ... |
/// +---------+-------+----------+-----------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterModCommand,
    /// The meter.
    pub meter: MeterConfig,
}

/// A meter, as it is asked for and described (OpenFlow 1.5, section 7.3.5.14, `ofp_meter_desc`).
///
/// ```text
/// +--------+-------+----------+-----------+
/// | length | flags | meter_id | bands ... |
/// +--------+-------+----------+-----------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterConfig {
    /// [`MeterConfig::KBPS`] and others.
    pub flags: u16,
    /// Its number.
    pub meter_id: u32,
    /// What happens above which rate.
    pub bands: Vec<MeterBand>,
}

/// What happens above a rate (OpenFlow 1.5, section 7.3.4.4.1). Rates count kilobits or packets per second,
/// burst sizes kilobits or packets.
///
/// ```text
/// +------+--------+------+------------+------------------+---+
/// | type | length | rate | burst_size | (prec_level)     | 0 |
/// +------+--------+------+------------+------------------+---+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeterBand {
    /// The packet is dropped.
    Drop {
        /// Above this rate.
        rate: u32,
        /// That much at once is no excess.
        burst_size: u32,
    },
    /// The drop precedence in the IP header goes up.
    DscpRemark {
        /// Above this rate.
        rate: u32,
        /// That much at once is no excess.
        burst_size: u32,
        /// By so many levels.
        prec_level: u8,
    },
    /// Any other, as it was.
    Other {
        /// `ofp_meter_band_type`.
        kind: u16,
        /// What follows the four bytes of type and length.
        body: Bytes,
    },
}

const WHAT: &str = "meter";
const BAND: &str = "meter band";
const DROP: u16 = 1;
const DSCP_REMARK: u16 = 2;

impl MeterMod {
    /// Remove the meter, or with [`METER_ALL`] all of them.
    pub fn delete(meter_id: u32) -> Self {
        let meter = MeterConfig { flags: 0, meter_id, bands: Vec::new() };
        Self { command: MeterModCommand::Delete, meter }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let command = MeterModCommand::from_wire(r.u16()?);
        Ok(Self { command, meter: MeterConfig::decode_rest(r)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.command.to_wire());
        self.meter.encode_rest(w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        match self.command {
            MeterModCommand::Other(command) => write!(out, " cmd:{command} ")?,
            command => write!(out, " {command} ")?,
        }
        // What else a request to remove says is of no account.
        match self.command {
            MeterModCommand::Delete => Self::delete(self.meter.meter_id).meter.text(out),
            _ => self.meter.text(out),
        }
    }
}

const FLAGS: [(u32, &str); 4] = [(1, "kbps"), (2, "pktps"), (4, "burst"), (8, "stats")];

impl MeterConfig {
    /// Rates are kilobits per second.
    pub const KBPS: u16 = 1;
    /// Rates are packets per second.
    pub const PKTPS: u16 = 2;
    /// Burst sizes count.
    pub const BURST: u16 = 4;
    /// Count what passes.
    pub const STATS: u16 = 8;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Self::decode_rest(&mut entry(r, 2, 8, WHAT)?)
    }

    fn decode_rest(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { flags: r.u16()?, meter_id: r.u32()?, bands: decode_all(r, MeterBand::decode)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        self.encode_rest(w);
        w.patch_len(from, from, WHAT);
    }

    fn encode_rest(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.flags);
        w.u32(self.meter_id);
        self.bands.iter().for_each(|band| band.encode(w));
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, "meter={} ", MeterId(self.meter_id))?;
        let mut left = u32::from(self.flags);
        for (bit, name) in FLAGS.into_iter().filter(|(bit, _)| u32::from(self.flags) & bit != 0) {
            write!(out, "{name} ")?;
            left &= !bit;
        }
        if left != 0 {
            write!(out, "flags:{left:#x} ")?;
        }
        out.write_str("bands=")?;
        self.bands.iter().try_for_each(|band| band.text(out, self.flags & Self::BURST != 0))?;
        out.write_char('\n')
    }
}

/// A meter's number, or its name.
pub(super) struct MeterId(pub(super) u32);

impl fmt::Display for MeterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            METER_SLOWPATH => f.write_str("slowpath"),
            METER_CONTROLLER => f.write_str("controller"),
            METER_ALL => f.write_str("all"),
            0xffff_0001.. => f.write_str("unknown"),
            id => write!(f, "{id}"),
        }
    }
}

impl MeterBand {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry_at(r, 2, 4, BAND)?;
        let kind = r.u16()?;
        r.skip(2)?;
        if !matches!((kind, r.len()), (DROP | DSCP_REMARK, 12)) {
            return Ok(Self::Other { kind, body: r.rest() });
        }
        let (rate, burst_size, prec_level) = (r.u32()?, r.u32()?, r.u8()?);
        Ok(match kind {
            DROP => Self::Drop { rate, burst_size },
            _ => Self::DscpRemark { rate, burst_size, prec_level },
        })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.pos();
        let (kind, rate, burst_size, prec_level) = match self {
            Self::Drop { rate, burst_size } => (DROP, *rate, *burst_size, 0),
            Self::DscpRemark { rate, burst_size, prec_level } => {
                (DSCP_REMARK, *rate, *burst_size, *prec_level)
            }
            Self::Other { kind, body } => {
                w.u16(*kind);
                w.later();
                w.slice(body);
                return w.patch_len(from + 2, from, BAND);
            }
        };
        w.u16(kind);
        w.u16(16);
        w.u32(rate);
        w.u32(burst_size);
        w.u8(prec_level);
        w.zeros(3);
    }

    fn text(&self, out: &mut String, with_burst: bool) -> fmt::Result {
        let (name, rate, burst_size) = match self {
            Self::Drop { rate, burst_size } => ("drop", rate, burst_size),
            Self::DscpRemark { rate, burst_size, .. } => ("dscp_remark", rate, burst_size),
            Self::Other { kind, .. } => return write!(out, "\ntype={kind}"),
        };
        write!(out, "\ntype={name} rate={rate}")?;
        if with_burst {
            write!(out, " burst_size={burst_size}")?;
        }
        match self {
            Self::DscpRemark { prec_level, .. } => write!(out, " prec_level={prec_level}"),
            _ => Ok(()),
        }
    }
}

/// What a meter has done (OpenFlow 1.5, section 7.3.5.13).
///
/// ```text
/// +----------+--------+---+------------+-----------------+---------------+----------+
/// | meter_id | length | 0 | flow_count | packet_in_count | byte_in_count | duration |
/// +----------+--------+---+------------+-----------------+---------------+----------+
/// | packets and bytes of each band ...                                              |
/// +---------------------------------------------------------------------------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterStats {
    /// Which one.
    pub meter_id: u32,
    /// Flows that use it.
    pub flow_count: u32,
    /// Packets that came in.
    pub packet_in_count: u64,
    /// Bytes of these packets.
    pub byte_in_count: u64,
    /// How long it has been there.
    pub duration: Duration,
    /// Packets and bytes that each band took.
    pub bands: Vec<(u64, u64)>,
}

impl MeterStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry_at(r, 4, 40, "meter statistics")?;
        let meter_id = r.u32()?;
        r.skip(8)?;
        Ok(Self {
            meter_id,
            flow_count: r.u32()?,
            packet_in_count: r.u64()?,
            byte_in_count: r.u64()?,
            duration: decode_duration(&mut r)?,
            bands: decode_all(&mut r, |r| Ok((r.u64()?, r.u64()?)))?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.pos();
        w.u32(self.meter_id);
        w.later();
        w.zeros(6);
        w.u32(self.flow_count);
        w.u64(self.packet_in_count);
        w.u64(self.byte_in_count);
        encode_duration(self.duration, w);
        for &(packets, bytes) in &self.bands {
            w.u64(packets);
            w.u64(bytes);
        }
        w.patch_len(from + 4, from, "meter statistics");
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let Self { flow_count, packet_in_count, byte_in_count, .. } = self;
        write!(out, "\nmeter:{} flow_count:{flow_count} ", MeterId(self.meter_id))?;
        write!(out, "packet_in_count:{packet_in_count} byte_in_count:{byte_in_count} duration:")?;
        text::duration(out, self.duration)?;
        out.write_str(" bands:\n")?;
        for (i, (packets, bytes)) in self.bands.iter().enumerate() {
            writeln!(out, "{i}: packet_count:{packets} byte_count:{bytes}")?;
        }
        Ok(())
    }
}

/// What a switch's meters can do (OpenFlow 1.5, section 7.3.5.15, as Open vSwitch has it: without the
/// `features` at its end).
///
/// ```text
/// +-----------+------------+--------------+-----------+-----------+---+
/// | max_meter | band_types | capabilities | max_bands | max_color | 0 |
/// +-----------+------------+--------------+-----------+-----------+---+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterFeatures {
    /// How many meters there may be.
    pub max_meter: u32,
    /// Bit `n`: there are bands of type `n`.
    pub band_types: u32,
    /// Which of the flags of [`MeterConfig`] may be set.
    pub capabilities: u32,
    /// Bands that a meter may have.
    pub max_bands: u8,
    /// Colours.
    pub max_color: u8,
}

impl MeterFeatures {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (max_meter, band_types, capabilities) = (r.u32()?, r.u32()?, r.u32()?);
        let (max_bands, max_color) = (r.u8()?, r.u8()?);
        r.skip(2)?;
        Ok(Self { max_meter, band_types, capabilities, max_bands, max_color })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.max_meter);
        w.u32(self.band_types);
        w.u32(self.capabilities);
        w.u8(self.max_bands);
        w.u8(self.max_color);
        w.zeros(2);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let Self { max_meter, max_bands, max_color, .. } = self;
        write!(out, "\nmax_meter:{max_meter} max_bands:{max_bands} max_color:{max_color}\nband_types: ")?;
        text::bits(out, self.band_types, &[(1 << DROP, "drop"), (1 << DSCP_REMARK, "dscp_remark")], ' ')?;
        out.write_str("\ncapabilities: ")?;
        text::bits(out, self.capabilities, &FLAGS, ' ')?;
        out.write_char('\n')
    }
}
