//! Clustered databases: three servers on loopback, and the leader among them.

use std::process::{Child, Command};
use std::time::Instant;

use ovsdb_rs::{Clause, Function, Options, Row, Session, State, TableMonitor, Transaction};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::fixture::{
    DEADLINE, NB, NB_SCHEMA, assert_replicated, fails, loopback_address, quick, run, spawn_server, wait_for,
};
use crate::proxy::Proxy;

const RAFT_PORT: u16 = 6643;
const SSL_PORT: u16 = 6641;

/// Servers of one clustered northbound database, each with an address of its own.
struct Cluster {
    dir: TempDir,
    addresses: Vec<String>,
    children: Vec<Option<Child>>,
    ssl: Option<Certificates>,
}

impl Cluster {
    /// With `ssl` the servers talk to each other and to clients by TLS alone, otherwise by TCP and unix sockets.
    fn start(servers: usize, ssl: Option<Certificates>) -> Self {
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            addresses: (0..servers).map(|_| loopback_address()).collect(),
            children: (0..servers).map(|_| None).collect(),
            ssl,
        };
        let method = if cluster.ssl.is_some() { "ssl" } else { "tcp" };
        let raft: Vec<String> =
            cluster.addresses.iter().map(|address| format!("{method}:{address}:{RAFT_PORT}")).collect();
        run("ovsdb-tool", ["create-cluster", &cluster.path("db0"), NB_SCHEMA, &raft[0]]);
        cluster.start_server(0);
        for server in 1..servers {
            let db = cluster.path(&format!("db{server}"));
            run("ovsdb-tool", ["join-cluster", &db, NB, &raft[server], &raft[0]]);
            cluster.start_server(server);
        }
        for server in 0..servers {
            run("ovsdb-client", ["-t", "30", "wait", &cluster.unix(server), NB, "connected"]);
        }
        cluster
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn unix(&self, server: usize) -> String {
        format!("unix:{}", self.path(&format!("sock{server}")))
    }

    fn ssl(&self, server: usize) -> String {
        format!("ssl:{}:{SSL_PORT}", self.addresses[server])
    }

    /// Of all servers.
    fn remotes(&self) -> String {
        let remote = |server| if self.ssl.is_some() { self.ssl(server) } else { self.unix(server) };
        (0..self.addresses.len()).map(remote).collect::<Vec<_>>().join(",")
    }

    fn start_server(&mut self, server: usize) {
        let mut command = Command::new("ovsdb-server");
        command
            .arg(self.path(&format!("db{server}")))
            .arg(format!("--remote=p{}", self.unix(server)))
            .arg(format!("--unixctl={}", self.path(&format!("ctl{server}"))));
        if let Some(certificates) = &self.ssl {
            command.args(certificates.server("ca", "server"));
            command.arg(format!("--remote=pssl:{SSL_PORT}:{}", self.addresses[server]));
        }
        let socket = self.path(&format!("sock{server}"));
        self.children[server] = Some(spawn_server(command, socket.as_ref()));
    }

    fn kill(&mut self, server: usize) {
        if let Some(mut child) = self.children[server].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn appctl(&self, server: usize, command: &[&str]) -> String {
        let target = self.path(&format!("ctl{server}"));
        run("ovs-appctl", ["-T", "10", "-t", &target].iter().chain(command))
    }

    fn is_leader(&self, server: usize) -> bool {
        self.children[server].is_some()
            && self.appctl(server, &["cluster/status", NB]).contains("Role: leader")
    }

    /// Asks until there is one.
    async fn leader(&self) -> usize {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(leader) = (0..self.addresses.len()).find(|server| self.is_leader(*server)) {
                return leader;
            }
            assert!(Instant::now() < deadline, "no leader");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in 0..self.children.len() {
            self.kill(server);
        }
    }
}

fn add(name: &str) -> Transaction {
    Transaction::new().insert("Address_Set", None, Row::new().with("name", name))
}

fn remove(name: &str) -> Transaction {
    Transaction::new().delete("Address_Set", [Clause::new("name", Function::Equal, name)])
}

fn open(remotes: &str, options: Options) -> Session {
    Session::open_with(remotes.parse().unwrap(), NB, vec![TableMonitor::new("Address_Set")], options)
}

/// Waits until the session is connected to this server.
async fn at(session: &Session, remote: &str) {
    let wanted = State::Connected { remote: remote.parse().unwrap() };
    let mut state = session.subscribe_state();
    let found = tokio::time::timeout(DEADLINE, state.wait_for(|state| *state == wanted)).await;
    found.unwrap_or_else(|_| panic!("not at {remote}: {:?}", session.state())).unwrap();
}

#[tokio::test]
async fn the_leader_is_followed() {
    let mut cluster = Cluster::start(3, None);
    let mut any = quick();
    any.leader_only = false;
    let first = cluster.leader().await;
    let follower = (first + 1) % 3;
    // The leader is the last one named.
    let mut remotes: Vec<String> =
        (0..3).filter(|server| *server != first).map(|s| cluster.unix(s)).collect();
    remotes.push(cluster.unix(first));
    let session = open(&remotes.join(","), quick());
    session.ready(DEADLINE).await.unwrap();
    at(&session, &cluster.unix(first)).await;
    session.transact(add("a")).await.unwrap();
    // A follower alone will not do, unless any server will.
    let stuck = open(&cluster.unix(follower), quick());
    let failure = fails(&stuck, "not_leader").await;
    assert!(failure.cause.hint().contains("name every server"), "{failure}");
    let at_follower = open(&cluster.unix(follower), any);
    at_follower.ready(DEADLINE).await.unwrap();
    at_follower.transact(add("b")).await.unwrap();
    // It moves, and its old server lives on.
    cluster.appctl(first, &["cluster/failure-test", "transfer-leadership"]);
    let mut second = cluster.leader().await;
    while second == first {
        tokio::task::yield_now().await;
        second = cluster.leader().await;
    }
    at(&session, &cluster.unix(second)).await;
    session.transact_within(add("c"), DEADLINE).await.unwrap();
    // It dies.
    cluster.kill(second);
    let third = cluster.leader().await;
    at(&session, &cluster.unix(third)).await;
    session.transact_within(add("d"), DEADLINE).await.unwrap();
    assert_eq!(session.replica().table("Address_Set").count(), 4);
    assert_replicated(&cluster.unix(third), &session, NB, &["Address_Set"]).await;
}

#[tokio::test]
async fn a_server_without_its_cluster_is_left() {
    let mut cluster = Cluster::start(3, None);
    let leader = cluster.leader().await;
    let mut any = quick();
    any.leader_only = false;
    let session = open(&cluster.unix(leader), any);
    session.ready(DEADLINE).await.unwrap();
    for server in (0..3).filter(|server| *server != leader) {
        cluster.kill(server);
    }
    fails(&session, "not_in_cluster").await;
    assert!(!session.replica().connected);
    for server in (0..3).filter(|server| *server != leader) {
        cluster.start_server(server);
    }
    session.transact_within(add("a"), DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_cluster_by_tls_alone() {
    let mut cluster = Cluster::start(3, Some(Certificates::new()));
    let mut options = quick();
    options.tls = cluster.ssl.as_ref().map(|certificates| certificates.client("ca", "client"));
    let session = open(&cluster.remotes(), options);
    let first = cluster.leader().await;
    at(&session, &cluster.ssl(first)).await;
    session.transact(add("a")).await.unwrap();
    cluster.kill(first);
    let second = cluster.leader().await;
    at(&session, &cluster.ssl(second)).await;
    session.transact_within(add("b"), DEADLINE).await.unwrap();
    assert_replicated(&cluster.unix(second), &session, NB, &["Address_Set"]).await;
}

/// Cuts the session off, does something behind its back, lets it come back; whether the server knew where the
/// session had been, and how many rows it sent.
async fn while_away(proxy: &Proxy, session: &Session, happens: impl AsyncFnOnce()) -> (bool, usize) {
    proxy.set_open(false);
    wait_for(session, "the cut", |replica| !replica.connected).await;
    happens().await;
    proxy.set_open(true);
    wait_for(session, "the reconnection", |replica| replica.connected).await;
    let (_, reply) = proxy.seen("monitor_cond_since").pop().unwrap();
    let rows = reply["result"][2]["Address_Set"].as_object().map_or(0, serde_json::Map::len);
    (reply["result"][0].as_bool().unwrap(), rows)
}

#[tokio::test]
async fn a_reconnection_goes_on_where_the_connection_ended() {
    let cluster = Cluster::start(1, None);
    let server = cluster.unix(0);
    let proxy = Proxy::start(&server, &[]).await;
    let session = open(&proxy.remote(), quick());
    session.ready(DEADLINE).await.unwrap();
    let other = open(&server, quick());
    for index in 0..20 {
        session.transact(add(&format!("as{index}"))).await.unwrap();
    }
    let same = async || assert_replicated(&server, &session, NB, &["Address_Set"]).await;
    // Nothing at all, then one change of each kind: only those are sent.
    assert_eq!(while_away(&proxy, &session, async || {}).await, (true, 0));
    same().await;
    let changed = while_away(&proxy, &session, async || {
        let named = [Clause::new("name", Function::Equal, "as1")];
        let change = Transaction::new().set_keys("Address_Set", named, "external_ids", [("a", "1")]);
        for change in [change, add("new"), remove("as2")] {
            other.transact_within(change, DEADLINE).await.unwrap();
        }
    });
    assert_eq!(changed.await, (true, 3));
    same().await;
    // The server keeps a hundred transactions.
    let much = while_away(&proxy, &session, async || {
        for index in 0..120 {
            other.transact(add(&format!("more{index}"))).await.unwrap();
        }
        other.transact(remove("as3")).await.unwrap();
    });
    assert_eq!(much.await, (false, 139));
    same().await;
    // With another condition the old rows are not those to go on from.
    let only = vec![Clause::new("name", Function::Equal, "as1"), Clause::new("name", Function::Equal, "as9")];
    let narrowed = while_away(&proxy, &session, async || {
        session.set_condition("Address_Set", only.clone()).await.unwrap();
    });
    assert_eq!(narrowed.await, (false, 2));
    assert_eq!(session.replica().table("Address_Set").count(), 2);
    // Set while connected it is one to go on with.
    session.set_condition("Address_Set", Vec::new()).await.unwrap();
    session.transact(add("last")).await.unwrap();
    assert_eq!(while_away(&proxy, &session, async || {}).await, (true, 0));
    same().await;
}
