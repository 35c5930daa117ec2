//! Which objects a process keeps of a store that holds more than it has room for.
//!
//! Those that are under way, and the oldest of them first: whatever comes on top
//! takes nothing from what has begun.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use limosa_protocol::Step;
use limosa_protocol::object::Migration;

use super::Snapshot;

/// How soon the same is said again of a store that holds too much.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// How much an agent or a controller keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(super) objects: usize,
    /// As JSON.
    pub(super) bytes: usize,
}

impl Limits {
    /// Ten thousand migrations at a time; of a thousand chassis that all have a
    /// part in each, still some hundreds.
    pub(crate) const MOST: Self = Self { objects: 10_000, bytes: 256 << 20 };
    /// For verbs, whose users look for what the programs may have no room for.
    pub(crate) const NONE: Self = Self { objects: usize::MAX, bytes: usize::MAX };
}

/// What a name stands for: an object, or why it cannot be read, with what it was before.
pub(super) type Entry = Result<Migration, (String, Option<Migration>)>;

/// The earlier in this order, the sooner it is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    standing: Standing,
    created: Timestamp,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It has a number: there may be flows and options to undo.
    UnderWay,
    /// It has ended, but not every chassis has said that its flows are gone.
    Ending,
    Pending,
    Ended,
    /// And never has been anything else.
    Unreadable,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    rank: Rank,
    bytes: usize,
}

/// The objects of a store, as far as there is room.
#[derive(Debug)]
pub(super) struct Kept {
    limits: Limits,
    held: BTreeMap<String, Held>,
    order: BTreeSet<Rank>,
    bytes: usize,
    left_out: usize,
}

impl Kept {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, held: BTreeMap::new(), order: BTreeSet::new(), bytes: 0, left_out: 0 }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.held.get(name).map(|held| &held.entry)
    }

    /// Adds or replaces an object; the last in order go if that is too much.
    pub(super) fn insert(&mut self, name: String, entry: Entry) {
        self.drop_held(&name);
        let (rank, bytes) = (rank(&name, &entry), weight(&entry));
        self.bytes += bytes;
        self.order.insert(rank.clone());
        self.held.insert(name, Held { entry, rank, bytes });
        while self.held.len() > self.limits.objects || self.bytes > self.limits.bytes {
            let Some(last) = self.order.last().map(|rank| rank.name.clone()) else { return };
            self.drop_held(&last);
            self.left_out += 1;
        }
    }

    /// It is no more.
    pub(super) fn remove(&mut self, name: &str) {
        if !self.drop_held(name) {
            self.left_out = self.left_out.saturating_sub(1);
        }
    }

    fn drop_held(&mut self, name: &str) -> bool {
        let Some(Held { rank, bytes, .. }) = self.held.remove(name) else { return false };
        self.order.remove(&rank);
        self.bytes -= bytes;
        true
    }

    /// How many there was no room for, since everything was read last; an object that has come up twice
    /// counts twice.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether something that was left out may fit by now.
    pub(super) fn has_room(&self) -> bool {
        self.held.len() < self.limits.objects && self.bytes < self.limits.bytes / 2
    }

    pub(super) fn snapshot(&self, trouble: Option<String>) -> Snapshot {
        let mut snapshot = Snapshot { trouble, left_out: self.left_out, ..Snapshot::default() };
        for (name, Held { entry, .. }) in &self.held {
            let migration = match entry {
                Ok(migration) => Some(migration),
                Err((why, last)) => {
                    snapshot.unreadable.push(why.clone());
                    last.as_ref()
                }
            };
            snapshot.migrations.extend(migration.map(|migration| (name.clone(), migration.clone())));
        }
        snapshot
    }
}

fn rank(name: &str, entry: &Entry) -> Rank {
    let (Ok(migration) | Err((_, Some(migration)))) = entry else {
        return Rank { standing: Standing::Unreadable, created: Timestamp::MAX, name: name.to_owned() };
    };
    let standing = match (migration.phase().is_final(), migration.status.progress.number) {
        (true, _) if migration.status.nodes.values().all(|node| node.has(Step::Cleaned)) => Standing::Ended,
        (true, _) => Standing::Ending,
        (false, 0) => Standing::Pending,
        (false, _) => Standing::UnderWay,
    };
    Rank { standing, created: migration.metadata.creation_timestamp, name: name.to_owned() }
}

/// Counts what is written, so that nothing is allocated for it.
#[derive(Default)]
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn weight(entry: &Entry) -> usize {
    let (why, migration) = match entry {
        Ok(migration) => (0, Some(migration)),
        Err((why, last)) => (why.len(), last.as_ref()),
    };
    let mut counter = Counter(why);
    if let Some(migration) = migration {
        // Neither the counter nor the object has anything to refuse.
        let _ = serde_json::to_writer(&mut counter, migration);
    }
    counter.0
}

/// Says that a store holds too much, and when it no longer does, but not all the time.
#[derive(Debug, Default)]
pub(super) struct Notice {
    left_out: usize,
    said: Option<Instant>,
}

impl Notice {
    pub(super) fn see(&mut self, store: &dyn std::fmt::Display, kept: &Kept) {
        let left_out = kept.left_out;
        if left_out == self.left_out || self.said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return;
        }
        self.said = Some(Instant::now());
        if left_out == 0 {
            tracing::info!(%store, "every migration of the store is followed again");
        } else {
            let Limits { objects, bytes } = kept.limits;
            tracing::error!(
                %store, left_out,
                "the store holds more than {objects} migrations or {} MiB: those that are under way go on, the newest \
                 of the others wait until some have ended; abort and delete what nobody needs (`limosa status`)",
                bytes >> 20
            );
        }
        self.left_out = left_out;
    }
}

#[cfg(test)]
mod tests {
    use limosa_protocol::Phase;
    use limosa_protocol::object::{NodeStatus, Role, Spec};
    use uuid::Uuid;

    use super::*;

    /// An object made `age` seconds after the others.
    fn migration(name: &str, age: i64, phase: Phase, number: u32) -> (String, Entry) {
        let created = Timestamp::from_second(age).unwrap();
        let spec = Spec::new("vm1", "a", Some("b".to_owned()));
        let mut migration = Migration::new(name.to_owned(), Uuid::nil(), spec, created);
        migration.status.progress.number = number;
        if phase != Phase::Pending {
            migration.status.progress.enter(phase, created);
        }
        (name.to_owned(), Ok(migration))
    }

    fn names(kept: &Kept) -> Vec<String> {
        kept.snapshot(None).migrations.into_keys().collect()
    }

    fn few(objects: usize) -> Kept {
        Kept::new(Limits { objects, bytes: usize::MAX })
    }

    #[test]
    fn what_has_begun_goes_on_and_the_oldest_comes_first() {
        let mut kept = few(3);
        let add = |kept: &mut Kept, (name, entry)| kept.insert(name, entry);
        for (name, age) in [("new", 30), ("old", 10), ("older", 5), ("newest", 40)] {
            add(&mut kept, migration(name, age, Phase::Pending, 0));
        }
        assert_eq!((names(&kept), kept.left_out()), (vec!["new".into(), "old".into(), "older".into()], 1));
        // Under way, although it is the youngest of all.
        add(&mut kept, migration("armed", 99, Phase::Armed, 7));
        assert_eq!(names(&kept), ["armed", "old", "older"]);
        // The oldest of all, but they have ended; one still has flows somewhere.
        let (name, entry) = migration("ending", 1, Phase::Completed, 8);
        let mut entry = entry.unwrap();
        entry.status.nodes.insert("a".to_owned(), NodeStatus::new(Role::Source));
        add(&mut kept, migration("ended", 1, Phase::Completed, 9));
        assert_eq!(names(&kept), ["armed", "old", "older"]);
        add(&mut kept, (name, Ok(entry)));
        assert_eq!(names(&kept), ["armed", "ending", "older"]);
        // What cannot be read is what it was; what never could be comes last.
        let last = kept.get("armed").unwrap().as_ref().unwrap().clone();
        add(&mut kept, ("armed".to_owned(), Err(("no".to_owned(), Some(last)))));
        add(&mut kept, ("scribble".to_owned(), Err(("no".to_owned(), None))));
        assert_eq!(names(&kept), ["armed", "ending", "older"]);
        assert_eq!(kept.snapshot(None).unreadable, ["no"]);
        // An end makes room for what is read anew.
        assert!(!kept.has_room());
        kept.remove("older");
        assert!(kept.has_room() && kept.left_out() > 0);
        kept.remove("nobody knows");
        add(&mut kept, migration("older", 5, Phase::Pending, 0));
        assert_eq!(names(&kept), ["armed", "ending", "older"]);
    }

    #[test]
    fn large_objects_are_few() {
        let (name, entry) = migration("m0", 0, Phase::Armed, 1);
        let bytes = weight(&entry);
        assert!(bytes > 100, "{bytes}");
        let mut kept = Kept::new(Limits { objects: usize::MAX, bytes: 3 * bytes });
        kept.insert(name, entry);
        for age in 1..50 {
            let (name, entry) = migration(&format!("m{}", age % 10), age, Phase::Armed, 1);
            kept.insert(name, entry);
        }
        assert_eq!(kept.held.len(), 3);
        assert!(kept.bytes <= 3 * bytes);
        assert_eq!(kept.bytes, kept.held.values().map(|held| held.bytes).sum::<usize>());
        assert_eq!(kept.order.len(), 3);
    }
}
