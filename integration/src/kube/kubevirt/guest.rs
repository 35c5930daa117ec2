//! A guest: the object, and the pod it runs in.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Migration, guests, key, now, pod};
use crate::kube::ensure_namespace;

/// How a NIC hangs on its pod's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// The guest has the pod's place on the network: its frames leave the pod as they are.
    Bridge,
    /// The guest is behind the pod's address; its frames never leave the pod as they are.
    Masquerade,
    /// A device of the host's, unplugged before a migration and plugged after it.
    Sriov,
    /// A plugin of this name, such as `l2bridge`.
    Plugin(String),
}

/// A NIC of a guest.
#[derive(Debug, Clone)]
pub struct Nic {
    /// What the guest calls the network.
    pub name: String,
    pub binding: Binding,
    /// The attachment definition (`NAME` or `NAMESPACE/NAME`) of a secondary network; none is the pod's own network.
    pub multus: Option<String>,
    pub mac: String,
    pub ips: Vec<String>,
    /// Whether its link is up. A link that is down announces nothing.
    pub link_up: bool,
}

impl Nic {
    /// A NIC on the pod's own network.
    pub fn new(name: &str, binding: Binding, mac: &str) -> Self {
        let (name, mac) = (name.to_owned(), mac.to_owned());
        Self { name, binding, multus: None, mac, ips: Vec::new(), link_up: true }
    }

    /// The NIC, on a secondary network.
    #[must_use]
    pub fn on(mut self, multus: &str) -> Self {
        self.multus = Some(multus.to_owned());
        self
    }

    /// The NIC, with one address more.
    #[must_use]
    pub fn ip(mut self, ip: &str) -> Self {
        self.ips.push(ip.to_owned());
        self
    }

    /// The NIC, with its link down.
    #[must_use]
    pub fn down(mut self) -> Self {
        self.link_up = false;
        self
    }

    /// Its name in the pod, when it is the guest's NIC number `at`.
    pub(super) fn pod_interface(&self, at: usize) -> String {
        if self.multus.is_some() { format!("net{at}") } else { "eth0".to_owned() }
    }

    fn interface(&self) -> Value {
        let mut interface = json!({ "name": self.name, "macAddress": self.mac });
        match &self.binding {
            Binding::Bridge => interface["bridge"] = json!({}),
            Binding::Masquerade => interface["masquerade"] = json!({}),
            Binding::Sriov => interface["sriov"] = json!({}),
            Binding::Plugin(name) => interface["binding"] = json!({ "name": name }),
        }
        if !self.link_up {
            interface["state"] = json!("down");
        }
        interface
    }

    fn network(&self) -> Value {
        match &self.multus {
            Some(definition) => json!({ "name": self.name, "multus": { "networkName": definition } }),
            None => json!({ "name": self.name, "pod": {} }),
        }
    }

    fn status(&self, at: usize) -> Value {
        let source = if self.multus.is_some() { "domain, multus-status" } else { "domain" };
        let mut status = json!({
            "name": self.name, "mac": self.mac, "podInterfaceName": self.pod_interface(at), "queueCount": 1,
            "infoSource": source, "linkState": if self.link_up { "up" } else { "down" },
        });
        if let Some(first) = self.ips.first() {
            status["ipAddress"] = json!(first);
            status["ipAddresses"] = json!(self.ips);
        }
        status
    }
}

/// What a guest is to be.
#[derive(Debug, Clone)]
pub struct GuestSpec {
    pub namespace: String,
    pub name: String,
    /// Where it runs first.
    pub node: String,
    pub nics: Vec<Nic>,
    /// Of the guest object; its pods get the labels, too.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Of all its pods: what a network plugin notes there. See [`Migration::annotated`] for the target's alone.
    pub pod_annotations: BTreeMap<String, String>,
}

impl GuestSpec {
    /// A guest with one NIC, `default` with MAC 02:00:00:00:01:01, bridged to the pod's own network, which it may keep
    /// when it migrates.
    pub fn new(namespace: &str, name: &str, node: &str) -> Self {
        let may_migrate = ("kubevirt.io/allow-pod-bridge-network-live-migration".to_owned(), String::new());
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: node.to_owned(),
            nics: vec![Nic::new("default", Binding::Bridge, "02:00:00:00:01:01")],
            labels: BTreeMap::new(),
            annotations: BTreeMap::from([may_migrate]),
            pod_annotations: BTreeMap::new(),
        }
    }

    /// The guest, with these NICs instead.
    #[must_use]
    pub fn nics(mut self, nics: impl Into<Vec<Nic>>) -> Self {
        self.nics = nics.into();
        self
    }

    /// The guest, with an annotation more on its pods.
    #[must_use]
    pub fn pod_annotation(mut self, key: &str, value: &str) -> Self {
        self.pod_annotations.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// A running guest. Clones stand for the same one.
#[derive(Clone)]
pub struct Guest {
    pub(super) client: Client,
    pub(super) spec: GuestSpec,
    uid: String,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("spec", &self.spec).field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl Guest {
    /// Makes it, and its namespace: object and pod are there and running when this returns. It has no `VirtualMachine`.
    ///
    /// # Errors
    ///
    /// When the server refuses; see [`install`](super::install) and [`nodes`](super::nodes).
    pub async fn create(client: &Client, spec: GuestSpec) -> Result<Self> {
        ensure_namespace(client, &spec.namespace).await?;
        let domain =
            json!({ "devices": { "interfaces": spec.nics.iter().map(Nic::interface).collect::<Vec<_>>() } });
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "name": spec.name,
                "labels": spec.labels,
                "annotations": spec.annotations,
                "finalizers": ["kubevirt.io/foregroundDeleteVirtualMachine"],
            },
            "spec": { "domain": domain, "networks": spec.nics.iter().map(Nic::network).collect::<Vec<_>>() },
        }))
        .context("make a guest")?;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &spec.namespace, &guests());
        let made = api.create(&PostParams::default(), &object).await;
        let made = made.with_context(|| format!("make guest {}", spec.name))?;
        let guest = Self { client: client.clone(), spec, uid: made.uid().context("a guest without a UID")? };
        guest.run().await?;
        Ok(guest)
    }

    /// From the first pod to phase `Running`.
    async fn run(&self) -> Result<()> {
        let (pods, name, node) = (self.pods(), self.new_pod_name(), &self.spec.node);
        let labels = json!(self.spec.labels);
        let pod = pod::launcher(&self.spec, &self.uid, &labels, &name, None)?;
        pods.create(&PostParams::default(), &pod).await.with_context(|| format!("make pod {name}"))?;
        pod::bind(&pods, &name, node).await?;
        pod::running(&pods, &name, &self.spec).await?;
        self.patch(json!({
            "metadata": { "labels": { key::NODE_NAME: node } },
            "status": {
                "phase": "Running",
                "nodeName": node,
                "interfaces": self.spec.nics.iter().enumerate().map(|(at, nic)| nic.status(at)).collect::<Vec<_>>(),
                "conditions": [
                    { "type": "Ready", "status": "True" },
                    { "type": "LiveMigratable", "status": "True" },
                ],
                "migrationMethod": "LiveMigration",
                "migrationTransport": "Unix",
            },
        }))
        .await?;
        self.note_active_pods().await?;
        pod::gate(&pods, &name, true).await
    }

    /// The guest's name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.spec.namespace
    }

    /// The UID of its object.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Guest objects in its namespace.
    pub fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.spec.namespace, &guests())
    }

    /// Pods in its namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.spec.namespace)
    }

    /// Its object, as it is now.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub async fn get(&self) -> Result<DynamicObject> {
        self.api().get(self.name()).await.with_context(|| format!("read guest {}", self.name()))
    }

    /// Changes its object by a merge patch (RFC 7386). It has no status subresource.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn patch(&self, patch: impl Serialize + std::fmt::Debug) -> Result<()> {
        self.api()
            .patch(self.name(), &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("change guest {}", self.name()))
            .map(drop)
    }

    /// A change that means nothing: a watcher gets an event, and has nothing to do.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn touch(&self) -> Result<()> {
        let number = fastrand::u64(..).to_string();
        self.patch(json!({ "metadata": { "annotations": { "lab/touched": number } } })).await
    }

    /// The user pauses it, or lets it go on. A guest that is paused announces nothing, also on its target.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn pause(&self, paused: bool) -> Result<()> {
        let object = self.get().await?;
        let mut conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != "Paused");
        if paused {
            let condition = json!({
                "type": "Paused", "status": "True", "reason": "PausedByUser", "message": "VMI was paused by user",
                "lastTransitionTime": now().to_string(),
            });
            conditions.push(condition);
        }
        self.patch(json!({ "status": { "conditions": conditions } })).await?;
        pod::gate(&self.pods(), &self.pod().await?.name_any(), !paused).await
    }

    /// A migration of it to `node`, which begins with its first step.
    pub fn migrate(&self, name: &str, node: &str) -> Migration {
        Migration::new(self.clone(), name, node)
    }

    /// Deletes it, and its pods, as virt-controller and the garbage collector do. A migration that goes on meanwhile
    /// fails: [`Step::Failed`](super::Step::Failed).
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn delete(&self) -> Result<()> {
        let gone = || format!("delete guest {}", self.name());
        self.api().delete(self.name(), &DeleteParams::default()).await.with_context(gone)?;
        for pod in self.all_pods().await? {
            pod::delete(&self.pods(), &pod.name_any()).await?;
        }
        self.patch(json!({ "status": { "phase": "Succeeded" } })).await?;
        self.patch(json!({ "metadata": { "finalizers": null } })).await
    }

    /// A name for a pod of it.
    pub(super) fn new_pod_name(&self) -> String {
        let random: String = std::iter::repeat_with(fastrand::lowercase).take(5).collect();
        format!("virt-launcher-{}-{random}", self.name())
    }

    /// Every pod it has.
    pub(super) async fn all_pods(&self) -> Result<Vec<Pod>> {
        let own = ListParams::default().labels(&format!("{}={}", key::CREATED_BY, self.uid));
        Ok(self.pods().list(&own).await.context("list a guest's pods")?.items)
    }

    /// The pod it runs in.
    pub(super) async fn pod(&self) -> Result<Pod> {
        let object = self.get().await?;
        let node = object.data["status"]["nodeName"].as_str().map(str::to_owned);
        let runs_here = |pod: &Pod| {
            let on_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name == node);
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let ended = matches!(phase, Some("Succeeded" | "Failed"));
            on_node && !ended
        };
        let found = self.all_pods().await?.into_iter().find(runs_here);
        found.with_context(|| format!("guest {} has no pod on its node {node:?}", self.name()))
    }

    /// `status.activePods`: the node of each pod, by the pod's UID.
    pub(super) async fn note_active_pods(&self) -> Result<()> {
        let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let pods = self.all_pods().await?;
        let active: BTreeMap<_, _> = pods.iter().filter_map(|pod| Some((pod.uid()?, node(pod)))).collect();
        let before = &self.get().await?.data["status"]["activePods"];
        self.patch(json!({ "status": { "activePods": replaced(before, json!(active)) } })).await
    }
}

/// The merge patch that makes `after` of the object `before`: a mere merge would keep what `after` does not have.
pub(super) fn replaced(before: &Value, mut after: Value) -> Value {
    for key in before.as_object().into_iter().flat_map(|object| object.keys()) {
        if after.get(key).is_none() {
            after[key] = Value::Null;
        }
    }
    after
}
