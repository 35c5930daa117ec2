//! One atomic bundle, from its opening to its end.
//!
//! ```text
//! OPEN ADD ADD ... CLOSE  ->            xid: n, n+1, n+2, ... n+1+messages
//!                         <-  [ERROR with the xid of an ADD] ... OPEN reply, CLOSE reply
//! COMMIT or DISCARD       ->            xid: n+2+messages
//!                         <-  [ERROR with the xid of an ADD, ERROR] or COMMIT reply
//! ```
//!
//! An ADD that cannot be decoded is refused at once, and the bundle goes on without it: a COMMIT that was
//! sent along would carry out the rest. So everything up to CLOSE is sent without waiting, and COMMIT only
//! when the reply to CLOSE shows that every ADD is in. On a local socket that costs some 20 microseconds.
//!
//! The ADDs are encoded while the switch reads, never more than [`FILL`] bytes ahead of it.

use bytes::{BufMut, Bytes, BytesMut};
use ofpacket::{
    Body, BundleControl, BundleControlType, EncodeError, FlowMod, HEADER_LEN, Message, OfError,
    OfErrorNumber, VERSION,
};

use crate::machine::Messages;
use crate::{BundleError, CloseReason, Error};

const FLAGS: u16 = BundleControl::ATOMIC | BundleControl::ORDERED;
/// `OFPT_BUNDLE_ADD_MESSAGE`.
const BUNDLE_ADD: u8 = 34;
/// Bytes to have ready for the socket; Linux gives a Unix socket some 200 KiB.
pub(crate) const FILL: usize = 128 << 10;
/// Errors to keep of a bundle; with one more its rest is not sent.
const MAX_ERRORS: usize = 1024;
/// Bytes to keep of an error's data, which is what Open vSwitch sends.
const MAX_ERROR_DATA: usize = 64;

/// A bundle on its way.
#[derive(Debug)]
pub(crate) struct Bundle {
    first_xid: u32,
    /// How many messages it has.
    len: u32,
    opened: bool,
    /// Those that are yet to be sent.
    rest: Rest,
    errors: Vec<(usize, OfError)>,
    open_refused: Option<OfError>,
    close_refused: Option<OfError>,
    committing: bool,
}

/// Messages of one kind that are taken out one by one.
#[derive(Debug)]
enum Rest {
    Flows(std::vec::IntoIter<FlowMod>),
    Any(std::vec::IntoIter<Body>),
}

impl Iterator for Rest {
    type Item = Body;

    fn next(&mut self) -> Option<Body> {
        match self {
            Self::Flows(mods) => mods.next().map(Body::FlowMod),
            Self::Any(bodies) => bodies.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Flows(mods) => mods.size_hint(),
            Self::Any(bodies) => bodies.size_hint(),
        }
    }
}

impl ExactSizeIterator for Rest {}

/// What follows from a message or from the end of the time.
#[derive(Debug)]
pub(crate) enum Step {
    /// Wait.
    Wait,
    /// Send this, and wait.
    Send(Message),
    /// Send this if there is any, and it has ended so.
    End(Option<Message>, Result<(), BundleError>),
}

impl Bundle {
    /// How many xids it takes for so many messages: for OPEN, CLOSE, and COMMIT or DISCARD beside them.
    pub(crate) fn xids(len: usize) -> usize {
        len.saturating_add(3)
    }

    /// Begins with the first of its xids. What is to be sent comes out of [`feed`](Self::feed).
    pub(crate) fn new(first_xid: u32, messages: Messages) -> Self {
        let len = messages.len() as u32;
        let rest = match messages {
            Messages::Flows(mods) => Rest::Flows(mods.into_iter()),
            Messages::Any(bodies) => Rest::Any(bodies.into_iter()),
        };
        Self {
            first_xid,
            len,
            opened: false,
            rest,
            errors: Vec::new(),
            open_refused: None,
            close_refused: None,
            committing: false,
        }
    }

    /// Appends messages until there are enough of them, from OPEN to CLOSE; true if that was sent.
    ///
    /// # Errors
    /// This message does not fit: the bundle is to be given up with [`too_large`](Self::too_large).
    pub(crate) fn feed(&mut self, buf: &mut BytesMut) -> Result<bool, (usize, EncodeError)> {
        if !self.opened {
            let open = self.control(self.first_xid, BundleControlType::OpenRequest);
            open.encode_into(buf).map_err(|error| (0, error))?;
            self.opened = true;
        }
        while buf.len() < FILL {
            let index = self.len as usize - self.rest.len();
            let Some(body) = self.rest.next() else {
                let close = self.control(self.first_xid + 1 + self.len, BundleControlType::CloseRequest);
                return close.encode_into(buf).map(|()| true).map_err(|error| (index, error));
            };
            let xid = self.first_xid + 1 + index as u32;
            put_add(buf, self.first_xid, Message { xid, body }).map_err(|error| (index, error))?;
        }
        Ok(false)
    }

    fn control(&self, xid: u32, kind: BundleControlType) -> Message {
        let properties = Bytes::new();
        let control = BundleControl { bundle_id: self.first_xid, kind, flags: FLAGS, properties };
        Message { xid, body: Body::BundleControl(control) }
    }

    fn last(&self, kind: BundleControlType) -> Message {
        self.control(self.first_xid + 2 + self.len, kind)
    }

    /// Sends nothing more of it but CLOSE, whose answer comes after all errors.
    fn skip_rest(&mut self) {
        self.rest.by_ref().for_each(drop);
    }

    pub(crate) fn reply(&mut self, kind: BundleControlType) -> Step {
        match kind {
            BundleControlType::CloseReply if !self.committing => self.closed(),
            BundleControlType::CommitReply if self.committing => Step::End(None, Ok(())),
            _ => Step::Wait,
        }
    }

    /// All ADDs are in, or were refused.
    fn closed(&mut self) -> Step {
        match self.outcome() {
            None => {
                self.committing = true;
                Step::Send(self.last(BundleControlType::CommitRequest))
            }
            Some(error) => Step::End(Some(self.last(BundleControlType::DiscardRequest)), Err(error)),
        }
    }

    /// What was refused so far. Without OPEN nothing could be added either.
    fn outcome(&mut self) -> Option<BundleError> {
        if let Some(error) = self.open_refused.take() {
            return Some(BundleError::Refused(error));
        }
        if !self.errors.is_empty() {
            return Some(BundleError::Rejected(std::mem::take(&mut self.errors)));
        }
        self.close_refused.take().map(BundleError::Refused)
    }

    pub(crate) fn error(&mut self, xid: u32, mut error: OfError) -> Step {
        if error.data.len() > MAX_ERROR_DATA {
            error.data = Bytes::copy_from_slice(&error.data[..MAX_ERROR_DATA]);
        }
        let Some(index) = (xid - self.first_xid).checked_sub(1) else {
            self.open_refused.get_or_insert(error);
            self.skip_rest();
            return Step::Wait;
        };
        if index < self.len {
            match self.errors.len() < MAX_ERRORS {
                true => self.errors.push((index as usize, error)),
                false => self.skip_rest(),
            }
            return Step::Wait;
        }
        if index == self.len {
            self.close_refused.get_or_insert(error);
            return self.closed();
        }
        // COMMIT: an error of the message that failed came before.
        let failed = self.outcome().unwrap_or(BundleError::Refused(error));
        Step::End(None, Err(failed))
    }

    pub(crate) fn too_large(&self, index: usize, error: EncodeError) -> Step {
        let error = BundleError::TooLarge { index, error };
        Step::End(Some(self.last(BundleControlType::DiscardRequest)), Err(error))
    }

    /// The time is over.
    pub(crate) fn timeout(&mut self) -> Step {
        if self.committing {
            let reason = Box::new(Error::Timeout { what: "a bundle" });
            return Step::End(None, Err(BundleError::Unknown { reason }));
        }
        Step::End(Some(self.last(BundleControlType::DiscardRequest)), Err(BundleError::Timeout))
    }

    /// The connection has gone.
    pub(crate) fn lost(self, reason: CloseReason) -> BundleError {
        if self.committing {
            BundleError::Unknown { reason: Box::new(Error::Closed(reason)) }
        } else {
            BundleError::Closed(reason)
        }
    }
}

/// Appends BUNDLE_ADD with a message in it (OpenFlow 1.5, section 7.3.9.6), or nothing.
///
/// ```text
///  0         8        16       32                64          96    112      128
/// +---------+--------+--------+-----------------+-----------+-----+--------+---------
/// | version |   34   | length |       xid       | bundle_id |  0  | flags  | message ...
/// +---------+--------+--------+-----------------+-----------+-----+--------+---------
/// ```
///
/// `ofpacket::BundleAdd` says the same of an owned message in a box; here it goes straight to the socket's
/// buffer.
fn put_add(buf: &mut BytesMut, bundle_id: u32, message: Message) -> Result<(), EncodeError> {
    let from = buf.len();
    buf.put_u8(VERSION);
    buf.put_u8(BUNDLE_ADD);
    buf.put_u16(0);
    buf.put_u32(message.xid);
    debug_assert_eq!(buf.len() - from, HEADER_LEN);
    buf.put_u32(bundle_id);
    buf.put_u16(0);
    buf.put_u16(FLAGS);
    let len = message
        .encode_into(buf)
        .and_then(|()| u16::try_from(buf.len() - from).map_err(|_| EncodeError { what: "bundle add" }));
    match len {
        Ok(len) => buf[from + 2..from + 4].copy_from_slice(&len.to_be_bytes()),
        Err(error) => {
            buf.truncate(from);
            return Err(error);
        }
    }
    Ok(())
}

/// What a switch answers to a DISCARD of a bundle that it does not know: nobody waits for it.
pub(crate) fn is_bad_bundle(number: OfErrorNumber) -> bool {
    number == OfErrorNumber::Standard { kind: 17, code: 2 }
}
