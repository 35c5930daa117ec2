//! Choosing one of several ports or links by a hash of the packet.

use crate::PortNo;
use crate::oxm::OxmField;
use crate::wire::{Reader, Result, Sink, Writer};

/// The fields that are hashed, by their number (`enum nx_hash_fields`), as `ovs-ofctl` calls them.
pub(crate) const HASH_FIELDS: [&str; 7] =
    ["eth_src", "symmetric_l4", "symmetric_l3l4", "symmetric_l3l4+udp", "nw_src", "nw_dst", "symmetric_l3"];
/// `enum nx_bd_algorithm`.
pub(crate) const BUNDLE_ALGORITHMS: [&str; 2] = ["active_backup", "hrw"];
/// `enum nx_mp_algorithm`.
pub(crate) const MULTIPATH_ALGORITHMS: [&str; 4] = ["modulo_n", "hash_threshold", "hrw", "iter_hash"];

/// Output to one of several ports that is up, or write its number to a field (`NXAST_BUNDLE`,
/// `NXAST_BUNDLE_LOAD`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bundle {
    /// How to choose: 0 the first that is up, 1 by highest random weight.
    pub algorithm: u16,
    /// What of the packet is hashed (`enum nx_hash_fields`).
    pub fields: u16,
    /// Another basis makes another hash.
    pub basis: u16,
    /// The ports.
    pub members: Vec<PortNo>,
    /// Field, first bit and number of bits that the port's number is written to; output if absent.
    pub dst: Option<(OxmField, u16, u16)>,
}

/// Write the number of one of several links to a field (`NXAST_MULTIPATH`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Multipath {
    /// What of the packet is hashed (`enum nx_hash_fields`).
    pub fields: u16,
    /// Another basis makes another hash.
    pub basis: u16,
    /// How to choose (`enum nx_mp_algorithm`).
    pub algorithm: u16,
    /// The highest number of a link.
    pub max_link: u16,
    /// What the algorithm takes besides.
    pub arg: u32,
    /// Field, first bit and number of bits that the link's number is written to.
    pub dst: (OxmField, u16, u16),
}

pub(super) const MULTIPATH: u16 = 10;
pub(super) const BUNDLE: u16 = 12;
pub(super) const BUNDLE_LOAD: u16 = 13;

impl Bundle {
    /// ```text
    /// +-----------+--------+-------+---------------------+-----------+
    /// | algorithm | fields | basis | type: in_port (32)  | n members |
    /// +-----------+--------+-------+---------------------+-----------+
    /// | bits of destination | destination's header (32) | 0 (32)     |
    /// +---------------------+---------------------------+------------+
    /// | members (16) ...                                             |
    /// +--------------------------------------------------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>, load: bool) -> Result<Self> {
        let (algorithm, fields, basis) = (r.u16()?, r.u16()?, r.u16()?);
        let member_type = OxmField::decode(r)?;
        if member_type != OxmField::NXM_IN_PORT {
            return Err(r.bad_value(member_type.number()));
        }
        let n = r.u16()?;
        let (ofs, n_bits) = r.bit_range()?;
        let dst = OxmField::decode(r)?;
        r.skip(4)?;
        let members = (0..n).map(|_| r.u16().map(PortNo::from_u16)).collect::<Result<_>>()?;
        Ok(Self { algorithm, fields, basis, members, dst: load.then_some((dst, ofs, n_bits)) })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) -> u16 {
        w.u16(self.algorithm);
        w.u16(self.fields);
        w.u16(self.basis);
        OxmField::NXM_IN_PORT.encode(w);
        w.len16(self.members.len(), "bundle");
        match self.dst {
            Some((field, ofs, n_bits)) => {
                w.bit_range(ofs, n_bits);
                field.encode(w);
            }
            None => w.zeros(6),
        }
        w.zeros(4);
        self.members.iter().for_each(|&port| w.port16(port));
        if self.dst.is_some() { BUNDLE_LOAD } else { BUNDLE }
    }

    pub(super) fn canonical(self) -> Self {
        let dst = self.dst.map(|(field, ofs, n_bits)| (field.preferred(), ofs, n_bits));
        Self { dst, ..self }
    }
}

impl Multipath {
    /// ```text
    /// +--------+-------+---+-----------+----------+-----+---+------+------------------+
    /// | fields | basis | 0 | algorithm | max link | arg | 0 | bits | destination (32) |
    /// |        |       |16 |           |          | 32  |16 |      |                  |
    /// +--------+-------+---+-----------+----------+-----+---+------+------------------+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (fields, basis) = (r.u16()?, r.u16()?);
        r.skip(2)?;
        let (algorithm, max_link, arg) = (r.u16()?, r.u16()?, r.u32()?);
        r.skip(2)?;
        let (ofs, n_bits) = r.bit_range()?;
        let dst = (OxmField::decode(r)?, ofs, n_bits);
        Ok(Self { fields, basis, algorithm, max_link, arg, dst })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) -> u16 {
        let (field, ofs, n_bits) = self.dst;
        w.u16(self.fields);
        w.u16(self.basis);
        w.zeros(2);
        w.u16(self.algorithm);
        w.u16(self.max_link);
        w.u32(self.arg);
        w.zeros(2);
        w.bit_range(ofs, n_bits);
        field.encode(w);
        MULTIPATH
    }

    pub(super) fn canonical(self) -> Self {
        let (field, ofs, n_bits) = self.dst;
        Self { dst: (field.preferred(), ofs, n_bits), ..self }
    }
}
