//! Values of match fields.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{OxmBytes, OxmField};

/// A value on its way into a field: up to 16 bytes, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    bytes: [u8; 16],
    /// How many bytes, from the right, the caller gave.
    len: usize,
}

/// What can be put into a match field: integers, addresses, ports.
pub trait IntoValue {
    /// The value with the width of its type.
    fn into_value(self) -> Value;
}

impl Value {
    fn new(bytes: &[u8]) -> Self {
        let mut out = [0; 16];
        out[16 - bytes.len()..].copy_from_slice(bytes);
        Self { bytes: out, len: bytes.len() }
    }

    /// The value in the width of the field: the least significant bytes, zeros in front.
    pub(super) fn fit(self, field: OxmField) -> OxmBytes {
        let len = match (field.tun_metadata_index(), field.info()) {
            (None, Some(info)) => usize::from(info.bytes),
            (None, None) if field.width() > 0 => usize::from(field.width()),
            _ => self.len,
        };
        match len.checked_sub(16) {
            None | Some(0) => OxmBytes::from_slice(&self.bytes[16 - len..]),
            Some(more) => [&vec![0; more], &self.bytes[..]].concat().into(),
        }
    }
}

macro_rules! integers {
    ($($t:ty)*) => { $(
        impl IntoValue for $t {
            fn into_value(self) -> Value {
                Value::new(&self.to_be_bytes())
            }
        }
    )* };
}

integers!(u8 u16 u32 u64 u128);

impl IntoValue for Value {
    fn into_value(self) -> Value {
        self
    }
}

/// An Ethernet address.
impl IntoValue for [u8; 6] {
    fn into_value(self) -> Value {
        Value::new(&self)
    }
}

impl IntoValue for Ipv4Addr {
    fn into_value(self) -> Value {
        Value::new(&self.octets())
    }
}

impl IntoValue for Ipv6Addr {
    fn into_value(self) -> Value {
        Value::new(&self.octets())
    }
}

impl IntoValue for crate::PortNo {
    fn into_value(self) -> Value {
        self.0.into_value()
    }
}

pub(super) fn to_u128(bytes: &[u8]) -> Option<u128> {
    (bytes.len() <= 16).then(|| bytes.iter().fold(0, |n, &b| n << 8 | u128::from(b)))
}

/// As many one bits as `len` bytes have.
pub(super) fn ones(len: usize) -> Option<u128> {
    match len {
        0 => Some(0),
        1..=16 => Some(u128::MAX >> (128 - 8 * len)),
        _ => None,
    }
}
