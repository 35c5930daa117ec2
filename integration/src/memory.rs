//! What the kernel says of a process' memory.

use std::fmt::Display;

use anyhow::{Context, Result};

/// Resident memory of a process, bytes (proc(5), `/proc/pid/status`).
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// `VmRSS`: what it has now.
    pub now: u64,
    /// `VmHWM`: the most that it has had.
    pub most: u64,
}

impl Memory {
    /// That of the process with this number outside the lab, or of `self`.
    ///
    /// # Errors
    ///
    /// When there is no such process, or it has ended.
    pub fn of(process: impl Display) -> Result<Self> {
        let path = format!("/proc/{process}/status");
        let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
            let kib = kib.with_context(|| format!("{path} has no {name} in kB"))?;
            Ok::<_, anyhow::Error>(
                kib.parse::<u64>().with_context(|| format!("read {name} of {path}"))? * 1024,
            )
        };
        Ok(Self { now: field("VmRSS")?, most: field("VmHWM")? })
    }
}
