//! Bundles: messages that take effect together.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::text::{Hex, bits};
use super::{Body, Message, encode_message};
use crate::wire::{Reader, Result, Sink, Writer};

wire_enum! {
    /// What to do with a bundle, or what was done.
    #[expect(missing_docs, reason = "the names say it")]
    BundleControlType: u16 {
        OpenRequest = 0 "OPEN_REQUEST",
        OpenReply = 1 "OPEN_REPLY",
        CloseRequest = 2 "CLOSE_REQUEST",
        CloseReply = 3 "CLOSE_REPLY",
        CommitRequest = 4 "COMMIT_REQUEST",
        CommitReply = 5 "COMMIT_REPLY",
        DiscardRequest = 6 "DISCARD_REQUEST",
        DiscardReply = 7 "DISCARD_REPLY",
    }
}

/// Open, close, commit or discard a bundle (OpenFlow 1.5, section 7.3.9).
///
/// ```text
/// +-----------+------+-------+----------------+
/// | bundle_id | type | flags | properties ... |
/// +-----------+------+-------+----------------+
/// ```
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

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        w.u32(self.bundle_id);
        w.u16(self.kind.to_wire());
        w.u16(self.flags);
        w.slice(&self.properties);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, "\n bundle_id={} type={}", Hex(self.bundle_id.into()), self.kind)?;
        flags_text(out, self.flags)
    }
}

fn flags_text(out: &mut String, flags: u16) -> fmt::Result {
    out.write_str(" flags=")?;
    let names = [(BundleControl::ATOMIC.into(), "atomic"), (BundleControl::ORDERED.into(), "ordered")];
    bits(out, flags.into(), &names, ' ')
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
        let message = Message::decode_within(r)?;
        if message.xid != xid {
            return Err(r.bad_value(message.xid));
        }
        Ok(Self { bundle_id, flags, body: Box::new(message.body), properties: r.rest() })
    }

    pub(super) fn encode(&self, xid: u32, w: &mut Writer<impl Sink>) {
        w.u32(self.bundle_id);
        w.zeros(2);
        w.u16(self.flags);
        encode_message(xid, &self.body, w);
        w.slice(&self.properties);
    }

    pub(super) fn text(&self, xid: u32, out: &mut String) -> fmt::Result {
        write!(out, "\n bundle_id={}", Hex(self.bundle_id.into()))?;
        flags_text(out, self.flags)?;
        out.write_char('\n')?;
        self.body.message_text(xid, out)?;
        out.write_char('\n')
    }
}
