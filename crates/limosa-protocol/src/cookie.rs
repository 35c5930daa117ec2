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
    /// Any chassis, REMOTE_OUTPUT above OVN's: packets for the port take one of two ways, where OVN would send
    /// them both.
    Steer = 13,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 13] = [
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
        Self::Steer,
    ];

    /// A stable name for metrics and programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.meaning().label
    }

    /// What a flow of this purpose does, where, and why it is there.
    #[must_use]
    pub const fn meaning(self) -> Meaning {
        match self {
            Self::Mirror => Meaning {
                label: "mirror",
                table: "LOG_TO_PHY",
                what: "gives what is accepted for the port to the guest, and a marked copy to the target",
                why: "wherever the guest runs at this moment, each packet for it is there; the source's policy has judged it already",
            },
            Self::Reverse => Meaning {
                label: "reverse",
                table: "0",
                what: "takes what the guest has sent on the target as if it came from its interface here",
                why: "until the switch the source's policy and connection tracking decide on what the guest sends",
            },
            Self::GateOut => Meaning {
                label: "gate_out",
                table: "0",
                what: "drops what comes out of the guest's interface",
                why: "nothing may speak for the guest from here before it has announced itself",
            },
            Self::GateMirrored => Meaning {
                label: "gate_mirrored",
                table: "253",
                what: "drops what the source mirrors",
                why: "the guest does not run here yet, or takes its packets directly by now",
            },
            Self::GateDirect => Meaning {
                label: "gate_direct",
                table: "LOG_TO_PHY",
                what: "drops what arrives for the guest without the source",
                why: "it comes once more as a mirrored packet; the guest would have it twice",
            },
            Self::Announce => Meaning {
                label: "announce",
                table: "0",
                what: "opens the gate when the guest announces itself (RARP), tells the agent, and sends the announcement on to the source",
                why: "QEMU sends it before the guest's first instruction here; the switch needs no controller to act on it",
            },
            Self::DivertOut => Meaning {
                label: "divert_out",
                table: "0",
                what: "sends what the guest sends to the source, into its pipeline",
                why: "the source knows the guest's connections; the target's own flows may not stand yet",
            },
            Self::DivertIn => Meaning {
                label: "divert_in",
                table: "253",
                what: "gives what the source mirrors to the guest",
                why: "the guest runs here, and the other chassis still send to the source",
            },
            Self::Guard => Meaning {
                label: "guard",
                table: "REMOTE_OUTPUT",
                what: "sends packets for the port to the chassis that has it, where OVN has no flow for them",
                why: "ovn-controller deletes a remote port's flow milliseconds before it adds the new one",
            },
            Self::Relay => Meaning {
                label: "relay",
                table: "LOCAL_OUTPUT",
                what: "sends packets that still arrive here on to the target, where OVN has no flow for them",
                why: "their sender has never followed the bind, and knows of this chassis alone",
            },
            Self::Take => Meaning {
                label: "take",
                table: "0",
                what: "recognises what the source mirrors, by the mark in the Geneve option",
                why: "mirrored packets have been judged already, and go past OVN's pipeline to the guest, or nowhere",
            },
            Self::Commit => Meaning {
                label: "commit",
                table: "0",
                what: "tracks the connections that the source sends, and lets nothing of them out",
                why: "to the target's policy an answer in a connection that it does not know is a stranger",
            },
            Self::Steer => Meaning {
                label: "steer",
                table: "REMOTE_OUTPUT",
                what: "sends packets for the port to the source alone, and to the target alone once that takes them; ends by itself",
                why: "OVN sends to both while the port is bound on both, and the guest would have twice what is under way at the switch",
            },
        }
    }
}

/// What people and programs are told of a [`Purpose`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// A stable name for metrics and programs.
    pub label: &'static str,
    /// The table: a number, or OVN's name of one whose number its release decides.
    pub table: &'static str,
    /// What the flow does.
    pub what: &'static str,
    /// Why it is there.
    pub why: &'static str,
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

    /// The table in docs/flows.md; `LIMOSA_RENEW=1` writes it anew.
    #[test]
    fn the_documentation_has_every_purpose() {
        const BEGIN: &str =
            "<!-- purposes: begin (renewed by LIMOSA_RENEW=1 cargo test -p limosa-protocol cookie) -->\n";
        const END: &str = "<!-- purposes: end -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/flows.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (head, rest) = document.split_once(BEGIN).unwrap();
        let (table, tail) = rest.split_once(END).unwrap();
        let rows = Purpose::ALL.map(|purpose| {
            let Meaning { label, table, what, why } = purpose.meaning();
            format!("| {} | `{label}` | {table} | {what} | {why} |\n", purpose as u8)
        });
        let made = format!("| | purpose | table | what | why |\n|---|---|---|---|---|\n{}", rows.concat());
        if std::env::var_os("LIMOSA_RENEW").is_some() {
            return std::fs::write(path, format!("{head}{BEGIN}{made}{END}{tail}")).unwrap();
        }
        assert_eq!(table, made, "renew it: LIMOSA_RENEW=1 cargo test -p limosa-protocol cookie");
    }
}
