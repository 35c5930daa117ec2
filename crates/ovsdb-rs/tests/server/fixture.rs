//! A real `ovsdb-server` in a directory of its own, and what the tests need to look at it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovsdb_rs::{Datum, Options, Replica, Row, Session, TableMonitor, Transaction};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

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
}

impl Server {
    pub(crate) fn start(schema: &str) -> Self {
        let schema = fs::read_to_string(schema)
            .unwrap_or_else(|error| panic!("{schema}: {error}; install openvswitch-switch and ovn-central"));
        Self::start_with(&serde_json::from_str(&schema).unwrap())
    }

    pub(crate) fn start_with(schema: &Value) -> Self {
        let mut server = Self { dir: tempfile::tempdir().unwrap(), child: None, socket: SOCKET };
        let schema_file = server.path("schema");
        fs::write(&schema_file, schema.to_string()).unwrap();
        run("ovsdb-tool", ["create".as_ref(), server.path("db").as_path(), schema_file.as_path()]);
        server.restart();
        server
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
        let child = Command::new("ovsdb-server")
            .arg(self.path("db"))
            .arg(format!("--remote=punix:{}", self.path(socket).display()))
            .arg(format!("--unixctl={}", self.path("ctl").display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .stdin(Stdio::null())
            .spawn()
            .expect("ovsdb-server: install openvswitch-switch");
        self.child = Some(child);
        let deadline = Instant::now() + DEADLINE;
        while std::os::unix::net::UnixStream::connect(self.path(socket)).is_err() {
            assert!(Instant::now() < deadline, "ovsdb-server does not listen");
            std::thread::sleep(Duration::from_millis(1));
        }
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

    /// The contents of a table as `ovsdb-client dump` sees them, in the columns that a replica row has.
    fn dump(&self, database: &str, table: &str, replica: &Replica) -> BTreeMap<Uuid, Row> {
        let json =
            run("ovsdb-client", ["--timeout=10", "-f", "json", "dump", &self.remote(), database, table]);
        let json: Value = serde_json::from_str(&json).unwrap();
        let headings: Vec<&str> =
            json["headings"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let columns: Vec<&str> = replica
            .table(table)
            .next()
            .map_or_else(|| headings.clone(), |(_, row)| row.iter().map(|(column, _)| column).collect());
        let mut rows = BTreeMap::new();
        for cells in json["data"].as_array().unwrap() {
            let cells: BTreeMap<&str, &Value> =
                headings.iter().copied().zip(cells.as_array().unwrap()).collect();
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
    pub(crate) async fn assert_replicated(&self, session: &Session, database: &str, tables: &[&str]) {
        session.transact(Transaction::new().comment("everything before this")).await.unwrap();
        let replica = session.replica();
        for table in tables {
            let held = self.dump(database, table, &replica);
            assert_eq!(rows(&replica, table), held, "{table}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
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

/// Removes a column from a schema.
pub(crate) fn without_column(schema: &str, table: &str, column: &str) -> Value {
    let mut schema: Value = serde_json::from_str(&fs::read_to_string(Path::new(schema)).unwrap()).unwrap();
    let columns = schema["tables"][table]["columns"].as_object_mut().unwrap();
    columns.remove(column).expect("the schema has the column");
    // Without the checksum of the original.
    schema.as_object_mut().unwrap().remove("cksum");
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
