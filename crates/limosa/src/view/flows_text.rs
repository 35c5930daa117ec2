//! An audit, for people.

use std::fmt::Write as _;

use limosa_protocol::Role;
use limosa_protocol::layout::Layout;

use super::audit::{Audit, Decoded, Line, Object, Share, Verdict};
use super::count;

/// How much of a flow of OVN's is shown: some are pages long.
const BESIDE_CHARS: usize = 160;

/// Draws an audit.
pub(crate) fn text(audit: &Audit) -> String {
    let flows: usize = audit.migrations.iter().map(|share| share.flows.len()).sum();
    let Audit { remote_output, local_output, log_to_phy, .. } = *audit;
    let layout = Layout { remote_output, local_output, log_to_phy };
    let (bridge, chassis) = (&audit.bridge, &audit.chassis);
    let mut text =
        format!("{bridge} of chassis {chassis}: {} of ours; OVN's {layout}\n", count(flows, "flow"));
    for share in &audit.migrations {
        text.push('\n');
        write_share(&mut text, share);
    }
    let verdict = match (audit.verified, audit.findings) {
        (false, _) => "not verified: no store was asked what should be here".to_owned(),
        (true, 0) if flows == 0 => return text,
        (true, 0) => "all as the migrations want them".to_owned(),
        (true, findings) => format!("{} not as it should be", count(findings, "flow")),
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

fn write_share(text: &mut String, share: &Share) {
    let _ = match &share.object {
        Some(Object { name, port, from, to, phase, role, waits_for }) => {
            let to = to.as_deref().unwrap_or("a target not known yet");
            let _ = writeln!(
                text,
                "{name} (number {}): {port} from {from} to {to}, {phase}; this chassis is {}",
                share.number,
                role_name(*role)
            );
            waits_for.as_ref().map_or(Ok(()), |what| writeln!(text, "  {what}"))
        }
        None => writeln!(text, "number {}: of no migration that is known", share.number),
    };
    for line in &share.flows {
        write_line(text, line);
    }
}

fn write_line(text: &mut String, line: &Line) {
    let mark = match line.verdict {
        Verdict::Right => '√',
        Verdict::Unverified => '?',
        _ => '×',
    };
    let (purpose, what, why) = line.meaning.map_or(
        ("unknown", "a flow of a purpose that this version does not know", "a newer version has written it"),
        |Decoded { purpose, what, why, .. }| (purpose, what, why),
    );
    let counted = line.counted.as_ref().map_or_else(
        || "not there".to_owned(),
        |c| format!("{}, {} bytes, {} s", count(c.packets as usize, "packet"), c.bytes, c.age_seconds),
    );
    let _ = writeln!(text, "  {mark} {purpose:<13} {counted}");
    if line.verdict.is_finding() {
        let _ = writeln!(text, "      {}", line.verdict.hint());
    }
    let _ = writeln!(text, "      what  {what}\n      why   {why}");
    let _ = writeln!(text, "      flow  {}", line.flow);
    if let Some(wanted) = &line.wanted {
        let _ = writeln!(text, "      should be {wanted}");
    }
    for beside in &line.beside {
        let flow: String = beside.flow.chars().take(BESIDE_CHARS).collect();
        let more = if flow.len() < beside.flow.len() { "…" } else { "" };
        let _ = writeln!(text, "      OVN's {}: {flow}{more}", count(beside.packets as usize, "packet"));
    }
}

/// A role with its article.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Source => "the source",
        Role::Target => "the target",
        Role::Bystander => "a bystander",
    }
}
