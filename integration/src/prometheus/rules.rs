//! The chart's rules, and `promtool`'s word on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{PROGRAMS, chart};
use crate::lab::programs_present;

/// The files.
///
/// # Errors
///
/// When they cannot be listed.
pub fn files() -> Result<Vec<PathBuf>> {
    super::files("rules", "yaml")
}

/// Runs `promtool` with these arguments and the chart's rule files after them; returns what it said.
///
/// # Errors
///
/// When it is missing, or finds fault with anything.
pub fn promtool(args: &[&str], stdin: Option<&Path>, with_rules: bool) -> Result<String> {
    programs_present(&PROGRAMS)?;
    let mut command = Command::new("promtool");
    command.args(args);
    if with_rules {
        command.args(files()?);
    }
    let stdin = match stdin {
        Some(path) => {
            Stdio::from(std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?)
        }
        None => Stdio::null(),
    };
    let output = command.stdin(stdin).output().context("run promtool")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "promtool {}: {}", args.join(" "), said.trim());
    Ok(said)
}

/// The name of every alert.
///
/// # Errors
///
/// When the rules cannot be read.
pub fn alerts() -> Result<Vec<String>> {
    let file = chart("rules").join("alerts.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let rules: Value = serde_saphyr::from_str(&text).context("understand the alerts")?;
    let groups = rules["groups"].as_array().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
    Ok(rules.filter_map(|rule| rule["alert"].as_str().map(str::to_owned)).collect())
}

/// Writes a copy of the rules in which what takes minutes takes as many seconds, so that they can be
/// seen to fire: of each `for`, of each range but never less than the 15 s that a rate needs, and of each number that
/// is multiplied by 60.
///
/// # Errors
///
/// When they cannot be read or written.
pub fn in_seconds(to: &Path) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for file in files()? {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let copy = to.join(file.file_name().context("a file has a name")?);
        std::fs::write(&copy, scaled(&text)).with_context(|| format!("write {}", copy.display()))?;
        written.push(copy);
    }
    Ok(written)
}

fn scaled(rules: &str) -> String {
    let mut lines: Vec<String> = rules.lines().map(|line| line.replace("* 60", "* 1")).collect();
    for line in &mut lines {
        if let Some((before, minutes)) = line.split_once("for: ")
            && let Some(minutes) = minutes.strip_suffix('m')
        {
            *line = format!("{before}for: {minutes}s");
        }
        for (range, seconds) in [("[5m]", "[15s]"), ("[15m]", "[15s]"), ("[1h]", "[60s]")] {
            *line = line.replace(range, seconds);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_become_seconds() {
        let rules = "expr: time() - x > 10 * 60\nfor: 2m\nexpr: rate(y[5m]) > 1";
        assert_eq!(scaled(rules), "expr: time() - x > 10 * 1\nfor: 2s\nexpr: rate(y[15s]) > 1");
    }
}
