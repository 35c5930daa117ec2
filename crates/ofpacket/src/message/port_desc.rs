//! Ports.

use bytes::Bytes;

use super::multipart::{decode_text, encode_text};
use crate::PortNo;
use crate::error::DecodeErrorKind;
use crate::wire::{Reader, Result, Writer};

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
    /// Speeds and such, as they were.
    pub properties: Bytes,
}

/// Bytes without the properties.
const MIN_LEN: usize = 40;
const NAME_LEN: usize = 16;

impl PortDesc {
    /// ```text
    /// +---------+--------+---+-------------+---+-----------+--------+-------+----------------+
    /// | port_no | length | 0 | hw_addr (48)| 0 | name (128)| config | state | properties ... |
    /// +---------+--------+---+-------------+---+-----------+--------+-------+----------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut head = r.clone().named("port description");
        let port_no = PortNo(head.u32()?);
        let len = usize::from(head.u16()?);
        if len < MIN_LEN {
            return Err(head.error(DecodeErrorKind::BadLength(len)));
        }
        let mut r = r.sub(len, "port description")?;
        r.skip(8)?;
        let hw_addr = r.mac()?;
        r.skip(2)?;
        Ok(Self {
            port_no,
            hw_addr,
            name: decode_text(&mut r, NAME_LEN)?,
            config: r.u32()?,
            state: r.u32()?,
            properties: r.rest(),
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        let from = w.pos();
        w.u32(self.port_no.0);
        w.zeros(4);
        w.slice(&self.hw_addr);
        w.zeros(2);
        encode_text(&self.name, NAME_LEN, w);
        w.u32(self.config);
        w.u32(self.state);
        w.slice(&self.properties);
        w.patch_len(from + 4, from, "port description");
    }
}

/// A port came, went or changed (OpenFlow 1.5, section 7.4.3).
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

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.u8(self.reason);
        w.zeros(7);
        self.port.encode(w);
    }
}
