//! Migrations that have ended, and chassis that never say that their flows are gone.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use limosa_lab::kube::cluster::Cluster;
use limosa_lab::kube::fate::Fate;
use limosa_lab::kube::wait_for;
use limosa_protocol::Migration;
use limosa_protocol::object::ConditionType;
use serde_json::json;

use crate::{check, cluster};

/// An object that has ended so many minutes ago, and of which this chassis has flows.
async fn ended(api: &Api<DynamicObject>, name: &str, minutes: i64, chassis: &str) -> Result<()> {
    let at = Timestamp::now() - SignedDuration::from_mins(minutes);
    let object = serde_json::from_value(json!({
        "apiVersion": "limosa.io/v1alpha1", "kind": "PortMigration", "metadata": { "name": name },
        "spec": { "port": name, "from": "a", "to": chassis },
    }))?;
    api.create(&PostParams::default(), &object).await?;
    let node = json!({ "role": "Target", "steps": { "Armed": at.to_string() } });
    let status = json!({
        "phase": "Completed", "number": 1, "steps": { "Completed": at.to_string() }, "nodes": { chassis: node },
    });
    let status = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &status).await?;
    Ok(())
}

fn is_out_of_sight(object: Option<&DynamicObject>) -> bool {
    let labels = object.and_then(|object| object.metadata.labels.as_ref());
    labels.is_some_and(|labels| labels.contains_key("limosa.io/ended"))
}

async fn play(cluster: &Cluster) -> Result<()> {
    let kind = GroupVersionKind::gvk("limosa.io", "v1alpha1", "PortMigration");
    let resource = ApiResource::from_gvk_with_plural(&kind, "portmigrations");
    let api = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    cluster.cast.lose_chassis("c");
    for (name, minutes, chassis) in [("dead", 11, "c"), ("just-gone", 0, "z"), ("long-gone", 11, "z")] {
        ended(&api, name, minutes, chassis).await?;
    }
    let run = cluster.run(Fate::Live).await?;
    let gone = async |name| {
        let object = wait_for(&api, name, "be out of sight", is_out_of_sight).await?;
        let migration: Migration = serde_json::from_value(serde_json::to_value(object)?)?;
        let said = migration.status.progress.condition(ConditionType::Progressing).cloned();
        anyhow::ensure!(said.as_ref().is_some_and(|said| said.reason == "NotCleaned"), "{name}: {said:?}");
        anyhow::Ok(())
    };
    gone("long-gone").await?;
    // One is a chassis still, the other may come back.
    for name in ["dead", "just-gone"] {
        anyhow::ensure!(!is_out_of_sight(Some(&api.get(name).await?)), "{name} is out of sight");
    }
    cluster.cast.remove_chassis("c").await?;
    gone("dead").await?;
    anyhow::ensure!(!is_out_of_sight(Some(&api.get("just-gone").await?)), "a chassis may come back");
    run.end().await.map(drop)
}

#[tokio::test]
async fn a_chassis_that_is_gone_is_not_waited_for_any_more() {
    let cluster = cluster().await;
    check(&cluster, "a chassis that is gone", play(&cluster).await).await;
}
