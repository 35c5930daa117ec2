//! Queues of ports.

use std::fmt::{self, Write};
use std::time::Duration;

use super::common::{decode_age, encode_age, entry, entry_at};
use super::property::{Property, decode_properties, decode_unknown, encode_unknown};
use super::text::{self, Count};
use crate::PortNo;
use crate::wire::{Reader, Result, Sink, Writer};

/// All queues, as a queue number in requests.
pub const QUEUE_ALL: u32 = 0xffff_ffff;

/// Which queues to tell of (OpenFlow 1.5, sections 7.3.5.5 and 7.3.5.19).
///
/// ```text
/// +---------+----------+
/// | port_no | queue_id |
/// +---------+----------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRequest {
    /// Of this port, or [`PortNo::ANY`].
    pub port_no: PortNo,
    /// This one, or [`QUEUE_ALL`].
    pub queue_id: u32,
}

impl Default for QueueRequest {
    /// All of them.
    fn default() -> Self {
        Self { port_no: PortNo::ANY, queue_id: QUEUE_ALL }
    }
}

impl QueueRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { port_no: PortNo(r.u32()?), queue_id: r.u32()? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.port_no.0);
        w.u32(self.queue_id);
    }

    pub(super) fn text(&self, out: &mut String, always: bool) -> fmt::Result {
        write!(out, " port={}", self.port_no)?;
        if always || self.queue_id != QUEUE_ALL {
            write!(out, " queue={}", queue_name(self.queue_id))?;
        }
        Ok(())
    }
}

fn queue_name(id: u32) -> String {
    if id == QUEUE_ALL { "ALL".to_owned() } else { id.to_string() }
}

/// What a queue has done (OpenFlow 1.5, section 7.3.5.5). A counter is all ones if the switch does not know.
///
/// ```text
/// +--------+---+---------+----------+----------+------------+-----------+----------+------------+
/// | length | 0 | port_no | queue_id | tx_bytes | tx_packets | tx_errors | duration | properties |
/// +--------+---+---------+----------+----------+------------+-----------+----------+------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStats {
    /// Of this port.
    pub port_no: PortNo,
    /// This one.
    pub queue_id: u32,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets not sent.
    pub tx_errors: u64,
    /// How long it has been there, if the switch knows.
    pub duration: Option<Duration>,
    /// As they were.
    pub properties: Vec<Property>,
}

impl QueueStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry(r, 8, 48, "queue statistics")?;
        Ok(Self {
            port_no: PortNo(r.u32()?),
            queue_id: r.u32()?,
            tx_bytes: r.u64()?,
            tx_packets: r.u64()?,
            tx_errors: r.u64()?,
            duration: decode_age(&mut r)?,
            properties: decode_unknown(&mut r, "queue statistics")?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        w.zeros(6);
        w.u32(self.port_no.0);
        w.u32(self.queue_id);
        w.u64(self.tx_bytes);
        w.u64(self.tx_packets);
        w.u64(self.tx_errors);
        encode_age(self.duration, w);
        encode_unknown(&self.properties, w, "queue statistics");
        w.patch_len(from, from, "queue statistics");
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let [bytes, packets, errors] = [self.tx_bytes, self.tx_packets, self.tx_errors].map(Count);
        write!(out, "  port {} queue {}: ", self.port_no, queue_name(self.queue_id))?;
        write!(out, "bytes={bytes}, pkts={packets}, errors={errors}, duration=")?;
        match self.duration {
            Some(duration) => text::duration(out, duration)?,
            None => out.write_char('?')?,
        }
        out.write_char('\n')
    }
}

/// A queue (OpenFlow 1.5, section 7.3.5.19).
///
/// ```text
/// +---------+----------+--------+---+----------------+
/// | port_no | queue_id | length | 0 | properties ... |
/// +---------+----------+--------+---+----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDesc {
    /// Of this port.
    pub port_no: PortNo,
    /// Its number.
    pub queue_id: u32,
    /// Its rates.
    pub properties: Vec<QueueDescProperty>,
}

/// A property of a queue. Rates are tenths of a percent of the port's; above 1000 they are off.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueDescProperty {
    /// It is sure to get this.
    MinRate(u16),
    /// It gets no more than this.
    MaxRate(u16),
    /// Any other, as it was.
    Other(Property),
}

const DESC: &str = "queue description";
const MIN_RATE: u16 = 1;
const MAX_RATE: u16 = 2;

impl QueueDesc {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry_at(r, 8, 16, DESC)?;
        let (port_no, queue_id) = (PortNo(r.u32()?), r.u32()?);
        r.skip(8)?;
        let properties = decode_properties(&mut r, DESC, |kind, body| match kind {
            MIN_RATE => body.u16().map(QueueDescProperty::MinRate),
            MAX_RATE => body.u16().map(QueueDescProperty::MaxRate),
            _ => Ok(QueueDescProperty::Other(Property { kind, body: body.rest() })),
        })?;
        Ok(Self { port_no, queue_id, properties })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.pos();
        w.u32(self.port_no.0);
        w.u32(self.queue_id);
        w.later();
        w.zeros(6);
        for property in &self.properties {
            match property {
                QueueDescProperty::MinRate(rate) => w.property_u16(MIN_RATE, DESC, *rate),
                QueueDescProperty::MaxRate(rate) => w.property_u16(MAX_RATE, DESC, *rate),
                QueueDescProperty::Other(property) => property.encode(w, DESC),
            }
        }
        w.patch_len(from + 8, from, DESC);
    }

    /// Queues by port, then by number.
    pub(super) fn text_all(queues: &[Self], out: &mut String) -> fmt::Result {
        let mut sorted: Vec<_> = queues.iter().collect();
        sorted.sort_by_key(|queue| (queue.port_no, queue.queue_id));
        out.write_char(' ')?;
        let mut port = PortNo(0);
        for queue in sorted {
            if std::mem::replace(&mut port, queue.port_no) != queue.port_no {
                writeln!(out, "port={port}")?;
            }
            write!(out, "queue {}:", queue.queue_id)?;
            let (mut min, mut max) = (u16::MAX, u16::MAX);
            for property in &queue.properties {
                match property {
                    QueueDescProperty::MinRate(rate) => min = *rate,
                    QueueDescProperty::MaxRate(rate) => max = *rate,
                    QueueDescProperty::Other(_) => {}
                }
            }
            for (name, rate) in [("min_rate", min), ("max_rate", max)] {
                match rate {
                    0..=1000 => write!(out, " {name}:{}.{}%", rate / 10, rate % 10)?,
                    u16::MAX => {}
                    _ => write!(out, " {name}:(disabled)")?,
                }
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}
