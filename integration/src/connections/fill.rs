//! Many connections in a chassis' tracker, without anybody who has them.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use limosa_conntrack::{Backends, Connection, Progress, Transport, Tuple};
use ofpacket::{Action, Ct, CtZone, PacketOut, PortNo};
use openflow_rs::{Client, Config, Target};

use crate::daemon::Daemon;
use crate::lab::Lab;

/// How many packets the switch is given at a time.
const BATCH: usize = 256;

/// What a chassis tracks for a port.
///
/// # Errors
///
/// When the port has no zone there, or an entry cannot be read.
pub async fn tracked(lab: &Lab, chassis: &str, port: &str) -> Result<Vec<Connection>> {
    let zone = format!("zone={}", zone(lab, chassis, port).await?);
    let dump = lab.appctl(chassis, Daemon::Vswitchd, &["dpctl/dump-conntrack", "-m", &zone]).await?;
    limosa_conntrack::parse(&dump).collect::<Result<_, _>>().context("read the tracker's entries")
}

/// The zone in which a chassis tracks the connections of a port.
///
/// # Errors
///
/// When ovn-controller has given it none.
pub async fn zone(lab: &Lab, chassis: &str, port: &str) -> Result<u16> {
    let key = format!("external_ids:ct-zone-{port}");
    let zone = lab.vsctl(chassis, &["get", "Bridge", "br-int", &key]).await?;
    zone.trim().trim_matches('"').parse().context("a zone is a number")
}

/// Has a chassis track `count` connections for a port, two thirds of them TCP.
///
/// # Errors
///
/// When the port has no zone there, or the switch refuses.
pub async fn fill(lab: &Lab, chassis: &str, port: &str, count: u32) -> Result<()> {
    let zone = CtZone::Immediate(zone(lab, chassis, port).await?);
    let ct = Ct { flags: Ct::COMMIT, zone, table: None, alg: 0, actions: Vec::new() };
    let socket = lab.chassis(chassis).ovs_rundir().join("br-int.mgmt");
    let (client, _events) = Client::connect(&Target::Unix(socket), Config::default()).await?;
    let connections: Vec<Connection> = (0..count).map(invented).collect();
    for some in connections.chunks(BATCH / 3) {
        let mut packets = Vec::with_capacity(BATCH);
        for connection in some {
            let frames = connection.frames(&mut Backends::default())?;
            let actions = vec![Action::Ct(ct.clone())];
            packets
                .extend(frames.into_iter().map(|f| PacketOut::new(PortNo::CONTROLLER, actions.clone(), f)));
        }
        client.packet_outs(packets).await?;
    }
    Ok(())
}

/// Connections of all kinds, each another one.
fn invented(number: u32) -> Connection {
    let port = 1024 + (number % 60_000) as u16;
    let transport = Transport::Ports { src: port, dst: 443 };
    let orig = if number.is_multiple_of(2) {
        Tuple {
            src: Ipv4Addr::new(192, 168, 7, 10).into(),
            dst: Ipv4Addr::new(10, 1, 2, 3).into(),
            transport,
        }
    } else {
        let address = |last| Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, last).into();
        Tuple { src: address(1), dst: address(16), transport }
    };
    Connection {
        protocol: if number.is_multiple_of(3) { 17 } else { 6 },
        orig,
        reply: orig.inverse(),
        zone: 0,
        mark: 0,
        label: 0,
        progress: Progress::Open,
        tags: [0; 2],
        helper: None,
        is_child: false,
    }
}
