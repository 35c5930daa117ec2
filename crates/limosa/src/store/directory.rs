//! The store without Kubernetes: a directory with one JSON file per object.
//!
//! Several processes share it. A change is read, made and written while the
//! lock file is held, into a temporary file that is synced and then renamed
//! over the old one: a reader sees the old object or the new one, and a full
//! disk loses neither. Watchers are told by inotify.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use limosa_protocol::object::{Migration, NodeStatus, Progress, Want};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Key, Snapshot, Store, StoreError};

const LOCK: &str = ".lock";
const TEMPORARY: &str = ".tmp-";
/// A status grows by some hundred bytes per chassis; a thousand fit.
const MAX_OBJECT_BYTES: u64 = 1 << 20;

/// A directory of migration objects, watched.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    watcher: JoinHandle<()>,
}

impl Directory {
    /// Opens a store, making the directory if it is not there.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let (path, inotify) = blocking(move || {
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
            let inotify =
                Inotify::init().map_err(io_error("watch (see fs.inotify.max_user_instances)", &path))?;
            let mask =
                WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
            inotify
                .watches()
                .add(&path, mask | WatchMask::ONLYDIR)
                .map_err(io_error("watch (see fs.inotify.max_user_watches)", &path))?;
            // Nobody writes while the lock is held: temporary files are left over.
            let _lock = lock(&path)?;
            for file in files(&path)?.into_iter().filter(|file| is_temporary(file)) {
                fs::remove_file(&file).map_err(io_error("remove", &file))?;
            }
            Ok((path, inotify))
        })
        .await?;
        let first = read_all(&path, &Snapshot::default())?;
        let (sender, snapshots) = watch::channel(Arc::new(first));
        let events = inotify.into_event_stream(vec![0; 4096]).map_err(io_error("watch", &path))?;
        let watcher = tokio::spawn(follow(path.clone(), events, sender));
        Ok(Self { path, snapshots, watcher })
    }

    async fn change(
        &self,
        key: &Key,
        edit: impl FnOnce(&mut Migration) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.locked(key, |path, file, old| {
            let mut new = old.clone();
            edit(&mut new);
            if new == old { Ok(()) } else { write(path, file, &new) }
        })
        .await
    }

    /// Does something with an object and its file while nobody else does.
    async fn locked(
        &self,
        key: &Key,
        work: impl FnOnce(&Path, &Path, Migration) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (path, key) = (self.path.clone(), key.clone());
        blocking(move || {
            let file = object_file(&path, &key.name)?;
            let _lock = lock(&path)?;
            if !file.exists() {
                return Err(StoreError::NotFound(key.name));
            }
            let migration = read(&file)?;
            if migration.metadata.uid != key.uid {
                return Err(StoreError::NotFound(key.name));
            }
            work(&path, &file, migration)
        })
        .await
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

#[async_trait]
impl Store for Directory {
    async fn create(&self, migration: Migration) -> Result<(), StoreError> {
        let path = self.path.clone();
        blocking(move || {
            let file = object_file(&path, &migration.metadata.name)?;
            let _lock = lock(&path)?;
            if file.exists() {
                return Err(StoreError::Exists(migration.metadata.name));
            }
            write(&path, &file, &migration)
        })
        .await
    }

    async fn put_progress(&self, key: &Key, progress: Progress) -> Result<(), StoreError> {
        self.change(key, |migration| migration.status.progress = progress).await
    }

    async fn put_node(&self, key: &Key, chassis: &str, status: NodeStatus) -> Result<(), StoreError> {
        let chassis = chassis.to_owned();
        self.change(key, |migration| {
            migration.status.nodes.insert(chassis, status);
        })
        .await
    }

    async fn set_want(&self, key: &Key, want: Want) -> Result<(), StoreError> {
        self.change(key, move |migration| migration.spec.want = want).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let remove = |_: &Path, file: &Path, _| fs::remove_file(file).map_err(io_error("remove", file));
        match self.locked(key, remove).await {
            Err(StoreError::NotFound(_)) => Ok(()),
            result => result,
        }
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }
}

async fn follow(
    path: PathBuf,
    mut events: inotify::EventStream<Vec<u8>>,
    sender: watch::Sender<Arc<Snapshot>>,
) {
    while let Some(event) = events.next().await {
        let own = |name: &std::ffi::OsString| name.as_bytes().starts_with(b".");
        if matches!(&event, Ok(event) if event.name.as_ref().is_some_and(own)) {
            continue;
        }
        let (directory, last) = (path.clone(), Arc::clone(&sender.borrow()));
        let snapshot = match blocking(move || read_all(&directory, &last)).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::error!(%error, "the store cannot be read");
                continue;
            }
        };
        sender.send_if_modified(|last| {
            let changed = **last != snapshot;
            if changed {
                *last = Arc::new(snapshot);
            }
            changed
        });
    }
}

/// Reads every object. One that has become unreadable stays what it was: its
/// flows must not go because a hand slipped.
fn read_all(path: &Path, last: &Snapshot) -> Result<Snapshot, StoreError> {
    let mut snapshot = Snapshot::default();
    let is_object = |file: &PathBuf| file.extension().is_some_and(|end| end == "json") && !is_hidden(file);
    for file in files(path)?.into_iter().filter(is_object) {
        match read(&file) {
            Ok(migration) => {
                snapshot.migrations.insert(migration.metadata.name.clone(), migration);
            }
            // Deleted since it was listed.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                snapshot.unreadable.push(error.to_string());
                let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                if let Some((name, migration)) = last.migrations.get_key_value(name) {
                    snapshot.migrations.insert(name.clone(), migration.clone());
                }
            }
        }
    }
    Ok(snapshot)
}

fn read(file: &Path) -> Result<Migration, StoreError> {
    let mut text = String::new();
    let reader = File::open(file).map_err(io_error("read", file))?;
    reader.take(MAX_OBJECT_BYTES + 1).read_to_string(&mut text).map_err(io_error("read", file))?;
    let unreadable = |why: String| StoreError::Unreadable { path: file.to_owned(), why };
    if text.len() as u64 > MAX_OBJECT_BYTES {
        return Err(unreadable(format!("larger than {MAX_OBJECT_BYTES} bytes; no migration is that large")));
    }
    let migration: Migration =
        serde_json::from_str(&text).map_err(|e| unreadable(format!("not a migration: {e}")))?;
    let named = file.file_stem().is_some_and(|stem| stem == migration.metadata.name.as_str());
    if !named {
        return Err(unreadable(format!(
            "metadata.name is {:?}; it has to be the file's name",
            migration.metadata.name
        )));
    }
    Ok(migration)
}

fn write(directory: &Path, file: &Path, migration: &Migration) -> Result<(), StoreError> {
    let error = |e| StoreError::Io { doing: "write", path: file.to_owned(), source: e };
    let mut temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory).map_err(error)?;
    serde_json::to_writer_pretty(&mut temporary, migration).map_err(|e| error(e.into()))?;
    temporary.write_all(b"\n").map_err(error)?;
    temporary.as_file().sync_all().map_err(error)?;
    temporary.persist(file).map_err(|e| error(e.error))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(error)
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let file = File::options().create(true).append(true).open(&path).map_err(io_error("lock", &path))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|e| io_error("lock", &path)(e.into()))?;
    Ok(file)
}

fn object_file(directory: &Path, name: &str) -> Result<PathBuf, StoreError> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_label {
        Ok(directory.join(name).with_extension("json"))
    } else {
        Err(StoreError::BadName(name.to_owned()))
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(directory).map_err(io_error("list", directory))?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(io_error("list", directory))).collect()
}

fn is_temporary(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_bytes().starts_with(TEMPORARY.as_bytes()))
}

fn is_hidden(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use limosa_protocol::object::{Role, Spec, Step};
    use uuid::Uuid;

    use super::*;

    fn migration(name: &str) -> Migration {
        let spec =
            Spec { port: "vm1".into(), from: "a".into(), to: "b".into(), mac: None, want: Want::Complete };
        Migration::new(name.to_owned(), Uuid::new_v4(), spec, Timestamp::UNIX_EPOCH)
    }

    async fn until(watch: &mut watch::Receiver<Arc<Snapshot>>, what: impl Fn(&Snapshot) -> bool) {
        let wait = watch.wait_for(|snapshot| what(snapshot));
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the store says nothing").unwrap();
    }

    #[tokio::test]
    async fn two_processes_share_a_store_and_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let one = Directory::open(&dir.path().join("new/store")).await.unwrap();
        let two = Directory::open(&dir.path().join("new/store")).await.unwrap();
        let object = migration("m1");
        let key = Key::of(&object);
        one.create(object.clone()).await.unwrap();
        assert!(matches!(two.create(object).await, Err(StoreError::Exists(_))));

        let report = |store: Arc<Directory>, chassis: String| {
            let key = key.clone();
            tokio::spawn(async move {
                let mut status = NodeStatus::new(Role::Bystander);
                status.take(Step::Cleaned, Timestamp::UNIX_EPOCH);
                store.put_node(&key, &chassis, status).await.unwrap();
            })
        };
        let (one, two) = (Arc::new(one), Arc::new(two));
        let writers =
            (0..20).map(|i| report(Arc::clone(if i % 2 == 0 { &one } else { &two }), format!("ch{i}")));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let all =
            |snapshot: &Snapshot| snapshot.migrations.get("m1").is_some_and(|m| m.status.nodes.len() == 20);
        until(&mut one.watch(), all).await;
        until(&mut two.watch(), all).await;
        let hidden: Vec<_> = files(&one.path).unwrap().into_iter().filter(|f| is_temporary(f)).collect();
        assert!(hidden.is_empty(), "{hidden:?}");
    }

    #[tokio::test]
    async fn an_object_is_told_from_a_later_one_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(dir.path()).await.unwrap();
        let old = Key::of(&migration("m1"));
        assert!(matches!(store.set_want(&old, Want::Abort).await, Err(StoreError::NotFound(_))));
        let new = migration("m1");
        store.create(new.clone()).await.unwrap();
        assert!(matches!(store.set_want(&old, Want::Abort).await, Err(StoreError::NotFound(_))));
        store.set_want(&Key::of(&new), Want::Abort).await.unwrap();
        until(&mut store.watch(), |s| s.migrations["m1"].spec.want == Want::Abort).await;
        store.delete(&old).await.unwrap();
        assert!(store.watch().borrow().migrations.contains_key("m1"), "the later one was deleted");
        store.delete(&Key::of(&new)).await.unwrap();
        until(&mut store.watch(), |s| s.migrations.is_empty()).await;
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named_and_harms_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("broken.json"), "{\"kind\": 7").unwrap();
        fs::write(dir.path().join("large.json"), vec![b' '; MAX_OBJECT_BYTES as usize + 10]).unwrap();
        fs::write(dir.path().join("notes.txt"), "not an object").unwrap();
        fs::write(dir.path().join(".tmp-crashed"), "{").unwrap();
        let store = Directory::open(dir.path()).await.unwrap();
        store.create(migration("good")).await.unwrap();
        fs::copy(dir.path().join("good.json"), dir.path().join("other.json")).unwrap();
        let mut watch = store.watch();
        until(&mut watch, |s| s.migrations.len() == 1 && s.unreadable.len() == 3).await;
        let unreadable = watch.borrow().unreadable.join("\n");
        for name in ["broken.json", "large.json", "other.json"] {
            assert!(unreadable.contains(name), "{unreadable}");
        }
        assert!(!dir.path().join(".tmp-crashed").exists());
        fs::write(dir.path().join("good.json"), "a hand slipped").unwrap();
        until(&mut watch, |s| s.unreadable.len() == 4).await;
        assert!(watch.borrow().migrations.contains_key("good"), "it is still what it was");
    }

    #[tokio::test]
    async fn names_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(dir.path()).await.unwrap();
        for name in ["", "../m", "a/b", "-a", "A", ".lock", &"x".repeat(64)] {
            assert!(matches!(store.create(migration(name)).await, Err(StoreError::BadName(_))), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_keeps_the_old_object() {
        // A file system of its own would need root; an object that cannot be
        // written at all is the same to the store.
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(&dir.path().join("store")).await.unwrap();
        let object = migration("m1");
        store.create(object.clone()).await.unwrap();
        fs::rename(dir.path().join("store"), dir.path().join("away")).unwrap();
        let error = store.set_want(&Key::of(&object), Want::Abort).await.unwrap_err();
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(read(&dir.path().join("away/m1.json")).unwrap(), object);
    }
}
