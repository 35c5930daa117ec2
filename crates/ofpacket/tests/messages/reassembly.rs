//! Putting the parts of an answer together.

use bytes::Bytes;
use ofpacket::{MultipartReply, Reassembly, ReassemblyError, ReplyBody, SwitchDesc, TableStats};

fn tables(ids: std::ops::Range<u8>) -> ReplyBody {
    let table = |table_id| TableStats { table_id, active_count: 0, lookup_count: 0, matched_count: 0 };
    ReplyBody::TableStats(ids.map(table).collect())
}

fn part(more: bool, body: ReplyBody) -> MultipartReply {
    MultipartReply { more, body }
}

#[test]
fn parts_in_order() {
    let mut answer = Reassembly::new(100);
    for _ in 0..2 {
        assert_eq!(answer.add(part(true, tables(0..2)), 40), Ok(None));
        assert_eq!(answer.add(part(true, tables(2..2)), 20), Ok(None));
        assert_eq!(answer.add(part(false, tables(2..5)), 40), Ok(Some(tables(0..5))));
    }
    let desc = ReplyBody::Desc(Box::<SwitchDesc>::default());
    assert_eq!(answer.add(part(false, desc.clone()), 40), Ok(Some(desc)));
    let other =
        |kind, body: &'static str| ReplyBody::Other { kind, body: Bytes::from_static(body.as_bytes()) };
    assert_eq!(answer.add(part(true, other(99, "one ")), 20), Ok(None));
    assert_eq!(answer.add(part(true, other(99, "two ")), 20), Ok(None));
    assert_eq!(answer.add(part(false, other(99, "three")), 21), Ok(Some(other(99, "one two three"))));
}

#[test]
fn parts_that_do_not_fit() {
    let desc = || ReplyBody::Desc(Box::<SwitchDesc>::default());
    let other = |kind| ReplyBody::Other { kind, body: Bytes::new() };
    for (first, second, expected, label) in [
        (tables(0..1), desc(), ReassemblyError::Mixed, "mixed"),
        (other(1), other(2), ReassemblyError::Mixed, "mixed"),
        (desc(), desc(), ReassemblyError::NotAList, "not_a_list"),
    ] {
        let mut answer = Reassembly::new(100);
        assert_eq!(answer.add(part(true, first), 8), Ok(None));
        assert_eq!(answer.add(part(false, second), 8), Err(expected));
        assert_eq!(expected.label(), label);
        // It begins anew.
        assert_eq!(answer.add(part(false, tables(0..1)), 100), Ok(Some(tables(0..1))));
    }
    let mut answer = Reassembly::new(100);
    assert_eq!(answer.add(part(true, tables(0..1)), 60), Ok(None));
    assert_eq!(answer.add(part(true, tables(1..2)), 41), Err(ReassemblyError::TooLarge { limit: 100 }));
    assert_eq!(
        answer.add(part(false, tables(0..1)), usize::MAX),
        Err(ReassemblyError::TooLarge { limit: 100 })
    );
}
