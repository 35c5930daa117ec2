//! Launcher pods, and what scheduler and kubelet do with them.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::guest::GuestSpec;
use super::{Migration, key, now};

/// The pod `name` in which `guest` runs, or, with `migration`, in which it is to arrive. `labels` are those of the
/// guest object, all of which the pod gets when it is made: also the one with the node the guest runs on then.
pub(super) fn launcher(
    guest: &GuestSpec,
    uid: &str,
    labels: &Value,
    name: &str,
    migration: Option<(&Migration, &str)>,
) -> Result<Pod> {
    let mut labels = labels.clone();
    labels["kubevirt.io"] = json!("virt-launcher");
    labels[key::CREATED_BY] = json!(uid);
    labels["vm.kubevirt.io/name"] = json!(guest.name);
    labels["vmi.kubevirt.io/id"] = json!(guest.name);
    let mut annotations = json!({ "kubevirt.io/domain": guest.name });
    let networks: Vec<_> = guest.nics.iter().filter_map(|nic| nic.multus.clone()).collect();
    if !networks.is_empty() {
        annotations["k8s.v1.cni.cncf.io/networks"] = json!(networks.join(","));
    }
    for (key, value) in &guest.pod_annotations {
        annotations[key] = json!(value);
    }
    let mut affinity = json!({});
    if let Some((migration, migration_uid)) = migration {
        labels[key::MIGRATION_UID] = json!(migration_uid);
        annotations[key::MIGRATION_NAME] = json!(migration.name());
        for (key, value) in migration.pod_annotations() {
            annotations[key] = json!(value);
        }
        let elsewhere = json!({
            "labelSelector": { "matchLabels": { key::CREATED_BY: uid } },
            "topologyKey": "kubernetes.io/hostname",
        });
        affinity = json!({ "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [elsewhere],
        } });
    }
    let pod = json!({
        "metadata": {
            "name": name,
            "namespace": guest.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachineInstance",
                "name": guest.name,
                "uid": uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "hostname": guest.name,
            "nodeSelector": { "kubevirt.io/schedulable": "true" },
            "readinessGates": [{ "conditionType": key::UNPAUSED }],
            "affinity": affinity,
            "containers": [{ "name": "compute", "image": "virt-launcher" }],
        },
    });
    serde_json::from_value(pod).context("make a launcher pod")
}

/// What the scheduler does: binds it to a node. Nothing, when it is bound already.
pub(super) async fn bind(pods: &Api<Pod>, name: &str, node: &str) -> Result<()> {
    let bound = pods.get(name).await.with_context(|| format!("look for pod {name}"))?;
    if bound.spec.and_then(|spec| spec.node_name).is_some() {
        return Ok(());
    }
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": name },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    // The answer is a mere status.
    pods.create_subresource::<Value, Value>("binding", name, &PostParams::default(), &binding)
        .await
        .with_context(|| format!("bind pod {name} to {node}"))
        .map(drop)
}

/// What the scheduler says when no node will do.
pub(super) async fn unschedulable(pods: &Api<Pod>, name: &str) -> Result<()> {
    let scheduled = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient memory.",
    });
    status(pods, name, json!({ "conditions": [scheduled] })).await
}

/// What CNI and kubelet write when the pod has its network and its container runs. It is not `Ready` before
/// virt-controller has opened its gate.
pub(super) async fn running(pods: &Api<Pod>, name: &str, guest: &GuestSpec) -> Result<()> {
    let attached = guest.nics.iter().enumerate().map(|(at, nic)| {
        let network = nic.multus.as_deref().unwrap_or("default");
        json!({ "name": network, "interface": nic.pod_interface(at), "ips": nic.ips, "mac": nic.mac, "default": at == 0 })
    });
    if guest.nics.iter().any(|nic| nic.multus.is_some()) {
        let text = serde_json::to_string(&attached.collect::<Vec<_>>()).context("write a network status")?;
        annotate(pods, name, "k8s.v1.cni.cncf.io/network-status", &text).await?;
    }
    let time = now().to_string();
    let conditions: Vec<_> = [("Initialized", "True"), ("ContainersReady", "True"), ("Ready", "False")]
        .into_iter()
        .map(|(kind, status)| json!({ "type": kind, "status": status, "lastTransitionTime": time }))
        .collect();
    let ips = guest.nics.first().map(|nic| nic.ips.clone()).unwrap_or_default();
    let compute = json!({
        "name": "compute", "image": "virt-launcher", "imageID": "", "ready": true, "restartCount": 0, "started": true,
        "state": { "running": { "startedAt": time } },
    });
    status(
        pods,
        name,
        json!({
            "phase": "Running",
            "startTime": time,
            "podIP": ips.first(),
            "podIPs": ips.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>(),
            "conditions": conditions,
            "containerStatuses": [compute],
        }),
    )
    .await
}

/// What virt-controller and kubelet write for the pod that its guest runs in, unless the guest is paused.
pub(super) async fn gate(pods: &Api<Pod>, name: &str, open: bool) -> Result<()> {
    let value = if open { "True" } else { "False" };
    let condition = |kind| json!({ "type": kind, "status": value });
    status(pods, name, json!({ "conditions": [condition(key::UNPAUSED), condition("Ready")] })).await
}

/// What kubelet writes when the launcher has ended: phase `Succeeded` or `Failed`.
pub(super) async fn ended(pods: &Api<Pod>, name: &str, phase: &str) -> Result<()> {
    let code = i32::from(phase != "Succeeded");
    let compute = json!({
        "name": "compute", "image": "virt-launcher", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": code, "finishedAt": now().to_string() } },
    });
    let conditions = [json!({ "type": "Ready", "status": "False" })];
    status(pods, name, json!({ "phase": phase, "conditions": conditions, "containerStatuses": [compute] }))
        .await
}

/// Deletes a pod in good order: it is asked for, and confirmed by the kubelet, or by who does its work when its node is
/// lost. A pod that is gone already is no error.
pub(super) async fn delete(pods: &Api<Pod>, name: &str) -> Result<()> {
    for parameters in [DeleteParams::default(), DeleteParams::default().grace_period(0)] {
        match pods.delete(name, &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(e) => return Err(e).with_context(|| format!("delete pod {name}")),
        }
    }
    Ok(())
}

/// Gives a pod an annotation.
pub(super) async fn annotate(pods: &Api<Pod>, name: &str, key: &str, value: &str) -> Result<()> {
    let patch = json!({ "metadata": { "annotations": { key: value } } });
    pods.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .with_context(|| format!("annotate pod {name}"))
        .map(drop)
}

async fn status(pods: &Api<Pod>, name: &str, status: Value) -> Result<()> {
    let patch = Patch::Strategic(json!({ "status": status }));
    pods.patch_status(name, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("write the status of pod {name}"))
        .map(drop)
}
