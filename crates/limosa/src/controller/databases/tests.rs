//! Against a real ovsdb-server with both of OVN's databases.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use limosa_protocol::object::Restore;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);
const PORT: &str = "vm1";

struct Server {
    dir: TempDir,
    running: Option<Running>,
}

/// Until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Server {
    /// Of the installed schemas without these columns of the southbound one.
    fn start(without: &[(&str, &str)]) -> Self {
        let mut server = Self { dir: tempfile::tempdir().unwrap(), running: None };
        for (name, without) in [("nb", [].as_slice()), ("sb", without)] {
            let installed = format!("/usr/share/ovn/ovn-{name}.ovsschema");
            let text = std::fs::read_to_string(&installed)
                .unwrap_or_else(|error| panic!("{installed}: {error}; install ovn-central"));
            let mut schema: Value = serde_json::from_str(&text).unwrap();
            schema.as_object_mut().unwrap().remove("cksum");
            for (table, column) in without {
                let columns = schema["tables"][table]["columns"].as_object_mut().unwrap();
                columns.remove(*column).expect("the schema has the column");
            }
            std::fs::write(server.path("schema"), schema.to_string()).unwrap();
            let db = server.path(name);
            run(Command::new("ovsdb-tool").arg("create").arg(db).arg(server.path("schema")));
        }
        server.restart();
        server.nbctl(&["init"]);
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Kills the server if it runs, and starts one on the same databases; it listens when this returns.
    fn restart(&mut self) {
        self.running = None;
        let server = Command::new("ovsdb-server")
            .args([self.path("nb"), self.path("sb")])
            .arg(format!("--remote=p{}", self.remote()))
            .arg(format!("--unixctl={}", self.path("ctl").display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .stdin(Stdio::null())
            .spawn();
        self.running = Some(Running(server.expect("ovsdb-server: install openvswitch-switch")));
        let deadline = Instant::now() + DEADLINE;
        while UnixStream::connect(self.path("sock")).is_err() {
            assert!(Instant::now() < deadline, "ovsdb-server does not listen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn remote(&self) -> String {
        format!("unix:{}", self.path("sock").display())
    }

    fn nbctl(&self, args: &[&str]) -> String {
        let db = format!("--db={}", self.remote());
        run(Command::new("ovn-nbctl").args(["--timeout=10", &db]).args(args))
    }

    /// The options of the port and its external_ids.
    fn port(&self) -> String {
        self.nbctl(&["get", "Logical_Switch_Port", PORT, "options", "external_ids"])
    }

    /// A controller's databases that follow the port.
    async fn databases(&self) -> Databases {
        let remotes = || self.remote().parse().unwrap();
        let mut databases = Databases::open(remotes(), remotes(), None);
        databases.ready().await;
        databases.follow(BTreeSet::from([PORT.to_owned()])).await.unwrap();
        databases
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; install ovn-central"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// With a port that has an option and an external_id of somebody else's.
fn server() -> Server {
    let server = Server::start(&[]);
    server.nbctl(&["ls-add", "ls0", "--", "lsp-add", "ls0", PORT]);
    let theirs = ["options:mcast_flood=true", "external_ids:owner=cms"];
    server.nbctl(&[["set", "Logical_Switch_Port", PORT].as_slice(), &theirs].concat());
    server
}

const THEIRS: &str = "{mcast_flood=\"true\"}\n{owner=cms}\n";

fn pin<'a>(port: &'a str, chassis: Option<&str>, mark: Mark<'a>) -> PortOptions<'a> {
    let options = Restore { requested_chassis: chassis.map(str::to_owned), activation_strategy: None };
    PortOptions { port, options, mark }
}

#[tokio::test]
async fn a_pin_says_whose_it_is_and_goes_without_a_trace() {
    let server = server();
    let databases = server.databases().await;
    let first = databases.set_options(&[pin(PORT, Some("hv1"), Mark::Set("m"))]).await.unwrap();
    let pinned = "{mcast_flood=\"true\", requested-chassis=hv1}\n{limosa-migration=m, owner=cms}\n";
    assert_eq!(server.port(), pinned);
    let port = &databases.view().ports[PORT];
    assert_eq!((port.requested_chassis.as_deref(), port.pinned_by.as_deref()), (Some("hv1"), Some("m")));
    let second = databases.set_options(&[pin(PORT, None, Mark::Clear("m"))]).await.unwrap();
    assert_eq!(second, first + 1);
    assert_eq!(server.port(), THEIRS);

    // The operator's own pin stays, and so does the mark of another migration.
    databases.set_options(&[pin(PORT, Some("hv2"), Mark::Set("m"))]).await.unwrap();
    databases.set_options(&[pin(PORT, Some("hv2"), Mark::Clear("other"))]).await.unwrap();
    assert_eq!(databases.view().ports[PORT].pinned_by.as_deref(), Some("m"));
    databases.set_options(&[pin(PORT, Some("hv2"), Mark::Clear("m"))]).await.unwrap();
    assert_eq!(server.port(), "{mcast_flood=\"true\", requested-chassis=hv2}\n{owner=cms}\n");

    let error = databases.set_options(&[pin("vm2", None, Mark::Clear("m"))]).await.unwrap_err();
    assert!(matches!(&error, WriteError::NoPort(port) if port == "vm2"), "{error}");
}

#[tokio::test]
async fn two_writers_do_not_overwrite_each_other_unseen() {
    let server = server();
    let databases = server.databases().await;
    for theirs in ["options:requested-chassis=hv9", "external_ids:limosa-migration=other"] {
        let seen = databases.switch_port(PORT).unwrap();
        server.nbctl(&["set", "Logical_Switch_Port", PORT, theirs]);
        let before = server.port();
        let error = databases.write(&[seen], &[pin(PORT, Some("hv1"), Mark::Set("m"))]).await.unwrap_err();
        assert!(matches!(error, WriteError::Changed(_)), "{error}");
        assert_eq!(server.port(), before);
    }
    // Once seen it is taken over. What else becomes of external_ids is no affair of ours.
    let seen = databases.switch_port(PORT).unwrap();
    server.nbctl(&["set", "Logical_Switch_Port", PORT, "external_ids:revision=2"]);
    databases.write(&[seen], &[pin(PORT, Some("hv1"), Mark::Set("m"))]).await.unwrap();
    assert!(server.port().contains("revision=\"2\""), "{}", server.port());
    assert_eq!(databases.view().ports[PORT].pinned_by.as_deref(), Some("m"));
}

#[tokio::test]
async fn a_port_says_for_which_namespace_it_was_made() {
    let server = server();
    let found = async || server.databases().await.view().ports[PORT].namespace.clone();
    assert_eq!(found().await, None);
    for (said, namespace) in [("pod=tenant-a/vm1", "tenant-a"), ("namespace=tenant-b", "tenant-b")] {
        server.nbctl(&["set", "Logical_Switch_Port", PORT, &format!("external_ids:{said}")]);
        assert_eq!(found().await.as_deref(), Some(namespace), "{said}");
    }
    server.nbctl(&["clear", "Logical_Switch_Port", PORT, "external_ids"]);
    server.nbctl(&["set", "Logical_Switch_Port", PORT, "external_ids:pod=true"]);
    assert_eq!(found().await, None);
}

#[tokio::test]
async fn many_ports_share_a_transaction_and_an_nb_cfg() {
    let server = server();
    server.nbctl(&["lsp-add", "ls0", "vm2", "--", "lsp-add", "ls0", "vm3"]);
    let mut databases = server.databases().await;
    let names = [PORT, "vm2", "vm3"];
    databases.follow(names.map(str::to_owned).into()).await.unwrap();
    let pins = |chassis| names.map(|port| pin(port, Some(chassis), Mark::Set("m")));
    let before: i64 = server.nbctl(&["get", "NB_Global", ".", "nb_cfg"]).trim().parse().unwrap();
    assert_eq!(databases.set_options(&pins("hv1")).await.unwrap(), before + 1);
    let pinned = |databases: &Databases| {
        let view = databases.view();
        names.map(|port| view.ports[port].requested_chassis.clone().unwrap())
    };
    assert_eq!(pinned(&databases), ["hv1"; 3]);

    // One that somebody else has changed holds all of them up, and which one is said.
    let seen = names.map(|port| databases.switch_port(port).unwrap());
    server.nbctl(&["set", "Logical_Switch_Port", "vm2", "options:requested-chassis=hv9"]);
    let error = databases.write(&seen, &pins("hv2")).await.unwrap_err();
    assert!(error.is_of_one_port() && error.to_string().contains("vm1 or vm2 or vm3"), "{error}");
    let now = server.nbctl(&["--bare", "--columns=name,options", "list", "Logical_Switch_Port"]);
    assert!(!now.contains("hv2") && now.contains("hv9"), "{now}");
    assert_eq!(server.nbctl(&["get", "NB_Global", ".", "nb_cfg"]).trim(), (before + 1).to_string());
}

fn fence(holder: &str, term: u64) -> Fence {
    Fence { holder: holder.to_owned(), term }
}

/// What the deposed one is told.
fn deposed<T: std::fmt::Debug>(result: Result<T, WriteError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, WriteError::Deposed { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn without_an_election_the_last_one_to_start_leads() {
    let server = server();
    let (mut old, mut new) = (server.databases().await, server.databases().await);
    let leader = || server.nbctl(&["get", "NB_Global", ".", "external_ids:limosa-leader"]);
    let pin =
        async |databases: &Databases| databases.set_options(&[pin(PORT, Some("hv1"), Mark::Set("m"))]).await;
    old.take_over("a".to_owned()).await.unwrap();
    pin(&old).await.unwrap();
    assert_eq!(leader(), "\"a/0\"\n");
    new.take_over("b".to_owned()).await.unwrap();
    let before = server.port();
    assert!(deposed(pin(&old).await).contains("limosa-leader is b/1, ours was a/0"));
    assert_eq!(server.port(), before);
    pin(&new).await.unwrap();

    // The holder of a lease comes after everyone; who starts later without one comes after it.
    let lease = 29_000_000;
    old.lead(fence("pod", lease)).await.unwrap();
    deposed(pin(&new).await);
    for starts in 1..=3 {
        new.take_over("c".to_owned()).await.unwrap();
        assert_eq!(leader(), format!("\"c/{}\"\n", lease + starts));
    }
    deposed(pin(&old).await);
    // It is not locked out for good: the lease has only to exceed what it was told.
    deposed(old.lead(fence("pod", lease + 1)).await);
    assert_eq!(old.later_term(), Some(lease + 3));
    old.lead(fence("pod", lease + 4)).await.unwrap();
    pin(&old).await.unwrap();

    // Neither is anyone by a term that no lease can exceed: that was nobody's.
    for (nonsense, next) in
        [("x/2147483647", "d/0"), ("x/18446744073709551615", "d/0"), ("x/2147483646", "d/2147483647")]
    {
        server.nbctl(&["set", "NB_Global", ".", &format!("external_ids:limosa-leader=\"{nonsense}\"")]);
        new.take_over("d".to_owned()).await.unwrap();
        assert_eq!(leader(), format!("\"{next}\"\n"));
    }
    old.lead(fence("pod", lease + 5)).await.unwrap();
    pin(&old).await.unwrap();
}

#[tokio::test]
async fn the_database_refuses_what_a_deposed_controller_writes() {
    let server = server();
    let (mut old, mut new) = (server.databases().await, server.databases().await);
    // Somebody's nonsense is no leader.
    server.nbctl(&["set", "NB_Global", ".", "external_ids:limosa-leader=nobody", "external_ids:a=b"]);
    old.lead(fence("pod/a", 9)).await.unwrap();
    old.lead(fence("pod/a", 9)).await.unwrap();
    old.set_options(&[pin(PORT, Some("hv1"), Mark::Set("m"))]).await.unwrap();
    let global = || server.nbctl(&["get", "NB_Global", ".", "external_ids", "nb_cfg"]);
    assert_eq!(global(), "{a=b, limosa-leader=\"pod/a/9\"}\n1\n");

    // By number, not by letter; and nobody else has the same one.
    for (holder, term) in [("b", 8), ("b", 9)] {
        let error = new.lead(fence(holder, term)).await.map(|()| 0);
        assert!(deposed(error).contains("is pod/a/9, ours was b/"));
    }
    new.lead(fence("b", 10)).await.unwrap();
    let before = server.port();
    let said = deposed(old.set_options(&[pin(PORT, Some("hv2"), Mark::Set("m"))]).await);
    assert!(said.contains("external_ids:limosa-leader is b/10, ours was pod/a/9"), "{said}");
    deposed(old.set_options(&[pin(PORT, None, Mark::Clear("m"))]).await);
    deposed(old.lead(fence("pod/a", 9)).await.map(|()| 0));
    assert_eq!(server.port(), before);
    assert_eq!(global(), "{a=b, limosa-leader=\"b/10\"}\n1\n");
    new.set_options(&[pin(PORT, None, Mark::Clear("m"))]).await.unwrap();
    assert_eq!(server.port(), THEIRS);

    // A leader whose mark is taken away does not go on either; it can lead again.
    server.nbctl(&["remove", "NB_Global", ".", "external_ids", "limosa-leader"]);
    let said = deposed(new.set_options(&[pin(PORT, Some("hv2"), Mark::Set("m"))]).await);
    assert!(said.contains("limosa-leader is gone"), "{said}");
    old.lead(fence("pod/a", 11)).await.unwrap();
    old.set_options(&[pin(PORT, Some("hv2"), Mark::Set("m"))]).await.unwrap();
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_column_that_ovn_lacks_is_said_once() {
    let log = Log::default();
    let to_log = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to_log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut server = Server::start(&[("Port_Binding", "additional_chassis")]);
    let insert = |op: &str| format!(r#"["OVN_Southbound",{op}]"#);
    let datapath = r#"{"op":"insert","table":"Datapath_Binding","uuid-name":"dp","row":{"tunnel_key":3}}"#;
    let port = r#"{"op":"insert","table":"Port_Binding",
        "row":{"logical_port":"vm1","tunnel_key":7,"datapath":["named-uuid","dp"]}}"#;
    let both = insert(&format!("{datapath},{port}"));
    run(Command::new("ovsdb-client").args(["--timeout=10", "transact", &server.remote(), &both]));
    let databases = server.databases().await;
    let mut replicas = databases.sb.subscribe();
    for connected in [false, true] {
        if connected {
            server.restart();
        } else {
            server.running = None;
        }
        let changed = timeout(DEADLINE, replicas.wait_for(|replica| replica.connected == connected)).await;
        changed.expect("the session notices").unwrap();
    }
    assert!(!databases.view().cluster.can_bind_twice);
    let binding = &databases.view().bindings[PORT];
    assert_eq!((binding.datapath_key, binding.port_key, binding.additional.len()), (3, 7, 0));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("additional_chassis").count(), 1, "{log}");
}
