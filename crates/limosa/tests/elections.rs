//! The program itself on a real API server: several controllers of which one works, and the verbs.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use limosa_lab::kube::{ApiServer, limosa, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::sync::OnceCell;

const LIMOSA: &str = env!("CARGO_BIN_EXE_limosa");
const DEFINITION: &str = include_str!("../../../charts/limosa/crds/portmigrations.yaml");
const DEADLINE: Duration = Duration::from_secs(60);

/// A client of the server that all tests share, with the definition there.
async fn prepared(server: &ApiServer) -> Client {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    let client = server.client().await.unwrap();
    PREPARED.get_or_init(async || limosa::install(&client).await.unwrap()).await;
    client
}

fn objects(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("limosa.io", "v1alpha1", "PortMigration");
    Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk_with_plural(&kind, "portmigrations"))
}

async fn create(objects: &Api<DynamicObject>, name: &str) {
    let object = json!({
        "apiVersion": "limosa.io/v1alpha1", "kind": "PortMigration", "metadata": { "name": name },
        "spec": { "port": name, "from": "a", "to": "b" },
    });
    let object = serde_json::from_value(object).unwrap();
    objects.create(&PostParams::default(), &object).await.unwrap();
}

/// Who has written the progress that the object shows; there are no databases, and the controller says so.
async fn told(objects: &Api<DynamicObject>, name: &str) -> DynamicObject {
    let told = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data.to_string().contains("DatabaseUnreachable"))
    };
    wait_for(objects, name, "be told of", told).await.unwrap().unwrap()
}

/// Ends with the test.
struct Controller {
    child: Child,
    log: std::path::PathBuf,
}

impl Controller {
    fn start(dir: &Path, kubeconfig: &Path, name: &str) -> Self {
        let log = dir.join(format!("{name}.log"));
        let nowhere = format!("unix:{}", dir.join("no-database").display());
        let child = Command::new(LIMOSA)
            .args(["controller", "--kubernetes", "--nb", &nowhere, "--sb", &nowhere])
            .args(["--lease-duration", "4", "--lease-renew-deadline", "3", "--lease-retry", "0.25"])
            .env("KUBECONFIG", kubeconfig)
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has logged something; nothing else says that it has noticed.
    async fn logged(&self, what: &str) {
        let read = async {
            while !std::fs::read_to_string(&self.log).unwrap().contains(what) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let logged = tokio::time::timeout(DEADLINE, read).await;
        assert!(logged.is_ok(), "{what:?} is not in {}", std::fs::read_to_string(&self.log).unwrap());
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_controller_that_wakes_up_after_its_time_writes_nothing() {
    let server = ApiServer::shared().await.unwrap();
    let client = prepared(server).await;
    let dir = tempfile::tempdir().unwrap();
    let objects = objects(&client);
    let leases: Api<Lease> = Api::default_namespaced(client);

    let first = Controller::start(dir.path(), &server.kubeconfig(), "first");
    first.logged("this controller leads").await;
    let second = Controller::start(dir.path(), &server.kubeconfig(), "second");
    second.logged("this controller stands by").await;
    create(&objects, "one").await;
    told(&objects, "one").await;
    let lease = leases.get("limosa-controller").await.unwrap().spec.unwrap();

    first.signal(Signal::STOP);
    second.logged("this controller leads").await;
    create(&objects, "two").await;
    let before = [told(&objects, "one").await, told(&objects, "two").await];
    let next = leases.get("limosa-controller").await.unwrap().spec.unwrap();
    assert_ne!(next.holder_identity, lease.holder_identity);
    assert!(next.lease_transitions > lease.lease_transitions, "{next:?}");

    // It wakes with an object before its eyes that it has never seen.
    create(&objects, "three").await;
    let three = told(&objects, "three").await;
    first.signal(Signal::CONT);
    first.logged("the lease is lost").await;
    create(&objects, "four").await;
    told(&objects, "four").await;
    for object in before.iter().chain([&three]) {
        let now = objects.get(object.metadata.name.as_deref().unwrap()).await.unwrap();
        assert_eq!(now.metadata.resource_version, object.metadata.resource_version);
    }

    // A controller that ends hands the lease back: with what it had left to run this would take seconds.
    second.signal(Signal::TERM);
    let handed_back = |lease: Option<&Lease>| {
        let holder = lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
        holder.is_some() && holder != next.holder_identity
    };
    wait_for(&leases, "limosa-controller", "be handed back", handed_back).await.unwrap();
    create(&objects, "five").await;
    told(&objects, "five").await;
}

#[tokio::test]
async fn the_verbs_work_on_the_cluster() {
    let server = ApiServer::shared().await.unwrap();
    let client = prepared(server).await;
    let limosa = async |args: &[&str]| -> Output {
        let (args, kubeconfig): (Vec<String>, _) =
            (args.iter().map(|&arg| arg.to_owned()).collect(), server.kubeconfig());
        let run = move || Command::new(LIMOSA).args(args).env("KUBECONFIG", kubeconfig).output().unwrap();
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    let text = |output: &Output| {
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
    };
    let definition = limosa(&["crd"]).await;
    assert_eq!(text(&definition), DEFINITION);
    let kubernetes = ["--kubernetes", "-n", "default"];
    let migrate = ["migrate", "port9", "--from", "a", "--to", "b", "--name", "move9"];
    let made = limosa(&[&migrate[..], &kubernetes].concat()).await;
    assert!(made.status.success(), "{}", text(&made));
    assert!(text(&made).starts_with("default/move9: port9 from a to b"), "{}", text(&made));
    let again = limosa(&[&migrate[..], &kubernetes].concat()).await;
    assert!(text(&again).contains("exists already"), "{}", text(&again));
    for name in [&["status"][..], &["status", "move9"], &["status", "default/move9"]] {
        let status = limosa(&[name, &["--kubernetes"]].concat()).await;
        assert!(status.status.success() && text(&status).contains("default/move9"), "{}", text(&status));
    }
    let abort = limosa(&["abort", "move9", "--kubernetes"]).await;
    assert!(abort.status.success(), "{}", text(&abort));
    assert_eq!(objects(&client).get("move9").await.unwrap().data["spec"]["want"], "Abort");
    let wait = limosa(&["wait", "move9", "--timeout", "0.1", "--kubernetes"]).await;
    assert!(!wait.status.success() && text(&wait).contains("still in phase Pending"), "{}", text(&wait));
    let both = limosa(&["status", "--kubernetes", "--store", "/tmp"]).await;
    assert!(text(&both).contains("cannot be used with"), "{}", text(&both));
}
