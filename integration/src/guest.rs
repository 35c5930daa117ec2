//! A real guest under QEMU, with a tap on br-int, and its live migration.
//!
//! It is migrated as libvirt does it: the target's QEMU starts stopped (`-S`)
//! and is told to run once the source says that it has handed everything over.
//! In between no copy runs, and either can be the one that goes on.
//!
//! Its memory is a file that both QEMUs map, so only the devices' state is
//! sent, as when a host's QEMU is replaced in place. To the network it is the
//! same: the guest stops here and announces itself there. Copying is not an
//! option under software emulation: QEMU's notes of what the guest has
//! written meanwhile have gaps when emulator and migration run at once, and
//! of some ten migrations one ended in a guest with broken memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

use crate::holder::{Holder, within};
use crate::image::Image;
use crate::lab::{Lab, programs_present};
use crate::network::LogicalPort;
use crate::process::Process;
use crate::qmp::{Qmp, Stamp};

const QEMU: &str = "qemu-system-x86_64";

/// Where the guests' memory is: a file system of the lab's own, in memory.
const MEMORY: &str = "/dev/shm";

/// It boots in about 3 s by software emulation; a busy machine takes longer.
const BOOT: Duration = Duration::from_secs(120);

/// How long a migration may take.
const MIGRATION: Duration = Duration::from_secs(60);

/// The pause that QEMU may plan for, milliseconds.
const DOWNTIME_LIMIT_MS: u64 = 50;

const EXIT: Duration = Duration::from_secs(15);

/// A guest, or a copy of one that waits to be filled.
#[derive(Debug)]
pub struct Guest {
    holder: Arc<Holder>,
    chassis: String,
    dir: PathBuf,
    tap: String,
    port: LogicalPort,
    qmp: Qmp,
    process: Process,
    incoming: Option<String>,
}

/// When a migration's steps were taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MigrationTimes {
    /// The source stopped the guest (its event `STOP`).
    pub pause: Stamp,
    /// The target runs it (its event `RESUME`).
    pub resume: Stamp,
    /// The pause as the source's `query-migrate` has it, milliseconds.
    pub downtime_ms: Option<i64>,
}

impl MigrationTimes {
    /// From `STOP` to `RESUME`, milliseconds.
    pub fn pause_ms(&self) -> f64 {
        (self.resume.monotonic_ns - self.pause.monotonic_ns) as f64 / crate::clock::MS as f64
    }
}

impl Guest {
    /// Boots the guest of logical port `port` on a chassis; returns when it
    /// answers and OVN has bound the port.
    ///
    /// # Errors
    ///
    /// When a program is missing, or the guest does not come up.
    pub async fn start(lab: &Lab, chassis: &str, port: &str) -> Result<Self> {
        let mut guest = Self::launch(lab, chassis, port, false).await?;
        let console =
            UnixStream::connect(guest.dir.join("console.sock")).await.context("connect to the console")?;
        guest.resume().await?;
        let mut lines = BufReader::new(console).split(b'\n');
        let up = async {
            while let Some(line) = lines.next_segment().await.context("read the console")? {
                if String::from_utf8_lossy(&line).contains("GUEST UP") {
                    return Ok(());
                }
            }
            bail!("QEMU ended")
        };
        within(BOOT, "the guest to boot", up).await.with_context(|| guest.console())?;
        lab.nbctl(&["wait-until", "Logical_Switch_Port", port, "up=true"]).await?;
        lab.sync().await?;
        Ok(guest)
    }

    /// Starts a QEMU that waits for the guest of `port`, its tap plugged.
    ///
    /// # Errors
    ///
    /// When a program is missing or QEMU does not start.
    pub async fn prepare_incoming(lab: &Lab, chassis: &str, port: &str) -> Result<Self> {
        Self::launch(lab, chassis, port, true).await
    }

    async fn launch(lab: &Lab, chassis: &str, port: &str, incoming: bool) -> Result<Self> {
        programs_present(&[(QEMU, "qemu-system-x86")])?;
        let image = Image::get().await?;
        let (port, tap) = (lab.known_port(port)?, format!("t-{port}"));
        let dir = lab.chassis(chassis).ovs_rundir().join(format!("g-{}", port.name));
        // What a guest that was here before has left.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).context("make the guest's directory")?;
        // QEMU finds the tap there: its name is fixed, and it can be plugged
        // first. IPv6 off, so that what the tap says is the guest's alone; a
        // long queue, because the emulated processor is slow for a moment
        // after a migration, and an overflow would look like a loss on the way.
        lab.exec_in(
            chassis,
            &[
                "sh",
                "-euc",
                "ip tuntap add $0 mode tap; sysctl -qw net.ipv6.conf.$0.disable_ipv6=1
                 ip link set $0 txqueuelen 5000 up",
                &tap,
            ],
        )
        .await?;
        Self::qemu(lab, chassis, &image, &dir, &tap, &port, incoming).await?;
        lab.plug(chassis, &tap, &port.name).await?;
        let mut qmp = Qmp::connect(&dir.join("qmp.sock")).await?;
        let capabilities =
            ["events", "x-ignore-shared"].map(|name| json!({"capability": name, "state": true}));
        qmp.execute("migrate-set-capabilities", json!({"capabilities": capabilities})).await?;
        let incoming = incoming.then(|| format!("unix:{}/migration.sock", dir.display()));
        if let Some(uri) = &incoming {
            qmp.execute("migrate-incoming", json!({"uri": uri})).await?;
        }
        let pid = std::fs::read_to_string(dir.join("qemu.pid")).context("read QEMU's pid file")?;
        let pid = pid.trim().parse().context("read QEMU's pid file")?;
        let process = lab.holder.process(pid)?.context("QEMU ended at once")?;
        process.favour();
        let holder = Arc::clone(&lab.holder);
        Ok(Self { holder, chassis: chassis.to_owned(), dir, tap, port, qmp, process, incoming })
    }

    async fn qemu(
        lab: &Lab,
        chassis: &str,
        image: &Image,
        dir: &Path,
        tap: &str,
        port: &LogicalPort,
        incoming: bool,
    ) -> Result<()> {
        let dir = dir.display();
        let ip6 = port.ip6.as_ref().map_or_else(String::new, |ip6| format!("{ip6}/64"));
        let append = format!("console=ttyS0 quiet panic=1 guest_ip={}/24 guest_ip6={ip6}", port.ip);
        let console =
            format!("socket,id=con,path={dir}/console.sock,server=on,wait=off,logfile={dir}/console.log");
        let netdev = format!("tap,id=n0,ifname={tap},script=no,downscript=no,vnet_hdr=off");
        let device = format!("virtio-net-pci,netdev=n0,mac={},romfile=", port.mac);
        let (pidfile, qmp) = (format!("{dir}/qemu.pid"), format!("unix:{dir}/qmp.sock,server=on,wait=off"));
        let memory =
            format!("memory-backend-file,id=ram,size=256M,share=on,mem-path={MEMORY}/{}.ram", port.name);
        let (kernel, initrd) = (image.kernel.display().to_string(), image.initrd.display().to_string());
        let mut argv =
            vec![QEMU, "-accel", "tcg", "-nodefaults", "-display", "none", "-m", "256", "-object", &memory];
        argv.extend(["-M", "q35,memory-backend=ram"]);
        argv.extend(["-no-reboot", "-S", "-daemonize", "-pidfile", &pidfile, "-qmp", &qmp]);
        argv.extend(["-kernel", &kernel, "-initrd", &initrd, "-append", &append]);
        argv.extend(["-chardev", &console, "-serial", "chardev:con", "-netdev", &netdev, "-device", &device]);
        if incoming {
            argv.extend(["-incoming", "defer"]);
        }
        lab.exec_in(chassis, &argv).await.map(drop)
    }

    /// The chassis it is on.
    pub fn chassis(&self) -> &str {
        &self.chassis
    }

    /// Its interface on br-int.
    pub fn tap(&self) -> &str {
        &self.tap
    }

    /// Its logical port.
    pub fn port(&self) -> &LogicalPort {
        &self.port
    }

    /// Its monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Whether its QEMU runs.
    pub fn alive(&self) -> bool {
        self.process.alive()
    }

    /// What it has written to its console.
    pub fn console(&self) -> String {
        let log = std::fs::read(self.dir.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// QEMU's word for its state: `running`, `paused`, `inmigrate`,
    /// `postmigrate`, …
    ///
    /// # Errors
    ///
    /// When QEMU does not answer.
    pub async fn status(&mut self) -> Result<String> {
        let status = self.qmp.execute("query-status", json!({})).await?;
        Ok(status["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Lets it run (`cont`), and says when it did.
    ///
    /// # Errors
    ///
    /// When QEMU refuses, or it does not run.
    pub async fn resume(&mut self) -> Result<Stamp> {
        self.qmp.execute("cont", json!({})).await?;
        Ok(self.qmp.wait_event("RESUME", MIGRATION).await?.at)
    }

    /// Begins to migrate it to `target`, with at most `bandwidth` bytes a
    /// second, and returns at once. About 200 kB are sent; with 50 kB a second
    /// it lasts, and can be interfered with.
    ///
    /// # Errors
    ///
    /// When `target` was not made by
    /// [`prepare_incoming`](Self::prepare_incoming), or QEMU refuses.
    pub async fn begin_migration(&mut self, target: &Self, bandwidth: u64) -> Result<()> {
        let uri = target.incoming.as_ref().context("this copy does not wait for a migration")?;
        let parameters = json!({"downtime-limit": DOWNTIME_LIMIT_MS, "max-bandwidth": bandwidth});
        self.qmp.execute("migrate-set-parameters", parameters).await?;
        self.qmp.execute("migrate", json!({"uri": uri})).await.map(drop)
    }

    /// Waits until the source has stopped the guest, and says when.
    ///
    /// # Errors
    ///
    /// When it does not within a minute.
    pub async fn wait_paused(&mut self) -> Result<Stamp> {
        Ok(self.qmp.wait_event("STOP", MIGRATION).await?.at)
    }

    /// Waits until the source has handed everything over; then neither copy
    /// runs.
    ///
    /// # Errors
    ///
    /// When the migration fails.
    pub async fn wait_handed_over(&mut self) -> Result<()> {
        let ended =
            |data: &Value| matches!(data["status"].as_str(), Some("completed" | "failed" | "cancelled"));
        let event = self
            .qmp
            .wait("the migration's end", MIGRATION, |e| e.name == "MIGRATION" && ended(&e.data))
            .await?;
        ensure!(event.data["status"] == "completed", "the migration ended as {}", event.data["status"]);
        Ok(())
    }

    /// The pause as `query-migrate` has it, milliseconds.
    ///
    /// # Errors
    ///
    /// When QEMU does not answer.
    pub async fn downtime_ms(&mut self) -> Result<Option<i64>> {
        Ok(self.qmp.execute("query-migrate", json!({})).await?["downtime"].as_i64())
    }

    /// Ends its QEMU and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn kill(&self, signal: Signal) -> Result<()> {
        self.process.kill(signal)?;
        self.process.wait_exit(EXIT).await
    }

    /// Takes its tap from br-int and deletes it. Its QEMU must be gone.
    ///
    /// # Errors
    ///
    /// What `ovs-vsctl` or `ip` say.
    pub async fn unplug(&self, lab: &Lab) -> Result<()> {
        lab.unplug(&self.chassis, &self.tap).await?;
        self.holder.script(&format!("ip -n {} link del {}", self.chassis, self.tap)).await.map(drop)
    }
}

/// Migrates `source` to `target`, which then runs it.
///
/// # Errors
///
/// When QEMU refuses or the migration fails.
pub async fn migrate(source: &mut Guest, target: &mut Guest) -> Result<MigrationTimes> {
    source.begin_migration(target, 1 << 30).await?;
    let pause = source.wait_paused().await?;
    source.wait_handed_over().await?;
    let resume = target.resume().await?;
    let downtime_ms = source.downtime_ms().await?;
    Ok(MigrationTimes { pause, resume, downtime_ms })
}
