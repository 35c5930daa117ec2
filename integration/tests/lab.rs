//! The lab itself: that it is a cluster, that its parts can be made to fail,
//! and that a guest migrates in it by OVN's own means.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use limosa_lab::analysis::{Observed, analyse};
use limosa_lab::probe::{ProbeResult, Prober};
use limosa_lab::sniff::Sniffer;
use limosa_lab::tcp::HeldTcp;
use limosa_lab::{CENTRAL, Daemon, Guest, Lab, LabOptions, LogicalPort, migrate, worker};
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(60);
const GUEST: &str = "192.168.7.10";
const GUEST_MAC: &str = "02:00:00:00:01:01";

/// A lab with switch ls0, an endpoint `pN` on every chassis, and port `vm1`.
async fn lab(chassis: usize) -> Lab {
    lab_with(LabOptions { chassis, ..LabOptions::default() }).await
}

async fn lab_with(options: LabOptions) -> Lab {
    let lab = Lab::start(options).await.unwrap();
    lab.peers().await.unwrap();
    lab.port("ls0", LogicalPort::new("vm1", GUEST_MAC, GUEST)).await.unwrap();
    lab
}

async fn echo_in(lab: &Lab, ns: &str) -> limosa_lab::LabProcess {
    let mut command = Command::new(worker::binary().unwrap());
    let echo = lab.spawn_in(ns, command.arg("echo")).await.unwrap();
    echo.wait_log("GUEST UP", DEADLINE).await.unwrap();
    echo
}

fn lost(probe: &ProbeResult) -> usize {
    (0..probe.sent.len() as u64).filter(|n| !probe.arrivals.iter().any(|(number, _)| number == n)).count()
}

#[tokio::test]
async fn two_labs_stand_side_by_side() {
    let (one, two) = tokio::join!(lab(2), lab(2));
    for lab in [&one, &two] {
        lab.endpoint("ch1", "vm1").await.unwrap();
        let echo = echo_in(lab, "vm1-ch1").await;
        assert_eq!(lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch1"));
        let prober = Prober::start(lab, "p2-ch2", GUEST, 500).await.unwrap();
        let tcp = HeldTcp::start(lab, "p1-ch1", GUEST).await.unwrap();
        let tcp = tcp.finish().await.unwrap();
        assert!(tcp.good(), "{tcp:?}");
        let probe = prober.finish().await.unwrap();
        assert_eq!((lost(&probe), probe.arrivals.len()), (0, probe.sent.len()));
        echo.kill(Signal::KILL).unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&echo.wait_exit(DEADLINE).await.unwrap()),
            Some(9)
        );
    }
    // With one gone, the other carries on.
    let dir = one.dir().to_owned();
    drop(one);
    assert!(!dir.exists());
    two.sync().await.unwrap();
    assert!(two.dump_flows("ch1").await.unwrap().len() > 50);
}

#[tokio::test]
async fn every_daemon_can_fail_by_itself() {
    let lab = lab(2).await;
    for (place, daemon) in [
        (CENTRAL, Daemon::NbDb),
        (CENTRAL, Daemon::SbDb),
        (CENTRAL, Daemon::Northd),
        ("ch2", Daemon::OvsDb),
        ("ch2", Daemon::Vswitchd),
        ("ch2", Daemon::OvnController),
    ] {
        let handle = lab.daemon(place, daemon);
        let pid = handle.pid();
        assert!(pid.is_some() && handle.alive(), "{daemon:?}");
        handle.kill9().await.unwrap();
        assert!(!handle.alive(), "{daemon:?}");
        assert!(handle.start().await.is_ok() && handle.alive(), "{daemon:?}");
        assert_ne!(handle.pid(), pid, "{daemon:?}");
        handle.stop().await.unwrap();
        assert!(!handle.alive(), "{daemon:?}");
        handle.start().await.unwrap();
        assert!(handle.start().await.is_err(), "a second {daemon:?}");
        assert_eq!(handle.crash_lines(), [""; 0], "{daemon:?}");
    }
    lab.sync().await.unwrap();
    lab.endpoint("ch1", "vm1").await.unwrap();
    echo_in(&lab, "vm1-ch1").await;
    HeldTcp::start(&lab, "p2-ch2", GUEST).await.unwrap();

    // A controller that stands still keeps the cluster from catching up.
    let controller = lab.daemon("ch2", Daemon::OvnController);
    controller.pause().unwrap();
    let late = lab.nbctl(&["--timeout=1", "--wait=hv", "sync"]).await;
    assert!(late.is_err());
    controller.resume().unwrap();
    lab.sync().await.unwrap();
    let said = lab.appctl("ch2", Daemon::OvnController, &["connection-status"]).await.unwrap();
    assert_eq!(said.trim(), "connected");
}

#[tokio::test]
async fn a_copy_of_an_endpoint_announces_itself() {
    let lab = lab(2).await;
    let original = lab.endpoint("ch1", "vm1").await.unwrap();
    lab.nbctl(&["--wait=hv", "lsp-set-options", "vm1", "requested-chassis=ch1"]).await.unwrap();
    let copy = lab.endpoint_unbound("ch2", "vm1").await.unwrap();
    let sniffer = Sniffer::start(&lab, "ch2", &copy.iface).await.unwrap();
    lab.send_rarp(&copy.ns, GUEST_MAC).await.unwrap();
    lab.send_rarp(&copy.ns, "02:00:00:00:01:02").await.unwrap();
    let seen = sniffer.finish().await.unwrap();
    let macs: Vec<_> = seen.rarps.iter().map(|(_, mac)| mac.as_str()).collect();
    assert_eq!(macs, [GUEST_MAC, "02:00:00:00:01:02"]);
    assert_eq!(lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch1"));
    original.remove(&lab).await.unwrap();
    copy.remove(&lab).await.unwrap();
    assert!(lab.run_in("vm1-ch2", &["true"]).await.is_ok_and(|output| !output.status.success()));
}

/// What is plugged and unplugged on a chassis is not felt by those who talk
/// over its tunnels: a measurement must see what OVN and Limosa lose, not what
/// the lab does.
#[tokio::test]
async fn the_lab_itself_loses_nothing() {
    let lab = lab_with(LabOptions { chassis: 2, alone: true, ..LabOptions::default() }).await;
    lab.endpoint("ch1", "vm1").await.unwrap();
    echo_in(&lab, "vm1-ch1").await;
    let prober = Prober::start(&lab, "p2-ch2", GUEST, 1000).await.unwrap();
    for _ in 0..20 {
        lab.exec_in("ch2", &["ip", "tuntap", "add", "x0", "mode", "tap"]).await.unwrap();
        lab.exec_in("ch2", &["ip", "link", "set", "x0", "up"]).await.unwrap();
        lab.plug("ch2", "x0", "none").await.unwrap();
        lab.unplug("ch2", "x0").await.unwrap();
        lab.exec_in("ch2", &["ip", "link", "del", "x0"]).await.unwrap();
    }
    let probe = prober.finish().await.unwrap();
    assert!(probe.sent.len() > 1000);
    assert_eq!((lost(&probe), probe.arrivals.len()), (0, probe.sent.len()));
}

/// OVN's own way: both chassis at once, the target's gate opened by RARP, then
/// the target alone.
#[tokio::test]
async fn ovn_migrates_a_guest() {
    let lab = lab_with(LabOptions { alone: true, ..LabOptions::default() }).await;
    let mut source = Guest::start(&lab, "ch1", "vm1").await.unwrap();
    let tcp = HeldTcp::start(&lab, "p3-ch3", GUEST).await.unwrap();
    let mut probers = Vec::new();
    for n in 1..=3u8 {
        let prober = Prober::start(&lab, &format!("p{n}-ch{n}"), GUEST, 200).await.unwrap();
        probers.push((format!("p{n}"), Ipv4Addr::new(192, 168, 7, 20 + n), prober));
    }
    let both = ["requested-chassis=ch1,ch2", "activation-strategy=rarp"];
    lab.nbctl(&[&["--wait=hv", "lsp-set-options", "vm1"], &both[..]].concat()).await.unwrap();
    let mut target = Guest::prepare_incoming(&lab, "ch2", "vm1").await.unwrap();
    assert_eq!(target.status().await.unwrap(), "inmigrate");
    lab.sync().await.unwrap();
    let before = Sniffer::start(&lab, "ch1", source.tap()).await.unwrap();
    let after = Sniffer::start(&lab, "ch2", target.tap()).await.unwrap();

    let times = migrate(&mut source, &mut target).await.unwrap();
    lab.nbctl(&["--wait=hv", "lsp-set-options", "vm1", "requested-chassis=ch2"]).await.unwrap();
    assert_eq!(lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch2"));
    assert_eq!(source.status().await.unwrap(), "postmigrate");
    assert_eq!(target.status().await.unwrap(), "running");
    source.kill(Signal::KILL).await.unwrap();
    source.unplug(&lab).await.unwrap();
    assert!(!source.alive() && target.alive());
    // A message there and back over what is now the only way.
    HeldTcp::start(&lab, "p1-ch1", GUEST).await.unwrap();

    let mut peers = Vec::new();
    for (name, ip, prober) in probers {
        peers.push((name, ip, prober.finish().await.unwrap()));
    }
    let (before, after) = (before.finish().await.unwrap(), after.finish().await.unwrap());
    let analysis = analyse(&Observed {
        pause_ns: times.pause.monotonic_ns,
        guest_mac: GUEST_MAC,
        source: &before,
        target: &after,
        peers: &peers,
    });
    println!("pause {:.1} ms, {analysis:?}", times.pause_ms());
    let rarp = analysis.rarp_ns.unwrap();
    assert!(rarp >= times.resume.monotonic_ns - 1_000_000, "announced before it ran");
    assert!(analysis.activation_ms().unwrap() > 0.0);
    for (name, peer) in &analysis.peers {
        let total = peer.lost_before_pause + peer.lost_in_pause + peer.lost_after_activation;
        assert!(peer.sent > 50 && total < peer.sent / 2, "{name}: {peer:?}");
        assert!(peer.longest_silence_ms >= times.pause_ms(), "{name}: {peer:?}");
    }
    let tcp = tcp.finish().await.unwrap();
    assert!(tcp.good(), "{tcp:?}");
    for ch in lab.all_chassis() {
        assert_eq!(ch.daemon(Daemon::OvnController).crash_lines(), [""; 0], "{}", ch.name());
    }
}

/// What libvirt does when the last step's answer is lost: the target's copy is
/// killed before it ran, and the source goes on.
#[tokio::test]
async fn a_guest_goes_on_at_the_source() {
    let lab = lab(2).await;
    lab.nbctl(&["lsp-set-options", "vm1", "requested-chassis=ch1"]).await.unwrap();
    let mut source = Guest::start(&lab, "ch1", "vm1").await.unwrap();
    let target = Guest::prepare_incoming(&lab, "ch2", "vm1").await.unwrap();
    source.begin_migration(&target, 1 << 30).await.unwrap();
    source.wait_paused().await.unwrap();
    source.wait_handed_over().await.unwrap();
    target.kill(Signal::KILL).await.unwrap();
    target.unplug(&lab).await.unwrap();
    source.resume().await.unwrap();
    let tcp = HeldTcp::start(&lab, "p2-ch2", GUEST).await.unwrap().finish().await.unwrap();
    assert!(tcp.good(), "{tcp:?}");
}
