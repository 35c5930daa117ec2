//! Ports: what they are, and changing them.

use std::fmt::{self, Write};

use super::common::{decode_text, encode_text, entry_at};
use super::property::{Property, decode_properties};
use super::text::{self, Mac};
use crate::PortNo;
use crate::wire::{Reader, Result, Sink, Writer};

/// A port of a switch (OpenFlow 1.5, section 7.2.1, `ofp_port`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortDesc {
    /// Its number.
    pub port_no: PortNo,
    /// Its Ethernet address.
    pub hw_addr: [u8; 6],
    /// The interface's name, up to 15 bytes.
    pub name: String,
    /// `ofp_port_config`: what was asked of it; bit 0 is "administratively down".
    pub config: u32,
    /// `ofp_port_state`: bit 0 is "no carrier", bit 2 "live".
    pub state: u32,
    /// Speeds and such.
    pub properties: Vec<PortDescProperty>,
}

/// A property of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortDescProperty {
    /// Of an Ethernet port. Features are `ofp_port_features`, speeds are kilobits per second.
    ///
    /// ```text
    /// +---+------+------------+-----------+------+------------+-----------+
    /// | 0 | curr | advertised | supported | peer | curr_speed | max_speed |
    /// +---+------+------------+-----------+------+------------+-----------+
    /// ```
    Ethernet {
        /// Features in use.
        curr: u32,
        /// Features offered to the peer.
        advertised: u32,
        /// Features that it has.
        supported: u32,
        /// Features that the peer offers.
        peer: u32,
        /// Speed now.
        curr_speed: u32,
        /// Highest speed.
        max_speed: u32,
    },
    /// Any other, as it was.
    Other(Property),
}

/// Bytes without the properties.
const MIN_LEN: usize = 40;
const NAME_LEN: usize = 16;
const WHAT: &str = "port description";
const ETHERNET: u16 = 0;

impl PortDesc {
    /// ```text
    /// +---------+--------+---+-------------+---+-----------+--------+-------+----------------+
    /// | port_no | length | 0 | hw_addr (48)| 0 | name (128)| config | state | properties ... |
    /// +---------+--------+---+-------------+---+-----------+--------+-------+----------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = entry_at(r, 4, MIN_LEN, WHAT)?;
        let port_no = PortNo(r.u32()?);
        r.skip(4)?;
        let hw_addr = r.mac()?;
        r.skip(2)?;
        Ok(Self {
            port_no,
            hw_addr,
            name: decode_text(&mut r, NAME_LEN)?,
            config: r.u32()?,
            state: r.u32()?,
            properties: decode_properties(&mut r, WHAT, PortDescProperty::decode)?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.pos();
        w.u32(self.port_no.0);
        w.later();
        w.zeros(2);
        w.slice(&self.hw_addr);
        w.zeros(2);
        encode_text(&self.name, NAME_LEN, w);
        w.u32(self.config);
        w.u32(self.state);
        self.properties.iter().for_each(|property| property.encode(w));
        w.patch_len(from + 4, from, WHAT);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let name: String = self.name.chars().take_while(|c| matches!(c, ' '..='~')).collect();
        writeln!(out, " {}({name}): addr:{}", self.port_no, Mac(self.hw_addr))?;
        out.write_str("     config:     ")?;
        config_text(out, self.config)?;
        out.write_str("     state:      ")?;
        text::bits(out, self.state & 7, &[(1, "LINK_DOWN"), (2, "BLOCKED"), (4, "LIVE")], ' ')?;
        out.write_char('\n')?;
        let mut speeds = (0, 0);
        // The last one counts.
        let ethernet = self.properties.iter().rev().find_map(|property| match *property {
            PortDescProperty::Ethernet { curr, advertised, supported, peer, curr_speed, max_speed } => {
                speeds = (curr_speed, max_speed);
                Some([curr, advertised, supported, peer])
            }
            PortDescProperty::Other(_) => None,
        });
        let names = ["current:    ", "advertised: ", "supported:  ", "peer:       "];
        for (name, bits) in names.into_iter().zip(ethernet.unwrap_or_default()) {
            if bits & ALL_FEATURES != 0 {
                write!(out, "     {name}")?;
                features_text(out, bits)?;
            }
        }
        writeln!(out, "     speed: {} Mbps now, {} Mbps max", speeds.0 / 1000, speeds.1 / 1000)
    }
}

/// `ofp_port_config`, with what Open vSwitch knows of it.
fn config_text(out: &mut String, config: u32) -> fmt::Result {
    const NAMES: [(u32, &str); 4] = [(1, "PORT_DOWN"), (4, "NO_RECV"), (32, "NO_FWD"), (64, "NO_PACKET_IN")];
    text::bits(out, config & 0x65, &NAMES, ' ')?;
    out.write_char('\n')
}

const FEATURES: [&str; 16] = [
    "10MB-HD",
    "10MB-FD",
    "100MB-HD",
    "100MB-FD",
    "1GB-HD",
    "1GB-FD",
    "10GB-FD",
    "40GB-FD",
    "100GB-FD",
    "1TB-FD",
    "OTHER",
    "COPPER",
    "FIBER",
    "AUTO_NEG",
    "AUTO_PAUSE",
    "AUTO_PAUSE_ASYM",
];
const ALL_FEATURES: u32 = 0xffff;

/// `ofp_port_features`.
fn features_text(out: &mut String, features: u32) -> fmt::Result {
    let names: Vec<_> = FEATURES.iter().enumerate().map(|(i, &name)| (1 << i, name)).collect();
    text::bits(out, features & ALL_FEATURES, &names, ' ')?;
    out.write_char('\n')
}

impl PortDescProperty {
    fn decode(kind: u16, body: &mut Reader<'_>) -> Result<Self> {
        if kind != ETHERNET {
            return Ok(Self::Other(Property { kind, body: body.rest() }));
        }
        body.skip(4)?;
        Ok(Self::Ethernet {
            curr: body.u32()?,
            advertised: body.u32()?,
            supported: body.u32()?,
            peer: body.u32()?,
            curr_speed: body.u32()?,
            max_speed: body.u32()?,
        })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        match *self {
            Self::Ethernet { curr, advertised, supported, peer, curr_speed, max_speed } => {
                w.property(ETHERNET, WHAT, |w| {
                    w.zeros(4);
                    [curr, advertised, supported, peer, curr_speed, max_speed].iter().for_each(|&v| w.u32(v));
                });
            }
            Self::Other(ref property) => property.encode(w, WHAT),
        }
    }
}

/// A port came, went or changed (OpenFlow 1.5, section 7.4.3).
///
/// ```text
/// +--------+---+-----------------+
/// | reason | 0 | port description|
/// +--------+---+-----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStatus {
    /// `ofp_port_reason`: 0 added, 1 removed, 2 changed.
    pub reason: u8,
    /// The port.
    pub port: PortDesc,
}

impl PortStatus {
    /// It was added.
    pub const ADD: u8 = 0;
    /// It was removed.
    pub const DELETE: u8 = 1;
    /// It changed.
    pub const MODIFY: u8 = 2;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let reason = r.u8()?;
        r.skip(7)?;
        Ok(Self { reason, port: PortDesc::decode(r)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u8(self.reason);
        w.zeros(7);
        self.port.encode(w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        out.write_str(match self.reason {
            Self::ADD => " ADD:",
            Self::DELETE => " DEL:",
            Self::MODIFY => " MOD:",
            _ => "",
        })?;
        self.port.text(out)
    }
}

/// Change a port (OpenFlow 1.5, section 7.3.4.5).
///
/// ```text
/// +---------+---+-------------+---+--------+------+----------------+
/// | port_no | 0 | hw_addr (48)| 0 | config | mask | properties ... |
/// +---------+---+-------------+---+--------+------+----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMod {
    /// Which one.
    pub port_no: PortNo,
    /// Its Ethernet address, to be sure that it is meant.
    pub hw_addr: [u8; 6],
    /// The new bits of `ofp_port_config`.
    pub config: u32,
    /// Which of them count.
    pub mask: u32,
    /// What else is to change.
    pub properties: Vec<PortModProperty>,
}

/// What else is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortModProperty {
    /// The features to offer the peer, `ofp_port_features`; none for no change.
    Ethernet(u32),
    /// Any other, as it was.
    Other(Property),
}

impl PortMod {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let port_no = PortNo(r.u32()?);
        r.skip(4)?;
        let hw_addr = r.mac()?;
        r.skip(2)?;
        let (config, mask) = (r.u32()?, r.u32()?);
        let properties = decode_properties(r, "port change", |kind, body| match kind {
            ETHERNET => body.u32().map(PortModProperty::Ethernet),
            _ => Ok(PortModProperty::Other(Property { kind, body: body.rest() })),
        })?;
        Ok(Self { port_no, hw_addr, config, mask, properties })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.port_no.0);
        w.zeros(4);
        w.slice(&self.hw_addr);
        w.zeros(2);
        w.u32(self.config);
        w.u32(self.mask);
        for property in &self.properties {
            match property {
                PortModProperty::Ethernet(features) => {
                    w.property(ETHERNET, "port change", |w| w.u32(*features));
                }
                PortModProperty::Other(property) => property.encode(w, "port change"),
            }
        }
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, " port: {}: addr:{}\n     config: ", self.port_no, Mac(self.hw_addr))?;
        config_text(out, self.config & self.mask)?;
        out.write_str("     mask:   ")?;
        config_text(out, self.mask)?;
        out.write_str("     advertise: ")?;
        let advertise = self.properties.iter().rev().find_map(|property| match property {
            PortModProperty::Ethernet(features) => Some(features & ALL_FEATURES),
            PortModProperty::Other(_) => None,
        });
        match advertise {
            None | Some(0) => out.write_str("UNCHANGED\n"),
            Some(features) => features_text(out, features),
        }
    }
}
