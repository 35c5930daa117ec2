//! The process whose life is the lab's life.
//!
//! ```text
//!   owner (a test, the demo)
//!     │ pipe
//!     ▼
//!   unshare ──► cat          PID 1 of the lab: new mount, net and PID namespace
//!                ├─ ovsdb-server, ovs-vswitchd, ovn-controller, qemu, …
//!                └─ /run/netns (its own tmpfs): central, fabric, ch1, ch2, …
//! ```
//!
//! Every command of the lab enters these namespaces, so names never collide
//! between labs. When the owner drops the lab, or dies in whatever way, `cat`
//! reads the end of the pipe and exits; the kernel then kills every process of
//! its PID namespace, and with the last process go the namespaces and every
//! veth and tap in them. There is nothing to clean up but one directory.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::timeout;

use crate::process::{Process, ended_within};

/// The network namespace of the holder itself, in which nothing runs: what
/// arranges namespaces and links is entered here.
pub const ROOT: &str = "";

/// The network that this very program is in, instead of one of the lab's: for
/// what talks to a server out there, and to the lab through sockets with a path.
pub const OUTSIDE: &str = "outside";

/// How long one command may take. Generous: the machine may be busy.
const COMMAND_DEADLINE: Duration = Duration::from_secs(90);

/// How long the kernel may take to end every process of a lab.
const TEARDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// What the holder runs. Its file systems in memory are the lab's own and end
/// with it; `ready` tells the owner that the namespaces are there, and `exec`
/// leaves `cat` alone in the role of PID 1.
const SCRIPT: &str = "
    mount -t tmpfs tmpfs /run/netns && mount -t tmpfs tmpfs /dev/shm && echo ready && exec cat";

/// What makes a program run as soon as it has something to do.
const REALTIME: [&str; 3] = ["chrt", "--rr", "1"];

/// Lets this very process, but nothing that it starts, run as soon as it has
/// something to do: what it sees is then seen when it happens. That it is
/// refused does no harm.
pub(crate) fn run_first() {
    let own = std::process::id().to_string();
    let mut command = Command::new(REALTIME[0]);
    command.args(["--all-tasks", "--reset-on-fork", REALTIME[1], "--pid", REALTIME[2], &own]);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Who runs first on a busy machine.
///
/// A real datapath is in the kernel or has processors of its own. Here it is
/// a process like the emulated guest next to it, and packets that come while it
/// waits for its turn overflow a socket of 200 kB: a loss that no network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Ordinary,
    /// The switches, and what measures: real-time, where that is allowed.
    First,
}

/// The namespaces of one lab, and the process that keeps them.
#[derive(Debug)]
pub(crate) struct Holder {
    pid: u32,
    namespace: PathBuf,
    realtime: bool,
    life: Mutex<Option<(Child, ChildStdin)>>,
}

impl Holder {
    /// Makes the namespaces.
    ///
    /// # Errors
    ///
    /// When not root, or when `unshare` is missing or refused.
    pub(crate) fn start() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "the lab makes network namespaces: run it as root");
        std::fs::create_dir_all("/run/netns").context("create /run/netns")?;
        let mut child = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run unshare (Debian package util-linux)")?;
        let (Some(stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("unshare was started without pipes");
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("read from the holder")?;
        if line.trim() != "ready" {
            let mut why = String::new();
            drop(stdin);
            stderr.read_to_string(&mut why).context("read from the holder")?;
            child.wait().context("wait for unshare")?;
            bail!("cannot make the lab's namespaces: {}", why.trim());
        }
        let pid = child.id();
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/pid_for_children"))
            .context("read the holder's PID namespace")?;
        let (chrt, args) = (REALTIME[0], &REALTIME[1..]);
        let allowed = Command::new(chrt).args(args).arg("true").stderr(Stdio::null()).status();
        let realtime = allowed.is_ok_and(|status| status.success());
        Ok(Self { pid, namespace, realtime, life: Mutex::new(Some((child, stdin))) })
    }

    /// The holder's process id, seen from outside.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// `program`, to be run in the network namespace `ns` of the lab.
    ///
    /// The command keeps nothing of its owner's terminal: a Ctrl-C there
    /// reaches the owner alone, who then ends the lab in order.
    pub(crate) fn command(&self, ns: &str, program: impl AsRef<OsStr>) -> Command {
        self.command_at(ns, Priority::Ordinary, program)
    }

    /// As [`command`](Self::command), with a say in who runs first.
    pub(crate) fn command_at(&self, ns: &str, priority: Priority, program: impl AsRef<OsStr>) -> Command {
        let of = |name: &str| format!("/proc/{}/ns/{name}", self.pid);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount={}", of("mnt")))
            .arg(format!("--pid={}", of("pid_for_children")))
            // Entering a mount namespace leaves a chroot, otherwise.
            .arg(format!("--root=/proc/{}/root", self.pid));
        if ns != OUTSIDE {
            command.arg(format!("--net={}", of("net")));
        }
        command.arg("--");
        if ns != ROOT && ns != OUTSIDE {
            command.args(["ip", "netns", "exec", ns]);
        }
        if priority == Priority::First && self.realtime {
            command.args(REALTIME);
        }
        command.arg(program).stdin(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not end in time.
    pub(crate) async fn output(&self, command: Command) -> Result<Output> {
        let text = shown(&command);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        timeout(COMMAND_DEADLINE, command.output())
            .await
            .with_context(|| format!("no end after {COMMAND_DEADLINE:?}: {text}"))?
            .with_context(|| format!("run {text}"))
    }

    /// Runs `argv` in `ns` to its end and returns what it printed.
    ///
    /// # Errors
    ///
    /// Also when it ends with another status than 0; the text has what it
    /// said.
    pub(crate) async fn exec<S: AsRef<OsStr>>(&self, ns: &str, argv: &[S]) -> Result<String> {
        let (program, args) = argv.split_first().context("an empty command")?;
        let mut command = self.command(ns, program);
        command.args(args);
        let text = shown(&command);
        let output = self.output(command).await?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "{text}: {}: {}{}",
            output.status,
            said(&output.stderr).trim(),
            said(&output.stdout).trim()
        );
        Ok(said(&output.stdout))
    }

    /// Runs a shell script in the holder's own namespace; the first command
    /// that fails ends it.
    ///
    /// # Errors
    ///
    /// As [`exec`](Self::exec).
    pub(crate) async fn script(&self, script: &str) -> Result<String> {
        self.exec(ROOT, &["sh", "-euc", script]).await
    }

    /// The process that has the number `pid` inside the lab.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub(crate) fn process(&self, pid: u32) -> Result<Option<Process>> {
        let wanted = pid.to_string();
        for entry in std::fs::read_dir("/proc").context("read /proc")? {
            let path = entry.context("read /proc")?.path();
            let Some(outside) = path.file_name().and_then(OsStr::to_str).and_then(|n| n.parse::<i32>().ok())
            else {
                continue;
            };
            // Processes come and go while we look; one that went is not ours.
            let Ok(status) = std::fs::read_to_string(path.join("status")) else { continue };
            let inner = status
                .lines()
                .find_map(|l| l.strip_prefix("NSpid:"))
                .and_then(|l| l.split_whitespace().last());
            let here = std::fs::read_link(path.join("ns/pid")).is_ok_and(|ns| ns == self.namespace);
            if inner == Some(wanted.as_str()) && here {
                return Process::open(outside);
            }
        }
        Ok(None)
    }

    /// Ends every process of the lab, and returns when they are gone.
    pub(crate) fn end(&self) {
        let Some((mut child, stdin)) = self.life.lock().ok().and_then(|mut life| life.take()) else { return };
        // `unshare` ends after PID 1, and PID 1 after all the others.
        let exit =
            Pid::from_raw(self.pid.cast_signed()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        drop(stdin);
        let gone = exit.is_some_and(|fd| ended_within(&fd, TEARDOWN_DEADLINE).unwrap_or(false));
        if !gone {
            tracing::warn!(pid = self.pid, "the lab's processes did not end; killing their first");
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end();
    }
}

/// A command as a person would type it, without the way into the namespaces.
fn shown(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let from = words.iter().position(|w| w == "--").map_or(0, |at| at + 1);
    words[from..].join(" ")
}

/// `future`, unless it takes longer than `deadline`; `what` says for a person
/// what was waited for.
pub(crate) async fn within<T>(
    deadline: Duration,
    what: &str,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(deadline, future).await.with_context(|| format!("{what}: nothing after {deadline:?}"))?
}
