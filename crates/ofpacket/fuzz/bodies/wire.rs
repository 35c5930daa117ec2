//! Bytes of messages, as arbitrary as can be, or with enough put right to get deeper.

use ofpacket::{Body, HEADER_LEN, Message, MultipartReply, Reassembly, ReassemblyError, ReplyBody, VERSION};

use super::check;

const FLOW_MOD: u8 = 14;
const MULTIPART_REQUEST: u8 = 18;
const MULTIPART_REPLY: u8 = 19;
const BUNDLE_ADD: u8 = 34;
/// Bytes before the body of a multipart message.
const MULTIPART_HEADER_LEN: usize = HEADER_LEN + 8;

/// A message, or not.
pub(crate) fn message(data: &[u8]) {
    check::message(data);
}

/// The type of a message, and what follows its header.
pub(crate) fn body(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else { return };
    check::message(&frame(kind, body));
}

/// Whether a multipart message is a reply, its type, and what follows its header.
pub(crate) fn multipart(data: &[u8]) {
    let Some((&first, body)) = data.split_first() else { return };
    check::message(&frame(MULTIPART_REQUEST + (first >> 7), &multipart_body(first & 0x7f, false, body)));
}

/// How many bytes are match fields, the command, the type of an instruction, the fields and what the instruction
/// holds: a flow mod, also in a bundle.
pub(crate) fn flow_mod(data: &[u8]) {
    let Some((&[n_fields, kinds], rest)) = data.split_first_chunk() else { return };
    let (fields, actions) = rest.split_at(rest.len().min(n_fields.into()));
    let command = kinds >> 4 & 7;
    let fixed = [&[0; 17][..], &[command], &[0; 6], &[0xff; 12], &[0; 4]].concat();
    let match_ = structure(1, 4, fields);
    let instruction = structure(u16::from(kinds & 0xf), 8, actions);
    let flow_mod = frame(FLOW_MOD, &[fixed, match_, instruction].concat());
    match kinds & 0x80 {
        0 => check::message(&flow_mod),
        _ => check::message(&frame(BUNDLE_ADD, &[&[0, 0, 0, 1, 0, 0, 0, 3], &flow_mod[..]].concat())),
    }
}

/// A limit, and parts of an answer: for each its length, its type, whether more follow, and its body.
pub(crate) fn reassembly(data: &[u8]) {
    let Some((&limit, mut rest)) = data.split_first() else { return };
    let limit = 16 * usize::from(limit);
    let mut answer = Reassembly::new(limit);
    let (mut used, mut parts) = (0, Vec::new());
    while let Some((&[len, kind, more], tail)) = rest.split_first_chunk() {
        let (body, tail) = tail.split_at(tail.len().min(len.into()));
        rest = tail;
        let bytes = frame(MULTIPART_REPLY, &multipart_body(kind, more & 1 != 0, body));
        let Ok(Message { body: Body::MultipartReply(part), .. }) = Message::decode(&bytes) else { continue };
        used += bytes.len();
        parts.extend(encoded_body(part.body.clone()));
        let last = !part.more;
        match answer.add(part, bytes.len()) {
            Ok(None) => assert!(!last && used <= limit),
            Ok(Some(whole)) => {
                assert!(last && used <= limit);
                assert_eq!(encoded_body(whole), parts, "the whole is not its parts");
            }
            Err(error) => assert_eq!(matches!(error, ReassemblyError::TooLarge { .. }), used > limit),
        }
        if last || answer_is_new(&answer, limit) {
            (used, parts) = (0, Vec::new());
        }
    }
}

/// After an error or the whole it begins anew.
fn answer_is_new(answer: &Reassembly, limit: usize) -> bool {
    format!("{answer:?}") == format!("{:?}", Reassembly::new(limit))
}

fn encoded_body(body: ReplyBody) -> Vec<u8> {
    let body = Body::MultipartReply(MultipartReply { more: false, body });
    Message { xid: 1, body }.encode().expect("it came in messages")[MULTIPART_HEADER_LEN..].to_vec()
}

/// A message of this type with a header that is right.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(HEADER_LEN + body.len()).unwrap_or(u16::MAX);
    let mut out = vec![VERSION, kind];
    out.extend(len.to_be_bytes());
    out.extend([0, 0, 0, 1]);
    out.extend(body);
    out.truncate(len.into());
    out
}

fn multipart_body(kind: u8, more: bool, body: &[u8]) -> Vec<u8> {
    // An experimenter's has all bits set.
    let high = if kind == 0x7f { 0xff } else { 0 };
    [&[high, kind | high, 0, more.into(), 0, 0, 0, 0], body].concat()
}

/// `{ type16, length16, contents, pad to 8 }`, the contents at `start`. The padding does not count.
fn structure(kind: u16, start: usize, contents: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend(((start + contents.len()) as u16).to_be_bytes());
    out.resize(start, 0);
    out.extend(contents);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}
