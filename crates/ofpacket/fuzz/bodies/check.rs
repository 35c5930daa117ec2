//! The properties.

use std::sync::Once;

use ofpacket::{Body, Flow, FlowUpdate, Instruction, Match, Message, ReplyBody, frame_len};

/// Bytes that claim to be a message: refused, or a value that comes out as it went in.
pub(crate) fn message(bytes: &[u8]) {
    let _ = frame_len(bytes);
    let Ok(message) = bounded(bytes.len(), || Message::decode(bytes)) else { return };
    let again = message.encode().expect("it came in a message");
    assert_eq!(frame_len(&again), Some(Ok(again.len())), "{message:?}");
    // An ERROR (type 1) may be of another version, and comes out as ours.
    let version = usize::from(bytes[1] == 1);
    assert!(again[version..] == bytes[version..], "{message:?}\nwas {bytes:02x?}\nis  {:02x?}", &again[..]);
    let text = message.to_string();
    assert!(text.len() <= 65_536 + 256 * bytes.len(), "{} bytes of text", text.len());
    flows(&message.body).for_each(flow);
}

/// Runs a decoder, which must not take more memory than the input warrants.
pub(crate) fn bounded<T>(len: usize, decode: impl FnOnce() -> T) -> T {
    static TABLES: Once = Once::new();
    // They are built when they are first used.
    TABLES.call_once(|| assert!("reg0=1".parse::<Match>().is_ok_and(|m| m.to_string() == "reg0=0x1")));
    let mut out = None;
    let info = allocation_counter::measure(|| out = Some(decode()));
    let limit = 4096 + 128 * len as u64;
    assert!(info.bytes_max <= limit, "{} bytes of memory for {len} bytes", info.bytes_max);
    out.expect("it has run")
}

fn flows(body: &Body) -> Box<dyn Iterator<Item = &Flow> + '_> {
    match body {
        Body::FlowMod(flow_mod) => Box::new(std::iter::once(&flow_mod.flow)),
        Body::BundleAdd(add) => flows(&add.body),
        Body::MultipartReply(reply) => match &reply.body {
            ReplyBody::FlowDesc(stats) => Box::new(stats.iter().map(|stats| &stats.flow)),
            ReplyBody::FlowMonitor(updates) => Box::new(updates.iter().filter_map(|update| match update {
                FlowUpdate::Full { flow, .. } => Some(flow),
                _ => None,
            })),
            _ => Box::new(std::iter::empty()),
        },
        _ => Box::new(std::iter::empty()),
    }
}

/// The normal form is one, prints, and is the same flow.
fn flow(flow: &Flow) {
    let match_ = flow.match_.canonical();
    assert_eq!(match_.canonical(), match_);
    let instructions: Vec<_> = flow.instructions.iter().map(Instruction::canonical).collect();
    for (instruction, was) in instructions.iter().zip(&flow.instructions) {
        assert_eq!(&instruction.canonical(), instruction, "of {was:?}");
    }
    let normal = Flow { match_, instructions, ..flow.clone() };
    assert!(flow.same_as(flow) && normal.same_as(flow), "{normal:?}\n{flow:?}");
    if normal.match_ != flow.match_ {
        assert_eq!(normal.match_.to_string(), flow.match_.to_string());
    }
}
