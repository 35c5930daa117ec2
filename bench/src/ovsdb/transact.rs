//! Transactions a second, one after the other and many at once, beside the daemon of `ovn-nbctl`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use ovsdb_rs::{Clause, Framer, Function, Session, TableMonitor, Transaction};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::server::{Server, fill_northbound, run};
use super::{ROUNDS, median, note};
use crate::report::Row;

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
const PORTS: usize = 1000;
const IN_FLIGHT: usize = 100;

/// Transactions in one round.
const SEQUENTIAL: usize = 1000;
const AT_ONCE: usize = 3000;
/// Each of them starts a process.
const COMMANDS: usize = 100;

pub(super) async fn rows() -> anyhow::Result<Vec<Row>> {
    let server = Server::start(SCHEMA)?;
    fill_northbound(&server, PORTS).await?;
    let ports = TableMonitor::new("Logical_Switch_Port").columns(["name", "options"]);
    let session = server.session("OVN_Northbound", vec![ports]).await?;
    let ports: Arc<[Uuid]> = session.replica().table("Logical_Switch_Port").map(|(uuid, _)| *uuid).collect();
    ensure!(ports.len() == PORTS, "{} ports", ports.len());
    let daemon = match Daemon::start(&server) {
        Ok(daemon) => Some(daemon),
        Err(error) => {
            note(&format!("LEFT OUT: ovn-nbctl --detach ({error:#}). Install ovn-common"));
            None
        }
    };

    let mut rates: [Vec<f64>; 5] = Default::default();
    for round in 0..ROUNDS {
        note(&format!("transactions, round {} of {ROUNDS}", round + 1));
        rates[0].push(rate(SEQUENTIAL, ours(&session, &ports, 1, SEQUENTIAL)).await?);
        if let Some(daemon) = &daemon {
            rates[1].push(rate(SEQUENTIAL, daemon.calls(1, SEQUENTIAL)).await?);
            rates[2].push(rate(COMMANDS, async { daemon.commands(COMMANDS) }).await?);
        }
        rates[3].push(rate(AT_ONCE, ours(&session, &ports, IN_FLIGHT, AT_ONCE)).await?);
        if let Some(daemon) = &daemon {
            rates[4].push(rate(AT_ONCE, daemon.calls(IN_FLIGHT, AT_ONCE)).await?);
        }
    }
    let names = [
        "one after the other: ovsdb-rs".to_owned(),
        "one after the other: ovn-nbctl daemon, asked on its socket".to_owned(),
        "one after the other: ovn-nbctl daemon, asked by ovn-nbctl".to_owned(),
        format!("{IN_FLIGHT} in flight: ovsdb-rs"),
        format!("{IN_FLIGHT} in flight: ovn-nbctl daemon, asked on its socket"),
    ];
    let row = |index: usize| {
        let rate = median(rates[index].clone())?;
        Some(Row::new(format!("transactions, {}", names[index]), rate, "txn/s"))
    };
    let mut rows = Vec::new();
    for (ours, others) in [(0, 1..=2), (3, 4..=4)] {
        let ours = row(ours).context("no round")?;
        rows.extend(others.filter_map(row).map(|other| other.beside(&ours)));
        rows.push(ours);
    }
    Ok(rows)
}

/// How many a second.
async fn rate(count: usize, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<f64> {
    let started = Instant::now();
    work.await?;
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Sets an option of one port after the other, so many at a time.
async fn ours(session: &Session, ports: &Arc<[Uuid]>, at_a_time: usize, count: usize) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for first in 0..at_a_time {
        let (session, ports) = (session.clone(), Arc::clone(ports));
        tasks.spawn(async move {
            for n in (first..count).step_by(at_a_time) {
                let port = [Clause::new("_uuid", Function::Equal, ports[n % PORTS])];
                let transaction =
                    Transaction::new().set_keys("Logical_Switch_Port", port, "options", [value(n)]);
                let results = session.transact(transaction).await?;
                ensure!(results[0].count == 1, "{results:?}");
            }
            anyhow::Ok(())
        });
    }
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    Ok(())
}

/// A value that is not there yet.
fn value(n: usize) -> (&'static str, String) {
    ("bench", format!("{n}-{}", Uuid::new_v4()))
}

/// `ovn-nbctl --detach`: it holds a replica and carries out what it is asked on a socket.
struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    fn start(server: &Server) -> anyhow::Result<Self> {
        let socket = server.path("nbctl");
        run(Command::new("ovn-nbctl")
            .arg(format!("--db={}", server.remote()))
            .args(["--no-leader-only", "--detach", "-vconsole:off", "-vsyslog:off", "-u"])
            .arg(&socket))?;
        Ok(Self { socket })
    }

    /// The same as [`ours`], with so many requests ahead of the answers.
    async fn calls(&self, at_a_time: usize, count: usize) -> anyhow::Result<()> {
        let mut control = Control::connect(&self.socket).await?;
        for n in 0..count {
            if n >= at_a_time {
                control.answer().await?;
            }
            control.ask(&set(n)).await?;
        }
        for _ in 0..at_a_time.min(count) {
            control.answer().await?;
        }
        Ok(())
    }

    /// As a script does it.
    fn commands(&self, count: usize) -> anyhow::Result<()> {
        for n in 0..count {
            run(Command::new("ovn-nbctl").env("OVN_NB_DAEMON", &self.socket).args(set(n)))?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = run(Command::new("ovs-appctl").arg("-t").arg(&self.socket).arg("exit"));
    }
}

fn set(n: usize) -> [String; 4] {
    let (key, value) = value(n);
    let port = format!("port{}", n % PORTS);
    ["set".to_owned(), "Logical_Switch_Port".to_owned(), port, format!("options:{key}={value}")]
}

/// A connection to the control socket of a daemon (JSON-RPC, as in lib/unixctl.c). It answers in order.
struct Control {
    stream: UnixStream,
    framer: Framer,
}

impl Control {
    async fn connect(socket: &Path) -> anyhow::Result<Self> {
        Ok(Self { stream: UnixStream::connect(socket).await?, framer: Framer::default() })
    }

    async fn ask(&mut self, args: &[String]) -> anyhow::Result<()> {
        let request = json!({ "id": 0, "method": "run", "params": args }).to_string();
        Ok(self.stream.write_all(request.as_bytes()).await?)
    }

    async fn answer(&mut self) -> anyhow::Result<()> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(answer) = self.framer.next_value()? {
                ensure!(answer["error"].is_null(), "ovn-nbctl: {answer}");
                return Ok(());
            }
            let count = self.stream.read(&mut chunk).await?;
            ensure!(count > 0, "ovn-nbctl has closed the connection");
            self.framer.push(&chunk[..count]);
        }
    }
}
