//! A real API server with the definition and the chart's rules, for the tests of whatever writes objects.

use jiff::Timestamp;
use kube::Config;
use kube::config::Kubeconfig;
pub(crate) use limosa_lab::kube::limosa::{AGENT, CONTROLLER};
use limosa_lab::kube::{ApiServer, apply, limosa};
use limosa_protocol::object::{
    ConditionType, Guest, Phase, Problem, Role, Spec, Step, Truth, to_microseconds,
};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

use super::*;

/// Puts the definition there, and what agents and controllers may do.
pub(crate) async fn prepare(server: &ApiServer) {
    limosa::install(&server.client().await.unwrap()).await.unwrap();
}

async fn make_namespace(client: &Client, name: &str) {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    apply(client, &namespace.to_string()).await.unwrap();
}

/// One server for all tests that leave it running.
pub(crate) async fn shared() -> &'static ApiServer {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    let server = ApiServer::shared().await.unwrap();
    PREPARED.get_or_init(|| prepare(server)).await;
    server
}

pub(crate) async fn store(server: &ApiServer, user: &str, namespace: &str, which: Which) -> Kubernetes {
    // The file of a user is written anew each time.
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    let kubeconfig = Some(server.kubeconfig_for(user).await.unwrap());
    let access = Access { kubeconfig, namespace: Some(namespace.to_owned()) };
    Kubernetes::open(&access, which).await.unwrap()
}

pub(crate) async fn admin(server: &ApiServer, namespace: &str) -> (Client, Api<DynamicObject>) {
    let client = server.client().await.unwrap();
    make_namespace(&client, namespace).await;
    let api = Api::namespaced_with(client.clone(), namespace, &resource());
    (client, api)
}

pub(crate) fn migration(name: &str) -> Migration {
    let guest = Guest { vm: "vm1".into(), nic: "default".into(), migration: name.to_owned() };
    let spec = Spec { guest: Some(guest), ..Spec::new("vm1.ns", "node1", None) };
    Migration::new(name.to_owned(), Uuid::nil(), spec, Timestamp::UNIX_EPOCH)
}

pub(crate) fn node(role: Role, steps: &[Step]) -> NodeStatus {
    let mut status = NodeStatus::new(role);
    for step in steps {
        status.take(*step, Timestamp::UNIX_EPOCH);
    }
    status
}

pub(crate) fn progress(migration: &Migration, phase: Phase) -> Progress {
    let mut progress = migration.status.progress.clone();
    let now = to_microseconds(Timestamp::now());
    progress.enter(phase, now);
    progress.set_condition(ConditionType::Progressing, Truth::True, Problem::new("Test", "goes on"), now);
    progress
}

/// Waits until the store shows `name` (or not) as it should be.
pub(crate) async fn until(store: &dyn Store, name: &str, what: impl Fn(Option<&Migration>) -> bool) {
    let mut watch = store.watch();
    let wait = watch.wait_for(|snapshot| what(snapshot.migrations.get(name)));
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok();
    assert!(waited, "the store shows {:?}", store.watch().borrow());
}

/// The store behind an API server of our own, over its JSON gateway.
pub(crate) struct Etcd(Client);

impl Etcd {
    pub(crate) fn behind(server: &ApiServer) -> Self {
        let config = Kubeconfig::read_from(server.kubeconfig()).unwrap();
        let address = config.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
        let address = address.replace("https:", "http:").replace(":6443", ":2379");
        Self(Client::try_from(Config::new(address.parse().unwrap())).unwrap())
    }

    async fn ask(&self, what: &str, body: Value) -> Value {
        let request =
            http::Request::post(format!("/v3/kv/{what}")).body(body.to_string().into_bytes()).unwrap();
        self.0.request(request).await.unwrap()
    }

    /// Deletes an object without anybody's knowing.
    pub(crate) async fn delete(&self, key: &str) {
        let answer = self.ask("deleterange", json!({ "key": base64(key) })).await;
        assert_eq!(answer["deleted"], "1", "{answer}");
    }

    /// Forgets all that has ever been but is no more.
    pub(crate) async fn compact(&self) {
        let now = self.ask("range", json!({ "key": base64("/") })).await;
        self.ask("compaction", json!({ "revision": now["header"]["revision"], "physical": true })).await;
    }

    /// How often an object has been written.
    pub(crate) async fn versions(&self, key: &str) -> Value {
        self.ask("range", json!({ "key": base64(key) })).await["kvs"][0]["version"].clone()
    }
}

fn base64(text: &str) -> Value {
    json!(k8s_openapi::ByteString(text.as_bytes().to_vec()))
}
