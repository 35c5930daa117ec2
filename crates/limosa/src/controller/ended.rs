//! What becomes of migrations that have ended.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use limosa_protocol::lifecycle::Cluster;
use limosa_protocol::object::{ConditionType, Migration, Problem, Step, Truth, to_microseconds};

use super::{Controller, RETRY, sooner};
use crate::store::{Key, Snapshot};

/// How long after its end a migration waits for a chassis that the southbound database does not know (any more) to say
/// that its flows are gone. Should it come back later, its agent finds flows without an object, and takes them away.
const CHASSIS_MAY_RETURN: Duration = Duration::from_secs(600);

impl Controller<'_> {
    /// Lets go of what has ended, and deletes what has ended long ago; how long until there is more to do.
    pub(super) async fn finish(&mut self, snapshot: &Snapshot) -> Option<Duration> {
        let mut wait = None;
        let ended = || snapshot.migrations.values().filter(|migration| migration.phase().is_final());
        let is_waited_for = ended().any(|migration| silent(migration).next().is_some());
        let is_known = is_waited_for && self.databases.trouble().is_none();
        let cluster = is_known.then(|| self.databases.cluster());
        for migration in ended() {
            let key = Key::of(migration);
            if self.not_before.contains_key(&key) {
                wait = Some(RETRY);
                continue;
            }
            let left = Left::of(migration, cluster.as_ref(), Timestamp::now());
            if let Left::WithTheGone(chassis) = &left
                && !self.note_gone(migration, chassis).await
            {
                wait = Some(RETRY);
                continue;
            }
            if let Left::Until(due) = left {
                wait = sooner(wait, Some(due));
            }
            let is_clean = matches!(left, Left::Nothing | Left::WithTheGone(_));
            if let Err(error) = self.store.finish(migration, is_clean).await {
                tracing::error!(migration = key.name, %error, "an ended migration cannot be let go");
                self.not_before.insert(key, Instant::now() + RETRY);
                wait = Some(RETRY);
            }
        }
        if snapshot.trouble.is_none()
            && let Err(error) = self.store.forget(self.retain).await
        {
            tracing::error!(%error, "ended migrations cannot be deleted");
        }
        wait
    }

    /// Says on the object that nobody waits for these chassis any more; false if that cannot be written now.
    async fn note_gone(&mut self, migration: &Migration, chassis: &BTreeSet<&str>) -> bool {
        let mut migration = [self.latest(migration)];
        let mut progress = migration[0].status.progress.clone();
        let names = chassis.iter().copied().collect::<Vec<_>>().join(", ");
        let why = format!(
            "nothing is waited for: {names} did not say that the flows are gone, and is no chassis of the southbound \
             database any more"
        );
        let now = to_microseconds(Timestamp::now());
        let why = Problem::new("NotCleaned", why);
        progress.set_condition(ConditionType::Progressing, Truth::False, why, now);
        self.write(&mut migration, vec![(0, progress)]).await.is_empty()
    }
}

/// The chassis that have not said that their flows are gone.
fn silent(migration: &Migration) -> impl Iterator<Item = &str> {
    let nodes = migration.status.nodes.iter();
    nodes.filter(|(_, node)| !node.has(Step::Cleaned)).map(|(chassis, _)| chassis.as_str())
}

/// What an ended migration has left on chassis.
#[derive(Debug, PartialEq, Eq)]
enum Left<'a> {
    Nothing,
    /// Flows, maybe, on a chassis that will say so once they are gone.
    Flows,
    /// Maybe on a chassis that is no more, which is waited for that long.
    Until(Duration),
    /// Nothing but on these, which are no more.
    WithTheGone(BTreeSet<&'a str>),
}

impl<'a> Left<'a> {
    /// `cluster` is none while it is not known.
    fn of(migration: &'a Migration, cluster: Option<&Cluster>, now: Timestamp) -> Self {
        let silent: BTreeSet<&str> = silent(migration).collect();
        if silent.is_empty() {
            return Self::Nothing;
        }
        let progress = &migration.status.progress;
        let Some((cluster, ended)) = cluster.zip(progress.steps.get(&progress.phase)) else {
            return Self::Flows;
        };
        if silent.iter().any(|chassis| cluster.chassis.contains_key(*chassis)) {
            return Self::Flows;
        }
        let since = now.duration_since(*ended);
        match CHASSIS_MAY_RETURN.checked_sub(Duration::try_from(since).unwrap_or_default()) {
            Some(left) if !left.is_zero() => Self::Until(left),
            _ => Self::WithTheGone(silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use limosa_protocol::Phase;
    use limosa_protocol::object::{NodeStatus, Role, Spec};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_chassis_that_is_gone_is_waited_for_and_not_for_ever() {
        let now = Timestamp::now();
        let spec = Spec::new("p".to_owned(), "a", Some("b".to_owned()));
        let mut migration = Migration::new("m".to_owned(), Uuid::nil(), spec, now);
        migration.status.progress.enter(Phase::Completed, now);
        let with = |chassis: &[&str]| Cluster {
            chassis: chassis.iter().map(|&name| (name.to_owned(), BTreeSet::new())).collect(),
            ..Cluster::default()
        };
        let later = now + CHASSIS_MAY_RETURN;
        assert_eq!(Left::of(&migration, Some(&with(&[])), later), Left::Nothing);

        let nodes = &mut migration.status.nodes;
        nodes.insert("a".to_owned(), NodeStatus::new(Role::Source));
        nodes.insert("b".to_owned(), NodeStatus::new(Role::Target));
        for known in [None, Some(with(&["a"])), Some(with(&["b", "c"]))] {
            assert_eq!(Left::of(&migration, known.as_ref(), later), Left::Flows);
        }
        let neither = with(&["c"]);
        assert_eq!(Left::of(&migration, Some(&neither), now), Left::Until(CHASSIS_MAY_RETURN));
        let both = Left::WithTheGone(["a", "b"].into());
        assert_eq!(Left::of(&migration, Some(&neither), later), both);
        migration.status.nodes.values_mut().for_each(|node| node.take(Step::Cleaned, now));
        assert_eq!(Left::of(&migration, Some(&neither), now), Left::Nothing);
    }
}
