//! The same work done by the crate rovs-openflow, which speaks OpenFlow 1.3: the nearest message there is. What
//! it does not export (flow monitor updates) or does not have is not here.

use anyhow::Context;
use bytes::Bytes;
use rovs_openflow::{
    ActionList, CT_COMMIT, Flow, FlowMonitorRequest, FlowStatsEntry, FlowStatsRequest, Header,
    InstructionList, Match, Message, MessageType, NatConfig, OfError, PacketIn, PacketOut, Version,
};

use super::{Theirs, samples};

const VERSION: Version = Version::Of13;
/// Bytes of a header with the multipart header behind it.
const MULTIPART: usize = 16;

pub(crate) fn theirs() -> anyhow::Result<Vec<Theirs>> {
    let messages = samples::parse(include_str!("openflow13.txt"))?;
    let bytes = |name| {
        let found = messages.iter().find(|(n, _)| *n == name);
        found.map(|(_, bytes)| Bytes::from(bytes.clone())).with_context(|| format!("there is no {name}"))
    };
    let (error, packet_in, flows) = (bytes("ERROR")?, bytes("PACKET_IN")?, bytes("FLOW_DESC")?);
    let decode = |name, what, work| Theirs { verb: "decode", name, what, work };
    let encode = |name, what, message: fn() -> Message| Theirs {
        verb: "encode",
        name,
        what,
        work: Box::new(move || !message().encode().is_empty()),
    };
    Ok(vec![
        decode("ERROR", "ERROR", Box::new(move || body(&error).is_some_and(|b| OfError::parse(&b).is_ok()))),
        decode(
            "PACKET_IN",
            "PACKET_IN",
            Box::new(move || body(&packet_in).is_some_and(|b| PacketIn::parse(b).is_ok())),
        ),
        decode(
            "FLOW_DESC",
            "FLOW stats, with instructions",
            Box::new(move || flow_stats(&flows).len() == 10),
        ),
        encode("BARRIER_REQUEST", "BARRIER_REQUEST", || {
            Message::new(VERSION, MessageType::BarrierRequest, 1, Bytes::new())
        }),
        encode("FLOW_MOD", "FLOW_MOD, built and encoded", flow_mod),
        encode("FLOW_MOD_CT_LEARN", "FLOW_MOD, ct and nat alone, built and encoded", flow_mod_ct),
        encode("PACKET_OUT", "PACKET_OUT, one output, built and encoded", packet_out),
        encode("FLOW_DESC_REQUEST", "FLOW stats request", || FlowStatsRequest::new().to_message(VERSION, 1)),
        encode("FLOW_MONITOR_REQUEST", "NXST_FLOW_MONITOR request", || {
            FlowMonitorRequest::all_changes(1).to_message(VERSION, 1)
        }),
    ])
}

/// What follows the header.
fn body(message: &Bytes) -> Option<Bytes> {
    let mut bytes = message.clone();
    Header::decode(&mut bytes).ok().map(|_| bytes)
}

/// All flows at once, as ours are, with their instructions, which it leaves undecoded otherwise.
fn flow_stats(message: &[u8]) -> Vec<(FlowStatsEntry, InstructionList)> {
    let mut rest = &message[MULTIPART..];
    let mut flows = Vec::new();
    while let Ok((entry, len)) = FlowStatsEntry::decode(rest)
        && let Ok(instructions) = entry.decoded_instructions()
    {
        flows.push((entry, instructions));
        rest = &rest[len..];
    }
    flows
}

fn flow_mod() -> Message {
    let match_ = Match::new()
        .in_port(3)
        .eth_dst([0x0a, 0, 0, 0, 0, 0])
        .eth_type(0x800)
        .ipv4_dst([10, 0, 0, 0].into(), 24);
    let actions = ActionList::new().dec_ttl().resubmit_table(40);
    Flow::add().table(8).priority(50).match_fields(match_).actions(actions).to_message(VERSION, 1)
}

fn flow_mod_ct() -> Message {
    let nat = NatConfig::snat_range([10, 0, 0, 1].into(), [10, 0, 0, 9].into()).port_range(1000, 2000);
    let actions = ActionList::new().ct_nat(CT_COMMIT, 1, None, nat).resubmit_table(21);
    let match_ = Match::new().eth_type(0x800);
    Flow::add().table(20).priority(100).match_fields(match_).actions(actions).to_message(VERSION, 1)
}

fn packet_out() -> Message {
    PacketOut::new().in_port(3).actions(ActionList::new().output(2)).data(vec![0; 59]).to_message(VERSION, 1)
}
