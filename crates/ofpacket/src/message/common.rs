//! What several messages have in common on the wire.

use std::time::Duration;

use crate::error::DecodeErrorKind;
use crate::wire::{Reader, Result, Sink, Writer};

/// Entries up to the end.
pub(super) fn decode_all<'a, T>(
    r: &mut Reader<'a>,
    one: impl Fn(&mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let before = r.len();
        out.push(one(r)?);
        if out.len() == 1 {
            // Mostly the others are as long as the first.
            out.reserve_exact(r.len() / (before - r.len()).max(1));
        }
    }
    Ok(out)
}

/// The next entry that begins with its own 16-bit length, which is at least `min`; `skip` bytes of it, the
/// length among them, are behind the reader.
pub(super) fn entry<'a>(
    r: &mut Reader<'a>,
    skip: usize,
    min: usize,
    what: &'static str,
) -> Result<Reader<'a>> {
    let mut entry = entry_at(r, 0, min, what)?;
    entry.skip(skip)?;
    Ok(entry)
}

/// The next entry, all of it, whose 16-bit length is at `offset` and is at least `min`.
pub(super) fn entry_at<'a>(
    r: &mut Reader<'a>,
    offset: usize,
    min: usize,
    what: &'static str,
) -> Result<Reader<'a>> {
    let mut head = r.clone().named(what);
    head.skip(offset)?;
    let len = usize::from(head.u16()?);
    if len < min {
        return Err(head.error(DecodeErrorKind::BadLength(len)));
    }
    r.sub(len, what)
}

/// A text in a field of fixed length, up to its first zero.
pub(super) fn decode_text(r: &mut Reader<'_>, len: usize) -> Result<String> {
    let bytes = r.take(len)?;
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(len);
    let mut text = String::new();
    for chunk in bytes[..end].utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    Ok(text)
}

/// A text in a field of fixed length, cut to leave room for a zero.
pub(super) fn encode_text(text: &str, len: usize, w: &mut Writer<impl Sink>) {
    let end = (0..=len).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let bytes = &text.as_bytes()[..end.min(text.len())];
    w.slice(bytes);
    w.zeros(len - bytes.len());
}

/// Seconds and nanoseconds, 32 bits each.
pub(super) fn decode_duration(r: &mut Reader<'_>) -> Result<Duration> {
    let (seconds, nanoseconds) = (r.u32()?, r.u32()?);
    Ok(Duration::from_secs(seconds.into()) + Duration::from_nanos(nanoseconds.into()))
}

pub(super) fn encode_duration(duration: Duration, w: &mut Writer<impl Sink>) {
    w.u32(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX));
    w.u32(duration.subsec_nanos());
}

/// As [`decode_duration`]; all ones if the switch does not know.
pub(super) fn decode_age(r: &mut Reader<'_>) -> Result<Option<Duration>> {
    match r.peek().first_chunk() {
        Some(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => r.skip(8).map(|()| None),
        _ => decode_duration(r).map(Some),
    }
}

pub(super) fn encode_age(age: Option<Duration>, w: &mut Writer<impl Sink>) {
    match age {
        Some(duration) => encode_duration(duration, w),
        None => w.u64(u64::MAX),
    }
}
