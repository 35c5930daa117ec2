//! The lab's own binary as a measuring tool: some of its subcommands are run
//! inside the lab's namespaces, until SIGTERM.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use crate::holder::Priority;
use crate::lab::Lab;
use crate::process::LabProcess;

const NAME: &str = "limosa-lab";

/// How long a measurement may take to stop and write what it has.
const FINISH: Duration = Duration::from_secs(90);

/// Where the lab's binary is: this program, or next to it, or (for a test,
/// which lies in `deps`) one directory up.
///
/// # Errors
///
/// When it was not built.
pub fn binary() -> Result<PathBuf> {
    let here = std::env::current_exe().context("find this program")?;
    let dirs = here.ancestors().skip(1).take(2);
    let found = dirs.map(|dir| dir.join(NAME)).find(|path| path.is_file());
    found.with_context(|| format!("no {NAME} near {}: run `cargo build -p limosa-lab` first", here.display()))
}

/// A flag that SIGTERM (or Ctrl-C) raises.
///
/// # Errors
///
/// When the signals cannot be caught. Needs a tokio runtime.
pub fn until_terminated() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (raised, terminated) = (Arc::clone(&stop), terminated()?);
    tokio::spawn(async move {
        terminated.await;
        raised.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}

/// Comes to its end on SIGTERM or SIGINT, from now on.
///
/// # Errors
///
/// When the signals cannot be caught. Needs a tokio runtime.
pub fn terminated() -> Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Writes a measurement's result.
pub(crate) fn write_result(path: &Path, result: &impl Serialize) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    serde_json::to_writer(BufWriter::new(file), result).with_context(|| format!("write {}", path.display()))
}

/// A measurement that runs in a namespace.
#[derive(Debug)]
pub struct Worker {
    process: LabProcess,
    out: PathBuf,
}

impl Worker {
    /// Starts subcommand `what` with `args` and waits until its log says
    /// `ready`.
    pub(crate) async fn start(lab: &Lab, ns: &str, what: &str, args: &[&str], ready: &str) -> Result<Self> {
        let mut command = Command::new(binary()?);
        // A name of its own: the same measurement may run several times.
        let out = tempfile::Builder::new()
            .prefix(&format!("{ns}-{what}-"))
            .suffix(".json")
            .tempfile_in(lab.dir().join("log"))
            .context("name a result")?
            .into_temp_path()
            .keep()
            .context("name a result")?;
        command.arg(what).args(args).arg("--out").arg(&out);
        // Its log is for a person to read.
        command.env("RUST_LIB_BACKTRACE", "0");
        let process = lab.spawn_at(ns, Priority::First, &command).await?;
        process.wait_log(ready, FINISH).await?;
        Ok(Self { process, out })
    }

    /// Ends the measurement and reads what it wrote.
    pub(crate) async fn finish<T: DeserializeOwned>(self) -> Result<T> {
        self.process.kill(Signal::TERM)?;
        let status = self.process.wait_exit(FINISH).await?;
        ensure!(status.success(), "a measurement failed: {status}: {}", self.process.log_tail());
        let file = std::fs::read(&self.out).with_context(|| format!("read {}", self.out.display()))?;
        serde_json::from_slice(&file).with_context(|| format!("understand {}", self.out.display()))
    }
}
