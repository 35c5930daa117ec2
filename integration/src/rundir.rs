//! The one thing a lab leaves on the machine while it runs: a directory.
//!
//! Its name is short, because the path of a Unix socket has room for 107
//! bytes: `/tmp/limosa-XXXXXX`. It is removed when the lab is dropped. A lab
//! whose owner was killed cannot do that; its directory names the process
//! whose life was the lab's, and the next lab to start removes it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Where run directories are made.
const PARENT: &str = "/tmp";
const PREFIX: &str = "limosa-";

/// Names the holder: its process id, and when it was started (`/proc/PID/stat`
/// field 22, clock ticks since boot), because numbers are used again.
const HOLDER: &str = "holder";

/// Set to keep the directory of every lab, for a look at its logs.
const KEEP: &str = "LIMOSA_LAB_KEEP";

#[derive(Debug)]
pub(crate) struct RunDir(Option<TempDir>, PathBuf);

impl RunDir {
    /// Makes the directory of the lab that lives as long as process `holder`,
    /// and removes those of labs that are no more.
    pub(crate) fn create(holder: u32) -> Result<Self> {
        sweep();
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .rand_bytes(6)
            .tempdir_in(PARENT)
            .context("make the lab's directory")?;
        let started = started(holder).context("the holder is not running")?;
        fs::write(dir.path().join(HOLDER), format!("{holder} {started}\n"))
            .context("write the lab's directory")?;
        let path = dir.path().to_owned();
        Ok(Self(Some(dir), path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.1
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if std::env::var_os(KEEP).is_none() {
            return;
        }
        if let Some(dir) = self.0.take() {
            // Without the file no other lab takes it for a stale one.
            let _ = fs::remove_file(dir.path().join(HOLDER));
            eprintln!("the lab's directory is kept: {}", dir.keep().display());
        }
    }
}

/// Removes the directories of labs whose holder is gone.
fn sweep() {
    let Ok(entries) = fs::read_dir(PARENT) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
        let Some(record) = ours.then(|| fs::read_to_string(path.join(HOLDER)).ok()).flatten() else {
            continue;
        };
        let Some((pid, since)) = record.trim().split_once(' ') else { continue };
        let Ok(pid) = pid.parse() else { continue };
        if started(pid).as_deref() != Some(since) {
            // Another lab may be sweeping, too; whoever is first.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// When a process was started; none when it is gone.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): the second field is a name in parentheses and may contain
    // anything; what follows the last one begins with the third.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A zombie has ended; its parent has not looked yet.
    let state = fields.next()?;
    fields.nth(18).map(str::to_owned).filter(|_| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_outlives_its_holder_only_until_the_next_lab() {
        let alive = RunDir::create(std::process::id()).unwrap();
        let dead = tempfile::Builder::new().prefix(PREFIX).tempdir_in(PARENT).unwrap().keep();
        fs::write(dead.join(HOLDER), "1 987654321\n").unwrap();
        let stranger = tempfile::Builder::new().prefix(PREFIX).tempdir_in(PARENT).unwrap();
        sweep();
        assert!(alive.path().exists());
        assert!(!dead.exists());
        assert!(stranger.path().exists());
    }
}
