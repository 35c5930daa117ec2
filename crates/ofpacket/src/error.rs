//! What can be wrong with bytes that claim to be OpenFlow.

/// A message, or a part of one, that could not be decoded.
///
/// `offset` counts bytes from the start of what was handed to the decoder (of the whole message, for
/// [`Message::decode`](crate::Message::decode)); `what` names the structure that was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode {what} at byte {offset}: {kind}")]
pub struct DecodeError {
    /// Where it was noticed, in bytes.
    pub offset: usize,
    /// The structure that was being read.
    pub what: &'static str,
    /// What was wrong.
    pub kind: DecodeErrorKind,
}

impl DecodeError {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        self.kind.label()
    }
}

/// What was wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The structure goes on after the end of what holds it.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes that the structure needs.
        needed: usize,
        /// Bytes that there are.
        left: usize,
    },
    /// Bytes are left after the end of the structure.
    #[error("{0} bytes left over")]
    Trailing(usize),
    /// A length field holds what no such structure can have.
    #[error("impossible length {0}")]
    BadLength(usize),
    /// A field holds a value that is not allowed there.
    #[error("value {0:#x} is not allowed here")]
    BadValue(u64),
    /// Padding, or a reserved field, is not zero.
    #[error("padding is not zero")]
    NonZeroPadding,
    /// The peer speaks another version of OpenFlow.
    #[error("version {0:#04x} is not OpenFlow 1.5 (0x06)")]
    BadVersion(u8),
    /// Actions within actions, deeper than any switch writes them.
    #[error("actions nested too deep")]
    TooDeep,
}

impl DecodeErrorKind {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Trailing(_) => "trailing",
            Self::BadLength(_) => "bad_length",
            Self::BadValue(_) => "bad_value",
            Self::NonZeroPadding => "non_zero_padding",
            Self::BadVersion(_) => "bad_version",
            Self::TooDeep => "too_deep",
        }
    }
}

/// A value that does not fit the protocol: some length or port exceeds its 8- or 16-bit field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is too large for its place in an OpenFlow message: make it smaller")]
pub struct EncodeError {
    /// The structure that was too large.
    pub what: &'static str,
}

impl EncodeError {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        "too_large"
    }
}
