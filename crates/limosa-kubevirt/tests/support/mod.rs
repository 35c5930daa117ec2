//! A cluster as its API shows it, in KubeVirt's own JSON, and a store that the
//! intents are carried out on.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use limosa_kubevirt::{Existing, Intent, Nodes, Options, Pod, Seen, Vmi, Vmim, intent};
use limosa_protocol::object::{Spec, Want};
use serde_json::{Value, json};

pub const UID: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub const VMI: &str = "bbbbbbbb-0000-4000-8000-000000000001";
pub const MAC: &str = "02:00:00:00:00:01";
/// The port that [`Api::new`]'s first interface has.
pub const PORT: &str = "vm1.ns";

/// What the API shows at one instant.
#[derive(Debug, Clone)]
pub struct Api {
    pub vmims: BTreeMap<String, Value>,
    pub vmi: Option<Value>,
    pub pods: BTreeMap<String, Value>,
}

impl Api {
    /// A running guest with a bridge on Kube-OVN's pod network, on node n1.
    pub fn new() -> Self {
        let vmi = json!({
            "metadata": {"namespace": "ns", "name": "vm1", "uid": VMI, "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"kubevirt.io/allow-pod-bridge-network-live-migration": "true"}},
            "spec": {"domain": {"devices": {"interfaces": [{"name": "default", "bridge": {}}]}},
                "networks": [{"name": "default", "pod": {}}]},
            "status": {"phase": "Running", "nodeName": "n1", "interfaces": [{"name": "default", "mac": MAC}]},
        });
        let mut api = Self { vmims: BTreeMap::new(), vmi: Some(vmi), pods: BTreeMap::new() };
        api.pod("pod-a", "n1", "");
        api
    }

    /// Adds a launcher pod; `job` is the migration that it is the target of.
    pub fn pod(&mut self, name: &str, node: &str, job: &str) -> &mut Self {
        let mut pod = json!({
            "metadata": {"namespace": "ns", "name": name, "uid": name,
                "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": VMI},
                "annotations": {"ovn.kubernetes.io/allocated": "true", "ovn.kubernetes.io/virtualmachine": "vm1"}},
            "spec": {}, "status": {"phase": "Running"},
        });
        if !node.is_empty() {
            pod["spec"]["nodeName"] = json!(node);
        }
        if !job.is_empty() {
            pod["metadata"]["labels"]["kubevirt.io/migrationJobUID"] = json!(job);
        }
        self.pods.insert(name.to_owned(), pod);
        self
    }

    /// Sets a phase, adding the migration if it is not there.
    pub fn phase(&mut self, uid: &str, phase: &str) -> &mut Self {
        let vmim = self.vmims.entry(uid.to_owned()).or_insert_with(|| {
            json!({
                "metadata": {"namespace": "ns", "name": "move", "uid": uid, "creationTimestamp": "2026-01-02T00:00:00Z"},
                "spec": {"vmiName": "vm1"},
            })
        });
        vmim["status"]["phase"] = json!(phase);
        self
    }

    /// Changes the virtual machine instance, by a JSON merge at `/status`.
    pub fn status(&mut self, change: &Value) -> &mut Self {
        if let Some(vmi) = &mut self.vmi {
            merge(&mut vmi["status"], change);
        }
        self
    }

    /// The hand-off: a new `migrationState`.
    pub fn hand_off(&mut self, uid: &str, source: (&str, &str), target: (&str, &str)) -> &mut Self {
        let vmi = self.vmi.as_mut().unwrap();
        vmi["status"]["migrationState"] = json!({
            "migrationUid": uid, "sourceNode": source.1, "sourcePod": source.0,
            "targetNode": target.1, "targetPod": target.0,
        });
        self
    }

    /// Changes the present `migrationState`.
    pub fn state(&mut self, change: &Value) -> &mut Self {
        self.status(&json!({ "migrationState": change }))
    }
}

fn merge(value: &mut Value, change: &Value) {
    match change {
        Value::Object(fields) => {
            for (key, change) in fields {
                merge(&mut value[key], change);
            }
        }
        other => *value = other.clone(),
    }
}

/// Three nodes whose chassis have names of their own.
pub fn nodes() -> Nodes {
    Nodes::new([("c1", "n1"), ("c2", "n2"), ("c3", "n3")])
}

/// The objects, by name.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub objects: BTreeMap<String, Object>,
    pub options: Options,
}

#[derive(Debug, Clone)]
pub struct Object {
    pub migration: String,
    pub spec: Spec,
    pub ended: bool,
}

impl Store {
    /// What is intended for one migration, carried out. Nothing ever goes back.
    pub fn turn(&mut self, api: &Api, uid: &str) -> Intent {
        let vmim = api.vmims.get(uid).and_then(Vmim::decode);
        let vmi = api.vmi.as_ref().and_then(Vmi::decode);
        let pods: Vec<Pod> = api.pods.values().filter_map(Pod::decode).collect();
        let created: Timestamp = "2026-01-02T00:00:01Z".parse().unwrap();
        let objects: Vec<Existing<'_>> = self
            .objects
            .iter()
            .map(|(name, object)| Existing {
                name,
                migration: &object.migration,
                spec: &object.spec,
                created,
                ended: object.ended,
            })
            .collect();
        let seen = Seen {
            uid,
            vmim: vmim.as_ref(),
            vmi: vmi.as_ref(),
            pods: &pods.iter().collect::<Vec<_>>(),
            objects: &objects,
            begun: false,
            nodes: &nodes(),
        };
        let intent = intent(&seen, self.options);
        for wanted in &intent.objects {
            let was = self.objects.get(&wanted.name);
            if let Some(Object { spec: was, .. }) = was {
                let kept = Spec { to: was.to.clone(), want: was.want, ..wanted.spec.clone() };
                assert_eq!(kept, *was, "only `to` and `want` may change");
                assert!(was.to.is_none() || was.to == wanted.spec.to, "{was:?} -> {:?}", wanted.spec);
                assert!(rank(wanted.spec.want) >= rank(was.want), "{was:?} -> {:?}", wanted.spec);
            }
            let object = Object { migration: uid.to_owned(), spec: wanted.spec.clone(), ended: false };
            self.objects.insert(wanted.name.clone(), object);
        }
        intent
    }

    /// The only object's `spec`.
    pub fn spec(&self) -> &Spec {
        let [object] = self.objects.values().collect::<Vec<_>>()[..] else { panic!("{:?}", self.objects) };
        &object.spec
    }

    pub fn want(&self) -> Want {
        self.spec().want
    }
}

pub fn rank(want: Want) -> usize {
    [Want::Complete, Want::Abort, Want::Activate, Want::Return].iter().position(|w| *w == want).unwrap()
}

/// The reasons why nothing is done, in order.
pub fn labels(intent: &Intent) -> Vec<&'static str> {
    intent.left_alone.iter().map(|left| left.why.label()).collect()
}
