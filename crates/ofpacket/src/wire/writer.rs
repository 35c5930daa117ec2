//! Writing.

use bytes::BytesMut;

use super::sink::{Buffer, Count, Expected, Sink};
use super::{Result, padding};
use crate::error::EncodeError;

/// Whether `write` writes exactly these bytes. Nothing is stored, nothing allocated.
pub(crate) fn writes(bytes: &[u8], write: impl FnOnce(&mut Writer<Expected<'_>>)) -> bool {
    let mut w = Writer { sink: Expected { bytes, rest: bytes, same: true }, too_long: None };
    write(&mut w);
    w.sink.same && w.sink.rest.is_empty() && w.too_long.is_none()
}

/// How many bytes `write` writes.
pub(crate) fn measure(write: impl FnOnce(&mut Writer<Count>)) -> usize {
    let mut w = Writer { sink: Count(0), too_long: None };
    write(&mut w);
    w.pos()
}

/// Writes numbers; remembers a length that did not fit instead of failing in the middle.
#[derive(Debug)]
pub(crate) struct Writer<S> {
    sink: S,
    too_long: Option<&'static str>,
}

impl<'a> Writer<Buffer<'a>> {
    pub(crate) fn new(buf: &'a mut BytesMut) -> Self {
        let start = buf.len();
        Self { sink: Buffer { buf, start }, too_long: None }
    }

    /// Ends the writing; on error what was written is taken back.
    pub(crate) fn finish(self) -> Result<(), EncodeError> {
        let Some(what) = self.too_long else { return Ok(()) };
        self.sink.buf.truncate(self.sink.start);
        Err(EncodeError { what })
    }
}

impl<S: Sink> Writer<S> {
    /// Bytes written so far.
    #[inline]
    pub(crate) fn pos(&self) -> usize {
        self.sink.pos()
    }

    #[inline]
    pub(crate) fn u8(&mut self, v: u8) {
        self.slice(&[v]);
    }

    #[inline]
    pub(crate) fn u16(&mut self, v: u16) {
        self.slice(&v.to_be_bytes());
    }

    /// What [`Reader::bit_range`](super::Reader::bit_range) reads.
    pub(crate) fn bit_range(&mut self, ofs: u16, n_bits: u16) {
        self.u16(ofs << 6 | n_bits.wrapping_sub(1) & 0x3f);
    }

    #[inline]
    pub(crate) fn u32(&mut self, v: u32) {
        self.slice(&v.to_be_bytes());
    }

    #[inline]
    pub(crate) fn u64(&mut self, v: u64) {
        self.slice(&v.to_be_bytes());
    }

    #[inline]
    pub(crate) fn slice(&mut self, v: &[u8]) {
        self.sink.put(v);
    }

    #[inline]
    pub(crate) fn zeros(&mut self, n: usize) {
        self.sink.zeros(n);
    }

    /// Whether the next `n` bytes need not be written, since there is nothing to compare: what they are written from
    /// was read from just these, and says all that they said, whatever it was. Not for a constant, which was not read.
    #[inline]
    pub(crate) fn passes(&mut self, n: usize) -> bool {
        self.sink.pass(n)
    }

    /// Room for 16 bits that [`patch_u16`](Self::patch_u16) or [`patch_len`](Self::patch_len) fills in later;
    /// returns its position.
    #[inline]
    pub(crate) fn later(&mut self) -> usize {
        let at = self.pos();
        self.sink.gap();
        at
    }

    /// Zeros up to a multiple of eight bytes, counted from position `from`.
    pub(crate) fn pad(&mut self, from: usize) {
        self.zeros(padding(self.pos() - from));
    }

    pub(crate) fn len8(&mut self, len: usize, what: &'static str) {
        let v: u8 = self.fit(len, what);
        self.u8(v);
    }

    pub(crate) fn len16(&mut self, len: usize, what: &'static str) {
        let v: u16 = self.fit(len, what);
        self.u16(v);
    }

    /// The length in the bits that there are for it.
    #[inline]
    pub(crate) fn fit<T: TryFrom<usize> + Default>(&mut self, len: usize, what: &'static str) -> T {
        T::try_from(len).unwrap_or_else(|_| self.overflow(what))
    }

    /// Sets the 16-bit length at `at`, where [`later`](Self::later) was, to the bytes written since `from`.
    pub(crate) fn patch_len(&mut self, at: usize, from: usize, what: &'static str) {
        let len = self.pos() - from;
        let v = self.fit(len, what);
        self.patch_u16(at, v);
    }

    pub(crate) fn patch_u16(&mut self, at: usize, v: u16) {
        self.sink.patch(at, v.to_be_bytes());
    }

    /// A property: the length counts the header and the contents, not the padding.
    pub(crate) fn property(&mut self, kind: u16, what: &'static str, contents: impl FnOnce(&mut Self)) {
        let from = self.pos();
        self.u16(kind);
        self.later();
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

    #[cold]
    fn overflow<T: Default>(&mut self, what: &'static str) -> T {
        self.too_long.get_or_insert(what);
        T::default()
    }
}
