//! A real `ovsdb-server` in a directory of its own, and what the tests need to look at it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovsdb_rs::{
    Clause, ConnectionFailure, Datum, Function, Options, Replica, Row, Session, State, TableMonitor,
    Transaction,
};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const NB: &str = "OVN_Northbound";
pub(crate) const NB_SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
pub(crate) const SB: &str = "OVN_Southbound";
pub(crate) const SB_SCHEMA: &str = "/usr/share/ovn/ovn-sb.ovsschema";
pub(crate) const VSWITCH: &str = "Open_vSwitch";
pub(crate) const VSWITCH_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

const SOCKET: &str = "sock";

pub(crate) struct Server {
    dir: TempDir,
    child: Option<Child>,
    socket: &'static str,
    /// More arguments of the server's.
    arguments: Vec<String>,
    /// Where it listens for TLS on 127.0.0.1, if it does.
    ssl_port: Option<u16>,
}

/// An address of this machine that nobody else uses: of 127.0.0.0/8 there are enough for every test.
pub(crate) fn loopback_address() -> String {
    let [a, b, c, ..] = *Uuid::new_v4().as_bytes();
    format!("127.{}.{b}.{}", 1 + a / 2, 1 + c / 2)
}

impl Server {
    pub(crate) fn start(path: &str) -> Self {
        Self::start_with(&schema(path))
    }

    pub(crate) fn start_with(schema: &Value) -> Self {
        let mut server = Self {
            dir: tempfile::tempdir().unwrap(),
            child: None,
            socket: SOCKET,
            arguments: Vec::new(),
            ssl_port: None,
        };
        let schema_file = server.path("schema");
        fs::write(&schema_file, schema.to_string()).unwrap();
        run("ovsdb-tool", ["create".as_ref(), server.path("db").as_path(), schema_file.as_path()]);
        server.restart();
        server
    }

    /// Which listens for TLS as well, with these certificates.
    pub(crate) fn start_ssl(schema: &str, certificates: &[String]) -> Self {
        let mut server = Self::start(schema);
        for _ in 0..10 {
            // Somebody may take it before the server does.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            server.ssl_port = Some(free.unwrap().port());
            if server.restart_ssl(certificates) {
                return server;
            }
        }
        panic!("ovsdb-server does not listen for TLS");
    }

    /// Kills the server if it runs, and starts one with these certificates; whether it listens for TLS.
    pub(crate) fn restart_ssl(&mut self, certificates: &[String]) -> bool {
        self.kill();
        let port = self.ssl_port.expect("started for TLS");
        self.arguments = certificates.to_vec();
        self.arguments.push(format!("--remote=pssl:{port}:127.0.0.1"));
        self.restart();
        // It opens one socket after the other.
        let deadline = Instant::now() + DEADLINE / 10;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// The same server by TLS, under one of the names of this machine.
    pub(crate) fn ssl_remote(&self, host: &str) -> String {
        format!("ssl:{host}:{}", self.ssl_port.expect("started for TLS"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn remote(&self) -> String {
        format!("unix:{}", self.path(self.socket).display())
    }

    /// Kills the server if it runs, and starts one on the same database; it listens when this returns.
    pub(crate) fn restart(&mut self) {
        self.restart_at(SOCKET);
    }

    /// The same, where those who know the old remote do not find it.
    pub(crate) fn restart_elsewhere(&mut self) {
        self.restart_at("elsewhere");
    }

    fn restart_at(&mut self, socket: &'static str) {
        self.kill();
        self.socket = socket;
        let mut server = Command::new("ovsdb-server");
        server
            .arg(self.path("db"))
            .arg(format!("--remote=punix:{}", self.path(socket).display()))
            .arg(format!("--unixctl={}", self.path("ctl").display()))
            .args(&self.arguments);
        self.child = Some(spawn_server(server, &self.path(socket)));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops the process without ending it, as an overloaded machine does; [`Self::kill`] still works.
    pub(crate) fn freeze(&self) {
        let pid = self.child.as_ref().expect("the server runs").id().to_string();
        run("kill", ["-STOP", &pid]);
    }

    pub(crate) fn nbctl(&self, args: &[&str]) {
        let db = format!("--db={}", self.remote());
        run("ovn-nbctl", ["--timeout=10", &db].iter().chain(args));
    }

    pub(crate) fn vsctl(&self, args: &[&str]) {
        let db = format!("--db={}", self.remote());
        run("ovs-vsctl", ["--timeout=10", "--no-wait", &db].iter().chain(args));
    }

    /// [`assert_replicated`] of this server.
    pub(crate) async fn assert_replicated(&self, session: &Session, database: &str, tables: &[&str]) {
        assert_replicated(&self.remote(), session, database, tables).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The contents of a table as `ovsdb-client dump` sees them, in the columns that a replica row has.
pub(crate) fn dump(remote: &str, database: &str, table: &str, replica: &Replica) -> BTreeMap<Uuid, Row> {
    let json = run("ovsdb-client", ["--timeout=10", "-f", "json", "dump", remote, database, table]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let headings: Vec<&str> =
        json["headings"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let columns: Vec<&str> = replica
        .table(table)
        .next()
        .map_or_else(|| headings.clone(), |(_, row)| row.iter().map(|(column, _)| column).collect());
    let mut rows = BTreeMap::new();
    for cells in json["data"].as_array().unwrap() {
        let cells: BTreeMap<&str, &Value> = headings.iter().copied().zip(cells.as_array().unwrap()).collect();
        let row = columns.iter().fold(Row::new(), |row, column| {
            let ty = replica.schema().column(table, column).unwrap();
            row.with(column, Datum::from_json(cells[column], ty).unwrap())
        });
        rows.insert(Uuid::try_parse(cells["_uuid"][1].as_str().unwrap()).unwrap(), row);
    }
    rows
}

/// Asserts that the replica of these tables is what the server holds. A transaction of our own comes
/// first: the server answers it after it has sent every earlier change.
pub(crate) async fn assert_replicated(remote: &str, session: &Session, database: &str, tables: &[&str]) {
    session.transact(Transaction::new().comment("everything before this")).await.unwrap();
    let replica = session.replica();
    for table in tables {
        let held = dump(remote, database, table, &replica);
        assert_eq!(rows(&replica, table), held, "{table}");
    }
}

/// Starts an ovsdb-server; it listens on this socket when this returns.
pub(crate) fn spawn_server(mut server: Command, socket: &Path) -> Child {
    server.args(["-vconsole:off", "-vsyslog:off"]).stdin(Stdio::null());
    let child = server.spawn().expect("ovsdb-server: install openvswitch-switch");
    let deadline = Instant::now() + DEADLINE;
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < deadline, "ovsdb-server does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Runs a program to its end; returns what it printed.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install openvswitch-switch and ovn-central"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn rows(replica: &Replica, table: &str) -> BTreeMap<Uuid, Row> {
    replica.table(table).map(|(uuid, row)| (*uuid, row.clone())).collect()
}

/// Of a table that nothing refers to.
pub(crate) fn add(name: &str) -> Transaction {
    Transaction::new().insert("Address_Set", None, Row::new().with("name", name))
}

pub(crate) fn remove(name: &str) -> Transaction {
    Transaction::new().delete("Address_Set", [Clause::new("name", Function::Equal, name)])
}

/// Retries within a fraction of a second.
pub(crate) fn quick() -> Options {
    let mut options = Options::default();
    options.backoff = (Duration::from_millis(20), Duration::from_millis(200));
    options.probe_interval = Duration::from_millis(300);
    options
}

/// A session that is ready.
pub(crate) async fn open(remote: &str, database: &str, monitors: Vec<TableMonitor>) -> Session {
    let session = Session::open_with(remote.parse().unwrap(), database, monitors, quick());
    session.ready(DEADLINE).await.unwrap();
    session
}

/// Waits until the session has lost or not got a connection for this reason.
pub(crate) async fn fails(session: &Session, label: &str) -> ConnectionFailure {
    let because = |state: &State| match state {
        State::Connecting { last_error: Some(failure) } => failure.cause.label() == label,
        _ => false,
    };
    let mut state = session.subscribe_state();
    let failed = tokio::time::timeout(DEADLINE, state.wait_for(because)).await;
    match failed.unwrap_or_else(|_| panic!("no {label} but {:?}", session.state())).unwrap().clone() {
        State::Connecting { last_error: Some(failure) } => failure,
        other => panic!("{other:?}"),
    }
}

/// Waits for a replica that is as wanted.
pub(crate) async fn wait_for(
    session: &Session,
    what: &str,
    mut wanted: impl FnMut(&Replica) -> bool,
) -> Arc<Replica> {
    let mut replica = session.subscribe();
    let found = tokio::time::timeout(DEADLINE, replica.wait_for(|replica| wanted(replica))).await;
    Arc::clone(&found.unwrap_or_else(|_| panic!("waited in vain: {what}")).unwrap())
}

/// A schema that is installed, to change and use.
pub(crate) fn schema(path: &str) -> Value {
    let text = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{path}: {error}; install openvswitch-switch and ovn-central"));
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    // Without the checksum of the original.
    schema.as_object_mut().unwrap().remove("cksum");
    schema
}

/// Removes a column from a schema.
pub(crate) fn without_column(path: &str, table: &str, column: &str) -> Value {
    let mut schema = schema(path);
    let columns = schema["tables"][table]["columns"].as_object_mut().unwrap();
    columns.remove(column).expect("the schema has the column");
    schema
}

/// SplitMix64: the same numbers from the same seed everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % bound as u64).unwrap()
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}
