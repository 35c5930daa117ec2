//! libvirt on the nodes of the lab, with the hook that is installed as
//! docs/install-libvirt.md says.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};

use super::Shell;
use crate::lab::programs_present;

/// The logical port of the guest. libvirt takes nothing but UUIDs for an interface.
pub const PORT: &str = "5e6f1c9a-0f5e-4c1b-9d43-1d2b7a1c0001";

/// A guest without a disk; it has a processor, memory and a NIC to announce.
const GUEST: &str = "<domain type='qemu'>
  <name>vm1</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <interface type='bridge'>
      <mac address='02:00:00:00:07:01'/>
      <source bridge='br-int'/>
      <virtualport type='openvswitch'><parameters interfaceid='PORT'/></virtualport>
      <model type='virtio'/>
    </interface>
    <memballoon model='none'/>
  </devices>
</domain>
";

/// It asks QEMU what it can do before it serves.
const READY: Duration = Duration::from_secs(60);

/// libvirt on some nodes of a [`Shell`].
#[derive(Debug)]
pub struct Libvirt<'a> {
    shell: &'a mut Shell,
}

impl<'a> Libvirt<'a> {
    /// Starts a libvirtd on each of these nodes; they serve when this returns.
    ///
    /// # Errors
    ///
    /// When a program is missing, or does not get ready.
    pub async fn start(shell: &'a mut Shell, nodes: &[&str]) -> Result<Self> {
        programs_present(&[("libvirtd", "libvirt-daemon"), ("virsh", "libvirt-clients")])?;
        for node in nodes {
            shell.begin(node, "sh -eu integration/src/docs/libvirtd.sh").await?;
        }
        let mut libvirt = Self { shell };
        for node in nodes {
            let ready = async {
                // Nothing announces it.
                while libvirt.virsh(node, "version").await.is_err() {
                    libvirt.shell.all_run()?;
                    sleep(Duration::from_millis(50)).await;
                }
                Ok(())
            };
            let ready = timeout(READY, ready)
                .await
                .with_context(|| format!("libvirtd of {node}: {}", READY.as_secs()));
            ready.and_then(|ready: Result<()>| ready).with_context(|| libvirt.shell.logs())?;
        }
        Ok(libvirt)
    }

    /// The cluster.
    pub fn shell(&mut self) -> &mut Shell {
        self.shell
    }

    /// `virsh` on a node.
    ///
    /// # Errors
    ///
    /// What it says.
    pub async fn virsh(&mut self, node: &str, command: &str) -> Result<String> {
        let uri = self.uri(node);
        self.shell.run(node, &format!("virsh --connect '{uri}' {command}")).await
    }

    /// Starts the guest on a node.
    ///
    /// # Errors
    ///
    /// As [`virsh`](Self::virsh).
    pub async fn create(&mut self, node: &str) -> Result<()> {
        self.virsh(node, &format!("create {}", self.description()?)).await.map(drop)
    }

    /// Migrates the guest by a socket in this directory.
    ///
    /// # Errors
    ///
    /// As [`virsh`](Self::virsh).
    pub async fn migrate(&mut self, from: &str, to: &str, socket_dir: &str) -> Result<()> {
        let (uri, dir) = (self.uri(to), self.shell.lab().dir().join(socket_dir));
        let command =
            format!("migrate --live vm1 '{uri}' --migrateuri unix:{}/migration.sock", dir.display());
        self.virsh(from, &command).await.map(drop)
    }

    /// Calls the hook on a node as libvirt would.
    ///
    /// # Errors
    ///
    /// What it says.
    pub async fn hook(&mut self, node: &str, stage: &str) -> Result<String> {
        let description = self.description()?;
        self.shell.run(node, &format!("contrib/libvirt/qemu vm1 {stage} < {description}")).await
    }

    /// A file with the guest's description.
    fn description(&self) -> Result<String> {
        let path = self.shell.lab().dir().join("vm1.xml");
        std::fs::write(&path, GUEST.replace("PORT", PORT)).context("write the guest's description")?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn uri(&self, node: &str) -> String {
        let socket = self.shell.rundir(node).join("libvirt/run/libvirt-sock");
        format!("qemu+unix:///system?socket={}", socket.display())
    }
}
