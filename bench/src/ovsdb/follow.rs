//! Following one port in a large southbound database: how long until it is there, and at what peak of memory.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use limosa_lab::Memory;
use ovsdb_rs::{Clause, Function, Session, TableMonitor};

use super::server::{DEADLINE, Server, fill_southbound, run};
use super::{ROUNDS, median, note};
use crate::report::Row;

const SCHEMA: &str = "/usr/share/ovn/ovn-sb.ovsschema";
const PORTS: usize = 100_000;
const WANTED: &str = "port77777";
const COLUMNS: [&str; 5] = ["logical_port", "tunnel_key", "mac", "options", "up"];
const PYTHON: &str = include_str!("follow.py");

/// Between two looks at the memory of a process that does not tell it itself.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    Ours,
    Python,
    /// It fetches the whole table.
    Sbctl,
}

/// One process from its start to its end.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// From the call that opens the session to the row; `None` when the process cannot say.
    open_ms: Option<f64>,
    process_ms: f64,
    peak_mb: f64,
}

/// The process that is measured for us: it prints what [`PYTHON`] prints.
pub(super) async fn child(remote: &str, port: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let monitor = TableMonitor::new("Port_Binding").columns(COLUMNS).condition(vec![Clause::new(
        "logical_port",
        Function::Equal,
        port,
    )]);
    let session = Session::open(remote.parse()?, "OVN_Southbound", vec![monitor]);
    session.ready(DEADLINE).await?;
    let replica = session.replica();
    let found = replica.find("Port_Binding", |row| row.str("logical_port") == Some(port));
    ensure!(found.is_some(), "no {port}");
    let elapsed = started.elapsed();
    println!("{} {}", elapsed.as_secs_f64() * 1e3, Memory::of("self")?.most / 1024);
    Ok(())
}

pub(super) async fn rows() -> anyhow::Result<Vec<Row>> {
    let server = Server::start(SCHEMA)?;
    note(&format!("making a southbound database of {PORTS} ports"));
    fill_southbound(&server, PORTS).await?;
    let mut contenders = vec![Contender::Ours];
    let python = python();
    match python {
        Some(_) => contenders.push(Contender::Python),
        None => note("LEFT OUT: the Python library. Install python3-openvswitch"),
    }
    if Command::new("ovn-sbctl").arg("--version").output().is_ok() {
        contenders.push(Contender::Sbctl);
    } else {
        note("LEFT OUT: ovn-sbctl. Install ovn-common");
    }
    let mut results: Vec<Vec<Measured>> = vec![Vec::new(); contenders.len()];
    for round in 0..=ROUNDS {
        for (contender, results) in contenders.iter().zip(&mut results) {
            let measured = contender.measure(&server, python.unwrap_or_default())?;
            // The first round warms the caches.
            if round > 0 {
                results.push(measured);
            }
        }
    }
    Ok(contenders
        .iter()
        .zip(&results)
        .flat_map(|(contender, result)| contender.rows(result, &results[0]))
        .collect())
}

/// The interpreter that has the library: the distribution's, if another is in front of it.
fn python() -> Option<&'static str> {
    let has_library = |python: &&str| {
        let output = Command::new(python).args(["-c", "import ovs.db.idl"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has_library)
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ovsdb-rs",
            Self::Python => "Python ovs",
            Self::Sbctl => "ovn-sbctl find",
        }
    }

    fn measure(self, server: &Server, python: &str) -> anyhow::Result<Measured> {
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["ovsdb", "--follow", &server.remote(), WANTED]);
                command
            }
            Self::Python => {
                let mut command = Command::new(python);
                command.args(["-c", PYTHON, &server.remote(), SCHEMA, WANTED]);
                command
            }
            Self::Sbctl => return sbctl(server),
        };
        let started = Instant::now();
        let printed = run(&mut command)?;
        let process_ms = started.elapsed().as_secs_f64() * 1e3;
        let mut words = printed.split_whitespace().map(str::parse::<f64>);
        match (words.next(), words.next()) {
            (Some(Ok(open_ms)), Some(Ok(peak_kb))) => {
                Ok(Measured { open_ms: Some(open_ms), process_ms, peak_mb: peak_kb / 1024.0 })
            }
            _ => anyhow::bail!("{command:?} printed {printed:?}"),
        }
    }

    /// Each of its medians, beside the one of the first contender where it is another's.
    fn rows(self, results: &[Measured], first: &[Measured]) -> Vec<Row> {
        let name = self.name();
        let row = |what: &str, unit, of: &dyn Fn(&Measured) -> Option<f64>| {
            let value = median(results.iter().filter_map(of).collect())?;
            let row = Row::new(format!("follow 1 port of {PORTS}, {what}: {name}"), value, unit);
            if self == Self::Ours {
                return Some(row);
            }
            let ours = median(first.iter().filter_map(of).collect())?;
            let ours_name = format!("follow 1 port of {PORTS}, {what}: {}", Self::Ours.name());
            Some(row.beside(&Row::new(ours_name, ours, unit)))
        };
        [
            row("session opened to row", "ms", &|measured| measured.open_ms),
            row("whole process", "ms", &|measured| Some(measured.process_ms)),
            row("peak memory", "MB", &|measured| Some(measured.peak_mb)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Its memory is looked at from outside, until it has ended.
fn sbctl(server: &Server) -> anyhow::Result<Measured> {
    let started = Instant::now();
    let mut child = Command::new("ovn-sbctl")
        .args(["-vconsole:off", "--no-leader-only", "--bare", "--columns=logical_port"])
        .arg(format!("--db={}", server.remote()))
        .args(["find", "Port_Binding", &format!("logical_port={WANTED}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = child.id();
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        peak = peak.max(Memory::of(pid).map_or(0, |memory| memory.most));
        std::thread::sleep(LOOK_AGAIN);
    }
    let process_ms = started.elapsed().as_secs_f64() * 1e3;
    let output = child.wait_with_output()?;
    ensure!(output.status.success() && output.stdout.starts_with(WANTED.as_bytes()), "{output:?}");
    Ok(Measured { open_ms: None, process_ms, peak_mb: peak as f64 / 1_048_576.0 })
}
