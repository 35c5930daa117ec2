//! Standing pins, which an instance asks for by annotation: who has them, where they go, and that they go.

use std::collections::BTreeMap;

use limosa_lab::kube::ApiServer;
use limosa_lab::kube::actor::{Actor, pinned_to, untouched};
use limosa_lab::kube::cast::Options;
use limosa_lab::kube::cluster::Cluster;
use limosa_lab::kube::fate::Fate;
use limosa_lab::kube::kubevirt::Script;
use limosa_protocol::Phase;
use serde_json::json;

use crate::{CHASSIS, check, cluster};

/// Sets or takes away the annotation.
async fn ask(actor: &Actor<'_>, value: Option<&str>) -> anyhow::Result<()> {
    actor.guest.patch(json!({ "metadata": { "annotations": { "limosa.io/pin": value } } })).await
}

/// What a port has that is pinned to a chassis for its instance.
fn standing(actor: &Actor<'_>, chassis: &str) -> Options {
    let mut options = pinned_to(chassis);
    let vmi = format!("{}/{}", actor.cluster.namespace, actor.guest.name());
    let said = [("limosa-pin", "standing"), ("limosa-pin-vmi", &vmi), ("limosa-pin-chassis", chassis)];
    options.external_ids.extend(said.map(|(key, value)| (key.to_owned(), value.to_owned())));
    options
}

async fn becomes(actor: &Actor<'_>, options: &Options) -> anyhow::Result<()> {
    actor.cluster.cast.until_options(&actor.ports[0], |found| found == options).await
}

async fn pins(cluster: &Cluster) -> anyhow::Result<()> {
    let run = cluster.run(Fate::Live).await?;
    let actor = Actor::new(cluster, "vm1", "a", 1, &untouched()).await?;
    let port = &actor.ports[0];
    ask(&actor, Some("true")).await?;
    becomes(&actor, &standing(&actor, "a")).await?;

    // Nobody else can claim the port.
    cluster.cast.plug(port, "c");
    cluster.cast.until_bound(port, "a").await?;
    cluster.cast.unplug(port, "c");

    // It goes with the guest, and stays where it is after a migration that fails; a new controller finds it.
    for (name, script, from, to, end) in [
        ("fails", Script::fails_before_resume(), "a", "b", Phase::RolledBack),
        ("succeeds", Script::success(), "a", "b", Phase::Completed),
    ] {
        let migration = actor.migrate(name, from, to);
        migration.play(&script).await?;
        migration.end(end).await?;
        let on = if end == Phase::Completed { to } else { from };
        becomes(&actor, &standing(&actor, on)).await?;
        run.restart().await?;
    }

    // It goes when nobody asks for it any more.
    ask(&actor, None).await?;
    becomes(&actor, &untouched()).await?;
    ask(&actor, Some("true")).await?;
    becomes(&actor, &standing(&actor, "b")).await?;

    // Somebody else's value stays, and is theirs.
    cluster.cast.set_options(port, [("requested-chassis", "c")]).await?;
    becomes(&actor, &pinned_to("c")).await?;
    ask(&actor, None).await?;
    // What was there before is not touched in the first place.
    let theirs = Actor::new(cluster, "vm2", "a", 1, &pinned_to("a")).await?;
    ask(&theirs, Some("true")).await?;

    // And when the instance is gone; by then whatever was to become of the others has.
    let last = Actor::new(cluster, "vm3", "a", 1, &untouched()).await?;
    ask(&last, Some("true")).await?;
    becomes(&last, &standing(&last, "a")).await?;
    last.guest.delete().await?;
    becomes(&last, &untouched()).await?;
    anyhow::ensure!(cluster.cast.options(port) == pinned_to("c"), "{:?}", cluster.cast.options(port));
    let kept = cluster.cast.options(&theirs.ports[0]);
    anyhow::ensure!(kept == pinned_to("a"), "{kept:?}");
    run.end().await.map(drop)
}

#[tokio::test]
async fn a_standing_pin_goes_with_its_guest_and_leaves_no_trace() {
    let cluster = cluster().await;
    check(&cluster, "pins", pins(&cluster).await).await;
    assert_eq!(cluster.cast.contradictions(), [""; 0]);
}

/// A pin that a controller before has left is found by one that may have none.
#[tokio::test]
async fn pins_that_are_switched_off_are_taken_off() {
    let server = ApiServer::shared().await.unwrap();
    let cluster = Cluster::start(server, &CHASSIS, &["--no-pins"]).await.unwrap();
    let play = async {
        let options = BTreeMap::from([("requested-chassis".to_owned(), "a".to_owned())]);
        let left = Options { options, ..Options::default() };
        let actor = Actor::new(&cluster, "vm1", "a", 1, &left).await?;
        ask(&actor, Some("true")).await?;
        let said = [("limosa-pin", "standing"), ("limosa-pin-vmi", "x/y"), ("limosa-pin-chassis", "a")];
        cluster.cast.set_external_ids(&actor.ports[0], said).await?;
        let run = cluster.run(Fate::Live).await?;
        becomes(&actor, &Options::default()).await?;
        run.end().await
    };
    let result = play.await;
    check(&cluster, "switched off", result).await;
}
