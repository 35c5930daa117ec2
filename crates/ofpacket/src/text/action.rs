//! Actions, and instructions among them.

use std::collections::VecDeque;

use super::error::{Fail, Parse};
use super::subfield::{destination, field, subfield, writable};
use super::token::{MAX_DEPTH, Pair, Pairs, all, arrow, hex_bytes, int, number, port};
use super::{learn, nested, value};
use crate::action::Action;
use crate::oxm::OxmField;
use crate::{Instruction, PortNo};

/// What actions mean depends on what the flow matches, and on the actions before them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context {
    /// The packet has a VLAN tag.
    pub(super) tagged: bool,
    /// The protocol that IP carries.
    pub(super) protocol: Option<u8>,
}

/// An item of a list of actions.
enum Step {
    Action(Action),
    Instruction(Instruction),
}

/// The instructions of a flow: actions, and what comes after them.
pub(super) fn instructions<'a>(text: &'a str, context: &mut Context) -> Parse<'a, Vec<Instruction>> {
    let mut apply = Vec::new();
    let mut out: Vec<Instruction> = Vec::new();
    for (at, step) in steps(text, context, 0)? {
        match step {
            Step::Action(action) if out.is_empty() => apply.push(action),
            Step::Action(_) => return Err(Fail::new(at, "no action after an instruction: write it before")),
            // A switch has no instruction to write nothing.
            Step::Instruction(Instruction::WriteActions(actions)) if actions.is_empty() => {}
            Step::Instruction(next) => {
                if out.last().is_some_and(|last| crate::flow::rank(last) >= crate::flow::rank(&next)) {
                    let order = "instructions in the order clear_actions, write_actions, write_metadata, \
                                 goto_table, each of them once";
                    return Err(Fail::new(at, order));
                }
                out.push(next);
            }
        }
    }
    if !apply.is_empty() {
        out.insert(0, Instruction::ApplyActions(apply));
    }
    Ok(out)
}

/// A list of actions, without instructions.
pub(super) fn actions<'a>(text: &'a str, context: &mut Context, depth: usize) -> Parse<'a, Vec<Action>> {
    let step = |(at, step)| match step {
        Step::Action(action) => Ok(action),
        Step::Instruction(_) => Err(Fail::new(at, "an action, not an instruction")),
    };
    steps(text, context, depth)?.into_iter().map(step).collect()
}

fn steps<'a>(text: &'a str, context: &mut Context, depth: usize) -> Parse<'a, VecDeque<(&'a str, Step)>> {
    if depth >= MAX_DEPTH {
        return Err(Fail::new(text, "actions that are not nested that deep"));
    }
    let mut out = VecDeque::new();
    let mut drop = None;
    for pair in Pairs(text) {
        let pair = pair?;
        let key = pair.key.to_ascii_lowercase();
        if key == "drop" {
            nothing(pair)?;
            drop = Some(pair.key);
        } else if let Some(instruction) = instruction(&key, pair, context, depth)? {
            out.push_back((pair.key, Step::Instruction(instruction)));
        } else {
            let actions = action(&key, pair, context, depth)?;
            out.extend(actions.into_iter().map(|action| (pair.key, Step::Action(action))));
        }
    }
    match drop {
        Some(at) if !out.is_empty() => Err(Fail::new(at, "drop alone, or actions without drop")),
        _ => Ok(out),
    }
}

fn instruction<'a>(
    key: &str,
    pair: Pair<'a>,
    context: &Context,
    depth: usize,
) -> Parse<'a, Option<Instruction>> {
    Ok(Some(match key {
        "goto_table" => Instruction::GotoTable(pair.number("a table from 0 to 254")?),
        "clear_actions" => {
            nothing(pair)?;
            Instruction::ClearActions
        }
        "write_actions" => Instruction::WriteActions(actions(pair.value, &mut context.clone(), depth + 1)?),
        "write_metadata" => {
            let (metadata, mask) = pair.value.split_once('/').unwrap_or((pair.value, "0xffffffffffffffff"));
            let expected = "a number, or number/mask";
            Instruction::WriteMetadata {
                metadata: number(metadata, expected)?,
                mask: number(mask, expected)?,
            }
        }
        "apply_actions" => return Err(pair.unknown("the actions themselves: apply_actions is what they do")),
        _ => return Ok(None),
    }))
}

/// One item as actions: most often one, sometimes OpenFlow 1.5 needs more of them.
fn action<'a>(key: &str, pair: Pair<'a>, context: &mut Context, depth: usize) -> Parse<'a, Vec<Action>> {
    let value = pair.value;
    Ok(vec![match key {
        "output" => output(value)?,
        "output_reg" => output_reg(value)?,
        "group" => Action::Group(pair.number("the number of a group")?),
        "meter" => Action::Meter(pair.number("the number of a meter")?),
        "controller" => nested::controller(value)?,
        "enqueue" => return enqueue(value),
        "bundle" => Action::Bundle(nested::bundle(value, false)?),
        "bundle_load" => Action::Bundle(nested::bundle(value, true)?),
        "multipath" => Action::Multipath(nested::multipath(value)?),
        "set_field" => set_field(value)?,
        "load" => load(value)?,
        "move" => copy_field(value)?,
        "mod_vlan_vid" | "set_vlan_vid" | "mod_vlan_pcp" | "set_vlan_pcp" => {
            return set_vlan(key, pair, context);
        }
        "strip_vlan" | "pop_vlan" => {
            nothing(pair)?;
            context.tagged = false;
            Action::PopVlan
        }
        "push_vlan" => {
            context.tagged = true;
            Action::PushVlan(limited(value, "0x8100 or 0x88a8", |kind: &u16| {
                [0x8100, 0x88a8].contains(kind)
            })?)
        }
        "mod_dl_src" => set(OxmField::ETH_SRC, value)?,
        "mod_dl_dst" => set(OxmField::ETH_DST, value)?,
        "mod_nw_src" => set(OxmField::IPV4_SRC, value)?,
        "mod_nw_dst" => set(OxmField::IPV4_DST, value)?,
        "mod_nw_tos" => {
            let tos: u8 = limited(value, "a type of service: a multiple of 4 up to 252", |tos| tos % 4 == 0)?;
            Action::set_field(OxmField::IP_DSCP, tos >> 2)
        }
        "mod_nw_ecn" => set(OxmField::IP_ECN, value)?,
        "mod_nw_ttl" | "set_nw_ttl" => Action::SetNwTtl(pair.number("a TTL")?),
        "mod_tp_src" => set_port(pair, context, [OxmField::TCP_SRC, OxmField::UDP_SRC, OxmField::SCTP_SRC])?,
        "mod_tp_dst" => set_port(pair, context, [OxmField::TCP_DST, OxmField::UDP_DST, OxmField::SCTP_DST])?,
        "push" | "pop" => {
            let bits = subfield(value)?;
            let (field, ofs, n_bits) = (bits.legacy(), bits.ofs, bits.n_bits);
            if key == "push" {
                Action::StackPush { field, ofs, n_bits }
            } else {
                destination(value)?;
                Action::StackPop { field, ofs, n_bits }
            }
        }
        "dec_ttl" if value.is_empty() => Action::DecNwTtl,
        "dec_ttl" => {
            let ids = value.split([',', ' ']).filter(|id| !id.is_empty());
            let ids: Vec<_> = ids.map(|id| number(id, "ids of controllers")).collect::<Parse<'_, _>>()?;
            if ids.is_empty() {
                return Err(Fail::new(value, "ids of controllers"));
            }
            Action::DecTtlCntIds(ids)
        }
        "set_mpls_label" => set(OxmField::MPLS_LABEL, value)?,
        "set_mpls_tc" => set(OxmField::MPLS_TC, value)?,
        "set_mpls_ttl" => Action::SetMplsTtl(pair.number("a TTL")?),
        "push_mpls" => {
            context.protocol = None;
            Action::PushMpls(pair.number("an Ethernet type")?)
        }
        "pop_mpls" => Action::PopMpls(pair.number("an Ethernet type")?),
        "push_pbb" => Action::PushPbb(pair.number("an Ethernet type")?),
        "delete_field" => Action::DeleteField(field(value)?.field.legacy()),
        "encap" => Action::Encap(nested::encap(value)?),
        "decap" => Action::Decap(nested::decap(value)?),
        "set_tunnel" | "set_tunnel64" => set(OxmField::TUNNEL_ID, value)?,
        "set_queue" => Action::SetQueue(pair.number("the number of a queue")?),
        "fin_timeout" => nested::fin_timeout(value)?,
        "resubmit" => resubmit(value)?,
        "learn" => Action::Learn(learn::learn(value)?),
        "conjunction" => nested::conjunction(value)?,
        "note" => Action::Note(hex_bytes(value)?.into()).canonical(),
        "sample" => Action::Sample(nested::sample(value)?),
        "ct" => Action::Ct(nested::ct(value, context, depth)?),
        "nat" if depth > 0 => Action::Nat(nested::nat(value)?),
        "clone" => Action::Clone(actions(value, &mut context.clone(), depth + 1)?),
        "check_pkt_larger" => check_pkt_larger(value)?,
        _ => {
            nothing(pair)?;
            plain(key, pair.key)?
        }
    }])
}

/// What takes no argument.
fn plain<'a>(key: &str, at: &'a str) -> Parse<'a, Action> {
    Ok(match key {
        "pop_queue" => Action::PopQueue,
        "dec_mpls_ttl" => Action::DecMplsTtl,
        "dec_nsh_ttl" => Action::DecNshTtl,
        "copy_ttl_out" => Action::CopyTtlOut,
        "copy_ttl_in" => Action::CopyTtlIn,
        "pop_pbb" => Action::PopPbb,
        "ct_clear" => Action::CtClear,
        "exit" => Action::Exit,
        _ => match port(at) {
            Ok(port) => Action::output(port),
            Err(_) => return Err(Fail::new(at, "an action, or a port")),
        },
    })
}

/// Fails if there is an argument.
fn nothing(pair: Pair<'_>) -> Parse<'_, ()> {
    let expected = || format!("nothing after {}", pair.key.chars().take(20).collect::<String>());
    if pair.value.is_empty() { Ok(()) } else { Err(Fail::new(pair.value, expected())) }
}

/// An integer that is one of those that are allowed.
pub(super) fn limited<'a, T: TryFrom<u64>>(
    text: &'a str,
    expected: &'static str,
    allowed: impl Fn(&T) -> bool,
) -> Parse<'a, T> {
    number(text, expected).ok().filter(allowed).ok_or_else(|| Fail::new(text, expected))
}

/// All of a field.
fn set(field: OxmField, text: &str) -> Parse<'_, Action> {
    let info = field.info().ok_or_else(|| Fail::new(text, "a field that is known"))?;
    let masked = value::value(info, text)?;
    match masked.is_exact() {
        true => Ok(Action::SetField(masked.into_oxm(field))),
        false => Err(Fail::new(text, "a value without a mask")),
    }
}

fn set_field(text: &str) -> Parse<'_, Action> {
    let (value, name) = arrow(text)?;
    let info = writable(name)?;
    Ok(Action::SetField(value::value(info, value)?.into_oxm(info.field)))
}

fn load(text: &str) -> Parse<'_, Action> {
    let (value, name) = arrow(text)?;
    let bits = destination(name)?;
    let masked = value::bits(bits.info, value, bits.ofs, bits.n_bits)?;
    Ok(Action::SetField(masked.into_oxm(bits.info.field)))
}

fn copy_field(text: &str) -> Parse<'_, Action> {
    let (from, to) = arrow(text)?;
    let (src, dst) = (subfield(from)?, destination(to)?);
    if src.n_bits != dst.n_bits {
        return Err(Fail::new(to, format!("{} bits, as many as there are in the source", src.n_bits)));
    }
    Ok(Action::copy_bits(src.info.field, src.ofs, dst.info.field, dst.ofs, dst.n_bits))
}

fn output(text: &str) -> Parse<'_, Action> {
    if text.contains('=') {
        return nested::output_trunc(text);
    }
    match port(text) {
        Ok(PortNo::CONTROLLER) => Ok(Action::Output { port: PortNo::CONTROLLER, max_len: u16::MAX }),
        Ok(port) => Ok(Action::output(port)),
        Err(_) => {
            output_reg(text).map_err(|_| Fail::new(text, "a port, bits of a field, or port=...,max_len=..."))
        }
    }
}

fn output_reg(text: &str) -> Parse<'_, Action> {
    let bits = subfield(text)?;
    if bits.n_bits > 64 {
        return Err(Fail::new(text, "at most 64 bits of a field"));
    }
    Ok(Action::OutputReg { src: bits.legacy(), ofs: bits.ofs, n_bits: bits.n_bits, max_len: u16::MAX })
}

fn enqueue(text: &str) -> Parse<'_, Vec<Action>> {
    let expected = "PORT:QUEUE or PORT,QUEUE";
    let (to, queue) = text.split_once([':', ',', 'q']).ok_or_else(|| Fail::new(text, expected))?;
    let queue = queue.trim_start_matches(['q', ':', ',', ' ']);
    Ok(vec![
        Action::SetQueue(number(queue, "the number of a queue")?),
        Action::Output { port: port(to)?, max_len: u16::MAX },
        Action::PopQueue,
    ])
}

fn resubmit(text: &str) -> Parse<'_, Action> {
    let mut parts = text.split(',').map(str::trim);
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let to = next().map(port).transpose()?.unwrap_or(PortNo::IN_PORT);
    let table = next().map(|table| number(table, "a table")).transpose()?.unwrap_or(u8::MAX);
    let ct = match next() {
        None => false,
        Some("ct") => true,
        Some(other) => return Err(Fail::new(other, "ct")),
    };
    if let Some(more) = parts.next() {
        return Err(Fail::new(more, "no more than port, table and ct"));
    }
    if (to, table) == (PortNo::IN_PORT, u8::MAX) {
        return Err(Fail::new(text, "a port, a table or both"));
    }
    Ok(Action::Resubmit { port: to, table: Some(table), ct })
}

/// A VLAN tag is pushed first if there is none, by the actions whose names begin with `mod`.
fn set_vlan<'a>(key: &str, pair: Pair<'a>, context: &mut Context) -> Parse<'a, Vec<Action>> {
    let set = if key.ends_with("vid") {
        let vid: u16 = limited(pair.value, "a VLAN id", |vid| *vid <= 0xfff)?;
        Action::set_field(OxmField::VLAN_VID, vid | 0x1000)
    } else {
        let pcp: u8 = limited(pair.value, "a priority from 0 to 7", |pcp| *pcp <= 7)?;
        Action::set_field(OxmField::VLAN_PCP, pcp)
    };
    let push = (key.starts_with("mod") && !context.tagged).then_some(Action::PushVlan(0x8100));
    context.tagged = true;
    Ok(push.into_iter().chain([set]).collect())
}

/// Of TCP, UDP or SCTP, whichever the flow matches.
fn set_port<'a>(pair: Pair<'a>, context: &Context, fields: [OxmField; 3]) -> Parse<'a, Action> {
    let [tcp, udp, sctp] = fields;
    let field = match context.protocol {
        Some(6) => tcp,
        Some(17) => udp,
        Some(132) => sctp,
        _ => return Err(pair.unknown("set_field, as the flow matches none of tcp, udp and sctp")),
    };
    set(field, pair.value)
}

fn check_pkt_larger(text: &str) -> Parse<'_, Action> {
    let (len, to) = arrow(text)?;
    let len = len.strip_suffix(')').unwrap_or(len);
    let dst = destination(to)?;
    if dst.n_bits != 1 {
        return Err(Fail::new(to, "one bit of a field"));
    }
    Ok(Action::CheckPktLarger {
        pkt_len: all(int, len, "a length in bytes")?,
        dst: dst.legacy(),
        ofs: dst.ofs,
    })
}
