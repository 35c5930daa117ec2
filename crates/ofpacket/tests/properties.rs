//! What holds for all flows, for all bytes and for all texts.

#[path = "support/tame.rs"]
mod tame;
#[path = "support/wild.rs"]
mod wild;

use bytes::Bytes;
use ofpacket::{
    Action, Body, BundleAdd, Flow, FlowMod, FlowUpdate, FlowUpdateEvent, Match, Message, MultipartReply,
    ReplyBody, frame_len, text,
};
use proptest::collection::vec;
use proptest::prelude::*;

use wild::flow;

proptest! {
    #[test]
    fn a_flow_survives_the_wire(flow in flow(), xid: u32) {
        let flow_mod = FlowMod::add(flow);
        let message = Message { xid, body: Body::FlowMod(flow_mod.clone()) };
        let bytes = message.encode().expect("it fits");
        prop_assert_eq!(frame_len(&bytes), Some(Ok(bytes.len())));
        prop_assert_eq!(&Message::decode(&bytes).expect("what we wrote"), &message);

        let body = Box::new(message.body);
        let add = BundleAdd { bundle_id: 1, flags: 3, body, properties: Bytes::new() };
        let message = Message { xid, body: Body::BundleAdd(add) };
        prop_assert_eq!(Message::decode(&message.encode().expect("it fits")).expect("what we wrote"), message);

        let flow = Flow { flags: 0, importance: 0, ..flow_mod.flow };
        let update = FlowUpdate::Full { event: FlowUpdateEvent::Added, reason: 0, flow };
        let reply = MultipartReply { more: false, body: ReplyBody::FlowMonitor(vec![update]) };
        let message = Message { xid, body: Body::MultipartReply(reply) };
        prop_assert_eq!(Message::decode(&message.encode().expect("it fits")).expect("what we wrote"), message);
    }

    #[test]
    fn the_normal_form_is_one(flow in flow()) {
        let normal = flow.match_.canonical();
        prop_assert_eq!(normal.canonical(), normal.clone());
        prop_assert!(flow.same_as(&flow));
        let again = Flow { match_: normal, ..flow.clone() };
        prop_assert_eq!(again.key(), flow.key());
        prop_assert!(again.same_as(&flow));
        // Whatever it is, it can be printed, and prints as its normal form does.
        prop_assert_eq!(again.to_string(), flow.to_string());
        for instruction in &flow.instructions {
            prop_assert_eq!(instruction.canonical().canonical(), instruction.canonical());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind in 0u8..40, mut bytes in vec(any::<u8>(), 8..300)) {
        let _ = frame_len(&bytes);
        let _ = Message::decode(&bytes);
        let len = bytes.len() as u16;
        bytes[0] = 6;
        bytes[1] = kind;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        if let Ok(message) = Message::decode(&bytes) {
            let _ = format!("{message:?}");
            let again = message.encode().expect("it came in a message");
            prop_assert_eq!(Message::decode(&again).expect("what we wrote"), message);
        }
    }

    /// A flow mod that is damaged in a few places: either an error, or a value that is written as it was.
    #[test]
    fn damaged_bytes_are_read_or_refused(flow in flow(), damage in vec((any::<usize>(), any::<u8>()), 1..4)) {
        let message = Message { xid: 1, body: Body::FlowMod(FlowMod::add(flow)) };
        let mut bytes = message.encode().expect("it fits").to_vec();
        for (at, byte) in damage {
            let at = 8 + at % (bytes.len() - 8);
            bytes[at] = byte;
        }
        if let Ok(message) = Message::decode(&bytes) {
            if let Body::FlowMod(flow_mod) = &message.body {
                let _ = (flow_mod.flow.to_string(), flow_mod.flow.key(), flow_mod.flow.same_as(&flow_mod.flow));
            }
            let again = message.encode().expect("it came in a message");
            prop_assert_eq!(Message::decode(&again).expect("what we wrote"), message);
        }
    }

    /// What is written can be read, and is the same flow.
    #[test]
    fn text_and_back(flow in tame::flow()) {
        let text = flow.to_string();
        let read: Flow = match text.parse() {
            Ok(flow) => flow,
            Err(error) => return Err(TestCaseError::fail(format!("{text}: {error}"))),
        };
        prop_assert!(read.same_as(&flow), "{}\n{:?}\n{:?}", text, flow, read);
        prop_assert_eq!((read.importance, read.flags), (flow.importance, flow.flags));
        // What was read says all of itself.
        prop_assert_eq!(&read.to_string().parse::<Flow>().expect("what we wrote"), &read);
        // And what was read survives the wire as well.
        let message = Message { xid: 1, body: Body::FlowMod(FlowMod::add(read)) };
        let bytes = message.encode().expect("it fits");
        prop_assert_eq!(Message::decode(&bytes).expect("what we wrote"), message);
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,80}") {
        refuse(&text);
    }

    /// Text that is nearly right gets further into the parser.
    #[test]
    fn damaged_text_is_read_or_refused(
        line in any::<prop::sample::Index>(),
        damage in vec((any::<prop::sample::Index>(), "[-=:,()\\[\\]/>+|.*0-9a-fx ]|->|\\PC"), 1..4),
    ) {
        let lines: Vec<_> = CORPUS.lines().filter(|line| !line.starts_with('#')).collect();
        let mut chars: Vec<char> = line.get(&lines).chars().collect();
        for (at, with) in damage {
            let at = at.index(chars.len());
            chars.splice(at..=at, with.chars());
        }
        refuse(&chars.into_iter().collect::<String>());
    }
}

const CORPUS: &str = include_str!("corpus.txt");

/// Reads the text as whatever it may be; an error points into it.
fn refuse(text: &str) {
    let error = |at: ofpacket::ParseError| assert!(text.is_char_boundary(at.offset), "{text:?}: {at:?}");
    let _ = text.parse::<Flow>().map_err(error);
    let _ = text.parse::<Match>().map_err(error);
    let _ = text.parse::<Action>().map_err(error);
    let _ = text.parse::<ofpacket::PortNo>().map_err(error);
    let _ = text::flows(text).map_err(error);
    let _ = text::actions(text).map_err(error);
    let _ = text::instructions(text).map_err(error);
}

/// Neither depth nor length brings the parser down.
#[test]
fn absurd_text_is_refused() {
    let nested = |n: usize| format!("{}output:1{}", "clone(".repeat(n), ")".repeat(n));
    assert!(text::actions(&nested(15)).is_ok());
    for n in [16, 17, 1000, 1_000_000] {
        let error = text::actions(&nested(n)).expect_err("too deep");
        assert_eq!((error.offset, &error.expected[..]), (16 * 6, "actions that are not nested that deep"));
    }
    for open in ["clone(", "ct(exec(", "(", "learn(", "encap(nsh(", "ct(nat("] {
        assert!(text::actions(&open.repeat(100_000)).is_err());
        refuse(&open.repeat(10_000));
    }
    for long in [
        "output:1,",
        "reg0=1,",
        "note:00",
        "set_field:0x0",
        "1",
        "[",
        "x",
        "conjunction(1,1/2),",
        "\u{1f}",
        "é",
    ] {
        refuse(&long.repeat(100_000));
        refuse(&format!("actions={}", long.repeat(100_000)));
    }
    let digits = format!("set_field:0x{}->reg0", "f".repeat(1_000_000));
    let error = digits.parse::<Action>().expect_err("a number that is too long");
    assert_eq!((error.offset, error.found.len()), (10, 40));
    let zeros = format!("set_field:0x{}5->reg0", "0".repeat(1_000_000));
    assert_eq!(zeros.parse(), Ok(Action::set_field(ofpacket::OxmField::reg(0), 5u32)));
}

/// Registers that are newer than the Open vSwitch that the other tests run: what they are on the wire and in text.
#[test]
fn newer_registers() {
    let text = "xxreg4=0x5/0xff,reg16=0x1,reg31=0x2";
    let flow: Flow = format!("{text},actions=load:7->NXOXM_ET_REG20[0..3],set_field:0x9->xreg15,push:xxreg7")
        .parse()
        .expect("a flow");
    let names: Vec<_> = flow.match_.iter().map(|oxm| oxm.field.to_string()).collect();
    assert_eq!(names, ["OXM_OF_PKT_REG8", "OXM_OF_PKT_REG9", "OXM_OF_PKT_REG15"]);
    let expected = " reg16=0x1,reg19=0x5/0xff,reg31=0x2 actions=set_field:0x7/0xf->reg20,set_field:0x9->xreg15,push:NXOXM_ET_XXREG7[]";
    assert_eq!(flow.to_string(), expected);
    assert!(flow.to_string().parse::<Flow>().expect("a flow").same_as(&flow));
    let message = Message { xid: 1, body: Body::FlowMod(FlowMod::add(flow)) };
    assert_eq!(Message::decode(&message.encode().expect("it fits")).expect("what we wrote"), message);
    // Sampling with the ids in fields came with Open vSwitch 3.4.
    let text = "sample(probability=5,collector_set_id=1,obs_domain_id=NXM_NX_REG0[],obs_point_id=7,sampling_port=2,egress)";
    assert_eq!(text.parse::<Action>().expect("an action").to_string(), text);
}

/// Bits and words are added to what stands before them; whole values replace it.
#[test]
fn bits_add_up() {
    for (text, same) in [
        ("reg0[0..7]=5,reg0[8..15]=6", "reg0=0x605/0xffff"),
        ("xreg0=0x100000002,reg1[0..7]=3", "reg0=1,reg1=3"),
        ("reg1=7,xreg0[0..3]=1", "reg1=1"),
        ("reg0=1,reg0=2/3", "reg0=2/3"),
        ("reg0=1,reg0=*", ""),
        ("xxreg0=5,xreg1=0/0", "xreg0=0"),
        ("dl_vlan=5,vlan_tci[13..15]=3", "dl_vlan=5,dl_vlan_pcp=3"),
        ("dl_vlan=5,vlan_tci=0", "vlan_tci=0x0000/0x1fff"),
        ("tcp,nw_proto=17,tp_src=1", "udp,udp_src=1"),
        ("tp_dst=80,tcp", "tcp,tcp_dst=80"),
        ("arp,nw_src=1.2.3.4,nw_proto=1", "arp,arp_spa=1.2.3.4,arp_op=1"),
    ] {
        let [text, same] = [text, same].map(|text| text.parse::<Match>().expect(text).canonical());
        assert_eq!(text, same);
    }
}

/// Errors say where, what stands there, and what could.
#[test]
fn errors_point_to_the_place() {
    for (text, offset, found, expected) in [
        ("actions=output:65536000", 15, "65536000", "a port, bits of a field, or port=...,max_len=..."),
        (
            "tcp_dst=80,actions=drop",
            0,
            "tcp_dst=80,actions=drop",
            "tcp or tcp6 in the flow, without which tcp_dst cannot be matched",
        ),
        ("ip,nw_src=10.0.0.0/33,actions=drop", 10, "10.0.0.0/33", "an IPv4 address"),
        (
            "tabel=1,actions=drop",
            0,
            "tabel",
            "a field, a protocol such as tcp, or a property of the flow such as table",
        ),
        ("reg0=0x100000000,actions=drop", 5, "0x100000000", "a number, or number/mask"),
        ("reg0[30..33]=1,actions=drop", 0, "reg0[30..33]", "bits of reg0, which has 32"),
        ("priority=65536,actions=drop", 9, "65536", "a priority from 0 to 65535"),
        ("ip", 2, "", "actions=..."),
        ("actions=drop,output:1", 8, "drop", "drop alone, or actions without drop"),
        ("actions=goto_table:1,output:1", 21, "output", "no action after an instruction: write it before"),
        ("actions=set_field:1->eth_type", 21, "eth_type", "a field that can be set, which this one cannot"),
        (
            "actions=mod_tp_dst:80",
            8,
            "mod_tp_dst",
            "set_field, as the flow matches none of tcp, udp and sctp",
        ),
        ("actions=clone(output:1", 22, "", "a closing parenthesis"),
        ("actions=learn(table=1,reg0=foo)", 27, "foo", "a number, or number/mask"),
        (
            "ct_state=+new+nwe,actions=drop",
            9,
            "+new+nwe",
            "connection tracking flags, as +new-est or new|trk",
        ),
        (
            "\nudp_src=1/2,actions=drop",
            1,
            "udp_src",
            "udp or udp6 in the flow, without which udp_src cannot be matched",
        ),
    ] {
        let error = text.parse::<Flow>().expect_err(text);
        assert_eq!(error.offset, offset, "{text}: {error}");
        assert!(
            error.found.starts_with(&found[..found.len().min(40).min(error.found.len())]),
            "{text}: {error}"
        );
        assert_eq!(error.expected, expected, "{text}");
    }
    let error = text::flows("actions=drop\n# nothing\n  ip,nw_src=x actions=drop\n").expect_err("no address");
    assert_eq!((error.line, error.column), (3, 13));
}
