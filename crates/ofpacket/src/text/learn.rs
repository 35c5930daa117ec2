//! `learn(...)`.

use super::action::limited;
use super::error::{Fail, Parse};
use super::subfield::{Subfield, destination, short};
use super::token::{Pair, Pairs, all, arrow, wide};
use super::value;
use crate::action::{Learn, LearnDst, LearnSpec, LearnSrc};
use crate::flow::DEFAULT_PRIORITY;

pub(super) fn learn(text: &str) -> Parse<'_, Learn> {
    let mut out = Learn { priority: DEFAULT_PRIORITY, table_id: 1, ..Learn::default() };
    for pair in Pairs(text) {
        let pair = pair?;
        match pair.key {
            "table" => {
                out.table_id = limited(pair.value, "a table from 0 to 254", |table| *table != u8::MAX)?
            }
            "priority" => out.priority = pair.number("a priority")?,
            "idle_timeout" => out.idle_timeout = pair.number("seconds")?,
            "hard_timeout" => out.hard_timeout = pair.number("seconds")?,
            "fin_idle_timeout" => out.fin_idle_timeout = pair.number("seconds")?,
            "fin_hard_timeout" => out.fin_hard_timeout = pair.number("seconds")?,
            "cookie" => out.cookie = pair.number("a cookie of 64 bits")?,
            "send_flow_rem" => out.flags |= Learn::SEND_FLOW_REM,
            "delete_learned" => out.flags |= Learn::DELETE_LEARNED,
            "limit" => out.limit = pair.number("how many flows")?,
            "result_dst" => {
                let bit = destination(pair.value)?;
                if bit.n_bits != 1 {
                    return Err(Fail::new(pair.value, "one bit of a field"));
                }
                out.flags |= Learn::WRITE_RESULT;
                out.result = Some((bit.legacy(), bit.ofs));
            }
            _ => out.specs.push(spec(pair)?),
        }
    }
    Ok(out)
}

fn spec(pair: Pair<'_>) -> Parse<'_, LearnSpec> {
    match pair.key {
        "load" => load(pair.value),
        "output" => {
            let src = short(pair.value)?;
            Ok(LearnSpec { n_bits: src.n_bits, src: source(src), dst: LearnDst::Output })
        }
        key => {
            let dst = short(key).map_err(|_| pair.unknown("a field, load, output or an option of learn"))?;
            let src = match pair.value {
                // The same field of the packet that is learned from.
                "" => source(dst),
                text => match short(text) {
                    Ok(src) => same_width(text, src, dst)?,
                    Err(_) => constant(text, dst)?,
                },
            };
            Ok(LearnSpec { n_bits: dst.n_bits, src, dst: LearnDst::Match(dst.legacy(), dst.ofs) })
        }
    }
}

fn load(text: &str) -> Parse<'_, LearnSpec> {
    let (from, to) = arrow(text)?;
    let dst = short(to)?;
    destination(to)?;
    let src = if from.starts_with(|c: char| c.is_ascii_digit()) {
        let bytes = all(wide(WIDEST), from, "a number, or bits of a field")?;
        cut(&bytes, dst.n_bits).ok_or_else(|| Fail::new(from, format!("a number of {} bits", dst.n_bits)))?
    } else {
        same_width(to, short(from)?, dst)?
    };
    Ok(LearnSpec { n_bits: dst.n_bits, src, dst: LearnDst::Load(dst.legacy(), dst.ofs) })
}

/// No constant has more bytes than a tunnel option.
const WIDEST: usize = 128;

fn source(bits: Subfield) -> LearnSrc {
    LearnSrc::Field(bits.legacy(), bits.ofs)
}

/// Bits of the packet that is learned from, as many as there are to fill.
fn same_width(at: &str, src: Subfield, dst: Subfield) -> Parse<'_, LearnSrc> {
    let expected =
        || format!("as many bits as there are in the other field, {} or {}", src.n_bits, dst.n_bits);
    if src.n_bits == dst.n_bits { Ok(source(src)) } else { Err(Fail::new(at, expected())) }
}

/// A constant for a field, or for some bits of it.
fn constant(text: &str, dst: Subfield) -> Parse<'_, LearnSrc> {
    let bytes = if dst.is_whole() {
        let masked = value::value(dst.info, text)?;
        if !masked.is_exact() {
            return Err(Fail::new(text, "a value without a mask"));
        }
        masked.value
    } else {
        all(wide(dst.info.bytes.into()), text, "a number, or bits of a field")?
    };
    cut(&bytes, dst.n_bits).ok_or_else(|| Fail::new(text, format!("a number of {} bits", dst.n_bits)))
}

/// The bytes that `n_bits` need, if the others are zero.
fn cut(bytes: &[u8], n_bits: u16) -> Option<LearnSrc> {
    let len = usize::from(n_bits.div_ceil(8));
    let mut out = vec![0; len.saturating_sub(bytes.len())];
    out.extend_from_slice(&bytes[bytes.len().saturating_sub(len)..]);
    (value::used_bits(bytes) <= n_bits.into()).then(|| LearnSrc::Immediate(out.into()))
}
