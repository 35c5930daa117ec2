//! Limosa's store, seen from outside: each change of an object within a
//! millisecond, and the store itself taken away and given back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::demo::Object;
use crate::holder::{ROOT, within};
use crate::lab::Lab;

/// What a migration goes through, in order, when nothing fails for good.
const PHASES: [&str; 9] =
    ["Pending", "Pinning", "Arming", "Armed", "Activated", "Bound", "Switched", "Released", "Completed"];

/// Whether an object has come as far as `phase` on the way to its end.
pub(super) fn has_reached(object: &Object, phase: &str) -> bool {
    let rank = |phase: &str| PHASES.iter().position(|known| known.eq_ignore_ascii_case(phase));
    rank(object.phase()) >= rank(phase)
}

/// Whether nothing will change any more.
pub(super) fn has_ended(object: &Object) -> bool {
    matches!(object.phase(), "Completed" | "RolledBack" | "Rejected")
}

type Snapshot = Arc<BTreeMap<String, Object>>;

/// The store of a lab: a directory on a small file system of its own.
#[derive(Debug)]
pub(super) struct Objects {
    disk: PathBuf,
    store: PathBuf,
    snapshots: watch::Receiver<Snapshot>,
    watcher: JoinHandle<()>,
}

impl Objects {
    /// Makes the store and begins to watch it.
    pub(super) async fn start(lab: &Lab) -> Result<Self> {
        let disk = lab.dir().join("disk");
        let store = disk.join("store");
        let script = "mkdir -p $0; mount -t tmpfs -o size=4m tmpfs $0; mkdir -p $0/store";
        // In the namespace that the others are entered from, so that all see it.
        lab.exec_in(ROOT, &["sh", "-euc", script, text(&disk)?])
            .await
            .context("give the store a disk of its own")?;
        let seen = lab.outside(&store);
        let events = Inotify::init().context("start inotify")?;
        // A store that went and came back is the same directory, and tells on.
        let mask = WatchMask::MOVED_TO;
        events.watches().add(&seen, mask).context("watch the store")?;
        events.watches().add(lab.outside(&disk), WatchMask::MOVED_TO).context("watch the store's disk")?;
        let mut events = events.into_event_stream(vec![0; 4096]).context("watch the store")?;
        let (sender, snapshots) = watch::channel(Snapshot::default());
        let watcher = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                // What a name begins with a dot for is no object: locks, and
                // files that are still being written.
                let name = event.ok().and_then(|event| event.name).unwrap_or_default();
                let now = match Path::new(&name).extension() {
                    _ if name.as_encoded_bytes().starts_with(b".") => continue,
                    Some(end) if end == "json" => read(&seen.join(&name)).into_iter().collect(),
                    _ => read_all(&seen),
                };
                sender.send_if_modified(|last| {
                    let changed = now.iter().any(|(name, object)| last.get(name) != Some(object));
                    if changed {
                        Arc::make_mut(last).extend(now);
                    }
                    changed
                });
            }
        });
        Ok(Self { disk, store, snapshots, watcher })
    }

    /// Where it is, inside the lab.
    pub(super) fn path(&self) -> &Path {
        &self.store
    }

    /// An object as it was seen last.
    pub(super) fn get(&self, name: &str) -> Option<Object> {
        self.snapshots.borrow().get(name).cloned()
    }

    /// Waits until an object is as wanted.
    pub(super) async fn until(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Object) -> bool,
    ) -> Result<Object> {
        let mut snapshots = self.snapshots.clone();
        let waiting = format!("{name} to be {what}");
        let found = within(deadline, &waiting, async {
            let is = |snapshot: &Snapshot| snapshot.get(name).is_some_and(&wanted);
            snapshots.wait_for(is).await.map(|s| s.get(name).cloned()).context("the watch has ended")
        });
        let found = found.await.with_context(|| match self.get(name) {
            Some(object) => format!("{name} is in phase {}: {}", object.phase(), object.waiting_for()),
            None => format!("there is no {name} in the store"),
        })?;
        found.context("an object that went while it was looked at")
    }

    /// Waits until an object has come to a phase; it must not end otherwise.
    pub(super) async fn reached(&self, name: &str, phase: &str, deadline: Duration) -> Result<Object> {
        let arrived = |object: &Object| has_reached(object, phase) || has_ended(object);
        let object = self.until(name, phase, deadline, arrived).await?;
        ensure!(has_reached(&object, phase), "{name} ended as {}", object.phase());
        Ok(object)
    }

    /// The directory is not there any more.
    pub(super) async fn take_away(&self, lab: &Lab) -> Result<()> {
        self.script(lab, "mv $0/store $0/away").await
    }

    /// It is there again.
    pub(super) async fn give_back(&self, lab: &Lab) -> Result<()> {
        self.script(lab, "mv -T $0/away $0/store").await
    }

    /// Nothing more can be written.
    pub(super) async fn fill(&self, lab: &Lab) -> Result<()> {
        self.script(lab, "! dd if=/dev/zero of=$0/filler bs=4k 2>/dev/null").await
    }

    /// There is room again.
    pub(super) async fn make_room(&self, lab: &Lab) -> Result<()> {
        self.script(lab, "rm $0/filler").await
    }

    async fn script(&self, lab: &Lab, script: &str) -> Result<()> {
        let argv = ["sh", "-euc", script, text(&self.disk)?];
        lab.exec_in(ROOT, &argv).await.map(drop)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a directory with a strange name")
}

/// Every object that can be read.
fn read_all(store: &Path) -> BTreeMap<String, Object> {
    let entries = std::fs::read_dir(store).into_iter().flatten().flatten();
    entries.filter_map(|entry| read(&entry.path())).collect()
}

fn read(path: &Path) -> Option<(String, Object)> {
    let is_object = path.extension().is_some_and(|end| end == "json");
    let object: Object = serde_json::from_slice(&std::fs::read(path).ok().filter(|_| is_object)?).ok()?;
    Some((object.name().to_owned(), object))
}
