//! What is read of KubeVirt's objects and of launcher pods, and nothing else:
//! a few hundred bytes of each.
//!
//! Every field may be missing, of another type or of a value that nobody has
//! heard of: it then counts as absent. KubeVirt adds phases and fields with
//! every release. Names and meanings: `staging/src/kubevirt.io/api/core/v1`
//! (`types.go`, `schema.go`) of KubeVirt 1.0 to 1.9.

use std::collections::BTreeMap;

use jiff::Timestamp;
use limosa_protocol::MacAddr;
use serde_json::Value;

/// The label on a target pod with the UID of the migration that it belongs to.
const JOB_LABEL: &str = "kubevirt.io/migrationJobUID";
/// The label on a launcher pod with the UID of its virtual machine instance.
const CREATED_BY_LABEL: &str = "kubevirt.io/created-by";
/// The annotation on a target pod with the time at which the guest ran there.
const READY_ANNOTATION: &str = "kubevirt.io/migration-target-ready-timestamp";
/// What allows a VM with a bridge on the pod network to migrate; any value.
pub(crate) const ALLOW_BRIDGE: &str = "kubevirt.io/allow-pod-bridge-network-live-migration";
/// OVN-Kubernetes' annotation with the networks of a pod, as JSON.
pub(crate) const OVN_KUBERNETES: &str = "k8s.ovn.org/pod-networks";
/// The start of every annotation of this project.
const OURS: &str = "limosa.io/";

/// The part of an object's metadata that is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    pub namespace: String,
    pub name: String,
    /// Tells the object from an earlier one of the same name.
    pub uid: String,
    /// To the second; absent if it cannot be read.
    pub created: Option<Timestamp>,
    /// Its deletion has been asked for.
    pub deleting: bool,
    /// Only those that something here reads.
    pub annotations: BTreeMap<String, String>,
}

impl Meta {
    fn decode(object: &Value) -> Option<Self> {
        let meta = object.get("metadata")?;
        let (name, uid) = (text(meta, "/name"), text(meta, "/uid"));
        if name.is_empty() || uid.is_empty() {
            return None;
        }
        let annotations = meta.get("annotations").and_then(Value::as_object).into_iter().flatten();
        let annotations = annotations.filter(|(key, _)| is_read(key));
        Some(Self {
            namespace: text(meta, "/namespace"),
            name,
            uid,
            created: text(meta, "/creationTimestamp").parse().ok(),
            deleting: meta.get("deletionTimestamp").is_some_and(|at| !at.is_null()),
            annotations: annotations.map(|(key, value)| (key.clone(), plain(value))).collect(),
        })
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn says(&self, key: &str) -> bool {
        self.annotation(key) == Some("true")
    }
}

/// Whether anything here reads an annotation.
fn is_read(key: &str) -> bool {
    key.starts_with(OURS)
        || [ALLOW_BRIDGE, OVN_KUBERNETES, READY_ANNOTATION].contains(&key)
        || key.ends_with(".kubernetes.io/virtualmachine")
        || key.ends_with(".kubernetes.io/allocated")
}

/// A `VirtualMachineInstanceMigration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vmim {
    pub meta: Meta,
    /// The name of the virtual machine instance.
    pub vmi: String,
    pub phase: Phase,
    /// It goes to or comes from another namespace or cluster (`sendTo`, `receive`).
    pub decentralized: bool,
    /// The source's pod, which KubeVirt notes here before the hand-off.
    pub source_pod: String,
}

/// `status.phase` of a `VirtualMachineInstanceMigration`. A lattice, not an
/// event stream: whoever watches may miss any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not yet looked at by KubeVirt.
    Unset,
    /// Decentralized only.
    WaitingForSync,
    /// Decentralized only.
    Synchronizing,
    /// Accepted; the target pod is made, scheduled and plugged in this phase.
    Pending,
    Scheduling,
    Scheduled,
    PreparingTarget,
    TargetReady,
    /// Memory is being copied; the guest pauses and resumes in here.
    Running,
    Succeeded,
    Failed,
    /// One of a later KubeVirt: under way.
    Other(String),
}

impl Phase {
    fn decode(name: String) -> Self {
        match name.as_str() {
            "" => Self::Unset,
            "WaitingForSync" => Self::WaitingForSync,
            "Synchronizing" => Self::Synchronizing,
            "Pending" => Self::Pending,
            "Scheduling" => Self::Scheduling,
            "Scheduled" => Self::Scheduled,
            "PreparingTarget" => Self::PreparingTarget,
            "TargetReady" => Self::TargetReady,
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            _ => Self::Other(name),
        }
    }
}

impl Vmim {
    /// Reads one; `None` if it has no name or no UID.
    #[must_use]
    pub fn decode(object: &Value) -> Option<Self> {
        let phase = Phase::decode(text(object, "/status/phase"));
        let decentralized = ["/spec/sendTo", "/spec/receive"].into_iter().any(|at| is_there(object, at))
            || matches!(phase, Phase::WaitingForSync | Phase::Synchronizing);
        Some(Self {
            meta: Meta::decode(object)?,
            vmi: text(object, "/spec/vmiName"),
            phase,
            decentralized,
            source_pod: text(object, "/status/migrationState/sourcePod"),
        })
    }

    /// KubeVirt does nothing more about it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }
}

/// A `VirtualMachineInstance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vmi {
    pub meta: Meta,
    /// It has run and runs no more (phase Succeeded or Failed).
    pub ended: bool,
    /// `status.nodeName`: where it runs. Changes at the end of a migration.
    pub node: String,
    pub nics: Vec<Nic>,
    /// Of the last migration; it persists until the next.
    pub state: Option<MigrationState>,
}

/// `status.migrationState` of a `VirtualMachineInstance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationState {
    /// `migrationUid`: which migration all this is about.
    pub uid: String,
    pub source_node: String,
    pub source_pod: String,
    pub target_node: String,
    /// `targetNodeDomainReadyTimestamp` is set: the target's virt-handler saw
    /// the guest run there, or be there paused by its user.
    pub ready: bool,
    pub completed: bool,
    pub failed: bool,
}

impl Vmi {
    /// Reads one; `None` if it has no name or no UID.
    #[must_use]
    pub fn decode(object: &Value) -> Option<Self> {
        let meta = Meta::decode(object)?;
        let phase = text(object, "/status/phase");
        let state = object.pointer("/status/migrationState").filter(|state| state.is_object());
        let nics = list(object, "/spec/domain/devices/interfaces");
        let nics = nics.filter_map(|interface| Nic::decode(interface, object, &meta.namespace)).collect();
        Some(Self {
            ended: matches!(phase.as_str(), "Succeeded" | "Failed"),
            node: text(object, "/status/nodeName"),
            nics,
            state: state.map(|state| MigrationState {
                uid: text(state, "/migrationUid"),
                source_node: text(state, "/sourceNode"),
                source_pod: text(state, "/sourcePod"),
                target_node: text(state, "/targetNode"),
                ready: is_there(state, "/targetNodeDomainReadyTimestamp"),
                completed: flag(state, "/completed"),
                failed: flag(state, "/failed"),
            }),
            meta,
        })
    }

    /// What is known of this migration since the hand-off to the target.
    #[must_use]
    pub fn migration(&self, uid: &str) -> Option<&MigrationState> {
        self.state.as_ref().filter(|state| state.uid == uid)
    }
}

/// A network interface of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// `spec.domain.devices.interfaces[].name`, which is the network's name too.
    pub name: String,
    pub binding: Binding,
    pub network: Network,
    /// The guest's address, as found on the running guest or as asked for.
    pub mac: Option<MacAddr>,
    /// The name of the interface in the pod.
    pub pod_interface: String,
    /// It is being unplugged (`state: absent`).
    pub absent: bool,
}

/// How an interface is connected to its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    Bridge,
    Masquerade,
    Passt,
    Sriov,
    /// A network binding plugin.
    Plugin(String),
    /// None that is known here.
    Unknown,
}

/// What an interface is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The pod's own network.
    Pod,
    /// A `NetworkAttachmentDefinition`.
    Multus { namespace: String, name: String, default: bool },
    /// None that is known here.
    Unknown,
}

impl Nic {
    fn decode(interface: &Value, vmi: &Value, namespace: &str) -> Option<Self> {
        let name = Some(text(interface, "/name")).filter(|name| !name.is_empty())?;
        let named = |at| list(vmi, at).find(|entry| text(entry, "/name") == name);
        let (network, status) = (named("/spec/networks"), named("/status/interfaces"));
        let mac = status.map(|status| text(status, "/mac")).and_then(|mac| mac.parse().ok());
        let binding = [
            ("/bridge", Binding::Bridge),
            ("/masquerade", Binding::Masquerade),
            ("/passtBinding", Binding::Passt),
            ("/passt", Binding::Passt),
            ("/sriov", Binding::Sriov),
        ];
        let binding = binding.into_iter().find(|(at, _)| is_there(interface, at)).map(|(_, binding)| binding);
        let plugin = || Some(text(interface, "/binding/name")).filter(|name| !name.is_empty());
        Some(Self {
            binding: binding.or_else(|| plugin().map(Binding::Plugin)).unwrap_or(Binding::Unknown),
            network: network.map_or(Network::Unknown, |network| Network::decode(network, namespace)),
            mac: mac.or_else(|| text(interface, "/macAddress").parse().ok()),
            pod_interface: status.map(|status| text(status, "/podInterfaceName")).unwrap_or_default(),
            absent: text(interface, "/state") == "absent",
            name,
        })
    }
}

impl Network {
    fn decode(network: &Value, namespace: &str) -> Self {
        let multus = text(network, "/multus/networkName");
        if !multus.is_empty() {
            let (namespace, name) = multus.split_once('/').unwrap_or((namespace, &multus));
            let default = flag(network, "/multus/default");
            return Self::Multus { namespace: namespace.to_owned(), name: name.to_owned(), default };
        }
        if is_there(network, "/pod") { Self::Pod } else { Self::Unknown }
    }
}

/// A virt-launcher pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub meta: Meta,
    /// The UID of its virtual machine instance.
    pub vmi: String,
    /// The UID of the migration that it was made for, as target; it keeps that
    /// after the migration.
    pub job: String,
    /// `spec.nodeName`; empty until it is scheduled.
    pub node: String,
    /// Its containers have ended (phase Succeeded or Failed).
    pub ended: bool,
    /// KubeVirt says on it that the guest runs there.
    pub ready: bool,
}

impl Pod {
    /// Reads one; `None` if it has no name or no UID.
    #[must_use]
    pub fn decode(object: &Value) -> Option<Self> {
        let mut meta = Meta::decode(object)?;
        let label = |key| object.pointer("/metadata/labels").and_then(|labels| labels.get(key));
        let label = |key| label(key).map(plain).unwrap_or_default();
        Some(Self {
            vmi: label(CREATED_BY_LABEL),
            job: label(JOB_LABEL),
            node: text(object, "/spec/nodeName"),
            ended: matches!(text(object, "/status/phase").as_str(), "Succeeded" | "Failed"),
            ready: meta.annotations.remove(READY_ANNOTATION).is_some_and(|at| !at.is_empty()),
            meta,
        })
    }
}

fn plain(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn text(object: &Value, at: &str) -> String {
    object.pointer(at).map(plain).unwrap_or_default()
}

fn flag(object: &Value, at: &str) -> bool {
    object.pointer(at).and_then(Value::as_bool).unwrap_or_default()
}

fn is_there(object: &Value, at: &str) -> bool {
    object.pointer(at).is_some_and(|value| !value.is_null())
}

fn list<'a>(object: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(at).and_then(Value::as_array).into_iter().flatten()
}
