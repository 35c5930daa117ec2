//! Against the userspace connection tracker of a real `ovs-vswitchd`: what the
//! frames of an entry leave in another zone is that entry.

#[path = "../../ofpacket/tests/support/mod.rs"]
mod support;

use std::collections::HashSet;

use limosa_conntrack::{Burden, COMMITS, CONFIRMS, Connection, Progress, parse};
use support::Ovs;

/// The flows that commit, as `ovs-ofctl` reads them.
fn commit(zone: u16) -> [String; 4] {
    let moves = Burden::MOVES.map(|step| {
        let range = |from: u16| format!("[{from}..{}]", from + step.bits - 1);
        let from = if step.from_dst { "NXM_OF_ETH_DST" } else { "NXM_OF_ETH_SRC" };
        let to = if step.to_label { "NXM_NX_CT_LABEL" } else { "NXM_NX_CT_MARK" };
        format!("move:{from}{}->{to}{}", range(step.from_bit), range(step.to_bit))
    });
    let commits = format!("ct(commit,force,zone={zone},exec({}))", moves.join(","));
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
        &format!("tcp,orig=(src=10.0.0.2,dst=10.0.0.1,sport=1001,dport=22),reply=(src=10.0.0.1,dst=10.0.0.2,sport=22,dport=1001),zone=9,mark=2,labels=0xdeadbeef000000000000000012345678,{open}"),
        &format!("tcp,orig=(src=fd00::1,dst=fd00::2,sport=1000,dport=80),reply=(src=fd00::2,dst=fd00::1,sport=80,dport=1000),zone=9,mark=4294967295,{open}"),
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
    entries.iter().flat_map(|entry| entry.frames().expect("it can be carried"))
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

/// Who was the first stays the first, whatever is lost and whoever was quicker.
#[test]
fn nobody_changes_places() {
    let ovs = Ovs::start();
    ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=1".split(' '));
    ovs.add_flows(&commit(9).each_ref().map(String::as_str));
    let sent = entries();
    // The first of each is lost.
    for entry in &sent {
        play(&ovs, entry.frames().expect("it can be carried").into_iter().skip(1).take(1));
    }
    assert_eq!(zone_9(&ovs), []);
    // The other side has begun an entry by itself.
    for entry in &sent {
        let turned = Connection { orig: entry.reply, reply: entry.orig, ..entry.clone() };
        if !matches!(entry.protocol, 1 | 58) {
            play(&ovs, turned.frames().expect("it can be carried").into_iter().take(1));
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
