//! OpenFlow's own actions (OpenFlow 1.5, section 7.2.6).
//!
//! ```text
//!  0              16              32
//! +---------------+---------------+------------------+
//! |     type      |    length     | arguments ...    |
//! +---------------+---------------+------------------+
//! ```

use super::Action;
use crate::PortNo;
use crate::oxm::{Oxm, OxmField};
use crate::wire::{Reader, Result, Sink, Writer};

const OUTPUT: u16 = 0;
const COPY_TTL_OUT: u16 = 11;
const COPY_TTL_IN: u16 = 12;
const SET_MPLS_TTL: u16 = 15;
const DEC_MPLS_TTL: u16 = 16;
const PUSH_VLAN: u16 = 17;
const POP_VLAN: u16 = 18;
const PUSH_MPLS: u16 = 19;
const POP_MPLS: u16 = 20;
const SET_QUEUE: u16 = 21;
const GROUP: u16 = 22;
const SET_NW_TTL: u16 = 23;
const DEC_NW_TTL: u16 = 24;
const SET_FIELD: u16 = 25;
const PUSH_PBB: u16 = 26;
const POP_PBB: u16 = 27;
const COPY_FIELD: u16 = 28;
const METER: u16 = 29;

/// Reads what follows type and length; `None` if the type is not one of these.
pub(super) fn decode(kind: u16, r: &mut Reader<'_>) -> Result<Option<Action>> {
    Ok(Some(match kind {
        OUTPUT => Action::Output { port: PortNo(r.u32()?), max_len: r.u16()? },
        COPY_TTL_OUT => Action::CopyTtlOut,
        COPY_TTL_IN => Action::CopyTtlIn,
        SET_MPLS_TTL => Action::SetMplsTtl(r.u8()?),
        DEC_MPLS_TTL => Action::DecMplsTtl,
        PUSH_VLAN => Action::PushVlan(r.u16()?),
        POP_VLAN => Action::PopVlan,
        PUSH_MPLS => Action::PushMpls(r.u16()?),
        POP_MPLS => Action::PopMpls(r.u16()?),
        SET_QUEUE => Action::SetQueue(r.u32()?),
        GROUP => Action::Group(r.u32()?),
        SET_NW_TTL => Action::SetNwTtl(r.u8()?),
        DEC_NW_TTL => Action::DecNwTtl,
        SET_FIELD => Action::SetField(Oxm::decode(r)?),
        PUSH_PBB => Action::PushPbb(r.u16()?),
        POP_PBB => Action::PopPbb,
        COPY_FIELD => {
            let (n_bits, src_offset, dst_offset) = (r.u16()?, r.u16()?, r.u16()?);
            r.skip(2)?;
            let (src, dst) = (OxmField::decode(r)?, OxmField::decode(r)?);
            Action::CopyField { n_bits, src_offset, dst_offset, src, dst }
        }
        METER => Action::Meter(r.u32()?),
        _ => return Ok(None),
    }))
}

/// Writes an action of this type.
#[inline]
fn put<S: Sink>(w: &mut Writer<S>, kind: u16, arguments: impl FnOnce(&mut Writer<S>)) -> bool {
    let from = w.pos();
    w.u16(kind);
    w.later();
    arguments(w);
    w.pad(from);
    w.patch_len(from + 2, from, "action");
    true
}

/// Writes the action if it is one of these.
pub(super) fn encode(action: &Action, w: &mut Writer<impl Sink>) -> bool {
    match action {
        Action::Output { port, max_len } => put(w, OUTPUT, |w| {
            w.u32(port.0);
            w.u16(*max_len);
        }),
        Action::CopyTtlOut => put(w, COPY_TTL_OUT, |w| w.zeros(4)),
        Action::CopyTtlIn => put(w, COPY_TTL_IN, |w| w.zeros(4)),
        Action::SetMplsTtl(ttl) => put(w, SET_MPLS_TTL, |w| w.u8(*ttl)),
        Action::DecMplsTtl => put(w, DEC_MPLS_TTL, |w| w.zeros(4)),
        Action::PushVlan(ethertype) => put(w, PUSH_VLAN, |w| w.u16(*ethertype)),
        Action::PopVlan => put(w, POP_VLAN, |w| w.zeros(4)),
        Action::PushMpls(ethertype) => put(w, PUSH_MPLS, |w| w.u16(*ethertype)),
        Action::PopMpls(ethertype) => put(w, POP_MPLS, |w| w.u16(*ethertype)),
        Action::SetQueue(queue) => put(w, SET_QUEUE, |w| w.u32(*queue)),
        Action::Group(group) => put(w, GROUP, |w| w.u32(*group)),
        Action::SetNwTtl(ttl) => put(w, SET_NW_TTL, |w| w.u8(*ttl)),
        Action::DecNwTtl => put(w, DEC_NW_TTL, |w| w.zeros(4)),
        Action::SetField(oxm) => put(w, SET_FIELD, |w| oxm.encode(w)),
        Action::PushPbb(ethertype) => put(w, PUSH_PBB, |w| w.u16(*ethertype)),
        Action::PopPbb => put(w, POP_PBB, |w| w.zeros(4)),
        Action::CopyField { n_bits, src_offset, dst_offset, src, dst } => put(w, COPY_FIELD, |w| {
            w.u16(*n_bits);
            w.u16(*src_offset);
            w.u16(*dst_offset);
            w.zeros(2);
            src.encode(w);
            dst.encode(w);
        }),
        Action::Meter(id) => put(w, METER, |w| w.u32(*id)),
        Action::Other(bytes) => {
            w.slice(bytes);
            true
        }
        _ => false,
    }
}
