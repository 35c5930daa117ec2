//! The panels of KubeVirt's migrations, where there is a Kubernetes API.

use std::collections::BTreeMap;

use limosa_lab::kube::ApiServer;
use limosa_lab::kube::actor::{Actor, untouched};
use limosa_lab::kube::cluster::Cluster;
use limosa_lab::kube::fate::Fate;
use limosa_lab::kube::kubevirt::Script;
use limosa_lab::prometheus::{Panel, Prometheus, panels};
use limosa_protocol::Phase;

use super::OF_KUBEVIRT;

/// An address that nobody listens on, outside of the lab, where the API server is.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn panels_of_kubevirts_migrations_have_something_to_show() {
    let mut panels: Vec<Panel> = panels(&BTreeMap::new()).unwrap();
    panels.retain(|panel| panel.expression.contains(OF_KUBEVIRT));
    assert!(!panels.is_empty());

    let server = ApiServer::shared().await.unwrap();
    let metrics = free_address();
    let cluster = Cluster::start(server, &["a", "b"], &["--metrics-listen", &metrics]).await.unwrap();
    let run = cluster.run(Fate::Live).await.unwrap();
    let prometheus = Prometheus::start_outside(cluster.lab(), free_address(), &metrics).await.unwrap();
    let made = "sum(limosa_kubevirt_outcomes_total{outcome=\"Made\"})";
    prometheus.wait_for(made, |made| made == 0.0).await.unwrap();

    let actor = Actor::new(&cluster, "vm", "a", 1, &untouched()).await.unwrap();
    let migration = actor.migrate("move", "a", "b");
    let play = async {
        migration.play(&Script::success()).await?;
        migration.end(Phase::Completed).await
    };
    if let Err(error) = play.await {
        panic!("{error:#}\n{}", cluster.log().await);
    }
    prometheus.wait_for(made, |made| made == 1.0).await.unwrap();
    for panel in panels {
        let samples = prometheus.query(&panel.expression).await.unwrap();
        let is_there = samples.iter().any(|sample| sample.value > 0.0);
        assert!(is_there, "shows nothing: {panel:?}: {samples:?}");
    }
    run.end().await.unwrap();
}
