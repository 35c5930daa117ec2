//! Roles, asynchronous messages, bundles.

use bytes::Bytes;

use super::{Body, Message, encode_message};
use crate::wire::{Reader, Result, Writer};

/// What a controller may do (OpenFlow 1.5, section 7.3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// In a request: leave it as it is.
    NoChange,
    /// Everything, as all others of this role.
    Equal,
    /// Everything, and all who were it become secondary.
    Primary,
    /// Read only.
    Secondary,
    /// Any other number.
    Other(u32),
}

/// A role, asked for or told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleMessage {
    /// The role.
    pub role: Role,
    /// Of the election; a switch refuses older ones.
    pub generation_id: u64,
}

impl RoleMessage {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let role = match r.u32()? {
            0 => Role::NoChange,
            1 => Role::Equal,
            2 => Role::Primary,
            3 => Role::Secondary,
            other => Role::Other(other),
        };
        r.skip(4)?;
        Ok(Self { role, generation_id: r.u64()? })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.u32(match self.role {
            Role::NoChange => 0,
            Role::Equal => 1,
            Role::Primary => 2,
            Role::Secondary => 3,
            Role::Other(other) => other,
        });
        w.zeros(4);
        w.u64(self.generation_id);
    }
}

/// Which asynchronous messages a connection gets (OpenFlow 1.5, section 7.3.10): for each kind of message a
/// set of reasons, as bits. Kinds that are left out stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AsyncConfig(pub Vec<(u16, u32)>);

impl AsyncConfig {
    /// Packet-ins, for a role other than secondary.
    pub const PACKET_IN: u16 = 1;
    /// Port status, for a role other than secondary.
    pub const PORT_STATUS: u16 = 3;
    /// Flow removed, for a role other than secondary.
    pub const FLOW_REMOVED: u16 = 5;
    /// Role status, for a role other than secondary.
    pub const ROLE_STATUS: u16 = 7;
    /// Table status, for a role other than secondary.
    pub const TABLE_STATUS: u16 = 9;
    /// Requests of others, for a role other than secondary.
    pub const REQUEST_FORWARD: u16 = 11;

    /// The reasons for this kind of message, if it is there.
    pub fn get(&self, kind: u16) -> Option<u32> {
        self.0.iter().find(|(k, _)| *k == kind).map(|&(_, reasons)| reasons)
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut out = Vec::new();
        while !r.is_empty() {
            let (kind, mut body) = r.property("async config")?;
            out.push((kind, body.u32()?));
            body.finish()?;
        }
        Ok(Self(out))
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        for &(kind, reasons) in &self.0 {
            w.property(kind, "async config", |w| w.u32(reasons));
        }
    }
}

/// What to do with a bundle, or what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub enum BundleControlType {
    OpenRequest,
    OpenReply,
    CloseRequest,
    CloseReply,
    CommitRequest,
    CommitReply,
    DiscardRequest,
    DiscardReply,
    /// Any other number.
    Other(u16),
}

impl BundleControlType {
    const ALL: [Self; 8] = [
        Self::OpenRequest,
        Self::OpenReply,
        Self::CloseRequest,
        Self::CloseReply,
        Self::CommitRequest,
        Self::CommitReply,
        Self::DiscardRequest,
        Self::DiscardReply,
    ];

    fn from_wire(kind: u16) -> Self {
        Self::ALL.get(usize::from(kind)).copied().unwrap_or(Self::Other(kind))
    }

    fn to_wire(self) -> u16 {
        match self {
            Self::OpenRequest => 0,
            Self::OpenReply => 1,
            Self::CloseRequest => 2,
            Self::CloseReply => 3,
            Self::CommitRequest => 4,
            Self::CommitReply => 5,
            Self::DiscardRequest => 6,
            Self::DiscardReply => 7,
            Self::Other(other) => other,
        }
    }
}

/// Open, close, commit or discard a bundle (OpenFlow 1.5, section 7.3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleControl {
    /// The controller's number for it.
    pub bundle_id: u32,
    /// What to do.
    pub kind: BundleControlType,
    /// [`BundleControl::ATOMIC`], [`BundleControl::ORDERED`]; the same in all messages of a bundle.
    pub flags: u16,
    /// As they were.
    pub properties: Bytes,
}

impl BundleControl {
    /// All or nothing, and packets see all or nothing.
    pub const ATOMIC: u16 = 1;
    /// In the order given.
    pub const ORDERED: u16 = 2;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            bundle_id: r.u32()?,
            kind: BundleControlType::from_wire(r.u16()?),
            flags: r.u16()?,
            properties: r.rest(),
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.bundle_id);
        w.u16(self.kind.to_wire());
        w.u16(self.flags);
        w.slice(&self.properties);
    }
}

/// Put a message into a bundle (OpenFlow 1.5, section 7.3.9.6). The message within has the same xid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleAdd {
    /// Into this one.
    pub bundle_id: u32,
    /// Of the bundle.
    pub flags: u16,
    /// The message.
    pub body: Box<Body>,
    /// As they were, with the padding before them.
    pub properties: Bytes,
}

impl BundleAdd {
    /// ```text
    /// +-----------+---+-------+------------------+---------------------------+
    /// | bundle_id | 0 | flags | a whole message  | padding and properties    |
    /// +-----------+---+-------+------------------+---------------------------+
    /// ```
    pub(super) fn decode(xid: u32, r: &mut Reader<'_>) -> Result<Self> {
        let bundle_id = r.u32()?;
        r.skip(2)?;
        let flags = r.u16()?;
        let message = Message::decode_from(r, false)?;
        if message.xid != xid {
            return Err(r.bad_value(message.xid));
        }
        Ok(Self { bundle_id, flags, body: Box::new(message.body), properties: r.rest() })
    }

    pub(super) fn encode(&self, xid: u32, w: &mut Writer<'_>) {
        w.u32(self.bundle_id);
        w.zeros(2);
        w.u16(self.flags);
        encode_message(xid, &self.body, w);
        w.slice(&self.properties);
    }
}
