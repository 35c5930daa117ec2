//! A real OVN cluster on one machine.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;

use crate::chassis::{CTL_TIMEOUT, Chassis};
use crate::daemon::{Daemon, DaemonHandle};
use crate::holder::{Holder, Priority};
use crate::image;
use crate::network::LogicalPort;
use crate::process::LabProcess;
use crate::rundir::RunDir;

/// The namespace of the databases and of `ovn-northd`.
pub const CENTRAL: &str = "central";

/// The programs a lab cannot do without, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 9] = [
    ("ovs-vswitchd", "openvswitch-switch"),
    ("ovsdb-tool", "openvswitch-switch"),
    ("ovn-northd", "ovn-central"),
    ("ovn-nbctl", "ovn-common"),
    ("ovn-controller", "ovn-host"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
];

/// What a lab is to be like.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// How many chassis, 0 to 250.
    pub chassis: usize,
    /// The MTU of the fabric, bytes. Tunnels add 58 bytes to a frame and
    /// the endpoints send 1500.
    pub underlay_mtu: u32,
    /// Whether to wait until no other lab runs on this machine, and to keep
    /// others waiting meanwhile: for what measures.
    pub alone: bool,
    /// `ovn-monitor-all`: whether every `ovn-controller` reads the whole
    /// southbound database.
    pub monitor_all: bool,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { chassis: 3, underlay_mtu: 1700, alone: false, monitor_all: false }
    }
}

/// A running lab. Dropping it ends every process in it.
#[derive(Debug)]
pub struct Lab {
    pub(crate) holder: Arc<Holder>,
    dir: RunDir,
    chassis: Vec<Chassis>,
    pub(crate) ports: Mutex<HashMap<String, LogicalPort>>,
    logs: AtomicUsize,
    _turn: File,
}

impl Lab {
    /// Starts the cluster. When this returns every chassis is registered and
    /// has br-int with OVN's flows.
    ///
    /// # Errors
    ///
    /// When a program is missing (the text says which package has it), when
    /// not root, or when a daemon does not start.
    pub async fn start(options: LabOptions) -> Result<Self> {
        ensure!(options.chassis <= 250, "a lab has 0 to 250 chassis");
        programs_present(&PROGRAMS)?;
        let alone = options.alone;
        let turn = spawn_blocking(move || turn(alone)).await.context("wait for other labs")??;
        let holder = Arc::new(Holder::start()?);
        let dir = RunDir::create(holder.pid())?;
        let chassis = (1..=options.chassis).map(|n| Chassis::new(&holder, dir.path(), n)).collect();
        let lab =
            Self { holder, dir, chassis, ports: Mutex::default(), logs: AtomicUsize::new(0), _turn: turn };
        lab.start_central(&options).await?;
        let sb = lab.sb();
        try_join_all(lab.chassis.iter().map(|ch| ch.start(&sb, &options))).await?;
        for ch in &lab.chassis {
            lab.sbctl(&["wait-until", "chassis", ch.name()]).await?;
        }
        lab.sync().await?;
        Ok(lab)
    }

    async fn start_central(&self, options: &LabOptions) -> Result<()> {
        let (dir, mtu) = (self.dir().display(), options.underlay_mtu);
        self.holder
            .script(&format!(
                "mkdir -p {dir}/central {dir}/log
                 ip netns add central; ip -n central link set lo up
                 ip netns add fabric
                 ip netns exec fabric sysctl -qw net.ipv6.conf.default.disable_ipv6=1
                 ip -n fabric link add br0 mtu {mtu} type bridge
                 ip -n fabric link set br0 up
                 ovsdb-tool create {dir}/central/nb.db /usr/share/ovn/ovn-nb.ovsschema
                 ovsdb-tool create {dir}/central/sb.db /usr/share/ovn/ovn-sb.ovsschema"
            ))
            .await?;
        for daemon in [Daemon::NbDb, Daemon::SbDb] {
            self.daemon(CENTRAL, daemon).start().await?;
        }
        self.nbctl(&["init"]).await?;
        self.sbctl(&["init"]).await?;
        self.daemon(CENTRAL, Daemon::Northd).start().await
    }

    /// The directory of this lab's sockets and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where a file inside the lab is found from outside: the lab may have
    /// mounted something of its own there.
    pub fn outside(&self, inside: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// The remote of the northbound database.
    pub fn nb(&self) -> String {
        format!("unix:{}/central/nb.sock", self.dir().display())
    }

    /// The remote of the southbound database.
    pub fn sb(&self) -> String {
        format!("unix:{}/central/sb.sock", self.dir().display())
    }

    /// The chassis of this name.
    ///
    /// # Panics
    ///
    /// When the lab has none.
    pub fn chassis(&self, name: &str) -> &Chassis {
        let found = self.chassis.iter().find(|ch| ch.name() == name);
        found.unwrap_or_else(|| panic!("the lab has {} chassis, and no {name}", self.chassis.len()))
    }

    /// Every chassis, in order.
    pub fn all_chassis(&self) -> &[Chassis] {
        &self.chassis
    }

    /// A daemon of a chassis, or one of [`CENTRAL`].
    ///
    /// # Panics
    ///
    /// When the lab has no such chassis.
    pub fn daemon(&self, place: &str, daemon: Daemon) -> DaemonHandle {
        if place == CENTRAL {
            return DaemonHandle::new(&self.holder, CENTRAL, &self.dir().join(CENTRAL), daemon);
        }
        self.chassis(place).daemon(daemon)
    }

    /// `ovn-nbctl`.
    ///
    /// # Errors
    ///
    /// What `ovn-nbctl` says.
    pub async fn nbctl(&self, args: &[&str]) -> Result<String> {
        let db = format!("--db={}", self.nb());
        self.holder.exec(CENTRAL, &[&["ovn-nbctl", CTL_TIMEOUT, &db], args].concat()).await
    }

    /// `ovn-sbctl`.
    ///
    /// # Errors
    ///
    /// What `ovn-sbctl` says.
    pub async fn sbctl(&self, args: &[&str]) -> Result<String> {
        let db = format!("--db={}", self.sb());
        self.holder.exec(CENTRAL, &[&["ovn-sbctl", CTL_TIMEOUT, &db], args].concat()).await
    }

    /// Waits until every chassis has carried out what the northbound
    /// database says now.
    ///
    /// # Errors
    ///
    /// When one does not.
    pub async fn sync(&self) -> Result<()> {
        self.nbctl(&["--wait=hv", "sync"]).await.map(drop)
    }

    /// `ovs-vsctl` on a chassis.
    ///
    /// # Errors
    ///
    /// What `ovs-vsctl` says.
    pub async fn vsctl(&self, chassis: &str, args: &[&str]) -> Result<String> {
        self.chassis(chassis).vsctl(args).await
    }

    /// `ovs-ofctl COMMAND br-int ARGS…` on a chassis.
    ///
    /// # Errors
    ///
    /// What `ovs-ofctl` says.
    pub async fn ofctl(&self, chassis: &str, command: &str, args: &[&str]) -> Result<String> {
        self.chassis(chassis).ofctl(command, args).await
    }

    /// `ovs-appctl` on a daemon of a chassis.
    ///
    /// # Errors
    ///
    /// What `ovs-appctl` says.
    pub async fn appctl(&self, chassis: &str, daemon: Daemon, args: &[&str]) -> Result<String> {
        self.chassis(chassis).appctl(daemon, args).await
    }

    /// The flows of a chassis' br-int; see [`Chassis::dump_flows`].
    ///
    /// # Errors
    ///
    /// What `ovs-ofctl` says.
    pub async fn dump_flows(&self, chassis: &str) -> Result<Vec<String>> {
        self.chassis(chassis).dump_flows().await
    }

    /// What a person puts before a command to run it in a namespace.
    pub fn enter(&self, ns: &str) -> String {
        let command = self.holder.command(ns, "");
        let words = command.get_args().map(|word| word.to_string_lossy()).filter(|word| !word.is_empty());
        [command.get_program().to_string_lossy()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Starts a program in a namespace of the lab: a chassis, [`CENTRAL`],
    /// or an endpoint's. Of `command` the program, the arguments and the
    /// environment count; what it says goes to a log in the lab's directory.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn spawn_in(&self, ns: &str, command: &Command) -> Result<LabProcess> {
        self.spawn_at(ns, Priority::Ordinary, command).await
    }

    /// As [`spawn_in`](Self::spawn_in), with a say in who runs first.
    pub(crate) async fn spawn_at(
        &self,
        ns: &str,
        priority: Priority,
        command: &Command,
    ) -> Result<LabProcess> {
        let program = Path::new(command.get_program()).file_name().context("a program without a name")?;
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        let log = self.dir().join("log").join(format!("{number}-{ns}-{}.log", program.to_string_lossy()));
        LabProcess::spawn(&self.holder, ns, priority, command, log).await
    }

    /// Runs a command in a namespace of the lab to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not end within 90 s; its exit
    /// status is for the caller to judge.
    pub async fn run_in(&self, ns: &str, argv: &[&str]) -> Result<Output> {
        let (program, args) = argv.split_first().context("an empty command")?;
        let mut command = self.holder.command(ns, program);
        command.args(args);
        self.holder.output(command).await
    }

    /// As [`run_in`](Self::run_in), for a command that has to succeed;
    /// returns what it printed.
    ///
    /// # Errors
    ///
    /// Also when it does not succeed.
    pub async fn exec_in(&self, ns: &str, argv: &[&str]) -> Result<String> {
        self.holder.exec(ns, argv).await
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Before the directory goes, and whoever else still knows the holder.
        self.holder.end();
    }
}

/// Waits for this lab's turn: labs share the machine, or one has it alone. The
/// turn ends when the file is closed, so also when this process dies.
fn turn(alone: bool) -> Result<File> {
    let path = image::directory().join("turn");
    std::fs::create_dir_all(image::directory()).context("create target/guest")?;
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let lock = if alone { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
    flock(&file, lock).with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Says what to install when a program is missing.
pub(crate) fn programs_present(programs: &[(&str, &str)]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The daemons are in sbin, which an ordinary user's PATH may lack.
    let dirs: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let missing: Vec<_> =
        programs.iter().filter(|(program, _)| !dirs.iter().any(|d| d.join(program).is_file())).collect();
    let text: Vec<_> = missing.iter().map(|(program, package)| format!("{program} ({package})")).collect();
    ensure!(missing.is_empty(), "missing: {}; run integration/install.sh", text.join(", "));
    Ok(())
}
