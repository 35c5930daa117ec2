//! One atomic bundle, from its opening to its end.
//!
//! ```text
//! OPEN ADD ADD ... CLOSE  ->            xid: n, n+1, n+2, ... n+1+mods
//!                         <-  [ERROR with the xid of an ADD] ... OPEN reply, CLOSE reply
//! COMMIT or DISCARD       ->            xid: n+2+mods
//!                         <-  [ERROR with the xid of an ADD, ERROR] or COMMIT reply
//! ```
//!
//! An ADD that cannot be decoded is refused at once, and the bundle goes on without it: a COMMIT that was
//! sent along would carry out the rest. So everything up to CLOSE is sent without waiting, and COMMIT only
//! when the reply to CLOSE shows that every ADD is in. On a local socket that costs some 20 microseconds.

use ofpacket::{Body, BundleAdd, BundleControl, BundleControlType, FlowMod, Message, OfError, OfErrorNumber};

use crate::{BundleError, CloseReason, Error};

const FLAGS: u16 = BundleControl::ATOMIC | BundleControl::ORDERED;
const WHAT: &str = "a bundle";

/// A bundle on its way.
#[derive(Debug)]
pub(crate) struct Bundle {
    id: u32,
    first_xid: u32,
    mods: u32,
    errors: Vec<(usize, OfError)>,
    /// The refusal of OPEN or CLOSE.
    refused: Option<OfError>,
    committing: bool,
}

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
    /// How many xids it takes.
    pub(crate) fn xids(mods: u32) -> u32 {
        mods.saturating_add(3)
    }

    /// Begins with the first of its xids; the messages are those up to CLOSE.
    pub(crate) fn new(first_xid: u32, mods: Vec<FlowMod>) -> (Self, impl Iterator<Item = Message>) {
        let id = first_xid;
        let n = mods.len() as u32;
        let bundle = Self { id, first_xid, mods: n, errors: Vec::new(), refused: None, committing: false };
        let open = bundle.control(first_xid, BundleControlType::OpenRequest);
        let close = bundle.control(first_xid + 1 + n, BundleControlType::CloseRequest);
        let adds = mods.into_iter().zip(first_xid + 1..).map(move |(flow_mod, xid)| {
            let body = Box::new(Body::FlowMod(flow_mod));
            let properties = bytes::Bytes::new();
            Message {
                xid,
                body: Body::BundleAdd(BundleAdd { bundle_id: id, flags: FLAGS, body, properties }),
            }
        });
        (bundle, std::iter::once(open).chain(adds).chain(std::iter::once(close)))
    }

    /// Whether this xid is one of its own.
    pub(crate) fn owns(&self, xid: u32) -> bool {
        (self.first_xid..self.first_xid + Self::xids(self.mods)).contains(&xid)
    }

    fn control(&self, xid: u32, kind: BundleControlType) -> Message {
        let properties = bytes::Bytes::new();
        let control = BundleControl { bundle_id: self.id, kind, flags: FLAGS, properties };
        Message { xid, body: Body::BundleControl(control) }
    }

    fn last(&self, kind: BundleControlType) -> Message {
        self.control(self.first_xid + 2 + self.mods, kind)
    }

    pub(crate) fn reply(&mut self, kind: BundleControlType) -> Step {
        match kind {
            BundleControlType::CloseReply => self.closed(),
            BundleControlType::CommitReply => Step::End(None, Ok(())),
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

    /// What was refused so far.
    fn outcome(&mut self) -> Option<BundleError> {
        if !self.errors.is_empty() {
            return Some(BundleError::Rejected(std::mem::take(&mut self.errors)));
        }
        self.refused.take().map(BundleError::Refused)
    }

    pub(crate) fn error(&mut self, xid: u32, error: OfError) -> Step {
        let Some(index) = (xid - self.first_xid).checked_sub(1) else {
            // Without OPEN, the first ADD opens the bundle: CLOSE will show how things are.
            self.refused.get_or_insert(error);
            return Step::Wait;
        };
        if index < self.mods {
            self.errors.push((index as usize, error));
            return Step::Wait;
        }
        if index == self.mods {
            self.refused.get_or_insert(error);
            return self.closed();
        }
        // COMMIT: an error of the flow mod that failed came before.
        let failed = self.outcome().unwrap_or(BundleError::Refused(error));
        Step::End(None, Err(failed))
    }

    /// The time is over.
    pub(crate) fn timeout(&mut self) -> Step {
        if self.committing {
            let reason = Box::new(Error::Timeout { what: WHAT });
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

/// What a switch answers to a DISCARD of a bundle that it does not know: nobody waits for it.
pub(crate) fn is_bad_bundle(number: OfErrorNumber) -> bool {
    number == OfErrorNumber::Standard { kind: 17, code: 2 }
}
