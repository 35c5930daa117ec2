//! Several processes, one directory, and what may become of it.

use jiff::Timestamp;
use limosa_protocol::Phase;
use limosa_protocol::object::{Role, Spec, Step};
use uuid::Uuid;

use super::*;

fn migration(name: &str) -> Migration {
    let spec = Spec::new("vm1", "a", Some("b".to_owned()));
    Migration::new(name.to_owned(), Uuid::new_v4(), spec, Timestamp::UNIX_EPOCH)
}

async fn until(watch: &mut watch::Receiver<Arc<Snapshot>>, what: impl Fn(&Snapshot) -> bool) {
    let wait = watch.wait_for(|snapshot| what(snapshot));
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the store says nothing").unwrap();
}

#[tokio::test]
async fn two_processes_share_a_store_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let one = Directory::open_or_create(&dir.path().join("new/store")).await.unwrap();
    let two = Directory::open_or_create(&dir.path().join("new/store")).await.unwrap();
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
    let writers = (0..20).map(|i| report(Arc::clone(if i % 2 == 0 { &one } else { &two }), format!("ch{i}")));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let all = |snapshot: &Snapshot| snapshot.migrations.get("m1").is_some_and(|m| m.status.nodes.len() == 20);
    until(&mut one.watch(), all).await;
    until(&mut two.watch(), all).await;
    let hidden: Vec<_> = files(&one.path).unwrap().map(Result::unwrap).filter(|f| is_temporary(f)).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[tokio::test]
async fn a_controller_does_not_overwrite_what_another_one_has_written() {
    let dir = tempfile::tempdir().unwrap();
    let first = Directory::open_or_create(dir.path()).await.unwrap();
    let object = first.create(migration("m1")).await.unwrap();
    let key = Key::of(&object);
    let second = Directory::open(dir.path(), Limits::NONE).await.unwrap();
    until(&mut first.watch(), |snapshot| snapshot.migrations.contains_key("m1")).await;
    let after = |phases: &[Phase]| {
        let mut progress = Progress::default();
        phases.iter().for_each(|phase| progress.enter(*phase, Timestamp::UNIX_EPOCH));
        progress
    };
    let armed = [Phase::Arming, Phase::Armed];
    first.put_progress(&key, after(&armed)).await.unwrap();
    until(&mut second.watch(), |s| s.migrations["m1"].phase() == Phase::Armed).await;
    let activated = [&armed[..], &[Phase::Activated]].concat();
    let bound = [&activated[..], &[Phase::Bound]].concat();
    second.put_progress(&key, after(&activated)).await.unwrap();
    second.put_progress(&key, after(&bound)).await.unwrap();

    let late = first.put_progress(&key, after(&activated)).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    assert_eq!(read(&dir.path().join("m1.json")).unwrap().phase(), Phase::Bound);
    // It has seen by now what it did not know when it decided.
    until(&mut first.watch(), |s| s.migrations["m1"].phase() == Phase::Bound).await;
    let late = first.put_progress(&key, after(&activated)).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    // It goes on from there, and then the other one is late.
    first.put_progress(&key, after(&[&bound[..], &[Phase::Released]].concat())).await.unwrap();
    let late = second.put_progress(&key, after(&[&bound[..], &[Phase::Switched]].concat())).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_keeps_the_lock_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::open_or_create(dir.path()).await.unwrap();
    let object = migration("m1");
    store.create(object.clone()).await.unwrap();
    let stopped = lock(dir.path()).await.unwrap();

    let reader = Directory::open(dir.path(), Limits::NONE).await.unwrap();
    assert!(reader.watch().borrow().migrations.contains_key("m1"));
    let late = store.set_want(&Key::of(&object), Want::Return).await.unwrap_err();
    let said = "another process has held it for 10 s (`lslocks` says which)";
    assert!(late.to_string().contains(said), "{late}");
    assert_eq!(read(&dir.path().join("m1.json")).unwrap(), object);

    drop(stopped);
    store.set_want(&Key::of(&object), Want::Return).await.unwrap();
}

#[tokio::test]
async fn an_object_is_told_from_a_later_one_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::open_or_create(dir.path()).await.unwrap();
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
    let store = Directory::open_or_create(dir.path()).await.unwrap();
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
async fn an_empty_directory_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = Directory::open(&path, Limits::NONE).await.unwrap_err();
        assert!(matches!(error, StoreError::NoStore { .. }), "{error}");
    }
    assert!(files(dir.path()).unwrap().next().is_none(), "nothing was made");
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Directory::open_or_create(&path).await.unwrap();
    store.create(migration("m1")).await.unwrap();
    let mut watch = store.watch();
    until(&mut watch, |s| s.migrations.contains_key("m1")).await;
    // A mount comes off, and an empty directory shows beneath it.
    fs::rename(&path, dir.path().join("away")).unwrap();
    fs::create_dir(&path).unwrap();
    let key = Key::of(&watch.borrow().migrations["m1"]);
    let error = store.set_want(&key, Want::Abort).await.unwrap_err();
    assert!(matches!(error, StoreError::NoStore { .. }), "{error}");
    until(&mut watch, |s| s.trouble.is_some() && s.migrations.contains_key("m1")).await;
    // It is back, as another directory, in which somebody writes.
    fs::remove_dir(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::copy(dir.path().join("away/m1.json"), path.join("m1.json")).unwrap();
    let elsewhere = Directory::open(&path, Limits::NONE).await.unwrap();
    elsewhere.create(migration("m2")).await.unwrap();
    until(&mut watch, |s| s.migrations.len() == 2 && s.trouble.is_none()).await;
}

#[tokio::test]
async fn a_target_is_named_once_and_a_return_is_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::open_or_create(dir.path()).await.unwrap();
    let mut object = migration("m1");
    object.spec.to = None;
    let key = Key::of(&store.create(object).await.unwrap());
    for _ in 0..2 {
        store.set_target(&key, "b").await.unwrap();
    }
    let again = store.set_target(&key, "c").await;
    assert!(matches!(again, Err(StoreError::TargetSet { to, .. }) if to == "b"));
    store.set_want(&key, Want::Return).await.unwrap();
    assert!(matches!(store.set_want(&key, Want::Abort).await, Err(StoreError::Returning(_))));
    until(&mut store.watch(), |s| s.migrations["m1"].spec.to.as_deref() == Some("b")).await;
}

#[tokio::test]
async fn a_misspelt_request_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::open_or_create(dir.path()).await.unwrap();
    store.create(migration("good")).await.unwrap();
    let text = fs::read_to_string(dir.path().join("good.json")).unwrap();
    let misspelt = text.replace("\"good\"", "\"bad\"").replace("\"want\"", "\"wnat\"");
    fs::write(dir.path().join("bad.json"), misspelt).unwrap();
    until(&mut store.watch(), |s| s.unreadable.iter().any(|why| why.contains("spec.wnat"))).await;
}

#[tokio::test]
async fn names_cannot_leave_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::open_or_create(dir.path()).await.unwrap();
    for name in ["", "../m", "a/b", "-a", "A", ".lock", &"x".repeat(64)] {
        assert!(matches!(store.create(migration(name)).await, Err(StoreError::BadName { .. })), "{name:?}");
    }
}

/// A store with too many objects, as a program with little room sees it.
#[tokio::test]
async fn too_many_objects_take_nothing_from_those_that_are_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let person = Directory::open_or_create(dir.path()).await.unwrap();
    let limits = Limits { objects: 2, ..Limits::MOST };
    let program = Directory::open(dir.path(), limits).await.unwrap();
    let names = |s: &Snapshot| s.migrations.keys().cloned().collect::<Vec<_>>();
    let mut armed = migration("armed");
    armed.metadata.creation_timestamp = Timestamp::now();
    armed.status.progress.number = 1;
    armed.status.progress.enter(Phase::Armed, Timestamp::UNIX_EPOCH);
    let armed = person.create(armed).await.unwrap();
    for name in ["m1", "m2", "m3"] {
        person.create(migration(name)).await.unwrap();
    }
    let mut watch = program.watch();
    until(&mut watch, |s| names(s) == ["armed", "m1"] && s.left_out == 2).await;
    // The program itself adds none.
    let refused = program.create(migration("m4")).await.unwrap_err();
    assert_eq!((refused.label(), refused.to_string().contains("`limosa status`")), ("full", true));
    // A person sees everything, and what a program does not see can be ended and deleted.
    until(&mut person.watch(), |s| s.migrations.len() == 4 && s.left_out == 0).await;
    let m2 = Key::of(&person.watch().borrow().migrations["m2"]);
    for key in [Key::of(&armed), m2] {
        person.delete(&key).await.unwrap();
    }
    until(&mut watch, |s| names(s) == ["m1", "m3"] && s.left_out == 0).await;
    // What has ended makes room.
    let ended = Key::of(&program.watch().borrow().migrations["m1"]);
    let mut progress = Progress::default();
    progress.enter(Phase::Rejected, Timestamp::UNIX_EPOCH);
    program.put_progress(&ended, progress).await.unwrap();
    until(&mut watch, |s| s.migrations.get("m1").is_some_and(|m| m.phase().is_final())).await;
    program.create(migration("m4")).await.unwrap();
    until(&mut watch, |s| names(s) == ["m3", "m4"] && s.left_out == 1).await;
}
