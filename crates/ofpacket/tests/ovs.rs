//! Against `ovs-ofctl` and a real `ovs-vswitchd`: our bytes are its bytes, our text is its text.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ofpacket::{
    Action, Body, Flow, FlowDescRequest, FlowStats, Hello, Instruction, Message, MultipartRequest, ReplyBody,
    RequestBody, frame_len,
};
use support::Ovs;

/// Flows made up to have one of everything, and flows of a real OVN.
const CORPORA: [&str; 2] = [include_str!("corpus.txt"), include_str!("corpus-ovn.txt")];

fn flows(corpus: &'static str) -> Vec<&'static str> {
    corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// A bridge with what the flows of the corpora refer to.
fn bridge() -> Ovs {
    let ovs = Ovs::start();
    ovs.ofctl(&[], "add-tlv-map", &["{class=0x102,type=0x80,len=4}->tun_metadata0"]);
    for group in 1..=6 {
        let group = format!("group_id={group},type=all,bucket=actions=output:1");
        ovs.ofctl(&[], "add-group", &[&group]);
    }
    ovs.ofctl(&[], "add-meter", &["meter=1,pktps,band=type=drop,rate=1000"]);
    ovs
}

/// Adds a flow; the FLOW_MOD that `ovs-ofctl` sent, which it prints as one hexadecimal number.
fn add_flow(ovs: &Ovs, text: &str) -> Vec<u8> {
    let out = ovs.try_ofctl(&["-mmmmmm"], "add-flow", &[text]);
    let all = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}: {all}");
    let hex =
        all.lines().find_map(|line| line.strip_prefix("0x6")).unwrap_or_else(|| panic!("{text}: {all}"));
    let digits = format!("06{hex}");
    let byte = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A conversation without any of the comforts of a client.
struct Raw(UnixStream, Vec<u8>);

impl Raw {
    fn connect(ovs: &Ovs) -> Self {
        let stream = UnixStream::connect(ovs.socket()).expect("the bridge's socket");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut raw = Self(stream, Vec::new());
        raw.send(Body::Hello(Hello::only_1_5()));
        assert!(matches!(raw.receive().1.body, Body::Hello(hello) if hello.speaks(6)));
        raw
    }

    fn send(&mut self, body: Body) {
        let bytes = Message { xid: 7, body }.encode().expect("a message that fits");
        self.0.write_all(&bytes).expect("the switch reads");
    }

    fn receive(&mut self) -> (Vec<u8>, Message) {
        loop {
            if let Some(len) = frame_len(&self.1)
                && let len = len.expect("a header")
                && self.1.len() >= len
            {
                let rest = self.1.split_off(len);
                let frame = std::mem::replace(&mut self.1, rest);
                let message = Message::decode(&frame).expect("a message that can be read");
                return (frame, message);
            }
            let mut chunk = [0; 65536];
            let n = self.0.read(&mut chunk).expect("an answer in time");
            assert!(n > 0, "the switch closed the connection");
            self.1.extend_from_slice(&chunk[..n]);
        }
    }

    fn dump(&mut self) -> Vec<FlowStats> {
        let body = RequestBody::FlowDesc(FlowDescRequest::default());
        self.send(Body::MultipartRequest(MultipartRequest::new(body)));
        let mut flows = Vec::new();
        loop {
            let (bytes, message) = self.receive();
            assert_eq!(message.encode().expect("it fits, as it came so"), bytes, "{message:?}");
            match message.body {
                Body::MultipartReply(reply) => {
                    let ReplyBody::FlowDesc(part) = reply.body else { panic!("{:?}", reply.body) };
                    flows.extend(part);
                    if !reply.more {
                        return flows;
                    }
                }
                Body::EchoRequest(data) => self.send(Body::EchoReply(data)),
                body => panic!("{body:?}"),
            }
        }
    }
}

/// Whether all of it is known to this crate; `sample`, `bundle` and `multipath` are not yet.
fn is_typed(flow: &Flow) -> bool {
    fn typed(action: &Action) -> bool {
        match action {
            Action::Other(_) => false,
            Action::Clone(actions) => actions.iter().all(typed),
            Action::Ct(ct) => ct.actions.iter().all(typed),
            _ => true,
        }
    }
    flow.instructions.iter().all(|instruction| match instruction {
        Instruction::ApplyActions(actions) | Instruction::WriteActions(actions) => actions.iter().all(typed),
        Instruction::Other { .. } => false,
        _ => true,
    })
}

#[test]
fn bytes_and_text_are_those_of_ovs_ofctl() {
    CORPORA.into_iter().map(flows).for_each(|flows| compare(&flows));
}

fn compare(corpus: &[&str]) {
    assert!(corpus.len() >= 60, "{} flows are too few", corpus.len());
    let ovs = bridge();

    let mut asked = Vec::new();
    for text in corpus {
        let bytes = add_flow(&ovs, text);
        let message = Message::decode(&bytes).unwrap_or_else(|error| panic!("{text}: {error}: {bytes:02x?}"));
        assert_eq!(message.encode().expect("it fits, as it came so"), bytes, "{text}: {message:?}");
        let Body::FlowMod(flow_mod) = message.body else { panic!("{text}: {:?}", message.body) };
        let known =
            ["sample", "bundle", "multipath"].iter().all(|name| !text.contains(&format!("actions={name}(")));
        assert_eq!(is_typed(&flow_mod.flow), known, "{text}: {:?}", flow_mod.flow);
        asked.push(flow_mod.flow);
    }

    let dumped = Raw::connect(&ovs).dump();
    assert_eq!(dumped.len(), corpus.len());
    // Both ask the switch for all flows, and it answers in the same order.
    let theirs = ovs.ofctl(&["--no-stats"], "dump-flows", &[]);
    let mut wrong = Vec::new();
    for (line, FlowStats { flow, .. }) in theirs.lines().zip(&dumped) {
        if is_typed(flow) && flow.to_string() != line {
            wrong.push(format!("theirs {line}\nours   {flow}\n"));
        }
    }
    assert!(wrong.is_empty(), "{} texts differ:\n{}", wrong.len(), wrong.join("\n"));

    // What was asked for is recognised in what the switch shows, each flow and no other.
    let dumped: Vec<_> = dumped.into_iter().map(|stats| stats.flow).collect();
    for (text, flow) in corpus.iter().zip(&asked) {
        let same: Vec<_> = dumped.iter().filter(|shown| shown.same_as(flow)).collect();
        let key: Vec<_> = dumped.iter().filter(|shown| shown.key() == flow.key()).collect();
        assert_eq!((same.len(), key.len()), (1, 1), "{text}:\nasked {flow:?}\nshown {key:#?}");
    }
    let keys: BTreeSet<_> = dumped.iter().map(Flow::key).collect();
    assert_eq!(keys.len(), dumped.len(), "keys are unique");
}

/// What the switch shows can be asked for again, and is the same flow.
#[test]
fn what_is_dumped_can_be_added() {
    CORPORA.into_iter().map(flows).for_each(|flows| restore(&flows));
}

fn restore(corpus: &[&str]) {
    let ovs = bridge();
    corpus.iter().for_each(|text| {
        add_flow(&ovs, text);
    });
    let before = ovs.ofctl(&["--no-stats"], "dump-flows", &[]);
    let mut raw = Raw::connect(&ovs);
    let flows = raw.dump();
    ovs.ofctl(&[], "del-flows", &[]);
    for stats in flows {
        raw.send(Body::FlowMod(ofpacket::FlowMod::add(stats.flow)));
    }
    raw.send(Body::BarrierRequest);
    let (_, message) = raw.receive();
    assert_eq!(message.body, Body::BarrierReply);
    assert_eq!(ovs.ofctl(&["--no-stats"], "dump-flows", &[]), before);
}
