//! An agent's reports while the Kubernetes API is away.

use limosa_lab::kube::ApiServer;
use limosa_protocol::{Phase, Role};

use super::*;
use crate::store::testing::{
    AGENT, CONTROLLER, Etcd, admin, migration, node, prepare, progress, store, until,
};
use crate::store::{Access, Kubernetes, Which};

/// Waits until the store can be read, or cannot.
async fn until_trouble(store: &dyn Store, expected: bool) {
    let mut watch = store.watch();
    let wait = watch.wait_for(|snapshot| snapshot.trouble.is_some() == expected);
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("nothing is noticed").unwrap();
}

#[tokio::test]
async fn an_outage_of_the_api_stops_nobody() {
    let server = ApiServer::launch().await.unwrap();
    let access = Access { kubeconfig: Some(server.kubeconfig()), namespace: None };
    let missing = Kubernetes::open(&access, Which::Live).await.unwrap_err();
    assert!(matches!(missing, StoreError::NoDefinition), "{missing}");
    prepare(&server).await;
    admin(&server, "outage").await;
    let controller = store(&server, CONTROLLER, "outage", Which::Live).await;
    let agent = store(&server, AGENT, "outage", Which::Live).await;
    let mut watch = agent.watch();
    for name in ["kept", "lost"] {
        let object = controller.create(migration(name)).await.unwrap();
        let key = Key::of(&object);
        until(&controller, &key.name, |m| m.is_some()).await;
        controller.put_progress(&key, progress(&object, Phase::Arming)).await.unwrap();
        until(&agent, &key.name, |m| m.is_some_and(|m| m.phase() == Phase::Arming)).await;
    }
    let mut reports = Reports::new(Box::new(agent), "node1".to_owned(), AgentMetrics::new());

    server.stop().await.unwrap();
    let trouble = watch.wait_for(|snapshot| snapshot.trouble.is_some());
    let snapshot = tokio::time::timeout(Duration::from_secs(60), trouble).await.unwrap().unwrap().clone();
    assert_eq!(snapshot.migrations.len(), 2, "what was known is forgotten");
    // The agent goes on, and has more and more to say; nobody takes it.
    let kept = &snapshot.migrations["outage/kept"];
    let steps = [Step::Armed, Step::Activated, Step::Bound];
    for n in 1..=steps.len() {
        reports.put(kept, node(Role::Source, &steps[..n]));
        tokio::task::yield_now().await;
    }
    let failed = controller.put_node(&Key::of(kept), "node9", node(Role::Source, &[])).await.unwrap_err();
    assert!(matches!(failed, StoreError::Unreachable(_)), "{failed}");
    // Meanwhile the history that the watch would go on from is thrown away, and an object goes.
    let etcd = Etcd::behind(&server);
    etcd.delete("/registry/limosa.io/portmigrations/outage/lost").await;
    etcd.compact().await;
    server.start().await.unwrap();

    until_trouble(&controller, false).await;
    until(&controller, "outage/lost", |m| m.is_none()).await;
    let all = node(Role::Source, &steps);
    until(&controller, "outage/kept", |m| m.is_some_and(|m| m.source() == Some(&all))).await;
    // It has come once, whatever was tried: the object was made, its phase was written, and this.
    assert_eq!(etcd.versions("/registry/limosa.io/portmigrations/outage/kept").await, "3");
}
