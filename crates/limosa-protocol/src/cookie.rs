//! The cookie of every flow that Limosa owns.
//!
//! ```text
//!  63            32 31                      8 7    6 5        0
//! +----------------+-------------------------+------+----------+
//! | 0x4c494d4f     | migration               | role | purpose  |
//! +----------------+-------------------------+------+----------+
//! ```
//!
//! OVN's own cookies have 32 bits (`ovn/controller/ofctrl.c` takes them from
//! the UUID of the southbound row), so the upper half alone tells ours from
//! OVN's. One migration on a bridge:
//!
//! ```text
//! ovs-ofctl -O OpenFlow15 dump-flows br-int cookie=0x4c494d4f00002a00/0xffffffffffffff00
//! ```

use std::fmt;

use crate::object::Role;

/// "LIMO" in ASCII: the upper half of every cookie of ours.
pub const MAGIC: u64 = 0x4c49_4d4f << 32;
/// Masks the magic number: with [`MAGIC`], every flow of ours and no other.
pub const MAGIC_MASK: u64 = 0xffff_ffff << 32;
/// Masks magic number and migration: with [`Cookie::of_migration`], the flows
/// of one migration in every role.
pub const MIGRATION_MASK: u64 = !0xff;
/// The largest number that a migration may have; 0 is not used.
pub const MAX_MIGRATION: u32 = (1 << 24) - 1;

/// What a flow is there for; one flow, one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Purpose {
    /// Source, LOG_TO_PHY: to the guest, and a marked copy to the target.
    Mirror = 1,
    /// Source, table 0: frames of the guest on the target enter the source's pipeline.
    Reverse = 2,
    /// Target, table 0: what comes out of the target's interface is dropped.
    GateOut = 3,
    /// Target, delivery: mirrored packets are dropped.
    GateMirrored = 4,
    /// Target, LOG_TO_PHY: packets that arrive without the source are dropped.
    GateDirect = 5,
    /// Target, table 0: the guest's announcement; it opens the gate.
    Announce = 6,
    /// Target, table 0: what the guest sends goes through the source.
    DivertOut = 7,
    /// Target, delivery: mirrored packets reach the guest.
    DivertIn = 8,
    /// Any chassis, REMOTE_OUTPUT below OVN's: where the port is, while OVN has no flow for it.
    Guard = 9,
    /// Source, LOCAL_OUTPUT below OVN's: late tunnelled packets go on to the target.
    Relay = 10,
    /// Target, table 0: mirrored packets are recognised.
    Take = 11,
    /// Target, table 0: connections that the source tracks are tracked here as well.
    Commit = 12,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 12] = [
        Self::Mirror,
        Self::Reverse,
        Self::GateOut,
        Self::GateMirrored,
        Self::GateDirect,
        Self::Announce,
        Self::DivertOut,
        Self::DivertIn,
        Self::Guard,
        Self::Relay,
        Self::Take,
        Self::Commit,
    ];

    /// A stable name for metrics and programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Reverse => "reverse",
            Self::GateOut => "gate_out",
            Self::GateMirrored => "gate_mirrored",
            Self::GateDirect => "gate_direct",
            Self::Announce => "announce",
            Self::DivertOut => "divert_out",
            Self::DivertIn => "divert_in",
            Self::Guard => "guard",
            Self::Relay => "relay",
            Self::Take => "take",
            Self::Commit => "commit",
        }
    }
}

/// The parts of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie {
    /// The migration's number, 1 to [`MAX_MIGRATION`].
    pub migration: u32,
    /// Which part of the migration this chassis plays.
    pub role: Role,
    /// What the flow is there for.
    pub purpose: Purpose,
}

impl Cookie {
    /// The cookie that, with [`MIGRATION_MASK`], stands for all flows of a migration.
    #[must_use]
    pub const fn of_migration(migration: u32) -> u64 {
        MAGIC | ((migration & MAX_MIGRATION) as u64) << 8
    }

    /// True for every cookie that carries the magic number, known purpose or not.
    #[must_use]
    pub const fn is_ours(cookie: u64) -> bool {
        cookie & MAGIC_MASK == MAGIC
    }

    /// The migration that a cookie of ours names, whatever else it says.
    #[must_use]
    pub const fn migration_of(cookie: u64) -> u32 {
        (cookie >> 8) as u32 & MAX_MIGRATION
    }

    /// The 64 bits on the wire.
    #[must_use]
    pub const fn encode(self) -> u64 {
        Self::of_migration(self.migration) | (self.role as u64) << 6 | self.purpose as u64
    }

    /// The parts of a cookie of ours; `None` for a foreign one, or one that a
    /// newer version wrote with a purpose this one does not know.
    #[must_use]
    pub fn decode(cookie: u64) -> Option<Self> {
        if !Self::is_ours(cookie) {
            return None;
        }
        let role = match cookie >> 6 & 3 {
            1 => Role::Source,
            2 => Role::Target,
            3 => Role::Bystander,
            _ => return None,
        };
        let purpose = Purpose::ALL.into_iter().find(|p| *p as u64 == cookie & 0x3f)?;
        Some(Self { migration: Self::migration_of(cookie), role, purpose })
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cookie_both_ways() {
        for role in [Role::Source, Role::Target, Role::Bystander] {
            for purpose in Purpose::ALL {
                for migration in [1, 0x2a, MAX_MIGRATION] {
                    let cookie = Cookie { migration, role, purpose };
                    assert_eq!(Cookie::decode(cookie.encode()), Some(cookie));
                    assert_eq!(cookie.encode() & MIGRATION_MASK, Cookie::of_migration(migration));
                }
            }
        }
    }

    #[test]
    fn foreign_and_unknown_cookies() {
        assert_eq!(Cookie::decode(0xd00d_f00d), None, "OVN's cookies have 32 bits");
        assert_eq!(Cookie::decode(MAGIC | 0x2a00), None, "no role");
        assert_eq!(Cookie::decode(MAGIC | 0x2a00 | 1 << 6 | 0x3f), None, "a purpose of a later version");
        assert!(Cookie::is_ours(MAGIC | 0x2a00));
    }
}
