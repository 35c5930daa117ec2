//! Everything that `limosa check` may find. That each of these is provoked by some test the compiler sees to: one that
//! nobody expects is unused. That there is none besides, [`every_finding_is_here`] does.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// What is found: which check, how bad it is, and words of what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finding {
    name: &'static str,
    verdict: &'static str,
    words: &'static str,
}

const fn fails(name: &'static str, words: &'static str) -> Finding {
    Finding { name, verdict: "failed", words }
}

const fn warns(name: &'static str, words: &'static str) -> Finding {
    Finding { name, verdict: "warning", words }
}

pub(super) const NO_STORE: Finding = fails("store", "there is no migration store");
pub(super) const UNREADABLE: Finding = fails("store", "broken.json");
pub(super) const NO_CONTROLLER: Finding = fails("controller", "nobody has looked at");
pub(super) const SILENT_AGENT: Finding = fails("agents", "nothing is heard of");

pub(super) const NO_NORTHBOUND: Finding = fails("northbound", "the database does not answer");
pub(super) const NO_SOUTHBOUND: Finding = fails("southbound", "the database does not answer");
pub(super) const OLD_OVN: Finding = fails("ovn-version", "cannot bind a port to two chassis");
pub(super) const ONE_HOSTNAME: Finding = fails("hostnames", "several chassis have one hostname");
pub(super) const CHASSIS_WITHOUT_GENEVE: Finding = fails("encapsulation", "no geneve on ch");
pub(super) const LEFT_PINNED: Finding = fails("pins", "pinned by migrations that");
pub(super) const MIGRATED_OTHERWISE: Finding = warns("conflicts", "which are not ours");
pub(super) const NO_NB_GLOBAL: Finding = fails("nb-global", "no row in NB_Global");
pub(super) const NORTHD_BEHIND: Finding = fails("ovn-northd", "stays behind nb_cfg");
pub(super) const CHASSIS_BEHIND: Finding = fails("ovn-controllers", "behind NB_Global:nb_cfg");
pub(super) const AGENT_MAY_NOT: Finding = fails("agent-rbac", "may not ");

pub(super) const AGENT_NOT_READY: Finding = fails("agent", "it is not ready");
pub(super) const NO_AGENT: Finding = fails("agent", "nobody answers at");
pub(super) const AGENT_HANGS: Finding = fails("agent", "no answer from");
pub(super) const NO_LOCAL_DATABASE: Finding = fails("local-database", "db.sock");
pub(super) const OFFERS_NO_GENEVE: Finding = fails("encapsulation", "external_ids:ovn-encap-type is");
pub(super) const TUNNELS_WITHOUT_OPTIONS: Finding = fails("encapsulation", "tunnels without options");
pub(super) const NO_TUNNEL: Finding = warns("encapsulation", "no tunnel to any other chassis");
pub(super) const NO_ROOM: Finding = warns("mtu", "larger MTUs");
pub(super) const OLD_SWITCH: Finding = fails("switch-version", "is too old");
pub(super) const STRANGE_SWITCH: Finding = warns("switch-version", "is no release of Open vSwitch");
pub(super) const SEQUENCE_CHECKS: Finding = warns("sequence-checks", "compares TCP sequence numbers");
pub(super) const NO_BRIDGE: Finding = fails("bridge", "br-");
pub(super) const NO_TABLES: Finding = fails("tables", "table");
pub(super) const NO_OPTION: Finding = fails("geneve-option", "maps no tun_metadata field");
pub(super) const WRONG_FLOWS: Finding = fails("flows", "not as they should be");

impl Finding {
    fn is(&self, check: &Value) -> bool {
        let said = check["found"].as_str().unwrap_or_default();
        check["name"] == self.name && check["verdict"] == self.verdict && said.contains(self.words)
    }
}

/// Asserts that a check, as it prints itself, has found this.
pub(super) fn assert_found(check: &Value, finding: Finding) {
    assert!(finding.is(check), "not {finding:?}: {check:#}");
}

/// What was found, one for one and in this order; otherwise what differs.
pub(super) fn compare(checks: &[&Value], findings: &[Finding]) -> Result<(), String> {
    let same = checks.len() == findings.len() && findings.iter().zip(checks).all(|(f, check)| f.is(check));
    if same { Ok(()) } else { Err(format!("{checks:#?} instead of {findings:#?}")) }
}

/// Those that are said in one place of the sources have the same words.
#[test]
fn every_finding_is_here() {
    let here = include_str!("findings.rs").lines().filter(|line| line.starts_with("pub(super) const "));
    let here: BTreeSet<&str> =
        here.map(|line| line.split('"').nth(3).expect("a finding on one line")).collect();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/limosa/src/check");
    let mut places = 0;
    for entry in std::fs::read_dir(&sources).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let (code, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        places += ["report.fail(", "report.warn(", "fail(report, "]
            .map(|call| code.matches(call).count())
            .iter()
            .sum::<usize>();
    }
    // `node::fail` makes a finding of a problem, and is none itself.
    places -= 1;
    assert_eq!(
        here.len(),
        places,
        "each place in {} that finds something is to be provoked here",
        sources.display()
    );
}
