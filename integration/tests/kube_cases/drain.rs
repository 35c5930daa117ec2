//! What `helm uninstall` has done before anything is deleted: after it nothing begins any more.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use limosa_lab::demo::Limosa;
use limosa_lab::kube::actor::{Actor, untouched};
use limosa_lab::kube::cluster::Cluster;
use limosa_lab::kube::fate::Fate;
use limosa_lab::kube::kubevirt::{Script, Step};
use limosa_lab::kube::{ApiServer, limosa};
use limosa_protocol::Phase;

use crate::{check, cluster};

async fn drain(cluster: &Cluster) -> Result<()> {
    let server = ApiServer::shared().await?;
    let operator = format!("system:serviceaccount:{}:limosa-operator", limosa::NAMESPACE);
    let kubeconfig = server.kubeconfig_for(&operator).await?;
    let mut command = Command::new(Limosa::binary()?);
    command.args(["drain", "--abort", "--stop", "--timeout", "60", "--kubernetes", "--kubeconfig"]);
    command.arg(kubeconfig).args(["--namespace", &cluster.namespace]);
    command.args(["--lease-namespace", limosa::NAMESPACE, "--lease-name", &cluster.namespace]);
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("run limosa drain")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn play(cluster: &Cluster) -> Result<()> {
    let run = cluster.run(Fate::Live).await?;
    let actor = Actor::new(cluster, "vm", "a", 1, &untouched()).await?;
    let first = actor.migrate("first", "a", "b");
    first.play(&Script::success()).await?;
    first.end(Phase::Completed).await?;
    drain(cluster).await?;

    let second = actor.migrate("second", "b", "c");
    second.migration.step(Step::Create).await?;
    second.migration.step(Step::Pending).await?;
    cluster.until_said("leads; this controller stands by").await?;
    let objects = cluster.cast.objects().borrow().values().filter(|m| !m.phase().is_final()).count();
    ensure!(objects == 0, "{objects} objects");
    let options = cluster.cast.options(&actor.ports[0]);
    ensure!(options == untouched(), "{options:?}");

    // Should nobody delete the controllers, they go on.
    run.restart().await?;
    second.reach(Phase::Pinning).await?;
    second.play(&Script::success().after(Step::Pending)).await?;
    cluster.cast.until_bound(&actor.ports[0], "c").await?;
    second.end(Phase::Completed).await?;
    run.end().await.map(drop)
}

#[tokio::test]
async fn a_drain_stops_the_controllers() {
    let cluster = cluster().await;
    check(&cluster, "a drain", play(&cluster).await).await;
    assert_eq!(cluster.cast.contradictions(), [""; 0]);
}
