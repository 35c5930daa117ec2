//! HELLO, features and configuration: what is said first.

use std::fmt::{self, Write};

use bytes::{Bytes, BytesMut};

use super::text::{self, hex_dump};
use crate::error::DecodeErrorKind;
use crate::wire::{Reader, Result, Sink, Writer};

/// The first message of either side (OpenFlow 1.5, section 7.5.1).
///
/// What its elements say must not keep two sides from agreeing upon a version: they are kept as they came, and
/// read as far as that goes.
///
/// ```
/// use ofpacket::Hello;
///
/// let hello = Hello::new(6, &[1 << 6 | 1 << 4]);
/// assert!(hello.speaks(6) && hello.speaks(4) && !hello.speaks(5));
/// // Who says no more than a version speaks all up to that one.
/// assert!(Hello::new(4, &[]).speaks(3) && !Hello::new(4, &[]).speaks(6));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// The version byte of the header: the highest version that the sender speaks.
    pub version: u8,
    /// What follows the header: elements of type, length and contents, padded to eight bytes.
    pub elements: Bytes,
}

const VERSION_BITMAP: u16 = 1;

impl Hello {
    /// Speaks the versions of which a bit is set: bit `n` of `bitmaps[i]` for version `32 * i + n`. Without
    /// bitmaps, all up to `version`. More than 16,381 bitmaps do not fit a message.
    pub fn new(version: u8, bitmaps: &[u32]) -> Self {
        let mut buf = BytesMut::new();
        if !bitmaps.is_empty() {
            let mut w = Writer::new(&mut buf);
            w.property(VERSION_BITMAP, "hello", |w| bitmaps.iter().for_each(|&bits| w.u32(bits)));
        }
        Self { version, elements: buf.freeze() }
    }

    /// Speaks OpenFlow 1.5 and nothing else.
    pub fn only_1_5() -> Self {
        Self::new(super::VERSION, &[1 << super::VERSION])
    }

    /// Whether the sender speaks this version.
    pub fn speaks(&self, version: u8) -> bool {
        let (bitmaps, _) = self.bitmaps();
        match bitmaps.get(usize::from(version / 32)) {
            Some(bitmap) => bitmap & 1 << (version % 32) != 0,
            // Without bitmaps, every version up to the one in the header; with them, none that they lack.
            None => bitmaps.is_empty() && version <= self.version,
        }
    }

    /// The last bitmaps that can be read, and whether there is nothing else
    /// (`ofputil_decode_hello()` in Open vSwitch's `lib/ofp-util.c`).
    fn bitmaps(&self) -> (Vec<u32>, bool) {
        let (mut bitmaps, mut all, mut rest) = (Vec::new(), true, &self.elements[..]);
        while let Some(&[k0, k1, l0, l1]) = rest.first_chunk() {
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            let (Some(words), Some(tail)) = (rest.get(4..len), rest.get(len.next_multiple_of(8)..)) else {
                break;
            };
            let (words, odd) = words.as_chunks();
            match u16::from_be_bytes([k0, k1]) == VERSION_BITMAP && !words.is_empty() && odd.is_empty() {
                true => bitmaps = words.iter().copied().map(u32::from_be_bytes).collect(),
                false => all = false,
            }
            rest = tail;
        }
        (bitmaps, all && rest.is_empty())
    }

    pub(super) fn decode(version: u8, r: &mut Reader<'_>) -> Self {
        Self { version, elements: r.rest() }
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.slice(&self.elements);
    }

    /// The versions; if there is more than that, all bytes of the message.
    pub(super) fn text(&self, out: &mut String, message: &[u8]) -> fmt::Result {
        out.write_str("\n version bitmap: ")?;
        let (bitmaps, all) = self.bitmaps();
        let first = bitmaps.first().map_or(0, |bitmap| bitmap & !1);
        let spoken: Vec<_> = match first {
            0 => (1..=self.version).collect(),
            _ => (1..32).filter(|version| first & 1 << version != 0).collect(),
        };
        let spoken: Vec<_> = spoken.iter().map(|version| format!("{version:#04x}")).collect();
        out.write_str(&spoken.join(", "))?;
        if all && (first != 0 || bitmaps.is_empty()) {
            return Ok(());
        }
        out.write_str("\n unknown data in hello:\n")?;
        hex_dump(out, message)
    }
}

/// What a switch is (OpenFlow 1.5, section 7.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Its identity, unique in a network.
    pub datapath_id: u64,
    /// Packets that it buffers; Open vSwitch has none.
    pub n_buffers: u32,
    /// Tables.
    pub n_tables: u8,
    /// Which of the connections to this controller; 0 for the main one.
    pub auxiliary_id: u8,
    /// `ofp_capabilities`. Open vSwitch never sets the bit for flow monitoring, which it has.
    pub capabilities: u32,
}

impl Features {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let datapath_id = r.u64()?;
        let n_buffers = r.u32()?;
        let (n_tables, auxiliary_id) = (r.u8()?, r.u8()?);
        r.skip(2)?;
        let capabilities = r.u32()?;
        r.skip(4)?;
        Ok(Self { datapath_id, n_buffers, n_tables, auxiliary_id, capabilities })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u64(self.datapath_id);
        w.u32(self.n_buffers);
        w.u8(self.n_tables);
        w.u8(self.auxiliary_id);
        w.zeros(2);
        w.u32(self.capabilities);
        w.zeros(4);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let Self { n_tables, n_buffers, .. } = self;
        write!(out, " dpid:{:016x}\nn_tables:{n_tables}, n_buffers:{n_buffers}", self.datapath_id)?;
        if self.auxiliary_id != 0 {
            write!(out, ", auxiliary_id:{}", self.auxiliary_id)?;
        }
        out.write_str("\ncapabilities: ")?;
        const NAMES: [(u32, &str); 9] = [
            (1, "FLOW_STATS"),
            (2, "TABLE_STATS"),
            (4, "PORT_STATS"),
            (8, "GROUP_STATS"),
            (32, "IP_REASM"),
            (64, "QUEUE_STATS"),
            (256, "PORT_BLOCKED"),
            (512, "BUNDLES"),
            (1024, "FLOW_MONITORING"),
        ];
        let known = NAMES.iter().fold(0, |bits, (bit, _)| bits | bit);
        text::bits(out, self.capabilities & known, &NAMES, ' ')?;
        out.write_char('\n')
    }
}

/// How a switch is set (OpenFlow 1.5, section 7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchConfig {
    /// What is done to IP fragments, for the whole bridge: 0 normal, 1 drop, 2 reassemble, 3 match.
    pub flags: u16,
    /// Bytes of a packet to send to this controller on a table miss. Open vSwitch sends asynchronous
    /// messages to a connection of the kind that `ovs-ofctl` makes only if this is not 0.
    pub miss_send_len: u16,
}

impl SwitchConfig {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        if r.len() != 4 {
            return Err(r.error(DecodeErrorKind::BadLength(r.len())));
        }
        Ok(Self { flags: r.u16()?, miss_send_len: r.u16()? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.flags);
        w.u16(self.miss_send_len);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        let frags = ["normal", "drop", "reassemble", "nx-match"][usize::from(self.flags & 3)];
        writeln!(out, " frags={frags} miss_send_len={}", self.miss_send_len)
    }
}
