//! However the owner of a lab dies, the lab dies with it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use limosa_lab::{Lab, LabOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::task::spawn_blocking;

/// The processes in a PID namespace, and a pidfd of each.
fn processes_in(namespace: &PathBuf) -> Vec<(String, std::os::fd::OwnedFd)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|path| std::fs::read_link(path.join("ns/pid")).is_ok_and(|ns| ns == *namespace))
        .filter_map(|path| {
            let pid = Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)?;
            let name = std::fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
            Some((name, pidfd_open(pid, PidfdFlags::empty()).ok()?))
        })
        .collect()
}

/// Starts `limosa-lab up` and returns it with the lab's directory.
fn owner() -> (Child, PathBuf) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_limosa-lab"))
        .args(["up", "--chassis", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Read byte by byte and given back: what it says later must not fail.
    let mut said = owner.stdout.take().unwrap();
    let mut text = String::new();
    while !text.contains("Ctrl-C") {
        let mut byte = [0];
        said.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    owner.stdout = Some(said);
    let dir = text.lines().find_map(|line| line.strip_prefix("directory: ")).unwrap().trim().into();
    (owner, dir)
}

#[tokio::test]
async fn a_lab_dies_with_an_owner_that_is_killed() {
    let (mut owner, dir) = spawn_blocking(owner).await.unwrap();
    let record = std::fs::read_to_string(dir.join("holder")).unwrap();
    let holder = record.split_whitespace().next().unwrap();
    let namespace = std::fs::read_link(format!("/proc/{holder}/ns/pid_for_children")).unwrap();
    let mut processes = processes_in(&namespace);
    let names: BTreeSet<_> = processes.iter().map(|(name, _)| name.clone()).collect();
    for daemon in ["cat", "ovs-vswitchd", "ovsdb-server", "ovn-northd", "ovn-controller"] {
        assert!(names.contains(daemon), "{names:?}");
    }

    // The holder waits for all of them.
    let pid = Pid::from_raw(holder.parse().unwrap()).unwrap();
    processes.push(("unshare".to_owned(), pidfd_open(pid, PidfdFlags::empty()).unwrap()));

    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = Timespec::try_from(Duration::from_secs(20)).unwrap();
    for (name, pidfd) in &processes {
        let ended =
            retry_on_intr(|| poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&deadline))).unwrap();
        assert_eq!(ended, 1, "{name} outlived its lab");
    }
    assert!(processes_in(&namespace).is_empty());

    // What the owner could not remove any more, the next lab does.
    assert!(dir.exists());
    let next = Lab::start(LabOptions { chassis: 1, ..LabOptions::default() }).await.unwrap();
    assert!(!dir.exists());
    let own = next.dir().to_owned();
    drop(next);
    assert!(!own.exists());
}

#[tokio::test]
async fn a_lab_ends_in_order_on_ctrl_c_and_on_sigterm() {
    for signal in [Signal::INT, Signal::TERM] {
        let (mut owner, dir) = spawn_blocking(owner).await.unwrap();
        let pid = Pid::from_raw(owner.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let status = spawn_blocking(move || owner.wait().unwrap()).await.unwrap();
        assert!(status.success(), "{signal:?}: {status}");
        assert!(!dir.exists(), "{signal:?}");
    }
}
