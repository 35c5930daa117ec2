//! What the guest boots: the kernel of Debian's cloud image, and an initramfs
//! of busybox, the virtio modules and the echo. Made once per machine, in
//! `target/guest`, and again when its sources here have changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::lab::programs_present;

const INIT: &str = include_str!("../guest/init");
/// The echo; the first is the one to compile.
const SOURCES: [(&str, &str); 3] = [
    ("echo.rs", include_str!("../guest/echo.rs")),
    ("orders.rs", include_str!("../guest/orders.rs")),
    ("pattern.rs", include_str!("../guest/pattern.rs")),
];

/// Depends on the package of the newest kernel of its kind.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// The guest's drivers, in the order in which they can be inserted.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

const PROGRAMS: [(&str, &str); 7] = [
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
    ("rustc", "rustup or rustc"),
    ("apt-get", "apt"),
    ("dpkg", "dpkg"),
];

/// A guest's kernel and initramfs.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs, compressed.
    pub initrd: PathBuf,
}

impl Image {
    /// The image, made now if there is none.
    ///
    /// # Errors
    ///
    /// When a program is missing, the kernel cannot be downloaded or the echo
    /// not be compiled. The first time it needs the network.
    pub async fn get() -> Result<Self> {
        tokio::task::spawn_blocking(|| build(&directory())).await.context("build the guest's image")?
    }
}

/// `target/guest` of the workspace.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guest")
}

fn build(dir: &Path) -> Result<Image> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let dir = dir.canonicalize().context("find the guest's directory")?;
    let image = Image { kernel: dir.join("vmlinuz"), initrd: dir.join("initrd.gz") };
    // One at a time: several tests may be the first.
    let lock = File::create(dir.join("lock")).context("create the lock")?;
    flock(&lock, FlockOperation::LockExclusive).context("lock the guest's directory")?;
    let stamp = dir.join("stamp");
    let [echo, orders, pattern] = SOURCES.map(|(_, text)| text);
    let sources = [INIT, echo, orders, pattern, &MODULES.join(" ")].join("\n");
    if image.kernel.is_file()
        && image.initrd.is_file()
        && fs::read_to_string(&stamp).is_ok_and(|s| s == sources)
    {
        return Ok(image);
    }
    programs_present(&PROGRAMS)?;
    let unpacked = kernel(&dir)?;
    let root = tempfile::tempdir_in(&dir).context("make the initramfs")?;
    initramfs(&unpacked, root.path(), &image.initrd)?;
    let boot = unpacked.join("boot");
    let name = only(&boot, |name| name.starts_with("vmlinuz-"))?;
    fs::copy(boot.join(name), &image.kernel).context("copy the kernel")?;
    fs::write(&stamp, sources).context("write the stamp")?;
    Ok(image)
}

/// Downloads the kernel's package and unpacks it; it is not installed.
fn kernel(dir: &Path) -> Result<PathBuf> {
    let unpacked = dir.join("kernel");
    if unpacked.join("boot").is_dir() {
        return Ok(unpacked);
    }
    let depends = run(Command::new("apt-cache").args(["depends", KERNEL_PACKAGE]))
        .with_context(|| format!("look for {KERNEL_PACKAGE}: run apt-get update"))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .with_context(|| format!("{KERNEL_PACKAGE} depends on no kernel: run apt-get update"))?;
    let download = tempfile::tempdir_in(dir).context("make a directory")?;
    run(Command::new("apt-get")
        .args(["-q", "download"])
        .arg(format!("linux-image-{package}"))
        .current_dir(&download))
    .context("download the guest's kernel: run apt-get update")?;
    let file = only(download.path(), |name| name.ends_with(".deb"))?;
    // Complete or not there at all, also when this is cut short.
    let partial = tempfile::tempdir_in(dir).context("make a directory")?;
    run(Command::new("dpkg").arg("-x").arg(download.path().join(file)).arg(partial.path()))?;
    fs::rename(partial.keep(), &unpacked).context("put the kernel into place")?;
    Ok(unpacked)
}

fn initramfs(kernel: &Path, root: &Path, initrd: &Path) -> Result<()> {
    for dir in ["bin", "mods"] {
        fs::create_dir(root.join(dir)).context("make the initramfs")?;
    }
    fs::write(root.join("init"), INIT).context("write /init")?;
    run(Command::new("chmod").arg("0755").arg(root.join("init")))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    fs::copy(busybox.context("no busybox: install busybox-static")?, root.join("bin/busybox"))
        .context("copy busybox")?;

    let modules =
        kernel.join(if kernel.join("usr/lib/modules").is_dir() { "usr/lib/modules" } else { "lib/modules" });
    let modules = modules.join(only(&modules, |_| true)?);
    let list = |name: &str| fs::read_to_string(modules.join(name)).with_context(|| format!("read {name}"));
    let (order, builtin) = (list("modules.order")?, list("modules.builtin")?);
    for (number, module) in MODULES.iter().enumerate() {
        let is_it = |line: &&str| line.ends_with(&format!("/{module}.ko"));
        let Some(path) = order.lines().find(is_it) else {
            ensure!(builtin.lines().any(|line| is_it(&line)), "the kernel has no {module}");
            continue;
        };
        let target = root.join(format!("mods/{number:02}-{module}.ko"));
        if modules.join(path).is_file() {
            fs::copy(modules.join(path), &target).context("copy a module")?;
        } else {
            // Later Debian compresses them, which busybox cannot read.
            let xz = Command::new("xz")
                .arg("-dc")
                .arg(modules.join(format!("{path}.xz")))
                .output()
                .context("run xz")?;
            ensure!(xz.status.success(), "cannot read {path}.xz");
            fs::write(&target, xz.stdout).context("write a module")?;
        }
    }

    let source = tempfile::tempdir().context("make a directory for the echo's source")?;
    for (name, text) in SOURCES {
        fs::write(source.path().join(name), text).context("write the echo's source")?;
    }
    // `cargo` may have set up a compiler wrapper or flags that are not for
    // this: it is compiled plainly.
    run(Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--crate-name",
            "echo_server",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-o",
        ])
        .arg(root.join("bin/echo-server"))
        .arg(source.path().join(SOURCES[0].0)))
    .context("compile the guest's echo")?;
    let script = "find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > \"$0\"";
    run(Command::new("sh").arg("-euc").arg(script).arg(initrd).current_dir(root))
        .context("pack the initramfs")
        .map(drop)
}

/// The name of the one entry of a directory that `wanted` accepts.
fn only(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut names = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).filter(|n| wanted(n));
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        _ => bail!("{} has not exactly one of what is looked for", dir.display()),
    }
}

fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
