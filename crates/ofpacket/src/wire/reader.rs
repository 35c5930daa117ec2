//! Reading.

use bytes::Bytes;

use super::{Result, padding};
use crate::error::{DecodeError, DecodeErrorKind};

/// A cursor over bytes that never reads past their end.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    /// Offset of the end of `data` in what the caller handed in, for errors. Unlike that of its begin it stays.
    end: usize,
    what: &'static str,
    careful: bool,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(data: &'a [u8], what: &'static str) -> Self {
        Self { data, end: data.len(), what, careful: false }
    }

    /// Has every action and every message within a message compared with its bytes, so that what would be lost
    /// of one of them does not make a stranger of all that is around it.
    pub(crate) fn carefully(self) -> Self {
        Self { careful: true, ..self }
    }

    pub(crate) fn is_careful(&self) -> bool {
        self.careful
    }

    /// Names the structure that is read from here on.
    #[inline]
    pub(crate) fn named(mut self, what: &'static str) -> Self {
        self.what = what;
        self
    }

    pub(crate) fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { offset: self.end - self.data.len(), what: self.what, kind }
    }

    pub(crate) fn bad_value(&self, value: impl Into<u64>) -> DecodeError {
        self.error(DecodeErrorKind::BadValue(value.into()))
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// What is left, without taking it.
    #[inline]
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.data
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((head, tail)) = self.data.split_at_checked(n) else {
            return Err(self.truncated(n));
        };
        self.data = tail;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((&head, tail)) = self.data.split_first_chunk() else {
            return Err(self.truncated(N));
        };
        self.data = tail;
        Ok(head)
    }

    #[cold]
    fn truncated(&self, needed: usize) -> DecodeError {
        self.error(DecodeErrorKind::Truncated { needed, left: self.data.len() })
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Bits of a field in one 16-bit number, the first and how many: `ofs << 6 | (n_bits - 1)` (`ofs_nbits` of
    /// `lib/nx-match.h`).
    pub(crate) fn bit_range(&mut self) -> Result<(u16, u16)> {
        let range = self.u16()?;
        Ok((range >> 6, (range & 0x3f) + 1))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn mac(&mut self) -> Result<[u8; 6]> {
        self.array()
    }

    pub(crate) fn ipv6(&mut self) -> Result<std::net::Ipv6Addr> {
        Ok(self.array::<16>()?.into())
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(self.take(n)?))
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = Bytes::copy_from_slice(self.data);
        self.data = &[];
        rest
    }

    /// The next structure, which begins with two 16-bit numbers, `first` and its own length, and whose length
    /// `is_possible`; `first`, and what follows the two.
    #[inline]
    pub(crate) fn structure(
        &mut self,
        what: &'static str,
        is_possible: impl FnOnce(usize) -> bool,
    ) -> Result<(u16, Self)> {
        let Some(&[f0, f1, l0, l1]) = self.data.first_chunk() else {
            return Err(self.clone().named(what).truncated(4));
        };
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if len < 4 || !is_possible(len) {
            return Err(self.clone().named(what).error(DecodeErrorKind::BadLength(len)));
        }
        let mut body = self.sub(len, what)?;
        body.skip(4)?;
        Ok((u16::from_be_bytes([f0, f1]), body))
    }

    /// A reader over the next `n` bytes alone, which are taken from this one.
    #[inline]
    pub(crate) fn sub(&mut self, n: usize, what: &'static str) -> Result<Self> {
        let data = self.take(n)?;
        Ok(Self { data, end: self.end - self.data.len(), what, careful: self.careful })
    }

    /// Skips padding whose contents the specification tells receivers to ignore.
    #[inline]
    pub(crate) fn skip(&mut self, n: usize) -> Result<()> {
        self.take(n).map(|_| ())
    }

    /// Skips what is left of the zeros that fill a structure of `len` bytes up to a multiple of eight. The
    /// last structure of a message may lack them.
    #[inline]
    pub(crate) fn skip_padding(&mut self, len: usize) {
        let n = padding(len).min(self.data.len());
        self.data = &self.data[n..];
    }

    #[inline]
    pub(crate) fn zeros(&mut self, n: usize) -> Result<()> {
        let at = self.clone();
        match self.take(n)?.iter().all(|&b| b == 0) {
            true => Ok(()),
            false => Err(at.error(DecodeErrorKind::NonZeroPadding)),
        }
    }

    /// Fails unless everything was read.
    #[inline]
    pub(crate) fn finish(&self) -> Result<()> {
        match self.data.len() {
            0 => Ok(()),
            n => Err(self.error(DecodeErrorKind::Trailing(n))),
        }
    }

    /// Fails unless nothing is left but zeros that fill up to a multiple of four: the end of a property.
    pub(crate) fn finish_property(&mut self) -> Result<()> {
        match self.data.len() {
            n @ 0..4 => self.zeros(n),
            _ => self.finish(),
        }
    }

    /// The type and the contents of the next property: `{ type16, length16, contents, pad }`, the length
    /// without the padding to eight bytes.
    pub(crate) fn property(&mut self, what: &'static str) -> Result<(u16, Self)> {
        let (kind, body) = self.structure(what, |_| true)?;
        self.skip_padding(4 + body.len());
        Ok((kind, body))
    }
}
