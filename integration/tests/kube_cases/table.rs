//! The table: what KubeVirt writes, and how it ends.

use anyhow::{Result, ensure};
use limosa_lab::kube::cast::Bound;
use limosa_lab::kube::cluster::Cluster;
use limosa_lab::kube::kubevirt::{Script, Step};
use limosa_protocol::Phase;

use limosa_lab::kube::actor::{Actor, pinned_to, untouched};

/// A guest with one NIC or two migrates from chassis a to b.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    script: Script,
    nics: usize,
    /// The guest announces itself on the target when it resumes.
    announces: bool,
    /// The operator has pinned the port to where the guest is.
    pinned: bool,
}

impl Case {
    fn new(name: &str, script: Script) -> Self {
        Self { name: name.to_owned(), script, nics: 1, announces: true, pinned: false }
    }

    /// Whether anything is done about it: KubeVirt accepts it.
    pub(crate) fn is_touched(&self) -> bool {
        self.has(Step::Pending)
    }

    pub(crate) fn loses_a_node(&self) -> bool {
        self.has(Step::SourceNodeLost) || self.has(Step::TargetNodeLost)
    }

    fn has(&self, step: Step) -> bool {
        self.script.steps().contains(&step)
    }

    /// How it ends, if it begins.
    fn end(&self) -> Option<Phase> {
        let end = if self.has(Step::Completed) { Phase::Completed } else { Phase::RolledBack };
        self.is_touched().then_some(end)
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        Script::all().into_iter().map(|(name, script)| Case::new(&name, script)).collect();
    let success = Script::success;
    cases.extend([
        Case { announces: false, ..Case::new("never announced", success()) },
        // Newer versions of KubeVirt leave it out when the end comes quickly.
        Case {
            announces: false,
            ..Case::new(
                "never announced, and the pod does not say so",
                success().without(Step::ReadyAnnotation),
            )
        },
        Case { announces: false, ..Case::new("silent post-copy", Script::post_copy()) },
        Case { nics: 2, ..Case::new("two NICs, one plugged in later", success()) },
        Case { nics: 2, ..Case::new("two NICs, taken back", Script::fails_back()) },
        Case { pinned: true, ..Case::new("an operator's pin goes with the guest", success()) },
        Case { pinned: true, ..Case::new("an operator's pin stays", Script::fails_before_resume()) },
    ]);
    cases
}

/// Plays a case with a guest of its own, and checks how it ends.
pub(crate) async fn play(cluster: &Cluster, case: &Case, name: &str) -> Result<()> {
    let before = if case.pinned { pinned_to("a") } else { untouched() };
    let actor = Actor::new(cluster, name, "a", case.nics, &before).await?;
    let migration = actor.migrate(&format!("{name}-move"), "a", "b");
    let migration = if case.announces { migration } else { migration.silent() };
    migration.play(&case.script).await?;
    let own = case.pinned.then_some("a");
    let (end, after) = match case.end() {
        Some(end) => {
            migration.end(end).await?;
            let moved = end == Phase::Completed;
            (if moved { "b" } else { "a" }, if moved && case.pinned { pinned_to("b") } else { before })
        }
        None => ("a", before),
    };
    let last = if case.pinned { Some(end) } else { None };
    let pins: &[Option<&str>] = match case.end() {
        None => &[own],
        Some(Phase::Completed) => &[own, Some("a"), Some("a,b"), Some("b"), last],
        Some(_) => &[own, Some("a"), Some("a,b"), Some("b"), Some("a"), last],
    };
    actor.check_options(&after, pins)?;
    let source_is_dead = case.has(Step::SourceNodeLost) && end == "a";
    for port in &actor.ports {
        let bound = cluster.cast.bound(port);
        let wanted = Bound { chassis: Some(end.to_owned()), additional: Vec::new() };
        ensure!(source_is_dead || bound == wanted, "{port} is bound to {bound:?}, not to {end}");
    }
    let objects = cluster.cast.objects().borrow().values().filter(|m| m.spec.port == actor.ports[0]).count();
    ensure!(objects == usize::from(case.is_touched()), "{objects} objects");
    migration.repair(&case.script).await?;
    actor.guest.delete().await
}
