//! A cluster of three real `ovsdb-server`s, whose every wire goes through a [`Link`].
//!
//! The RAFT address of server n is `unix:raft<n>`, which each server looks up in a directory of its own
//! (`OVS_RUNDIR`): in its own directory it is the socket on which it listens, in that of another the near end
//! of the link to it. So nothing depends on free ports.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::link::Link;

pub(crate) const SERVERS: usize = 3;

/// How long anything may take before the test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at a thing that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a follower waits for its leader, in milliseconds.
const ELECTION_TIMER: u32 = 500;

/// The rows of a table by UUID, their columns by name.
pub(crate) type Rows = BTreeMap<String, BTreeMap<String, Value>>;

pub(crate) struct Cluster {
    dir: TempDir,
    database: String,
    servers: Vec<Server>,
    /// By the two servers that a link joins: who connects, and to whom.
    peers: BTreeMap<(usize, usize), Link>,
}

struct Server {
    /// Its run directory.
    dir: PathBuf,
    child: Option<Child>,
    /// From the clients to it.
    link: Link,
    port: u16,
}

impl Cluster {
    pub(crate) async fn start(schema: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut servers = Vec::new();
        for n in 0..SERVERS {
            let dir = dir.path().join(n.to_string());
            std::fs::create_dir(&dir).unwrap();
            let (link, port) = Link::tcp(dir.join("db.sock")).await;
            servers.push(Server { dir, child: None, link, port });
        }
        let mut peers = BTreeMap::new();
        for (from, to) in pairs() {
            let link = Link::unix(&servers[from].dir.join(raft(to)), servers[to].dir.join(raft(to)));
            peers.insert((from, to), link);
        }
        let database = schema["name"].as_str().unwrap().to_owned();
        let mut cluster = Self { dir, database, servers, peers };
        cluster.create(schema).await;
        for n in 0..SERVERS {
            cluster.start_server(n).await;
            cluster.joined(n).await;
        }
        cluster
    }

    async fn create(&self, schema: &Value) {
        let file = self.dir.path().join("schema");
        std::fs::write(&file, schema.to_string()).unwrap();
        let address = |n: usize| format!("unix:{}", raft(n));
        let timer = format!("--election-timer={ELECTION_TIMER}");
        for (n, server) in self.servers.iter().enumerate() {
            let db = server.dir.join("db");
            let mut command = Command::new("ovsdb-tool");
            if n == 0 {
                command.arg(&timer).arg("create-cluster").arg(db).arg(&file).arg(address(n));
            } else {
                command.arg("join-cluster").arg(db).arg(&self.database).args([address(n), address(0)]);
            }
            run(&mut command).await;
        }
    }

    /// All of them, for a session: `first` is the one that it tries first.
    pub(crate) fn remotes(&self, first: usize) -> String {
        let ports = (0..SERVERS).map(|n| self.servers[(first + n) % SERVERS].port);
        ports.map(|port| format!("tcp:127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// Starts a server that does not run; it listens when this returns.
    pub(crate) async fn start_server(&mut self, n: usize) {
        let server = &mut self.servers[n];
        let _ = std::fs::remove_file(server.dir.join("db.sock"));
        let child = Command::new("ovsdb-server")
            .arg(server.dir.join("db"))
            .arg("--remote=punix:db.sock")
            .arg(format!("--unixctl={}", server.dir.join("ctl").display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .arg(format!("--log-file={}", server.dir.join("log").display()))
            .env("OVS_RUNDIR", &server.dir)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("ovsdb-server: install openvswitch-switch");
        server.child = Some(child);
        let socket = server.dir.join("db.sock");
        let listens = async {
            while UnixStream::connect(&socket).await.is_err() {
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(DEADLINE, listens).await.unwrap_or_else(|_| panic!("server {n} does not listen"));
    }

    /// Ends a server as a loss of power does.
    pub(crate) async fn kill(&mut self, n: usize) {
        self.servers[n].child.take().expect("the server runs").kill().await.unwrap();
    }

    /// Stops a server without ending it, as an overloaded machine does.
    pub(crate) async fn freeze(&self, n: usize) {
        self.signal(n, "-STOP").await;
    }

    pub(crate) async fn thaw(&self, n: usize) {
        self.signal(n, "-CONT").await;
    }

    async fn signal(&self, n: usize, signal: &str) {
        let pid = self.servers[n].child.as_ref().and_then(Child::id).expect("the server runs");
        run(Command::new("kill").arg(signal).arg(pid.to_string())).await;
    }

    /// Takes the links between a server and the others down, or up again.
    pub(crate) fn link_peers(&self, n: usize, up: bool) {
        for ((from, to), link) in &self.peers {
            if *from == n || *to == n {
                link.set(up);
            }
        }
    }

    /// The same, of its link to the clients.
    pub(crate) fn link_clients(&self, n: usize, up: bool) {
        self.servers[n].link.set(up);
    }

    /// Connections that clients have tried to make.
    pub(crate) fn attempts(&self) -> usize {
        self.servers.iter().map(|server| server.link.attempts()).sum()
    }

    /// Those of them that went on where the session had been before.
    pub(crate) fn resumed(&self) -> usize {
        self.servers.iter().map(|server| server.link.resumed()).sum()
    }

    /// Waits for a server, and not `but`, that says it leads.
    pub(crate) async fn leader(&self, but: Option<usize>) -> usize {
        let found = async {
            loop {
                for n in (0..SERVERS).filter(|n| Some(*n) != but) {
                    if self.status(n).await.contains("Role: leader") {
                        return n;
                    }
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("no leader"))
    }

    /// Waits until a server is a part of the cluster and follows its leader, or leads.
    pub(crate) async fn joined(&self, n: usize) {
        let joined = async {
            loop {
                let status = self.status(n).await;
                let member = status.contains("Status: cluster member");
                if member && !status.contains("Leader: unknown") {
                    return;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(DEADLINE, joined).await.unwrap_or_else(|_| panic!("server {n} does not join"));
    }

    /// What it says of itself; nothing when it cannot be asked.
    async fn status(&self, n: usize) -> String {
        let output = Command::new("ovs-appctl")
            .args(["--timeout=5", "-t"])
            .arg(self.servers[n].dir.join("ctl"))
            .args(["cluster/status", &self.database])
            .output()
            .await
            .expect("ovs-appctl: install openvswitch-switch");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A table as `ovsdb-client dump` prints it.
    pub(crate) async fn dump(&self, n: usize, table: &str) -> Rows {
        let mut command = Command::new("ovsdb-client");
        let socket = format!("unix:{}", self.servers[n].dir.join("db.sock").display());
        command.args(["--timeout=20", "--format=json", "dump", &socket, &self.database, table]);
        let json: Value = serde_json::from_str(&run(&mut command).await).unwrap();
        let headings = json["headings"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        let headings: Vec<&str> = headings.collect();
        let row = |cells: &Value| {
            let cells = cells.as_array().unwrap().iter().cloned();
            let mut row: BTreeMap<String, Value> =
                headings.iter().map(|name| (*name).to_owned()).zip(cells).collect();
            (row.remove("_uuid").unwrap()[1].as_str().unwrap().to_owned(), row)
        };
        json["data"].as_array().unwrap().iter().map(row).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("the servers' logs: {}/*/log", self.dir.path().display());
        }
    }
}

fn raft(n: usize) -> String {
    format!("raft{n}")
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..SERVERS).flat_map(|a| (0..SERVERS).map(move |b| (a, b))).filter(|(a, b)| a != b)
}

/// Runs a program to its end; returns what it printed.
async fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().await;
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; install openvswitch-switch"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
