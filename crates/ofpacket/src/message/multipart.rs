//! Questions whose answers may take several messages (OpenFlow 1.5, section 7.3.5).
//!
//! ```text
//!  header  64       80      96                128
//! +--------+--------+-------+-----------------+----------+
//! |   ...  |  type  | flags |       0         | body ... |
//! +--------+--------+-------+-----------------+----------+
//! ```

use std::fmt::{self, Write};

use super::experimenter;
use crate::wire::{Reader, Result, Sink, Writer};

pub(super) const DESC: u16 = 0;
pub(super) const FLOW_DESC: u16 = 1;
pub(super) const AGGREGATE: u16 = 2;
pub(super) const TABLE: u16 = 3;
pub(super) const PORT: u16 = 4;
pub(super) const QUEUE: u16 = 5;
pub(super) const GROUP: u16 = 6;
pub(super) const GROUP_DESC: u16 = 7;
pub(super) const GROUP_FEATURES: u16 = 8;
pub(super) const METER: u16 = 9;
pub(super) const METER_CONFIG: u16 = 10;
pub(super) const METER_FEATURES: u16 = 11;
pub(super) const TABLE_FEATURES: u16 = 12;
pub(super) const PORT_DESC: u16 = 13;
pub(super) const TABLE_DESC: u16 = 14;
pub(super) const QUEUE_DESC: u16 = 15;
pub(super) const FLOW_MONITOR: u16 = 16;
/// Somebody's own; experimenter and number follow.
pub(super) const EXPERIMENTER: u16 = 0xffff;
pub(super) const IPFIX_BRIDGE: u32 = 3;
pub(super) const IPFIX_FLOW: u32 = 4;

/// In `flags`: another message of the same xid follows.
const MORE: u16 = 1;

pub(super) fn more_text(out: &mut String, more: bool) -> fmt::Result {
    out.write_str(if more { " flags=[more]" } else { "" })
}

pub(super) fn decode_header(r: &mut Reader<'_>) -> Result<(u16, bool)> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    r.skip(4)?;
    Ok((kind, flags & MORE != 0))
}

pub(super) fn encode_header(kind: u16, more: bool, w: &mut Writer<impl Sink>) {
    w.u16(kind);
    w.u16(if more { MORE } else { 0 });
    w.zeros(4);
}

/// The number of what is asked for, and the zeros behind it.
pub(super) fn decode_id(r: &mut Reader<'_>) -> Result<u32> {
    let id = r.u32()?;
    r.skip(4)?;
    Ok(id)
}

/// The number of one of Open vSwitch's own that is known here, behind which the reader then is.
pub(super) fn nx(kind: u16, r: &mut Reader<'_>) -> Option<u32> {
    let mut ahead = r.clone();
    let numbers = (kind, ahead.u32().ok()?, ahead.u32().ok()?);
    let (EXPERIMENTER, experimenter::NX, subtype @ (IPFIX_BRIDGE | IPFIX_FLOW)) = numbers else {
        return None;
    };
    *r = ahead;
    Some(subtype)
}

pub(super) fn encode_nx(subtype: u32, w: &mut Writer<impl Sink>) {
    w.u32(experimenter::NX);
    w.u32(subtype);
}
