//! The lab as a person finds a cluster: sockets and store where the packages put
//! them, `limosa` in the PATH, nodes called `hv1`, `hv2`, …

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::demo::Limosa;
use crate::kube::{ApiServer, limosa};
use crate::lab::{CENTRAL, Lab};
use crate::network::{Endpoint, LogicalPort};
use crate::process::LabProcess;
use crate::{LabOptions, OUTSIDE};

/// The guest of every page: its port, and its addresses.
const GUEST: [&str; 3] = ["vm1", "02:00:00:00:01:01", "192.168.7.10"];

/// Sees to it that everything is where a package would put it, and goes on with
/// the command. It has file systems of its own, which end with it.
const SETTLE: &str = "
    mount -t tmpfs tmpfs /run
    mkdir -p /run/openvswitch /run/ovn
    ln -s $NODE/* /run/openvswitch/
    ln -s $NODE/ovs-vswitchd.ctl /run/openvswitch/ovs-vswitchd.$(cat $NODE/ovs-vswitchd.pid).ctl
    ln -s $NODE/ovn-controller.* /run/ovn/
    ln -s $CENTRAL/nb.sock /run/ovn/ovnnb_db.sock
    ln -s $CENTRAL/sb.sock /run/ovn/ovnsb_db.sock
    mount -t tmpfs tmpfs /var/lib
    mkdir /var/lib/limosa
    mount --bind $STORE /var/lib/limosa
    cd $REPOSITORY
    exec sh -euc \"$COMMAND\"";

/// What a comment in a block stands for: the hypervisor's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The guest's interface appears on the target.
    Plug,
    /// The guest resumes on the target.
    Migrate,
    /// The guest's interface goes from the source, and the guest with it.
    Unplug,
}

impl Direction {
    /// The direction that a comment is, if it is one.
    pub fn of(comment: &str) -> Option<Self> {
        match comment.trim_start_matches(['#', ' ']) {
            "the hypervisor plugs the guest's interface on hv2" => Some(Self::Plug),
            "the hypervisor migrates the guest to hv2" => Some(Self::Migrate),
            "the hypervisor removes the guest's interface from hv1" => Some(Self::Unplug),
            _ => None,
        }
    }
}

/// A cluster and a person at it. A guest `vm1` is on `hv1`.
#[derive(Debug)]
pub struct Shell {
    lab: Lab,
    server: ApiServer,
    repository: PathBuf,
    store: PathBuf,
    daemons: Vec<LabProcess>,
    source: Option<Endpoint>,
    target: Option<Endpoint>,
}

impl Shell {
    /// A cluster of three nodes, an API server with Limosa's definition, and
    /// nothing of Limosa running.
    ///
    /// # Errors
    ///
    /// When either does not start.
    pub async fn start(repository: &Path) -> Result<Self> {
        let server = ApiServer::launch().await?;
        limosa::install(&server.client().await?).await?;
        let lab = Lab::start(LabOptions::default()).await?;
        lab.peers().await?;
        let [name, mac, ip] = GUEST;
        lab.port("ls0", LogicalPort::new(name, mac, ip)).await?;
        let store = lab.dir().join("store");
        std::fs::create_dir(&store).context("make the store")?;
        let repository = repository.to_owned();
        Ok(Self { lab, server, repository, store, daemons: Vec::new(), source: None, target: None })
    }

    /// The lab itself.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Brings everything to where a page begins: the guest on `hv1`, and no
    /// migrations.
    ///
    /// # Errors
    ///
    /// When a migration of the page before has not ended.
    pub async fn turn_page(&mut self) -> Result<()> {
        for file in std::fs::read_dir(&self.store).context("read the store")? {
            let path = file.context("read the store")?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = std::fs::read_to_string(&path).context("read an object")?;
                let has_ended =
                    ["Completed", "RolledBack", "Rejected"].iter().any(|phase| text.contains(phase));
                ensure!(has_ended, "the page ends in the middle of a migration:\n{text}");
                std::fs::remove_file(&path).context("remove an object")?;
            }
        }
        for endpoint in [self.source.take(), self.target.take()].into_iter().flatten() {
            endpoint.remove(&self.lab).await?;
        }
        self.lab.nbctl(&["--wait=hv", "clear", "Logical_Switch_Port", GUEST[0], "options"]).await?;
        self.source = Some(self.lab.endpoint("ch1", GUEST[0]).await?);
        Ok(())
    }

    /// Does what the hypervisor would.
    ///
    /// # Errors
    ///
    /// When it is not its turn.
    pub async fn play(&mut self, direction: Direction) -> Result<()> {
        match direction {
            Direction::Plug => self.target = Some(self.lab.endpoint_unbound("ch2", GUEST[0]).await?),
            Direction::Migrate => {
                let target = self.target.as_ref().context("the target has no interface yet")?;
                self.lab.send_rarp(&target.ns, GUEST[1]).await?;
            }
            Direction::Unplug => {
                self.source.take().context("the guest is not on hv1")?.remove(&self.lab).await?;
            }
        }
        Ok(())
    }

    /// Runs a command on a node as it stands in a page. What runs for good is
    /// started: an agent on every node, a controller once.
    ///
    /// # Errors
    ///
    /// What it says when it fails.
    pub async fn run(&mut self, node: &str, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["limosa", "agent", ..] if !words.contains(&"--cleanup") => {
                for number in 1..=self.lab.all_chassis().len() {
                    self.begin(&format!("hv{number}"), command).await?;
                }
                Ok(String::new())
            }
            ["limosa", "controller", ..] => self.begin(node, command).await.map(|()| String::new()),
            _ => {
                let settled = self.settled(node, command)?;
                let place = place(node, command);
                let argv: Vec<&str> = settled.iter().map(String::as_str).collect();
                let output = self.lab.run_in(&place, &argv).await?;
                let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
                let (printed, complained) = (said(&output.stdout), said(&output.stderr));
                ensure!(output.status.success(), "{command}: {}\n{complained}\n{printed}", output.status);
                Ok(printed)
            }
        }
    }

    /// Starts a command that runs for good.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub async fn begin(&mut self, node: &str, command: &str) -> Result<()> {
        let settled = self.settled(node, command)?;
        let (program, args) = settled.split_first().context("an empty command")?;
        let process = self.lab.spawn_in(&place(node, command), Command::new(program).args(args)).await?;
        self.daemons.push(process);
        Ok(())
    }

    /// Where the sockets of a node are.
    pub(super) fn rundir(&self, node: &str) -> &Path {
        self.lab.chassis(&chassis(node)).ovs_rundir()
    }

    /// The command with everything around it as it should be.
    fn settled(&self, node: &str, command: &str) -> Result<Vec<String>> {
        let limosa = Limosa::binary()?;
        let programs = limosa.parent().context("limosa is nowhere")?.display();
        let mut words = ["unshare", "--mount", "env"].map(str::to_owned).to_vec();
        words.extend([
            format!("PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin"),
            format!("KUBECONFIG={}", self.server.kubeconfig().display()),
            format!("NAME={}", chassis(node)),
            format!("NODE={}", self.rundir(node).display()),
            format!("CENTRAL={}", self.lab.dir().join(CENTRAL).display()),
            format!("STORE={}", self.store.display()),
            format!("REPOSITORY={}", self.repository.display()),
            format!("COMMAND={}", with_chassis(command)),
        ]);
        words.extend(["sh", "-euc", SETTLE].map(str::to_owned));
        Ok(words)
    }

    /// What has ended that was to run for good.
    ///
    /// # Errors
    ///
    /// What it has said last.
    pub fn all_run(&self) -> Result<()> {
        match self.daemons.iter().find(|daemon| !daemon.alive()) {
            Some(daemon) => bail!("it has ended: {}", daemon.log_tail()),
            None => Ok(()),
        }
    }

    /// What agents and controller have logged.
    pub fn logs(&self) -> String {
        self.daemons.iter().map(LabProcess::log).collect::<Vec<_>>().join("\n--\n")
    }
}

/// What talks to the API server is outside of the lab's networks, as the server is.
fn place(node: &str, command: &str) -> String {
    let on_api = command.starts_with("kubectl") || command.contains("--kubernetes");
    if on_api { OUTSIDE.to_owned() } else { chassis(node) }
}

/// The lab's name of a node.
fn chassis(node: &str) -> String {
    node.replace("hv", "ch")
}

/// A command with the lab's names of nodes.
fn with_chassis(command: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut text = String::new();
    for word in command.split_inclusive(|c: char| !is_name(c)) {
        let name = word.trim_end_matches(|c: char| !is_name(c));
        let is_node = name.strip_prefix("hv").is_some_and(|number| number.parse::<u8>().is_ok());
        text.push_str(&if is_node { chassis(word) } else { word.to_owned() });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_other_names_in_the_lab() {
        assert_eq!(
            with_chassis("a --from hv1 --to=hv2, hvac vm1 'hv3'"),
            "a --from ch1 --to=ch2, hvac vm1 'ch3'"
        );
    }
}
