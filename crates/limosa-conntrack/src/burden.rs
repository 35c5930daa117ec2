//! What an entry carries besides its addresses, in the Ethernet addresses of
//! the packets that make it.

use crate::Refusal;

/// `ct_mark` and `ct_label`, as the two Ethernet addresses of a frame. There is
/// room for what any release of OVN gives a meaning to in the zone of a VIF
/// (`lib/logical-fields.c`), and for the rest of the low bits:
///
/// | bits | since OVN | meaning |
/// |---|---|---|
/// | label 0, 1 | 20.03, until 22.03 | blocked, natted |
/// | label 2, 3 | 22.06, until 24.03 | skip_snat, force_snat |
/// | label 96..127 | 22.03 | the ACL's `label`; `obs_point_id` |
/// | mark 0, 1, 2, 3 | 22.06 | blocked, natted, skip_snat, force_snat |
/// | mark 4..5, 16..23 | 24.09 | `obs_stage`, `obs_collector_id` |
/// | mark 6, label 80..95 | 25.03 | `allow_established`, `acl_id` |
/// | label 7, 8, 17..24 | 26.03 | `nf`, `tun_if`, `nf_id` (and `tun_if_id` in 80..95) |
///
/// No room has the Ethernet address of an ECMP route's next hop (label 32..79), which
/// there is in the zones of routers only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Burden {
    pub mark: u32,
    pub label: u128,
}

/// One move of the committing flow: so many bits, from the address at this bit
/// (0 is the least significant) to the field at that bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub from_dst: bool,
    pub from_bit: u16,
    pub to_label: bool,
    pub to_bit: u16,
    pub bits: u16,
}

const fn from(from_dst: bool, from_bit: u16, bits: u16, to_label: bool, to_bit: u16) -> Move {
    Move { from_dst, from_bit, to_label, to_bit, bits }
}

impl Move {
    /// Those bits of the field.
    const fn field(self) -> u128 {
        ((1 << self.bits) - 1) << self.to_bit
    }
}

impl Burden {
    /// How the flow that commits puts everything back.
    pub const MOVES: [Move; 4] = [
        from(true, 17, 31, false, 0),
        from(true, 8, 9, true, 0),
        from(true, 0, 8, true, 17),
        from(false, 0, 48, true, 80),
    ];

    /// The destination and the source address.
    ///
    /// # Errors
    ///
    /// A bit is set that has no room.
    pub fn addresses(&self) -> Result<([u8; 6], [u8; 6]), Refusal> {
        let (mut mark, mut label) = (u128::from(self.mark), self.label);
        let (mut dst, mut src) = (0, 0);
        for step in Self::MOVES {
            let field = if step.to_label { &mut label } else { &mut mark };
            let address = if step.from_dst { &mut dst } else { &mut src };
            *address |= (*field & step.field()) >> step.to_bit << step.from_bit;
            *field &= !step.field();
        }
        if (mark, label) != (0, 0) {
            return Err(Refusal::Label);
        }
        Ok((octets(dst), octets(src)))
    }
}

/// The lowest 48 bits.
fn octets(address: u128) -> [u8; 6] {
    let [.., a, b, c, d, e, f] = address.to_be_bytes();
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(address: [u8; 6]) -> u128 {
        address.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
    }

    /// What the flow makes of the addresses.
    fn put_back((dst, src): ([u8; 6], [u8; 6])) -> (u128, u128) {
        let (mut mark, mut label) = (0, 0);
        for step in Burden::MOVES {
            let value = bits(if step.from_dst { dst } else { src }) >> step.from_bit & ((1 << step.bits) - 1);
            *(if step.to_label { &mut label } else { &mut mark }) |= value << step.to_bit;
        }
        (mark, label)
    }

    fn arrives(mark: u32, label: u128) -> bool {
        let addresses = Burden { mark, label }.addresses();
        addresses.is_ok_and(|addresses| put_back(addresses) == (u128::from(mark), label))
    }

    proptest! {
        #[test]
        fn what_has_room_is_put_back(mark: u32, label: u128) {
            const LABEL: u128 = 0xffff_ffff_ffff_0000_0000_0000_01fe_01ff;
            prop_assert!(arrives(mark & 0x7fff_ffff, label & LABEL));
            prop_assert_eq!(arrives(mark, label), mark >> 31 == 0 && label & !LABEL == 0);
        }
    }

    /// The bits of a field that begins here and ends there.
    fn field(first: u32, last: u32) -> u128 {
        ((1 << (last - first + 1)) - 1) << first
    }

    #[test]
    fn what_a_release_of_ovn_uses_for_a_vif_has_room() {
        type Fields = &'static [(u32, u32)];
        let releases: [(&str, Fields, Fields); 5] = [
            ("22.03", &[], &[(0, 0), (1, 1), (96, 127)]),
            ("22.09", &[(0, 3)], &[(0, 3), (96, 127)]),
            ("24.09", &[(0, 5), (16, 23)], &[(96, 127)]),
            ("25.03", &[(0, 6), (16, 23)], &[(80, 95), (96, 127)]),
            ("26.03", &[(0, 6), (16, 23)], &[(7, 8), (17, 24), (80, 95), (96, 127)]),
        ];
        for (release, marks, labels) in releases {
            let all =
                |fields: &[(u32, u32)]| fields.iter().fold(0, |all, (from, to)| all | field(*from, *to));
            assert!(arrives(all(marks) as u32, all(labels)), "{release}");
        }
    }

    #[test]
    fn what_routers_use_is_refused() {
        let next_hop = Burden { mark: 0, label: field(32, 79) };
        assert_eq!(next_hop.addresses(), Err(Refusal::Label));
        assert_eq!(Burden { mark: 1 << 31, label: 0 }.addresses(), Err(Refusal::Label));
    }
}
