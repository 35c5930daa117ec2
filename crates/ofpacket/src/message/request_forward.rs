//! What another controller changed.

use std::fmt::{self, Write};

use super::{Body, Message, encode_message};
use crate::wire::{Reader, Result, Sink, Writer};

/// Another controller's request, told to those who asked for it (OpenFlow 1.5, section 7.4.6): a group mod or
/// a meter mod.
///
/// ```text
/// +-----------------+
/// | a whole message |
/// +-----------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestForward {
    /// Of the request.
    pub xid: u32,
    /// The request.
    pub body: Box<Body>,
}

impl RequestForward {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let Message { xid, body } = Message::decode_within(r)?;
        Ok(Self { xid, body: Box::new(body) })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        encode_message(self.xid, &self.body, w);
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        match &*self.body {
            Body::GroupMod(change) => {
                out.write_str(" reason=group_mod")?;
                change.text(out)
            }
            Body::MeterMod(change) => {
                out.write_str(" reason=meter_mod")?;
                change.text(out)
            }
            body => {
                out.write_char('\n')?;
                body.message_text(self.xid, out)
            }
        }
    }
}
