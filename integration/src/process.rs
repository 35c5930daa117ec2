//! Processes of a lab, held by a pidfd: no signal can reach a stranger who
//! got the same number later, and the end of a process is an event.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, pidfd_getfd, pidfd_open,
    pidfd_send_signal, setpriority_process, waitid,
};
use tokio::process::Child;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::holder::{Holder, Priority, within};

/// The nice value of what is favoured.
const FAVOURED: i32 = -10;

/// A running process.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// The process with this number outside the lab; none when it is gone.
    pub(crate) fn open(pid: i32) -> Result<Option<Self>> {
        let number = Pid::from_raw(pid).context("a process has the number 0")?;
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self { pid, fd })),
            Err(Errno::SRCH) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("open process {pid}")),
        }
    }

    /// Its number outside the lab.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal. A process that is gone already is no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses for another reason.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("signal process {}", self.pid)),
        }
    }

    /// Gives it more of a busy machine: an emulated guest that waits for its
    /// turn answers late. Set in both ways of sched(7), because the nice value
    /// alone counts only within an autogroup; that it is refused does no harm.
    pub(crate) fn favour(&self) {
        let _ = std::fs::write(format!("/proc/{}/autogroup", self.pid), FAVOURED.to_string());
        let _ = setpriority_process(Pid::from_raw(self.pid), FAVOURED);
    }

    /// Gives its packet sockets room for `bytes`. What they have no room for is
    /// lost, and they belong to someone who cannot be told to ask for more.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(crate) fn widen_packet_sockets(&self, bytes: usize) -> Result<()> {
        let pid = self.pid;
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in fds.with_context(|| format!("list the files of process {pid}"))?.flatten() {
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may close one meanwhile.
            let opens = std::fs::read_link(entry.path()).unwrap_or_default();
            if !opens.to_str().is_some_and(|opens| opens.starts_with("socket:")) {
                continue;
            }
            match pidfd_getfd(&self.fd, fd, PidfdGetfdFlags::empty()) {
                Ok(socket) if sockopt::socket_domain(&socket) == Ok(AddressFamily::PACKET) => {
                    sockopt::set_socket_recv_buffer_size_force(&socket, bytes).context("widen a socket")?;
                }
                Ok(_) | Err(Errno::BADF) => {}
                Err(e) => return Err(e).with_context(|| format!("share a socket of process {pid}")),
            }
        }
        Ok(())
    }

    /// Whether it still runs (a zombie does not).
    pub fn alive(&self) -> bool {
        !ended_within(&self.fd, Duration::ZERO).unwrap_or(false)
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it still runs after `deadline`.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<()> {
        let fd = self.fd.try_clone().context("share a pidfd")?;
        let ended =
            spawn_blocking(move || ended_within(&fd, deadline)).await.context("wait for a process")??;
        ensure!(ended, "process {} still runs after {deadline:?}", self.pid);
        Ok(())
    }
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
pub(crate) fn ended_within(pidfd: &OwnedFd, deadline: Duration) -> Result<bool> {
    let deadline = Timespec::try_from(deadline).context("a long deadline")?;
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&deadline)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e).context("wait for a process"),
        }
    }
}

/// A program that the lab started and whose output goes to a log.
///
/// It ends with the lab; dropping the handle leaves it running.
#[derive(Debug)]
pub struct LabProcess {
    name: String,
    log: PathBuf,
    process: Process,
    /// nsenter, which has started it and waits for it.
    entry: Process,
    child: Mutex<Child>,
}

impl LabProcess {
    /// Starts `command` in `ns`.
    pub(crate) async fn spawn(
        holder: &Holder,
        ns: &str,
        priority: Priority,
        command: &Command,
        log: PathBuf,
    ) -> Result<Self> {
        let mut entered = holder.command_at(ns, priority, command.get_program());
        entered.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(key, value),
                None => entered.env_remove(key),
            };
        }
        let file = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        entered.stdout(file.try_clone().context("share the log")?).stderr(Stdio::from(file));
        let name = command.get_program().to_string_lossy().into_owned();
        // What nsenter has started goes on without it. Left stopped (see `pause`), it would keep the lab from ending.
        let mut child = tokio::process::Command::from(entered)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("run {name}"))?;
        let outside = child.id().context("a process that ended at once")?;
        let entry = Process::open(outside.cast_signed())?.context("a process that ended at once")?;
        let process = within(Duration::from_secs(10), &format!("{name} to start"), async {
            // nsenter forks on the way into the PID namespace, within a
            // millisecond or so; nothing announces it.
            let path = format!("/proc/{outside}/task/{outside}/children");
            loop {
                let children = std::fs::read_to_string(&path).unwrap_or_default();
                let forked = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
                if let Some(process) = forked.map(Process::open).transpose()?.flatten() {
                    return Ok(process);
                }
                if let Some(status) = child.try_wait().context("wait for nsenter")? {
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    bail!("{name}: {status}: {}", said.trim());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await?;
        Ok(Self { name, log, process, entry, child: Mutex::new(child) })
    }

    /// Its number outside the lab.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        self.process.kill(signal)?;
        // It may have been paused.
        if signal == Signal::STOP { Ok(()) } else { self.entry.kill(Signal::CONT) }
    }

    /// Stops its clock (SIGSTOP), until SIGCONT.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn pause(&self) -> Result<()> {
        self.process.kill(Signal::STOP)?;
        // nsenter does as its child does: it stops, and sees the end of it only when it goes on.
        let entry = self.entry.fd.try_clone().context("share a pidfd")?;
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        spawn_blocking(move || waitid(WaitId::PidFd(entry.as_fd()), stopped))
            .await
            .context("wait for nsenter")?
            .context("wait for nsenter to stop")
            .map(drop)
    }

    /// Whether it still runs.
    pub fn alive(&self) -> bool {
        self.process.alive()
    }

    /// Waits for its end and returns its exit status.
    ///
    /// # Errors
    ///
    /// When it still runs after `deadline`; the text has the end of its log.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        within(deadline, "its end", self.ended())
            .await
            .with_context(|| format!("{}: {}", self.name, self.log_tail()))
    }

    /// nsenter waits for what it started, and ends with the same status.
    async fn ended(&self) -> Result<ExitStatus> {
        self.child.lock().await.wait().await.context("wait for nsenter")
    }

    /// Everything it has said so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of its log, for a person who wants to know why.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits until its log contains `text`.
    ///
    /// # Errors
    ///
    /// When it does not after `deadline`, or when the process ends first.
    pub async fn wait_log(&self, text: &str, deadline: Duration) -> Result<()> {
        let said = async {
            let events = Inotify::init().context("start inotify")?;
            events.watches().add(&self.log, WatchMask::MODIFY).context("watch the log")?;
            let mut events = events.into_event_stream([0; 4096]).context("watch the log")?;
            loop {
                let alive = self.alive();
                if self.log().contains(text) {
                    return Ok(());
                }
                if !alive {
                    bail!("it ended first");
                }
                tokio::select! {
                    _ = events.next() => {}
                    ended = self.ended() => drop(ended?),
                }
            }
        };
        within(deadline, &format!("{:?} in the log", text), said)
            .await
            .with_context(|| format!("{}: {}", self.name, self.log_tail()))
    }
}
