//! What a guest cannot do, on a real OVN, to Limosa and to its neighbours.

use limosa_lab::prometheus::get;
use limosa_lab::{Daemon, Endpoint, Lab, LabOptions, LogicalPort};
use openflow_rs::{Client, Config, Event, Events, Target};
use rustix::process::Signal;
use tokio::time::{Instant, timeout};

use super::{CENTRAL, DEADLINE, GUEST, GUEST_MAC, Limosa, Stage};

/// `limosa_protocol::flows::CONTROLLER_ID`.
const CONTROLLER_ID: u16 = 0x4c69;

/// `vm1` is armed on both sides, and has not yet announced itself on ch2.
async fn armed() -> (Stage, Endpoint) {
    let stage = Stage::new(2).await;
    stage.lab.endpoint("ch1", "vm1").await.unwrap();
    let target = stage.to_armed("m").await;
    (stage, target)
}

impl Stage {
    /// Where a frame would go, as the switch says it.
    async fn trace(&self, chassis: &str, frame: &str) -> String {
        let args = ["ofproto/trace", "br-int", frame];
        let trace = self.lab.appctl(chassis, Daemon::Vswitchd, &args).await.unwrap();
        if std::env::var_os("TRACE").is_some() {
            println!("{trace}");
        }
        let (_, actions) = trace.rsplit_once("Datapath actions: ").expect("a trace ends with its actions");
        actions.trim().to_owned()
    }

    /// The port number of an interface.
    async fn ofport(&self, chassis: &str, endpoint: &Endpoint) -> String {
        let ofport = self.lab.vsctl(chassis, &["get", "interface", &endpoint.iface, "ofport"]).await.unwrap();
        ofport.trim().to_owned()
    }
}

/// Gets the packet-ins that the agent of a chassis gets.
async fn listen(lab: &Lab, chassis: &str) -> (Client, Events) {
    let target = Target::Unix(lab.chassis(chassis).ovs_rundir().join("br-int.mgmt"));
    let config = Config { controller_id: CONTROLLER_ID, ..Config::default() };
    Client::connect(&target, config).await.unwrap()
}

/// The packet-ins that are there.
async fn packet_ins(client: &Client, events: &mut Events) -> usize {
    client.barrier().await.unwrap();
    let mut count = 0;
    while let Some(event) = events.try_next() {
        count += usize::from(matches!(event, Event::PacketIn(_)));
    }
    count
}

/// A flow that does nothing but count is a flow that was hit.
fn hits(dump: &str, pattern: &str) -> Option<u64> {
    let flow = dump.lines().find(|line| line.contains(pattern))?;
    flow.split_once("n_packets=")?.1.split(',').next()?.parse().ok()
}

#[tokio::test]
async fn a_flood_of_announcements_reaches_the_agent_once() {
    let (mut stage, target) = armed().await;
    let Stage { lab, limosa, .. } = &stage;
    // Nobody replaces the announcement rule.
    let agent = limosa.agent("ch2").unwrap();
    agent.kill(Signal::KILL).unwrap();
    agent.wait_exit(DEADLINE).await.unwrap();
    let (client, mut events) = listen(lab, "ch2").await;
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    let first =
        timeout(DEADLINE, async { while !matches!(events.next().await, Some(Event::PacketIn(_))) {} });
    first.await.expect("the first announcement is told");

    let diversion = format!("in_port={} ", stage.ofport("ch2", &target).await);
    let stats = async || lab.ofctl("ch2", "dump-flows", &["table=0"]).await.unwrap();
    let priority = format!("priority=1200,{diversion}");
    let deadline = Instant::now() + DEADLINE;
    // The learned flow reaches the datapath's cache within a revalidation.
    while hits(&stats().await, &priority).is_none_or(|hits| hits == 0) {
        assert!(Instant::now() < deadline, "the learned flow takes no frame: {}", stats().await);
        lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    }
    let _until_then = packet_ins(&client, &mut events).await;

    const FLOOD: u64 = 200;
    let before = hits(&stats().await, &priority).unwrap();
    for _ in 0..FLOOD {
        lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    }
    while hits(&stats().await, &priority).unwrap() < before + FLOOD {
        assert!(Instant::now() < deadline, "{}", stats().await);
    }
    assert_eq!(packet_ins(&client, &mut events).await, 0);
    stage.assert_foreign_is_as_it_was().await;
}

#[tokio::test]
async fn only_the_guests_own_announcement_on_its_own_interface_opens_the_gate() {
    let (mut stage, target) = armed().await;
    let lab = &stage.lab;
    let armed = stage.ours("ch2").await;
    let v = stage.ofport("ch2", &target).await;
    let p2 = lab.vsctl("ch2", &["get", "interface", "v-p2", "ofport"]).await.unwrap();
    let rarp = |port: &str, src: &str, sha: &str, op: u8| {
        format!("in_port={port},dl_src={src},dl_dst=ff:ff:ff:ff:ff:ff,rarp,arp_op={op},arp_sha={sha}")
    };
    let other = "02:00:00:00:01:02";
    for frame in [
        rarp(&v, other, other, 3),
        rarp(&v, GUEST_MAC, other, 3),
        rarp(&v, other, GUEST_MAC, 3),
        rarp(&v, GUEST_MAC, GUEST_MAC, 4),
        format!(
            "in_port={v},dl_src={GUEST_MAC},dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_spa={GUEST},arp_tpa={GUEST}"
        ),
        format!("in_port={v},dl_src={GUEST_MAC},dl_dst=33:33:00:00:00:16,icmp6"),
        format!(
            "in_port={v},dl_src={GUEST_MAC},dl_dst=02:00:00:00:02:01,ip,nw_src={GUEST},nw_dst=192.168.7.21"
        ),
    ] {
        assert_eq!(stage.trace("ch2", &frame).await, "drop", "{frame}");
    }
    // A neighbour with the guest's address: OVN's affair, and it opens nothing.
    let neighbour = stage.trace("ch2", &rarp(p2.trim(), GUEST_MAC, GUEST_MAC, 3)).await;
    assert!(!neighbour.contains("userspace"), "{neighbour}");
    lab.send_rarp("p2-ch2", GUEST_MAC).await.unwrap();
    lab.send_rarp(&target.ns, other).await.unwrap();
    assert_eq!(stage.ours("ch2").await, armed);
    stage.assert_foreign_is_as_it_was().await;
}

/// Bit 31 of OVN's option means that a pipeline has let a packet through.
/// What the guest sends on the target carries it to the source, and no further.
#[tokio::test]
async fn nothing_that_the_guest_sends_leaves_the_source_with_the_mark() {
    let (mut stage, target) = armed().await;
    let Stage { lab, limosa, .. } = &stage;
    // The target cannot bind the port: everything goes by way of the source.
    lab.daemon("ch2", Daemon::OvnController).pause().unwrap();
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    limosa.wait(lab, "m", "activated").await.unwrap();
    // From the target by way of the source to a neighbour on the target.
    lab.exec_in(&target.ns, &["busybox", "ping", "-c", "3", "-W", "5", "192.168.7.22"]).await.unwrap();
    let flows = lab.appctl("ch1", Daemon::Vswitchd, &["dpctl/dump-flows"]).await.unwrap();
    let options = |part: &str| -> Vec<u32> {
        let digits = |text: &str| text.chars().take_while(char::is_ascii_hexdigit).collect::<String>();
        let parts = part.split("type=0x80,len=4,0x").skip(1);
        parts.map(|option| u32::from_str_radix(&digits(option), 16).unwrap()).collect()
    };
    let mut left = 0;
    for (key, actions) in flows.lines().filter_map(|flow| flow.split_once("actions:")) {
        let reversed = options(key).iter().any(|option| option >> 31 == 1 && option & 0xffff == 0);
        for option in options(actions).into_iter().filter(|_| reversed) {
            assert_eq!(option >> 31, 0, "{key} leaves with the mark: {actions}");
            left += 1;
        }
    }
    assert!(left > 0, "no frame of the guest went through the source:\n{flows}");
    stage.assert_foreign_is_as_it_was().await;
}

/// Whoever reads metrics learns how many there are, not who.
#[tokio::test]
async fn metrics_name_no_object() {
    let lab = Lab::start(LabOptions { chassis: 2, ..LabOptions::default() }).await.unwrap();
    lab.peers().await.unwrap();
    lab.port("ls0", LogicalPort::new("vm1", GUEST_MAC, GUEST)).await.unwrap();
    let limosa = Limosa::start_with_metrics(&lab).await.unwrap();
    let source = lab.endpoint("ch1", "vm1").await.unwrap();
    let ask = ["vm1", "--from", "ch1", "--to", "ch2", "--name", "quiet", "--wait=arming", "--timeout", "30"];
    limosa.object(&lab, "migrate", &ask).await.unwrap();
    let target = lab.endpoint_unbound("ch2", "vm1").await.unwrap();
    limosa.wait(&lab, "quiet", "armed").await.unwrap();
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    limosa.wait(&lab, "quiet", "released").await.unwrap();
    source.remove(&lab).await.unwrap();
    limosa.wait(&lab, "quiet", "completed").await.unwrap();
    for (place, counted) in [
        (CENTRAL, "limosa_migrations{phase=\"Completed\"} 1\n"),
        ("ch1", "limosa_agent_info{chassis=\"ch1\"} 1\n"),
        ("ch2", "limosa_agent_announcements_total 1\n"),
    ] {
        let url = format!("http://{}/metrics", Limosa::metrics_of(&lab, place));
        let metrics = get(&lab, &url).await.unwrap();
        assert!(metrics.contains(counted), "{metrics}");
        for name in ["quiet", "vm1", GUEST, GUEST_MAC, "ls0"] {
            assert!(!metrics.contains(name), "{place} names {name}:\n{metrics}");
        }
    }
}
