//! Nodes, and what becomes of them. Nobody else looks after them here.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::{now, pod};
use crate::kube::FIELD_MANAGER;

/// Makes nodes that are ready for guests, unless they are there.
///
/// # Errors
///
/// When the server refuses.
pub async fn nodes(client: &Client, names: &[&str]) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    for name in names {
        let labels = json!({ "kubernetes.io/hostname": name, "kubevirt.io/schedulable": "true" });
        let metadata = json!({ "name": name, "labels": labels });
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata });
        api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&node))
            .await
            .with_context(|| format!("make node {name}"))?;
        node_ready(client, name).await?;
    }
    Ok(())
}

/// The node reports itself ready, as its kubelet does.
///
/// # Errors
///
/// When there is no such node.
pub async fn node_ready(client: &Client, name: &str) -> Result<()> {
    condition(client, name, "True", "KubeletReady").await
}

/// The node has not been heard of for a while, as the node controller says 40 s after its last sign of life.
///
/// # Errors
///
/// When there is no such node.
pub async fn node_lost(client: &Client, name: &str) -> Result<()> {
    condition(client, name, "Unknown", "NodeStatusUnknown").await
}

async fn condition(client: &Client, name: &str, status: &str, reason: &str) -> Result<()> {
    let time = now().to_string();
    let ready = json!({
        "type": "Ready", "status": status, "reason": reason, "lastHeartbeatTime": time, "lastTransitionTime": time,
    });
    let patch = json!({ "status": { "conditions": [ready] } });
    let api: Api<Node> = Api::all(client.clone());
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .with_context(|| format!("make node {name} {reason}"))?;
    Ok(())
}

/// The node is taken out of the cluster, and the pods that were bound to it with it, as the pod garbage collector does.
///
/// # Errors
///
/// When there is no such node.
pub async fn node_removed(client: &Client, name: &str) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    api.delete(name, &DeleteParams::default()).await.with_context(|| format!("remove node {name}"))?;
    let pods: Api<Pod> = Api::all(client.clone());
    let here = ListParams::default().fields(&format!("spec.nodeName={name}"));
    for orphan in pods.list(&here).await.context("list the node's pods")? {
        let namespace = orphan.metadata.namespace.unwrap_or_default();
        let name = orphan.metadata.name.unwrap_or_default();
        pod::delete(&Api::namespaced(client.clone(), &namespace), &name).await?;
    }
    Ok(())
}
