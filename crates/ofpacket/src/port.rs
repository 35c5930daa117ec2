//! Port numbers.

use std::fmt;

/// An OpenFlow port number of 32 bits (OpenFlow 1.5, section 7.2.1, `ofp_port_no`).
///
/// Open vSwitch numbers real ports from 1 to 0xfeff and maps the reserved ports to the top of 16 bits in
/// its own extensions; [`PortNo::from_u16`] and [`PortNo::to_u16`] translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortNo(pub u32);

impl PortNo {
    /// No output port set yet: only a value of the match field `actset_output`.
    pub const UNSET: Self = Self(0xffff_fff7);
    /// The port that the packet came in on; the only way to send it back there.
    pub const IN_PORT: Self = Self(0xffff_fff8);
    /// Packet-out only: through the flow tables.
    pub const TABLE: Self = Self(0xffff_fff9);
    /// By the bridge's own MAC learning.
    pub const NORMAL: Self = Self(0xffff_fffa);
    /// All ports but the input and those with flooding off.
    pub const FLOOD: Self = Self(0xffff_fffb);
    /// All ports but the input.
    pub const ALL: Self = Self(0xffff_fffc);
    /// A packet-in to the controllers.
    pub const CONTROLLER: Self = Self(0xffff_fffd);
    /// The bridge's own interface.
    pub const LOCAL: Self = Self(0xffff_fffe);
    /// No port: a wildcard in requests.
    pub const ANY: Self = Self(0xffff_ffff);

    /// Reserved ports are the last eight numbers, in 16 bits as in 32.
    const RESERVED_BIAS: u32 = 0xffff_0000;

    /// The port that the 16-bit number of an extension stands for.
    pub fn from_u16(port: u16) -> Self {
        let port = u32::from(port);
        Self(if port >= 0xff00 { port | Self::RESERVED_BIAS } else { port })
    }

    /// The 16-bit number of this port, unless it is one that 16 bits cannot hold.
    pub fn to_u16(self) -> Option<u16> {
        match self.0 {
            0..0xff00 | 0xffff_ff00.. => Some((self.0 & 0xffff) as u16),
            _ => None,
        }
    }

    /// The name of a reserved port, as `ovs-ofctl` writes it.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::UNSET => "UNSET",
            Self::IN_PORT => "IN_PORT",
            Self::TABLE => "TABLE",
            Self::NORMAL => "NORMAL",
            Self::FLOOD => "FLOOD",
            Self::ALL => "ALL",
            Self::CONTROLLER => "CONTROLLER",
            Self::LOCAL => "LOCAL",
            Self::ANY => "ANY",
            _ => return None,
        })
    }

    /// Whether this is one of the constants above, not a port that packets enter by.
    pub fn is_reserved(self) -> bool {
        self.0 >= 0xffff_ff00
    }
}

impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl From<u32> for PortNo {
    fn from(port: u32) -> Self {
        Self(port)
    }
}

impl From<u16> for PortNo {
    fn from(port: u16) -> Self {
        Self::from_u16(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_and_back() {
        for (short, long, text) in [
            (1, 1, "1"),
            (0xfeff, 0xfeff, "65279"),
            (0xfff8, 0xffff_fff8, "IN_PORT"),
            (0xfffd, 0xffff_fffd, "CONTROLLER"),
            (0xfffe, 0xffff_fffe, "LOCAL"),
            (0xffff, 0xffff_ffff, "ANY"),
        ] {
            let port = PortNo::from_u16(short);
            assert_eq!((port, port.to_u16(), &port.to_string()[..]), (PortNo(long), Some(short), text));
        }
        assert_eq!([0xff00, 0x1_0000, 0xffff_feff].map(|port| PortNo(port).to_u16()), [None; 3]);
    }
}
