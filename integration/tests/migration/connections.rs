//! What the source tracks of the guest's connections, the target tracks too.

use std::collections::BTreeSet;

use limosa_conntrack::{Connection, Tuple, parse};
use limosa_lab::probe::Prober;
use limosa_lab::{Daemon, Lab, worker};

use super::{DEADLINE, GUEST, GUEST_MAC, Stage};

const PEER: &str = "192.168.7.22";

/// Nobody may speak to the guest, but those whom it has spoken to.
async fn deny_by_default(lab: &Lab) {
    for (direction, priority, rule, action) in [
        ("from-lport", "1000", "inport==\"vm1\" && ip", "allow-related"),
        ("to-lport", "900", "outport==\"vm1\" && ip", "drop"),
    ] {
        lab.nbctl(&["acl-add", "ls0", direction, priority, rule, action]).await.unwrap();
    }
    lab.sync().await.unwrap();
}

/// What a chassis tracks in the zone of the guest's port.
async fn tracked(lab: &Lab, chassis: &str) -> Vec<Connection> {
    let key = "external_ids:ct-zone-vm1";
    let zone = lab.vsctl(chassis, &["get", "Bridge", "br-int", key]).await.unwrap();
    let zone = format!("zone={}", zone.trim().trim_matches('"'));
    let dump = lab.appctl(chassis, Daemon::Vswitchd, &["dpctl/dump-conntrack", "-m", &zone]).await.unwrap();
    parse(&dump).collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}"))
}

fn origins(connections: &[Connection]) -> BTreeSet<String> {
    let text = |Tuple { src, dst, transport }: &Tuple| format!("{src} {dst} {transport:?}");
    connections.iter().map(|connection| text(&connection.orig)).collect()
}

#[tokio::test]
async fn the_target_tracks_what_the_source_tracked() {
    let mut stage = Stage::new(2).await;
    let Stage { lab, limosa, .. } = &stage;
    deny_by_default(lab).await;
    let source = lab.endpoint("ch1", "vm1").await.unwrap();
    let mut echo = std::process::Command::new(worker::binary().unwrap());
    let echo = lab.spawn_in("p2-ch2", echo.arg("echo")).await.unwrap();
    echo.wait_log("GUEST UP", DEADLINE).await.unwrap();
    for _ in 0..3 {
        let prober = Prober::start(lab, &source.ns, PEER, 100).await.unwrap();
        let probe = prober.finish().await.unwrap();
        assert!(!probe.arrivals.is_empty(), "the peer answers");
    }
    let before = origins(&tracked(lab, "ch1").await);
    assert!(before.iter().filter(|orig| orig.starts_with(GUEST)).count() >= 3, "{before:#?}");

    let target = stage.to_armed("m").await;
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    limosa.wait(lab, "m", "switched").await.unwrap();
    let after = origins(&tracked(lab, "ch2").await);
    assert!(after.is_superset(&before), "{before:#?} became {after:#?}");
    stage.assert_others_are_well().await;
}
