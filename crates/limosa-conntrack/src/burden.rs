//! What an entry carries besides its addresses, in the Ethernet addresses of
//! the packets that make it.

use crate::Refusal;

/// `ct_mark` and what OVN uses of `ct_label` in the zone of a VIF, as the two
/// Ethernet addresses of a frame:
///
/// ```text
///  dst:  ct_mark (32)       | ct_label[0..15]   (16)
///  src:  ct_label[96..127] (32) | ct_label[16..31] (16)
/// ```
///
/// The rest, `ct_label[32..95]`, OVN uses in the zones of routers only (the
/// Ethernet address of an ECMP route's next hop; `include/ovn/logical-fields.h`).
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

impl Burden {
    /// The bits of `ct_label` that find room.
    pub const LABEL_BITS: u128 = 0xffff_ffff_0000_0000_0000_0000_ffff_ffff;

    /// How the flow that commits puts everything back.
    pub const MOVES: [Move; 4] = [
        from(true, 16, 32, false, 0),
        from(true, 0, 16, true, 0),
        from(false, 0, 16, true, 16),
        from(false, 16, 32, true, 96),
    ];

    /// The destination and the source address.
    ///
    /// # Errors
    ///
    /// A bit of the label that has no room is set.
    pub fn addresses(&self) -> Result<([u8; 6], [u8; 6]), Refusal> {
        if self.label & !Self::LABEL_BITS != 0 {
            return Err(Refusal::Label);
        }
        let label = self.label.to_be_bytes();
        let mark = self.mark.to_be_bytes();
        let dst = [mark[0], mark[1], mark[2], mark[3], label[14], label[15]];
        let src = [label[0], label[1], label[2], label[3], label[12], label[13]];
        Ok((dst, src))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(address: [u8; 6]) -> u128 {
        address.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
    }

    proptest! {
        #[test]
        fn the_moves_put_back_what_the_addresses_hold(mark: u32, label: u128) {
            let burden = Burden { mark, label: label & Burden::LABEL_BITS };
            let (dst, src) = burden.addresses().unwrap();
            let (mut mark, mut label) = (0, 0);
            for step in Burden::MOVES {
                let value = bits(if step.from_dst { dst } else { src }) >> step.from_bit & ((1 << step.bits) - 1);
                *(if step.to_label { &mut label } else { &mut mark }) |= value << step.to_bit;
            }
            prop_assert_eq!((mark, label), (u128::from(burden.mark), burden.label));
        }
    }

    #[test]
    fn a_label_without_room_is_refused() {
        assert_eq!(Burden { mark: 0, label: 1 << 40 }.addresses(), Err(Refusal::Label));
    }
}
