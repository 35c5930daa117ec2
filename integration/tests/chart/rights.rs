//! Nobody may do more than he needs: without any one of the permissions that the chart grants, something is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use limosa_lab::demo::Limosa;
use limosa_lab::kube::kubevirt::{self, Binding, Guest, GuestSpec, Nic, Script, Step};
use limosa_lab::kube::limosa::{NAMESPACE, install_rights};
use limosa_lab::kube::{ApiServer, apply, fresh_namespace};
use limosa_lab::{Lab, LabOptions, LabProcess, LogicalPort, OUTSIDE};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// Role, resource, verb, and what there is not without it.
const NEEDED: [[&str; 4]; 26] = [
    ["limosa-agent", "portmigrations", "get", "no word of why a report is not taken"],
    ["limosa-agent", "portmigrations", "list", "no store for the agent"],
    ["limosa-agent", "portmigrations", "watch", "no news of migrations for the agent"],
    ["limosa-agent", "portmigrations/status", "patch", "no report of a chassis"],
    ["limosa-controller", "portmigrations", "get", "no target for a migration that began without one"],
    ["limosa-controller", "portmigrations", "list", "no store for the controller"],
    ["limosa-controller", "portmigrations", "watch", "no news of migrations for the controller"],
    ["limosa-controller", "portmigrations", "create", "no migration of KubeVirt's carried out"],
    ["limosa-controller", "portmigrations", "patch", "no finalizer, so nothing begun"],
    ["limosa-controller", "portmigrations", "delete", "no end of what has ended"],
    ["limosa-controller", "portmigrations/status", "patch", "no progress"],
    ["limosa-controller", "virtualmachineinstancemigrations", "list", "no migration of KubeVirt's seen"],
    ["limosa-controller", "virtualmachineinstancemigrations", "watch", "no new migration of KubeVirt's seen"],
    ["limosa-controller", "virtualmachineinstances", "list", "no guest seen"],
    ["limosa-controller", "virtualmachineinstances", "watch", "no change of a guest seen"],
    ["limosa-controller", "pods", "list", "no pod seen"],
    ["limosa-controller", "pods", "watch", "no new pod seen"],
    ["limosa-controller", "events", "create", "no event"],
    ["limosa-controller", "events", "patch", "no count of events that come again"],
    ["limosa-controller-lease", "leases", "create", "no first leader"],
    ["limosa-controller-lease", "leases", "get", "no leader known"],
    ["limosa-controller-lease", "leases", "update", "no leader for longer than a lease"],
    ["limosa-operator", "portmigrations", "get", "no migration taken back"],
    ["limosa-operator", "portmigrations", "list", "no store for the verbs"],
    ["limosa-operator", "portmigrations", "watch", "no end of the drain"],
    ["limosa-operator", "portmigrations", "patch", "no migration asked to be taken back"],
];

/// Resources and verbs of a role, one by one.
fn singles(role: &Value) -> Vec<(String, String, Value)> {
    let mut singles = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        for resource in rule["resources"].as_array().unwrap() {
            for verb in rule["verbs"].as_array().unwrap() {
                let mut single = rule.clone();
                single["resources"] = json!([resource]);
                single["verbs"] = json!([verb]);
                singles.push((
                    resource.as_str().unwrap().to_owned(),
                    verb.as_str().unwrap().to_owned(),
                    single,
                ));
            }
        }
    }
    singles
}

fn role_name(role: &Value) -> &str {
    role["metadata"]["name"].as_str().unwrap()
}

struct Stage {
    server: ApiServer,
    client: Client,
    lab: Lab,
}

impl Stage {
    /// Lets a role be what the chart makes it, with or without one permission, and waits until that counts.
    async fn grant(&self, role: &Value, resource: &str, verb: &str, all: bool) {
        let mut object = role.clone();
        let kept =
            singles(role).into_iter().filter(|(r, v, _)| all || (r.as_str(), v.as_str()) != (resource, verb));
        object["rules"] = kept.map(|(.., rule)| rule).collect();
        apply(&self.client, &object.to_string()).await.unwrap();
        // The server reads roles through a cache of its own.
        let account = role_name(role).trim_end_matches("-lease");
        let (name, sub) = resource.split_once('/').map_or((resource, None), |(name, sub)| (name, Some(sub)));
        let group = match name {
            "portmigrations" => "limosa.io",
            "pods" => "",
            "events" => "events.k8s.io",
            "leases" => "coordination.k8s.io",
            _ => "kubevirt.io",
        };
        let of_leases = name == "leases" && verb != "create";
        let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": format!("system:serviceaccount:{NAMESPACE}:{account}"),
            "resourceAttributes": {
                "group": group, "resource": name, "subresource": sub, "verb": verb, "namespace": NAMESPACE,
                "name": of_leases.then_some("limosa-controller"),
            },
        } });
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let counts = async {
            while reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
                != all
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, counts).await.unwrap_or_else(|_| panic!("{account}, {verb} {resource}: not {all}"));
    }

    async fn run(&self, account: &str, args: &[&str]) -> LabProcess {
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        let mut command = Command::new(Limosa::binary().unwrap());
        // Events are not worth a line otherwise.
        command.args(args).args(["--kubernetes", "--kubeconfig"]);
        command.arg(self.server.kubeconfig_for(&user).await.unwrap()).env("LIMOSA_LOG", "info,limosa=debug");
        self.lab.spawn_in(OUTSIDE, &command).await.unwrap()
    }

    fn objects(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("limosa.io", "v1alpha1", "PortMigration");
        let resource = ApiResource::from_gvk_with_plural(&kind, "portmigrations");
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    async fn object(&self, namespace: &str, name: &str, status: Option<Value>) {
        let object = json!({
            "apiVersion": "limosa.io/v1alpha1", "kind": "PortMigration",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "port": name, "from": "ch1", "to": "ch2" },
        });
        apply(&self.client, &object.to_string()).await.unwrap();
        if let Some(status) = status {
            let patch = Patch::Merge(json!({ "status": status }));
            self.objects(namespace).patch_status(name, &PatchParams::default(), &patch).await.unwrap();
        }
    }

    /// Everything that an agent does with the API.
    async fn agent(&self, namespace: &str) -> LabProcess {
        let subject = json!({ "mac": "02:00:00:00:01:01", "datapathKey": 1, "portKey": 1 });
        let begun = json!({ "phase": "Arming", "number": 7, "subject": subject });
        self.object(namespace, "lacking", Some(begun.clone())).await;
        let mut whole = begun;
        whole["nodes"] = json!({});
        self.object(namespace, "whole", Some(whole)).await;
        let rundir = self.lab.chassis("ch1").ovs_rundir().to_string_lossy().into_owned();
        self.run("limosa-agent", &["agent", "--namespace", namespace, "--ovs-rundir", &rundir]).await
    }

    /// What `helm uninstall` does.
    async fn operator(&self, namespace: &str) -> LabProcess {
        self.object(namespace, "under-way", None).await;
        self.run("limosa-operator", &["drain", "--abort", "--timeout", "30", "--namespace", namespace]).await
    }

    async fn controller(&self, namespace: &str) -> LabProcess {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        // There is none at first, or it belongs to somebody who is no more.
        drop(leases.delete("limosa-controller", &Default::default()).await);
        self.object(namespace, "no-such-port", None).await;
        let (nb, sb) = (self.lab.nb(), self.lab.sb());
        let args = ["controller", "--nb", &nb, "--sb", &sb, "--namespace", namespace, "--retain", "0"];
        let lease =
            ["--lease-namespace", NAMESPACE, "--lease-duration", "2", "--lease-renew-deadline", "1.5"];
        self.run("limosa-controller", &[&args[..], &lease, &["--lease-retry", "0.5"]].concat()).await
    }

    /// What makes a controller do all that it can do.
    async fn give_work(&self, namespace: &str) {
        let port = ("limosa.io/logical-port", "vm1");
        let nic = Nic::new("default", Binding::Bridge, "02:00:00:00:01:01").ip("192.168.7.10");
        let spec = GuestSpec::new(namespace, "vm1", "ch1").nics([nic]).pod_annotation(port.0, port.1);
        let known = Guest::create(&self.client, spec).await.unwrap();
        let migration = known.migrate("move1", "ch2").annotated(port.0, port.1);
        migration.play(&Script::success().through(Step::Pending)).await.unwrap();
        let objects = self.objects(namespace);
        let made = |object: &DynamicObject| object.data["spec"]["port"] == "vm1";
        while !objects.list(&ListParams::default()).await.unwrap().items.iter().any(made) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        migration.play(&Script::success().after(Step::Pending).through(Step::DomainDetected)).await.unwrap();
        // What nobody understands is told of on the guest, once for each migration: the same event, twice.
        let nic = Nic::new("default", Binding::Plugin("strange".to_owned()), "02:00:00:00:01:02");
        let spec = GuestSpec::new(namespace, "vm2", "ch1").nics([nic]);
        let unknown = Guest::create(&self.client, spec).await.unwrap();
        for name in ["move2", "move3"] {
            unknown.migrate(name, "ch2").play(&Script::success().through(Step::Pending)).await.unwrap();
        }
        // What has ended is looked for once in a second, when something happens.
        for number in 0.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.object(namespace, &format!("later{number}"), None).await;
        }
    }
}

#[tokio::test]
async fn every_permission_is_needed() {
    let (server, lab) =
        tokio::join!(ApiServer::launch(), Lab::start(LabOptions { chassis: 2, ..LabOptions::default() }));
    let (server, lab) = (server.unwrap(), lab.unwrap());
    let client = server.client().await.unwrap();
    kubevirt::install(&client).await.unwrap();
    kubevirt::nodes(&client, &["ch1", "ch2"]).await.unwrap();
    lab.switch("ls0").await.unwrap();
    lab.port("ls0", LogicalPort::new("vm1", "02:00:00:00:01:01", "192.168.7.10")).await.unwrap();
    let stage = Stage { server, client, lab };

    let roles = Mutex::new(BTreeMap::new());
    install_rights(&stage.client, |role| {
        roles.lock().unwrap().insert(role_name(role).to_owned(), role.clone());
    })
    .await
    .unwrap();
    let roles = roles.into_inner().unwrap();
    let granted: BTreeSet<[String; 3]> = roles
        .iter()
        .flat_map(|(name, role)| {
            singles(role).into_iter().map(|(resource, verb, _)| [name.clone(), resource, verb])
        })
        .collect();
    let known = NEEDED.map(|[role, resource, verb, _]| [role, resource, verb].map(str::to_owned));
    assert_eq!(granted, known.into_iter().collect(), "the table is not what the chart grants");

    let mut needless = Vec::new();
    for [role, resource, verb, missing] in NEEDED {
        stage.grant(&roles[role], resource, verb, false).await;
        let namespace = fresh_namespace(&stage.client).await.unwrap();
        let process = match role {
            "limosa-agent" => stage.agent(&namespace).await,
            "limosa-operator" => stage.operator(&namespace).await,
            _ => stage.controller(&namespace).await,
        };
        let work = async {
            if role.starts_with("limosa-controller") {
                stage.give_work(&namespace).await;
            }
            std::future::pending::<()>().await;
        };
        // As the server says it: whoever has logged that has asked for it.
        let refusal = format!("cannot {verb} resource \"{resource}\"");
        let refused = async {
            while !process.log().replace('\\', "").contains(&refusal) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = work => {}
            refused = timeout(DEADLINE, refused) => if refused.is_err() {
                needless.push(format!("{role} does without {verb} {resource} ({missing}):\n{}", process.log()));
            }
        }
        process.kill(Signal::KILL).unwrap();
        process.wait_exit(DEADLINE).await.unwrap();
        stage.grant(&roles[role], resource, verb, true).await;
    }
    assert!(needless.is_empty(), "{}", needless.join("\n\n"));
}
