//! One chassis: its databases, its switch, and what others may find of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use limosa_protocol::Facts;
use limosa_protocol::object::Problem;
use ovsdb_rs::{Remote, Remotes, Replica, Session, TableMonitor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Report, some, store};
use crate::agent::Look;
use crate::store::Store;
use crate::view::audit::{self, Audit};
use crate::view::count;

/// The first release whose flow monitor speaks OpenFlow 1.5.
const OLDEST_OVS: (u32, u32) = (3, 0);
/// What Geneve with OVN's option adds to a frame, counted against an MTU:
/// the frame's own header (14), Geneve (8), its option (8), UDP (8) and IP.
const GENEVE: i64 = 14 + 8 + 8 + 8;
const IPV4: i64 = 20;
const IPV6: i64 = 40;
const AGENT_ANSWER: Duration = Duration::from_secs(5);
const DATABASE_ANSWER: Duration = Duration::from_secs(5);

ovsdb_rs::table! {
    struct Global in "Open_vSwitch" {
        external_ids: BTreeMap<String, String>,
        /// Written by whatever starts ovs-vswitchd, if at all.
        ovs_version: Option<String>,
    }

    struct Interface in "Interface" {
        name: String,
        r#type: String,
        mtu: Option<i64>,
        options: BTreeMap<String, String>,
        status: BTreeMap<String, String>,
        external_ids: BTreeMap<String, String>,
    }
}

pub(super) async fn check(
    report: &mut Report,
    ovs_rundir: &Path,
    chassis: Option<&str>,
    agent: Option<SocketAddr>,
    store: Option<&dyn Store>,
) {
    ask_agent(report, agent).await;
    let look = match Look::open(ovs_rundir, chassis).await {
        Ok(look) => look,
        Err(problem) => {
            return fail(report, "local-database", problem, "mend this first: nothing else can be looked at");
        }
    };
    report.ok("local-database", format!("it answers; this is chassis {}", look.chassis));
    if let Some(store) = store {
        let snapshot = store.watch().borrow().clone();
        store::agents(report, Some(&snapshot), Some(&look.chassis));
    }
    let session = local(ovs_rundir);
    if session.ready(DATABASE_ANSWER).await.is_ok() {
        encapsulation(report, &session.replica());
        mtu(report, &session.replica());
    }
    if let Err(problem) = bridge(report, &look, store).await {
        // It may be too old to answer.
        let global: Option<Global> = session.replica().rows().next();
        if let Some(noted) = global.and_then(|global| global.ovs_version) {
            version(report, &noted);
        }
        let hint = "the agent speaks to the bridge's management socket, which ovs-vswitchd makes in its run directory";
        fail(report, "bridge", problem, hint);
    }
}

/// What the switch itself says.
async fn bridge(report: &mut Report, look: &Look, store: Option<&dyn Store>) -> Result<(), Problem> {
    let bridge = look.bridge().await?;
    let software = bridge.software().await?;
    let reading = bridge.read().await?;
    let found = audit::settled(&bridge, store).await?;
    version(report, &software);
    match bridge.checks_sequence().await {
        Ok(false) => report.ok("sequence-checks", "TCP connections can be carried"),
        Ok(true) => report.warn(
            "sequence-checks",
            "this userspace datapath compares TCP sequence numbers: TCP connections are left behind",
            "`ovs-appctl dpctl/ct-disable-tcp-seq-chk` on every chassis, at each start of ovs-vswitchd",
        ),
        Err(error) => report.skip("sequence-checks", format!("{error:#}")),
    }
    report.ok("bridge", format!("{} answers, with {} flows", reading.bridge, reading.flows.len()));
    tables(report, &reading.facts);
    flows(report, &found);
    Ok(())
}

fn fail(report: &mut Report, name: &'static str, problem: Problem, hint: &str) {
    report.fail(name, problem.message, hint);
}

fn local(ovs_rundir: &Path) -> Session {
    let tables = vec![TableMonitor::of::<Global>(), TableMonitor::of::<Interface>()];
    Session::open(Remotes::from(Remote::Unix(ovs_rundir.join("db.sock"))), "Open_vSwitch", tables)
}

/// What the chassis offers others, and the tunnels that are there.
fn encapsulation(report: &mut Report, replica: &Replica) {
    let global: Option<Global> = replica.rows().next();
    let offered = global.and_then(|global| global.external_ids.get("ovn-encap-type").cloned());
    let offers_geneve = offered.as_ref().is_some_and(|kinds| kinds.split(',').any(|kind| kind == "geneve"));
    let tunnels: Vec<(String, String)> = replica
        .rows::<Interface>()
        .filter(|interface| interface.options.contains_key("remote_ip"))
        .map(|interface| (interface.name, interface.r#type))
        .collect();
    let others: Vec<String> = tunnels
        .iter()
        .filter(|(_, kind)| kind != "geneve")
        .map(|(name, kind)| format!("{name} ({kind})"))
        .collect();
    let hint = "mirrored packets need an option to be marked with, which geneve alone has: `ovs-vsctl set open . external_ids:ovn-encap-type=geneve`";
    if !offers_geneve {
        let offered = offered.unwrap_or_else(|| "not set".to_owned());
        report.fail("encapsulation", format!("external_ids:ovn-encap-type is {offered}"), hint);
    } else if !others.is_empty() {
        report.fail("encapsulation", format!("tunnels without options: {}", some(&others)), hint);
    } else if tunnels.is_empty() {
        let hint = "is it the only chassis, or is ovn-controller not connected to the southbound database?";
        report.warn("encapsulation", "no tunnel to any other chassis", hint);
    } else {
        report.ok("encapsulation", count(tunnels.len(), "geneve tunnel"));
    }
}

/// Whether a guest's longest frame fits the tunnel that it is mirrored through.
fn mtu(report: &mut Report, replica: &Replica) {
    let interfaces: Vec<Interface> = replica.rows().collect();
    let own = |name: &str| {
        interfaces.iter().find(|i| i.name == name).and_then(|i| i.mtu).or_else(|| system_mtu(name))
    };
    let room = |tunnel: &Interface| {
        let egress = tunnel.status.get("tunnel_egress_iface")?;
        let ip = if tunnel.options.get("remote_ip")?.contains(':') { IPV6 } else { IPV4 };
        Some((own(egress)? - GENEVE - ip, egress.clone()))
    };
    let Some((room, egress)) = interfaces.iter().filter_map(room).min() else {
        return report.skip("mtu", "no tunnel says which interface it leaves by");
    };
    let guests = interfaces.iter().filter(|interface| interface.external_ids.contains_key("iface-id"));
    let large: Vec<String> = guests
        .filter_map(|interface| Some((interface, interface.mtu.filter(|mtu| *mtu > room)?)))
        .map(|(interface, mtu)| format!("{} ({mtu})", interface.name))
        .collect();
    if large.is_empty() {
        report.ok("mtu", format!("tunnels leave by {egress} and have room for {room} bytes"));
    } else {
        report.warn(
            "mtu",
            format!("tunnels leave by {egress} and have room for {room} bytes; larger MTUs: {}", some(&large)),
            "a frame that does not fit is not mirrored, and lost while the guest changes sides: raise the MTU of the network between the chassis, or lower the guests'",
        );
    }
}

/// The MTU of an interface that is not in the database (sysfs-class-net).
fn system_mtu(name: &str) -> Option<i64> {
    // An interface's name has no slash; what comes from the database might.
    let name = Path::new(name).file_name()?;
    std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("mtu")).ok()?.trim().parse().ok()
}

fn version(report: &mut Report, software: &str) {
    match release(software) {
        Some(found) if found >= OLDEST_OVS => report.ok("switch-version", format!("Open vSwitch {software}")),
        Some(_) => report.fail(
            "switch-version",
            format!("Open vSwitch {software} is too old"),
            "its flow monitor does not speak OpenFlow 1.5: upgrade to 3.0 or later",
        ),
        None => report.warn(
            "switch-version",
            format!("{software:?} is no release of Open vSwitch"),
            "nothing else was tried with Limosa",
        ),
    }
}

/// Major and minor number.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// What flows are written by.
fn tables(report: &mut Report, facts: &Facts) {
    let layout = facts.layout;
    let missing = [layout.remote_output().err(), layout.local_output().err(), layout.log_to_phy().err()];
    match missing.into_iter().flatten().next() {
        None => report.ok("tables", layout.to_string()),
        Some(missing) => {
            report.fail("tables", missing.to_string(), "nothing begins on this chassis before they are found")
        }
    }
    match facts.geneve_index {
        Some(index) => report.ok("geneve-option", format!("OVN's option is tun_metadata{index}")),
        None => report.fail(
            "geneve-option",
            "the bridge maps no tun_metadata field to OVN's Geneve option (class 0x102, type 0x80)",
            "ovn-controller maps it when it connects to the bridge: is it running here? (`ovs-ofctl dump-tlv-map`)",
        ),
    }
}

/// Whether our flows are what the objects want.
fn flows(report: &mut Report, found: &Audit) {
    let all: usize = found.migrations.iter().map(|share| share.flows.len()).sum();
    match (found.verified, found.findings) {
        (false, _) => report.skip("flows", format!("{all} of ours; no store says what should be here")),
        (true, 0) => report.ok("flows", format!("{all} of ours, all as the migrations want them")),
        (true, findings) => report.fail(
            "flows",
            format!("{findings} of {all} not as they should be"),
            "`limosa flows` points at them; a running agent mends them by itself",
        ),
    }
}

async fn ask_agent(report: &mut Report, agent: Option<SocketAddr>) {
    let Some(mut address) = agent else {
        return report.skip("agent", "not asked: name where it serves its metrics (--agent)");
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    match tokio::time::timeout(AGENT_ANSWER, get(address, "/readyz")).await {
        Ok(Ok((200, _))) => report.ok("agent", "it runs and is ready"),
        Ok(Ok((_, why))) => {
            report.fail("agent", format!("it is not ready: {}", why.trim()), "its log has more")
        }
        Ok(Err(error)) => {
            let hint = "is `limosa agent` running here, with this --metrics-listen?";
            report.fail("agent", format!("nobody answers at {address}: {error}"), hint);
        }
        Err(_) => report.fail("agent", format!("no answer from {address}"), "it hangs: its log may say why"),
    }
}

/// Status and body of a small page.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    const MOST: u64 = 1 << 16;
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut reply = Vec::new();
    stream.take(MOST).read_to_end(&mut reply).await?;
    let reply = String::from_utf8_lossy(&reply);
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or_default(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_as_switches_write_them() {
        assert_eq!(release("3.1.0"), Some((3, 1)));
        assert_eq!(release("2.17.9-1ubuntu"), Some((2, 17)));
        assert_eq!(release("not Open vSwitch"), None);
        let mut report = Report::default();
        for software in ["2.17.9", "3.0.1", "something"] {
            version(&mut report, software);
        }
        assert_eq!((report.failed, report.warnings), (1, 1));
    }
}
