//! Reading within bounds, and writing with lengths filled in afterwards.
//!
//! OpenFlow is big-endian throughout; most structures carry their own length and are padded with zeros to
//! a multiple of eight bytes.

mod reader;
mod sink;
mod writer;

pub(crate) use reader::Reader;
pub(crate) use sink::Sink;
pub(crate) use writer::{Writer, measure, writes};

use crate::error::DecodeError;

pub(crate) type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Zero bytes that fill `len` up to a multiple of eight.
pub(crate) const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 7
}
