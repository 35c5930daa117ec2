//! What becomes of bytes that are written: kept, compared or counted.

use bytes::{BufMut, BytesMut};

/// Where a [`Writer`] puts its bytes. Positions count from where it began.
pub(crate) trait Sink {
    /// Bytes so far.
    fn pos(&self) -> usize;
    fn put(&mut self, bytes: &[u8]);
    fn zeros(&mut self, n: usize);
    /// Leaves out two bytes, which are patched in later.
    fn gap(&mut self);
    /// Goes past `n` bytes that cannot be others than those that were read, unless they are to be written.
    fn pass(&mut self, n: usize) -> bool;
    fn patch(&mut self, at: usize, bytes: [u8; 2]);
}

/// Behind what was in the buffer before.
#[derive(Debug)]
pub(crate) struct Buffer<'a> {
    pub(super) buf: &'a mut BytesMut,
    pub(super) start: usize,
}

impl Sink for Buffer<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.buf.len() - self.start
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    #[inline]
    fn zeros(&mut self, n: usize) {
        self.buf.put_bytes(0, n);
    }

    #[inline]
    fn gap(&mut self) {
        self.put(&[0; 2]);
    }

    #[inline]
    fn pass(&mut self, _n: usize) -> bool {
        false
    }

    #[inline]
    fn patch(&mut self, at: usize, bytes: [u8; 2]) {
        let at = self.start + at;
        self.buf[at..at + 2].copy_from_slice(&bytes);
    }
}

/// Nowhere: what is written is compared with what is expected.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub(super) bytes: &'a [u8],
    /// Those that are yet to come.
    pub(super) rest: &'a [u8],
    pub(super) same: bool,
}

impl Sink for Expected<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.bytes.len() - self.rest.len()
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        match self.rest.split_at_checked(bytes.len()) {
            Some((head, tail)) if head == bytes => self.rest = tail,
            _ => self.same = false,
        }
    }

    #[inline]
    fn zeros(&mut self, n: usize) {
        match self.rest.split_at_checked(n) {
            Some((head, tail)) if head.iter().all(|&b| b == 0) => self.rest = tail,
            _ => self.same = false,
        }
    }

    #[inline]
    fn gap(&mut self) {
        self.pass(2);
    }

    #[inline]
    fn pass(&mut self, n: usize) -> bool {
        match self.rest.get(n..) {
            Some(tail) => self.rest = tail,
            None => self.same = false,
        }
        true
    }

    #[inline]
    fn patch(&mut self, at: usize, bytes: [u8; 2]) {
        self.same &= self.bytes.get(at..at + 2) == Some(&bytes);
    }
}

/// Nowhere: they are counted.
#[derive(Debug)]
pub(crate) struct Count(pub(super) usize);

impl Sink for Count {
    #[inline]
    fn pos(&self) -> usize {
        self.0
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn zeros(&mut self, n: usize) {
        self.0 += n;
    }

    #[inline]
    fn gap(&mut self) {
        self.0 += 2;
    }

    #[inline]
    fn pass(&mut self, n: usize) -> bool {
        self.0 += n;
        true
    }

    #[inline]
    fn patch(&mut self, _at: usize, _bytes: [u8; 2]) {}
}
