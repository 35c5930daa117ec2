//! Limosa as it runs on a cluster: KubeVirt's writes on a real API server, a
//! real guest on a real OVN, and agents and controller with no more rights than
//! the chart gives them.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use limosa_lab::demo::{Limosa, flows_of_ours, left_behind};
use limosa_lab::kube::kubevirt::{self, Binding, GuestSpec, Nic, Script, Step};
use limosa_lab::kube::{ApiServer, fresh_namespace, limosa, wait_for};
use limosa_lab::probe::Prober;
use limosa_lab::{Guest, Lab, LabOptions, LabProcess, LogicalPort, OUTSIDE};
use rustix::process::Signal;

const GUEST: &str = "192.168.7.10";
const GUEST_MAC: &str = "02:00:00:00:01:01";
/// How long the switch needs to let the first packet through, nanoseconds.
const RESUMED: i64 = 20_000_000;
const DEADLINE: Duration = Duration::from_secs(30);

/// A lab whose agents and controller work on an API server.
struct Cluster {
    server: &'static ApiServer,
    client: Client,
    namespace: String,
    lab: Lab,
    processes: Vec<LabProcess>,
}

impl Cluster {
    async fn new(chassis: usize) -> Self {
        let server = ApiServer::shared().await.unwrap();
        let client = server.client().await.unwrap();
        kubevirt::install(&client).await.unwrap();
        limosa::install(&client).await.unwrap();
        let namespace = fresh_namespace(&client).await.unwrap();
        let lab = Lab::start(LabOptions { chassis, ..LabOptions::default() }).await.unwrap();
        lab.peers().await.unwrap();
        lab.port("ls0", LogicalPort::new("vm1", GUEST_MAC, GUEST)).await.unwrap();
        let names: Vec<String> = lab.all_chassis().iter().map(|chassis| chassis.name().to_owned()).collect();
        kubevirt::nodes(&client, &names.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
        let mut cluster = Self { server, client, namespace, lab, processes: Vec::new() };
        let (nb, sb) = (cluster.lab.nb(), cluster.lab.sb());
        let lease = ["--lease-namespace", limosa::NAMESPACE, "--lease-name", &cluster.namespace.clone()];
        let databases = ["--nb", &nb, "--sb", &sb];
        cluster.run("controller", limosa::CONTROLLER, &[lease, databases].concat()).await;
        for name in names {
            let rundir = cluster.lab.chassis(&name).ovs_rundir().to_string_lossy().into_owned();
            cluster.run("agent", limosa::AGENT, &["--chassis", &name, "--ovs-rundir", &rundir]).await;
        }
        cluster
    }

    async fn run(&mut self, verb: &str, user: &str, args: &[&str]) {
        let kubeconfig = self.server.kubeconfig_for(user).await.unwrap();
        let mut command = Command::new(Limosa::binary().unwrap());
        command.args([verb, "--kubernetes", "--namespace", &self.namespace, "--kubeconfig"]).arg(kubeconfig);
        let process = self.lab.spawn_in(OUTSIDE, command.args(args)).await.unwrap();
        self.processes.push(process);
    }

    fn objects(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("limosa.io", "v1alpha1", "PortMigration");
        let resource = ApiResource::from_gvk_with_plural(&kind, "portmigrations");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// The object that was made for the only migration there is.
    async fn object(&self) -> String {
        let objects = self.objects();
        let made = async {
            loop {
                let list = objects.list(&ListParams::default()).await.unwrap();
                if let [object] = &list.items[..] {
                    return object.metadata.name.clone().unwrap();
                }
            }
        };
        tokio::time::timeout(DEADLINE, made).await.unwrap_or_else(|_| panic!("no object\n{}", self.logs()))
    }

    async fn reach(&self, name: &str, phase: &str) -> DynamicObject {
        let there = |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["status"]["phase"] == phase)
        };
        match wait_for(&self.objects(), name, phase, there).await {
            Ok(object) => object.unwrap(),
            Err(error) => panic!("{error:#}\n{}", self.logs()),
        }
    }

    fn logs(&self) -> String {
        self.processes.iter().map(LabProcess::log).collect::<Vec<_>>().join("\n--\n")
    }
}

#[tokio::test]
async fn a_guest_of_kubevirts_changes_nodes() {
    let cluster = Cluster::new(3).await;
    let (lab, client) = (&cluster.lab, &cluster.client);
    let options = lab.port_options("vm1").await.unwrap();
    let mut source = Guest::start(lab, "ch1", "vm1").await.unwrap();
    let nic = Nic::new("default", Binding::Bridge, GUEST_MAC).ip(GUEST);
    let spec = GuestSpec::new(&cluster.namespace, "vm1", "ch1")
        .nics([nic])
        .pod_annotation("limosa.io/logical-port", "vm1");
    let vmi = kubevirt::Guest::create(client, spec).await.unwrap();
    let prober = Prober::start(lab, "p3-ch3", GUEST, 500).await.unwrap();

    // Before there is a target the port is pinned.
    let migration = vmi.migrate("move1", "ch2").annotated("limosa.io/logical-port", "vm1");
    migration.play(&Script::success().through(Step::Pending)).await.unwrap();
    let name = cluster.object().await;
    cluster.reach(&name, "Pinning").await;
    let pinned = "options:requested-chassis=ch1";
    lab.nbctl(&["--timeout=30", "wait-until", "Logical_Switch_Port", "vm1", pinned]).await.unwrap();

    migration.play(&Script::success().after(Step::Pending).through(Step::DomainDetected)).await.unwrap();
    cluster.reach(&name, "Arming").await;
    let mut target = Guest::prepare_incoming(lab, "ch2", "vm1").await.unwrap();
    cluster.reach(&name, "Armed").await;
    limosa_lab::migrate(&mut source, &mut target).await.unwrap();
    cluster.reach(&name, "Released").await;
    migration.play(&Script::success().after(Step::DomainDetected)).await.unwrap();
    source.kill(Signal::KILL).await.unwrap();
    source.unplug(lab).await.unwrap();
    let object = cluster.reach(&name, "Completed").await;
    assert_eq!(object.data["spec"]["guest"]["vm"], "vm1", "{:#}", object.data);

    let probe = prober.finish().await.unwrap();
    // What is sent while the guest is stopped has nobody to arrive at.
    let activated: Timestamp = object.data["status"]["steps"]["Activated"].as_str().unwrap().parse().unwrap();
    let activated = probe.clock.monotonic_of(activated.as_nanosecond() as i64) + RESUMED;
    let arrived: BTreeSet<u64> = probe.arrivals.iter().map(|(number, _)| *number).collect();
    let sent = probe.sent.iter().zip(0..);
    let lost = sent.filter(|(at, number)| **at > activated && !arrived.contains(number));
    assert_eq!(lost.count(), 0, "packets to the guest on its target were lost");
    assert_eq!(left_behind(lab, "vm1", &options).await.unwrap(), [""; 0]);
    assert_eq!(lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch2"));
    assert!(flows_of_ours(&lab.dump_flows("ch2").await.unwrap()).is_empty());
}
