//! Nodes without switches: the parts of agents and of ovn-controllers, played on a real API server and on real OVN
//! databases with a real ovn-northd.
//!
//! What an agent reports is what [`limosa_protocol::node::plan`] says of a bridge that does at once as it is told; what
//! an ovn-controller does is what `controller/binding.c` of OVN 23.03 does about `requested-chassis`. A test says what
//! nobody decides there: where interfaces are plugged, when a guest announces itself, which node dies.

mod agents;
mod ledger;
mod ovn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use limosa_protocol::Migration;
use limosa_protocol::object::{API_VERSION, ConditionType, KIND};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::ledger::Ledger;
use super::DEADLINE;
use crate::holder::within;
use crate::lab::Lab;
pub use ovn::{Bound, Options};

/// A label of objects that nobody here has a part in: what a benchmark says has ended long ago.
pub const LONG_ENDED: &str = "lab.limosa.io/ended=long-ago";

/// Where everything is that the test decides.
#[derive(Debug, Clone, Default)]
struct Stage {
    /// The chassis that are alive, with the nodes they are on.
    chassis: BTreeMap<String, String>,
    /// The chassis on which a port has an interface, in the order in which they were plugged.
    plugged: BTreeMap<String, Vec<String>>,
    /// Announcements that have not been heard yet, by port and chassis.
    announced: BTreeSet<(String, String)>,
}

/// The objects that there are, by name.
pub type Objects = BTreeMap<String, Arc<Migration>>;

/// The players. They stop when this is dropped.
#[derive(Debug)]
pub struct Cast {
    stage: watch::Sender<Stage>,
    objects: watch::Receiver<Objects>,
    ledger: Arc<Mutex<Ledger>>,
    ovn: ovn::Sessions,
    _tasks: JoinSet<()>,
}

impl Cast {
    /// Begins to play on a lab without chassis of its own. `agents` may do what agents may; `namespace` is where the
    /// objects are.
    ///
    /// # Errors
    ///
    /// When a database or the API server does not answer.
    pub async fn start(lab: &Lab, admin: &Client, agents: &Client, namespace: &str) -> Result<Self> {
        let (stage, _) = watch::channel(Stage::default());
        let ovn = ovn::Sessions::open(lab).await?;
        let ledger = Arc::default();
        let (sender, objects) = watch::channel(Objects::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(agents::watch_objects(objects_in(admin, namespace), sender, Arc::clone(&ledger)));
        tasks.spawn(agents::play(
            objects_in(agents, namespace),
            objects.clone(),
            stage.clone(),
            ovn.sb.clone(),
        ));
        tasks.spawn(ovn::play(ovn.sb.clone(), stage.clone()));
        tasks.spawn(ovn::note_options(ovn.nb.clone(), Arc::clone(&ledger)));
        Ok(Self { stage, objects, ledger, ovn, _tasks: tasks })
    }

    /// Registers a chassis on a node.
    ///
    /// # Errors
    ///
    /// When the southbound database refuses.
    pub async fn add_chassis(&self, chassis: &str, node: &str) -> Result<()> {
        self.ovn.add_chassis(chassis, node).await?;
        self.stage.send_modify(|stage| drop(stage.chassis.insert(chassis.to_owned(), node.to_owned())));
        Ok(())
    }

    /// A node dies: its agent and its ovn-controller write nothing more.
    pub fn lose_chassis(&self, chassis: &str) {
        self.stage.send_modify(|stage| drop(stage.chassis.remove(chassis)));
    }

    /// What an operator does about a node that is gone for good: `ovn-sbctl chassis-del`.
    ///
    /// # Errors
    ///
    /// When the southbound database refuses.
    pub async fn remove_chassis(&self, chassis: &str) -> Result<()> {
        self.lose_chassis(chassis);
        self.stage.send_modify(|stage| stage.plugged.values_mut().for_each(|on| on.retain(|c| c != chassis)));
        self.ovn.remove_chassis(chassis).await
    }

    /// Makes a logical switch port with these `options`.
    ///
    /// # Errors
    ///
    /// When the northbound database refuses.
    pub async fn add_ports(&self, ports: &[String], options: &Options) -> Result<()> {
        self.ovn.add_ports(ports, options).await
    }

    /// Somebody else sets options of a port.
    ///
    /// # Errors
    ///
    /// When the northbound database refuses.
    pub async fn set_options<const N: usize>(&self, port: &str, pairs: [(&str, &str); N]) -> Result<()> {
        self.ovn.set(port, "options", &pairs).await
    }

    /// Somebody else sets `external_ids` of a port.
    ///
    /// # Errors
    ///
    /// When the northbound database refuses.
    pub async fn set_external_ids<const N: usize>(&self, port: &str, pairs: [(&str, &str); N]) -> Result<()> {
        self.ovn.set(port, "external_ids", &pairs).await
    }

    /// The interface of a port appears on a chassis.
    pub fn plug(&self, port: &str, chassis: &str) {
        self.stage.send_modify(|stage| {
            let on = stage.plugged.entry(port.to_owned()).or_default();
            if !on.iter().any(|known| known == chassis) {
                on.push(chassis.to_owned());
            }
        });
    }

    /// It goes.
    pub fn unplug(&self, port: &str, chassis: &str) {
        self.stage.send_modify(|stage| {
            stage.plugged.entry(port.to_owned()).or_default().retain(|known| known != chassis);
        });
    }

    /// The guest announces itself (RARP) on a chassis. Without a rule there that waits for it nobody hears it.
    pub fn announce(&self, port: &str, chassis: &str) {
        self.stage.send_modify(|stage| {
            stage.announced.insert((port.to_owned(), chassis.to_owned()));
        });
    }

    /// The chassis that the southbound database binds a port to.
    pub fn bound(&self, port: &str) -> Bound {
        self.ovn.bound(port)
    }

    /// Waits until a port is bound as it should be.
    ///
    /// # Errors
    ///
    /// When it is not within [`DEADLINE`].
    pub async fn until_bound(&self, port: &str, chassis: &str) -> Result<()> {
        let wanted = Bound { chassis: Some(chassis.to_owned()), additional: Vec::new() };
        let mut changes = self.ovn.sb.subscribe();
        let bound = async {
            while self.bound(port) != wanted {
                changes.changed().await.context("the southbound session has ended")?;
            }
            Ok(())
        };
        within(DEADLINE, &format!("{port} to be bound to {chassis}"), bound)
            .await
            .with_context(|| format!("{:?}", self.bound(port)))
    }

    /// The options of a port and whose pin it has, as the northbound database has them.
    pub fn options(&self, port: &str) -> Options {
        self.ovn.options(port)
    }

    /// Waits until the options of a port are as they should be.
    ///
    /// # Errors
    ///
    /// When they are not within [`DEADLINE`].
    pub async fn until_options(&self, port: &str, is_so: impl Fn(&Options) -> bool) -> Result<()> {
        let mut changes = self.ovn.nb.subscribe();
        let changed = async {
            while !is_so(&self.options(port)) {
                changes.changed().await.context("the northbound session has ended")?;
            }
            Ok(())
        };
        let so = within(DEADLINE, &format!("the options of {port} to change"), changed).await;
        so.with_context(|| format!("{:?}", self.options(port)))
    }

    /// The objects, now and after every change.
    pub fn objects(&self) -> watch::Receiver<Objects> {
        self.objects.clone()
    }

    /// Waits until the objects are as they should be; returns what `find` finds then.
    ///
    /// # Errors
    ///
    /// When they are not within [`DEADLINE`]; the text has the objects.
    pub async fn until<T>(&self, what: &str, find: impl Fn(&Objects) -> Option<T>) -> Result<T> {
        let mut objects = self.objects();
        let found = async {
            loop {
                if let Some(found) = find(&objects.borrow_and_update()) {
                    return Ok(found);
                }
                objects.changed().await.context("nobody watches the objects any more")?;
            }
        };
        let found = within(DEADLINE, what, found).await;
        found.with_context(|| {
            self.objects.borrow().values().map(|migration| summary(migration)).collect::<Vec<_>>().join("\n")
        })
    }

    /// The values that a port's `requested-chassis` has had since it was made, each change once.
    pub fn pins(&self, port: &str) -> Vec<Option<String>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).pins(port)
    }

    /// What was written twice, with another content the second time.
    pub fn contradictions(&self) -> Vec<String> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).contradictions.clone()
    }
}

/// How far an object has come, in a line.
fn summary(migration: &Migration) -> String {
    let progress = &migration.status.progress;
    let waits =
        progress.condition(ConditionType::Progressing).map(|c| c.message.as_str()).unwrap_or_default();
    let steps =
        migration.status.nodes.iter().map(|(chassis, node)| (chassis, node.steps.keys().collect::<Vec<_>>()));
    let (name, want) = (&migration.metadata.name, migration.spec.want);
    format!("{name}: {}, want {want:?}, {waits}; {:?}", progress.phase, steps.collect::<Vec<_>>())
}

/// Limosa's objects in a namespace.
fn objects_in(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
    let kind = GroupVersionKind::gvk(group, version, KIND);
    Api::namespaced_with(
        client.clone(),
        namespace,
        &ApiResource::from_gvk_with_plural(&kind, "portmigrations"),
    )
}
