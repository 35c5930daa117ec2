//! Agents, controllers and people on a real API server, with the rules that the chart gives them.

use jiff::Timestamp;
use limosa_protocol::object::{Phase, Problem, Role, Step};
use serde_json::Value;
use uuid::Uuid;

use super::super::kept::Kept;
use super::testing::{AGENT, CONTROLLER, admin, migration, node, progress, shared, store, until};
use super::*;

#[tokio::test]
async fn writers_of_one_object_keep_out_of_each_others_way() {
    let server = shared().await;
    let (_, api) = admin(server, "writers").await;
    let controller = store(server, CONTROLLER, "writers", Which::Live).await;
    let agents = [
        store(server, AGENT, "writers", Which::Live).await,
        store(server, AGENT, "writers", Which::Live).await,
    ];
    let object = controller.create(migration("m1")).await.unwrap();
    assert_eq!(object.full_name(), "writers/m1");
    assert_eq!(object.metadata.finalizers, [FINALIZER]);
    let key = Key::of(&object);
    for store in agents.iter().chain([&controller]) {
        until(store, &key.name, |m| m.is_some()).await;
    }
    let mut object = object;
    object.status.progress = progress(&object, Phase::Pending);
    controller.put_progress(&key, object.status.progress.clone()).await.unwrap();
    // All at once, over and over; the controller's writes are on top of what it knows.
    let writes = agents.iter().enumerate().map(|(i, agent)| {
        let key = &key;
        async move {
            let role = [Role::Source, Role::Target][i];
            for n in 1..=Phase::ALL.len() {
                let steps = [Step::Armed, Step::Activated, Step::Bound, Step::Cleaned];
                let status = node(role, &steps[..n % 4]);
                agent.put_node(key, &format!("node{}", i + 1), status).await.unwrap();
            }
            let problem = Some(Problem::new("None", "at all"));
            let status = NodeStatus { problem, ..node(role, &[Step::Armed]) };
            agent.put_node(key, &format!("node{}", i + 1), status).await.unwrap();
            agent.put_node(key, &format!("node{}", i + 1), node(role, &[Step::Armed])).await.unwrap();
        }
    });
    let decide = async {
        let mut object = object.clone();
        for phase in [Phase::Pinning, Phase::Arming, Phase::Armed, Phase::Activated] {
            object.status.progress = progress(&object, phase);
            controller.put_progress(&key, object.status.progress.clone()).await.unwrap();
        }
        controller.set_target(&key, "node2").await.unwrap();
        object.status.progress
    };
    let (written, _) = tokio::join!(decide, futures::future::join_all(writes));
    let is_there = |m: Option<&Migration>| {
        let m = m.unwrap();
        m.status.progress == written
            && m.spec.to.as_deref() == Some("node2")
            && m.source() == Some(&node(Role::Source, &[Step::Armed]))
            && m.target() == Some(&node(Role::Target, &[Step::Armed]))
    };
    until(&controller, &key.name, is_there).await;
    let now = api.get("m1").await.unwrap();
    let managers: Vec<String> =
        now.metadata.managed_fields.unwrap().into_iter().filter_map(|entry| entry.manager).collect();
    for manager in ["limosa", "limosa-controller", "limosa-agent"] {
        assert!(managers.contains(&manager.to_owned()), "{managers:?}");
    }
    assert!(!now.data.to_string().contains("null"), "{}", now.data);

    // The same again is not even asked for.
    until(&agents[0], &key.name, |m| m.is_some_and(|m| is_there(Some(m)))).await;
    agents[0].put_node(&key, "node1", node(Role::Source, &[Step::Armed])).await.unwrap();
    controller.put_progress(&key, written.clone()).await.unwrap();
    let again = api.get("m1").await.unwrap();
    assert_eq!(again.metadata.resource_version, now.metadata.resource_version);

    // A controller that knows of nothing since is refused, and then knows.
    let late = store(server, CONTROLLER, "writers", Which::Live).await;
    let mut other = written.clone();
    other.enter(Phase::Bound, Timestamp::UNIX_EPOCH);
    late.put_progress(&key, other.clone()).await.unwrap();
    let mut base = written.clone();
    base.enter(Phase::RollingBack, Timestamp::UNIX_EPOCH);
    until(&controller, &key.name, |m| m.is_some_and(|m| m.status.progress == other)).await;
    assert!(matches!(controller.put_progress(&key, base.clone()).await, Err(StoreError::Conflict(_))));
    // Nor does it pass once that is known: a step of the other's would be undone.
    assert!(matches!(controller.put_progress(&key, base).await, Err(StoreError::Conflict(_))));
    other.enter(Phase::RollingBack, Timestamp::UNIX_EPOCH);
    controller.put_progress(&key, other.clone()).await.unwrap();
    // One whose time is over does not write at all.
    let over = controller.fenced(Fence::lasting(Duration::ZERO));
    other.enter(Phase::RolledBack, Timestamp::UNIX_EPOCH);
    assert!(matches!(over.put_progress(&key, other).await, Err(StoreError::NotLeading)));
    assert!(matches!(over.set_want(&key, Want::Abort).await, Err(StoreError::NotLeading)));
}

#[tokio::test]
async fn what_has_ended_is_out_of_sight() {
    let server = shared().await;
    admin(server, "ended").await;
    let controller = store(server, CONTROLLER, "ended", Which::Live).await;
    let agent = store(server, AGENT, "ended", Which::Live).await;
    let object = controller.create(migration("m1")).await.unwrap();
    let key = Key::of(&object);
    until(&agent, &key.name, |m| m.is_some()).await;
    until(&controller, &key.name, |m| m.is_some()).await;
    controller.put_progress(&key, progress(&object, Phase::Completed)).await.unwrap();
    agent.put_node(&key, "node1", node(Role::Source, &[Step::Armed])).await.unwrap();
    until(&controller, &key.name, |m| m.is_some_and(|m| m.phase().is_final() && m.source().is_some())).await;
    let finish = async |is_clean| {
        let shown = controller.shown(&key).unwrap();
        controller.finish(&shown, is_clean).await.unwrap();
    };
    // The source still has flows: it may be deleted, but is in sight.
    finish(false).await;
    until(&agent, &key.name, |m| m.is_some_and(|m| m.metadata.finalizers.is_empty())).await;
    assert!(!agent.shown(&key).unwrap().metadata.labels.contains_key(ENDED));
    agent.put_node(&key, "node1", node(Role::Source, &[Step::Cleaned])).await.unwrap();
    until(&controller, &key.name, |m| m.is_some_and(|m| m.source().unwrap().has(Step::Cleaned))).await;
    finish(true).await;
    until(&agent, &key.name, |m| m.is_none()).await;
    until(&controller, &key.name, |m| m.is_none()).await;
    for which in [Which::All, Which::One(key.name.clone())] {
        let everything = store(server, AGENT, "ended", which).await;
        until(&everything, &key.name, |m| m.is_some_and(|m| m.phase() == Phase::Completed)).await;
    }
    // Its name is taken until it is forgotten.
    assert!(matches!(controller.create(migration("m1")).await, Err(StoreError::Exists(_))));
    controller.forget(Duration::from_secs(3600)).await.unwrap();
    let all = store(server, AGENT, "ended", Which::All).await;
    assert_eq!(all.watch().borrow().migrations.len(), 1);
    let fresh = store(server, CONTROLLER, "ended", Which::Live).await;
    fresh.forget(Duration::ZERO).await.unwrap();
    until(&all, &key.name, |m| m.is_none()).await;
}

#[tokio::test]
async fn a_deleted_object_stays_until_it_has_ended() {
    let server = shared().await;
    let (_, api) = admin(server, "deleted").await;
    let controller = store(server, CONTROLLER, "deleted", Which::Live).await;
    // Made with kubectl: without a finalizer, and without a status.
    let by_hand = json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": "by-hand" },
        "spec": { "port": "p", "from": "node1", "to": "node2" },
    });
    let by_hand: DynamicObject = serde_json::from_value(by_hand).unwrap();
    let made = api.create(&PostParams::default(), &by_hand).await.unwrap();
    assert_eq!(made.data["spec"]["want"], "Complete");
    until(&controller, "deleted/by-hand", |m| m.is_some()).await;
    let object = controller.watch().borrow().migrations["deleted/by-hand"].clone();
    let key = Key::of(&object);
    controller.put_progress(&key, progress(&object, Phase::Pinning)).await.unwrap();
    until(&controller, &key.name, |m| m.is_some_and(|m| m.metadata.finalizers == [FINALIZER])).await;
    controller.delete(&key).await.unwrap();
    until(&controller, &key.name, |m| m.is_some_and(|m| m.metadata.deletion_timestamp.is_some())).await;
    let object = controller.shown(&key).unwrap();
    controller.put_progress(&key, progress(&object, Phase::RolledBack)).await.unwrap();
    until(&controller, &key.name, |m| m.is_some_and(|m| m.phase().is_final())).await;
    controller.finish(&controller.shown(&key).unwrap(), true).await.unwrap();
    until(&controller, &key.name, |m| m.is_none()).await;
    assert!(api.get_opt("by-hand").await.unwrap().is_none());
    // Another of its name is another object, also for who has not heard of it.
    api.create(&PostParams::default(), &by_hand).await.unwrap();
    until(&controller, &key.name, |m| m.is_some()).await;
    let other = controller.watch().borrow().migrations[&key.name].clone();
    controller.put_progress(&Key::of(&other), progress(&other, Phase::Pinning)).await.unwrap();
    let late = controller.put_node(&key, "node1", node(Role::Source, &[])).await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
    let late = controller.patch_node(&key, "node1", &json!(node(Role::Source, &[]))).await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "a status went to another object: {late:?}");
    controller.delete(&key).await.unwrap();
    assert!(api.get_opt("by-hand").await.unwrap().is_some(), "the later one was deleted");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let server = shared().await;
    admin(server, "refused").await;
    let controller = store(server, CONTROLLER, "refused", Which::Live).await;
    let agent = store(server, AGENT, "refused", Which::Live).await;
    let object = controller.create(migration("m1")).await.unwrap();
    let key = Key::of(&object);
    until(&agent, &key.name, |m| m.is_some()).await;
    let refused = agent.set_want(&key, Want::Abort).await.unwrap_err();
    assert!(matches!(refused, StoreError::Forbidden(_)), "{refused}");
    for word in ["limosa-agent", "patch", "portmigrations", "charts/limosa/files"] {
        assert!(refused.to_string().contains(word), "{refused}");
    }
    let stranger =
        Access { kubeconfig: Some(server.kubeconfig_for("nobody").await.unwrap()), namespace: None };
    let refused = Kubernetes::open(&stranger, Which::Live).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Forbidden(why) if why.contains("list")), "{refused}");
    for name in ["", "A", "-a", "a..b", "a/b", &"x".repeat(254)] {
        assert!(
            matches!(controller.create(migration(name)).await, Err(StoreError::BadName { .. })),
            "{name:?}"
        );
    }
    controller.create(migration(&format!("{}.nic-1", "m".repeat(240)))).await.unwrap();
    let mut nameless = migration("m2");
    nameless.spec.port = String::new();
    let refused = controller.create(nameless).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("spec.port")), "{refused}");
    let nowhere = Access { kubeconfig: Some("/nonexistent".into()), namespace: None };
    assert!(matches!(Kubernetes::open(&nowhere, Which::Live).await, Err(StoreError::NoCluster(_))));
    // Once a target, always that target; once on the way back, always on the way back.
    controller.set_target(&key, "node2").await.unwrap();
    controller.set_target(&key, "node2").await.unwrap();
    let again = controller.set_target(&key, "node3").await;
    assert!(matches!(again, Err(StoreError::TargetSet { to, .. }) if to == "node2"));
    controller.set_want(&key, Want::Return).await.unwrap();
    assert!(matches!(controller.set_want(&key, Want::Abort).await, Err(StoreError::Returning(_))));
}

#[tokio::test]
async fn the_table_tells_the_story() {
    let server = shared().await;
    let (client, _) = admin(server, "table").await;
    let controller = store(server, CONTROLLER, "table", Which::Live).await;
    let mut object = migration("m1");
    object.spec.to = Some("node2".to_owned());
    let object = controller.create(object).await.unwrap();
    until(&controller, "table/m1", |m| m.is_some()).await;
    controller.put_progress(&Key::of(&object), progress(&object, Phase::Armed)).await.unwrap();
    let request = http::Request::get(format!("/apis/{API_VERSION}/namespaces/table/portmigrations"))
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = client.request(request).await.unwrap();
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let wide = ["Port", "Number", "Want", "Waiting", "Outcome"];
    assert_eq!(columns[..7], ["Name", "VM", "NIC", "From", "To", "Phase", "Age"]);
    assert_eq!(columns[7..], wide);
    let cells = &table["rows"][0]["cells"];
    assert_eq!(cells.as_array().unwrap()[..6], ["m1", "vm1", "default", "node1", "node2", "Armed"]);
    assert_eq!(cells[7], "vm1.ns");
    assert_eq!(cells[10], "goes on");
}

#[test]
fn what_cannot_be_understood_stays_what_it_was() {
    let object = |phase: &str| -> DynamicObject {
        let object = json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "metadata": { "name": "m1", "namespace": "ns", "uid": Uuid::nil(), "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "port": "p", "from": "a", "someday": true }, "status": { "phase": phase },
        });
        serde_json::from_value(object).unwrap()
    };
    let mut known = Kept::new(Limits::NONE);
    for phase in ["Armed", "Dreamt", "Dreamt"] {
        let (name, entry) = follow::read(object(phase), &known);
        assert_eq!(name, "ns/m1");
        known.insert(name, entry);
    }
    let Some(Err((why, Some(last)))) = known.get("ns/m1") else { panic!("{known:?}") };
    assert!(why.starts_with("ns/m1: ") && why.contains("Dreamt"), "{why}");
    assert_eq!(last.phase(), Phase::Armed);
}

#[tokio::test]
async fn too_many_objects_take_nothing_from_those_that_are_under_way() {
    let server = shared().await;
    let (_, api) = admin(server, "many").await;
    let person = store(server, CONTROLLER, "many", Which::All).await;
    let limits = Limits { objects: 3, ..Limits::MOST };
    let access = Access {
        kubeconfig: Some(server.kubeconfig_for(AGENT).await.unwrap()),
        namespace: Some("many".to_owned()),
    };
    let first = person.create(migration("first")).await.unwrap();
    for name in ["m1", "m2"] {
        person.create(migration(name)).await.unwrap();
    }
    let program = Kubernetes::open_with(&access, Which::Live, limits).await.unwrap();
    let names = |snapshot: &Snapshot| snapshot.migrations.keys().cloned().collect::<Vec<_>>().join(" ");
    let until_shown = async |shown: &str, left_out: bool| {
        let mut watch = program.watch();
        let wait = watch.wait_for(|s| names(s) == shown && (s.left_out > 0) == left_out);
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok();
        assert!(waited, "{:?}", program.watch().borrow());
    };
    until_shown("many/first many/m1 many/m2", false).await;
    let refused = program.create(migration("m9")).await.unwrap_err();
    assert_eq!(refused.label(), "full");
    // One comes later (by its name, in the same second), and goes under way all the same.
    let late = person.create(migration("z")).await.unwrap();
    until_shown("many/first many/m1 many/m2", true).await;
    until(&person, &late.full_name(), |m| m.is_some()).await;
    let mut under_way = progress(&late, Phase::Armed);
    under_way.number = 7;
    person.put_progress(&Key::of(&late), under_way).await.unwrap();
    until_shown("many/first many/m1 many/z", true).await;
    // When some go, what was left out is there, without anything being written.
    let finalizers = json!({ "metadata": { "finalizers": null } });
    for name in ["first", "m1"] {
        let patch = kube::api::Patch::Merge(&finalizers);
        api.patch(name, &kube::api::PatchParams::default(), &patch).await.unwrap();
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until(&person, &first.full_name(), |m| m.is_none()).await;
    until_shown("many/m2 many/z", false).await;
}
