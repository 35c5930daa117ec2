//! Connection tracking and address translation.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Action, canonical_list, decode_nested, encode_list};
use crate::oxm::OxmField;
use crate::wire::{Reader, Result, Sink, Writer};

/// Through connection tracking (`NXAST_CT`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ct {
    /// [`Ct::COMMIT`], [`Ct::FORCE`].
    pub flags: u16,
    /// Which tracker.
    pub zone: CtZone,
    /// Go on with a copy of the packet in this table, once tracked.
    pub table: Option<u8>,
    /// The well-known port of the protocol whose helper to use; 0 for none.
    pub alg: u16,
    /// Done to the connection: `nat`, and `set_field` on `ct_mark` and `ct_label`.
    pub actions: Vec<Action>,
}

/// A conntrack zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CtZone {
    /// This one.
    Immediate(u16),
    /// The one in a field.
    Field {
        /// The field.
        field: OxmField,
        /// From which bit on.
        ofs: u16,
        /// How many bits.
        n_bits: u16,
    },
}

const NO_TABLE: u8 = 0xff;

impl Ct {
    /// Enter the connection into the tracker.
    pub const COMMIT: u16 = 1;
    /// Replace an entry of the opposite direction.
    pub const FORCE: u16 = 2;

    /// ```text
    /// +-------+----------------+---------------+-------+------+-----+-------------+
    /// | flags | zone's field or| zone or range | table | 0 0 0| alg | actions ... |
    /// |       |      0 (32)    |     of bits   |  (8)  |      |     |             |
    /// +-------+----------------+---------------+-------+------+-----+-------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>, depth: usize) -> Result<Self> {
        let flags = r.u16()?;
        let zone = if r.peek().starts_with(&[0; 4]) {
            r.skip(4)?;
            CtZone::Immediate(r.u16()?)
        } else {
            let field = OxmField::decode(r)?;
            let (ofs, n_bits) = r.bit_range()?;
            CtZone::Field { field, ofs, n_bits }
        };
        let table = Some(r.u8()?).filter(|&table| table != NO_TABLE);
        r.skip(3)?;
        let alg = r.u16()?;
        Ok(Self { flags, zone, table, alg, actions: decode_nested(r, depth + 1)? })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u16(self.flags);
        match self.zone {
            CtZone::Immediate(zone) => {
                w.u32(0);
                w.u16(zone);
            }
            CtZone::Field { field, ofs, n_bits } => {
                field.encode(w);
                w.bit_range(ofs, n_bits);
            }
        }
        w.u8(self.table.unwrap_or(NO_TABLE));
        w.zeros(3);
        w.u16(self.alg);
        encode_list(&self.actions, w);
    }

    pub(super) fn canonical(self) -> Self {
        let zone = match self.zone {
            CtZone::Field { field, ofs, n_bits } => CtZone::Field { field: field.preferred(), ofs, n_bits },
            immediate => immediate,
        };
        Self { zone, actions: canonical_list(&self.actions), ..self }
    }
}

/// Address translation within [`Ct`] (`NXAST_NAT`). The limits that are absent are the switch's choice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Nat {
    /// [`Nat::SRC`], [`Nat::DST`] and how to choose; 0 to apply what the connection has.
    pub flags: u16,
    /// Lowest and highest IPv4 address.
    pub ipv4: (Option<Ipv4Addr>, Option<Ipv4Addr>),
    /// Lowest and highest IPv6 address.
    pub ipv6: (Option<Ipv6Addr>, Option<Ipv6Addr>),
    /// Lowest and highest port.
    pub ports: (Option<u16>, Option<u16>),
}

impl Nat {
    /// Translate the source.
    pub const SRC: u16 = 1;
    /// Translate the destination.
    pub const DST: u16 = 2;
    /// The same choice after a restart.
    pub const PERSISTENT: u16 = 4;
    /// Choose the port by hash.
    pub const PROTO_HASH: u16 = 8;
    /// Choose the port at random.
    pub const PROTO_RANDOM: u16 = 16;

    /// A range of one is that one.
    pub(crate) fn canonical(self) -> Self {
        fn one<T: PartialEq>((min, max): (Option<T>, Option<T>)) -> (Option<T>, Option<T>) {
            let max = if max == min { None } else { max };
            (min, max)
        }
        Self { flags: self.flags, ipv4: one(self.ipv4), ipv6: one(self.ipv6), ports: one(self.ports) }
    }

    /// ```text
    /// +-----+-------+---------------+-----------------------------------------------------+
    /// | 0 0 | flags | range_present | IPv4 min, max, IPv6 min, max, port min, max, if so  |
    /// +-----+-------+---------------+-----------------------------------------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        r.skip(2)?;
        let flags = r.u16()?;
        let present = r.u16()?;
        let mut bit = 0;
        let mut next = || {
            bit += 1;
            present & 1 << (bit - 1) != 0
        };
        let mut v4 = |r: &mut Reader<'_>| next().then(|| r.u32().map(Ipv4Addr::from_bits)).transpose();
        let ipv4 = (v4(r)?, v4(r)?);
        let mut v6 = |r: &mut Reader<'_>| next().then(|| r.ipv6()).transpose();
        let ipv6 = (v6(r)?, v6(r)?);
        let mut port = |r: &mut Reader<'_>| next().then(|| r.u16()).transpose();
        let ports = (port(r)?, port(r)?);
        Ok(Self { flags, ipv4, ipv6, ports })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let present = [
            self.ipv4.0.is_some(),
            self.ipv4.1.is_some(),
            self.ipv6.0.is_some(),
            self.ipv6.1.is_some(),
            self.ports.0.is_some(),
            self.ports.1.is_some(),
        ];
        w.zeros(2);
        w.u16(self.flags);
        w.u16(present.iter().rev().fold(0, |bits, &present| bits << 1 | u16::from(present)));
        [self.ipv4.0, self.ipv4.1].into_iter().flatten().for_each(|addr| w.slice(&addr.octets()));
        [self.ipv6.0, self.ipv6.1].into_iter().flatten().for_each(|addr| w.slice(&addr.octets()));
        [self.ports.0, self.ports.1].into_iter().flatten().for_each(|port| w.u16(port));
    }
}
