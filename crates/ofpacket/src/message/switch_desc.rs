//! Who made a switch.

use std::fmt::{self, Write};

use super::common::{decode_text, encode_text};
use crate::wire::{Reader, Result, Sink, Writer};

/// Who made a switch (OpenFlow 1.5, section 7.3.5.1).
///
/// ```text
/// +-----------------+-------------+-------------+----------------+----------------+
/// | mfr_desc (2048) | hw_desc     | sw_desc     | serial_num(256)| dp_desc (2048) |
/// +-----------------+-------------+-------------+----------------+----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SwitchDesc {
    /// Manufacturer.
    pub manufacturer: String,
    /// Hardware.
    pub hardware: String,
    /// Software; with Open vSwitch its version.
    pub software: String,
    /// Serial number.
    pub serial: String,
    /// For people; with Open vSwitch the bridge's name.
    pub datapath: String,
}

const DESC_LEN: usize = 256;
const SERIAL_LEN: usize = 32;

impl SwitchDesc {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            manufacturer: decode_text(r, DESC_LEN)?,
            hardware: decode_text(r, DESC_LEN)?,
            software: decode_text(r, DESC_LEN)?,
            serial: decode_text(r, SERIAL_LEN)?,
            datapath: decode_text(r, DESC_LEN)?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        encode_text(&self.manufacturer, DESC_LEN, w);
        encode_text(&self.hardware, DESC_LEN, w);
        encode_text(&self.software, DESC_LEN, w);
        encode_text(&self.serial, SERIAL_LEN, w);
        encode_text(&self.datapath, DESC_LEN, w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nManufacturer: {}", self.manufacturer)?;
        writeln!(out, "Hardware: {}", self.hardware)?;
        writeln!(out, "Software: {}", self.software)?;
        writeln!(out, "Serial Num: {}", self.serial)?;
        writeln!(out, "DP Description: {}", self.datapath)
    }
}
