//! More than one migration: at a time, or in turn.

use futures::stream::{self, StreamExt};
use limosa_lab::kube::cluster::{Cluster, Run};
use limosa_lab::kube::fate::Fate;
use limosa_lab::kube::kubevirt::{Script, Step};
use limosa_protocol::Phase;
use serde_json::json;

use crate::{check, cluster};
use limosa_lab::kube::actor::{Actor, untouched};

/// What a port is pinned to on the way a, b, c.
const THREE: [Option<&str>; 9] =
    [None, Some("a"), Some("a,b"), Some("b"), None, Some("b"), Some("b,c"), Some("c"), None];
/// How many guests leave a node that is drained.
const EVACUATED: usize = 100;
/// How many of them migrate at a time: the rest waits in phase Pending. KubeVirt's default is five for a cluster.
const PARALLEL: usize = 10;

/// What KubeVirt writes of a migration, without what nobody reads here.
fn in_short() -> Script {
    let unread = [
        Step::ActivePods,
        Step::PreparingTarget,
        Step::TargetAddress,
        Step::TargetReady,
        Step::Start,
        Step::TargetPodReady,
        Step::LabelRemoved,
        Step::StateCopied,
    ];
    unread.into_iter().fold(Script::success(), Script::without)
}

/// Runs `play` on a cluster of its own, with one controller that is left alone.
async fn on_a_cluster(what: &str, play: impl AsyncFnOnce(&Cluster, &Run<'_>) -> anyhow::Result<()>) {
    let cluster = cluster().await;
    let run = cluster.run(Fate::Live).await.unwrap();
    check(&cluster, what, play(&cluster, &run).await).await;
    run.end().await.unwrap();
    assert_eq!(cluster.cast.contradictions(), [""; 0], "{what}");
}

/// The second begins while the first still holds the port: its source's pod is there.
#[tokio::test]
async fn two_migrations_right_after_each_other() {
    on_a_cluster("a, b, c", async |cluster, _| {
        let actor = Actor::new(cluster, "vm", "a", 1, &untouched()).await?;
        let first = actor.migrate("first", "a", "b");
        first.play(&Script::success().through(Step::Succeeded)).await?;
        let second = actor.migrate("second", "b", "c");
        let (begun, script) = (Script::success().after(Step::Succeeded), Script::success());
        tokio::try_join!(first.play(&begun), second.play(&script))?;
        first.end(Phase::Completed).await?;
        second.end(Phase::Completed).await?;
        cluster.cast.until_bound(&actor.ports[0], "c").await?;
        actor.check_options(&untouched(), &THREE)
    })
    .await;
}

/// The first is over and still in the API when the controller begins anew; the second is under way.
#[tokio::test]
async fn an_ended_migration_is_replayed_at_start_up() {
    on_a_cluster("replayed", async |cluster, run| {
        let actor = Actor::new(cluster, "vm", "a", 1, &untouched()).await?;
        let first = actor.migrate("first", "a", "b");
        first.play(&Script::success()).await?;
        first.end(Phase::Completed).await?;
        let second = actor.migrate("second", "b", "c");
        second.play(&Script::success().through(Step::DomainDetected)).await?;
        second.reach(Phase::Armed).await?;
        run.restart().await?;
        second.play(&Script::success().after(Step::DomainDetected)).await?;
        second.end(Phase::Completed).await?;
        cluster.cast.until_bound(&actor.ports[0], "c").await?;
        actor.check_options(&untouched(), &THREE)
    })
    .await;
}

#[tokio::test]
async fn two_guests_change_places() {
    on_a_cluster("crossing", async |cluster, _| {
        let play = async |name: &str, from: &str, to: &str| {
            let actor = Actor::new(cluster, name, from, 1, &untouched()).await?;
            let migration = actor.migrate(&format!("{name}-move"), from, to);
            migration.play(&Script::success()).await?;
            migration.end(Phase::Completed).await?;
            cluster.cast.until_bound(&actor.ports[0], to).await?;
            let both = format!("{from},{to}");
            actor.check_options(&untouched(), &[None, Some(from), Some(&both), Some(to), None])
        };
        tokio::try_join!(play("vm1", "a", "b"), play("vm2", "b", "a")).map(drop)
    })
    .await;
}

/// A NIC that comes with the target's pod has no port on the source: OVN binds it where it appears. From then on it
/// migrates like any other.
#[tokio::test]
async fn a_nic_is_plugged_in_by_the_migration() {
    on_a_cluster("hotplug", async |cluster, _| {
        let mut actor = Actor::new(cluster, "vm", "a", 1, &untouched()).await?;
        let mut first = actor.guest.get().await?.data["spec"].take();
        for (list, entry) in [
            ("/domain/devices/interfaces", json!({ "name": "late", "bridge": {} })),
            ("/networks", json!({ "name": "late", "multus": { "networkName": "late" } })),
        ] {
            first.pointer_mut(list).and_then(|list| list.as_array_mut()).unwrap().push(entry);
        }
        actor.guest.patch(json!({ "spec": first })).await?;
        let provider = format!("late.{}.ovn", cluster.namespace);
        let late = format!("vm.{}.{provider}", cluster.namespace);
        cluster.cast.add_ports(std::slice::from_ref(&late), &untouched()).await?;
        let key = format!("{provider}.kubernetes.io/virtualmachine");
        let move_there = actor.migrate("first", "a", "b").annotated(&key, "vm");
        move_there.play(&Script::success().through(Step::TargetPodRunning)).await?;
        cluster.cast.plug(&late, "b");
        cluster.cast.until_bound(&late, "b").await?;
        move_there.play(&Script::success().after(Step::TargetPodRunning)).await?;
        move_there.end(Phase::Completed).await?;
        cluster.cast.until_bound(&late, "b").await?;
        anyhow::ensure!(cluster.cast.pins(&late) == [None], "{:?}", cluster.cast.pins(&late));

        actor.ports.push(late);
        let on = actor.migrate("second", "b", "c").annotated(&key, "vm");
        on.play(&Script::success()).await?;
        on.end(Phase::Completed).await?;
        for port in &actor.ports {
            cluster.cast.until_bound(port, "c").await?;
        }
        actor.check_options(&untouched(), &THREE)
    })
    .await;
}

/// Nobody is ready for anything: the pod may be plugged before the pin, the guest may be there before the migration is
/// seen. The port follows in any case, and nothing is left.
#[tokio::test]
async fn a_kubevirt_in_a_hurry() {
    on_a_cluster("hurry", async |cluster, _| {
        let plays = (0..8).map(async |i| {
            let actor = Actor::new(cluster, &format!("vm{i}"), "a", 1, &untouched()).await?;
            let migration = actor.migrate(&format!("move{i}"), "a", "b").hurried();
            migration.play(&Script::success()).await?;
            let port = &actor.ports[0];
            cluster.cast.until_bound(port, "b").await?;
            let over = format!("{port} to be let go");
            cluster.cast.until(&over, |all| all.values().all(|m| m.phase().is_final()).then_some(())).await?;
            cluster.cast.until_bound(port, "b").await?;
            let options = cluster.cast.options(port);
            anyhow::ensure!(options == untouched(), "{port} is left with {options:?}");
            Ok(())
        });
        futures::future::try_join_all(plays).await.map(drop)
    })
    .await;
}

/// A node is drained of a hundred guests: all wait at once, some migrate at a time.
#[tokio::test]
async fn a_node_is_evacuated() {
    on_a_cluster("evacuation", async |cluster, run| {
        let options = untouched();
        let actors = stream::iter(0..EVACUATED).map(|i| {
            let (name, options) = (format!("vm{i}"), &options);
            async move { Actor::new(cluster, &name, "a", 1, options).await }
        });
        let actors: Vec<_> = actors.buffered(16).collect().await;
        let actors: Vec<Actor<'_>> = actors.into_iter().collect::<anyhow::Result<_>>()?;
        let target = |i: usize| ["b", "c"][i % 2];
        let moves: Vec<_> = actors
            .iter()
            .enumerate()
            .map(|(i, actor)| actor.migrate(&format!("move{i}"), "a", target(i)))
            .collect();
        let waiting = stream::iter(&moves).map(async |m| m.play(&in_short().through(Step::Pending)).await);
        let waiting: Vec<_> = waiting.buffer_unordered(16).collect().await;
        waiting.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
        let done = stream::iter(moves.iter().zip(0..)).map(async |(m, i)| {
            m.play(&in_short().after(Step::Pending)).await?;
            m.end(Phase::Completed).await?;
            cluster.cast.until_bound(&m.actor.ports[0], target(i)).await?;
            let both = format!("a,{}", target(i));
            m.actor.check_options(&untouched(), &[None, Some("a"), Some(&both), Some(target(i)), None])
        });
        let done: Vec<_> = done.buffer_unordered(PARALLEL).collect().await;
        done.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
        let traffic = run.traffic();
        println!("{EVACUATED} guests: {traffic:?}");
        // Made, its target, its wish, let go; and for each phase that it is entered, and what it waits for.
        anyhow::ensure!(traffic.writes <= 50 * EVACUATED as u64, "{traffic:?}");
        Ok(())
    })
    .await;
}
