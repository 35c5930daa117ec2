//! Against the userspace connection tracker of a real `ovs-vswitchd`: what the
//! frames of an entry leave in another zone is that entry.

#[path = "../../ofpacket/tests/support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::net::IpAddr;

use etherparse::PacketBuilder;
use limosa_conntrack::{Backends, Burden, COMMITS, CONFIRMS, Connection, Progress, parse};
use support::Ovs;

fn commits(zone: u16, nat: &str) -> String {
    let moves = Burden::MOVES.map(|step| {
        let range = |from: u16| format!("[{from}..{}]", from + step.bits - 1);
        let from = if step.from_dst { "NXM_OF_ETH_DST" } else { "NXM_OF_ETH_SRC" };
        let to = if step.to_label { "NXM_NX_CT_LABEL" } else { "NXM_NX_CT_MARK" };
        format!("move:{from}{}->{to}{}", range(step.from_bit), range(step.to_bit))
    });
    format!("ct(commit,force,zone={zone}{nat},exec({}))", moves.join(","))
}

/// The flows that commit, as `ovs-ofctl` reads them.
fn commit(zone: u16) -> [String; 4] {
    let commits = commits(zone, "");
    let confirms = format!("ct(zone={zone})");
    let flow =
        |family, ttl, actions: &str| format!("table=0,in_port=1,{family},nw_ttl={ttl} actions={actions}");
    [
        flow("ip", COMMITS, &commits),
        flow("ipv6", COMMITS, &commits),
        flow("ip", CONFIRMS, &confirms),
        flow("ipv6", CONFIRMS, &confirms),
    ]
}

fn connection(text: &str) -> Connection {
    text.parse().expect("a connection")
}

/// One entry of each kind that can be carried, as the tracker prints them.
fn entries() -> Vec<Connection> {
    let open = "protoinfo=(state_orig=ESTABLISHED,state_reply=ESTABLISHED)";
    [
        &format!("tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=1000),zone=9,{open}"),
        &format!("tcp,orig=(src=10.0.0.2,dst=10.0.0.1,sport=1001,dport=22),reply=(src=10.0.0.1,dst=10.0.0.2,sport=22,dport=1001),zone=9,mark=2,labels=0xdeadbeef123400000000000001fe01ff,{open}"),
        &format!("tcp,orig=(src=fd00::1,dst=fd00::2,sport=1000,dport=80),reply=(src=fd00::2,dst=fd00::1,sport=80,dport=1000),zone=9,mark=2147483647,{open}"),
        "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=53,dport=53),reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport=53),zone=9,labels=0x1",
        "udp,orig=(src=fd00::1,dst=fd00::2,sport=53,dport=54),reply=(src=fd00::2,dst=fd00::1,sport=54,dport=53),zone=9",
        "icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=77,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=77,type=0,code=0),zone=9",
        "icmpv6,orig=(src=fd00::1,dst=fd00::2,id=78,type=128,code=0),reply=(src=fd00::2,dst=fd00::1,id=78,type=129,code=0),zone=9,mark=7",
    ]
    .map(connection)
    .to_vec()
}

fn zone_9(ovs: &Ovs) -> Vec<Connection> {
    let dump = ovs.appctl(&["dpctl/dump-conntrack", "-m", "zone=9"]);
    parse(&dump).collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}"))
}

fn play(ovs: &Ovs, frames: impl IntoIterator<Item = Vec<u8>>) {
    for frame in frames {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        ovs.ofctl(&[], "packet-out", &[&format!("in_port=1 packet={hex} actions=table")]);
    }
}

fn frames(entries: &[Connection]) -> impl Iterator<Item = Vec<u8>> {
    entries.iter().flat_map(|entry| entry.frames(&mut Backends::default()).expect("it can be carried"))
}

#[test]
fn an_entry_arrives_as_it_was() {
    let ovs = Ovs::start();
    ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=1".split(' '));
    ovs.add_flows(&commit(9).each_ref().map(String::as_str));
    let sent = entries();
    play(&ovs, frames(&sent));
    let mut arrived = zone_9(&ovs);
    for entry in &sent {
        let at = arrived.iter().position(|other| other == entry);
        let at = at.unwrap_or_else(|| panic!("{entry:?} is not among {arrived:#?}"));
        arrived.remove(at);
    }
    assert_eq!(arrived, [], "more came than was sent");

    // What comes twice changes nothing.
    play(&ovs, frames(&sent));
    assert_eq!(zone_9(&ovs).len(), sent.len());
}

/// OVN 22.03 notes everything in `ct_label`; 26.03 uses more bits than any before, of both.
#[test]
fn what_two_releases_of_ovn_note_arrives() {
    let ovs = Ovs::start();
    ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=1".split(' '));
    ovs.add_flows(&commit(9).each_ref().map(String::as_str));
    let entry = |port: u16, noted: &str| {
        connection(&format!(
            "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport={port},dport=53),reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport={port}),zone=9,{noted}"
        ))
    };
    let blocked_natted_and_an_acl = entry(1, "mark=0,labels=0x12345678000000000000000000000003");
    // All of ct_mark but the port of an ECMP route; obs_point_id, acl_id, nf_id, tun_if and nf.
    let everything = entry(2, "mark=16711807,labels=0xffffffffffff00000000000001fe0180");
    let sent = [blocked_natted_and_an_acl, everything];
    play(&ovs, frames(&sent));
    let arrived = zone_9(&ovs);
    assert!(arrived.len() == 2 && sent.iter().all(|entry| arrived.contains(entry)), "{arrived:#?}");
}

/// Who was the first stays the first, whatever is lost and whoever was quicker.
#[test]
fn nobody_changes_places() {
    let ovs = Ovs::start();
    ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=1".split(' '));
    ovs.add_flows(&commit(9).each_ref().map(String::as_str));
    let sent = entries();
    // The first of each is lost.
    for entry in &sent {
        play(
            &ovs,
            entry.frames(&mut Backends::default()).expect("it can be carried").into_iter().skip(1).take(1),
        );
    }
    assert_eq!(zone_9(&ovs), []);
    // The other side has begun an entry by itself.
    for entry in &sent {
        let turned = Connection { orig: entry.reply, reply: entry.orig, ..entry.clone() };
        if !matches!(entry.protocol, 1 | 58) {
            play(
                &ovs,
                turned.frames(&mut Backends::default()).expect("it can be carried").into_iter().take(1),
            );
        }
    }
    play(&ovs, frames(&sent));
    let origins = |entries: &[Connection]| entries.iter().map(|entry| entry.orig).collect::<HashSet<_>>();
    assert_eq!(origins(&zone_9(&ovs)), origins(&sent));
}

/// This tracker knows SCTP by its addresses alone.
#[test]
fn sctp_arrives_as_this_tracker_knows_it() {
    let ovs = Ovs::start();
    ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=1".split(' '));
    ovs.add_flows(&commit(9).each_ref().map(String::as_str));
    let entry = connection(
        "sctp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=5,dport=6),reply=(src=10.0.0.2,dst=10.0.0.1,sport=6,dport=5),zone=7,mark=3",
    );
    play(&ovs, frames(&[entry]));
    let arrived = zone_9(&ovs);
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    assert_eq!((arrived[0].protocol, arrived[0].mark, arrived[0].progress), (132, 3, Progress::Open));
}

/// What a load balancer has made of the guest's connections.
#[test]
fn a_translation_arrives_as_it_was() {
    let ovs = Ovs::start();
    ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=1".split(' '));
    let open = "protoinfo=(state_orig=ESTABLISHED,state_reply=ESTABLISHED)";
    let sent = [
        format!("tcp,orig=(src=10.0.0.1,dst=10.9.9.9,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=8080,dport=1000),zone=9,mark=2,{open}"),
        format!("tcp,orig=(src=fd00::1,dst=fd99::9,sport=1000,dport=80),reply=(src=fd00::2,dst=fd00::1,sport=8080,dport=1000),zone=9,{open}"),
        "udp,orig=(src=10.0.0.1,dst=10.9.9.9,sport=1000,dport=53),reply=(src=10.0.0.3,dst=10.0.0.1,sport=53,dport=1000),zone=9,mark=2".to_owned(),
        // The same backend again.
        format!("tcp,orig=(src=10.0.0.1,dst=10.9.9.8,sport=1001,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=8080,dport=1001),zone=9,{open}"),
    ]
    .map(|text| connection(&text));
    let mut backends = Backends::default();
    let frames: Vec<_> =
        sent.iter().flat_map(|entry| entry.frames(&mut backends).expect("it can be carried")).collect();
    assert_eq!(backends.as_slice().len(), 3);
    let translating = (0u8..).zip(backends.as_slice()).map(|(place, backend)| {
        let family = if backend.is_ipv4() { "ip" } else { "ipv6" };
        let commits = commits(9, &format!(",nat(dst={backend})"));
        format!("table=0,in_port=1,{family},nw_ttl={} actions={commits}", Backends::ttl(place))
    });
    let mut flows: Vec<String> = commit(9).into_iter().chain(translating).collect();
    flows.push("table=1,ip,nw_ttl=200 actions=ct(zone=9,nat,table=2)".to_owned());
    flows.push("table=2,tcp,nw_src=10.9.9.9,tp_src=80,ct_state=+rpl+est,ct_mark=2 actions=drop".to_owned());
    ovs.add_flows(&flows.iter().map(String::as_str).collect::<Vec<_>>());
    play(&ovs, frames.clone());
    let arrived = zone_9(&ovs);
    for entry in &sent {
        assert!(arrived.contains(entry), "{entry:?} is not among {arrived:#?}");
    }
    assert_eq!(arrived.len(), sent.len());
    play(&ovs, frames);
    assert_eq!(zone_9(&ovs).len(), sent.len(), "what comes twice changes nothing");

    // The backend speaks, and the guest hears whom it has called.
    let tuple = sent[0].reply;
    let (IpAddr::V4(from), IpAddr::V4(to)) = (tuple.src, tuple.dst) else { panic!("{tuple:?}") };
    let mut bytes = Vec::new();
    let segment = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.octets(), to.octets(), 200);
    segment.tcp(8080, 1000, 5, 1024).ack(7).write(&mut bytes, b"hello").unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    ovs.ofctl(&[], "packet-out", &[&format!("in_port=1 packet={hex} actions=resubmit(,1)")]);
    let counted = ovs.ofctl(&[], "dump-flows", &["table=2"]);
    assert!(counted.contains("n_packets=1,"), "{counted}");
}
