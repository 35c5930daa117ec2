//! `limosa check`: what is wrong, and what to do about it. Nothing is changed.
//!
//! Each check has a name that stays what it is, says what it has found, and
//! gives a hint where a person can do something.

mod cluster;
mod node;
mod permissions;
mod store;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use ovsdb_rs::{Remotes, Tls};
use serde::Serialize;

use crate::store::Place;

/// What is checked.
#[derive(Debug)]
pub(crate) enum Scope {
    /// The chassis that the program runs on.
    Node {
        chassis: Option<String>,
        ovs_rundir: PathBuf,
        /// Where its agent serves `/readyz`.
        agent: Option<SocketAddr>,
    },
    /// OVN's databases, and what they say of every chassis.
    Cluster { nb: Remotes, sb: Remotes, tls: Option<Tls>, accounts: Accounts },
}

/// The service accounts of agents and controllers, `NAMESPACE/NAME`.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    pub(crate) agent: String,
    pub(crate) controller: String,
}

/// All checks, in the order in which they were made.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) failed: usize,
    pub(crate) warnings: usize,
    pub(crate) checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) found: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) hint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    Ok,
    /// May be so on purpose.
    Warning,
    /// Migrations fail, or lose packets, as long as it is so.
    Failed,
    /// Could not be looked at.
    Skipped,
}

impl Report {
    fn ok(&mut self, name: &'static str, found: impl Into<String>) {
        self.add(name, Verdict::Ok, found, "");
    }

    fn warn(&mut self, name: &'static str, found: impl Into<String>, hint: impl Into<String>) {
        self.warnings += 1;
        self.add(name, Verdict::Warning, found, hint);
    }

    fn fail(&mut self, name: &'static str, found: impl Into<String>, hint: impl Into<String>) {
        self.failed += 1;
        self.add(name, Verdict::Failed, found, hint);
    }

    fn skip(&mut self, name: &'static str, found: impl Into<String>) {
        self.add(name, Verdict::Skipped, found, "");
    }

    fn add(
        &mut self,
        name: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.checks.push(Check { name, verdict, found: found.into(), hint: hint.into() });
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for Check { name, verdict, found, hint } in &self.checks {
            let mark = match verdict {
                Verdict::Ok => '√',
                Verdict::Warning => '‼',
                Verdict::Failed => '×',
                Verdict::Skipped => '-',
            };
            let _ = writeln!(text, "{mark} {name:<17} {found}");
            if !hint.is_empty() {
                let _ = writeln!(text, "{:19} -> {hint}", "");
            }
        }
        let Self { failed, warnings, checks } = self;
        let _ = writeln!(text, "\n{} checks: {failed} failed, {warnings} with a warning", checks.len());
        text
    }
}

/// Makes every check of a scope.
pub(crate) async fn run(scope: Scope, place: &Place) -> Report {
    let mut report = Report::default();
    let store = store::check(&mut report, place).await;
    match scope {
        Scope::Node { chassis, ovs_rundir, agent } => {
            node::check(&mut report, &ovs_rundir, chassis.as_deref(), agent, store.as_deref()).await;
        }
        Scope::Cluster { nb, sb, tls, accounts } => {
            let snapshot = store.as_ref().map(|store| store.watch().borrow().clone());
            cluster::check(&mut report, nb, sb, tls, snapshot.as_deref()).await;
            store::agents(&mut report, snapshot.as_deref(), None);
            if let Place::Kubernetes(access) = place {
                permissions::check(&mut report, access, &accounts).await;
            }
        }
    }
    report
}

/// The first few of many.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_for_people() {
        let mut report = Report::default();
        report.ok("bridge", "br-int");
        report.warn("mtu", "small", "make it larger");
        report.fail("openflow", "no answer", "start it");
        report.skip("agent", "not asked");
        assert_eq!((report.failed, report.warnings), (1, 1));
        let text = report.text();
        assert!(text.starts_with("√ bridge            br-int\n‼ mtu               small\n"), "{text}");
        assert!(
            text.contains("-> start it") && text.ends_with("4 checks: 1 failed, 1 with a warning\n"),
            "{text}"
        );
        assert_eq!(some(&["a", "b"].map(str::to_owned)), "a, b");
        assert_eq!(some(&vec!["x".to_owned(); 7]), "x, x, x, x, x and 2 more");
    }
}
