//! The store without Kubernetes: a directory with one JSON file per object.
//!
//! Several processes share it. A change is read, made and written while the
//! lock file is held, into a temporary file that is synced and then renamed
//! over the old one: a reader sees the old object or the new one, and a full
//! disk loses neither. Watchers are told by inotify.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use limosa_protocol::object::{Migration, NodeStatus, Progress, Spec, Want};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::kept::{Kept, Notice};
use super::{Key, Limits, Snapshot, Store, StoreError, continues, ended_before, with_target, with_want};

const LOCK: &str = ".lock";
const TEMPORARY: &str = ".tmp-";
/// A status grows by some hundred bytes per chassis; a thousand fit.
const MAX_OBJECT_BYTES: u64 = 1 << 20;
/// How long somebody else may write; one write takes milliseconds.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);
/// How soon a lock that somebody has is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(2);
/// How often the directory is looked at without any event.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A directory of migration objects, watched.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    limits: Limits,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    watcher: JoinHandle<()>,
    /// The controller's part as this process has written it last.
    written: Mutex<BTreeMap<Key, Progress>>,
}

impl Directory {
    /// Opens a store, making it if there is none: for people, who know where it
    /// belongs.
    pub(crate) async fn open_or_create(path: &Path) -> Result<Self, StoreError> {
        let new = path.to_owned();
        blocking(move || {
            fs::create_dir_all(&new).map_err(io_error("create", &new))?;
            make_lock(&new)
        })
        .await?;
        Self::open(path, Limits::NONE).await
    }

    /// Opens a store that is there. An empty directory is none: a file system
    /// that is not mounted yet must not pass for a store without migrations.
    pub(crate) async fn open(path: &Path, limits: Limits) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let (path, watched, events) = blocking(move || {
            let (watched, events) = begin_to_watch(&path)?;
            // Nobody writes while the lock is held: temporary files are left over.
            // Who wants to read does not wait for somebody who holds it.
            if let Some(_lock) = try_lock(&path)? {
                for file in files(&path)? {
                    let file = file?;
                    if is_temporary(&file) {
                        fs::remove_file(&file).map_err(io_error("remove", &file))?;
                    }
                }
            }
            Ok((path, watched, events))
        })
        .await?;
        let first = read_all(&path, limits, &Snapshot::default())?;
        let mut notice = Notice::default();
        notice.see(&path.display(), &first);
        let (sender, snapshots) = watch::channel(Arc::new(first.snapshot(None)));
        let events = events.into_event_stream(vec![0; 4096]).map_err(io_error("watch", &path))?;
        let watcher = tokio::spawn(follow(path.clone(), limits, watched, events, sender, notice));
        Ok(Self { path, limits, snapshots, watcher, written: Mutex::default() })
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

    /// Changes a spec, if `edit` gives a new one.
    async fn respec(
        &self,
        key: &Key,
        edit: impl FnOnce(&Spec) -> Result<Option<Spec>, StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.locked(key, |path, file, mut migration| match edit(&migration.spec)? {
            Some(spec) => {
                migration.spec = spec;
                write(path, file, &migration)
            }
            None => Ok(()),
        })
        .await
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<Key, Progress>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the controller's part of an object is, as far as this process knows.
    fn base(&self, key: &Key) -> Option<Progress> {
        let snapshot = self.snapshots.borrow();
        let mut written = self.written();
        written.retain(|key, _| snapshot.migrations.contains_key(&key.name));
        let shown = || Some(snapshot.migrations.get(&key.name)?.status.progress.clone());
        written.get(key).cloned().or_else(shown)
    }

    /// Does something with an object and its file while nobody else does.
    async fn locked(
        &self,
        key: &Key,
        work: impl FnOnce(&Path, &Path, Migration) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let key = key.clone();
        self.exclusively(move |path| {
            let file = object_file(path, &key.name)?;
            if !file.exists() {
                return Err(StoreError::NotFound(key.name));
            }
            let migration = read(&file)?;
            if migration.metadata.uid != key.uid {
                return Err(StoreError::NotFound(key.name));
            }
            work(path, &file, migration)
        })
        .await
    }

    /// Does something with the directory while nobody else writes.
    async fn exclusively<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let lock = lock(&path).await?;
        blocking(move || {
            let _lock = lock;
            work(&path)
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
    async fn create(&self, migration: Migration) -> Result<Migration, StoreError> {
        let room = self.snapshots.borrow().check_room(self.limits);
        self.exclusively(move |path| {
            let file = object_file(path, &migration.metadata.name)?;
            if file.exists() {
                return Err(StoreError::Exists(migration.metadata.name));
            }
            room?;
            write(path, &file, &migration)?;
            Ok(migration)
        })
        .await
    }

    async fn put_progress(&self, key: &Key, progress: Progress) -> Result<(), StoreError> {
        let base = self.base(key);
        let (name, new) = (key.name.clone(), progress.clone());
        let result = self
            .locked(key, move |path, file, mut migration| {
                let there = &migration.status.progress;
                if *there == new {
                    return Ok(());
                }
                if base.is_some_and(|base| base != *there) || !continues(there, &new) {
                    return Err(StoreError::Conflict(name));
                }
                migration.status.progress = new;
                write(path, file, &migration)
            })
            .await;
        match &result {
            Ok(()) => drop(self.written().insert(key.clone(), progress)),
            Err(StoreError::Conflict(_)) => drop(self.written().remove(key)),
            Err(_) => {}
        }
        result
    }

    async fn put_node(&self, key: &Key, chassis: &str, status: NodeStatus) -> Result<(), StoreError> {
        let chassis = chassis.to_owned();
        self.change(key, |migration| {
            migration.status.nodes.insert(chassis, status);
        })
        .await
    }

    async fn set_target(&self, key: &Key, chassis: &str) -> Result<(), StoreError> {
        let (name, chassis) = (key.name.clone(), chassis.to_owned());
        self.respec(key, move |spec| with_target(&name, spec, &chassis)).await
    }

    async fn set_want(&self, key: &Key, want: Want) -> Result<(), StoreError> {
        let name = key.name.clone();
        self.respec(key, move |spec| with_want(&name, spec, want)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let remove = |_: &Path, file: &Path, _| fs::remove_file(file).map_err(io_error("remove", file));
        match self.locked(key, remove).await {
            Err(StoreError::NotFound(_)) => Ok(()),
            result => result,
        }
    }

    async fn finish(&self, _: &Migration, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forget(&self, retain: Duration) -> Result<(), StoreError> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        for migration in snapshot.migrations.values().filter(|m| ended_before(m, retain)) {
            self.delete(&Key::of(migration)).await?;
        }
        Ok(())
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }
}

/// Tells of every change. Now and then it looks without having been told: a
/// directory may be replaced (a mount, a restored backup), and inotify says
/// nothing of changes that other hosts make to a shared file system.
async fn follow(
    path: PathBuf,
    limits: Limits,
    mut watched: Identity,
    mut events: inotify::EventStream<Vec<u8>>,
    sender: watch::Sender<Arc<Snapshot>>,
    mut notice: Notice,
) {
    let mut trouble = None;
    loop {
        let own = |name: &std::ffi::OsString| name.as_bytes().starts_with(b".");
        match tokio::time::timeout(LOOK_EVERY, events.next()).await {
            Ok(Some(Ok(event))) if event.name.as_ref().is_some_and(own) => continue,
            Ok(Some(_)) => {}
            Ok(None) => tokio::time::sleep(LOOK_EVERY).await,
            Err(_) => {}
        }
        let (directory, last) = (path.clone(), Arc::clone(&sender.borrow()));
        let look = blocking(move || {
            let anew =
                if identity(&directory)? == watched { None } else { Some(begin_to_watch(&directory)?) };
            Ok((anew, read_all(&directory, limits, &last)?))
        });
        match look.await.and_then(|(anew, kept)| {
            if let Some((identity, inotify)) = anew {
                events = inotify.into_event_stream(vec![0; 4096]).map_err(io_error("watch", &path))?;
                watched = identity;
            }
            Ok(kept)
        }) {
            Ok(kept) => {
                notice.see(&path.display(), &kept);
                let snapshot = kept.snapshot(None);
                if trouble.take().is_some() {
                    tracing::info!(store = %path.display(), "the store is back");
                }
                sender.send_if_modified(|last| {
                    let changed = **last != snapshot;
                    if changed {
                        *last = Arc::new(snapshot);
                    }
                    changed
                });
            }
            Err(error) => {
                let error = error.to_string();
                if trouble.as_ref() != Some(&error) {
                    tracing::error!(error, "the store cannot be read; every migration stays what it was");
                    sender.send_modify(|last| {
                        let Snapshot { migrations, unreadable, left_out, .. } = &**last;
                        let (migrations, unreadable) = (migrations.clone(), unreadable.clone());
                        let trouble = Some(error.clone());
                        *last = Arc::new(Snapshot { migrations, unreadable, left_out: *left_out, trouble });
                    });
                    trouble = Some(error);
                }
            }
        }
    }
}

/// Which directory it is, whatever its name: device and inode.
type Identity = (u64, u64);

fn identity(path: &Path) -> Result<Identity, StoreError> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let metadata = match fs::metadata(path) {
        Err(error) if is_missing(&error) => return Err(StoreError::NoStore { path: path.to_owned() }),
        metadata => metadata.map_err(io_error("read", path))?,
    };
    Ok((metadata.dev(), metadata.ino()))
}

fn begin_to_watch(path: &Path) -> Result<(Identity, Inotify), StoreError> {
    let identity = identity(path)?;
    let belongs_to_store =
        |file: &PathBuf| file.file_name().is_some_and(|name| name == LOCK) || is_object(file);
    if !files(path)?.any(|file| file.as_ref().is_ok_and(belongs_to_store)) {
        return Err(StoreError::NoStore { path: path.to_owned() });
    }
    make_lock(path)?;
    let inotify = Inotify::init().map_err(io_error("watch (see fs.inotify.max_user_instances)", path))?;
    let mask = WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
    inotify
        .watches()
        .add(path, mask | WatchMask::ONLYDIR)
        .map_err(io_error("watch (see fs.inotify.max_user_watches)", path))?;
    Ok((identity, inotify))
}

/// Reads every object, and keeps what there is room for. One that has become
/// unreadable stays what it was: its flows must not go because a hand slipped.
fn read_all(path: &Path, limits: Limits, last: &Snapshot) -> Result<Kept, StoreError> {
    let mut kept = Kept::new(limits);
    for file in files(path)? {
        let file = file?;
        if !is_object(&file) {
            continue;
        }
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        match read(&file) {
            // Deleted since it was listed.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            read => {
                let entry = read.map_err(|why| (why.to_string(), last.migrations.get(name).cloned()));
                // By its path where it is no text: there may be more than one of those.
                let path = || file.to_string_lossy().into_owned();
                kept.insert(if name.is_empty() { path() } else { name.to_owned() }, entry);
            }
        }
    }
    Ok(kept)
}

fn read(file: &Path) -> Result<Migration, StoreError> {
    let mut text = String::new();
    let reader = File::open(file).map_err(io_error("read", file))?;
    reader.take(MAX_OBJECT_BYTES + 1).read_to_string(&mut text).map_err(io_error("read", file))?;
    let unreadable = |why: String| StoreError::Unreadable { path: file.to_owned(), why };
    if text.len() as u64 > MAX_OBJECT_BYTES {
        return Err(unreadable(format!("larger than {MAX_OBJECT_BYTES} bytes; no migration is that large")));
    }
    let mut misspelt = None;
    let mut reader = serde_json::Deserializer::from_str(&text);
    let migration: Migration = serde_ignored::deserialize(&mut reader, |path| {
        let path = path.to_string();
        if path.starts_with("spec.") {
            misspelt = Some(path);
        }
    })
    .and_then(|migration| reader.end().map(|()| migration))
    .map_err(|e| unreadable(format!("not a migration: {e}")))?;
    // People write these files by hand; nobody else looks at what they wrote.
    if let Some(field) = misspelt {
        return Err(unreadable(format!("there is no field {field} in a migration")));
    }
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

fn make_lock(directory: &Path) -> Result<(), StoreError> {
    let path = directory.join(LOCK);
    File::options().create(true).append(true).open(&path).map(drop).map_err(io_error("lock", &path))
}

/// Waits for the lock, but not for ever: whoever holds it may have been stopped.
async fn lock(directory: &Path) -> Result<File, StoreError> {
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        let path = directory.to_owned();
        if let Some(file) = blocking(move || try_lock(&path)).await? {
            return Ok(file);
        }
        if Instant::now() >= deadline {
            let why = format!(
                "another process has held it for {} s (`lslocks` says which): is it stopped, or its disk?",
                LOCK_DEADLINE.as_secs()
            );
            let late = io::Error::new(io::ErrorKind::TimedOut, why);
            return Err(io_error("lock", &directory.join(LOCK))(late));
        }
        tokio::time::sleep(LOCK_AGAIN).await;
    }
}

/// None while somebody else has it. Does not make the lock file: a directory without one is no store.
fn try_lock(directory: &Path) -> Result<Option<File>, StoreError> {
    let path = directory.join(LOCK);
    let file = match File::options().append(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::NoStore { path: directory.to_owned() });
        }
        file => file.map_err(io_error("lock", &path))?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(None),
        locked => locked.map(|()| Some(file)).map_err(|e| io_error("lock", &path)(e.into())),
    }
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
        Err(StoreError::BadName {
            name: name.to_owned(),
            rule: "use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends",
        })
    }
}

fn files(directory: &Path) -> Result<impl Iterator<Item = Result<PathBuf, StoreError>>, StoreError> {
    let entries = fs::read_dir(directory).map_err(io_error("list", directory))?;
    Ok(entries.map(move |entry| entry.map(|e| e.path()).map_err(io_error("list", directory))))
}

fn is_temporary(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_bytes().starts_with(TEMPORARY.as_bytes()))
}

fn is_object(file: &Path) -> bool {
    let is_hidden = file.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."));
    file.extension().is_some_and(|end| end == "json") && !is_hidden
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
mod tests;
