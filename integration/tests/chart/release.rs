//! A release: installed by Helm on a real server, its containers run by us as they are written there, and uninstalled in
//! the middle of a migration.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use limosa_lab::demo::left_behind;
use limosa_lab::kube::kubevirt::{self, Binding, GuestSpec, Nic, Script, Step};
use limosa_lab::kube::limosa::{Container, NAMESPACE, chart, define, helm, run_job, run_pod};
use limosa_lab::kube::{ApiServer, apply, fresh_namespace, wait_for};
use limosa_lab::{Lab, LabOptions, LabProcess, LogicalPort, OUTSIDE};
use rustix::process::Signal;
use tokio::task::spawn_blocking;

const GUEST: &str = "192.168.7.10";
const GUEST_MAC: &str = "02:00:00:00:01:01";
const DEADLINE: Duration = Duration::from_secs(60);
/// Where the values say the databases are.
const NB: &str = "tcp:nb.example:6641";
const SB: &str = "tcp:sb.example:6642";

/// Helm on this server, beside everything else.
async fn helm_on(server: &ApiServer, args: &[&str]) -> anyhow::Result<String> {
    let kubeconfig = server.kubeconfig().to_string_lossy().into_owned();
    let place = ["--kubeconfig", &kubeconfig, "--namespace", NAMESPACE];
    let args: Vec<String> = args.iter().chain(&place).map(|arg| (*arg).to_owned()).collect();
    spawn_blocking(move || helm(args)).await.unwrap()
}

/// A release on a lab.
struct Release {
    server: ApiServer,
    client: Client,
    namespace: String,
    lab: Lab,
    agents: Vec<LabProcess>,
    controllers: Vec<LabProcess>,
}

impl Release {
    async fn new() -> Self {
        let (server, lab) =
            tokio::join!(ApiServer::launch(), Lab::start(LabOptions { chassis: 2, ..LabOptions::default() }));
        let (server, lab) = (server.unwrap(), lab.unwrap());
        let client = server.client().await.unwrap();
        kubevirt::install(&client).await.unwrap();
        kubevirt::nodes(&client, &["ch1", "ch2"]).await.unwrap();
        let (nb, sb) = (format!("ovn.nb={NB}"), format!("ovn.sb={SB}"));
        let chart = chart();
        let values = ["--set", "cni=plain", "--set", &nb, "--set", &sb];
        // This server is too old for Helm to define a resource there, which docs/install-kube-ovn.md says.
        define(&client).await.unwrap();
        let install = ["install", "limosa", chart.to_str().unwrap(), "--create-namespace", "--skip-crds"];
        helm_on(&server, &[&install[..], &values].concat()).await.unwrap();
        let namespace = fresh_namespace(&client).await.unwrap();
        let mut release =
            Self { server, client, namespace, lab, agents: Vec::new(), controllers: Vec::new() };
        release.run_everything().await;
        release
    }

    /// What the DaemonSet's and the Deployment's controllers and the kubelets would do.
    async fn run_everything(&mut self) {
        self.agents = vec![self.agent("ch1").await, self.agent("ch2").await];
        let controllers: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let controller = controllers.get("limosa-controller").await.unwrap().spec;
        assert_eq!(controller.replicas, Some(2));
        for _ in 0..2 {
            let container = Container::new(NAMESPACE, controller.template.spec.clone().unwrap())
                .with(NB, &self.lab.nb())
                .with(SB, &self.lab.sb())
                .with("0.0.0.0:9675", "127.0.0.1:0");
            let command = container.command(&self.server).await.unwrap();
            self.controllers.push(self.lab.spawn_in(OUTSIDE, &command).await.unwrap());
        }
    }

    async fn agent(&self, chassis: &str) -> LabProcess {
        let agents: Api<DaemonSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let agent = agents.get("limosa-agent").await.unwrap().spec.template.spec.unwrap();
        let rundir = self.lab.chassis(chassis).ovs_rundir().to_string_lossy().into_owned();
        let container = Container::new(NAMESPACE, agent)
            .with("/run/openvswitch", &rundir)
            .with("0.0.0.0:9675", "127.0.0.1:0");
        let command = container.command(&self.server).await.unwrap();
        self.lab.spawn_in(OUTSIDE, &command).await.unwrap()
    }

    fn objects(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("limosa.io", "v1alpha1", "PortMigration");
        let resource = ApiResource::from_gvk_with_plural(&kind, "portmigrations");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// A migration that a person asks for.
    async fn ask(&self, name: &str, port: &str, from: &str, to: &str) {
        let object = serde_json::json!({
            "apiVersion": "limosa.io/v1alpha1", "kind": "PortMigration",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": { "port": port, "from": from, "to": to },
        });
        apply(&self.client, &object.to_string()).await.unwrap();
    }

    /// Waits for the object of a migration that is the only one of its port under way.
    async fn reach(&self, port: &str, phase: &str) -> String {
        let objects = self.objects();
        let found = async {
            loop {
                let list = objects.list(&ListParams::default()).await.unwrap().items;
                let is_meant = |object: &&DynamicObject| {
                    let now = &object.data["status"]["phase"];
                    object.data["spec"]["port"] == port && (*now == phase || *now != "Completed")
                };
                if let Some(object) = list.iter().find(is_meant) {
                    return object.metadata.name.clone().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let name = tokio::time::timeout(DEADLINE, found)
            .await
            .unwrap_or_else(|_| panic!("no object\n{}", self.logs()));
        let there = |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["status"]["phase"] == phase)
        };
        if let Err(error) = wait_for(&objects, &name, phase, there).await {
            panic!("{error:#}\n{}", self.logs());
        }
        name
    }

    fn logs(&self) -> String {
        self.agents.iter().chain(&self.controllers).map(LabProcess::log).collect::<Vec<_>>().join("\n--\n")
    }
}

#[tokio::test]
async fn a_release_migrates_and_goes_in_mid_migration() {
    let release = Release::new().await;
    let (lab, client) = (&release.lab, &release.client);
    lab.switch("ls0").await.unwrap();
    lab.port("ls0", LogicalPort::new("vm1", GUEST_MAC, GUEST)).await.unwrap();
    let options = lab.port_options("vm1").await.unwrap();
    let source = lab.endpoint("ch1", "vm1").await.unwrap();
    let spec = GuestSpec::new(&release.namespace, "vm1", "ch1")
        .nics([Nic::new("default", Binding::Bridge, GUEST_MAC).ip(GUEST)])
        .pod_annotation("limosa.io/logical-port", "vm1");
    let vmi = kubevirt::Guest::create(client, spec).await.unwrap();

    // There, from end to end.
    let migration = vmi.migrate("move1", "ch2").annotated("limosa.io/logical-port", "vm1");
    migration.play(&Script::success().through(Step::DomainDetected)).await.unwrap();
    release.reach("vm1", "Arming").await;
    let target = lab.endpoint_unbound("ch2", "vm1").await.unwrap();
    release.reach("vm1", "Armed").await;
    // The DaemonSet is updated: the target's agent is asked to end, and sees the migration through first.
    let old = &release.agents[1];
    old.kill(Signal::TERM).unwrap();
    old.wait_log("asked to end", DEADLINE).await.unwrap();
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    release.reach("vm1", "Released").await;
    migration.play(&Script::success().after(Step::DomainDetected)).await.unwrap();
    source.remove(lab).await.unwrap();
    release.reach("vm1", "Completed").await;
    assert!(old.wait_exit(DEADLINE).await.unwrap().success(), "{}", old.log_tail());
    let new = release.agent("ch2").await;
    assert_eq!(left_behind(lab, "vm1", &options).await.unwrap(), [""; 0]);
    assert_eq!(lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch2"));
    let events: Api<Event> = Api::namespaced(client.clone(), &release.namespace);
    let told = events.list(&ListParams::default()).await.unwrap().items;
    assert!(told.iter().any(|event| event.reason.as_deref() == Some("NetworkSwitched")), "{told:?}");

    // What people run to see whether all is well.
    let (tested, said) = tokio::join!(
        helm_on(&release.server, &["test", "limosa"]),
        run_pod(&release.server, client, NAMESPACE, "limosa-test-status"),
    );
    tested.unwrap();
    assert!(said.unwrap().contains("Completed"));

    // Half of the way: somebody's own migration back, and another guest of KubeVirt's. Flows stand, ports are pinned.
    lab.port("ls0", LogicalPort::new("vm2", "02:00:00:00:01:02", "192.168.7.11")).await.unwrap();
    let other = lab.endpoint("ch1", "vm2").await.unwrap();
    let spec = GuestSpec::new(&release.namespace, "vm2", "ch1")
        .nics([Nic::new("default", Binding::Bridge, "02:00:00:00:01:02").ip("192.168.7.11")])
        .pod_annotation("limosa.io/logical-port", "vm2");
    let theirs = kubevirt::Guest::create(client, spec).await.unwrap();
    let theirs = theirs.migrate("move2", "ch2").annotated("limosa.io/logical-port", "vm2");
    theirs.play(&Script::success().through(Step::DomainDetected)).await.unwrap();
    release.ask("back", "vm1", "ch2", "ch1").await;
    let (back, there) = tokio::join!(release.reach("vm1", "Arming"), release.reach("vm2", "Arming"));
    let returning = lab.endpoint_unbound("ch1", "vm1").await.unwrap();
    let arriving = lab.endpoint_unbound("ch2", "vm2").await.unwrap();
    tokio::join!(release.reach("vm1", "Armed"), release.reach("vm2", "Armed"));
    assert_ne!(left_behind(lab, "vm1", &options).await.unwrap(), [""; 0]);
    let meanwhile = async {
        // The one is taken back, and whoever asked for it unplugs what he had plugged. The other is waited for.
        release.reach("vm1", "RollingBack").await;
        returning.remove(lab).await.unwrap();
        release.reach("vm1", "RolledBack").await;
        lab.send_rarp(&arriving.ns, "02:00:00:00:01:02").await.unwrap();
        release.reach("vm2", "Released").await;
        theirs.play(&Script::success().after(Step::DomainDetected)).await.unwrap();
        other.remove(lab).await.unwrap();
    };
    let (uninstalled, said, ()) = tokio::join!(
        helm_on(&release.server, &["uninstall", "limosa", "--timeout", "3m"]),
        run_job(&release.server, client, NAMESPACE, "limosa-drain"),
        meanwhile,
    );
    uninstalled.unwrap();
    let said = said.unwrap();
    let told = [back, there].iter().all(|name| said.contains(name.as_str()));
    assert!(told && said.ends_with("nothing is left of any migration\n"), "{said}");
    assert_eq!(left_behind(lab, "vm1", &options).await.unwrap(), [""; 0]);
    assert_eq!(left_behind(lab, "vm2", &options).await.unwrap(), [""; 0]);
    for port in ["vm1", "vm2"] {
        assert_eq!(lab.bound_to(port).await.unwrap().as_deref(), Some("ch2"), "{port}");
    }

    // Nothing of the release is left on the server, and what people keep is held by nobody.
    for process in [&release.agents[0], &new].into_iter().chain(&release.controllers) {
        process.kill(Signal::TERM).unwrap();
        assert!(process.wait_exit(DEADLINE).await.unwrap().success(), "{}", process.log_tail());
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    assert_eq!(names(&accounts).await, [""; 0]);
    assert_eq!(names(&Api::<DaemonSet>::namespaced(client.clone(), NAMESPACE)).await, [""; 0]);
    assert_eq!(names(&Api::<Deployment>::namespaced(client.clone(), NAMESPACE)).await, [""; 0]);
    assert_eq!(names(&Api::<ClusterRole>::all(client.clone())).await, [""; 0]);
    assert_eq!(names(&Api::<ClusterRoleBinding>::all(client.clone())).await, [""; 0]);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = "portmigrations.limosa.io";
    assert_eq!(release.objects().list(&ListParams::default()).await.unwrap().items.len(), 3);
    definitions.delete(definition, &Default::default()).await.unwrap();
    let gone = |object: Option<&CustomResourceDefinition>| object.is_none();
    wait_for(&definitions, definition, "be gone", gone).await.unwrap();
}

/// The names of what is Limosa's.
async fn names<K>(api: &Api<K>) -> Vec<String>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let list = api.list(&ListParams::default()).await.unwrap();
    let names = list.items.into_iter().filter_map(|object| object.meta().name.clone());
    names.filter(|name| name.contains("limosa")).collect()
}
