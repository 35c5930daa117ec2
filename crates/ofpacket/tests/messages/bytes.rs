//! What holds for all bytes.

use bytes::Bytes;
use ofpacket::{Body, Message, frame_len};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::samples::samples;

/// Decodes; what can be decoded can be printed, and is encoded to the same bytes.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(frame_len(bytes), Some(Ok(bytes.len())));
    match Message::decode(bytes) {
        Ok(message) => {
            let _ = format!("{message} {message:?}");
            prop_assert_eq!(message.encode().expect("it came in a message"), bytes, "{:?}", message);
        }
        Err(error) => {
            prop_assert!(error.offset <= bytes.len(), "{}", error);
            prop_assert!(!error.what.is_empty() && !error.label().is_empty());
        }
    }
    Ok(())
}

/// A message of this type, with this behind the header.
fn behind_header(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = Message { xid: 1, body: Body::Unknown { kind, body: Bytes::copy_from_slice(body) } };
    message.encode().expect("it fits").to_vec()
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(kind in 0u8..40, body in vec(any::<u8>(), 0..200)) {
        check(&behind_header(kind, &body))?;
    }

    /// Zeros and small numbers look more like a message than any bytes do.
    #[test]
    fn bytes_of_small_numbers_are_read_or_refused(
        kind in 0u8..36,
        body in vec(prop_oneof![4 => Just(0u8), 2 => 0u8..33, 1 => any::<u8>()], 0..200),
    ) {
        check(&behind_header(kind, &body))?;
    }

    /// The same, behind the header of each kind of multipart and of each of Open vSwitch's messages.
    #[test]
    fn bytes_behind_other_headers_are_read_or_refused(
        way in 18u8..20,
        kind in 0u8..18,
        subtype in 0u8..34,
        body in vec(prop_oneof![3 => Just(0u8), 2 => 0u8..81, 1 => any::<u8>()], 0..200),
    ) {
        let multipart = [&[0, kind, 0, 0, 0, 0, 0, 0], &body[..]].concat();
        check(&behind_header(way, &multipart))?;
        let extension = [&[0, 0, 0x23, 0x20, 0, 0, 0, subtype], &body[..]].concat();
        check(&behind_header(4, &extension))?;
    }

    /// A message that is damaged in a few places, or cut off.
    #[test]
    fn damaged_messages_are_read_or_refused(
        which: prop::sample::Index,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let samples = samples();
        let mut bytes = which.get(&samples).encode().expect("it fits").to_vec();
        if let Some(cut) = cut {
            bytes.truncate(8 + cut.index(bytes.len() - 7));
        }
        for (at, byte) in damage {
            // Behind the header.
            if bytes.len() > 8 {
                let at = 8 + at.index(bytes.len() - 8);
                bytes[at] = byte;
            }
        }
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        // Of errors of other versions the version is lost.
        bytes[0] = 6;
        check(&bytes)?;
    }
}

/// Errors in bundles in errors: the text does not follow them to the bottom.
#[test]
fn errors_within_errors_end_somewhere() {
    let mut bytes = Message { xid: 1, body: Body::BarrierRequest }.encode().expect("it fits");
    loop {
        let error = ofpacket::OfError { data: bytes.clone(), ..ofpacket::OfError::standard(1, 6) };
        match (Message { xid: 1, body: Body::Error(error) }).encode() {
            Ok(longer) => bytes = longer,
            Err(error) => {
                assert_eq!(error.label(), "too_large");
                break;
            }
        }
    }
    assert!(bytes.len() > 65_500);
    let message = Message::decode(&bytes).expect("what we wrote");
    assert!(message.to_string().starts_with("OFPT_ERROR (OF1.5) (xid=0x1): OFPBRC_BAD_LEN\n"));
}
