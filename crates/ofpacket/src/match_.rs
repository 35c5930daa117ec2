//! What a flow matches.

use std::collections::BTreeMap;

use crate::PortNo;
use crate::oxm::{IntoValue, Oxm, OxmBytes, OxmField, is_full};
use crate::wire::{Reader, Result, Sink, Writer};

/// A list of fields that a packet must have (OpenFlow 1.5, section 7.2.3.1, `ofp_match`); an empty one
/// matches every packet.
///
/// Comparison is exact: the same fields in the same order, written in the same way. To compare what was
/// asked for with what a switch shows, compare [`canonical`](Match::canonical) forms.
///
/// ```
/// use ofpacket::{Match, OxmField};
///
/// let m = Match::new().with(OxmField::reg(15), 2u32).with(OxmField::METADATA, 1u64);
/// assert_eq!(m.to_string(), "reg15=0x2,metadata=0x1");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match(pub Vec<Oxm>);

/// `ofp_match_type`: the only one since OpenFlow 1.2.
const OFPMT_OXM: u16 = 1;

impl Match {
    /// Matches every packet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And the field has this value.
    #[must_use]
    pub fn with(mut self, field: OxmField, value: impl IntoValue) -> Self {
        self.0.push(Oxm::new(field, value));
        self
    }

    /// And the bits of the field that `mask` selects are those of `value`.
    #[must_use]
    pub fn with_masked(mut self, field: OxmField, value: impl IntoValue, mask: impl IntoValue) -> Self {
        self.0.push(Oxm::masked(field, value, mask));
        self
    }

    /// The first entry for this very field.
    pub fn get(&self, field: OxmField) -> Option<&Oxm> {
        self.0.iter().find(|oxm| oxm.field == field)
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Oxm> {
        self.0.iter()
    }

    /// Whether every packet matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The normal form: two matches that a switch holds to be the same one have the same normal form.
    ///
    /// Wide registers become 32-bit registers; a field that has two numbers gets the one that OpenFlow 1.5
    /// prefers; bits outside the mask become zero; a full mask is dropped, and so is a field of which no bit
    /// counts; a tunnel option loses the leading bytes that do not count; entries are sorted. "Ethernet" as
    /// packet type is what a switch assumes anyway, and goes.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut out = Canonical::default();
        self.iter().for_each(|oxm| out.add(oxm));
        out.finish()
    }

    /// Reads the match and the zeros behind it.
    ///
    /// ```text
    /// +--------+--------+-----------------+---------------------+
    /// | type=1 | length |  OXM fields ... | pad to 8, uncounted |
    /// +--------+--------+-----------------+---------------------+
    /// ```
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, body) = r.structure("match", |_| true)?;
        if kind != OFPMT_OXM {
            return Err(body.bad_value(kind));
        }
        r.skip_padding(4 + body.len());
        Self::decode_fields(body)
    }

    /// Reads fields up to the end.
    pub(crate) fn decode_fields(mut r: Reader<'_>) -> Result<Self> {
        // Most are at least that long.
        let mut fields = Vec::with_capacity(r.len().div_ceil(8));
        while !r.is_empty() {
            fields.push(Oxm::decode(&mut r)?);
        }
        Ok(Self(fields))
    }

    pub(crate) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.pos();
        w.u16(OFPMT_OXM);
        w.later();
        self.encode_fields(w);
        w.patch_len(from + 2, from, "match");
        w.pad(from);
    }

    pub(crate) fn encode_fields(&self, w: &mut Writer<impl Sink>) {
        self.iter().for_each(|oxm| oxm.encode(w));
    }
}

impl FromIterator<Oxm> for Match {
    fn from_iter<I: IntoIterator<Item = Oxm>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Match {
    type Item = &'a Oxm;
    type IntoIter = std::slice::Iter<'a, Oxm>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The fields gathered so far: value and mask as integers, which no known field is too wide for.
#[derive(Default)]
struct Canonical {
    known: BTreeMap<OxmField, (u128, u128)>,
    /// Tunnel options, whose width varies, and fields that are not in the table.
    other: Vec<Oxm>,
}

impl Canonical {
    fn add(&mut self, oxm: &Oxm) {
        let field = oxm.field.preferred();
        if field.tun_metadata_index().is_some() {
            return self.other.push(trim_option(oxm));
        }
        let width = field.info().map(|info| usize::from(info.bytes));
        let (Some(value), Some(mask), true) =
            (oxm.to_u128(), oxm.mask_u128(), width == Some(oxm.value.len()))
        else {
            return self.other.push(oxm.clone());
        };
        if let Some((first, n)) = field.wide_reg() {
            for i in 0..n {
                let shift = 32 * (n - 1 - i);
                let part = |v: u128| v >> shift & 0xffff_ffff;
                self.put(OxmField::reg(first + i), part(value), part(mask));
            }
            return;
        }
        if OxmField::MASKED_BY_VALUE.contains(&field) {
            self.put(field, value & mask, value & mask);
        } else if field == OxmField::PACKET_TYPE && (value, mask) == (0, 0xffff_ffff) {
            // Ethernet, as assumed.
        } else if field == OxmField::NXM_IN_PORT && mask == 0xffff {
            let port = PortNo::from_u16(value as u16);
            self.put(OxmField::IN_PORT, port.0.into(), 0xffff_ffff);
        } else if field == OxmField::IP_TOS {
            self.put(OxmField::IP_DSCP, value >> 2, mask >> 2);
        } else if field == OxmField::VLAN_TCI && matches!(mask >> 13, 0 | 7) {
            // OpenFlow 1.5 has no field for a part of the priority, and a packet without a tag has none.
            let untagged = mask & 0x1000 != 0 && value & mask == 0;
            self.put(OxmField::VLAN_VID, value & 0x1fff, mask & 0x1fff);
            self.put(OxmField::VLAN_PCP, value >> 13, if untagged { 0 } else { mask >> 13 });
        } else {
            self.put(field, value, mask);
        }
    }

    fn put(&mut self, field: OxmField, value: u128, mask: u128) {
        let mask = mask & significant(field);
        if mask == 0 {
            return;
        }
        let new = (value & mask, mask);
        // No switch accepts a field twice; here none of them is lost.
        if *self.known.entry(field).or_insert(new) != new {
            self.other.push(known(field, new));
        }
    }

    fn finish(self) -> Match {
        let known = self.known.into_iter().map(|(field, value)| known(field, value));
        let mut fields: Vec<_> = known.chain(self.other).collect();
        fields.sort_unstable();
        fields.dedup();
        Match(fields)
    }
}

impl OxmField {
    /// Open vSwitch, at least up to 3.7, takes the value of these for the mask as well, and 0 for any value
    /// (`match_set_tun_erspan_ver_masked()` and the functions after it in its `lib/match.c`).
    pub(crate) const MASKED_BY_VALUE: [Self; 5] = [
        Self::TUN_ERSPAN_VER,
        Self::TUN_ERSPAN_DIR,
        Self::TUN_ERSPAN_HWID,
        Self::TUN_GTPU_FLAGS,
        Self::TUN_GTPU_MSGTYPE,
    ];
}

/// A field with this value and mask.
fn known(field: OxmField, (value, mask): (u128, u128)) -> Oxm {
    let whole = mask == significant(field) && !OxmField::MASKED_BY_VALUE.contains(&field);
    if whole { Oxm::new(field, value) } else { Oxm::masked(field, value, mask) }
}

/// The bits that a switch compares, which are not always those that an action can address.
pub(crate) fn significant(field: OxmField) -> u128 {
    let bits = if field == OxmField::VLAN_VID {
        // The bit above the VID says that there is a tag.
        13
    } else if field == OxmField::CT_STATE {
        8
    } else {
        field.bits()
    };
    u128::MAX.checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

/// A tunnel option as a switch writes it: without the leading bytes that do not count or, in an exact match,
/// are zero. A mask of zeros asks whether the packet has the option at all: nothing of it is left.
pub(crate) fn trim_option(oxm: &Oxm) -> Oxm {
    let mask = oxm.mask.as_deref().map(|mask| &mask[trim_front(mask)..]);
    let counts = mask.map_or(oxm.value.len(), <[u8]>::len);
    let value = &oxm.value[oxm.value.len().saturating_sub(counts)..];
    let (value, mask) = match mask.filter(|mask| !is_full(oxm.field, mask)) {
        Some(mask) => {
            (value.iter().zip(mask).map(|(v, m)| v & m).collect(), Some(OxmBytes::from_slice(mask)))
        }
        // A zero may be written without any byte.
        None => {
            let digits = &value[trim_front(value)..];
            (OxmBytes::from_slice(if digits.is_empty() { &[0] } else { digits }), None)
        }
    };
    Oxm { field: oxm.field, value, mask }
}

/// How many leading bytes are zero.
pub(crate) fn trim_front(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| b != 0).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: Match, b: Match) {
        assert_eq!(a.canonical(), b.canonical());
    }

    #[test]
    fn registers_by_any_name() {
        let regs = Match::new().with(OxmField::reg(14), 1u32).with(OxmField::reg(15), 2u32);
        same(regs.clone(), Match::new().with(OxmField::xreg(7), 0x1_0000_0002u64));
        same(regs, Match::new().with_masked(OxmField::xxreg(3), 0x1_0000_0002u64, u64::MAX));
        let one = Match::new().with(OxmField::reg(15), 2u32);
        same(one.clone(), Match::new().with_masked(OxmField::xreg(7), 0xff_0000_0002u64, 0xffff_ffffu64));
        assert_eq!(one.canonical().0.len(), 1);
    }

    #[test]
    fn older_numbers() {
        let new = Match::new().with(OxmField::IN_PORT, PortNo::LOCAL).with(OxmField::TUNNEL_ID, 5u64);
        same(new, Match::new().with(OxmField::NXM_TUN_ID, 5u64).with(OxmField::NXM_IN_PORT, 0xfffeu16));
        let tagged = Match::new().with(OxmField::VLAN_VID, 0x1005u16).with(OxmField::VLAN_PCP, 3u8);
        same(tagged, Match::new().with(OxmField::VLAN_TCI, 0x7005u16));
        let dscp = Match::new().with(OxmField::IP_DSCP, 8u8);
        same(dscp, Match::new().with_masked(OxmField::IP_TOS, 32u8, 0xfcu8));
    }

    #[test]
    fn only_the_bits_that_count() {
        let m = Match::new().with_masked(OxmField::METADATA, 0xffu64, 0x0fu64);
        same(m.clone(), Match::new().with_masked(OxmField::METADATA, 0x0fu64, 0x0fu64));
        same(
            m,
            Match::new().with_masked(OxmField::METADATA, 0x0fu64, 0x0fu64).with_masked(
                OxmField::reg(0),
                1u32,
                0u32,
            ),
        );
        let exact = Match::new().with_masked(OxmField::METADATA, 5u64, u64::MAX);
        assert_eq!(exact.canonical(), Match::new().with(OxmField::METADATA, 5u64));
        same(Match::new(), Match::new().with(OxmField::PACKET_TYPE, 0u32));
    }

    #[test]
    fn tunnel_options_of_any_width() {
        let field = OxmField::tun_metadata(0);
        same(Match::new().with(field, 2u32), Match::new().with(field, 2u8));
        same(Match::new().with(field, 2u32), Match::new().with_masked(field, 2u32, u32::MAX));
        same(Match::new().with_masked(field, 2u32, 0xffu32), Match::new().with_masked(field, 2u8, 0xffu8));
        assert_ne!(
            Match::new().with_masked(field, 2u32, 0xffu32).canonical(),
            Match::new().with(field, 2u32).canonical(),
            "a part of the option is not the whole"
        );
        let present = Match::new().with_masked(field, 0u32, 0u32);
        assert_eq!((present.canonical().0.len(), &present.to_string()[..]), (1, "tun_metadata0"));
    }
}
