//! A real `ovsdb-server` of the benchmark's own, and what it serves.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ovsdb_rs::{Datum, Mutator, Row, Session, TableMonitor, Transaction};
use tempfile::TempDir;

/// How long anything may take before the benchmark gives up.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

pub(super) struct Server {
    dir: TempDir,
    child: Child,
}

impl Server {
    pub(super) fn start(schema: &str) -> anyhow::Result<Self> {
        ensure!(Path::new(schema).exists(), "{schema} is missing: install ovn-central");
        let dir = TempDir::new()?;
        let db = dir.path().join("db");
        run(Command::new("ovsdb-tool").arg("create").arg(&db).arg(schema))?;
        let child = Command::new("ovsdb-server")
            .arg(db)
            .arg(format!("--remote=punix:{}", dir.path().join("sock").display()))
            .arg(format!("--unixctl={}", dir.path().join("ctl").display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .stdin(Stdio::null())
            .spawn()
            .context("ovsdb-server: install openvswitch-switch")?;
        Ok(Self { dir, child })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn remote(&self) -> String {
        format!("unix:{}", self.path("sock").display())
    }

    /// A session that is ready.
    pub(super) async fn session(
        &self,
        database: &str,
        monitors: Vec<TableMonitor>,
    ) -> anyhow::Result<Session> {
        let session = Session::open(self.remote().parse()?, database, monitors);
        session.ready(DEADLINE).await?;
        Ok(session)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end; what it printed.
pub(super) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes ports as ovn-northd does, a thousand to a datapath; named `port0`, `port1`…
pub(super) async fn fill_southbound(server: &Server, ports: usize) -> anyhow::Result<()> {
    const PER_DATAPATH: usize = 1000;
    let session = server.session("OVN_Southbound", Vec::new()).await?;
    for first in (0..ports).step_by(PER_DATAPATH) {
        let key = (first / PER_DATAPATH + 1) as i64;
        let names = Datum::map([("name", format!("switch{key}"))]);
        let datapath = Row::new().with("tunnel_key", key).with("external_ids", names);
        let mut transaction = Transaction::new().insert("Datapath_Binding", "datapath", datapath);
        for port in first..ports.min(first + PER_DATAPATH) {
            transaction = transaction.insert("Port_Binding", None, port_binding(port, port - first));
        }
        session.transact(transaction).await?;
    }
    Ok(())
}

fn port_binding(port: usize, in_datapath: usize) -> Row {
    let [_, _, b, c] = (port as u32).to_be_bytes();
    let mac = format!("0a:58:0a:{b:02x}:{c:02x}:01 10.{b}.{c}.1");
    Row::new()
        .with("logical_port", format!("port{port}"))
        .with("datapath", Datum::named_uuid("datapath"))
        .with("tunnel_key", (in_datapath + 1) as i64)
        .with("mac", Datum::set([mac.as_str()]))
        .with("port_security", Datum::set([mac]))
        .with("options", Datum::map([("requested-chassis", format!("node{}", port % 250))]))
        .with("external_ids", Datum::map([("namespace", "default"), ("pod", "true")]))
        .with("up", true)
}

/// Makes one switch with ports `port0`, `port1`…
pub(super) async fn fill_northbound(server: &Server, ports: usize) -> anyhow::Result<()> {
    let session = server.session("OVN_Northbound", Vec::new()).await?;
    let switch = Row::new().with("name", "switch");
    let mut transaction = Transaction::new().insert("Logical_Switch", None, switch);
    for port in 0..ports {
        let name = format!("port{port}");
        transaction = transaction
            .insert("Logical_Switch_Port", name.as_str(), Row::new().with("name", name.as_str()))
            .mutate("Logical_Switch", [], [("ports", Mutator::Insert, Datum::named_uuid(name))]);
    }
    session.transact(transaction).await?;
    Ok(())
}
