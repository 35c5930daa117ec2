//! Samples of packets for IPFIX collectors.

use crate::PortNo;
use crate::oxm::OxmField;
use crate::wire::{Reader, Result, Sink, Writer};

/// Send a part of the packets to collectors (`NXAST_SAMPLE` and, where they are needed, `NXAST_SAMPLE2` to
/// `NXAST_SAMPLE4`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sample {
    /// Of 65535 packets so many are sampled; not 0.
    pub probability: u16,
    /// Which collectors (`Flow_Sample_Collector_Set`).
    pub collector_set_id: u32,
    /// The observation domain.
    pub obs_domain_id: SampleId,
    /// The observation point.
    pub obs_point_id: SampleId,
    /// Whose tunnel's information to send along; [`PortNo::ANY`] for none.
    pub sampling_port: PortNo,
    /// [`Sample::INGRESS`], [`Sample::EGRESS`], or 0 for what follows from the port.
    pub direction: u8,
}

/// A number that goes with a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleId {
    /// This one.
    Immediate(u32),
    /// The one in a field; Open vSwitch 3.4 and later.
    Field {
        /// The field.
        field: OxmField,
        /// From which bit on.
        ofs: u16,
        /// How many bits, at most 32.
        n_bits: u16,
    },
}

/// The forms of the action, by subtype.
pub(super) const SAMPLE: u16 = 29;
pub(super) const SAMPLE2: u16 = 38;
pub(super) const SAMPLE3: u16 = 41;
pub(super) const SAMPLE4: u16 = 51;

impl Sample {
    /// As the packet comes in.
    pub const INGRESS: u8 = 1;
    /// As the packet goes out.
    pub const EGRESS: u8 = 2;

    /// ```text
    /// +-------------+--------------------+-------------+------------+
    /// | probability | collector set (32) | domain (32) | point (32) |
    /// +-------------+--------------------+-------------+------------+
    /// | SAMPLE2 and later: port | SAMPLE3 and later: direction | 0  |
    /// +-------------------------+------------------------------+----+
    /// ```
    pub(super) fn decode(r: &mut Reader<'_>, subtype: u16) -> Result<Self> {
        let (probability, collector_set_id) = (r.u16()?, r.u32()?);
        let mut id = || match subtype {
            SAMPLE4 => SampleId::decode(r),
            _ => r.u32().map(SampleId::Immediate),
        };
        let (obs_domain_id, obs_point_id) = (id()?, id()?);
        let sampling_port = if subtype == SAMPLE { PortNo::ANY } else { PortNo::from_u16(r.u16()?) };
        let direction = if subtype == SAMPLE { 0 } else { r.u8()? };
        Ok(Self { probability, collector_set_id, obs_domain_id, obs_point_id, sampling_port, direction })
    }

    /// Writes the arguments in the oldest form that has room for them; returns which one.
    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) -> u16 {
        w.u16(self.probability);
        w.u32(self.collector_set_id);
        let subtype = match (self.obs_domain_id, self.obs_point_id) {
            (SampleId::Immediate(domain), SampleId::Immediate(point)) => {
                w.u32(domain);
                w.u32(point);
                match (self.direction, self.sampling_port) {
                    (0, PortNo::ANY) => return SAMPLE,
                    (0, _) => SAMPLE2,
                    _ => SAMPLE3,
                }
            }
            (domain, point) => {
                domain.encode(w);
                point.encode(w);
                SAMPLE4
            }
        };
        w.port16(self.sampling_port);
        w.u8(self.direction);
        subtype
    }

    pub(super) fn canonical(self) -> Self {
        let (domain, point) = (self.obs_domain_id.canonical(), self.obs_point_id.canonical());
        Self { obs_domain_id: domain, obs_point_id: point, ..self }
    }
}

impl SampleId {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        if r.peek().starts_with(&[0; 4]) {
            r.skip(4)?;
            return Ok(Self::Immediate(r.u32()?));
        }
        let field = OxmField::decode(r)?;
        let (ofs, n_bits) = r.bit_range()?;
        r.skip(2)?;
        Ok(Self::Field { field, ofs, n_bits })
    }

    fn encode(self, w: &mut Writer<impl Sink>) {
        match self {
            Self::Immediate(id) => {
                w.u32(0);
                w.u32(id);
            }
            Self::Field { field, ofs, n_bits } => {
                field.encode(w);
                w.bit_range(ofs, n_bits);
                w.zeros(2);
            }
        }
    }

    fn canonical(self) -> Self {
        match self {
            Self::Field { field, ofs, n_bits } => Self::Field { field: field.preferred(), ofs, n_bits },
            immediate => immediate,
        }
    }
}
