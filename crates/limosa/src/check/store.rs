//! The objects: whether they can be read, and whether somebody works on them.

use jiff::{SignedDuration, Timestamp};
use limosa_protocol::{Migration, Phase};

use super::{Report, some};
use crate::store::{Place, Snapshot, Store, Which};
use crate::view::count;

/// How long after a phase has begun somebody must have acted on it.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);

pub(super) async fn check(report: &mut Report, place: &Place) -> Option<Box<dyn Store>> {
    let store = match place.open(Which::All).await {
        Ok(store) => store,
        Err(error) => {
            let hint = "name it by --store or --kubernetes; the first `limosa migrate` makes a directory's";
            report.fail("store", error.to_string(), hint);
            return None;
        }
    };
    let snapshot = store.watch().borrow().clone();
    let live = snapshot.migrations.values().filter(|migration| !migration.phase().is_final()).count();
    match snapshot.unreadable.as_slice() {
        [] => report.ok("store", format!("{place}: {} under way", count(live, "migration"))),
        unreadable => {
            let hint = "while they cannot be read, flows without an object stay; mend or delete them";
            report.fail("store", some(unreadable), hint);
        }
    }
    controller(report, &snapshot);
    Some(store)
}

/// A request that nobody looks at.
fn controller(report: &mut Report, snapshot: &Snapshot) {
    let now = Timestamp::now();
    let ignored = |m: &&Migration| {
        m.phase() == Phase::Pending
            && m.metadata.creation_timestamp + PATIENCE < now
            && m.status.progress.conditions.is_empty()
    };
    let ignored: Vec<String> =
        snapshot.migrations.values().filter(ignored).map(Migration::full_name).collect();
    if ignored.is_empty() {
        report.ok("controller", "no request waits for it");
    } else {
        let hint = "is `limosa controller` running, on this store?";
        report.fail("controller", format!("nobody has looked at {}", some(&ignored)), hint);
    }
}

/// Migrations one of whose chassis says nothing: one of two, or `chassis` alone.
pub(super) fn agents(report: &mut Report, snapshot: Option<&Snapshot>, chassis: Option<&str>) {
    let Some(snapshot) = snapshot else { return };
    let now = Timestamp::now();
    let silent = |m: &Migration| {
        let arming = m.status.progress.steps.get(&Phase::Arming);
        let due = arming.is_some_and(|at| *at + PATIENCE < now) && !m.phase().is_final();
        let sides = [Some(&m.spec.from), m.spec.to.as_ref()].into_iter().flatten();
        let silent = sides.filter(|side| !m.status.nodes.contains_key(*side));
        let silent = silent.filter(|side| chassis.is_none_or(|chassis| chassis == *side));
        silent.filter(|_| due).map(|side| format!("{side} ({})", m.full_name())).collect::<Vec<_>>()
    };
    let silent: Vec<String> = snapshot.migrations.values().flat_map(silent).collect();
    if silent.is_empty() {
        report.ok("agents", "every chassis that a migration needs has reported");
    } else {
        let hint = "is `limosa agent` running there, on the same store, and is --chassis its name in the southbound database?";
        report.fail("agents", format!("nothing is heard of {}", some(&silent)), hint);
    }
}
