//! Strategies for flows that make sense, in that their text says all of what they are.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use ofpacket::{
    Access, Action, Bundle, Controller2, Ct, CtZone, Encap, EncapProperty, FieldInfo, Flow, Instruction,
    Kind, Learn, LearnDst, LearnSpec, LearnSrc, Maskable, Match, Multipath, Nat, Oxm, OxmBytes, OxmField,
    PortNo, Prerequisite, Sample, SampleId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn bytes(len: impl Into<proptest::collection::SizeRange>) -> BoxedStrategy<Bytes> {
    vec(any::<u8>(), len).prop_map(Bytes::from).boxed()
}

fn fields(which: impl Fn(&FieldInfo) -> bool) -> Vec<&'static FieldInfo> {
    OxmField::known().filter(|info| which(info)).collect()
}

/// Bits that a value may have.
fn bits(info: &FieldInfo) -> u32 {
    match info.name {
        "vlan_vid" => 13,
        "ct_state" => 8,
        _ => info.bits.min(128).into(),
    }
}

fn port() -> BoxedStrategy<PortNo> {
    prop_oneof![
        (0u32..0xff00).prop_map(PortNo),
        select(vec![PortNo::LOCAL, PortNo::IN_PORT, PortNo::NORMAL, PortNo::ALL, PortNo::FLOOD, PortNo::ANY]),
    ]
    .boxed()
}

/// A value of the field, and a mask where there may be one.
fn oxm(info: &'static FieldInfo) -> BoxedStrategy<Oxm> {
    let field = info.field;
    let cut = move |value: u128| value & u128::MAX >> (128 - bits(info));
    let exact = match info.kind {
        Kind::Port if info.bytes == 2 => port().prop_map(|port| u128::from(port.0 & 0xffff)).boxed(),
        Kind::Port => port().prop_map(|port| port.0.into()).boxed(),
        _ => any::<u128>().prop_map(cut).boxed(),
    };
    if field.tun_metadata_index().is_some() {
        // As wide as the option is.
        let width = select(vec![4usize, 8, 16]);
        return (width, any::<u128>(), option::of(any::<u128>()))
            .prop_map(move |(width, value, mask)| {
                let cut = |v: u128| OxmBytes::from_slice(&v.to_be_bytes()[16 - width..]);
                let mask = mask
                    .filter(|mask| mask.to_be_bytes()[16 - width] != 0xff)
                    .map(|mask| mask | 1 << (8 * width - 2));
                let value = value & mask.unwrap_or(u128::MAX);
                Oxm { field, value: cut(value), mask: mask.map(cut) }
            })
            .boxed();
    }
    match (info.maskable, info.kind) {
        (Maskable::Exact, _) | (_, Kind::TunFlags) => {
            exact.prop_map(move |value| Oxm::new(field, value)).boxed()
        }
        (_, Kind::Frag) => select(vec![(0u8, 3u8), (1, 1), (1, 3), (3, 3), (0, 2)])
            .prop_map(move |(value, mask)| Oxm::masked(field, value, mask))
            .boxed(),
        _ => (exact, option::of(any::<u128>().prop_map(cut)))
            .prop_map(move |(value, mask)| match mask {
                None => Oxm::new(field, value),
                Some(mask) => Oxm::masked(field, value & mask, mask),
            })
            .boxed(),
    }
}

fn some_of(which: impl Fn(&FieldInfo) -> bool, most: usize) -> BoxedStrategy<Vec<Oxm>> {
    let fields = fields(which);
    let most = most.min(fields.len());
    proptest::sample::subsequence(fields, 0..=most)
        .prop_flat_map(|fields| fields.into_iter().map(oxm).collect::<Vec<_>>())
        .boxed()
}

/// Fields of a packet: the Ethernet type, what it carries, and fields that can then be matched.
fn packet() -> BoxedStrategy<Vec<Oxm>> {
    use Prerequisite as P;

    let layers = vec![
        (0x0800u16, None::<u8>, None::<u8>, vec![P::Ipv4, P::Ip]),
        (0x86dd, None, None, vec![P::Ipv6, P::Ip]),
        (0x0800, Some(6), None, vec![P::Ipv4, P::Ip, P::Tcp]),
        (0x86dd, Some(6), None, vec![P::Ipv6, P::Tcp]),
        (0x0800, Some(17), None, vec![P::Udp]),
        (0x86dd, Some(132), None, vec![P::Ip, P::Sctp]),
        (0x0800, Some(1), None, vec![P::Icmpv4]),
        (0x86dd, Some(58), None, vec![P::Ipv6]),
        (0x86dd, Some(58), Some(135), vec![P::Nd, P::NdSolicit]),
        (0x86dd, Some(58), Some(136), vec![P::Nd, P::NdAdvert]),
        (0x0806, None, None, vec![P::Arp]),
        (0x8035, None, None, vec![P::Arp]),
        (0x8847, None, None, vec![P::Mpls]),
        (0x8848, None, None, vec![P::Mpls]),
        (0x894f, None, None, vec![P::Nsh]),
        (0x1234, None, None, vec![]),
    ];
    select(layers)
        .prop_flat_map(|(ethertype, protocol, icmp, needs)| {
            let mut base = vec![Oxm::new(OxmField::ETH_TYPE, ethertype)];
            base.extend(protocol.map(|protocol| Oxm::new(OxmField::IP_PROTO, protocol)));
            if let Some(kind) = icmp {
                base.extend([Oxm::new(OxmField::ICMPV6_TYPE, kind), Oxm::new(OxmField::ICMPV6_CODE, 0u8)]);
            }
            // What is in the base already, or means the same as another field.
            let taken = [OxmField::IP_PROTO, OxmField::IP_TOS];
            some_of(move |info| needs.contains(&info.needs) && !taken.contains(&info.field), 5)
                .prop_map(move |more| base.iter().cloned().chain(more).collect())
        })
        .boxed()
}

fn match_() -> BoxedStrategy<Match> {
    // Narrow registers only: a wide one would be the same as two or four of them.
    let free = |info: &FieldInfo| {
        info.needs == Prerequisite::Nothing
            && !info.name.starts_with("xreg")
            && !info.name.starts_with("xxreg")
            && ![OxmField::NXM_IN_PORT, OxmField::PACKET_TYPE].contains(&info.field)
    };
    let ethernet = |info: &FieldInfo| matches!(info.name, "eth_src" | "eth_dst");
    let tag = option::of((0u16..4096, option::of(0u8..8)));
    let (packet, tracked) = (
        option::of(packet()),
        some_of(|info| info.name.starts_with("ct_nw_") || info.name.starts_with("ct_ipv6_"), 2),
    );
    (some_of(free, 6), some_of(ethernet, 2), tag, packet, tracked)
        .prop_map(|(free, ethernet, tag, packet, tracked)| {
            let mut out: Vec<_> =
                free.into_iter().chain(ethernet).chain(packet.unwrap_or_default()).chain(tracked).collect();
            if let Some((vid, pcp)) = tag {
                out.push(Oxm::new(OxmField::VLAN_VID, vid | 0x1000));
                out.extend(pcp.map(|pcp| Oxm::new(OxmField::VLAN_PCP, pcp)));
            }
            Match(out)
        })
        .boxed()
}

fn writable() -> BoxedStrategy<&'static FieldInfo> {
    select(fields(|info| info.access == Access::Writable)).boxed()
}

/// Bits of a field, at most so many; tunnel options are as long as they like to be.
fn bits_of(fields: Vec<&'static FieldInfo>, most: u16) -> BoxedStrategy<(OxmField, u16, u16)> {
    (select(fields), any::<u16>(), any::<u16>())
        .prop_map(move |(info, first, n)| {
            let ofs = first % info.bits;
            (info.field, ofs, 1 + n % (info.bits - ofs).min(most))
        })
        .boxed()
}

fn short_bits(most: u16) -> BoxedStrategy<(OxmField, u16, u16)> {
    bits_of(fields(|info| info.field.experimenter_id().is_none() && info.access == Access::Writable), most)
        .boxed()
}

fn learn_spec() -> BoxedStrategy<LearnSpec> {
    let constant = |n_bits: u16, value: Vec<u8>| {
        let mut value = value;
        value.truncate(n_bits.div_ceil(8).into());
        if let (Some(top), extra @ 1..) = (value.first_mut(), n_bits % 8) {
            *top &= (1 << extra) - 1;
        }
        LearnSrc::Immediate(value.into())
    };
    (short_bits(128), 0..5u8, vec(any::<u8>(), 16))
        .prop_map(move |((field, ofs, n_bits), what, value)| {
            // In text a port is 16 bits wide, and not all numbers of a VLAN or of flags can be had.
            let odd = field.info().is_none_or(|info| matches!(info.kind, Kind::Port | Kind::TunFlags));
            let (src, dst) = match what {
                0 if !odd => (constant(n_bits, value), LearnDst::Match(field, ofs)),
                1 => (constant(n_bits, value), LearnDst::Load(field, ofs)),
                2 => (LearnSrc::Field(field, ofs), LearnDst::Load(field, ofs)),
                3 => (LearnSrc::Field(field, ofs), LearnDst::Output),
                _ => (LearnSrc::Field(field, ofs), LearnDst::Match(field, ofs)),
            };
            LearnSpec { n_bits, src, dst }
        })
        .boxed()
}

fn learn() -> BoxedStrategy<Action> {
    let result = option::of(short_bits(1).prop_map(|(field, ofs, _)| (field, ofs)));
    (any::<[u16; 5]>(), any::<u64>(), 0u8..255, any::<u32>(), 0u16..4, result, vec(learn_spec(), 0..4))
        .prop_map(|(n, cookie, table_id, limit, flags, result, specs)| {
            let flags = flags | if result.is_some() { Learn::WRITE_RESULT } else { 0 };
            let [idle_timeout, hard_timeout, priority, fin_idle_timeout, fin_hard_timeout] = n;
            Action::Learn(Learn {
                idle_timeout,
                hard_timeout,
                priority,
                cookie,
                flags,
                table_id,
                fin_idle_timeout,
                fin_hard_timeout,
                limit,
                result,
                specs,
            })
        })
        .boxed()
}

fn controller() -> BoxedStrategy<Action> {
    (any::<[u16; 2]>(), any::<u8>(), bytes(0..20), any::<bool>(), option::of(any::<u32>()))
        .prop_map(|([max_len, controller_id], reason, userdata, pause, meter_id)| {
            // Without an id of its own it would be an output to the controller.
            let controller_id = controller_id.max(1);
            Action::Controller(Controller2 { max_len, controller_id, reason, userdata, pause, meter_id })
        })
        .boxed()
}

fn nat() -> BoxedStrategy<Nat> {
    let v4 = any::<[u32; 2]>()
        .prop_map(|[a, b]| (Some(Ipv4Addr::from_bits(a.min(b))), Some(Ipv4Addr::from_bits(a.max(b)))));
    let v6 = any::<[u128; 2]>()
        .prop_map(|[a, b]| (Some(Ipv6Addr::from_bits(a.min(b))), Some(Ipv6Addr::from_bits(a.max(b)))));
    let range = prop_oneof![
        v4.prop_map(|ipv4| Nat { ipv4, ..Nat::default() }),
        v6.prop_map(|ipv6| Nat { ipv6, ..Nat::default() }),
    ];
    let ports = option::of((1u16.., any::<u16>()));
    let how = select(vec![0, Nat::PERSISTENT, Nat::PROTO_HASH, Nat::PROTO_RANDOM | Nat::PERSISTENT]);
    (range, ports, select(vec![Nat::SRC, Nat::DST]), how)
        .prop_map(|(range, ports, side, how)| {
            let ports = ports.map_or((None, None), |(a, b)| (Some(a), Some(a.max(b))));
            // A range of one is written as its only member.
            let one = |(min, max): (Option<_>, Option<_>)| (min, max.filter(|max| Some(max) != min.as_ref()));
            let ports = one(ports);
            Nat { flags: side | how, ports, ..range }
        })
        .boxed()
}

fn sample() -> BoxedStrategy<Action> {
    let id = || {
        let in_field = |(field, ofs, n_bits)| SampleId::Field { field, ofs, n_bits };
        prop_oneof![any::<u32>().prop_map(SampleId::Immediate), short_bits(32).prop_map(in_field)]
    };
    (1u16.., any::<u32>(), id(), id(), port(), 0u8..3)
        .prop_map(|(probability, collector_set_id, obs_domain_id, obs_point_id, sampling_port, direction)| {
            Action::Sample(Sample {
                probability,
                collector_set_id,
                obs_domain_id,
                obs_point_id,
                sampling_port,
                direction,
            })
        })
        .boxed()
}

fn encap() -> BoxedStrategy<Action> {
    let property = prop_oneof![
        (1u8..3).prop_map(EncapProperty::NshMdType),
        (any::<u16>(), any::<u8>(), bytes(0..8)).prop_map(|(class, kind, value)| {
            // In text leading zeros are lost.
            let value = [&[1], &value[..]].concat().into();
            EncapProperty::NshTlv { class, kind, value }
        }),
    ];
    let encap = |packet_type, properties| Action::Encap(Encap { hdr_size: 0, packet_type, properties });
    prop_oneof![
        vec(property, 0..3).prop_map(move |properties| encap(Encap::NSH, properties)),
        select(vec![Encap::ETHERNET, Encap::MPLS, Encap::MPLS_MC]).prop_map(move |kind| encap(kind, vec![])),
    ]
    .boxed()
}

fn plain() -> BoxedStrategy<Action> {
    select(vec![
        Action::PopQueue,
        Action::PopVlan,
        Action::DecMplsTtl,
        Action::PopPbb,
        Action::CopyTtlOut,
        Action::CopyTtlIn,
        Action::DecNshTtl,
        Action::DecNwTtl,
        Action::CtClear,
        Action::Exit,
        Action::PushVlan(0x8100),
        Action::PushVlan(0x88a8),
    ])
    .boxed()
}

fn one_number() -> BoxedStrategy<Action> {
    prop_oneof![
        any::<u32>().prop_map(Action::Group),
        any::<u32>().prop_map(Action::SetQueue),
        any::<u32>().prop_map(Action::Meter),
        any::<u32>().prop_map(Action::SetTunnel),
        any::<u64>().prop_map(Action::SetTunnel64),
        any::<u16>().prop_map(Action::PushMpls),
        any::<u16>().prop_map(Action::PopMpls),
        any::<u16>().prop_map(Action::PushPbb),
        any::<u8>().prop_map(Action::SetMplsTtl),
        any::<u8>().prop_map(Action::SetNwTtl),
        (0u32..0x2_0000).prop_map(Action::Decap),
    ]
    .boxed()
}

fn leaf() -> BoxedStrategy<Action> {
    let all = || bits_of(fields(|_| true), 1023);
    let set = || bits_of(fields(|info| info.access == Access::Writable), 1023);
    let (one, two, three) = (
        prop_oneof![
            port().prop_map(Action::output),
            any::<u16>().prop_map(|max_len| Action::Output { port: PortNo::CONTROLLER, max_len }),
            writable().prop_flat_map(oxm).prop_map(Action::SetField),
            (writable(), any::<u16>()).prop_map(|(info, n)| Action::copy_bits(
                info.field,
                0,
                info.field,
                0,
                1 + n % info.bits
            )),
            plain(),
            one_number(),
            learn(),
            controller(),
        ],
        prop_oneof![
            (port(), 0u8..255, any::<bool>()).prop_map(|(port, table, ct)| Action::Resubmit {
                port,
                table: Some(table),
                ct
            }),
            (0u16..0xff00).prop_map(|port| Action::Resubmit { port: port.into(), table: None, ct: false }),
            bits_of(fields(|_| true), 64).prop_map(|(src, ofs, n_bits)| Action::OutputReg {
                src,
                ofs,
                n_bits,
                max_len: u16::MAX
            }),
            (port(), 14u32..).prop_map(|(port, max_len)| Action::OutputTrunc { port, max_len }),
            all().prop_map(|(field, ofs, n_bits)| Action::StackPush { field, ofs, n_bits }),
            set().prop_map(|(field, ofs, n_bits)| Action::StackPop { field, ofs, n_bits }),
            (set(), any::<u16>()).prop_map(|((dst, ofs, _), pkt_len)| Action::CheckPktLarger {
                pkt_len,
                dst,
                ofs
            }),
            writable().prop_map(|info| Action::DeleteField(info.field)),
        ],
        prop_oneof![
            (2u8..65, any::<u8>(), any::<u32>()).prop_map(|(n, k, id)| Action::Conjunction {
                clause: k % n,
                n_clauses: n,
                id
            }),
            any::<[u16; 2]>()
                .prop_map(|[idle_timeout, hard_timeout]| Action::FinTimeout { idle_timeout, hard_timeout }),
            vec(any::<u16>(), 1..5).prop_map(Action::DecTtlCntIds),
            prop_oneof![bytes(6), bytes(14)].prop_map(Action::Note),
            sample(),
            encap(),
            (0u16..2, 0u16..7, any::<u16>(), vec(port(), 0..5), option::of(short_bits(64))).prop_map(
                |(algorithm, fields, basis, members, dst)| Action::Bundle(Bundle {
                    algorithm,
                    fields,
                    basis,
                    members,
                    dst
                })
            ),
            (0u16..7, any::<u16>(), 0u16..4, any::<u16>(), any::<u32>(), short_bits(64)).prop_map(
                |(fields, basis, algorithm, link, arg, dst)| {
                    let max_link = if dst.2 < 16 { link % (1 << dst.2) } else { link };
                    Action::Multipath(Multipath { fields, basis, algorithm, max_link, arg, dst })
                }
            ),
        ],
    );
    prop_oneof![one, two, three].boxed()
}

fn action() -> BoxedStrategy<Action> {
    leaf()
        .prop_recursive(3, 12, 3, |inner| {
            let zone = prop_oneof![
                any::<u16>().prop_map(CtZone::Immediate),
                short_bits(64).prop_map(|(field, ofs, n_bits)| CtZone::Field { field, ofs, n_bits }),
            ];
            let nat = option::of(prop_oneof![nat(), Just(Nat::default())].prop_map(Action::Nat));
            let flags = select(vec![0, Ct::COMMIT, Ct::COMMIT | Ct::FORCE]);
            let ct = (flags, zone, option::of(0u8..255), any::<u16>(), nat, vec(inner.clone(), 0..3))
                .prop_map(|(flags, zone, table, alg, nat, more)| {
                    let actions = nat.into_iter().chain(more).collect();
                    Action::Ct(Ct { flags, zone, table, alg, actions })
                });
            prop_oneof![vec(inner, 0..3).prop_map(Action::Clone), ct]
        })
        .boxed()
}

pub(crate) fn flow() -> BoxedStrategy<Flow> {
    let instructions = (
        vec(action(), 0..4),
        any::<bool>(),
        vec(action(), 0..2),
        option::of(any::<[u64; 2]>()),
        option::of(any::<u8>()),
    )
        .prop_map(|(apply, clear, write, metadata, goto)| {
            let metadata = metadata.map(|[metadata, mask]| Instruction::WriteMetadata { metadata, mask });
            [Instruction::ApplyActions(apply)]
                .into_iter()
                .chain(clear.then_some(Instruction::ClearActions))
                .chain(Some(write).filter(|write| !write.is_empty()).map(Instruction::WriteActions))
                .chain(metadata)
                .chain(goto.map(Instruction::GotoTable))
                .collect()
        });
    (any::<[u16; 4]>(), any::<u8>(), any::<u64>(), 0u16..32, match_(), instructions)
        .prop_map(
            |(
                [priority, idle_timeout, hard_timeout, importance],
                table_id,
                cookie,
                flags,
                match_,
                instructions,
            )| Flow {
                table_id,
                priority,
                cookie,
                idle_timeout,
                hard_timeout,
                importance,
                flags,
                match_,
                instructions,
            },
        )
        .boxed()
}
