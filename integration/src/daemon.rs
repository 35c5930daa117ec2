//! The daemons of a lab: each can be stopped, killed, paused and started
//! again while the rest goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::holder::{Holder, Priority};
use crate::process::Process;

/// How long a daemon may take to end on a signal.
const EXIT_DEADLINE: Duration = Duration::from_secs(15);

/// Room of each interface of the userspace datapath, bytes: some thousand
/// packets. By default (`net.core.rmem_default`) it has room for some 300, and
/// on a busy machine, which lets the switch wait for 10 ms, loses what no
/// kernel's datapath loses.
const PACKETS: usize = 4 << 20;

/// What a daemon says in its log when it did not end as it should.
const CRASH_MARKS: [&str; 4] = ["assertion", "SIGABRT", "SIGSEGV", "|EMER|"];

/// Which daemon: the first three run in the namespace `central`, the others
/// once on every chassis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// `ovsdb-server` of the northbound database.
    NbDb,
    /// `ovsdb-server` of the southbound database.
    SbDb,
    /// `ovn-northd`.
    Northd,
    /// `ovsdb-server` of the chassis.
    OvsDb,
    /// `ovs-vswitchd`.
    Vswitchd,
    /// `ovn-controller`.
    OvnController,
}

impl Daemon {
    /// The name of its pid file, log and control socket in its run directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::NbDb => "nb",
            Self::SbDb => "sb",
            Self::Northd => "northd",
            Self::OvsDb => "ovsdb",
            Self::Vswitchd => "ovs-vswitchd",
            Self::OvnController => "ovn-controller",
        }
    }

    /// The program and the arguments that are its own; `dir` is its run
    /// directory.
    fn command(self, dir: &str) -> Vec<String> {
        let words: Vec<String> = match self {
            Self::NbDb => central_database(dir, self.name(), "OVN_Northbound", "NB_Global"),
            Self::SbDb => central_database(dir, self.name(), "OVN_Southbound", "SB_Global"),
            Self::Northd => vec![
                "ovn-northd".into(),
                format!("--ovnnb-db=unix:{dir}/nb.sock"),
                format!("--ovnsb-db=unix:{dir}/sb.sock"),
            ],
            Self::OvsDb => {
                vec!["ovsdb-server".into(), format!("{dir}/conf.db"), format!("--remote=punix:{dir}/db.sock")]
            }
            // The kernel's datapath is left alone, also where there is one; for
            // the routes see `Chassis::underlay`.
            Self::Vswitchd => vec![
                "ovs-vswitchd".into(),
                format!("unix:{dir}/db.sock"),
                "--disable-system".into(),
                "--disable-system-route".into(),
            ],
            Self::OvnController => vec!["ovn-controller".into(), format!("unix:{dir}/db.sock")],
        };
        let own = ["--detach", "--no-chdir"].map(String::from);
        let file = |option: &str, extension: &str| format!("--{option}={dir}/{}.{extension}", self.name());
        let mut files = vec![file("pidfile", "pid"), file("log-file", "log")];
        if self != Self::OvnController {
            files.push(file("unixctl", "ctl"));
        }
        [words, own.to_vec(), files].concat()
    }
}

/// As OVN's own scripts start it: where else it listens, and with which
/// certificates, is in the database (`ovn-nbctl set-connection`, `set-ssl`).
fn central_database(dir: &str, name: &str, database: &str, global: &str) -> Vec<String> {
    vec![
        "ovsdb-server".into(),
        format!("{dir}/{name}.db"),
        format!("--remote=punix:{dir}/{name}.sock"),
        format!("--remote=db:{database},{global},connections"),
        format!("--ca-cert=db:{database},SSL,ca_cert"),
        format!("--certificate=db:{database},SSL,certificate"),
        format!("--private-key=db:{database},SSL,private_key"),
    ]
}

/// One daemon of a lab.
#[derive(Debug, Clone)]
pub struct DaemonHandle {
    holder: Arc<Holder>,
    ns: String,
    dir: PathBuf,
    daemon: Daemon,
}

impl DaemonHandle {
    pub(crate) fn new(holder: &Arc<Holder>, ns: &str, dir: &Path, daemon: Daemon) -> Self {
        Self { holder: Arc::clone(holder), ns: ns.to_owned(), dir: dir.to_owned(), daemon }
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.daemon.name()))
    }

    /// Its control socket, for `ovs-appctl -t`.
    pub fn ctl(&self) -> PathBuf {
        // ovn-controller has no option for it: its number is in the name.
        if let (Daemon::OvnController, Some(pid)) = (self.daemon, self.pid()) {
            return self.file(&format!("{pid}.ctl"));
        }
        self.file("ctl")
    }

    /// Starts it; it runs and listens when this returns.
    ///
    /// # Errors
    ///
    /// When it runs already, or cannot start.
    pub async fn start(&self) -> Result<()> {
        ensure!(!self.alive(), "{} in {} runs already", self.daemon.name(), self.ns);
        let dir = self.dir.to_str().context("a run directory with a strange name")?;
        let argv = self.daemon.command(dir);
        let switch = self.daemon == Daemon::Vswitchd;
        let priority = if switch { Priority::First } else { Priority::Ordinary };
        let mut command = self.holder.command_at(&self.ns, priority, &argv[0]);
        command.args(&argv[1..]).env("OVS_RUNDIR", dir).env("OVN_RUNDIR", dir);
        let output = self.holder.output(command).await?;
        ensure!(
            output.status.success(),
            "{} in {}: {}: {}",
            argv[0],
            self.ns,
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        if let Ok(script) = std::fs::read_to_string(self.after_start()) {
            self.holder.script(&script).await?;
        }
        if switch { self.widen_packet_sockets() } else { Ok(()) }
    }

    /// To be done whenever the switch has opened another interface: see [`PACKETS`].
    pub(crate) fn widen_packet_sockets(&self) -> Result<()> {
        self.process()?.map_or(Ok(()), |process| process.widen_packet_sockets(PACKETS))
    }

    /// A script that has to follow each start of it, if there is one.
    pub(crate) fn after_start(&self) -> PathBuf {
        self.file("after-start")
    }

    /// Its number inside the lab: it changes when the daemon was started
    /// anew, and only then. None before its first start, and after it ended
    /// in order.
    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.file("pid")).ok()?.trim().parse().ok()
    }

    /// The process, when it runs.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub fn process(&self) -> Result<Option<Process>> {
        self.pid().map_or(Ok(None), |pid| self.holder.process(pid))
    }

    /// Whether it runs (a paused one does).
    pub fn alive(&self) -> bool {
        matches!(self.process(), Ok(Some(process)) if process.alive())
    }

    fn running(&self) -> Result<Process> {
        self.process()?.with_context(|| format!("{} in {} does not run", self.daemon.name(), self.ns))
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        let process = self.running()?;
        process.kill(signal)?;
        // A paused one reads its signals only when it runs.
        process.kill(Signal::CONT)?;
        process.wait_exit(EXIT_DEADLINE).await
    }

    /// Ends it with SIGTERM and waits until it is gone.
    ///
    /// `ovn-controller` then leaves its flows and bindings as they are, as
    /// when its pod is replaced; `appctl exit` would have it clear them.
    ///
    /// # Errors
    ///
    /// When it does not run, or does not end.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    /// Ends it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it does not run, or does not end.
    pub async fn kill9(&self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    /// Stops its clock (SIGSTOP).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.running()?.kill(Signal::STOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.running()?.kill(Signal::CONT)
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read(self.file("log")).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// The lines of its log that only a daemon in trouble writes.
    pub fn crash_lines(&self) -> Vec<String> {
        let log = self.log();
        log.lines().filter(|l| CRASH_MARKS.iter().any(|mark| l.contains(mark))).map(str::to_owned).collect()
    }
}
