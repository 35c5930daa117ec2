//! `controller(...)`: packet-ins with everything that the older form cannot say.

use bytes::Bytes;

use crate::error::DecodeErrorKind;
use crate::wire::{Reader, Result, Sink, Writer};

/// A packet-in to those controllers that asked for it (`NXAST_CONTROLLER2`, properties `NXAC2PT_*`).
///
/// Connections with `controller_id` 0, which is everybody's until they choose another, get every packet-in
/// that names no id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Controller2 {
    /// Bytes of the packet to send; 0xffff for all of it.
    pub max_len: u16,
    /// Only to connections with this id.
    pub controller_id: u16,
    /// `ofp_packet_in_reason`; 1 is "an action said so".
    pub reason: u8,
    /// Comes back in the packet-in.
    pub userdata: Bytes,
    /// Stop here until the controller sends the packet-in's continuation back.
    pub pause: bool,
    /// Through this meter first.
    pub meter_id: Option<u32>,
}

impl Controller2 {
    /// `OFPR_ACTION` in the numbering that Open vSwitch uses in its actions.
    pub const REASON_ACTION: u8 = 1;
    /// The whole packet.
    pub const WHOLE_PACKET: u16 = 0xffff;
}

impl Default for Controller2 {
    fn default() -> Self {
        Self {
            max_len: Self::WHOLE_PACKET,
            controller_id: 0,
            reason: Self::REASON_ACTION,
            userdata: Bytes::new(),
            pause: false,
            meter_id: None,
        }
    }
}

const WHAT: &str = "controller action";
const MAX_LEN: u16 = 0;
const CONTROLLER_ID: u16 = 1;
const REASON: u16 = 2;
const USERDATA: u16 = 3;
const PAUSE: u16 = 4;
const METER_ID: u16 = 5;

impl Controller2 {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut out = Self::default();
        r.skip(6)?;
        while !r.is_empty() {
            let (kind, mut body) = r.property(WHAT)?;
            match kind {
                MAX_LEN => out.max_len = body.u16()?,
                CONTROLLER_ID => out.controller_id = body.u16()?,
                REASON => out.reason = body.u8()?,
                USERDATA => out.userdata = body.rest(),
                PAUSE => out.pause = true,
                METER_ID => out.meter_id = Some(body.u32()?),
                _ => return Err(body.error(DecodeErrorKind::BadValue(kind.into()))),
            }
            body.finish_property()?;
        }
        Ok(out)
    }

    /// Writes the properties that differ from what a switch assumes, in Open vSwitch's order.
    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.zeros(6);
        if self.max_len != Self::WHOLE_PACKET {
            w.property_u16(MAX_LEN, WHAT, self.max_len);
        }
        if self.controller_id != 0 {
            w.property_u16(CONTROLLER_ID, WHAT, self.controller_id);
        }
        if self.reason != Self::REASON_ACTION {
            w.property_u8(REASON, WHAT, self.reason);
        }
        if !self.userdata.is_empty() {
            w.property(USERDATA, WHAT, |w| w.slice(&self.userdata));
        }
        if self.pause {
            w.property(PAUSE, WHAT, |_| {});
        }
        if let Some(id) = self.meter_id {
            w.property(METER_ID, WHAT, |w| w.u32(id));
        }
    }
}
