//! A cluster of real `ovsdb-server`s, whose every wire but TLS goes through a [`Link`].
//!
//! The RAFT address of server n is `unix:raft<n>`, which each server looks up in a directory of its own
//! (`OVS_RUNDIR`): in its own directory it is the socket on which it listens, in that of another the near end
//! of the link to it. So nothing depends on free ports.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::fixture::{DEADLINE, loopback_address, run, spawn_server};
use crate::link::Link;

/// Between two looks at a thing that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a follower waits for its leader, in milliseconds.
const ELECTION_TIMER: u32 = 500;

/// Where every server listens for TLS, on an address of its own.
const SSL_PORT: u16 = 6641;

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
    /// For TLS.
    address: String,
    /// More arguments of the server's.
    arguments: Vec<String>,
}

impl Cluster {
    pub(crate) async fn start(servers: usize, schema: &Value) -> Self {
        Self::start_with(servers, schema, |_| Vec::new()).await
    }

    /// Whose servers listen for TLS as well, with these certificates.
    pub(crate) async fn start_ssl(servers: usize, schema: &Value, certificates: &[String]) -> Self {
        let listen = |address: &str| format!("--remote=pssl:{SSL_PORT}:{address}");
        Self::start_with(servers, schema, |address| [certificates, &[listen(address)]].concat()).await
    }

    async fn start_with(servers: usize, schema: &Value, arguments: impl Fn(&str) -> Vec<String>) -> Self {
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            database: schema["name"].as_str().unwrap().to_owned(),
            servers: Vec::new(),
            peers: BTreeMap::new(),
        };
        for n in 0..servers {
            let dir = cluster.dir.path().join(n.to_string());
            std::fs::create_dir(&dir).unwrap();
            let (link, port) = Link::tcp(dir.join("db.sock")).await;
            let address = loopback_address();
            let arguments = arguments(&address);
            cluster.servers.push(Server { dir, child: None, link, port, address, arguments });
        }
        for (from, from_server) in cluster.servers.iter().enumerate() {
            for (to, to_server) in cluster.servers.iter().enumerate().filter(|(to, _)| *to != from) {
                let link = Link::unix(&from_server.dir.join(raft(to)), to_server.dir.join(raft(to)));
                cluster.peers.insert((from, to), link);
            }
        }
        cluster.create(schema);
        for n in 0..servers {
            cluster.start_server(n);
            cluster.joined(n).await;
        }
        cluster
    }

    fn create(&self, schema: &Value) {
        let file = self.dir.path().join("schema").display().to_string();
        std::fs::write(&file, schema.to_string()).unwrap();
        let address = |n: usize| format!("unix:{}", raft(n));
        let timer = format!("--election-timer={ELECTION_TIMER}");
        for (n, server) in self.servers.iter().enumerate() {
            let db = server.dir.join("db").display().to_string();
            if n == 0 {
                run("ovsdb-tool", [&timer, "create-cluster", &db, &file, &address(0)]);
            } else {
                run("ovsdb-tool", ["join-cluster", &db, &self.database, &address(n), &address(0)]);
            }
        }
    }

    /// One of them, for a session.
    pub(crate) fn remote(&self, n: usize) -> String {
        format!("tcp:127.0.0.1:{}", self.servers[n].port)
    }

    /// The same by TLS.
    pub(crate) fn ssl_remote(&self, n: usize) -> String {
        format!("ssl:{}:{SSL_PORT}", self.servers[n].address)
    }

    /// The same past every link.
    pub(crate) fn unix(&self, n: usize) -> String {
        format!("unix:{}", self.servers[n].dir.join("db.sock").display())
    }

    /// All of them: `first` is the one that a session tries first.
    pub(crate) fn remotes(&self, first: usize) -> String {
        let servers = self.servers.len();
        let remotes = (0..servers).map(|n| self.remote((first + n) % servers));
        remotes.collect::<Vec<_>>().join(",")
    }

    /// Starts a server that does not run; it listens when this returns.
    pub(crate) fn start_server(&mut self, n: usize) {
        let server = &mut self.servers[n];
        let socket = server.dir.join("db.sock");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new("ovsdb-server");
        command
            .arg(server.dir.join("db"))
            .arg("--remote=punix:db.sock")
            .arg(format!("--unixctl={}", server.dir.join("ctl").display()))
            // In this order: that the log is opened is not for the console either.
            .arg("-vconsole:off")
            .arg(format!("--log-file={}", server.dir.join("log").display()))
            .args(&server.arguments)
            .env("OVS_RUNDIR", &server.dir);
        server.child = Some(spawn_server(command, &socket));
    }

    /// Ends a server as a loss of power does.
    pub(crate) fn kill(&mut self, n: usize) {
        let mut child = self.servers[n].child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops a server without ending it, as an overloaded machine does.
    pub(crate) fn freeze(&self, n: usize) {
        self.signal(n, "-STOP");
    }

    pub(crate) fn thaw(&self, n: usize) {
        self.signal(n, "-CONT");
    }

    fn signal(&self, n: usize, signal: &str) {
        let pid = self.servers[n].child.as_ref().expect("the server runs").id();
        run("kill", [signal, &pid.to_string()]);
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
                for n in (0..self.servers.len()).filter(|n| Some(*n) != but) {
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

    /// Has a leader make another server the leader.
    pub(crate) async fn transfer_leadership(&self, n: usize) {
        self.appctl(n, &["cluster/failure-test", "transfer-leadership"]).await;
    }

    async fn status(&self, n: usize) -> String {
        self.appctl(n, &["cluster/status", &self.database]).await
    }

    /// What it says; nothing when it cannot be asked. The links go on meanwhile.
    async fn appctl(&self, n: usize, command: &[&str]) -> String {
        let output = tokio::process::Command::new("ovs-appctl")
            .args(["--timeout=5", "-t"])
            .arg(self.servers[n].dir.join("ctl"))
            .args(command)
            .output()
            .await
            .expect("ovs-appctl: install openvswitch-switch");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().filter_map(|server| server.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("the servers' logs: {}/*/log", self.dir.path().display());
        }
    }
}

fn raft(n: usize) -> String {
    format!("raft{n}")
}
