//! What the texts of several messages have in common (`lib/ofp-print.c` of Open vSwitch).

use std::fmt::{self, Write};
use std::time::Duration;

use crate::flow::DEFAULT_PRIORITY;
use crate::{Action, Flow, Instruction, Match};

/// The names of set bits, then what is left of them in hexadecimal; `0` for none.
pub(super) fn bits(out: &mut String, bits: u32, names: &[(u32, &str)], separator: char) -> fmt::Result {
    let mut left = bits;
    let mut words: Vec<_> = Vec::new();
    for &(bit, name) in names {
        if left & bit != 0 {
            words.push(name.to_owned());
            left &= !bit;
        }
    }
    if left != 0 || words.is_empty() {
        words.push(if left == 0 { "0".to_owned() } else { format!("{left:#x}") });
    }
    out.write_str(&words.join(&separator.to_string()))
}

/// Seconds, with three decimals or as many as it needs.
pub(super) fn duration(out: &mut String, duration: Duration) -> fmt::Result {
    let nanos = duration.subsec_nanos();
    write!(out, "{}", duration.as_secs())?;
    if nanos > 0 && nanos.is_multiple_of(1_000_000) {
        write!(out, ".{:03}", nanos / 1_000_000)?;
    } else if nanos > 0 {
        write!(out, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
    }
    out.write_char('s')
}

/// A counter; all ones stand for a switch that does not know.
pub(super) struct Count(pub(super) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u64::MAX => f.write_char('?'),
            n => write!(f, "{n}"),
        }
    }
}

/// An Ethernet address.
pub(super) struct Mac(pub(super) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// As C's `%#x`, which has no prefix on zero.
pub(super) struct Hex(pub(super) u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_char('0') } else { write!(f, "{:#x}", self.0) }
    }
}

/// The name of a small number; the number if it has none.
pub(super) fn name_or_number(names: &[&str], number: u32) -> String {
    names.get(number as usize).map_or_else(|| number.to_string(), |&name| name.to_owned())
}

/// A group's number, or what it stands for in a request.
pub(super) fn group_id(id: u32) -> String {
    match id {
        0xffff_fffc => "ALL".to_owned(),
        super::GROUP_ANY => "ANY".to_owned(),
        _ => id.to_string(),
    }
}

/// `actions=...`
pub(super) fn instructions(instructions: &[Instruction]) -> String {
    tail(Flow {
        instructions: instructions.to_vec(),
        ..Flow::new(0, DEFAULT_PRIORITY, Match::new(), Vec::new())
    })
}

/// `actions=...`
pub(super) fn actions(actions: &[Action]) -> String {
    tail(Flow::new(0, DEFAULT_PRIORITY, Match::new(), actions.to_vec()))
}

/// The timeouts, flags and importance of a flow, with a space at the end unless there are none.
pub(super) fn limits(flow: &Flow) -> String {
    let bare = Flow {
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        flags: flow.flags,
        importance: flow.importance,
        ..Flow::new(0, DEFAULT_PRIORITY, Match::new(), Vec::new())
    };
    tail(bare).trim_end_matches("actions=drop").to_owned()
}

/// A match with a priority in front of it, unless that is the usual one.
pub(super) fn prioritised(priority: u16, match_: &Match) -> String {
    let text = match_.to_string();
    match (priority, text.is_empty()) {
        (DEFAULT_PRIORITY, _) => text,
        (_, true) => format!("priority={priority}"),
        (_, false) => format!("priority={priority},{text}"),
    }
}

fn tail(flow: Flow) -> String {
    flow.to_string().trim_start().to_owned()
}

/// Sixteen bytes a line, in hexadecimal and as characters.
pub(super) fn hex_dump(out: &mut String, bytes: &[u8]) -> fmt::Result {
    for (i, line) in bytes.chunks(16).enumerate() {
        write!(out, "{:08x}  ", 16 * i)?;
        for j in 0..16 {
            match line.get(j) {
                Some(byte) => write!(out, "{byte:02x}{}", if j == 7 { '-' } else { ' ' })?,
                None => out.write_str("   ")?,
            }
        }
        let printable = |&b: &u8| if (0x20..0x7f).contains(&b) { char::from(b) } else { '.' };
        let chars: String = line.iter().map(printable).collect();
        writeln!(out, "|{chars:16}|")?;
    }
    Ok(())
}
