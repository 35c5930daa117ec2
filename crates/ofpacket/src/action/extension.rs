//! Open vSwitch's own actions (`lib/ofp-actions.c`, `NXAST_*`).
//!
//! ```text
//!  0              16              32                64        80
//! +---------------+---------------+-----------------+---------+---------------+
//! | type = 0xffff |    length     | vendor = 0x2320 | subtype | arguments ... |
//! +---------------+---------------+-----------------+---------+---------------+
//! ```

use bytes::Bytes;

use super::encap::Encap;
use super::sample::{self, Sample};
use super::select::{self, Bundle, Multipath};
use super::{Action, Controller2, Ct, Learn, Nat, decode_nested, encode_list};
use crate::PortNo;
use crate::oxm::OxmField;
use crate::wire::{Reader, Result, Sink, Writer, padding};

pub(super) const EXPERIMENTER: u16 = 0xffff;
/// The experimenter id that Open vSwitch inherited from Nicira.
const NX_VENDOR: u32 = 0x0000_2320;

const RESUBMIT: u16 = 1;
const SET_TUNNEL: u16 = 2;
const POP_QUEUE: u16 = 5;
const NOTE: u16 = 8;
const SET_TUNNEL64: u16 = 9;
const RESUBMIT_TABLE: u16 = 14;
const OUTPUT_REG: u16 = 15;
const LEARN: u16 = 16;
const EXIT: u16 = 17;
const FIN_TIMEOUT: u16 = 19;
const CONTROLLER: u16 = 20;
const DEC_TTL_CNT_IDS: u16 = 21;
const WRITE_METADATA: u16 = 22;
const STACK_PUSH: u16 = 27;
const STACK_POP: u16 = 28;
const OUTPUT_REG2: u16 = 32;
const CONJUNCTION: u16 = 34;
const CT: u16 = 35;
const NAT: u16 = 36;
const CONTROLLER2: u16 = 37;
const OUTPUT_TRUNC: u16 = 39;
const CLONE: u16 = 42;
const CT_CLEAR: u16 = 43;
const RESUBMIT_TABLE_CT: u16 = 44;
const LEARN2: u16 = 45;
const ENCAP: u16 = 46;
const DECAP: u16 = 47;
const DEC_NSH_TTL: u16 = 48;
const CHECK_PKT_LARGER: u16 = 49;
const DELETE_FIELD: u16 = 50;

/// Bytes before the arguments.
const HEADER: usize = 10;
/// As the table of a resubmission: the current one.
const TABLE_ALL: u8 = 0xff;

/// Reads what follows type and length; `None` if the action is not one of these.
pub(super) fn decode(r: &mut Reader<'_>, depth: usize) -> Result<Option<Action>> {
    if r.u32()? != NX_VENDOR {
        return Ok(None);
    }
    let subtype = r.u16()?;
    Ok(Some(match subtype {
        RESUBMIT => {
            let port = PortNo::from_u16(r.u16()?);
            Action::Resubmit { port, table: None, ct: false }
        }
        RESUBMIT_TABLE | RESUBMIT_TABLE_CT => {
            let port = PortNo::from_u16(r.u16()?);
            Action::Resubmit { port, table: Some(r.u8()?), ct: subtype == RESUBMIT_TABLE_CT }
        }
        SET_TUNNEL => {
            r.skip(2)?;
            Action::SetTunnel(r.u32()?)
        }
        SET_TUNNEL64 => {
            r.skip(6)?;
            Action::SetTunnel64(r.u64()?)
        }
        POP_QUEUE => Action::PopQueue,
        NOTE => Action::Note(r.rest()),
        OUTPUT_REG => {
            let (ofs, n_bits) = r.bit_range()?;
            let src = OxmField::decode(r)?;
            Action::OutputReg { src, ofs, n_bits, max_len: r.u16()? }
        }
        OUTPUT_REG2 => {
            let (ofs, n_bits) = r.bit_range()?;
            let max_len = r.u16()?;
            Action::OutputReg { src: OxmField::decode(r)?, ofs, n_bits, max_len }
        }
        LEARN | LEARN2 => Action::Learn(Learn::decode(r, subtype == LEARN2)?),
        EXIT => Action::Exit,
        FIN_TIMEOUT => Action::FinTimeout { idle_timeout: r.u16()?, hard_timeout: r.u16()? },
        CONTROLLER => Action::ControllerV1 { max_len: r.u16()?, controller_id: r.u16()?, reason: r.u8()? },
        CONTROLLER2 => Action::Controller(Controller2::decode(r)?),
        DEC_TTL_CNT_IDS => {
            let n = r.u16()?;
            r.skip(4)?;
            Action::DecTtlCntIds((0..n).map(|_| r.u16()).collect::<Result<_>>()?)
        }
        STACK_PUSH | STACK_POP => {
            let ofs = r.u16()?;
            let field = OxmField::decode(r)?;
            let n_bits = r.u16()?;
            if subtype == STACK_PUSH {
                Action::StackPush { field, ofs, n_bits }
            } else {
                Action::StackPop { field, ofs, n_bits }
            }
        }
        WRITE_METADATA => {
            r.skip(6)?;
            Action::WriteMetadata { metadata: r.u64()?, mask: r.u64()? }
        }
        select::MULTIPATH => Action::Multipath(Multipath::decode(r)?),
        select::BUNDLE | select::BUNDLE_LOAD => {
            Action::Bundle(Bundle::decode(r, subtype == select::BUNDLE_LOAD)?)
        }
        sample::SAMPLE | sample::SAMPLE2 | sample::SAMPLE3 | sample::SAMPLE4 => {
            Action::Sample(Sample::decode(r, subtype)?)
        }
        ENCAP => Action::Encap(Encap::decode(r)?),
        DECAP => {
            r.skip(2)?;
            Action::Decap(r.u32()?)
        }
        DEC_NSH_TTL => Action::DecNshTtl,
        CONJUNCTION => Action::Conjunction { clause: r.u8()?, n_clauses: r.u8()?, id: r.u32()? },
        CT => Action::Ct(Ct::decode(r, depth)?),
        NAT => Action::Nat(Nat::decode(r)?),
        OUTPUT_TRUNC => Action::OutputTrunc { port: PortNo::from_u16(r.u16()?), max_len: r.u32()? },
        CLONE => {
            r.skip(6)?;
            Action::Clone(decode_nested(r, depth + 1)?)
        }
        CT_CLEAR => Action::CtClear,
        CHECK_PKT_LARGER => {
            let (pkt_len, ofs) = (r.u16()?, r.u16()?);
            Action::CheckPktLarger { pkt_len, dst: OxmField::decode(r)?, ofs }
        }
        DELETE_FIELD => Action::DeleteField(OxmField::decode(r)?),
        _ => return Ok(None),
    }))
}

/// Writes the action, which is one of these.
pub(super) fn encode(action: &Action, w: &mut Writer<impl Sink>) {
    let from = w.pos();
    w.u16(EXPERIMENTER);
    w.later();
    w.u32(NX_VENDOR);
    let subtype_at = w.later();
    let subtype = encode_arguments(action, w);
    w.patch_u16(subtype_at, subtype);
    // Those that hold a header of four or eight bytes have room for either.
    let room = match subtype {
        STACK_PUSH | STACK_POP | OUTPUT_REG | OUTPUT_REG2 | CHECK_PKT_LARGER | DELETE_FIELD => 24,
        _ => 0,
    };
    w.zeros(usize::saturating_sub(room, w.pos() - from));
    w.pad(from);
    w.patch_len(from + 2, from, "action");
}

fn encode_arguments(action: &Action, w: &mut Writer<impl Sink>) -> u16 {
    match action {
        Action::Resubmit { port, table, ct } => {
            w.port16(*port);
            match (table, ct) {
                (None, false) => RESUBMIT,
                (_, ct) => {
                    w.u8(table.unwrap_or(TABLE_ALL));
                    if *ct { RESUBMIT_TABLE_CT } else { RESUBMIT_TABLE }
                }
            }
        }
        Action::SetTunnel(key) => {
            w.zeros(2);
            w.u32(*key);
            SET_TUNNEL
        }
        Action::SetTunnel64(key) => {
            w.zeros(6);
            w.u64(*key);
            SET_TUNNEL64
        }
        Action::PopQueue => POP_QUEUE,
        Action::Note(data) => {
            w.slice(data);
            NOTE
        }
        Action::OutputReg { src, ofs, n_bits, max_len } => {
            w.bit_range(*ofs, *n_bits);
            if src.experimenter_id().is_some() {
                w.u16(*max_len);
                src.encode(w);
                OUTPUT_REG2
            } else {
                src.encode(w);
                w.u16(*max_len);
                OUTPUT_REG
            }
        }
        Action::Learn(learn) => {
            learn.encode(w);
            if learn.is_extended() { LEARN2 } else { LEARN }
        }
        Action::Exit => EXIT,
        Action::FinTimeout { idle_timeout, hard_timeout } => {
            w.u16(*idle_timeout);
            w.u16(*hard_timeout);
            FIN_TIMEOUT
        }
        Action::ControllerV1 { max_len, controller_id, reason } => {
            w.u16(*max_len);
            w.u16(*controller_id);
            w.u8(*reason);
            CONTROLLER
        }
        Action::Controller(controller) => {
            controller.encode(w);
            CONTROLLER2
        }
        Action::DecTtlCntIds(ids) => {
            w.len16(ids.len(), "dec_ttl");
            w.zeros(4);
            ids.iter().for_each(|&id| w.u16(id));
            DEC_TTL_CNT_IDS
        }
        Action::StackPush { field, ofs, n_bits } | Action::StackPop { field, ofs, n_bits } => {
            w.u16(*ofs);
            field.encode(w);
            w.u16(*n_bits);
            if matches!(action, Action::StackPush { .. }) { STACK_PUSH } else { STACK_POP }
        }
        Action::WriteMetadata { metadata, mask } => {
            w.zeros(6);
            w.u64(*metadata);
            w.u64(*mask);
            WRITE_METADATA
        }
        Action::Multipath(multipath) => multipath.encode(w),
        Action::Bundle(bundle) => bundle.encode(w),
        Action::Sample(sample) => sample.encode(w),
        Action::Encap(encap) => {
            encap.encode(w);
            ENCAP
        }
        Action::Decap(packet_type) => {
            w.zeros(2);
            w.u32(*packet_type);
            DECAP
        }
        Action::DecNshTtl => DEC_NSH_TTL,
        Action::Conjunction { clause, n_clauses, id } => {
            w.u8(*clause);
            w.u8(*n_clauses);
            w.u32(*id);
            CONJUNCTION
        }
        Action::Ct(ct) => {
            ct.encode(w);
            CT
        }
        Action::Nat(nat) => {
            nat.encode(w);
            NAT
        }
        Action::OutputTrunc { port, max_len } => {
            w.port16(*port);
            w.u32(*max_len);
            OUTPUT_TRUNC
        }
        Action::Clone(actions) => {
            w.zeros(6);
            encode_list(actions, w);
            CLONE
        }
        Action::CtClear => CT_CLEAR,
        Action::CheckPktLarger { pkt_len, dst, ofs } => {
            w.u16(*pkt_len);
            w.u16(*ofs);
            dst.encode(w);
            CHECK_PKT_LARGER
        }
        Action::DeleteField(field) => {
            field.encode(w);
            DELETE_FIELD
        }
        _ => unreachable!("the standard actions are written by their own module"),
    }
}

/// The data of a note as a switch gives it back: zeros fill the action up to a multiple of eight bytes.
pub(super) fn pad_note(data: &Bytes) -> Bytes {
    match padding(HEADER + data.len()) {
        0 => data.clone(),
        n => [&data[..], &[0; 8][..n]].concat().into(),
    }
}
