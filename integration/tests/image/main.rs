//! What is shipped: the image, and what the program is made of.
//!
//! The image is built of the program that the tests have anyway, which needs the C library of this machine at run time; if
//! `make image` has left a static one in `target/image`, of that.

mod dependencies;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use limosa_lab::demo::Limosa;
use limosa_lab::{Lab, LabOptions, OUTSIDE};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The static program, if there is one that is not older than the other.
fn fixed() -> Option<PathBuf> {
    let path = root().join("target/image/limosa");
    let time = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    (time(&path)? >= time(&Limosa::binary().unwrap())?).then_some(path)
}

fn program() -> PathBuf {
    fixed().unwrap_or_else(|| Limosa::binary().unwrap())
}

fn ran(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: run integration/install.sh"));
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().trim().to_owned()
}

/// Makes the image in a folder of its own; the archive.
fn build(out: &Path) -> PathBuf {
    let script = root().join("integration/kubernetes/build-image.sh");
    ran(Command::new("sh")
        .arg(script)
        .arg(program())
        .env("LIMOSA_IMAGE_OUT", out)
        .env("SOURCE_DATE_EPOCH", "1"));
    out.join("limosa.oci.tar")
}

/// A container of the image, in a storage of its own.
struct Container {
    dir: TempDir,
    name: String,
}

impl Container {
    fn of(archive: &Path) -> Self {
        let mut container = Self { dir: TempDir::new().unwrap(), name: String::new() };
        let image = container.ran(&["pull", "--quiet", &format!("oci-archive:{}", archive.display())]);
        container.name = container.ran(&["from", "--quiet", &image]);
        container
    }

    fn buildah(&self) -> Command {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(self.dir.path().join("root"))
            .arg("--runroot")
            .arg(self.dir.path().join("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    }

    fn ran(&self, args: &[&str]) -> String {
        ran(self.buildah().args(args))
    }

    /// The program in it, as `user`, without a capability, with `volumes`.
    fn run(&self, user: &str, volumes: &[String], args: &[&str]) -> Command {
        let mut command = self.buildah();
        command.args(["run", "--isolation", "chroot", "--cap-drop", "all", "--user", user]);
        for volume in volumes {
            command.args(["--volume", volume]);
        }
        if fixed().is_none() {
            // What the loader and the C library need.
            for dir in ["/lib", "/lib64", "/usr/lib"].iter().filter(|dir| Path::new(dir).exists()) {
                command.args(["--volume", &format!("{dir}:{dir}:ro")]);
            }
        }
        command.args([&self.name, "--", "/limosa"]).args(args);
        command
    }
}

#[test]
fn the_image_is_one_program_and_always_the_same() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = build(first.path());
    let again = build(second.path());
    assert!(std::fs::read(&archive).unwrap() == std::fs::read(again).unwrap(), "two builds, two images");

    let container = Container::of(&archive);
    let inspected: Value = serde_json::from_str(&container.ran(&["inspect", &container.name])).unwrap();
    let image = &inspected["OCIv1"];
    assert_eq!(image["config"]["Entrypoint"], serde_json::json!(["/limosa"]));
    assert_eq!(image["config"]["User"], "65532:65532");
    assert_eq!(image["config"]["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let mounted = container.ran(&["mount", &container.name]);
    let files: Vec<_> = std::fs::read_dir(mounted).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["limosa"]);

    let version = ran(&mut container.run("65532:65532", &[], &["--version"]));
    assert_eq!(version, format!("limosa {}", env!("CARGO_PKG_VERSION")));
    if let Some(program) = fixed() {
        // A static program asks for no interpreter (ELF, PT_INTERP).
        let headers = ran(Command::new("readelf").arg("--program-headers").arg(&program));
        assert!(!headers.contains("INTERP"), "{headers}");
        let size = program.metadata().unwrap().len();
        assert!(size < 32 << 20, "{size} bytes");
    }
}

#[tokio::test]
async fn an_agent_in_a_container_reaches_the_switch_as_its_owner_alone() {
    let out = TempDir::new().unwrap();
    let container = Container::of(&build(out.path()));
    let lab = Lab::start(LabOptions { chassis: 1, ..LabOptions::default() }).await.unwrap();
    let rundir = lab.chassis("ch1").ovs_rundir().display().to_string();
    // The first migration makes the store; it is for everybody.
    let store = out.path().join("store");
    let made = Command::new(program())
        .args(["migrate", "vm1", "--from", "hv1", "--to", "hv2", "--store"])
        .arg(&store)
        .output();
    assert!(made.unwrap().status.success());
    ran(Command::new("chmod").args(["-R", "a+rwX"]).arg(out.path()));
    // As the chart mounts it.
    let volumes = [format!("{rundir}:/run/openvswitch:ro"), format!("{}:/store", store.display())];
    let args = ["agent", "--chassis", "ch1", "--ovs-rundir", "/run/openvswitch", "--store", "/store"];
    for (user, said) in [("0:0", "connected to the switch"), ("65532:65532", "OvsdbUnreachable")] {
        let agent = lab.spawn_in(OUTSIDE, &container.run(user, &volumes, &args)).await.unwrap();
        agent.wait_log(said, DEADLINE).await.unwrap();
        agent.kill(Signal::TERM).unwrap();
        agent.wait_exit(DEADLINE).await.unwrap();
    }
}
