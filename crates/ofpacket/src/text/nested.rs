//! Actions with arguments of their own: `ct`, `nat`, `controller`, `sample`, `bundle` and others.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use nom::Parser;
use nom::branch::alt;
use nom::character::complete::{char, multispace0};
use nom::combinator::opt;
use nom::sequence::{delimited, preceded, separated_pair};

use super::action::{Context, actions, limited};
use super::error::{Fail, Parse};
use super::subfield::short;
use super::token::{Pair, Pairs, Tokens, all, hex_bytes, int, integer, number, port, wide};
use super::value::address;
use crate::PortNo;
use crate::action::{
    Action, BUNDLE_ALGORITHMS, Bundle, Controller2, Ct, CtZone, Encap, EncapProperty, HASH_FIELDS,
    MULTIPATH_ALGORITHMS, Multipath, Nat, Sample, SampleId,
};
use crate::message::packet_in_reason;

pub(super) fn controller(text: &str) -> Parse<'_, Action> {
    let mut out = Controller2::default();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        out.max_len = number(text, "a length in bytes")?;
        return Ok(Action::Output { port: PortNo::CONTROLLER, max_len: out.max_len });
    }
    let mut has_userdata = false;
    for pair in Pairs(text) {
        let pair = pair?;
        match pair.key {
            "reason" => out.reason = reason(pair.value)?,
            "max_len" => out.max_len = pair.number("a length in bytes")?,
            "id" => out.controller_id = pair.number("the id of a controller")?,
            "userdata" => {
                has_userdata = true;
                out.userdata = hex_bytes(pair.value)?.into();
            }
            "pause" => out.pause = true,
            "meter_id" => out.meter_id = Some(pair.number("the number of a meter")?),
            _ => return Err(pair.unknown("reason, max_len, id, userdata, pause or meter_id")),
        }
    }
    let Controller2 { max_len, controller_id, reason, .. } = out;
    Ok(match (has_userdata || out.pause || out.meter_id.is_some(), reason, controller_id) {
        (true, ..) => Action::Controller(out),
        (false, Controller2::REASON_ACTION, 0) => Action::Output { port: PortNo::CONTROLLER, max_len },
        (false, ..) => Action::ControllerV1 { max_len, controller_id, reason },
    })
}

fn reason(text: &str) -> Parse<'_, u8> {
    let named = (0..=u8::MAX).find(|&reason| packet_in_reason(reason) == Some(text));
    named.map_or_else(|| number(text, "the reason of a packet-in, as action or no_match"), Ok)
}

pub(super) fn output_trunc(text: &str) -> Parse<'_, Action> {
    let (mut to, mut max_len) = (None, None);
    for pair in Pairs(text) {
        let pair = pair?;
        match pair.key {
            "port" => to = Some(port(pair.value)?),
            "max_len" => {
                max_len = Some(limited(pair.value, "a length of at least 14 bytes", |len: &u32| *len >= 14)?)
            }
            _ => return Err(pair.unknown("port or max_len")),
        }
    }
    match (to, max_len) {
        (Some(port), Some(max_len)) => Ok(Action::OutputTrunc { port, max_len }),
        _ => Err(Fail::new(text, "both port and max_len")),
    }
}

pub(super) fn fin_timeout(text: &str) -> Parse<'_, Action> {
    let (mut idle_timeout, mut hard_timeout) = (0, 0);
    for pair in Pairs(text) {
        let pair = pair?;
        match pair.key {
            "idle_timeout" => idle_timeout = pair.number("seconds")?,
            "hard_timeout" => hard_timeout = pair.number("seconds")?,
            _ => return Err(pair.unknown("idle_timeout or hard_timeout")),
        }
    }
    Ok(Action::FinTimeout { idle_timeout, hard_timeout })
}

pub(super) fn conjunction(text: &str) -> Parse<'_, Action> {
    let blank = |c| delimited(multispace0, char(c), multispace0);
    let syntax = (int::<u32>, blank(','), int::<u8>, blank('/'), int::<u8>, multispace0);
    let (id, _, clause, _, n_clauses, _) = all(syntax, text, "an id, a clause and their number, as 5,1/2")?;
    if !(2..=64).contains(&n_clauses) || !(1..=n_clauses).contains(&clause) {
        return Err(Fail::new(text, "2 to 64 clauses, counted from 1"));
    }
    Ok(Action::Conjunction { clause: clause - 1, n_clauses, id })
}

/// The index of a name.
fn index<'a>(names: &[&str], text: &'a str, expected: &'static str) -> Parse<'a, u16> {
    let found = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    found.map(|i| i as u16).ok_or_else(|| Fail::new(text, expected))
}

const FIELDS: &str = "what to hash: eth_src, symmetric_l4, symmetric_l3l4, symmetric_l3l4+udp, nw_src, nw_dst \
                      or symmetric_l3";

/// The next of the arguments that stand one after the other.
fn argument<'a>(parts: &mut impl Iterator<Item = &'a str>, text: &'a str) -> Parse<'a, &'a str> {
    parts.next().ok_or_else(|| Fail::new(&text[text.len()..], "more arguments"))
}

pub(super) fn multipath(text: &str) -> Parse<'_, Multipath> {
    let mut parts = text.split([',', ' ']).filter(|part| !part.is_empty());
    let mut next = || argument(&mut parts, text);
    let fields = index(&HASH_FIELDS, next()?, FIELDS)?;
    let basis = number(next()?, "a basis of the hash")?;
    let algorithm = index(&MULTIPATH_ALGORITHMS, next()?, "modulo_n, hash_threshold, hrw or iter_hash")?;
    let links: u32 = limited(next()?, "1 to 65536 links", |n| (1..=65536).contains(n))?;
    let arg = number(next()?, "an argument of the algorithm")?;
    let to = next()?;
    let dst = short(to)?;
    if dst.n_bits < 16 && links > 1 << dst.n_bits {
        return Err(Fail::new(to, "as many bits as the number of a link has"));
    }
    let dst = (dst.legacy(), dst.ofs, dst.n_bits.min(64));
    Ok(Multipath { fields, basis, algorithm, max_link: (links - 1) as u16, arg, dst })
}

pub(super) fn bundle(text: &str, load: bool) -> Parse<'_, Bundle> {
    // Its members were called slaves once.
    let (head, members) = ["members:", "slaves:"]
        .iter()
        .find_map(|word| text.split_once(word))
        .ok_or_else(|| Fail::new(text, "members:PORT,PORT,... at the end"))?;
    let mut parts = head.split([',', ' ']).filter(|part| !part.is_empty());
    let mut next = || argument(&mut parts, head);
    let fields = index(&HASH_FIELDS, next()?, FIELDS)?;
    let basis = number(next()?, "a basis of the hash")?;
    let algorithm = index(&BUNDLE_ALGORITHMS, next()?, "active_backup or hrw")?;
    index(&["ofport"], next()?, "ofport")?;
    let dst = match load {
        true => Some(short(next()?)?),
        false => None,
    };
    if let Some(more) = parts.next() {
        return Err(Fail::new(more, "members:"));
    }
    let members = members.split([',', ' ', '[', ']']).filter(|part| !part.is_empty());
    let members = members.map(port).collect::<Parse<'_, Vec<_>>>()?;
    let dst = dst.map(|dst| (dst.legacy(), dst.ofs, dst.n_bits.min(64)));
    Ok(Bundle { algorithm, fields, basis, members, dst })
}

pub(super) fn sample(text: &str) -> Parse<'_, Sample> {
    let zero = SampleId::Immediate(0);
    let mut out = Sample {
        probability: 0,
        collector_set_id: 0,
        obs_domain_id: zero,
        obs_point_id: zero,
        sampling_port: PortNo::ANY,
        direction: 0,
    };
    for pair in Pairs(text) {
        let pair = pair?;
        match pair.key {
            "probability" => out.probability = pair.number("a probability from 1 to 65535")?,
            "collector_set_id" => out.collector_set_id = pair.number("the id of a set of collectors")?,
            "obs_domain_id" => out.obs_domain_id = sample_id(pair.value)?,
            "obs_point_id" => out.obs_point_id = sample_id(pair.value)?,
            "sampling_port" => out.sampling_port = port(pair.value)?,
            "ingress" => out.direction = Sample::INGRESS,
            "egress" => out.direction = Sample::EGRESS,
            _ => return Err(pair.unknown("an argument of sample, as probability or collector_set_id")),
        }
    }
    match out.probability {
        0 => Err(Fail::new(text, "a probability from 1 to 65535")),
        _ => Ok(out),
    }
}

fn sample_id(text: &str) -> Parse<'_, SampleId> {
    if let Ok(id) = number(text, "") {
        return Ok(SampleId::Immediate(id));
    }
    let bits = short(text)?;
    match bits.n_bits {
        33.. => Err(Fail::new(text, "at most 32 bits of a field")),
        n_bits => Ok(SampleId::Field { field: bits.legacy(), ofs: bits.ofs, n_bits }),
    }
}

pub(super) fn encap(text: &str) -> Parse<'_, Encap> {
    let expected = "a header: ethernet, nsh, mpls or mpls_mc";
    let mut pairs = Pairs(text);
    let header = pairs.next().ok_or_else(|| Fail::new(text, expected))??;
    let (_, packet_type) =
        Encap::NAMES.iter().find(|(name, _)| *name == header.key).ok_or_else(|| header.unknown(expected))?;
    if let Some(more) = pairs.next() {
        return Err(more?.unknown("one header"));
    }
    let properties = Pairs(header.value).map(|pair| encap_property(pair?)).collect::<Parse<'_, Vec<_>>>()?;
    if *packet_type != Encap::NSH && !properties.is_empty() {
        return Err(Fail::new(header.value, "no properties: only nsh has them"));
    }
    Ok(Encap { hdr_size: 0, packet_type: *packet_type, properties })
}

fn encap_property(pair: Pair<'_>) -> Parse<'_, EncapProperty> {
    match pair.key {
        "md_type" => {
            limited(pair.value, "1 or 2", |kind| (1..=2).contains(kind)).map(EncapProperty::NshMdType)
        }
        "tlv" => {
            let comma = || char(',');
            let syntax = (int::<u16>, comma(), int::<u8>, comma(), wide(MAX_TLV));
            let (class, _, kind, _, value) = all(syntax, pair.value, "class,type,0xvalue")?;
            // As many bytes as digits were written for.
            let digits = pair.value.rsplit_once(',').map_or("", |(_, value)| value.trim_start_matches("0x"));
            let len = digits.len().div_ceil(2).min(MAX_TLV);
            Ok(EncapProperty::NshTlv { class, kind, value: Bytes::from(value[MAX_TLV - len..].to_vec()) })
        }
        _ => Err(pair.unknown("md_type or tlv")),
    }
}

/// What the length of a property has room for.
const MAX_TLV: usize = 240;

pub(super) fn decap(text: &str) -> Parse<'_, u32> {
    let Some(pair) = Pairs(text).next().transpose()? else {
        return Ok(Encap::USE_NEXT_PROTO);
    };
    let (mut space, mut kind) = (None, None);
    if pair.key != "packet_type" {
        return Err(pair.unknown("packet_type(ns=...,type=...)"));
    }
    for part in Pairs(pair.value) {
        let part = part?;
        match part.key {
            "ns" => space = Some(limited(part.value, "0 or 1", |space: &u16| *space <= 1)?),
            "type" => kind = Some(part.number::<u16>("a packet type")?),
            _ => return Err(part.unknown("ns or type")),
        }
    }
    match (space, kind) {
        (Some(space), Some(kind)) => Ok(u32::from(space) << 16 | u32::from(kind)),
        _ => Err(Fail::new(pair.value, "both ns and type")),
    }
}

pub(super) fn ct<'a>(text: &'a str, context: &Context, depth: usize) -> Parse<'a, Ct> {
    let mut out = Ct { flags: 0, zone: CtZone::Immediate(0), table: None, alg: 0, actions: Vec::new() };
    for pair in Pairs(text) {
        let pair = pair?;
        match pair.key {
            "commit" => out.flags |= Ct::COMMIT,
            "force" => out.flags |= Ct::FORCE,
            "table" => {
                out.table = Some(limited(pair.value, "a table from 0 to 254", |table| *table != u8::MAX)?)
            }
            "zone" => out.zone = zone(pair.value)?,
            "alg" => {
                out.alg = match pair.value {
                    "ftp" => 21,
                    "tftp" => 69,
                    port => number(port, "ftp, tftp or a port")?,
                }
            }
            "nat" => out.actions.push(Action::Nat(nat(pair.value)?)),
            "exec" => out.actions.extend(actions(pair.value, &mut context.clone(), depth + 1)?),
            _ => return Err(pair.unknown("an argument of ct: commit, force, table, zone, alg, nat or exec")),
        }
    }
    if out.flags == Ct::FORCE {
        return Err(Fail::new(text, "commit, without which force means nothing"));
    }
    Ok(out)
}

fn zone(text: &str) -> Parse<'_, CtZone> {
    if let Ok(zone) = number(text, "") {
        return Ok(CtZone::Immediate(zone));
    }
    let bits = short(text).map_err(|_| Fail::new(text, "a zone, or 16 bits of a field"))?;
    let (field, ofs) = (bits.legacy(), bits.ofs);
    match bits.n_bits {
        n_bits @ 1..=64 => Ok(CtZone::Field { field, ofs, n_bits }),
        _ => Err(Fail::new(text, "a zone, or 16 bits of a field")),
    }
}

pub(super) fn nat(text: &str) -> Parse<'_, Nat> {
    let mut out = Nat::default();
    for pair in Pairs(text) {
        let pair = pair?;
        match pair.key {
            "src" | "dst" => {
                out.flags |= if pair.key == "src" { Nat::SRC } else { Nat::DST };
                if !pair.value.is_empty() {
                    let (flags, expected) =
                        (out.flags, "a range, as 10.0.0.1-10.0.0.9:1000-2000 or [fe80::1]:80");
                    let range = all(alt((nat_v4, nat_v6)), pair.value, expected)?;
                    let ordered =
                        range.ipv4.1.is_none_or(|max| range.ipv4.0.unwrap_or(Ipv4Addr::UNSPECIFIED) <= max)
                            && range
                                .ipv6
                                .1
                                .is_none_or(|max| range.ipv6.0.unwrap_or(Ipv6Addr::UNSPECIFIED) <= max)
                            && range.ports.1.is_none_or(|max| range.ports.0.unwrap_or(0) <= max);
                    if !ordered {
                        return Err(Fail::new(pair.value, "a range that does not end before it begins"));
                    }
                    out = Nat { flags, ..range };
                }
            }
            "persistent" => out.flags |= Nat::PERSISTENT,
            "hash" => out.flags |= Nat::PROTO_HASH,
            "random" => out.flags |= Nat::PROTO_RANDOM,
            _ => return Err(pair.unknown("an argument of nat: src, dst, persistent, hash or random")),
        }
    }
    let has = |flag| out.flags & flag != 0;
    if has(Nat::SRC) && has(Nat::DST) || out.flags != 0 && !has(Nat::SRC | Nat::DST) {
        return Err(Fail::new(text, "either src or dst"));
    }
    if has(Nat::PROTO_HASH) && has(Nat::PROTO_RANDOM) {
        return Err(Fail::new(text, "either hash or random"));
    }
    Ok(out)
}

fn nat_ports(text: &str) -> Tokens<'_, (Option<u16>, Option<u16>)> {
    let range = preceded(char(':'), (int::<u16>, opt(preceded(char('-'), int::<u16>))));
    opt(range).map(|ports| ports.map_or((None, None), |(min, max)| (Some(min), max))).parse_complete(text)
}

fn nat_v4(text: &str) -> Tokens<'_, Nat> {
    // A colon begins the ports here, and is not a part of the address.
    let digits = || nom::combinator::recognize(separated_pair(quad, char('.'), quad));
    let addr = || nom::combinator::map_res(digits(), str::parse::<Ipv4Addr>);
    (addr(), opt(preceded(char('-'), addr())), nat_ports)
        .map(|(min, max, ports)| Nat { ipv4: (Some(min), max), ports, ..Nat::default() })
        .parse_complete(text)
}

/// Half of an IPv4 address.
fn quad(text: &str) -> Tokens<'_, (u64, u64)> {
    separated_pair(integer, char('.'), integer).parse_complete(text)
}

fn nat_v6(text: &str) -> Tokens<'_, Nat> {
    let addr = || alt((delimited(char('['), address::<Ipv6Addr>, char(']')), address::<Ipv6Addr>));
    (addr(), opt(preceded(char('-'), addr())), nat_ports)
        .map(|(min, max, ports)| Nat { ipv6: (Some(min), max), ports, ..Nat::default() })
        .parse_complete(text)
}
