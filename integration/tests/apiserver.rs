//! The API server that the tests of Kubernetes run on, and what KubeVirt writes into it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::{Api, Client, Error, ResourceExt};
use limosa_lab::kube::kubevirt::{self, Binding, Guest, GuestSpec, Nic, Script, Step, key};
use limosa_lab::kube::{ApiServer, DEADLINE, apply, fresh_namespace, wait_for};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender as Sender, unbounded_channel};
use tokio::time::timeout;

const AGENT: &str = "system:serviceaccount:limosa:limosa-agent";

/// The agent may use leases in one namespace, and may not delete them.
const LEASES: &str = "
kind: Role
apiVersion: rbac.authorization.k8s.io/v1
metadata: { name: leases, namespace: NAMESPACE }
rules: [{ apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list, create] }]
---
kind: RoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: { name: leases, namespace: NAMESPACE }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: leases }
subjects: [{ kind: ServiceAccount, name: limosa-agent, namespace: limosa }]
";

/// The status code with which the server refused.
fn refused<T: std::fmt::Debug>(answer: kube::Result<T>) -> u16 {
    match answer {
        Err(Error::Api(status)) => status.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "key": value } });
    serde_json::from_value(object).unwrap()
}

fn merge(patch: Value) -> Patch<Value> {
    Patch::Merge(patch)
}

/// An administrator's client, and a namespace of this test's own.
async fn fixture() -> Result<(Client, String)> {
    let client = ApiServer::shared().await?.client().await?;
    let namespace = fresh_namespace(&client).await?;
    kubevirt::install(&client).await?;
    kubevirt::nodes(&client, &["node1", "node2"]).await?;
    Ok((client, namespace))
}

#[tokio::test]
async fn nobody_may_do_what_is_not_granted() -> Result<()> {
    let server = ApiServer::shared().await?;
    let admin = server.client().await?;
    let ns = fresh_namespace(&admin).await?;
    for user in [AGENT, "somebody"] {
        let client = server.client_as(user).await?;
        let leases: Api<Lease> = Api::namespaced(client.clone(), &ns);
        assert_eq!(refused(leases.list(&Default::default()).await), 403, "{user}");
    }
    apply(&admin, &LEASES.replace("NAMESPACE", &ns)).await?;
    let agent = server.client_as(AGENT).await?;
    let leases: Api<Lease> = Api::namespaced(agent.clone(), &ns);
    // The server reads roles through a cache of its own.
    timeout(DEADLINE, async {
        while leases.list(&Default::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    let lease: Lease = serde_json::from_value(json!({ "metadata": { "name": "ch1" }, "spec": {} }))?;
    leases.create(&PostParams::default(), &lease).await?;
    assert_eq!(refused(leases.delete("ch1", &Default::default()).await), 403);
    let elsewhere: Api<Lease> = Api::namespaced(agent, "default");
    assert_eq!(refused(elsewhere.get("ch1").await), 403);
    Ok(())
}

#[tokio::test]
async fn a_status_is_written_through_its_own_door_only_where_there_is_one() -> Result<()> {
    let (client, ns) = fixture().await?;
    let guest = Guest::create(&client, GuestSpec::new(&ns, "vm1", "node1")).await?;
    let migration = guest.migrate("move1", "node2");
    migration.play(&Script::success().through(Step::Pending)).await?;

    let api = migration.api();
    let parameters = PatchParams::default();
    api.patch("move1", &parameters, &merge(json!({ "status": { "phase": "Failed" } }))).await?;
    let object = api.get("move1").await?;
    assert_eq!(object.data["status"]["phase"], "Pending", "the main door leaves the status alone");
    api.patch_status("move1", &parameters, &merge(json!({ "spec": { "vmiName": "other" } }))).await?;
    let unknown = merge(json!({ "status": { "phase": "Running", "invented": 1 } }));
    let object = api.patch_status("move1", &parameters, &unknown).await?;
    assert_eq!(object.data["spec"]["vmiName"], "vm1", "and the other one the spec");
    assert_eq!(object.data["status"]["phase"], "Running");
    assert!(object.data["status"].get("invented").is_none(), "what the schema does not know is dropped");

    let wrong = merge(json!({ "status": { "migrationState": { "startTimestamp": "yesterday" } } }));
    assert_eq!(refused(api.patch_status("move1", &parameters, &wrong).await), 422);
    assert_eq!(refused(guest.api().patch_status("vm1", &parameters, &wrong).await), 404, "a guest has none");
    Ok(())
}

#[tokio::test]
async fn who_owns_a_field_keeps_it() -> Result<()> {
    let (client, ns) = fixture().await?;
    let api: Api<ConfigMap> = Api::namespaced(client, &ns);
    let (mine, theirs) = (PatchParams::apply("mine"), PatchParams::apply("theirs"));
    api.patch("map", &mine, &Patch::Apply(config_map("map", "a"))).await?;
    api.patch("map", &theirs, &Patch::Apply(config_map("map", "a"))).await?;
    assert_eq!(refused(api.patch("map", &theirs, &Patch::Apply(config_map("map", "b"))).await), 409);
    let taken = api.patch("map", &theirs.force(), &Patch::Apply(config_map("map", "b"))).await?;
    assert_eq!(taken.data.unwrap_or_default().get("key").map(String::as_str), Some("b"));
    assert_eq!(refused(api.patch("map", &mine, &Patch::Apply(config_map("map", "a"))).await), 409);
    Ok(())
}

/// Needs servers of its own: two of them, side by side, one of which goes away.
#[tokio::test]
async fn a_server_goes_away_and_comes_back() -> Result<()> {
    let (first, second) = tokio::try_join!(ApiServer::launch(), ApiServer::launch())?;
    if !first.is_own() {
        return Ok(());
    }
    let map = |client: &Client| -> Api<ConfigMap> { Api::namespaced(client.clone(), "default") };
    let (here, there) = (first.client().await?, second.client().await?);
    map(&here).create(&PostParams::default(), &config_map("kept", "a")).await?;
    assert!(map(&there).get_opt("kept").await?.is_none(), "two servers, two stores");
    let agent = first.client_as(AGENT).await?;

    first.stop().await?;
    assert!(!matches!(map(&here).get("kept").await, Ok(_) | Err(Error::Api(_))), "nobody answers");
    assert!(first.stop().await.is_err(), "it is stopped already");
    map(&there).create(&PostParams::default(), &config_map("meanwhile", "a")).await?;
    first.start().await?;
    assert!(map(&here).get_opt("kept").await?.is_some(), "the same clients reach it, and nothing is lost");
    assert_eq!(refused(map(&agent).get("kept").await), 403, "tokens are good for as long as before");

    first.pause().await?;
    assert!(timeout(Duration::from_millis(300), map(&here).get("kept")).await.is_err(), "no answer");
    first.resume().await?;
    timeout(DEADLINE, map(&here).get("kept")).await??;

    first.pause().await?;
    first.stop().await?;
    drop(second);
    assert!(map(&there).get("meanwhile").await.is_err(), "it ends with its owner");
    Ok(())
}

/// What a test looks at in an object, by the name that it has below.
const SEEN: [(&str, &str); 21] = [
    ("created", "/metadata/uid"),
    ("deleting", "/metadata/deletionTimestamp"),
    ("finalizer", "/metadata/finalizers/0"),
    ("target label", "/metadata/labels/kubevirt.io~1migrationTargetNodeName"),
    ("node label", "/metadata/labels/kubevirt.io~1nodeName"),
    ("ready annotation", "/metadata/annotations/kubevirt.io~1migration-target-ready-timestamp"),
    ("bound", "/spec/nodeName"),
    ("phase", "/status/phase"),
    ("readiness", "/readiness"),
    ("node", "/status/nodeName"),
    ("pods", "/status/activePods"),
    ("source pod", "/status/migrationState/sourcePod"),
    ("target", "/status/migrationState/targetPod"),
    ("uid", "/status/migrationState/migrationUid"),
    ("address", "/status/migrationState/targetNodeAddress"),
    ("mode", "/status/migrationState/mode"),
    ("start", "/status/migrationState/startTimestamp"),
    ("detected", "/status/migrationState/targetNodeDomainDetected"),
    ("ready", "/status/migrationState/targetNodeDomainReadyTimestamp"),
    ("end", "/status/migrationState/endTimestamp"),
    ("completed", "/status/migrationState/completed"),
];

/// An object after a change of it: its version, itself, and whether it is gone.
type Event = (u64, DynamicObject, bool);

/// Tells of the objects of a kind, first as they are, and then of every change. From version 0, because the server has
/// forgotten that of a list when it has only just begun to keep what happens to a kind (410 Gone).
async fn watch(api: Api<DynamicObject>, events: Sender<Event>) -> Result<()> {
    let mut stream = api.watch(&WatchParams::default().disable_bookmarks(), "0").await?.boxed();
    tokio::spawn(async move {
        while let Some(event) = stream.next().await {
            let (object, gone) = match event.unwrap() {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                other => panic!("{other:?}"),
            };
            let version = object.resource_version().unwrap().parse().unwrap();
            if events.send((version, object, gone)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// What an event has changed in an object, given what is known of it.
fn changes(object: &DynamicObject, gone: bool, known: &mut BTreeMap<String, Value>) -> String {
    let (name, mut after) = (object.name_any(), serde_json::to_value(object).unwrap());
    let conditions = after["status"]["conditions"].as_array();
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready").cloned());
    if let Some(ready) = ready {
        after["readiness"] = ready["status"].clone();
    }
    let before = known.insert(name.clone(), after.clone()).unwrap_or_default();
    let changed = SEEN.into_iter().filter(|(_, path)| before.pointer(path) != after.pointer(path));
    let described = changed.map(|(seen, path)| match (seen, after.pointer(path)) {
        ("phase", Some(phase)) => format!("phase {}", phase.as_str().unwrap()),
        (_, None) => format!("no {seen}"),
        _ => seen.to_owned(),
    });
    let what = if gone { "gone".to_owned() } else { described.collect::<Vec<_>>().join(", ") };
    format!("{name}: {what}")
}

#[tokio::test]
async fn a_migration_is_written_in_kubevirts_order() -> Result<()> {
    let (client, ns) = fixture().await?;
    let nic = Nic::new("default", Binding::Bridge, "02:00:00:00:01:01").ip("10.244.0.5");
    let guest = Guest::create(&client, GuestSpec::new(&ns, "vm1", "node1").nics([nic])).await?;
    let migration = guest.migrate("move1", "node2");

    let (sender, mut events) = unbounded_channel();
    for kind in [kubevirt::guests(), kubevirt::migrations(), ApiResource::erase::<Pod>(&())] {
        watch(Api::namespaced_with(client.clone(), &ns, &kind), sender.clone()).await?;
    }
    // Versions are the store's, the same for all kinds.
    let begun: u64 =
        guest.api().list(&ListParams::default()).await?.metadata.resource_version.unwrap().parse()?;
    migration.play(&Script::success()).await?;

    let expected = "
        move1: created, finalizer
        move1: phase Pending, source pod
        TARGET: created, node label, phase Pending
        move1: phase Scheduling
        TARGET: bound
        vm1: pods
        TARGET: phase Running, readiness
        move1: phase Scheduled
        vm1: target label, source pod, target, uid
        move1: phase PreparingTarget
        vm1: address
        move1: phase TargetReady
        vm1: mode, start
        move1: phase Running
        vm1: detected
        vm1: ready
        TARGET: ready annotation
        vm1: node label, node, end
        TARGET: readiness
        vm1: completed
        move1: phase Succeeded
        vm1: no target label
        move1: target, uid, address, mode, start, detected, ready, end, completed
        move1: no finalizer
        SOURCE: phase Succeeded, readiness
        SOURCE: deleting
        SOURCE: gone
        vm1: pods";
    let names = |line: &str| {
        let source = migration.source_pod().unwrap();
        line.trim().replace("TARGET", migration.target_pod()).replace("SOURCE", source)
    };
    let expected: Vec<_> = expected.trim().lines().map(names).collect();
    let (mut known, mut seen) = (BTreeMap::new(), Vec::new());
    // What is missing then, the comparison shows.
    while seen.len() < expected.len()
        && let Ok(Some((version, object, gone))) = timeout(DEADLINE, events.recv()).await
    {
        let change = changes(&object, gone, &mut known);
        if version > begun {
            seen.push((version, change));
        }
    }
    // Each watch is in order by itself; the versions order them all.
    seen.sort();
    let seen: Vec<_> = seen.into_iter().map(|(_, change)| change).collect();
    assert_eq!(seen, expected);
    Ok(())
}

/// Each script can be played, and twice the same step changes nothing.
#[tokio::test]
async fn every_script_plays() -> Result<()> {
    let (client, ns) = fixture().await?;
    for (number, (name, script)) in Script::all().into_iter().enumerate() {
        let (from, to) = (format!("from{number}"), format!("to{number}"));
        kubevirt::nodes(&client, &[&from, &to]).await?;
        let guest = Guest::create(&client, GuestSpec::new(&ns, &format!("vm{number}"), &from)).await?;
        let migration = guest.migrate(&format!("move{number}"), &to);
        migration.play(&script).await.context(name.clone())?;

        let state = guest.get().await?.data["status"].clone();
        let succeeded = script.steps().contains(&Step::Succeeded);
        assert_eq!(state["nodeName"], if succeeded { to } else { from }, "{name}");
        let object = migration.api().get_opt(migration.name()).await?;
        if script.steps().contains(&Step::Delete) {
            assert!(object.is_none(), "{name}: deleted at its end");
        } else {
            let phase = if succeeded { "Succeeded" } else { "Failed" };
            assert_eq!(object.unwrap().data["status"]["phase"], phase, "{name}");
        }
        guest.delete().await?;
        assert!(guest.api().get_opt(guest.name()).await?.is_none(), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_repeated_changes_nothing() -> Result<()> {
    let (client, ns) = fixture().await?;
    let nics = [
        Nic::new("default", Binding::Masquerade, "02:00:00:00:02:01").ip("10.244.0.6"),
        Nic::new("blue", Binding::Bridge, "02:00:00:00:02:02").on("nets/blue").down(),
        Nic::new("fast", Binding::Sriov, "02:00:00:00:02:03").on("nets/fast"),
    ];
    let spec = GuestSpec::new(&ns, "vm1", "node1").nics(nics).pod_annotation("plugin/port", "a");
    let guest = Guest::create(&client, spec).await?;
    let migration = guest.migrate("move1", "node2").annotated("plugin/port", "b");
    // The moments of a pod that starts are its own each time, and what is made or deleted is so once.
    let script = Script::success().through(Step::StateCopied).without(Step::TargetPodRunning);
    for step in &script {
        migration.step(step).await?;
        if step == Step::Create {
            continue;
        }
        let versions = async || -> Result<Vec<_>> {
            let pod = guest.pods().get_opt(migration.target_pod()).await?;
            let objects = [guest.get().await?, migration.api().get("move1").await?];
            let versions = objects.iter().map(|object| object.resource_version());
            Ok(versions.chain([pod.and_then(|pod| pod.resource_version())]).collect())
        };
        let before = versions().await?;
        migration.step(step).await?;
        assert_eq!(versions().await?, before, "{step:?}");
    }
    let before = guest.get().await?.resource_version();
    guest.touch().await?;
    guest.pause(true).await?;
    let object = guest.get().await?;
    assert_ne!(object.resource_version(), before);

    let interfaces = &object.data["status"]["interfaces"];
    assert_eq!(interfaces[0]["ipAddress"], "10.244.0.6");
    assert_eq!(interfaces[1]["linkState"], "down");
    assert_eq!(object.data["spec"]["domain"]["devices"]["interfaces"][2]["sriov"], json!({}));
    let target =
        wait_for(&guest.pods(), migration.target_pod(), "be there", |pod: Option<&Pod>| pod.is_some())
            .await?;
    let annotations = target.unwrap().annotations().clone();
    assert_eq!(annotations["k8s.v1.cni.cncf.io/networks"], "nets/blue,nets/fast");
    assert_eq!(annotations["plugin/port"], "b", "the target's own");
    assert_eq!(annotations[key::MIGRATION_NAME], "move1");
    assert!(annotations[key::READY_TIMESTAMP].ends_with(" +0000 UTC"));
    Ok(())
}
