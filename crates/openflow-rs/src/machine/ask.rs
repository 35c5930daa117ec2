//! From a request to the messages that ask it.

use std::time::Instant;

use ofpacket::{
    Body, EncodeError, FlowMonitorCommand, FlowMonitorRequest, Message, MultipartRequest, RequestBody,
};

use super::{Failure, Kind, Machine, Messages, Pending, Phase, Request, Response, Ticket};
use crate::bundle::Bundle;
use crate::{CloseReason, Error};

impl Machine {
    /// A request of the caller's, which will be answered exactly once. Bundles are carried out in the order in
    /// which they were asked; other requests do not wait for the bundles before them.
    pub fn handle_request(&mut self, now: Instant, ticket: Ticket, request: Request) {
        if self.phase != Phase::Ready {
            let failure = request.closed(CloseReason::Unused);
            return self.answer(ticket, Err(failure));
        }
        // All of a request is sent or nothing.
        let mark = self.transmit.len();
        if let Err(failure) = self.ask(now, ticket, request) {
            self.transmit.truncate(mark);
            self.answer(ticket, Err(failure));
        }
    }

    fn ask(&mut self, now: Instant, ticket: Ticket, request: Request) -> Result<(), Failure> {
        let what = request.what();
        let multipart = |body| Body::MultipartRequest(MultipartRequest::new(body));
        let (bodies, kind) = match request {
            Request::Ask(body) => (vec![body], Kind::Reply),
            Request::Multipart(body) => {
                let kind = match &body {
                    RequestBody::FlowMonitor(monitors) => Kind::Monitor(ids(monitors)),
                    _ => Kind::Parts { parts: Vec::new(), bytes: 0 },
                };
                (vec![multipart(body)], kind)
            }
            Request::MonitorFlows(monitors) => {
                let ids = ids(&monitors);
                let monitors = monitors.into_iter().flat_map(with_companion).collect();
                (vec![multipart(RequestBody::FlowMonitor(monitors))], Kind::Monitor(ids))
            }
            Request::Send(mut bodies) => {
                bodies.push(Body::BarrierRequest);
                (bodies, Kind::Barrier(None))
            }
            Request::Bundle(messages) => return self.open_bundle(now, ticket, what, messages),
        };
        let (first_xid, last_xid) = self.take_xids(bodies.len())?;
        for (xid, body) in (first_xid..=last_xid).zip(bodies) {
            self.put(Message { xid, body }).map_err(Error::from)?;
        }
        self.wait(now, first_xid, Pending { ticket, what, deadline: now, last_xid, kind });
        Ok(())
    }

    fn wait(&mut self, now: Instant, first_xid: u32, pending: Pending) {
        let deadline = now + self.config.request_timeout;
        self.pending.insert(first_xid, Pending { deadline, ..pending });
    }

    /// The first and the last of so many xids.
    fn take_xids(&mut self, n: usize) -> Result<(u32, u32), Error> {
        let taken = u32::try_from(n).ok().and_then(|n| Some((self.pending.take_xids(n)?, n)));
        let (first, n) = taken.ok_or(EncodeError { what: "the number of messages" })?;
        Ok((first, first + (n - 1)))
    }

    fn open_bundle(
        &mut self,
        now: Instant,
        ticket: Ticket,
        what: &'static str,
        messages: Messages,
    ) -> Result<(), Failure> {
        let len = messages.len();
        if len == 0 {
            self.answer(ticket, Ok(Response::Done));
            return Ok(());
        }
        let (first_xid, last_xid) = self.take_xids(Bundle::xids(len))?;
        self.feeding.push_back(first_xid);
        let kind = Kind::Bundle(Bundle::new(first_xid, messages));
        self.wait(now, first_xid, Pending { ticket, what, deadline: now, last_xid, kind });
        Ok(())
    }
}

/// The monitors whose first state will have an end.
fn ids(monitors: &[FlowMonitorRequest]) -> Vec<u32> {
    let begins = |monitor: &&FlowMonitorRequest| monitor.command != FlowMonitorCommand::Delete;
    monitors.iter().filter(begins).map(|monitor| monitor.monitor_id).collect()
}

/// One's own changes in full too. NO_ABBREV should say that, but Open vSwitch (3.0 to 3.7) refuses it; instead it
/// tells own changes in full where ONLY_OWN is set in any of the monitors that see the change, and others'
/// changes all the same (`ofmonitor_report()`). A second monitor of the same flows has that effect, and takes
/// nothing away where ONLY_OWN means what it says.
fn with_companion(monitor: FlowMonitorRequest) -> impl Iterator<Item = FlowMonitorRequest> {
    let flags = monitor.flags & !FlowMonitorRequest::NO_ABBREV;
    let known = matches!(
        monitor.command,
        FlowMonitorCommand::Add | FlowMonitorCommand::Modify | FlowMonitorCommand::Delete
    );
    let companion = known.then(|| FlowMonitorRequest {
        monitor_id: monitor.monitor_id | COMPANION,
        flags: flags & !FlowMonitorRequest::INITIAL | FlowMonitorRequest::ONLY_OWN,
        ..monitor.clone()
    });
    std::iter::once(FlowMonitorRequest { flags, ..monitor }).chain(companion)
}

/// Marks the numbers of monitors that were not the caller's idea.
const COMPANION: u32 = 1 << 31;
