//! The lab that the cells of the matrix share: three chassis, Limosa, a guest,
//! somebody else's flows, and a watch on every bridge.

use std::path::Path;

use anyhow::{Context, Result};
use futures::future::try_join_all;

use super::bridge::Bridge;
use super::fault::Chassis;
use super::objects::Objects;
use crate::demo::{GUEST_IP, GUEST_MAC, Limosa, PORT};
use crate::foreign::Foreign;
use crate::guest::Guest;
use crate::lab::{Lab, LabOptions};
use crate::network::LogicalPort;

/// What is used again from cell to cell.
#[derive(Debug)]
pub(super) struct Stage {
    // The watchers end before the lab that they watch.
    pub(super) objects: Objects,
    pub(super) bridges: Vec<Bridge>,
    pub(super) foreign: Foreign,
    pub(super) limosa: Limosa,
    pub(super) guest: Option<Guest>,
    /// The migration that was asked for last.
    pub(super) migration: String,
    count: usize,
    pub(super) lab: Lab,
}

impl Stage {
    /// Starts everything but the guest.
    pub(super) async fn start() -> Result<Self> {
        let lab = Lab::start(LabOptions { alone: true, ..LabOptions::default() }).await?;
        lab.peers().await?;
        lab.port("ls0", LogicalPort::new(PORT, GUEST_MAC, GUEST_IP)).await?;
        let objects = Objects::start(&lab).await?;
        let limosa = Limosa::start_on(&lab, objects.path().to_owned()).await?;
        let foreign = Foreign::put(&lab).await?;
        let bridges = try_join_all(lab.all_chassis().iter().map(Bridge::watch)).await?;
        let migration = String::new();
        Ok(Self { objects, bridges, foreign, limosa, guest: None, migration, count: 0, lab })
    }

    /// Boots the guest.
    pub(super) async fn boot(&mut self) -> Result<()> {
        self.guest = Some(Guest::start(&self.lab, "ch1", PORT).await?);
        Ok(())
    }

    /// Where the guest goes next from a chassis: to the next one, and from the
    /// last to the first.
    pub(super) fn way(&self, from: &str) -> Chassis {
        let all = self.lab.all_chassis();
        let at = all.iter().position(|chassis| chassis.name() == from).unwrap_or_default();
        let name = |steps: usize| all[(at + steps) % all.len()].name().to_owned();
        Chassis { from: name(0), to: name(1), other: name(2) }
    }

    /// A name for the next migration.
    pub(super) fn next_name(&mut self) -> String {
        self.count += 1;
        self.migration = format!("m{}", self.count);
        self.migration.clone()
    }

    /// The watch on a chassis' bridge.
    pub(super) fn bridge(&self, chassis: &str) -> Result<&Bridge> {
        self.bridges.iter().find(|bridge| bridge.chassis == chassis).context("a chassis that nobody watches")
    }

    /// Keeps what may tell why something went wrong.
    pub(super) async fn keep(&self, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
        let copy = |from: &Path, prefix: &str| -> Result<()> {
            for entry in std::fs::read_dir(from).context("read the logs")?.flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                    std::fs::copy(entry.path(), to.join(name)).context("keep a log")?;
                }
            }
            Ok(())
        };
        copy(&self.lab.dir().join("log"), "")?;
        for chassis in self.lab.all_chassis() {
            copy(chassis.ovs_rundir(), &format!("{}-", chassis.name()))?;
            let flows = chassis.dump_flows().await.unwrap_or_else(|error| vec![format!("{error:#}")]);
            std::fs::write(to.join(format!("{}-flows.txt", chassis.name())), flows.join("\n") + "\n")
                .context("keep the flows")?;
        }
        if let Some(object) = self.objects.get(&self.migration) {
            let text = serde_json::to_string_pretty(&object).context("write the object")?;
            std::fs::write(to.join("object.json"), text + "\n").context("keep the object")?;
        }
        Ok(())
    }
}
