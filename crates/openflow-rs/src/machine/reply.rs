//! From the switch's messages to the answers of requests.

use std::time::Instant;

use ofpacket::{Body, MultipartReply, OfError, OfErrorNumber, ReplyBody};

use super::{Failure, Kind, Machine, Pending, Response, is_asynchronous};
use crate::bundle::is_bad_bundle;
use crate::{Error, Event};

impl Machine {
    /// A message after the handshake.
    pub(super) fn handle_reply(&mut self, now: Instant, xid: u32, body: Body, len: usize) {
        match body {
            Body::Error(error) => self.refused(now, xid, error, len),
            Body::MultipartReply(reply) => self.multipart(now, xid, reply, len),
            Body::BundleControl(control) if self.is_bundle(xid) => {
                self.step_bundle(now, xid, |bundle| bundle.reply(control.kind));
            }
            body if is_asynchronous(&body) => self.tell(body, len),
            body => self.reply(xid, body, len),
        }
    }

    fn refused(&mut self, now: Instant, xid: u32, error: OfError, len: usize) {
        let xid = match may_be_monitor_failed(error.number) && self.pending.owner(xid).is_none() {
            true => self.pending.oldest_monitor().unwrap_or(xid),
            false => xid,
        };
        match self.pending.owner(xid) {
            Some((_, Pending { kind: Kind::Bundle(_), .. })) => {
                self.step_bundle(now, xid, |bundle| bundle.error(xid, error));
            }
            // The barrier shows when the others are through.
            Some((_, Pending { kind: Kind::Barrier(first), last_xid, .. })) if xid != *last_xid => {
                first.get_or_insert(error);
            }
            Some((first_xid, pending)) => {
                let error = Error::Refused { what: pending.what, error };
                self.end(first_xid, Err(error));
            }
            // Whoever gave up a bundle is not interested in its end.
            None if is_bad_bundle(error.number) => {}
            None => self.event(Event::Error(error), len),
        }
    }

    /// A message that may be the whole answer.
    fn reply(&mut self, xid: u32, body: Body, len: usize) {
        let Some((first_xid, pending)) = self.pending.owner(xid) else {
            return self.tell(body, len);
        };
        let result = match &mut pending.kind {
            Kind::Reply => Ok(Response::Message(body)),
            Kind::Barrier(refused) if xid == pending.last_xid && matches!(body, Body::BarrierReply) => {
                match refused.take() {
                    Some(error) => Err(Error::Refused { what: pending.what, error }),
                    None => Ok(Response::Done),
                }
            }
            _ => return self.tell(body, len),
        };
        self.end(first_xid, result);
    }

    fn end(&mut self, first_xid: u32, result: Result<Response, Error>) {
        if let Some(pending) = self.pending.remove(first_xid) {
            self.answer(pending.ticket, result.map_err(Failure::Request));
        }
    }

    fn multipart(&mut self, now: Instant, xid: u32, reply: MultipartReply, len: usize) {
        let MultipartReply { more, body } = reply;
        // A switch tells of flows with an xid of its own, 0, except for those that were there before.
        let body = match body {
            ReplyBody::FlowMonitor(updates) if updates.is_empty() => None,
            ReplyBody::FlowMonitor(updates) => {
                self.event(Event::FlowUpdates(updates), len);
                None
            }
            body => Some(body),
        };
        let Some((first_xid, pending)) = self.pending.owner(xid) else {
            return;
        };
        let result = match (&mut pending.kind, body) {
            (Kind::Parts { parts, bytes }, Some(part)) => {
                *bytes += len;
                if *bytes > self.config.max_reply {
                    Err(Error::ReplyTooLong { what: pending.what, limit: self.config.max_reply })
                } else if parts.first().is_some_and(|first| kind(first) != kind(&part)) {
                    Err(Error::Unexpected { what: pending.what })
                } else {
                    parts.push(part);
                    Ok(Response::Parts(if more { Vec::new() } else { std::mem::take(parts) }))
                }
            }
            (Kind::Monitor(monitor_ids), None) => {
                if !more && !monitor_ids.is_empty() {
                    let monitor_ids = std::mem::take(monitor_ids);
                    self.event(Event::InitialFlowsDone { monitor_ids }, len);
                }
                Ok(Response::Done)
            }
            _ => return,
        };
        match result {
            // It makes progress.
            Ok(_) if more => self.pending.extend(first_xid, now + self.config.request_timeout),
            result => self.end(first_xid, result),
        }
    }
}

/// Whether a flow monitor may have been refused so. Open vSwitch (3.0 to 3.7) takes the xid and the version of this
/// error from the middle of the request (`handle_flow_monitor_request()`); with most versions it then says
/// `NXBRC_UNENCODABLE_ERROR`, whose type is all that is left. It answers monitors in their order.
fn may_be_monitor_failed(number: OfErrorNumber) -> bool {
    const FLOW_MONITOR_FAILED: u16 = 16;
    matches!(
        number,
        OfErrorNumber::Standard { kind: FLOW_MONITOR_FAILED, .. }
            | OfErrorNumber::Experimenter { experimenter: 0x2320, kind: 1 }
    )
}

/// `ofp_multipart_type`, as far as it distinguishes answers.
fn kind(body: &ReplyBody) -> (std::mem::Discriminant<ReplyBody>, u16) {
    let number = match body {
        ReplyBody::Other { kind, .. } => *kind,
        _ => 0,
    };
    (std::mem::discriminant(body), number)
}
