//! What holds for all flows and for all bytes.

use bytes::Bytes;
use ofpacket::{
    Action, Body, BundleAdd, Controller2, Ct, CtZone, Flow, FlowMod, FlowUpdate, FlowUpdateEvent,
    Instruction, Learn, LearnDst, LearnSpec, LearnSrc, Match, Message, MultipartReply, Oxm, OxmField, PortNo,
    ReplyBody, frame_len,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), len).prop_map(Bytes::from)
}

/// Fields of all kinds, and some that nobody knows.
fn field() -> impl Strategy<Value = OxmField> {
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
        (0u16..0x8000, 0u8..128, 1u8..20).prop_map(|(c, n, len)| OxmField::from_numbers(c, n, len)),
        (any::<u32>(), 0u8..128, 1u8..20).prop_map(|(e, n, len)| OxmField::experimenter(e, n, len)),
    ]
}

fn oxm() -> impl Strategy<Value = Oxm> {
    (field(), any::<u128>(), option::of(any::<u128>())).prop_map(|(field, value, mask)| match mask {
        None => Oxm::new(field, value),
        Some(mask) => Oxm::masked(field, value, mask),
    })
}

fn match_() -> impl Strategy<Value = Match> {
    vec(oxm(), 0..5).prop_map(Match)
}

fn learn_spec() -> impl Strategy<Value = LearnSpec> {
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
}

fn learn() -> impl Strategy<Value = Learn> {
    let result = option::of((field(), any::<u16>()));
    (any::<[u16; 5]>(), any::<u64>(), any::<u8>(), any::<u32>(), result, vec(learn_spec(), 0..4)).prop_map(
        |(n, cookie, table_id, limit, result, specs)| Learn {
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
        },
    )
}

fn controller() -> impl Strategy<Value = Controller2> {
    (any::<[u16; 2]>(), any::<u8>(), bytes(0..20), any::<bool>(), option::of(any::<u32>())).prop_map(
        |([max_len, controller_id], reason, userdata, pause, meter_id)| Controller2 {
            max_len,
            controller_id,
            reason,
            userdata,
            pause,
            meter_id,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
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
}

fn flow() -> impl Strategy<Value = Flow> {
    let instruction = prop_oneof![
        vec(action(), 0..4).prop_map(Instruction::ApplyActions),
        vec(action(), 0..2).prop_map(Instruction::WriteActions),
        any::<u8>().prop_map(Instruction::GotoTable),
        any::<(u64, u64)>().prop_map(|(metadata, mask)| Instruction::WriteMetadata { metadata, mask }),
        Just(Instruction::ClearActions),
    ];
    (any::<[u16; 5]>(), any::<u8>(), any::<u64>(), match_(), vec(instruction, 0..4)).prop_map(
        |(n, table_id, cookie, match_, instructions)| Flow {
            table_id,
            priority: n[0],
            cookie,
            idle_timeout: n[1],
            hard_timeout: n[2],
            importance: n[3],
            flags: n[4],
            match_,
            instructions,
        },
    )
}

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
}
