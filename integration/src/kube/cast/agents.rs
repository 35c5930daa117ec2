//! Agents without switches: what they report of bridges that do at once as they are told.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, future};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use limosa_protocol::facts::Tunnel;
use limosa_protocol::layout::{Layout, VifOutput};
use limosa_protocol::node::{Plan, plan};
use limosa_protocol::object::{InterfaceStatus, to_microseconds};
use limosa_protocol::{Facts, Migration, NodeStatus, Step, Survey};
use ofpacket::Flow;
use ovsdb_rs::Session;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::ledger::Ledger;
use super::ovn::{Bound, bound_ports};
use super::{LONG_ENDED, Objects, Stage};

/// OVN 23.03's tables.
const LAYOUT: Layout = Layout { remote_output: Some(39), local_output: Some(40), log_to_phy: Some(65) };
/// The number of the guest's interface on every bridge; tunnels follow.
const OFPORT: u32 = 1;

/// How often one event may make a chassis plan.
const MOST_PLANS: usize = 10;

/// How soon a report that was refused is made again.
const AGAIN: SignedDuration = SignedDuration::from_millis(100);

/// Follows the objects for good.
pub(super) async fn watch_objects(
    api: Api<DynamicObject>,
    sender: watch::Sender<Objects>,
    ledger: Arc<Mutex<Ledger>>,
) {
    let others = watcher::Config::default().labels(&LONG_ENDED.replace('=', "!="));
    let mut events = pin!(watcher(api, others).default_backoff());
    let mut listed = Objects::new();
    let read = |object: DynamicObject| -> Option<(String, Arc<Migration>)> {
        let value = serde_json::to_value(object).ok()?;
        ledger.lock().unwrap_or_else(PoisonError::into_inner).note(value.clone());
        let migration: Migration = serde_json::from_value(value).ok()?;
        Some((migration.metadata.name.clone(), Arc::new(migration)))
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.extend(read(object)),
            Ok(Event::InitDone) => drop(sender.send_replace(std::mem::take(&mut listed))),
            Ok(Event::Apply(object)) => sender.send_modify(|objects| objects.extend(read(object))),
            Ok(Event::Delete(object)) => {
                let name = object.metadata.name.unwrap_or_default();
                sender.send_modify(|objects| drop(objects.remove(&name)));
            }
            Err(error) => tracing::warn!(%error, "the objects cannot be watched"),
        }
    }
}

/// One bridge's part in one migration.
#[derive(Debug, Clone, Default)]
struct Bridge {
    /// What it holds of the migration.
    flows: Vec<Flow>,
    /// What was seen last.
    seen: Option<Survey>,
    /// What was reported last.
    status: Option<NodeStatus>,
}

/// The bridges of one migration, by chassis, and what they were planned for.
#[derive(Debug, Default)]
struct Part {
    bridges: BTreeMap<String, Bridge>,
    seen: Option<Scene>,
    /// When to plan again although nothing has changed.
    wake: Option<Timestamp>,
}

/// All that decides about one migration, besides the time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scene {
    version: Option<String>,
    bound: Bound,
    /// The chassis on which the port has an interface, and all that are alive.
    plugged: Vec<String>,
    chassis: Vec<String>,
}

/// Plays the agents of all chassis that are alive.
pub(super) async fn play(
    api: Api<DynamicObject>,
    mut objects: watch::Receiver<Objects>,
    stage: watch::Sender<Stage>,
    sb: Session,
) {
    let (mut stages, mut changes) = (stage.subscribe(), sb.subscribe());
    let mut parts: BTreeMap<Uuid, Part> = BTreeMap::new();
    loop {
        let snapshot = objects.borrow_and_update().clone();
        let seen = stages.borrow_and_update().clone();
        let bound = bound_ports(&changes.borrow_and_update().clone());
        parts.retain(|uid, _| snapshot.values().any(|migration| migration.metadata.uid == *uid));
        let mut reports = Vec::new();
        for migration in snapshot.values() {
            let port = &migration.spec.port;
            let scene = Scene {
                version: migration.metadata.resource_version.clone(),
                bound: bound.get(port).cloned().unwrap_or_default(),
                plugged: seen.plugged.get(port).cloned().unwrap_or_default(),
                chassis: seen.chassis.keys().cloned().collect(),
            };
            let part = parts.entry(migration.metadata.uid).or_default();
            let is_heard = seen.announced.iter().any(|(announced, _)| announced == port);
            let is_due = part.wake.is_some_and(|at| at <= Timestamp::now());
            if part.seen.as_ref() == Some(&scene) && !is_heard && !is_due {
                continue;
            }
            part.wake = None;
            for chassis in &scene.chassis {
                let bridge = part.bridges.entry(chassis.clone()).or_default();
                let own = bridge.status.clone().or_else(|| migration.status.nodes.get(chassis).cloned());
                let heard = seen.announced.contains(&(port.clone(), chassis.clone()));
                let Some(plan) = settle(bridge, migration, chassis, own, &scene, heard) else { continue };
                part.wake = [part.wake, plan.wake_at].into_iter().flatten().min();
                if migration.status.nodes.get(chassis) != Some(&plan.status) {
                    let uid = migration.metadata.uid;
                    let report = report(&api, migration, chassis.clone(), plan.status);
                    reports.push(async move { (uid, report.await) });
                }
            }
            part.seen = Some(scene);
        }
        if !seen.announced.is_empty() {
            // Whoever was to hear them has.
            stage.send_modify(|stage| stage.announced.retain(|heard| !seen.announced.contains(heard)));
        }
        for (uid, accepted) in future::join_all(reports).await {
            // What was refused is reported again soon, unless the object has gone.
            if let Some(part) = parts.get_mut(&uid).filter(|_| !accepted) {
                part.wake = Some(Timestamp::now() + AGAIN);
            }
        }
        let wake = parts.values().filter_map(|part| part.wake).min();
        let woken = async {
            match wake {
                Some(at) => {
                    let left = at.duration_since(Timestamp::now());
                    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
                }
                None => future::pending().await,
            }
        };
        tokio::select! {
            changed = objects.changed() => if changed.is_err() { return },
            changed = stages.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = woken => {}
        }
    }
}

/// Plans and carries out until nothing changes any more.
fn settle(
    bridge: &mut Bridge,
    migration: &Migration,
    chassis: &str,
    mut own: Option<NodeStatus>,
    scene: &Scene,
    heard: bool,
) -> Option<Plan> {
    // The rule that hears it stands as long as the target is armed and nothing has been heard.
    if let Some(own) = own.as_mut().filter(|own| heard && own.has(Step::Armed) && !bridge.flows.is_empty()) {
        own.take(Step::Activated, to_microseconds(Timestamp::now()));
    }
    let mut last = None;
    // What a plan takes a step for is a reason to plan again; no plan takes more steps than there are.
    for _ in 0..MOST_PLANS {
        let now = to_microseconds(Timestamp::now());
        let (facts, survey) = look(bridge, migration, chassis, scene);
        let survey = survey.since(bridge.seen.as_ref(), now);
        bridge.seen = Some(survey.clone());
        let Some(plan) = plan(migration, own.as_ref(), &facts, &survey, now) else {
            bridge.flows.clear();
            return None;
        };
        let settled = own.as_ref() == Some(&plan.status) && survey.ours == plan.flows;
        bridge.flows.clone_from(&plan.flows);
        bridge.status = Some(plan.status.clone());
        own = Some(plan.status.clone());
        last = Some(plan);
        if settled {
            break;
        }
    }
    last
}

/// What an agent sees of its chassis.
fn look(bridge: &Bridge, migration: &Migration, chassis: &str, scene: &Scene) -> (Facts, Survey) {
    let mut survey = Survey { layout: LAYOUT, ours: bridge.flows.clone(), ..Survey::default() };
    let mut facts = Facts {
        chassis: chassis.to_owned(),
        encap_ips: vec![std::net::Ipv4Addr::new(192, 0, 2, 1).into()],
        geneve_index: Some(0),
        layout: LAYOUT,
        ..Facts::default()
    };
    // A tunnel to a chassis stays for as long as OVN knows of it; here for ever.
    let sides = [Some(&migration.spec.from), migration.spec.to.as_ref()];
    let others = scene.chassis.iter().chain(sides.into_iter().flatten()).filter(|other| *other != chassis);
    facts.tunnels = others
        .zip(OFPORT + 1..)
        .map(|(other, ofport)| (other.clone(), Tunnel { ofport, kind: "geneve".to_owned() }))
        .collect();
    if scene.plugged.iter().any(|known| known == chassis) {
        let interface = InterfaceStatus { name: "tap0".to_owned(), ofport: OFPORT, link_up: true };
        facts.interfaces.insert(migration.spec.port.clone(), interface);
        let is_bound = scene.bound.chassis.iter().chain(&scene.bound.additional).any(|on| on == chassis);
        if let Some(subject) = migration.status.progress.subject.filter(|_| is_bound) {
            let (datapath_key, port_key) = (subject.datapath_key, subject.port_key);
            survey.inputs.insert(OFPORT);
            survey.outputs.insert(VifOutput { datapath_key, port_key, ofport: OFPORT });
        }
    }
    (facts, survey)
}

/// Writes a chassis' part of the status, as agents do; false if it was refused.
async fn report(
    api: &Api<DynamicObject>,
    migration: &Migration,
    chassis: String,
    status: NodeStatus,
) -> bool {
    let patch = json!([
        { "op": "test", "path": "/metadata/uid", "value": migration.metadata.uid },
        { "op": "add", "path": format!("/status/nodes/{chassis}"), "value": status },
    ]);
    let url = format!("{}/{}/status?fieldManager=limosa-agent", api.resource_url(), migration.metadata.name);
    let request = http::Request::patch(url)
        .header(http::header::CONTENT_TYPE, "application/json-patch+json")
        .body(patch.to_string().into_bytes());
    let Ok(request) = request else { return false };
    api.clone().into_client().request::<Value>(request).await.is_ok()
}
