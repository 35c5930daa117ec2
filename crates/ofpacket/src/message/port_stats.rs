//! What ports have done.

use std::fmt::{self, Write};
use std::time::Duration;

use super::common::{decode_age, encode_age, entry};
use super::property::{EXPERIMENTER, Property, decode_properties, experimenter};
use super::text::{self, Count};
use crate::PortNo;
use crate::wire::{Reader, Result, Sink, Writer};

/// What a port has done (OpenFlow 1.5, section 7.3.5.6). A counter is all ones if the switch does not know.
///
/// ```text
/// +--------+---+---------+----------+---------------+---------------+
/// | length | 0 | port_no | duration | packets rx, tx| bytes rx, tx  |
/// +--------+---+---------+----------+---------------+---------------+
/// | dropped rx, tx       | errors rx, tx            | properties ...|
/// +----------------------+--------------------------+---------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStats {
    /// Which one.
    pub port_no: PortNo,
    /// How long it has been there, if the switch knows.
    pub duration: Option<Duration>,
    /// Packets received and sent.
    pub packets: (u64, u64),
    /// Bytes received and sent.
    pub bytes: (u64, u64),
    /// Packets dropped when received and when to be sent.
    pub dropped: (u64, u64),
    /// Errors of receiving and sending.
    pub errors: (u64, u64),
    /// What else was counted.
    pub properties: Vec<PortStatsProperty>,
}

/// What else was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortStatsProperty {
    /// Of an Ethernet port.
    Ethernet {
        /// Frame alignment errors.
        rx_frame_err: u64,
        /// Packets that overran the receiver.
        rx_over_err: u64,
        /// Checksum errors.
        rx_crc_err: u64,
        /// Collisions.
        collisions: u64,
    },
    /// RFC 2819's counters (Intel's extension, `include/openflow/intel-ext.h`), in the order there:
    /// packets by size received (7), sent (7), multicast sent, broadcast received and sent, undersized,
    /// oversize, fragments, jabber.
    Rfc2819(Box<[u64; 21]>),
    /// Counters of the driver's, by name (Intel's extension).
    Custom(Vec<(String, u64)>),
    /// Any other, as it was.
    Other(Property),
}

const WHAT: &str = "port statistics";
const ETHERNET: u16 = 0;
const INTEL: u32 = 0x0000_aa01;
const RFC2819: u32 = 1;
const CUSTOM: u32 = 2;

impl PortStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry(r, 4, 80, WHAT)?;
        let (port_no, duration) = (PortNo(r.u32()?), decode_age(&mut r)?);
        let mut pair = || Ok((r.u64()?, r.u64()?));
        let (packets, bytes, dropped, errors) = (pair()?, pair()?, pair()?, pair()?);
        let properties = decode_properties(&mut r, WHAT, PortStatsProperty::decode)?;
        Ok(Self { port_no, duration, packets, bytes, dropped, errors, properties })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.later();
        w.zeros(2);
        w.u32(self.port_no.0);
        encode_age(self.duration, w);
        for (rx, tx) in [self.packets, self.bytes, self.dropped, self.errors] {
            w.u64(rx);
            w.u64(tx);
        }
        self.properties.iter().for_each(|property| property.encode(w));
        w.patch_len(from, from, WHAT);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let wide = if self.port_no.0 < 10 { " " } else { "" };
        let mut ethernet = [u64::MAX; 4];
        for property in &self.properties {
            if let PortStatsProperty::Ethernet { rx_frame_err, rx_over_err, rx_crc_err, collisions } =
                property
            {
                ethernet = [*rx_frame_err, *rx_over_err, *rx_crc_err, *collisions];
            }
        }
        let [frame, over, crc, collisions] = ethernet.map(Count);
        let rx = [self.packets.0, self.bytes.0, self.dropped.0, self.errors.0].map(Count);
        let tx = [self.packets.1, self.bytes.1, self.dropped.1, self.errors.1].map(Count);
        let both = |[packets, bytes, dropped, errors]: [Count; 4]| {
            format!("pkts={packets}, bytes={bytes}, drop={dropped}, errs={errors}")
        };
        let port = self.port_no;
        writeln!(out, "  port {wide}{port}: rx {}, frame={frame}, over={over}, crc={crc}", both(rx))?;
        writeln!(out, "           tx {}, coll={collisions}", both(tx))?;
        if let Some(duration) = self.duration {
            out.write_str("           duration=")?;
            text::duration(out, duration)?;
            out.write_char('\n')?;
        }
        for property in &self.properties {
            match property {
                PortStatsProperty::Rfc2819(counters) => {
                    rfc2819_text(out, "rx", counters, &RX)?;
                    rfc2819_text(out, "tx", counters, &TX)?;
                }
                PortStatsProperty::Custom(counters) => custom_text(out, counters)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The counters as they are printed: which one, and its name.
const RX: [(usize, &str); 12] = [
    (0, "1_to_64_packets"),
    (1, "65_to_127_packets"),
    (2, "128_to_255_packets"),
    (3, "256_to_511_packets"),
    (4, "512_to_1023_packets"),
    (5, "1024_to_1522_packets"),
    (6, "1523_to_max_packets"),
    (15, "broadcast_packets"),
    (17, "undersized_errors"),
    (18, "oversize_errors"),
    (19, "rx_fragmented_errors"),
    (20, "rx_jabber_errors"),
];
const TX: [(usize, &str); 9] = [
    (7, "1_to_64_packets"),
    (8, "65_to_127_packets"),
    (9, "128_to_255_packets"),
    (10, "256_to_511_packets"),
    (11, "512_to_1023_packets"),
    (12, "1024_to_1522_packets"),
    (13, "1523_to_max_packets"),
    (14, "multicast_packets"),
    (16, "broadcast_packets"),
];

fn rfc2819_text(out: &mut String, way: &str, counters: &[u64; 21], names: &[(usize, &str)]) -> fmt::Result {
    let known = names.iter().map(|&(i, name)| (name, counters[i])).filter(|&(_, n)| n != u64::MAX);
    let all: String = known.map(|(name, n)| format!("{name}={n}, ")).collect();
    if all.is_empty() { Ok(()) } else { writeln!(out, "           {way} rfc2819 {all}") }
}

/// Three in a row.
fn custom_text(out: &mut String, counters: &[(String, u64)]) -> fmt::Result {
    if counters.is_empty() {
        return Ok(());
    }
    out.write_str("           CUSTOM Statistics")?;
    for (i, (name, n)) in counters.iter().enumerate().filter(|(_, (name, _))| !name.is_empty()) {
        out.write_str(if i % 3 == 0 { "\n                      " } else { " " })?;
        write!(out, "{name}={n},")?;
    }
    out.write_char('\n')
}

impl PortStatsProperty {
    fn decode(kind: u16, body: &mut Reader<'_>) -> Result<Self> {
        match (kind, experimenter(kind, body)) {
            (ETHERNET, _) => {
                body.skip(4)?;
                Ok(Self::Ethernet {
                    rx_frame_err: body.u64()?,
                    rx_over_err: body.u64()?,
                    rx_crc_err: body.u64()?,
                    collisions: body.u64()?,
                })
            }
            (_, Some((INTEL, RFC2819))) => {
                body.skip(12)?;
                let mut counters = Box::new([0; 21]);
                for counter in counters.iter_mut() {
                    *counter = body.u64()?;
                }
                Ok(Self::Rfc2819(counters))
            }
            (_, Some((INTEL, CUSTOM))) => {
                body.skip(10)?;
                let mut counters = Vec::new();
                for _ in 0..body.u16()? {
                    let len = usize::from(body.u8()?);
                    let name = String::from_utf8_lossy(body.take(len)?).into_owned();
                    counters.push((name, body.u64()?));
                }
                Ok(Self::Custom(counters))
            }
            _ => Ok(Self::Other(Property { kind, body: body.rest() })),
        }
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        match self {
            Self::Ethernet { rx_frame_err, rx_over_err, rx_crc_err, collisions } => {
                w.property(ETHERNET, WHAT, |w| {
                    w.zeros(4);
                    [rx_frame_err, rx_over_err, rx_crc_err, collisions].iter().for_each(|&&v| w.u64(v));
                });
            }
            Self::Rfc2819(counters) => w.property(EXPERIMENTER, WHAT, |w| {
                w.u32(INTEL);
                w.u32(RFC2819);
                w.zeros(4);
                counters.iter().for_each(|&n| w.u64(n));
            }),
            Self::Custom(counters) => w.property(EXPERIMENTER, WHAT, |w| {
                w.u32(INTEL);
                w.u32(CUSTOM);
                w.zeros(2);
                w.len16(counters.len(), "custom counters");
                for (name, n) in counters {
                    w.len8(name.len(), "name of a custom counter");
                    w.slice(name.as_bytes());
                    w.u64(*n);
                }
            }),
            Self::Other(property) => property.encode(w, WHAT),
        }
    }
}
