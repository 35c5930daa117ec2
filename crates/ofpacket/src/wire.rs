//! Reading within bounds, and writing with lengths filled in afterwards.
//!
//! OpenFlow is big-endian throughout; most structures carry their own length and are padded with zeros to
//! a multiple of eight bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};

pub(crate) type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// A cursor over bytes that never reads past their end.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    /// Offset of `data[0]` in what the caller handed in, for errors.
    offset: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(data: &'a [u8], what: &'static str) -> Self {
        Self { data, offset: 0, what }
    }

    /// Names the structure that is read from here on.
    pub(crate) fn named(mut self, what: &'static str) -> Self {
        self.what = what;
        self
    }

    pub(crate) fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { offset: self.offset, what: self.what, kind }
    }

    pub(crate) fn bad_value(&self, value: impl Into<u64>) -> DecodeError {
        self.error(DecodeErrorKind::BadValue(value.into()))
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// What is left, without taking it.
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.data
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((head, tail)) = self.data.split_at_checked(n) else {
            return Err(self.error(DecodeErrorKind::Truncated { needed: n, left: self.data.len() }));
        };
        self.data = tail;
        self.offset += n;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

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
        self.offset += self.data.len();
        self.data = &[];
        rest
    }

    /// A reader over the next `n` bytes alone, which are taken from this one.
    pub(crate) fn sub(&mut self, n: usize, what: &'static str) -> Result<Self> {
        let offset = self.offset;
        let data = self.take(n)?;
        Ok(Self { data, offset, what })
    }

    /// Skips padding whose contents the specification tells receivers to ignore.
    pub(crate) fn skip(&mut self, n: usize) -> Result<()> {
        self.take(n).map(|_| ())
    }

    /// Skips what is left of the zeros that fill a structure of `len` bytes up to a multiple of eight. The
    /// last structure of a message may lack them.
    pub(crate) fn skip_padding(&mut self, len: usize) {
        let n = padding(len).min(self.data.len());
        self.data = &self.data[n..];
        self.offset += n;
    }

    pub(crate) fn zeros(&mut self, n: usize) -> Result<()> {
        let at = self.clone();
        match self.take(n)?.iter().all(|&b| b == 0) {
            true => Ok(()),
            false => Err(at.error(DecodeErrorKind::NonZeroPadding)),
        }
    }

    /// Fails unless everything was read.
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
        let mut head = self.clone().named(what);
        let kind = head.u16()?;
        let len = usize::from(head.u16()?);
        if len < 4 {
            return Err(head.error(DecodeErrorKind::BadLength(len)));
        }
        let mut body = self.sub(len, what)?;
        body.skip(4)?;
        self.skip_padding(len);
        Ok((kind, body))
    }
}

/// Zero bytes that fill `len` up to a multiple of eight.
pub(crate) const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 7
}

/// Writes into a buffer; remembers a length that did not fit instead of failing in the middle.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    buf: &'a mut BytesMut,
    /// Where this writer began; positions are relative to it.
    start: usize,
    too_long: Option<&'static str>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buf: &'a mut BytesMut) -> Self {
        let start = buf.len();
        Self { buf, start, too_long: None }
    }

    /// Ends the writing; on error what was written is taken back.
    pub(crate) fn finish(self) -> Result<(), EncodeError> {
        match self.too_long {
            None => Ok(()),
            Some(what) => {
                self.buf.truncate(self.start);
                Err(EncodeError { what })
            }
        }
    }

    /// Bytes written so far.
    pub(crate) fn pos(&self) -> usize {
        self.buf.len() - self.start
    }

    pub(crate) fn u8(&mut self, v: u8) {
        self.buf.put_u8(v);
    }

    pub(crate) fn u16(&mut self, v: u16) {
        self.buf.put_u16(v);
    }

    pub(crate) fn u32(&mut self, v: u32) {
        self.buf.put_u32(v);
    }

    pub(crate) fn u64(&mut self, v: u64) {
        self.buf.put_u64(v);
    }

    pub(crate) fn slice(&mut self, v: &[u8]) {
        self.buf.put_slice(v);
    }

    pub(crate) fn zeros(&mut self, n: usize) {
        self.buf.put_bytes(0, n);
    }

    /// Zeros up to a multiple of eight bytes, counted from position `from`.
    pub(crate) fn pad(&mut self, from: usize) {
        self.zeros(padding(self.pos() - from));
    }

    pub(crate) fn len8(&mut self, len: usize, what: &'static str) {
        let v = u8::try_from(len).unwrap_or_else(|_| self.overflow(what));
        self.u8(v);
    }

    pub(crate) fn len16(&mut self, len: usize, what: &'static str) {
        let v = u16::try_from(len).unwrap_or_else(|_| self.overflow(what));
        self.u16(v);
    }

    /// Sets the 16-bit length at `at` to the bytes written since `from`.
    pub(crate) fn patch_len(&mut self, at: usize, from: usize, what: &'static str) {
        let len = self.pos() - from;
        let v = u16::try_from(len).unwrap_or_else(|_| self.overflow(what));
        self.patch_u16(at, v);
    }

    pub(crate) fn patch_u16(&mut self, at: usize, v: u16) {
        let at = self.start + at;
        self.buf[at..at + 2].copy_from_slice(&v.to_be_bytes());
    }

    /// A property: the length counts the header and the contents, not the padding.
    pub(crate) fn property(&mut self, kind: u16, what: &'static str, contents: impl FnOnce(&mut Self)) {
        let from = self.pos();
        self.u16(kind);
        self.u16(0);
        contents(self);
        self.patch_len(from + 2, from, what);
        self.pad(from);
    }

    /// A port in the 16 bits that Open vSwitch's extensions have for it.
    pub(crate) fn port16(&mut self, port: crate::PortNo) {
        let v = port.to_u16().unwrap_or_else(|| self.overflow("port number"));
        self.u16(v);
    }

    /// A property that holds one byte.
    pub(crate) fn property_u8(&mut self, kind: u16, what: &'static str, v: u8) {
        self.property(kind, what, |w| w.u8(v));
    }

    /// A property that holds 16 bits. Open vSwitch counts its padding as contents.
    pub(crate) fn property_u16(&mut self, kind: u16, what: &'static str, v: u16) {
        self.property(kind, what, |w| {
            w.u16(v);
            w.zeros(2);
        });
    }

    fn overflow<T: Default>(&mut self, what: &'static str) -> T {
        self.too_long.get_or_insert(what);
        T::default()
    }
}
