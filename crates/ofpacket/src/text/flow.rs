//! Whole flows, and files of them.

use super::action::instructions;
use super::error::{Fail, Parse};
use super::match_::Builder;
use super::token::{Pair, Pairs};
use crate::Flow;
use crate::flow::{DEFAULT_PRIORITY, FLAGS};

pub(super) fn flow(text: &str) -> Parse<'_, Flow> {
    let mut out = Flow::new(0, DEFAULT_PRIORITY, crate::Match::new(), Vec::new());
    let mut builder = Builder::default();
    let (head, actions) = split(text)?;
    for pair in Pairs(head) {
        let pair = pair?;
        if !attribute(&mut out, pair)? && !builder.take(pair)? {
            return Err(
                pair.unknown("a field, a protocol such as tcp, or a property of the flow such as table")
            );
        }
    }
    let mut context = builder.context();
    out.match_ = builder.finish(head)?;
    out.instructions = instructions(actions, &mut context)?;
    Ok(out)
}

/// What stands before and after `actions=`.
fn split(text: &str) -> Parse<'_, (&str, &str)> {
    let missing = |at| Fail::new(at, "actions=...");
    let head_len = text.find("action").ok_or_else(|| missing(&text[text.len()..]))?;
    let (head, rest) = text.split_at(head_len);
    let (word, actions) = rest.split_once('=').ok_or_else(|| missing(rest))?;
    match word.trim_end() {
        "action" | "actions" => Ok((head.strip_prefix("add ").unwrap_or(head), actions)),
        _ => Err(missing(rest)),
    }
}

/// Takes an item if it is neither a field nor a protocol.
fn attribute<'a>(flow: &mut Flow, pair: Pair<'a>) -> Parse<'a, bool> {
    if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == pair.key) {
        flow.flags |= flag;
        return Ok(true);
    }
    match pair.key {
        "table" => flow.table_id = pair.number("a table from 0 to 254")?,
        "priority" => flow.priority = pair.number("a priority from 0 to 65535")?,
        "cookie" => flow.cookie = pair.number("a cookie of 64 bits, without a mask")?,
        "idle_timeout" => flow.idle_timeout = pair.number("seconds, at most 65535")?,
        "hard_timeout" => flow.hard_timeout = pair.number("seconds, at most 65535")?,
        "importance" => flow.importance = pair.number("an importance from 0 to 65535")?,
        // What a dump has besides.
        "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => {}
        "no_readonly_table" | "allow_hidden_fields" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

/// One flow a line; what follows a `#` is a comment.
pub(super) fn flows(text: &str) -> Parse<'_, Vec<Flow>> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(flow)
        .collect()
}
