//! What is published of KubeVirt, and what becomes of it on a real API server.

use std::collections::BTreeSet;

use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use limosa_lab::kube::kubevirt::{Binding, Guest, GuestSpec, Nic, Script, Step, install, nodes};
use limosa_protocol::object::Phase;
use serde_json::{Value, json};

use super::*;
use crate::store::Which;
use crate::store::testing::{CONTROLLER, admin, progress, shared, store};

const DEADLINE: Duration = Duration::from_secs(60);

/// What a controller has of all this: KubeVirt, the store, a cluster of chassis.
struct Bench {
    kubevirt: Option<Kubevirt>,
    store: crate::store::Kubernetes,
    nodes: Nodes,
    client: Client,
    api: Api<DynamicObject>,
}

impl Bench {
    /// In a namespace of its own, with the rights of a controller.
    async fn new(namespace: &str) -> Self {
        let server = shared().await;
        let (client, api) = admin(server, namespace).await;
        install(&client).await.unwrap();
        nodes(&client, &["node1", "node2", "node3"]).await.unwrap();
        let nodes = Nodes::new([("c1", "node1"), ("c2", "node2"), ("c3", "node3")]);
        let store = store(server, CONTROLLER, namespace, Which::Live).await;
        let mut bench = Self { kubevirt: None, store, nodes, client, api };
        bench.restart(namespace);
        bench
    }

    /// As if the controller had just come.
    fn restart(&mut self, namespace: &str) {
        let options = Options::default();
        let kubevirt = Kubevirt::new(self.store.client(), Some(namespace), options, &Registry::new());
        self.kubevirt = Some(kubevirt);
    }

    async fn guest(&self, namespace: &str, name: &str, node: &str) -> Guest {
        let spec =
            GuestSpec::new(namespace, name, node).pod_annotation("ovn.kubernetes.io/virtualmachine", name);
        Guest::create(&self.client, spec).await.unwrap()
    }

    /// Turns as a controller does until the store shows what it should.
    async fn until(&mut self, what: &str, is_so: impl Fn(&[&Migration]) -> bool) -> Vec<Migration> {
        let mut objects = self.store.watch();
        let turns = async {
            loop {
                let snapshot = objects.borrow_and_update().clone();
                let kubevirt = self.kubevirt.as_mut().unwrap();
                let wait = kubevirt.turn(&snapshot, &self.nodes, &self.store).await;
                assert_eq!(wait, None, "everything could be written");
                let migrations: Vec<&Migration> = snapshot.migrations.values().collect();
                if kubevirt.view.borrow().is_complete() && is_so(&migrations) {
                    return migrations.into_iter().cloned().collect();
                }
                tokio::select! {
                    changed = objects.changed() => changed.unwrap(),
                    () = due(&mut self.kubevirt) => {}
                }
            }
        };
        tokio::time::timeout(DEADLINE, turns)
            .await
            .unwrap_or_else(|_| panic!("{what}: {:?}", self.store.watch().borrow()))
    }

    /// Takes the only object to a phase.
    async fn reach(&mut self, phase: Phase) {
        let [object] = &self.until("one object", |all| all.len() == 1).await[..] else { unreachable!() };
        self.store.put_progress(&Key::of(object), progress(object, phase)).await.unwrap();
        self.until("the phase", |all| all.iter().all(|m| m.phase() == phase)).await;
    }

    /// The events of a namespace, as `(kind, type, reason)`, once there are so many.
    async fn events(&self, namespace: &str, count: usize) -> BTreeSet<(String, String, String)> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let ours = ListParams::default().fields("reportingController=limosa-controller");
        let polled = async {
            loop {
                let events = api.list(&ours).await.unwrap().items;
                let events = events
                    .into_iter()
                    .filter(|e| e.reporting_controller.as_deref() == Some("limosa-controller"));
                let events: BTreeSet<_> = events
                    .filter_map(|event| Some((event.regarding?.kind?, event.type_?, event.reason?)))
                    .collect();
                if events.len() >= count {
                    return events;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, polled).await.expect("the events come")
    }
}

/// From Create to the end, with all that is seen of it: made in Pending, the
/// target filled in, the wish changed once, the events of it, and not a write more.
#[tokio::test]
async fn a_migration_of_kubevirt_becomes_one_of_a_port() {
    let ns = "kv-success";
    let mut bench = Bench::new(ns).await;
    let guest = bench.guest(ns, "vm1", "node1").await;
    let migration = guest.migrate("move1", "node2");
    migration.play(&Script::success().through(Step::Pending)).await.unwrap();
    let made = bench.until("made", |all| all.len() == 1).await.remove(0);
    let spec = &made.spec;
    assert_eq!(
        (spec.port.as_str(), spec.from.as_str(), &spec.to, spec.want),
        ("vm1.kv-success", "c1", &None, Want::Complete)
    );
    assert_eq!(spec.mac.unwrap().to_string(), "02:00:00:00:01:01");
    let owner = &made.metadata.owner_references[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), Some(owner.uid.as_str())),
        (Vmim::KIND, "move1", migration.uid())
    );

    migration.play(&Script::success().after(Step::Pending).through(Step::DomainDetected)).await.unwrap();
    bench.until("to", |all| all[0].spec.to.as_deref() == Some("c2")).await;
    bench.reach(Phase::Armed).await;
    migration.play(&Script::success().after(Step::DomainDetected)).await.unwrap();
    let end = bench.until("want", |all| all[0].spec.want == Want::Activate).await.remove(0);
    bench.reach(Phase::Activated).await;
    bench.reach(Phase::Switched).await;
    let seen = bench.until("nothing more", |_| true).await.remove(0);
    let generation = |object: &DynamicObject| object.metadata.generation;
    let object = bench.api.get(&seen.metadata.name).await.unwrap();
    assert_eq!((seen.spec, generation(&object)), (end.spec, Some(3)), "made, its target, its wish");
    let both = |reason: &str| {
        [Vmim::KIND, Vmi::KIND].map(|kind| (kind.to_owned(), "Normal".to_owned(), reason.to_owned()))
    };
    let events = bench.events(ns, 4).await;
    let expected: BTreeSet<_> =
        [both("NetworkPrepared"), both("NetworkSwitched")].concat().into_iter().collect();
    assert_eq!(events, expected);

    // A controller that comes now finds nothing to do and nothing to say.
    bench.restart(ns);
    bench.until("seen", |all| all.len() == 1).await;
    assert_eq!(generation(&bench.api.get(&object.metadata.name.unwrap()).await.unwrap()), Some(3));
    bench.reach(Phase::Completed).await;
    assert_eq!(bench.events(ns, 4).await, expected);
}

/// What has ended and is out of sight is not made again, nor by a new controller.
#[tokio::test]
async fn what_has_ended_is_not_made_again() {
    let ns = "kv-ended";
    let mut bench = Bench::new(ns).await;
    let guest = bench.guest(ns, "vm1", "node1").await;
    guest.migrate("move1", "node2").play(&Script::success().through(Step::Running)).await.unwrap();
    bench.reach(Phase::Rejected).await;
    let object = bench.until("rejected", |all| all.len() == 1).await.remove(0);
    bench.store.finish(&object, true).await.unwrap();
    bench.until("out of sight", |all| all.is_empty()).await;
    for _ in 0..2 {
        guest.touch().await.unwrap();
        bench.until("still out of sight", |all| all.is_empty()).await;
        bench.restart(ns);
    }
    assert_eq!(bench.api.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

/// Every script of the driver, watched from the start: what is wanted in the end
/// follows from where the guest is then.
#[tokio::test]
async fn what_is_wanted_in_the_end_is_where_the_guest_is() {
    let ns = "kv-scripts";
    let mut bench = Bench::new(ns).await;
    let mut chassis = Vec::new();
    for (i, (name, script)) in Script::all().into_iter().enumerate() {
        // One that is cancelled at once is never accepted.
        if !script.steps().contains(&Step::Pending) {
            continue;
        }
        let [from, to, vm] = [format!("kv{i}a"), format!("kv{i}b"), format!("vm{i}")];
        nodes(&bench.client, &[&from, &to]).await.unwrap();
        chassis.extend([from.clone(), to.clone()]);
        bench.nodes = Nodes::new(chassis.iter().map(|node| (node, node)));
        let migration = bench.guest(ns, &vm, &from).await.migrate(&format!("move{i}"), &to);
        let of_guest = |all: &[&Migration], is_so: &dyn Fn(&Migration) -> bool| {
            all.iter().any(|m| m.spec.guest.as_ref().is_some_and(|guest| guest.vm == vm) && is_so(m))
        };
        migration.play(&script.clone().through(Step::Pending)).await.unwrap();
        bench.until(&name, |all| of_guest(all, &|_| true)).await;
        let arrives = script.steps().contains(&Step::Completed);
        migration.play(&script.after(Step::Pending)).await.unwrap();
        let want = if arrives { Want::Activate } else { Want::Return };
        bench.until(&name, |all| of_guest(all, &|m| m.spec.want == want)).await;
    }
}

/// KubeVirt's migration goes on, and a person has given ours up: a controller that has just come does not take that
/// back.
#[tokio::test]
async fn what_a_person_wants_outlives_the_controller() {
    let ns = "kv-person";
    let mut bench = Bench::new(ns).await;
    let guest = bench.guest(ns, "vm1", "node1").await;
    guest.migrate("move1", "node2").play(&Script::success().through(Step::Running)).await.unwrap();
    let object = bench.until("made", |all| all.len() == 1).await.remove(0);
    bench.store.set_want(&Key::of(&object), Want::Abort).await.unwrap();
    let given_up = |all: &[&Migration]| all.iter().all(|m| m.spec.want == Want::Abort);
    bench.until("given up", given_up).await;
    let before = bench.api.get(&object.metadata.name).await.unwrap().metadata.generation;
    bench.restart(ns);
    for _ in 0..2 {
        guest.touch().await.unwrap();
        bench.until("still given up", given_up).await;
    }
    let after = bench.api.get(&object.metadata.name).await.unwrap().metadata.generation;
    assert_eq!(after, before, "nothing was written");
}

#[tokio::test]
async fn what_is_left_alone_is_said_once() {
    let ns = "kv-alone";
    let mut bench = Bench::new(ns).await;
    let nics = [
        Nic::new("m", Binding::Masquerade, "02:00:00:00:01:01"),
        Nic::new("s", Binding::Sriov, "02:00:00:00:01:02").on("s"),
    ];
    let guest = Guest::create(&bench.client, GuestSpec::new(ns, "vm1", "node1").nics(nics)).await.unwrap();
    guest.migrate("move1", "node2").play(&Script::success().through(Step::Running)).await.unwrap();
    bench.until("nothing", |all| all.is_empty()).await;
    let said = bench.events(ns, 1).await;
    assert_eq!(said, [(Vmim::KIND.to_owned(), "Normal".to_owned(), "NetworkLeftAlone".to_owned())].into());
    let kubevirt = bench.kubevirt.as_ref().unwrap();
    let counted = |label| kubevirt.outcomes.with_label_values(&[label]).get();
    assert_eq!(["Masquerade", "Sriov", "Made"].map(counted), [1, 1, 0]);
}

fn vmim(name: &str, uid: &str, phase: &str) -> Vmim {
    Vmim::decode(&json!({"metadata": {"name": name, "uid": uid}, "status": {"phase": phase}})).unwrap()
}

/// Ten thousand that have ended cost nothing; of those that were seen to end the
/// last few are kept.
#[test]
fn what_has_ended_costs_no_memory() {
    let mut view = View::default();
    let ended = (0..10_000).map(|i| vmim(&format!("m{i}"), &format!("u{i}"), "Succeeded"));
    assert!(view.list(ended.chain([vmim("live", "live", "Pending")]).collect()));
    assert_eq!(view.vmims.len(), 1);
    assert!(!view.note(vmim("m0", "u0", "Succeeded")));
    for i in 0..1000 {
        let (name, uid) = (format!("n{i}"), format!("v{i}"));
        assert!(view.note(vmim(&name, &uid, "Running")) && view.note(vmim(&name, &uid, "Failed")));
        assert!(!view.note(vmim(&name, &uid, "Failed")));
    }
    assert_eq!(view.vmims.len(), 257);
    // One of the same name that is under way is another.
    assert!(view.note(vmim("n999", "new", "Pending")));
    view.list::<Vmim>(vec![vmim("n999", "new", "Pending")]);
    assert_eq!(view.vmims.len(), 1);
}

/// What is not used wakes nobody.
#[test]
fn a_change_of_something_else_is_none() {
    let mut view = View::default();
    let vmi = |extra: Value| {
        let object = json!({"metadata": {"name": "v", "uid": "u", "resourceVersion": extra}, "status": {"guestOSInfo": extra}});
        Vmi::decode(&object).unwrap()
    };
    assert!(view.note(vmi(json!("1"))));
    assert!(!view.note(vmi(json!("2"))));
    assert!(!view.is_complete());
}
