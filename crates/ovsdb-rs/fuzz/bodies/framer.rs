//! However a stream is split, the same values come out of it, and the ones that serde_json finds there.

use ovsdb_rs::{FrameError, Framer};
use serde_json::Value;

/// The first byte is a limit, and how many of the bytes after it say where the rest is split.
pub(crate) fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let (sizes, stream) = rest.split_at(rest.len().min(usize::from(first % 16)));
    let limit = if first < 128 { stream.len() } else { usize::from(first) - 100 };

    let whole = values(limit, [stream]);
    let mut left = stream;
    let pieces = sizes.iter().map(|size| {
        let (piece, more) = left.split_at(left.len().min(usize::from(*size)));
        left = more;
        piece
    });
    let mut pieces: Vec<&[u8]> = pieces.collect();
    pieces.push(left);
    assert_eq!(values(limit, pieces), whole);
    assert_eq!(values(limit, stream.chunks(1)), whole);

    if limit >= stream.len() {
        against_serde_json(stream, &whole);
    }
}

/// What comes out before the first error, and that.
fn values<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Value>, Option<FrameError>) {
    let mut framer = Framer::new(limit);
    let mut values = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_value() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => {
                    framer.push(b"{}");
                    assert_eq!(framer.next_value(), Err(error.clone()), "an error is for good");
                    return (values, Some(error));
                }
            }
        }
    }
    (values, None)
}

/// A stream of whole objects and arrays: both must read the same. In any other stream they may find errors in
/// different places.
fn against_serde_json(stream: &[u8], (values, error): &(Vec<Value>, Option<FrameError>)) {
    let expected: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(stream).into_iter().collect();
    let Ok(expected) = expected else { return };
    if expected.iter().all(|value| value.is_object() || value.is_array()) {
        assert_eq!((values, error), (&expected, &None));
    }
}
