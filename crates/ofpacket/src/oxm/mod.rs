//! Match fields with values: OpenFlow's extensible match (OXM) and Open vSwitch's older numbers for the
//! same thing (NXM).

mod field;
mod table;
mod text;
mod value;

use std::fmt;

use smallvec::SmallVec;

pub use field::OxmField;
pub use table::{Access, FieldInfo, Kind, Maskable, Prerequisite};
pub use value::{IntoValue, Value};

use crate::error::DecodeErrorKind;
use crate::wire::{Reader, Result, Sink, Writer};

pub(crate) use text::{
    flag_names, write_flags_masked, write_frag, write_hex, write_packet_type, write_value,
};

/// A value or a mask. No field but a tunnel option is longer than what has room in here: a flow with ten fields need
/// not be allocated in twenty pieces.
pub type OxmBytes = SmallVec<[u8; 16]>;

/// One field with a value and, if only some bits count, a mask: an OXM TLV (OpenFlow 1.5, section
/// 7.2.3.2).
///
/// `value` and `mask` are big-endian and of the same length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oxm {
    /// Which field.
    pub field: OxmField,
    /// Its value.
    pub value: OxmBytes,
    /// The bits that count; all of them if absent.
    pub mask: Option<OxmBytes>,
}

impl Oxm {
    /// The field with exactly this value. Integers are cut to the width of the field; a tunnel option has
    /// the width of the value.
    pub fn new(field: OxmField, value: impl IntoValue) -> Self {
        Self { field, value: value.into_value().fit(field), mask: None }
    }

    /// The field with the bits of `value` that `mask` selects.
    pub fn masked(field: OxmField, value: impl IntoValue, mask: impl IntoValue) -> Self {
        Self { mask: Some(mask.into_value().fit(field)), ..Self::new(field, value) }
    }

    /// The value as an integer, unless it is wider than 128 bits.
    pub fn to_u128(&self) -> Option<u128> {
        value::to_u128(&self.value)
    }

    /// The mask as an integer, all ones over the width of the value if there is none; `None` if it is wider
    /// than 128 bits.
    pub fn mask_u128(&self) -> Option<u128> {
        match &self.mask {
            Some(mask) => value::to_u128(mask),
            None => value::ones(self.value.len()),
        }
    }

    /// Loses nothing, whatever the bytes are. Within its callers, so that it is made where it belongs: half of a flow
    /// are match fields.
    #[inline(always)]
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (field, has_mask) = OxmField::decode_header(r)?;
        let len = usize::from(field.width());
        if !has_mask {
            return Ok(Self { field, value: OxmBytes::from_slice(r.take(len)?), mask: None });
        }
        if len % 2 != 0 {
            return Err(r.error(DecodeErrorKind::BadLength(len)));
        }
        let field = field.with_len(field.width() / 2);
        let mut half = || r.take(len / 2).map(OxmBytes::from_slice);
        Ok(Self { field, value: half()?, mask: Some(half()?) })
    }

    pub(crate) fn encode(&self, w: &mut Writer<impl Sink>) {
        let mask = self.mask.as_deref().unwrap_or_default();
        let len = self.value.len() + mask.len();
        if w.passes(self.field.header_len() + len) {
            return;
        }
        self.field.encode_header(w, self.mask.is_some(), len);
        w.slice(&self.value);
        w.slice(mask);
    }
}

/// Whether a mask selects all of a field. A tunnel option is a multiple of four bytes long, and a switch
/// leaves out the leading bytes of a mask that do not count: one byte of ones is not all of an option.
pub(crate) fn is_full(field: OxmField, mask: &[u8]) -> bool {
    let whole = field.tun_metadata_index().is_none() || matches!(mask.len(), n @ 4.. if n.is_multiple_of(4));
    whole && mask.iter().all(|&b| b == 0xff)
}

/// As in `set_field`, without its arrow: `0x2->reg15`, `0x1/0x1->reg10`.
impl fmt::Display for Oxm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(f, self)?;
        match self.field.info() {
            Some(info) => write!(f, "->{}", info.name),
            None => write!(f, "->{}", self.field),
        }
    }
}
