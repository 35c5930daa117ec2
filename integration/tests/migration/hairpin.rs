//! A guest that is itself the backend of the load balancer's address it calls.

use std::net::IpAddr;

use limosa_lab::Daemon;
use limosa_lab::connections::{balance, route, tracked};
use limosa_lab::probe::ECHO_PORT;
use limosa_lab::tcp::HeldTcp;

use super::connections::echo_in;
use super::{GUEST, GUEST_MAC, Stage};

const VIP: &str = "192.168.7.121";

/// OVN keeps one half of the translation in a zone of the switch, which is no
/// port's: the other half alone would make the connection stall for good.
#[tokio::test]
async fn a_connection_of_the_guest_to_itself_is_left_behind_and_counted() {
    let mut stage = Stage::new(2).await;
    let Stage { lab, limosa, .. } = &stage;
    let [vip, guest]: [IpAddr; 2] = [VIP, GUEST].map(|ip| ip.parse().unwrap());
    route(lab, &[vip]).await.unwrap();
    balance(lab, (vip, ECHO_PORT).into(), &[(guest, ECHO_PORT).into()]).await.unwrap();
    let source = lab.endpoint("ch1", "vm1").await.unwrap();
    echo_in(lab, &source.ns).await;
    let _held = HeldTcp::start(lab, &source.ns, VIP).await.unwrap();

    let is_half = |entry: &&limosa_conntrack::Connection| entry.orig.dst == vip && entry.reply.src == guest;
    let before = tracked(lab, "ch1", "vm1").await.unwrap();
    assert_eq!(before.iter().filter(is_half).count(), 1, "{before:#?}");
    let all = lab.appctl("ch1", Daemon::Vswitchd, &["dpctl/dump-conntrack", "-m"]).await.unwrap();
    let zones: Vec<u16> = limosa_conntrack::parse(&all)
        .map(Result::unwrap)
        .filter(|entry| entry.orig.src == guest && entry.reply.dst == vip)
        .map(|entry| entry.zone)
        .collect();
    assert!(zones.len() == 1 && zones[0] != before[0].zone, "{all}");

    let target = stage.to_armed("m").await;
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    let object = limosa.wait(lab, "m", "switched").await.unwrap();
    assert_eq!(object.connections("ch1")["refused"], serde_json::json!({"hairpin": 1}));
    let there = tracked(lab, "ch2", "vm1").await.unwrap();
    assert_eq!(there.iter().filter(is_half).count(), 0, "{there:#?}");
    let told = limosa.status(lab, "m").await.unwrap();
    assert!(told.contains("left there: 1 (hairpin)"), "{told}");
    // OVN's own group for it is none that was there before.
    lab.nbctl(&["--wait=hv", "lb-del", &format!("to-{VIP}:{ECHO_PORT}")]).await.unwrap();
    stage.assert_others_are_well().await;
}
