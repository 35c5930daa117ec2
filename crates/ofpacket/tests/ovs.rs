//! Against `ovs-ofctl` and a real `ovs-vswitchd`: our bytes are its bytes, our text is its text.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;

use ofpacket::{
    Action, Body, Flow, FlowDescRequest, FlowMod, FlowStats, Hello, Instruction, Message, MultipartRequest,
    OxmField, ReplyBody, RequestBody, text,
};
use support::{Ovs, parse_flows, read_frame};

/// Flows made up to have one of everything, and flows of a real OVN.
const MADE_UP: &str = include_str!("corpus.txt");
const OVN: &str = include_str!("corpus-ovn.txt");

/// What `ovs-ofctl` reads, and a switch refuses: fields that it keeps to itself, and more tunnel options than one
/// packet has room for.
const OFFLINE: &str = "\
table=1,dp_hash=0x1234,actions=drop
table=1,dp_hash=0x1234/0xffff,actions=move:NXM_NX_DP_HASH[]->NXM_NX_REG1[]
table=1,recirc_id=5,actions=push:NXM_NX_RECIRC_ID[]
table=1,tun_metadata5=0x123456789abcdef0123456789abcdef0123456789a,actions=drop
table=1,tun_metadata5=0x100000000000000000000000000000000/0xff00000000000000000000000000000001,tun_metadata7,actions=\
set_field:0x123456789abcdef0123456789abcdef0123456789a->tun_metadata6,set_field:0->tun_metadata7
table=1,tun_metadata8=0,tun_metadata9=0x0/0x1ff,actions=load:0->NXM_NX_TUN_METADATA1[0..7]
";

fn lines(corpus: &'static str) -> Vec<&'static str> {
    corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// A bridge with what the flows of the corpora refer to.
fn bridge() -> Ovs {
    let ovs = Ovs::start();
    let options: Vec<_> =
        (0..64).map(|i| format!("{{class=0x102,type={:#x},len=4}}->tun_metadata{i}", 0x80 | i)).collect();
    ovs.ofctl(&[], "add-tlv-map", &[&options.join(",")]);
    for group in 1..=6 {
        let group = format!("group_id={group},type=all,bucket=actions=output:1");
        ovs.ofctl(&[], "add-group", &[&group]);
    }
    for meter in 1..=5 {
        ovs.ofctl(&[], "add-meter", &[&format!("meter={meter},pktps,band=type=drop,rate=1000")]);
    }
    ovs
}

/// What it takes to add flows and to dump them.
struct Raw(UnixStream);

impl Raw {
    fn connect(ovs: &Ovs) -> Self {
        let mut raw = Self(ovs.converse());
        raw.send(Body::Hello(Hello::only_1_5()));
        assert!(matches!(raw.receive().1.body, Body::Hello(hello) if hello.speaks(6)));
        raw
    }

    fn send(&mut self, body: Body) {
        let bytes = Message { xid: 7, body }.encode().expect("a message that fits");
        self.0.write_all(&bytes).expect("the switch reads");
    }

    fn receive(&mut self) -> (Vec<u8>, Message) {
        let frame = read_frame(&mut self.0);
        let message = Message::decode(&frame).expect("a message that can be read");
        (frame, message)
    }

    /// Adds flows; the texts of those that the switch refuses.
    fn add(&mut self, flows: impl IntoIterator<Item = Flow>) {
        for flow in flows {
            self.send(Body::FlowMod(FlowMod::add(flow)));
        }
        self.send(Body::BarrierRequest);
        let (_, message) = self.receive();
        assert_eq!(message.body, Body::BarrierReply, "a flow was refused");
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

/// The list as it is and every list within it.
fn each_action(actions: &[Action], look: &mut impl FnMut(&Action)) {
    for action in actions {
        look(action);
        match action {
            Action::Clone(actions) => each_action(actions, look),
            Action::Ct(ct) => each_action(&ct.actions, look),
            _ => {}
        }
    }
}

/// Every action of the flow, in whatever it is nested.
fn each_action_of(flow: &Flow, mut look: impl FnMut(&Action)) {
    for instruction in &flow.instructions {
        match instruction {
            Instruction::ApplyActions(actions) | Instruction::WriteActions(actions) => {
                each_action(actions, &mut look);
            }
            _ => {}
        }
    }
}

/// Collects what is wrong, to show all of it at once.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.0.push(what());
        }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} are wrong:\n{}", self.0.len(), self.0.join("\n\n"));
        }
    }
}

/// Text to bytes: what `ovs-ofctl` would send is what we would, and nothing of it is unknown.
#[test]
fn our_bytes_are_those_of_ovs_ofctl() {
    let mut wrong = Wrong::default();
    for corpus in [MADE_UP, OVN, OFFLINE] {
        let corpus = lines(corpus);
        let theirs = parse_flows(&corpus);
        assert_eq!(theirs.len(), corpus.len());
        for (text, bytes) in corpus.iter().zip(theirs) {
            let message =
                Message::decode(&bytes).unwrap_or_else(|error| panic!("{text}: {error}: {bytes:02x?}"));
            let again = message.encode().expect("it fits, as it came so");
            wrong.unless(again == bytes, || format!("{text}\n{bytes:02x?}\n{again:02x?}"));
            let Body::FlowMod(flow_mod) = message.body else { panic!("{text}: {:?}", message.body) };
            each_action_of(&flow_mod.flow, |action| {
                wrong.unless(!matches!(action, Action::Other(_)), || format!("{text}: {action}"));
            });

            let ours: Flow = match text.parse() {
                Ok(flow) => flow,
                Err(error) => {
                    wrong.unless(false, || format!("{text}: {error}"));
                    continue;
                }
            };
            let body = Body::FlowMod(FlowMod { flow: ours.clone(), ..flow_mod.clone() });
            let our_bytes = Message { xid: message.xid, body }.encode().expect("it fits");
            wrong.unless(our_bytes == bytes, || {
                format!("{text}\ntheirs {:?}\nours   {ours:?}\n{bytes:02x?}\n{our_bytes:02x?}", flow_mod.flow)
            });
            wrong.unless(ours == flow_mod.flow, || {
                format!("{text}\ntheirs {:?}\nours   {ours:?}", flow_mod.flow)
            });
            // And from our text back to the same flow.
            match ours.to_string().parse::<Flow>() {
                Ok(again) => {
                    wrong.unless(again.same_as(&ours), || format!("{text}\n{ours}\n{again:?}\n{ours:?}"))
                }
                Err(error) => wrong.unless(false, || format!("{text}\n{ours}: {error}")),
            }
        }
    }
}

/// What is installed, by `ovs-ofctl` or by us, is what both of us see.
#[test]
fn what_is_asked_for_is_what_is_dumped() {
    [MADE_UP, OVN].into_iter().map(lines).for_each(|flows| install(&flows));
}

fn install(corpus: &[&str]) {
    assert!(corpus.len() >= 60, "{} flows are too few", corpus.len());
    let ovs = bridge();
    ovs.add_flows(corpus);
    let theirs = ovs.ofctl(&["--no-stats"], "dump-flows", &[]);
    let mut raw = Raw::connect(&ovs);
    let dumped: Vec<_> = raw.dump().into_iter().map(|stats| stats.flow).collect();
    assert_eq!(dumped.len(), corpus.len());

    // Both ask the switch for all flows, and it answers in the same order.
    let mut wrong = Wrong::default();
    for (line, flow) in theirs.lines().zip(&dumped) {
        wrong.unless(flow.to_string() == line, || format!("theirs {line}\nours   {flow}"));
        // `ovs-ofctl` could read its own text, and so do we.
        match line.parse::<Flow>() {
            Ok(read) => {
                wrong.unless(read.same_as(flow), || format!("{line}\nread  {read:?}\nshown {flow:?}"))
            }
            Err(error) => wrong.unless(false, || format!("{line}: {error}")),
        }
    }
    // What was asked for is recognised in what the switch shows, each flow and no other.
    for text in corpus {
        let Ok(flow) = text.parse::<Flow>() else { continue };
        let same = dumped.iter().filter(|shown| shown.same_as(&flow)).count();
        let key: Vec<_> = dumped.iter().filter(|shown| shown.key() == flow.key()).collect();
        wrong.unless((same, key.len()) == (1, 1), || format!("{text}:\nasked {flow:?}\nshown {key:#?}"));
    }
    drop(wrong);
    let keys: BTreeSet<_> = dumped.iter().map(Flow::key).collect();
    assert_eq!(keys.len(), dumped.len(), "keys are unique");

    // The same flows again, from our own reading of the text and from the dump.
    let read = text::flows(&corpus.join("\n")).expect("every flow can be read");
    for flows in [read, dumped] {
        ovs.ofctl(&[], "del-flows", &[]);
        raw.add(flows);
        assert_eq!(ovs.ofctl(&["--no-stats"], "dump-flows", &[]), theirs);
    }
}

/// Every field, every action and every instruction occurs among the flows above, but for those that Open vSwitch
/// 3.1 does not have.
#[test]
fn the_corpus_has_everything() {
    let texts: Vec<_> = [MADE_UP, OFFLINE].into_iter().flat_map(lines).collect();
    assert!(texts.len() >= 500, "{} flows are too few", texts.len());
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "some flow is there twice");
    let flows: Vec<Flow> = texts.iter().map(|text| text.parse().expect("a flow")).collect();

    // Registers are matched in pairs on the wire, and some other fields only under another number: the names
    // in the text tell.
    let words: BTreeSet<&str> =
        texts.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')).collect();
    let newer = |name: &str| {
        let number = |prefix| name.strip_prefix(prefix).and_then(|n| n.parse::<u32>().ok());
        // Open vSwitch 3.7 and later.
        number("reg").is_some_and(|n| n > 15)
            || number("xreg").is_some_and(|n| n > 7)
            || number("xxreg").is_some_and(|n| n > 3)
    };
    let missing: Vec<_> = OxmField::known()
        .filter(|info| !newer(info.name))
        .filter(|info| {
            ![info.name, info.header_name].iter().chain(info.aliases).any(|name| words.contains(name))
        })
        .map(|info| info.name)
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "fields that no flow has");

    let mut kinds = BTreeSet::new();
    for flow in &flows {
        each_action_of(flow, |action| kinds.extend([kind(action)]));
        kinds.extend(flow.instructions.iter().map(instruction_kind));
    }
    let missing: Vec<_> = EVERY_KIND.iter().filter(|kind| !kinds.contains(*kind)).collect();
    let reasons: Vec<_> = NOT_IN_OVS_3_1.iter().map(|(kind, _)| kind).collect();
    assert_eq!(missing, reasons, "actions and instructions that no flow has");
}

/// Actions and instructions that `ovs-ofctl` of Open vSwitch 3.1 does not write on OpenFlow 1.5.
const NOT_IN_OVS_3_1: [(&str, &str); 10] = [
    ("copy_ttl_in", "no Open vSwitch has it"),
    ("copy_ttl_out", "no Open vSwitch has it"),
    ("meter instruction", "an action in OpenFlow 1.5"),
    ("other", "what is unknown has no text"),
    ("other instruction", "what is unknown has no text"),
    ("pop_pbb", "no Open vSwitch has it"),
    ("push_pbb", "no Open vSwitch has it"),
    ("set_tunnel", "written as set_field"),
    ("set_tunnel64", "written as set_field"),
    ("write_metadata", "written as an instruction"),
];

/// A name for each kind of action.
fn kind(action: &Action) -> &'static str {
    match action {
        Action::Output { .. } => "output",
        Action::SetField(_) => "set_field",
        Action::CopyField { .. } => "move",
        Action::Group(_) => "group",
        Action::SetQueue(_) => "set_queue",
        Action::PopQueue => "pop_queue",
        Action::Meter(_) => "meter",
        Action::PushVlan(_) => "push_vlan",
        Action::PopVlan => "pop_vlan",
        Action::PushMpls(_) => "push_mpls",
        Action::PopMpls(_) => "pop_mpls",
        Action::DecMplsTtl => "dec_mpls_ttl",
        Action::PushPbb(_) => "push_pbb",
        Action::PopPbb => "pop_pbb",
        Action::SetMplsTtl(_) => "set_mpls_ttl",
        Action::CopyTtlOut => "copy_ttl_out",
        Action::CopyTtlIn => "copy_ttl_in",
        Action::DecNshTtl => "dec_nsh_ttl",
        Action::Encap(_) => "encap",
        Action::Decap(_) => "decap",
        Action::SetNwTtl(_) => "mod_nw_ttl",
        Action::DecNwTtl => "dec_ttl",
        Action::DecTtlCntIds(_) => "dec_ttl_cnt_ids",
        Action::Resubmit { .. } => "resubmit",
        Action::SetTunnel(_) => "set_tunnel",
        Action::SetTunnel64(_) => "set_tunnel64",
        Action::OutputReg { .. } => "output_reg",
        Action::OutputTrunc { .. } => "output_trunc",
        Action::Bundle(_) => "bundle",
        Action::Multipath(_) => "multipath",
        Action::Sample(_) => "sample",
        Action::WriteMetadata { .. } => "write_metadata",
        Action::Learn(_) => "learn",
        Action::Clone(_) => "clone",
        Action::Controller(_) => "controller2",
        Action::ControllerV1 { .. } => "controller",
        Action::Ct(_) => "ct",
        Action::Nat(_) => "nat",
        Action::CtClear => "ct_clear",
        Action::Conjunction { .. } => "conjunction",
        Action::Note(_) => "note",
        Action::StackPush { .. } => "push",
        Action::StackPop { .. } => "pop",
        Action::CheckPktLarger { .. } => "check_pkt_larger",
        Action::DeleteField(_) => "delete_field",
        Action::FinTimeout { .. } => "fin_timeout",
        Action::Exit => "exit",
        Action::Other(_) => "other",
        action => panic!("{action:?} is new: it belongs here, into EVERY_KIND and into the corpus"),
    }
}

fn instruction_kind(instruction: &Instruction) -> &'static str {
    match instruction {
        Instruction::GotoTable(_) => "goto_table",
        Instruction::WriteMetadata { .. } => "write_metadata instruction",
        Instruction::WriteActions(_) => "write_actions",
        Instruction::ApplyActions(_) => "apply_actions",
        Instruction::ClearActions => "clear_actions",
        Instruction::Meter(_) => "meter instruction",
        _ => "other instruction",
    }
}

const EVERY_KIND: [&str; 55] = [
    "apply_actions",
    "bundle",
    "check_pkt_larger",
    "clear_actions",
    "clone",
    "conjunction",
    "controller",
    "controller2",
    "copy_ttl_in",
    "copy_ttl_out",
    "ct",
    "ct_clear",
    "dec_mpls_ttl",
    "dec_nsh_ttl",
    "dec_ttl",
    "dec_ttl_cnt_ids",
    "decap",
    "delete_field",
    "encap",
    "exit",
    "fin_timeout",
    "goto_table",
    "group",
    "learn",
    "meter",
    "meter instruction",
    "mod_nw_ttl",
    "move",
    "multipath",
    "nat",
    "note",
    "other",
    "other instruction",
    "output",
    "output_reg",
    "output_trunc",
    "pop",
    "pop_mpls",
    "pop_pbb",
    "pop_queue",
    "pop_vlan",
    "push",
    "push_mpls",
    "push_pbb",
    "push_vlan",
    "resubmit",
    "sample",
    "set_field",
    "set_mpls_ttl",
    "set_queue",
    "set_tunnel",
    "set_tunnel64",
    "write_actions",
    "write_metadata",
    "write_metadata instruction",
];
