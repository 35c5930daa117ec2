//! From the switch's messages to the answers of requests.

use ofpacket::{MultipartReply, OfError, ReplyBody};

use super::{Failure, Machine, Output, PendingKind, Response};
use crate::bundle::is_bad_bundle;
use crate::{Error, Event};

impl Machine {
    pub(super) fn refused(&mut self, xid: u32, error: OfError) {
        if self.bundles.iter().any(|(_, bundle)| bundle.owns(xid)) {
            return self.step_bundle(|_, bundle| bundle.owns(xid), |bundle| bundle.error(xid, error));
        }
        if let Some(pending) = self.finish(xid, |_| true) {
            let error = Error::Refused { what: pending.what, error };
            return self.answer(pending.ticket, Err(Failure::Request(error)));
        }
        // A packet that was sent before a barrier that still waits.
        let barrier = self.pending.iter_mut().find_map(|(&barrier_xid, pending)| match &mut pending.kind {
            PendingKind::Barrier { first_xid, error } if (*first_xid..barrier_xid).contains(&xid) => {
                Some(error)
            }
            _ => None,
        });
        match barrier {
            Some(first) => {
                first.get_or_insert(error);
            }
            // Whoever gave up a bundle is not interested in its end.
            None if is_bad_bundle(error.number) => {}
            None => self.out.push_back(Output::Event(Event::Error(error))),
        }
    }

    pub(super) fn barrier(&mut self, xid: u32) {
        let is_barrier = |kind: &PendingKind| matches!(kind, PendingKind::Barrier { .. });
        let Some(pending) = self.finish(xid, is_barrier) else {
            return;
        };
        let result = match pending.kind {
            PendingKind::Barrier { error: Some(error), .. } => {
                Err(Failure::Request(Error::Refused { what: pending.what, error }))
            }
            _ => Ok(Response::Done),
        };
        self.answer(pending.ticket, result);
    }

    pub(super) fn multipart(&mut self, xid: u32, reply: MultipartReply) {
        let MultipartReply { more, body } = reply;
        // A switch tells of flows with an xid of its own, 0, except for those that were there before.
        if let ReplyBody::FlowMonitor(updates) = body {
            if !updates.is_empty() {
                self.out.push_back(Output::Event(Event::FlowUpdates(updates)));
            }
            if more {
                return;
            }
            if let Some(pending) = self.finish(xid, |kind| matches!(kind, PendingKind::Monitor(_))) {
                if let PendingKind::Monitor(monitor_ids) = pending.kind {
                    self.out.push_back(Output::Event(Event::InitialFlowsDone { monitor_ids }));
                }
                self.answer(pending.ticket, Ok(Response::Done));
            }
            return;
        }
        let Some(pending) = self.pending.get_mut(&xid) else {
            return;
        };
        let response = match (&mut pending.kind, body) {
            (PendingKind::Flows(flows), ReplyBody::FlowDesc(part)) => {
                flows.extend(part);
                (!more).then(|| Response::Flows(std::mem::take(flows)))
            }
            (PendingKind::Ports(ports), ReplyBody::PortDesc(part)) => {
                ports.extend(part);
                (!more).then(|| Response::Ports(std::mem::take(ports)))
            }
            (PendingKind::Desc, ReplyBody::Desc(desc)) => Some(Response::Desc(desc)),
            _ => None,
        };
        if let Some(response) = response
            && let Some(pending) = self.finish(xid, |_| true)
        {
            self.answer(pending.ticket, Ok(response));
        }
    }
}
