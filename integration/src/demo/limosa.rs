//! Limosa in a lab: an agent on every chassis, one controller, and the verbs
//! of its command line.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::clock::ClockPair;
use crate::holder::ROOT;
use crate::lab::{CENTRAL, Lab};
use crate::process::LabProcess;

/// The upper half of every cookie of Limosa's flows: `LIMO`.
pub const COOKIE_MAGIC: u64 = 0x4c49_4d4f;

/// Names the program, when it is not next to this one.
const BINARY: &str = "LIMOSA_BIN";

/// Where the controller serves its metrics; the agents follow, in the order of their chassis.
const METRICS_PORT: usize = 9675;

/// Seconds that one phase may take.
const PHASE_TIMEOUT: &str = "120";

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `Armed`, `Activated`, …
    pub name: String,
    /// Who took it: a chassis, or `controller`.
    pub who: String,
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: i64,
}

/// A migration object, as the command line prints it (`-o json`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Object(Value);

impl Object {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// How far it has come.
    pub fn phase(&self) -> &str {
        self.0["status"]["phase"].as_str().unwrap_or_default()
    }

    /// The number in its flows' cookies.
    pub fn number(&self) -> u64 {
        self.0["status"]["number"].as_u64().unwrap_or_default()
    }

    /// What the chassis says of the connections that it tracked for the port.
    pub fn connections(&self, chassis: &str) -> &Value {
        &self.0["status"]["nodes"][chassis]["connections"]
    }

    /// What a flow matches that is for its port, as `ovs-ofctl` writes it.
    pub fn flow_match(&self) -> String {
        let key = |name: &str| self.0["status"]["subject"][name].as_u64().unwrap_or_default();
        format!("reg15={:#x},metadata={:#x} ", key("portKey"), key("datapathKey"))
    }

    /// What it waits for, or how it ended, in words.
    pub fn waiting_for(&self) -> &str {
        let conditions = self.0["status"]["conditions"].as_array().into_iter().flatten();
        let said = |kind: &str| {
            let of_kind = conditions.clone().find(|condition| condition["type"] == kind);
            of_kind.and_then(|condition| condition["message"].as_str()).filter(|text| !text.is_empty())
        };
        said("Succeeded").or_else(|| said("Progressing")).unwrap_or_default()
    }

    /// Whether every chassis that has a share in it has taken its flows away.
    pub fn is_clean(&self) -> bool {
        let nodes = self.0["status"]["nodes"].as_object();
        nodes.is_some_and(|nodes| nodes.values().all(|node| node["steps"].get("Cleaned").is_some()))
    }

    /// Every step, the controller's and the agents', in order of time.
    pub fn steps(&self, clock: ClockPair) -> Vec<Step> {
        let status = &self.0["status"];
        let nodes = status["nodes"].as_object().into_iter().flatten();
        let takers = nodes.map(|(chassis, node)| (chassis.as_str(), &node["steps"]));
        let mut steps: Vec<_> = takers
            .chain([("controller", &status["steps"])])
            .flat_map(|(who, steps)| steps.as_object().into_iter().flatten().map(move |step| (who, step)))
            .filter_map(|(who, (name, at))| {
                let at: Timestamp = at.as_str()?.parse().ok()?;
                let at_ns = clock.monotonic_of(i64::try_from(at.as_nanosecond()).ok()?);
                Some(Step { name: name.clone(), who: who.to_owned(), at_ns })
            })
            .collect();
        steps.sort_by_key(|step| step.at_ns);
        steps
    }
}

/// Limosa's processes in a lab.
#[derive(Debug)]
pub struct Limosa {
    binary: PathBuf,
    store: PathBuf,
    /// They serve metrics and log JSON, and all of them are in [`CENTRAL`]: everything else they reach by path.
    with_metrics: bool,
    processes: Vec<(String, LabProcess)>,
}

impl Limosa {
    /// Where the program is: what `LIMOSA_BIN` names, or next to this one.
    ///
    /// # Errors
    ///
    /// When it was not built.
    pub fn binary() -> Result<PathBuf> {
        if let Some(named) = std::env::var_os(BINARY).map(PathBuf::from) {
            return named.canonicalize().with_context(|| format!("{BINARY} names {}", named.display()));
        }
        let here = std::env::current_exe().context("find this program")?;
        // A test lies one directory further down.
        let found =
            here.ancestors().skip(1).take(2).map(|dir| dir.join("limosa")).find(|path| path.is_file());
        found.with_context(|| {
            format!("no limosa near {}: run `cargo build -p limosa`, or set {BINARY}", here.display())
        })
    }

    /// Starts an agent on every chassis and a controller.
    ///
    /// # Errors
    ///
    /// When the program is missing or ends at once.
    pub async fn start(lab: &Lab) -> Result<Self> {
        Self::start_on(lab, lab.dir().join("store")).await
    }

    /// As [`start`](Self::start); they serve metrics, for a Prometheus in [`CENTRAL`].
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with_metrics(lab: &Lab) -> Result<Self> {
        Self::start_all(lab, lab.dir().join("store"), true).await
    }

    /// Where the agent of a chassis serves its metrics, or in [`CENTRAL`] the controller.
    pub fn metrics_of(lab: &Lab, place: &str) -> String {
        let chassis = lab.all_chassis().iter().position(|chassis| chassis.name() == place);
        format!("127.0.0.1:{}", METRICS_PORT + chassis.map_or(0, |number| number + 1))
    }

    /// As [`start`](Self::start), with its store in a directory that is the
    /// lab's own business.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_on(lab: &Lab, store: PathBuf) -> Result<Self> {
        Self::start_all(lab, store, false).await
    }

    async fn start_all(lab: &Lab, store: PathBuf, with_metrics: bool) -> Result<Self> {
        let binary = Self::binary()?;
        lab.exec_in(ROOT, &["mkdir", "-p", &store.to_string_lossy()]).await.context("make the store")?;
        let mut limosa = Self { binary, store, with_metrics, processes: Vec::new() };
        limosa.start_controller(lab).await?;
        for chassis in lab.all_chassis() {
            limosa.start_agent(lab, chassis.name()).await?;
        }
        Ok(limosa)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(verb).arg("--store").arg(&self.store);
        if self.with_metrics {
            command.env("LIMOSA_LOG_FORMAT", "json");
        }
        command
    }

    /// Starts the agent of a chassis (again).
    ///
    /// # Errors
    ///
    /// When it ends at once.
    pub async fn start_agent(&mut self, lab: &Lab, chassis: &str) -> Result<()> {
        let mut command = self.command("agent");
        command.args(["--chassis", chassis, "--ovs-rundir"]).arg(lab.chassis(chassis).ovs_rundir());
        let place = if self.with_metrics { CENTRAL } else { chassis };
        if self.with_metrics {
            command.arg("--metrics-listen").arg(Self::metrics_of(lab, chassis));
        }
        let agent = lab.spawn_in(place, &command).await?;
        self.replace(format!("agent of {chassis}"), agent);
        Ok(())
    }

    /// Starts the controller (again).
    ///
    /// # Errors
    ///
    /// When it ends at once.
    pub async fn start_controller(&mut self, lab: &Lab) -> Result<()> {
        self.start_controller_with(lab, &["--nb", &lab.nb(), "--sb", &lab.sb()]).await
    }

    /// As [`start_controller`](Self::start_controller), with these options.
    ///
    /// # Errors
    ///
    /// When it ends at once.
    pub async fn start_controller_with(&mut self, lab: &Lab, options: &[&str]) -> Result<()> {
        let mut command = self.command("controller");
        command.args(options);
        if self.with_metrics {
            command.arg("--metrics-listen").arg(Self::metrics_of(lab, CENTRAL));
        }
        let controller = lab.spawn_in(CENTRAL, &command).await?;
        self.replace("controller".to_owned(), controller);
        Ok(())
    }

    fn replace(&mut self, name: String, process: LabProcess) {
        self.processes.retain(|(other, _)| *other != name);
        self.processes.push((name, process));
    }

    /// The agent of a chassis.
    pub fn agent(&self, chassis: &str) -> Option<&LabProcess> {
        self.process(&format!("agent of {chassis}"))
    }

    /// The controller.
    pub fn controller(&self) -> Option<&LabProcess> {
        self.process("controller")
    }

    /// Stops the clock of one of the processes while it does not write to the
    /// store: nobody else could, until it goes on.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn pause(&self, process: &LabProcess) -> Result<()> {
        let path = self.store.join(".lock");
        let locked = move || -> Result<File> {
            let file = File::options().append(true).open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        let _lock = spawn_blocking(locked).await.context("wait for the store")?.context("lock the store")?;
        process.pause().await
    }

    fn process(&self, name: &str) -> Option<&LabProcess> {
        self.processes.iter().find(|(other, _)| other == name).map(|(_, process)| process)
    }

    /// Those of its processes that have ended, and what they said last.
    pub fn ended(&self) -> Vec<String> {
        let ended = self.processes.iter().filter(|(_, process)| !process.alive());
        ended.map(|(name, process)| format!("{name} has ended: {}", process.log_tail())).collect()
    }

    /// Where the objects are.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Runs a verb that prints an object.
    ///
    /// # Errors
    ///
    /// What it says when it fails.
    pub async fn object(&self, lab: &Lab, verb: &str, args: &[&str]) -> Result<Object> {
        let (binary, store) = (self.binary.to_string_lossy(), self.store.to_string_lossy());
        let common = [&*binary, verb, "--store", &*store, "--output", "json"];
        let output = lab.run_in(CENTRAL, &[&common[..], args].concat()).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "limosa {verb} {}: {}", args.join(" "), said.trim());
        let object = serde_json::from_slice(&output.stdout);
        Ok(Object(object.with_context(|| format!("understand what limosa {verb} prints"))?))
    }

    /// Asks for a migration; returns once the port is pinned to the source,
    /// so that the target's interface may appear.
    ///
    /// # Errors
    ///
    /// When it is rejected, or not pinned in time.
    pub async fn migrate(&self, lab: &Lab, port: &str, from: &str, to: &str) -> Result<Object> {
        let args = [port, "--from", from, "--to", to, "--wait=arming", "--timeout", PHASE_TIMEOUT];
        self.object(lab, "migrate", &args).await
    }

    /// Asks for a migration and does not wait.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn ask(&self, lab: &Lab, name: &str, port: &str, from: &str, to: &str) -> Result<Object> {
        self.object(lab, "migrate", &[port, "--from", from, "--to", to, "--name", name]).await
    }

    /// What `limosa status` tells a person of a migration.
    ///
    /// # Errors
    ///
    /// What it says when it fails.
    pub async fn status(&self, lab: &Lab, name: &str) -> Result<String> {
        let (binary, store) = (self.binary.to_string_lossy(), self.store.to_string_lossy());
        lab.exec_in(CENTRAL, &[&*binary, "status", name, "--store", &*store]).await
    }

    /// Waits until a migration has come to a phase.
    ///
    /// # Errors
    ///
    /// When it does not in time, or ends otherwise.
    pub async fn wait(&self, lab: &Lab, name: &str, phase: &str) -> Result<Object> {
        self.object(lab, "wait", &[name, "--for", phase, "--timeout", PHASE_TIMEOUT]).await
    }
}

/// The flows of a bridge that carry Limosa's cookie, of those that
/// [`Chassis::dump_flows`](crate::Chassis::dump_flows) returns.
pub fn flows_of_ours(flows: &[String]) -> Vec<&str> {
    let ours = |flow: &&String| cookie(flow).is_some_and(is_ours);
    flows.iter().filter(ours).map(String::as_str).collect()
}

/// What is not as it was before a migration: flows of Limosa's on any bridge,
/// and the options of the port, which were `options`.
///
/// # Errors
///
/// When a bridge or the database cannot be read.
pub async fn left_behind(lab: &Lab, port: &str, options: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for chassis in lab.all_chassis() {
        for bridge in chassis.vsctl(&["list-br"]).await?.lines() {
            for flow in flows_of_ours(&chassis.dump_flows_of(bridge).await?) {
                left.push(format!("a flow is left on {bridge} of {}: {flow}", chassis.name()));
            }
        }
    }
    let now = lab.port_options(port).await?;
    if now != options {
        left.push(format!("the options of {port} were {options} and are {now}"));
    }
    Ok(left)
}

/// Whether a flow with this cookie is one of Limosa's.
pub fn is_ours(cookie: u64) -> bool {
    cookie >> 32 == COOKIE_MAGIC
}

fn cookie(flow: &str) -> Option<u64> {
    let (_, rest) = flow.split_once("cookie=0x")?;
    let digits = rest.find(|c: char| !c.is_ascii_hexdigit()).map_or(rest, |end| &rest[..end]);
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn knows_its_flows_by_the_upper_half_of_the_cookie() {
        let flows = [
            "cookie=0x4c494d4f00000103, table=65, priority=150,reg15=0x1 actions=drop",
            "cookie=0xb2c4fa09, table=65, priority=100,reg15=0x1 actions=output:1",
            "table=0, priority=0 actions=drop",
        ]
        .map(str::to_owned);
        assert_eq!(flows_of_ours(&flows), [flows[0].as_str()]);
    }

    #[test]
    fn steps_come_from_the_controller_and_the_agents() {
        let object = Object(json!({
            "metadata": {"name": "vm1-1"},
            "status": {
                "phase": "Activated",
                "steps": {"Armed": "1970-01-01T00:00:01Z", "Activated": "1970-01-01T00:00:02.000300Z"},
                "nodes": {"ch2": {"role": "Target", "steps": {"Activated": "1970-01-01T00:00:02.000100Z"}}},
            },
        }));
        let steps = object.steps(ClockPair { realtime_ns: 2_000_000_000, monotonic_ns: 0 });
        let steps: Vec<_> = steps.iter().map(|s| (s.name.as_str(), s.who.as_str(), s.at_ns)).collect();
        assert_eq!(
            steps,
            [
                ("Armed", "controller", -1_000_000_000),
                ("Activated", "ch2", 100_000),
                ("Activated", "controller", 300_000)
            ]
        );
        assert_eq!((object.name(), object.phase()), ("vm1-1", "Activated"));
    }
}
