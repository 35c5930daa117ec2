//! A private Open vSwitch: ovsdb-server and ovs-vswitchd with the dummy datapath, which needs neither a
//! network nor the kernel's module, in a directory of their own.

#![allow(dead_code, reason = "each test uses a part of this")]

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ofpacket::frame_len;

/// A running Open vSwitch with one bridge, `br0`. It ends when this is dropped.
pub(crate) struct Ovs {
    dir: tempfile::TempDir,
}

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

impl Ovs {
    /// Starts it, and returns when the bridge is there.
    pub(crate) fn start() -> Self {
        assert!(
            Path::new(SCHEMA).exists(),
            "this test needs Open vSwitch: install openvswitch-switch (there is no {SCHEMA})"
        );
        let dir = tempfile::Builder::new().prefix("ovs").tempdir_in("/tmp").expect("a directory in /tmp");
        let ovs = Self { dir };
        let file = |name: &str| ovs.path(name).display().to_string();
        let db = format!("unix:{}", file("db.sock"));
        ovs.run("ovsdb-tool", ["create", &file("conf.db"), SCHEMA]);
        ovs.daemon("ovsdb-server", &[&file("conf.db"), &format!("--remote=p{db}")]);
        ovs.vsctl(["--no-wait", "init"]);
        ovs.start_vswitchd();
        let bridge = "add-br br0 -- set bridge br0 datapath-type=dummy fail-mode=secure";
        ovs.vsctl(bridge.split(' '));
        ovs
    }

    /// Starts ovs-vswitchd (again).
    pub(crate) fn start_vswitchd(&self) {
        let db = format!("unix:{}", self.path("db.sock").display());
        self.daemon("ovs-vswitchd", &["--enable-dummy=override", "--disable-system", &db]);
    }

    /// With --detach it returns when it is ready.
    fn daemon(&self, name: &str, args: &[&str]) {
        let file = |end: &str| self.path(&format!("{name}.{end}")).display().to_string();
        let mut all = vec!["--detach".to_owned(), "--no-chdir".to_owned()];
        all.push(format!("--pidfile={}", file("pid")));
        all.push(format!("--log-file={}", file("log")));
        all.push(format!("--unixctl={}", file("ctl")));
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        self.run(name, &all);
    }

    /// A file of its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The management socket of the bridge.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("br0.mgmt")
    }

    /// A conversation with the bridge without any of the comforts of a client; see [`read_frame`].
    pub(crate) fn converse(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("the bridge's socket");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    /// Runs `ovs-vsctl`.
    pub(crate) fn vsctl<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> String {
        let db = format!("--db=unix:{}", self.path("db.sock").display());
        let mut all = vec![db.into(), "--timeout=20".into()];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.run("ovs-vsctl", all)
    }

    /// Runs `ovs-ofctl -O OpenFlow15 OPTIONS COMMAND BRIDGE ARGS`.
    pub(crate) fn ofctl(&self, options: &[&str], command: &str, args: &[&str]) -> String {
        text(&self.try_ofctl(options, command, args))
    }

    /// As [`Ovs::ofctl`], but it may fail.
    pub(crate) fn try_ofctl(&self, options: &[&str], command: &str, args: &[&str]) -> Output {
        let bridge = format!("unix:{}", self.socket().display());
        let mut all = vec!["-O", "OpenFlow15", "--no-names"];
        all.extend(options);
        all.extend([command, &bridge]);
        all.extend(args);
        self.output("ovs-ofctl", all)
    }

    /// Adds flows, all with one call of `ovs-ofctl`.
    pub(crate) fn add_flows(&self, flows: &[&str]) {
        let file = self.path("flows.txt");
        std::fs::write(&file, flows.join("\n")).expect("a file in its directory");
        self.ofctl(&[], "add-flows", &[&file.display().to_string()]);
    }

    /// Runs `ovs-appctl -t ovs-vswitchd`.
    pub(crate) fn appctl(&self, args: &[&str]) -> String {
        let target = self.path("ovs-vswitchd.ctl");
        let mut all = vec![OsStr::new("--timeout=20"), OsStr::new("-t"), target.as_os_str()];
        all.extend(args.iter().map(OsStr::new));
        self.run("ovs-appctl", all)
    }

    /// The processor time that ovs-vswitchd has used, in the kernel's ticks (proc(5): utime and stime of `stat`).
    pub(crate) fn ticks(&self) -> u64 {
        let pid = std::fs::read_to_string(self.path("ovs-vswitchd.pid")).expect("ovs-vswitchd runs");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).expect("ovs-vswitchd runs");
        let (_, after_name) = stat.rsplit_once(") ").expect("a name in parentheses");
        after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    /// Kills a daemon, `ovs-vswitchd` or `ovsdb-server`, without a farewell.
    pub(crate) fn kill(&self, daemon: &str) {
        let pidfile = self.path(&format!("{daemon}.pid"));
        if let Ok(pid) = std::fs::read_to_string(&pidfile) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).output();
            let _ = std::fs::remove_file(pidfile);
        }
    }

    fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, program: &str, args: I) -> String {
        text(&self.output(program, args))
    }

    fn output<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, program: &str, args: I) -> Output {
        let mut command = Command::new(program);
        command.args(args).env("OVS_RUNDIR", self.dir.path());
        command
            .output()
            .unwrap_or_else(|error| panic!("cannot run {program}: {error}: install openvswitch-switch"))
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        self.kill("ovs-vswitchd");
        self.kill("ovsdb-server");
    }
}

/// The flow mods that `ovs-ofctl add-flows` would send, which it shows as a dump in hexadecimal:
/// ```text
/// OFPT_FLOW_MOD (OF1.5) (xid=0x1): ADD actions=drop
/// 00000000  06 0e 00 38 00 00 00 01-00 00 00 00 00 00 00 00 |...8............|
/// ```
pub(crate) fn parse_flows(flows: &[&str]) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir_in("/tmp").expect("a directory in /tmp");
    let file = dir.path().join("flows.txt");
    std::fs::write(&file, flows.join("\n")).expect("a file in it");
    let mut command = Command::new("ovs-ofctl");
    command.args(["-O", "OpenFlow15", "-mmmmmm", "parse-flows"]).arg(&file).env("OVS_RUNDIR", dir.path());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run ovs-ofctl: {error}: install openvswitch-switch"));
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for line in text(&output).lines() {
        if line.starts_with("OFPT_FLOW_MOD") {
            assert!(!line.contains("decode error"), "{line}");
            messages.push(Vec::new());
        } else if let Some(message) = messages.last_mut()
            && line.get(8..10) == Some("  ")
        {
            let digits = line[10..58].split([' ', '-']).filter(|byte| !byte.is_empty());
            message.extend(digits.map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")));
        }
    }
    messages
}

fn text(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Reads a whole message. A read with a timeout ends when the machine that runs it is suspended (signal(7)):
/// `read_exact` goes on.
pub(crate) fn read_frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut frame = vec![0; 8];
    stream.read_exact(&mut frame).expect("an answer in time");
    let len = frame_len(&frame).expect("a whole header").expect("a header");
    frame.resize(len, 0);
    stream.read_exact(&mut frame[8..]).expect("the rest of it in time");
    frame
}
