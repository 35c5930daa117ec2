//! Many ports of one chassis, an interface without a guest behind each.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};

use super::objects::Objects;
use crate::demo::Limosa;
use crate::lab::Lab;
use crate::worker;

/// How many commands run at once.
const AT_ONCE: usize = 4;

/// How long all of them together may take for a step.
pub(super) const DEADLINE: Duration = Duration::from_secs(180);

pub(super) fn port(n: usize) -> String {
    format!("r{n}")
}

fn mac(n: usize) -> String {
    format!("02:00:00:01:00:{n:02x}")
}

/// They are there, and up on a chassis.
pub(super) async fn start(
    lab: &Lab,
    chassis: &str,
    ports: impl Iterator<Item = usize> + Clone,
) -> Result<()> {
    let mut add = Vec::new();
    for n in ports.clone() {
        let addresses = format!("{} 10.7.0.{n}", mac(n));
        add.extend(["--", "lsp-add", "ls0"].map(str::to_owned));
        add.extend([port(n), "--".to_owned(), "lsp-set-addresses".to_owned(), port(n), addresses]);
    }
    lab.nbctl(&add.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    plug(lab, chassis, ports.clone()).await?;
    for n in ports {
        lab.nbctl(&["wait-until", "Logical_Switch_Port", &port(n), "up=true"]).await?;
    }
    lab.sync().await.map(drop)
}

/// Their interfaces appear on a chassis.
pub(super) async fn plug(lab: &Lab, chassis: &str, ports: impl Iterator<Item = usize> + Clone) -> Result<()> {
    let mut add = Vec::new();
    for port in ports.clone().map(port) {
        let id = format!("external_ids:iface-id={port}");
        add.extend(
            ["--", "add-port", "br-int", &port, "--", "set", "interface", &port, "type=internal"]
                .map(str::to_owned),
        );
        add.push(id);
    }
    lab.vsctl(chassis, &add.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let up: String = ports.map(|n| format!("ip link set {} up\n", port(n))).collect();
    lab.exec_in(chassis, &["sh", "-euc", &up]).await.map(drop)
}

/// Their interfaces go.
pub(super) async fn unplug(lab: &Lab, chassis: &str, ports: impl Iterator<Item = usize>) -> Result<()> {
    let del: Vec<String> =
        ports.flat_map(|n| ["--".to_owned(), "del-port".to_owned(), "br-int".to_owned(), port(n)]).collect();
    lab.vsctl(chassis, &del.iter().map(String::as_str).collect::<Vec<_>>()).await.map(drop)
}

/// Asks for their migrations, which have their names.
pub(super) async fn ask(
    lab: &Lab,
    limosa: &Limosa,
    ports: impl Iterator<Item = usize>,
    from: &str,
    to: &str,
) -> Result<()> {
    let asked = stream::iter(ports.map(port))
        .map(|port| async move { limosa.ask(lab, &port, &port, from, to).await.map(drop) });
    asked.buffer_unordered(AT_ONCE).try_collect().await
}

/// Waits until their migrations have come to a phase.
pub(super) async fn all(objects: &Objects, phase: &str, ports: impl Iterator<Item = usize>) -> Result<()> {
    for n in ports {
        objects.reached(&port(n), phase, DEADLINE).await?;
    }
    Ok(())
}

/// The guests announce themselves there.
pub(super) async fn announce(lab: &Lab, chassis: &str, ports: impl Iterator<Item = usize>) -> Result<()> {
    let program = worker::binary()?;
    let program = program.to_str().context("a strange path")?;
    for n in ports {
        lab.exec_in(chassis, &[program, "rarp", "--iface", &port(n), "--mac", &mac(n)]).await?;
    }
    Ok(())
}
