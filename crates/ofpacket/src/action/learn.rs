//! `learn`: a flow that adds flows.

use bytes::Bytes;

use crate::IntoValue;
use crate::oxm::{Oxm, OxmField};
use crate::wire::{Reader, Result, Sink, Writer};

/// Add a flow made from the packet, or refresh it if it is there (`NXAST_LEARN`, `NXAST_LEARN2`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Learn {
    /// Seconds without a packet until the learned flow goes; 0 for never.
    pub idle_timeout: u16,
    /// Seconds until the learned flow goes; 0 for never.
    pub hard_timeout: u16,
    /// Of the learned flow.
    pub priority: u16,
    /// Of the learned flow.
    pub cookie: u64,
    /// [`Learn::SEND_FLOW_REM`], [`Learn::DELETE_LEARNED`], [`Learn::WRITE_RESULT`].
    pub flags: u16,
    /// Of the learned flow.
    pub table_id: u8,
    /// The idle timeout, in seconds, after a TCP packet with FIN or RST; 0 for no change.
    pub fin_idle_timeout: u16,
    /// The hard timeout, in seconds, after a TCP packet with FIN or RST; 0 for no change.
    pub fin_hard_timeout: u16,
    /// How many flows may be learned; 0 for any number.
    pub limit: u32,
    /// With [`Learn::WRITE_RESULT`]: the bit that says whether the limit allowed it.
    pub result: Option<(OxmField, u16)>,
    /// What the learned flow matches and does.
    pub specs: Vec<LearnSpec>,
}

/// One thing that a learned flow matches or does: `n_bits` bits from a source to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LearnSpec {
    /// How many bits, 1 to 1023.
    pub n_bits: u16,
    /// Where they come from.
    pub src: LearnSrc,
    /// Where they go.
    pub dst: LearnDst,
}

/// Where the bits of a learned flow come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LearnSrc {
    /// A field of the packet that is learned from, beginning at a bit.
    Field(OxmField, u16),
    /// A constant, big-endian, its `n_bits` least significant bits.
    Immediate(Bytes),
}

/// What the bits of a learned flow are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LearnDst {
    /// The flow matches them in a field, beginning at a bit.
    Match(OxmField, u16),
    /// The flow puts them into a field, beginning at a bit.
    Load(OxmField, u16),
    /// The flow outputs to the port of this number.
    Output,
}

const SRC_IMMEDIATE: u16 = 1 << 13;
const DST_MASK: u16 = 3 << 11;
const DST_LOAD: u16 = 1 << 11;
const DST_OUTPUT: u16 = 2 << 11;
const N_BITS: u16 = 0x3ff;

impl Learn {
    /// Tell the controllers when the learned flow goes.
    pub const SEND_FLOW_REM: u16 = 1;
    /// The learned flows go with the flow that has this action.
    pub const DELETE_LEARNED: u16 = 2;
    /// Write to `result` whether the flow was learned.
    pub const WRITE_RESULT: u16 = 4;

    /// Whether it takes the newer form of the action.
    pub(super) fn is_extended(&self) -> bool {
        self.limit != 0 || self.result.is_some()
    }

    /// ```text
    /// +------+------+----------+-------------+-------+-------+---+----------+----------+
    /// | idle | hard | priority | cookie (64) | flags | table | 0 | fin idle | fin hard |
    /// +------+------+----------+-------------+-------+-------+---+----------+----------+
    /// | LEARN2: limit (32) | result's bit | 0 0 | result's field, if WRITE_RESULT       |
    /// +--------------------+--------------+-----+---------------------------------------+
    /// | specs ...                                                                       |
    /// +---------------------------------------------------------------------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>, extended: bool) -> Result<Self> {
        let mut out = Self {
            idle_timeout: r.u16()?,
            hard_timeout: r.u16()?,
            priority: r.u16()?,
            cookie: r.u64()?,
            flags: r.u16()?,
            table_id: r.u8()?,
            ..Self::default()
        };
        r.skip(1)?;
        out.fin_idle_timeout = r.u16()?;
        out.fin_hard_timeout = r.u16()?;
        if extended {
            out.limit = r.u32()?;
            let ofs = r.u16()?;
            r.skip(2)?;
            if out.flags & Self::WRITE_RESULT != 0 {
                out.result = Some((OxmField::decode(r)?, ofs));
            }
        }
        while r.len() >= 2 && !r.peek().starts_with(&[0, 0]) {
            out.specs.push(LearnSpec::decode(r)?);
        }
        r.zeros(r.len())?;
        Ok(out)
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.idle_timeout);
        w.u16(self.hard_timeout);
        w.u16(self.priority);
        w.u64(self.cookie);
        w.u16(self.flags);
        w.u8(self.table_id);
        w.u8(0);
        w.u16(self.fin_idle_timeout);
        w.u16(self.fin_hard_timeout);
        if self.is_extended() {
            w.u32(self.limit);
            w.u16(self.result.map_or(0, |(_, ofs)| ofs));
            w.zeros(2);
            if let Some((field, _)) = self.result {
                field.encode(w);
            }
        }
        self.specs.iter().for_each(|spec| spec.encode(w));
    }

    pub(super) fn canonical(mut self) -> Self {
        self.result = self.result.map(|(field, ofs)| (field.preferred(), ofs));
        for spec in &mut self.specs {
            match &mut spec.src {
                LearnSrc::Field(field, _) => *field = field.preferred(),
                LearnSrc::Immediate(bits) => *bits = fit(bits, usize::from(spec.n_bits.div_ceil(8))),
            }
            match &mut spec.dst {
                LearnDst::Match(field, _) | LearnDst::Load(field, _) => *field = field.preferred(),
                LearnDst::Output => {}
            }
        }
        self
    }
}

impl LearnSpec {
    /// The learned flow matches this value of the whole field.
    pub fn match_value(field: OxmField, value: impl IntoValue) -> Self {
        let src = LearnSrc::Immediate(Bytes::copy_from_slice(&Oxm::new(field, value).value));
        Self { n_bits: field.bits(), src, dst: LearnDst::Match(field, 0) }
    }

    /// The learned flow matches `n_bits` bits of the field, from bit `ofs` on.
    pub fn match_bits(field: OxmField, ofs: u16, n_bits: u16, value: impl IntoValue) -> Self {
        Self { n_bits, src: immediate(n_bits, value), dst: LearnDst::Match(field, ofs) }
    }

    /// The learned flow matches, in `field`, what the packet has in `src`.
    pub fn match_field(field: OxmField, src: OxmField) -> Self {
        Self { n_bits: field.bits(), src: LearnSrc::Field(src, 0), dst: LearnDst::Match(field, 0) }
    }

    /// The learned flow sets the whole field to this value.
    pub fn load_value(field: OxmField, value: impl IntoValue) -> Self {
        let src = LearnSrc::Immediate(Bytes::copy_from_slice(&Oxm::new(field, value).value));
        Self { n_bits: field.bits(), src, dst: LearnDst::Load(field, 0) }
    }

    /// The learned flow sets `n_bits` bits of the field, from bit `ofs` on.
    pub fn load_bits(field: OxmField, ofs: u16, n_bits: u16, value: impl IntoValue) -> Self {
        Self { n_bits, src: immediate(n_bits, value), dst: LearnDst::Load(field, ofs) }
    }

    /// The learned flow sets the field to what the packet that is learned from has in `src`.
    pub fn load_field(field: OxmField, src: OxmField) -> Self {
        Self { n_bits: field.bits(), src: LearnSrc::Field(src, 0), dst: LearnDst::Load(field, 0) }
    }

    /// The learned flow outputs to the port whose number the packet that is learned from has in `src`.
    pub fn output(src: OxmField) -> Self {
        Self { n_bits: src.bits(), src: LearnSrc::Field(src, 0), dst: LearnDst::Output }
    }

    /// ```text
    /// +---+-----+-----+--------+-----------------------------+----------------------+
    /// | 0 | src | dst | n_bits | field header (32), bit (16) | field header, bit,   |
    /// |   | (1) | (2) |  (10)  | or the constant, 16-aligned | none if dst = output |
    /// +---+-----+-----+--------+-----------------------------+----------------------+
    /// ```
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let at = r.clone().named("learn");
        let header = r.u16()?;
        let n_bits = header & N_BITS;
        if header & !(SRC_IMMEDIATE | DST_MASK | N_BITS) != 0 || n_bits == 0 {
            return Err(at.bad_value(header));
        }
        let src = if header & SRC_IMMEDIATE == 0 {
            LearnSrc::Field(OxmField::decode(r)?, r.u16()?)
        } else {
            r.zeros(usize::from(n_bits.div_ceil(8) % 2))?;
            LearnSrc::Immediate(r.bytes(usize::from(n_bits.div_ceil(8)))?)
        };
        let dst = match header & DST_MASK {
            0 => LearnDst::Match(OxmField::decode(r)?, r.u16()?),
            DST_LOAD => LearnDst::Load(OxmField::decode(r)?, r.u16()?),
            DST_OUTPUT => LearnDst::Output,
            _ => return Err(at.bad_value(header)),
        };
        Ok(Self { n_bits, src, dst })
    }

    fn encode(&self, w: &mut Writer<impl Sink>) {
        let src = match self.src {
            LearnSrc::Field(..) => 0,
            LearnSrc::Immediate(_) => SRC_IMMEDIATE,
        };
        let dst = match self.dst {
            LearnDst::Match(..) => 0,
            LearnDst::Load(..) => DST_LOAD,
            LearnDst::Output => DST_OUTPUT,
        };
        w.u16(src | dst | self.n_bits & N_BITS);
        match &self.src {
            LearnSrc::Field(field, ofs) => {
                field.encode(w);
                w.u16(*ofs);
            }
            LearnSrc::Immediate(bits) => w.slice(&fit(bits, 2 * usize::from(self.n_bits.div_ceil(16)))),
        }
        match self.dst {
            LearnDst::Match(field, ofs) | LearnDst::Load(field, ofs) => {
                field.encode(w);
                w.u16(ofs);
            }
            LearnDst::Output => {}
        }
    }
}

/// The least significant bytes of a value, in a constant that is as long as `n_bits` need.
fn immediate(n_bits: u16, value: impl IntoValue) -> LearnSrc {
    let len = n_bits.div_ceil(8) as u8;
    LearnSrc::Immediate(Bytes::copy_from_slice(
        &Oxm::new(OxmField::from_numbers(0xfffe, 0, len), value).value,
    ))
}

/// The last `len` bytes, with zeros in front if there are not so many.
fn fit(bits: &Bytes, len: usize) -> Bytes {
    match len.checked_sub(bits.len()) {
        Some(0) => bits.clone(),
        Some(more) => [&vec![0; more], &bits[..]].concat().into(),
        None => bits.slice(bits.len() - len..),
    }
}
