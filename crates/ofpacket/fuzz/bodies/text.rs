//! Text of matches, actions and flows.

use ofpacket::{Body, Flow, FlowMod, Match, Message, text};

use super::check;

/// `Match: FromStr`.
pub(crate) fn match_text(data: &[u8]) {
    let Some(Ok(match_)) = parse(data, str::parse::<Match>) else { return };
    let again: Match = reparse(&match_.to_string(), str::parse);
    assert_eq!(again.canonical(), match_.canonical(), "{match_}");
}

/// Actions, with instructions among them.
pub(crate) fn actions_text(data: &[u8]) {
    let Some(Ok(instructions)) = parse(data, text::instructions) else { return };
    check_flow(&Flow { instructions, ..Flow::new(0, 1, Match::new(), Vec::new()) });
}

/// A file of flows.
pub(crate) fn flow_text(data: &[u8]) {
    let Some(Ok(flows)) = parse(data, text::flows) else { return };
    flows.iter().for_each(check_flow);
}

/// `None` if it is no text at all. An error tells where.
fn parse<T>(
    data: &[u8],
    parse: impl FnOnce(&str) -> Result<T, ofpacket::ParseError>,
) -> Option<Result<T, ofpacket::ParseError>> {
    let text = std::str::from_utf8(data).ok()?;
    let parsed = check::bounded(text.len(), || parse(text));
    if let Err(error) = &parsed {
        assert!(text.is_char_boundary(error.offset), "{error:?}");
        assert!(error.line >= 1 && error.column >= 1 && !error.to_string().is_empty(), "{error:?}");
    }
    Some(parsed)
}

fn reparse<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, ofpacket::ParseError>) -> T {
    parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// What was read prints, is read back, and goes over the wire unless it is too long for it.
fn check_flow(flow: &Flow) {
    let text = flow.to_string();
    // Two texts are ovs-ofctl's, which cannot read them either: the value of an NSH option without its leading zeros,
    // and single bits of a port.
    if text.contains("tlv(") || text.contains("->in_port") {
        return;
    }
    let again: Flow = reparse(&text, str::parse);
    assert!(again.same_as(flow), "{text:?}\nwas {flow:?}\nis  {again:?}");
    assert_eq!((again.flags, again.importance), (flow.flags, flow.importance), "{text:?}");

    let message = Message { xid: 1, body: Body::FlowMod(FlowMod::add(flow.clone())) };
    if let Ok(bytes) = message.encode() {
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message), "{text:?}");
    }
}
