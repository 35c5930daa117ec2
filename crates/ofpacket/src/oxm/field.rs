//! The identity of a match field.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use super::table::{self, Access, FieldInfo, Kind, Maskable, Prerequisite};
use crate::wire::{Reader, Result, Sink, Writer};

/// The classes of match fields that Open vSwitch uses, with the experimenter where the class is
/// `OFPXMC_EXPERIMENTER` (0xffff).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Class {
    class: u16,
    experimenter: u32,
}

impl Class {
    pub(crate) const NXM_0: Self = Self::basic(0x0000);
    pub(crate) const NXM_1: Self = Self::basic(0x0001);
    pub(crate) const BASIC: Self = Self::basic(0x8000);
    pub(crate) const PACKET_REGS: Self = Self::basic(0x8001);
    pub(crate) const ERICSSON: Self = Self::basic(0x1000);
    pub(crate) const NX: Self = Self { class: EXPERIMENTER, experimenter: 0x0000_2320 };
    pub(crate) const NSH: Self = Self { class: EXPERIMENTER, experimenter: 0x005a_d650 };
    pub(crate) const ONF: Self = Self { class: EXPERIMENTER, experimenter: 0x4f4e_4600 };

    const fn basic(class: u16) -> Self {
        Self { class, experimenter: 0 }
    }
}

const EXPERIMENTER: u16 = 0xffff;

/// The length that Open vSwitch puts into the header of a tunnel option whose real length it was not told.
const TUN_METADATA_LEN: u8 = 124;

/// A match field: class, number and, in the experimenter class, who defined it (OpenFlow 1.5, section
/// 7.2.3.2).
///
/// ```text
///  31            16 15      9 8       7            0
/// +----------------+---------+---------+------------+   and 32 bits of
/// |     class      |  field  | hasmask |   length   |   experimenter if
/// +----------------+---------+---------+------------+   class = 0xffff
/// ```
///
/// The length in a header that stands alone (in `move` and `learn`) is remembered, but does not take part
/// in comparisons: it says how a field was written, not which one it is.
#[derive(Clone, Copy)]
pub struct OxmField {
    class: Class,
    number: u8,
    len: u8,
}

impl OxmField {
    pub(crate) const fn new(class: Class, number: u8, len: u8) -> Self {
        Self { class, number, len }
    }

    /// A field that this crate need not know: `class` is not 0xffff, `number` counts 7 bits, a value has
    /// `len` bytes.
    pub const fn from_numbers(class: u16, number: u8, len: u8) -> Self {
        Self::new(Class::basic(class), number & 0x7f, len)
    }

    /// A field that this crate need not know, of an experimenter.
    pub const fn experimenter(experimenter: u32, number: u8, len: u8) -> Self {
        Self::new(Class { class: EXPERIMENTER, experimenter }, number & 0x7f, len)
    }

    /// The 32-bit register `i`; Open vSwitch before 3.7 has 16, then 32.
    ///
    /// # Panics
    /// If `i` is above 31.
    pub const fn reg(i: u8) -> Self {
        assert!(i < 32, "there are 32 registers");
        match i {
            0..16 => Self::new(Class::NXM_1, i, 4),
            _ => Self::new(Class::NX, 17 + i - 16, 4),
        }
    }

    /// The 64-bit register `i`, which is the registers `2i` (high half) and `2i + 1`.
    ///
    /// # Panics
    /// If `i` is above 15.
    pub const fn xreg(i: u8) -> Self {
        assert!(i < 16, "there are 16 64-bit registers");
        Self::new(Class::PACKET_REGS, i, 8)
    }

    /// The 128-bit register `i`, which is the registers `4i` (highest) to `4i + 3`.
    ///
    /// # Panics
    /// If `i` is above 7.
    pub const fn xxreg(i: u8) -> Self {
        assert!(i < 8, "there are 8 128-bit registers");
        match i {
            0..4 => Self::new(Class::NXM_1, 111 + i, 16),
            _ => Self::new(Class::NX, 33 + i - 4, 16),
        }
    }

    /// The tunnel option that the switch's TLV table calls `i`.
    ///
    /// # Panics
    /// If `i` is above 63.
    pub const fn tun_metadata(i: u8) -> Self {
        assert!(i < 64, "there are 64 tunnel options");
        Self::new(Class::NXM_1, 40 + i, TUN_METADATA_LEN)
    }

    /// Class as on the wire; 0xffff for experimenter fields.
    pub const fn class(self) -> u16 {
        self.class.class
    }

    /// Number within the class.
    pub const fn number(self) -> u8 {
        self.number
    }

    /// Who defined the field, if its class is 0xffff.
    pub const fn experimenter_id(self) -> Option<u32> {
        match self.class.class {
            EXPERIMENTER => Some(self.class.experimenter),
            _ => None,
        }
    }

    /// Bytes of a value, as the header said it or as the table has it.
    pub const fn width(self) -> u8 {
        self.len
    }

    pub(super) const fn with_len(self, len: u8) -> Self {
        Self { len, ..self }
    }

    /// Bits that count in a value.
    pub fn bits(self) -> u16 {
        self.info().map_or_else(|| u16::from(self.len) * 8, |info| info.bits)
    }

    /// What is known about the field, if it is one of Open vSwitch's.
    pub fn info(self) -> Option<&'static FieldInfo> {
        self.entry().map(|entry| &entry.info)
    }

    /// What is known about the field of that name: the one in `set_field` (`eth_src`), the one in `move`
    /// (`NXM_OF_ETH_SRC`), or any other that `ovs-fields(7)` has for it (`dl_src`, `OXM_OF_ETH_SRC`).
    pub fn by_name(name: &str) -> Option<&'static FieldInfo> {
        static NAMES: OnceLock<HashMap<&'static str, &'static FieldInfo>> = OnceLock::new();
        let names = NAMES.get_or_init(|| {
            let names = |info: &'static FieldInfo| {
                [info.name, info.header_name].into_iter().chain(info.aliases.iter().copied())
            };
            Self::known().flat_map(|info| names(info).map(move |name| (name, info))).collect()
        });
        names.get(name).copied()
    }

    /// Every field that is known, each once: not under its older numbers.
    pub fn known() -> impl Iterator<Item = &'static FieldInfo> {
        let preferred = |entry: &&'static Entry| entry.preferred == entry.info.field;
        all().iter().flatten().filter(preferred).map(|entry| &entry.info)
    }

    /// The same field under the number that OpenFlow 1.5 prefers.
    pub(crate) fn preferred(self) -> Self {
        self.entry().map_or(self, |entry| Self { len: self.len, ..entry.preferred })
    }

    /// The same field under the number that Open vSwitch's own actions have for it.
    pub(crate) fn legacy(self) -> Self {
        self.entry().map_or(self, |entry| entry.legacy)
    }

    /// Where in a match a switch writes the field.
    pub(crate) fn rank(self) -> usize {
        self.entry().map_or(usize::MAX, |entry| entry.rank)
    }

    fn entry(self) -> Option<&'static Entry> {
        all().get(self.slot()?)?.as_ref()
    }

    /// Where in the index of the table the field is.
    fn slot(self) -> Option<usize> {
        let class = match self.class {
            Class::NXM_0 => 0,
            Class::NXM_1 => 1,
            Class::BASIC => 2,
            Class::PACKET_REGS => 3,
            Class::NX => 4,
            Class::NSH => 5,
            Class::ONF => 6,
            Class::ERICSSON => 7,
            _ => return None,
        };
        Some(class * 128 + usize::from(self.number))
    }

    /// The first register and the number of registers that a wide register is made of.
    pub(crate) fn wide_reg(self) -> Option<(u8, u8)> {
        match (self.class, self.number) {
            (Class::PACKET_REGS, n @ 0..16) => Some((2 * n, 2)),
            (Class::NXM_1, n @ 111..115) => Some((4 * (n - 111), 4)),
            (Class::NX, n @ 33..37) => Some((4 * (n - 33 + 4), 4)),
            _ => None,
        }
    }

    /// The index of a tunnel option; `None` for other fields.
    pub fn tun_metadata_index(self) -> Option<u8> {
        match (self.class, self.number) {
            (Class::NXM_1, n @ 40..104) => Some(n - 40),
            _ => None,
        }
    }

    pub(super) const fn same(self, other: Self) -> bool {
        self.class.class == other.class.class
            && self.class.experimenter == other.class.experimenter
            && self.number == other.number
    }

    fn identity(&self) -> (Class, u8) {
        (self.class, self.number)
    }

    /// Bytes of the header.
    #[inline]
    pub(crate) const fn header_len(self) -> usize {
        if self.class.class == EXPERIMENTER { 8 } else { 4 }
    }

    /// Reads a header; returns the field and `hasmask`. The length is that of the payload alone. Loses nothing,
    /// whatever the bytes are.
    #[inline]
    pub(crate) fn decode_header(r: &mut Reader<'_>) -> Result<(Self, bool)> {
        let header = r.u32()?;
        let [_, _, number, len] = header.to_be_bytes();
        let (class, number, has_mask) = ((header >> 16) as u16, number >> 1, number & 1 != 0);
        if class != EXPERIMENTER {
            return Ok((Self::new(Class::basic(class), number, len), has_mask));
        }
        let Some(len) = len.checked_sub(4) else {
            return Err(r.bad_value(len));
        };
        let experimenter = r.u32()?;
        Ok((Self::new(Class { class, experimenter }, number, len), has_mask))
    }

    /// Reads the header of a field that stands alone, without a mask.
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        match Self::decode_header(r)? {
            (field, false) => Ok(field),
            (_, true) => Err(r.bad_value(1u8)),
        }
    }

    /// Writes a header for a payload of `len` bytes.
    pub(crate) fn encode_header(self, w: &mut Writer<impl Sink>, has_mask: bool, len: usize) {
        let experimenter = self.experimenter_id();
        let len = w.fit(len + if experimenter.is_some() { 4 } else { 0 }, "match field");
        let [c0, c1] = self.class.class.to_be_bytes();
        w.slice(&[c0, c1, self.number << 1 | u8::from(has_mask), len]);
        if let Some(experimenter) = experimenter {
            w.u32(experimenter);
        }
    }

    /// Writes the header of a field that stands alone.
    pub(crate) fn encode(self, w: &mut Writer<impl Sink>) {
        self.encode_header(w, false, usize::from(self.len));
    }
}

/// A line of the table, and what follows from the others.
struct Entry {
    info: FieldInfo,
    preferred: OxmField,
    legacy: OxmField,
    rank: usize,
}

/// The table, with the numbered fields added in their places, indexed by class and number.
fn all() -> &'static [Option<Entry>] {
    static ALL: OnceLock<Vec<Option<Entry>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<_> = std::iter::repeat_with(|| None).take(8 * 128).collect();
        let mut put = |field: OxmField, entry: Entry| {
            if let Some(slot) = field.slot() {
                all[slot] = Some(entry);
            }
        };
        let infos = table::FIELDS.iter().flat_map(|&info| {
            let options = (info.field == OxmField::TUN_GBP_FLAGS).then(options);
            let registers = (info.field == OxmField::NSH_C4).then(registers);
            let next = options.into_iter().flatten().chain(registers.into_iter().flatten());
            std::iter::once(info).chain(next)
        });
        for (rank, info) in infos.enumerate() {
            let field = info.field;
            let older = table::TWINS.iter().filter(|(_, of)| *of == field).map(|&(old, _)| old);
            let legacy = older.clone().find(|_| field.class == Class::BASIC).unwrap_or(field);
            put(field, Entry { info, preferred: field, legacy, rank });
            older.for_each(|old| {
                let info = FieldInfo { field: old, ..info };
                put(old, Entry { info, preferred: field, legacy, rank });
            });
        }
        all
    })
}

/// A field with a number in its name. The names live as long as the program, and there are 120 of them.
fn numbered(field: OxmField, bits: u16, name: String, header: String) -> FieldInfo {
    FieldInfo {
        field,
        bytes: field.len,
        bits,
        kind: Kind::Hex,
        maskable: Maskable::Bitwise,
        needs: Prerequisite::Nothing,
        access: Access::Writable,
        name: name.leak(),
        header_name: header.leak(),
        aliases: &[],
    }
}

/// Tunnel options.
fn options() -> impl Iterator<Item = FieldInfo> {
    (0..64).map(|i| {
        let (name, header) = (format!("tun_metadata{i}"), format!("NXM_NX_TUN_METADATA{i}"));
        numbered(OxmField::tun_metadata(i), u16::from(TUN_METADATA_LEN) * 8, name, header)
    })
}

/// Registers of all widths.
fn registers() -> impl Iterator<Item = FieldInfo> {
    let regs = (0..32).map(|i| {
        let header = if i < 16 { "NXM_NX" } else { "NXOXM_ET" };
        numbered(OxmField::reg(i), 32, format!("reg{i}"), format!("{header}_REG{i}"))
    });
    let xregs =
        (0..16).map(|i| numbered(OxmField::xreg(i), 64, format!("xreg{i}"), format!("OXM_OF_PKT_REG{i}")));
    let xxregs = (0..8).map(|i| {
        let header = if i < 4 { "NXM_NX" } else { "NXOXM_ET" };
        numbered(OxmField::xxreg(i), 128, format!("xxreg{i}"), format!("{header}_XXREG{i}"))
    });
    regs.chain(xregs).chain(xxregs)
}

impl PartialEq for OxmField {
    fn eq(&self, other: &Self) -> bool {
        self.same(*other)
    }
}

impl Eq for OxmField {}

impl Hash for OxmField {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl PartialOrd for OxmField {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OxmField {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

/// The name that `move` and `learn` use; numbers for a field that is not in the table.
impl fmt::Display for OxmField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.info(), self.experimenter_id()) {
            (Some(info), _) => f.write_str(info.header_name),
            (None, None) => write!(f, "oxm_{:#06x}_{}", self.class.class, self.number),
            (None, Some(id)) => write!(f, "oxm_{id:#010x}_{}", self.number),
        }
    }
}

impl fmt::Debug for OxmField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
