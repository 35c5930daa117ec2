//! What is sent to see whether it arrives whole and in order.

/// The byte at this place of a stream. 251 is prime: a piece that is lost,
/// repeated or moved by the size of a message or segment does not fit.
pub(crate) fn byte_at(place: u64) -> u8 {
    ((place % 251) ^ (place / 251 % 256)).to_le_bytes()[0]
}
