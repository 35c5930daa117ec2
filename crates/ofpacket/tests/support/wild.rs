//! Strategies for flows of all kinds, also such as no switch would take: they have to survive the wire.

use bytes::Bytes;
use ofpacket::{
    Action, Bundle, Controller2, Ct, CtZone, Encap, EncapProperty, Flow, Instruction, Learn, LearnDst,
    LearnSpec, LearnSrc, Match, Multipath, Nat, Oxm, OxmField, PortNo, Sample, SampleId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) fn bytes(len: impl Into<proptest::collection::SizeRange>) -> BoxedStrategy<Bytes> {
    vec(any::<u8>(), len).prop_map(Bytes::from).boxed()
}

/// Fields of all kinds, and some that nobody knows.
fn field() -> BoxedStrategy<OxmField> {
    prop_oneof![
        (0u8..32).prop_map(OxmField::reg),
        (0u8..16).prop_map(OxmField::xreg),
        (0u8..8).prop_map(OxmField::xxreg),
        (0u8..64).prop_map(OxmField::tun_metadata),
        Just(OxmField::METADATA),
        Just(OxmField::IN_PORT),
        Just(OxmField::NXM_IN_PORT),
        Just(OxmField::NXM_ETH_SRC),
        Just(OxmField::ETH_SRC),
        Just(OxmField::ETH_TYPE),
        Just(OxmField::IPV4_SRC),
        Just(OxmField::IPV6_DST),
        Just(OxmField::VLAN_TCI),
        Just(OxmField::VLAN_VID),
        Just(OxmField::CT_STATE),
        Just(OxmField::TCP_FLAGS),
        Just(OxmField::IP_FRAG),
        Just(OxmField::NSH_SPI),
        Just(OxmField::TUN_ERSPAN_IDX),
        proptest::sample::select(OxmField::known().map(|info| info.field).collect::<Vec<_>>()),
        // Older numbers, and known fields of widths that they do not have.
        (proptest::sample::select(vec![0u16, 1, 0x8000]), 0u8..128, 1u8..20)
            .prop_map(|(c, n, len)| OxmField::from_numbers(c, n, len)),
        (0u16..0x8000, 0u8..128, 1u8..20).prop_map(|(c, n, len)| OxmField::from_numbers(c, n, len)),
        (any::<u32>(), 0u8..128, 1u8..20).prop_map(|(e, n, len)| OxmField::experimenter(e, n, len)),
    ]
    .boxed()
}

fn oxm() -> BoxedStrategy<Oxm> {
    (field(), any::<u128>(), option::of(any::<u128>()))
        .prop_map(|(field, value, mask)| match mask {
            None => Oxm::new(field, value),
            Some(mask) => Oxm::masked(field, value, mask),
        })
        .boxed()
}

fn match_() -> BoxedStrategy<Match> {
    vec(oxm(), 0..5).prop_map(Match).boxed()
}

fn learn_spec() -> BoxedStrategy<LearnSpec> {
    let src = |n_bits: u16| {
        prop_oneof![
            (field(), any::<u16>()).prop_map(|(field, ofs)| LearnSrc::Field(field, ofs)),
            bytes(usize::from(n_bits.div_ceil(8))).prop_map(LearnSrc::Immediate),
        ]
    };
    let dst = prop_oneof![
        (field(), any::<u16>()).prop_map(|(field, ofs)| LearnDst::Match(field, ofs)),
        (field(), any::<u16>()).prop_map(|(field, ofs)| LearnDst::Load(field, ofs)),
        Just(LearnDst::Output),
    ];
    (1u16..1024, dst)
        .prop_flat_map(move |(n_bits, dst)| src(n_bits).prop_map(move |src| LearnSpec { n_bits, src, dst }))
        .boxed()
}

fn learn() -> BoxedStrategy<Learn> {
    let result = option::of((field(), any::<u16>()));
    (any::<[u16; 5]>(), any::<u64>(), any::<u8>(), any::<u32>(), result, vec(learn_spec(), 0..4))
        .prop_map(|(n, cookie, table_id, limit, result, specs)| Learn {
            idle_timeout: n[0],
            hard_timeout: n[1],
            priority: n[2],
            cookie,
            flags: if result.is_some() { Learn::WRITE_RESULT } else { 0 },
            table_id,
            fin_idle_timeout: n[3],
            fin_hard_timeout: n[4],
            limit,
            result,
            specs,
        })
        .boxed()
}

fn controller() -> BoxedStrategy<Controller2> {
    (any::<[u16; 2]>(), any::<u8>(), bytes(0..20), any::<bool>(), option::of(any::<u32>()))
        .prop_map(|([max_len, controller_id], reason, userdata, pause, meter_id)| Controller2 {
            max_len,
            controller_id,
            reason,
            userdata,
            pause,
            meter_id,
        })
        .boxed()
}

/// Bits of a field whose number has 32 bits.
fn short_bits() -> BoxedStrategy<(OxmField, u16, u16)> {
    let short = field().prop_filter("a short number", |field| field.experimenter_id().is_none());
    (short, 0u16..1024, 1u16..65).boxed()
}

fn sample_id() -> BoxedStrategy<SampleId> {
    let in_field = |(field, ofs, n_bits): (OxmField, u16, u16)| SampleId::Field { field, ofs, n_bits };
    // No field at all is how a number is told from a field.
    let not_zero =
        |(field, ..): &(OxmField, u16, u16)| (field.class(), field.number(), field.width()) != (0, 0, 0);
    prop_oneof![
        any::<u32>().prop_map(SampleId::Immediate),
        short_bits().prop_filter("a field", not_zero).prop_map(in_field)
    ]
    .boxed()
}

fn sample() -> BoxedStrategy<Action> {
    (any::<u16>(), any::<u32>(), sample_id(), sample_id(), any::<u16>(), any::<u8>())
        .prop_map(|(probability, collector_set_id, obs_domain_id, obs_point_id, port, direction)| {
            let sampling_port = PortNo::from_u16(port);
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
    let property =
        prop_oneof![
            any::<u8>().prop_map(EncapProperty::NshMdType),
            (any::<u16>(), any::<u8>(), bytes(0..20))
                .prop_map(|(class, kind, value)| EncapProperty::NshTlv { class, kind, value }),
            (5u16.., any::<u8>(), bytes(0..20)).prop_map(|(class, kind, body)| EncapProperty::Other {
                class,
                kind,
                body
            }),
        ];
    (any::<u16>(), any::<u32>(), vec(property, 0..3))
        .prop_map(|(hdr_size, packet_type, properties)| {
            Action::Encap(Encap { hdr_size, packet_type, properties })
        })
        .boxed()
}

fn bundle() -> BoxedStrategy<Action> {
    let members = vec(any::<u16>().prop_map(PortNo::from_u16), 0..5);
    (any::<[u16; 3]>(), members, option::of(short_bits()))
        .prop_map(|([algorithm, fields, basis], members, dst)| {
            Action::Bundle(Bundle { algorithm, fields, basis, members, dst })
        })
        .boxed()
}

fn nat() -> BoxedStrategy<Action> {
    let v4 = || option::of(any::<std::net::Ipv4Addr>());
    let v6 = || option::of(any::<std::net::Ipv6Addr>());
    let port = || option::of(any::<u16>());
    (any::<u16>(), (v4(), v4()), (v6(), v6()), (port(), port()))
        .prop_map(|(flags, ipv4, ipv6, ports)| Action::Nat(Nat { flags, ipv4, ipv6, ports }))
        .boxed()
}

fn action() -> BoxedStrategy<Action> {
    let port = any::<u16>().prop_map(PortNo::from_u16);
    let leaf = prop_oneof![
        (any::<u32>(), any::<u16>()).prop_map(|(p, max_len)| Action::Output { port: PortNo(p), max_len }),
        oxm().prop_map(Action::SetField),
        (any::<[u16; 3]>(), field(), field()).prop_map(|([n_bits, src_offset, dst_offset], src, dst)| {
            Action::CopyField { n_bits, src_offset, dst_offset, src, dst }
        }),
        (port.clone(), option::of(any::<u8>()))
            .prop_map(|(port, table)| { Action::Resubmit { port, table, ct: false } }),
        learn().prop_map(Action::Learn),
        controller().prop_map(Action::Controller),
        bytes(6).prop_map(Action::Note),
        (field(), 0u16..1024, 1u16..65, any::<u16>())
            .prop_map(|(src, ofs, n_bits, max_len)| { Action::OutputReg { src, ofs, n_bits, max_len } }),
        (field(), any::<[u16; 2]>())
            .prop_map(|(field, [ofs, n_bits])| { Action::StackPush { field, ofs, n_bits } }),
        (port, any::<u32>()).prop_map(|(port, max_len)| Action::OutputTrunc { port, max_len }),
        any::<(u8, u8, u32)>().prop_map(|(clause, n_clauses, id)| Action::Conjunction {
            clause,
            n_clauses,
            id
        }),
        vec(any::<u16>(), 0..5).prop_map(Action::DecTtlCntIds),
        any::<u64>().prop_map(Action::SetTunnel64),
        any::<u8>().prop_map(Action::SetMplsTtl),
        any::<u16>().prop_map(Action::PushPbb),
        any::<u32>().prop_map(Action::Decap),
        any::<(u64, u64)>().prop_map(|(metadata, mask)| Action::WriteMetadata { metadata, mask }),
        sample(),
        encap(),
        bundle(),
        (any::<[u16; 4]>(), any::<u32>(), short_bits()).prop_map(
            |([fields, basis, algorithm, max_link], arg, dst)| {
                Action::Multipath(Multipath { fields, basis, algorithm, max_link, arg, dst })
            }
        ),
        nat(),
        (field(), any::<u16>(), any::<u16>()).prop_map(|(dst, pkt_len, ofs)| Action::CheckPktLarger {
            pkt_len,
            dst,
            ofs
        }),
        field().prop_map(Action::DeleteField),
        Just(Action::CopyTtlIn),
        Just(Action::DecNshTtl),
        Just(Action::CtClear),
        Just(Action::Exit),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let ct = (any::<[u16; 3]>(), option::of(0u8..255), vec(inner.clone(), 0..3)).prop_map(
            |([flags, zone, alg], table, actions)| {
                Action::Ct(Ct { flags, zone: CtZone::Immediate(zone), table, alg, actions })
            },
        );
        prop_oneof![vec(inner, 0..3).prop_map(Action::Clone), ct]
    })
    .boxed()
}

pub(crate) fn flow() -> BoxedStrategy<Flow> {
    let instruction = prop_oneof![
        vec(action(), 0..4).prop_map(Instruction::ApplyActions),
        vec(action(), 0..2).prop_map(Instruction::WriteActions),
        any::<u8>().prop_map(Instruction::GotoTable),
        any::<(u64, u64)>().prop_map(|(metadata, mask)| Instruction::WriteMetadata { metadata, mask }),
        Just(Instruction::ClearActions),
    ];
    (any::<[u16; 5]>(), any::<u8>(), any::<u64>(), match_(), vec(instruction, 0..4))
        .prop_map(|(n, table_id, cookie, match_, instructions)| Flow {
            table_id,
            priority: n[0],
            cookie,
            idle_timeout: n[1],
            hard_timeout: n[2],
            importance: n[3],
            flags: n[4],
            match_,
            instructions,
        })
        .boxed()
}
