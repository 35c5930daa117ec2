//! What else there is on a large cluster: agents that watch, and migrations that have ended.

use std::time::Duration;

use anyhow::Context;
use futures::io::{copy, sink};
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use limosa_lab::kube::cast::LONG_ENDED;
use limosa_lab::kube::cluster::Cluster;
use limosa_lab::kube::{ApiServer, kubevirt, limosa};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The server serves 250 streams on a connection.
const WATCHES_OF_A_CLIENT: usize = 100;
/// How long an agent waits before it watches anew.
const PAUSE: Duration = Duration::from_secs(1);
/// How many objects are written at a time.
const PARALLEL: usize = 32;

/// Watches as so many agents do, and does nothing with what comes.
pub(super) async fn watch(server: &ApiServer, namespace: &str, agents: usize) -> anyhow::Result<JoinSet<()>> {
    let objects = format!("/apis/limosa.io/v1alpha1/namespaces/{namespace}/portmigrations");
    let mut watches = JoinSet::new();
    let mut left = agents;
    while left > 0 {
        let client = server.client_as(limosa::AGENT).await?;
        let some = left.min(WATCHES_OF_A_CLIENT);
        for _ in 0..some {
            watches.spawn(follow(client.clone(), objects.clone()));
        }
        left -= some;
    }
    Ok(watches)
}

/// The server ends a watch after some minutes, and one that does not read as fast as it writes.
async fn follow(client: Client, objects: String) {
    loop {
        // A watch from nowhere would begin with all that there is.
        if let Ok(now) = version(&client, &objects).await {
            let watch =
                format!("{objects}?watch=true&labelSelector=%21limosa.io%2Fended&resourceVersion={now}");
            let request = http::Request::get(watch).body(Vec::new());
            if let Ok(request) = request
                && let Ok(events) = client.request_stream(request).await
            {
                let _ = copy(events, &mut sink()).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The version that a list has now.
async fn version(client: &Client, objects: &str) -> anyhow::Result<String> {
    let request = http::Request::get(format!("{objects}?limit=1")).body(Vec::new())?;
    let list: Value = client.request(request).await?;
    Ok(list["metadata"]["resourceVersion"].as_str().context("a list without a version")?.to_owned())
}

/// Adds so many migrations of KubeVirt and of Limosa that have ended.
pub(super) async fn add_ended(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    eprintln!("{count} migrations are made that have ended");
    let kind = GroupVersionKind::gvk("limosa.io", "v1alpha1", "PortMigration");
    let ports = ApiResource::from_gvk_with_plural(&kind, "portmigrations");
    let kinds = [
        (kubevirt::migrations(), json!({ "vmiName": "gone" }), json!({ "phase": "Succeeded" })),
        (
            ports,
            json!({ "port": "gone", "from": "a", "to": "b" }),
            json!({ "phase": "Completed", "number": 1, "steps": { "Completed": Timestamp::now().to_string() } }),
        ),
    ];
    for (resource, spec, status) in kinds {
        let (version, kind) = (&resource.api_version, &resource.kind);
        let object = json!({ "apiVersion": version, "kind": kind, "spec": spec });
        let api: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
        let made = stream::iter(0..count).map(|i| add(&api, format!("ended-{i}"), object.clone(), &status));
        let made: Vec<anyhow::Result<()>> = made.buffer_unordered(PARALLEL).collect().await;
        made.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
    }
    Ok(())
}

async fn add(
    api: &Api<DynamicObject>,
    name: String,
    mut object: Value,
    status: &Value,
) -> anyhow::Result<()> {
    let (key, value) = LONG_ENDED.split_once('=').unwrap_or_default();
    object["metadata"] = json!({ "name": name, "labels": { "limosa.io/ended": "true", key: value } });
    let object = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await.with_context(|| format!("make {name}"))?;
    let status = Patch::Merge(json!({ "status": status }));
    api.patch_status(&name, &PatchParams::default(), &status).await.with_context(|| format!("end {name}"))?;
    Ok(())
}
