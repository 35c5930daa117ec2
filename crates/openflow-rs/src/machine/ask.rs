//! From a request to the messages that ask it.

use std::time::Instant;

use ofpacket::{
    Body, Experimenter, FlowMod, FlowMonitorCommand, FlowMonitorRequest, Message, MultipartRequest, PortNo,
    RequestBody,
};

use super::{Failure, Machine, Pending, PendingKind, Phase, Request, Response, Ticket, Waiting};
use crate::bundle::Bundle;
use crate::{BundleError, CloseReason, Error};

impl Machine {
    /// A request of the caller's, which will be answered exactly once.
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
        let deadline = now + self.config.request_timeout;
        let multipart = |body| Body::MultipartRequest(MultipartRequest::new(body));
        let (body, kind) = match request {
            Request::DumpFlows(flows) => {
                (multipart(RequestBody::FlowDesc(flows)), PendingKind::Flows(Vec::new()))
            }
            Request::PortDesc => {
                (multipart(RequestBody::PortDesc(PortNo::ANY)), PendingKind::Ports(Vec::new()))
            }
            Request::Desc => (multipart(RequestBody::Desc), PendingKind::Desc),
            Request::TlvTable => (Body::Experimenter(Experimenter::TlvTableRequest), PendingKind::TlvTable),
            Request::MonitorFlows(monitors) => {
                let ids = monitors.iter().map(|monitor| monitor.monitor_id).collect();
                let monitors = monitors.into_iter().flat_map(with_companion).collect();
                (multipart(RequestBody::FlowMonitor(monitors)), PendingKind::Monitor(ids))
            }
            Request::Barrier => {
                (Body::BarrierRequest, PendingKind::Barrier { first_xid: self.next_xid, error: None })
            }
            Request::PacketOut(packets) => {
                let first_xid = self.take_xids(packets.len() as u32);
                for (packet, xid) in packets.into_iter().zip(first_xid..) {
                    self.put(Message { xid, body: Body::PacketOut(packet) }).map_err(Error::from)?;
                }
                (Body::BarrierRequest, PendingKind::Barrier { first_xid, error: None })
            }
            Request::Bundle(mods) => return self.open_bundle(deadline, ticket, mods),
        };
        let xid = self.take_xids(1);
        self.put(Message { xid, body }).map_err(Error::from)?;
        self.deadlines.insert((deadline, ticket), Waiting::Pending(xid));
        self.pending.insert(xid, Pending { ticket, what, deadline, kind });
        Ok(())
    }

    fn open_bundle(&mut self, deadline: Instant, ticket: Ticket, mods: Vec<FlowMod>) -> Result<(), Failure> {
        if mods.is_empty() {
            self.answer(ticket, Ok(Response::Done));
            return Ok(());
        }
        let first_xid = self.take_xids(Bundle::xids(mods.len() as u32));
        let (bundle, messages) = Bundle::new(first_xid, mods);
        for (i, message) in messages.enumerate() {
            // Before the flow mods comes OPEN.
            self.put(message).map_err(|error| BundleError::TooLarge { index: i.saturating_sub(1), error })?;
        }
        self.bundles.push((ticket, bundle));
        self.deadlines.insert((deadline, ticket), Waiting::Bundle);
        Ok(())
    }
}

/// One's own changes in full too. NO_ABBREV should say that, but Open vSwitch (3.0 to 3.7) refuses it; instead it
/// tells own changes in full where ONLY_OWN is set in any of the monitors that see the change, and others'
/// changes all the same (`ofmonitor_report()`). A second monitor of the same flows has that effect, and takes
/// nothing away where ONLY_OWN means what it says.
fn with_companion(monitor: FlowMonitorRequest) -> impl Iterator<Item = FlowMonitorRequest> {
    let flags = monitor.flags & !FlowMonitorRequest::NO_ABBREV;
    let companion = (monitor.command == FlowMonitorCommand::Add).then(|| FlowMonitorRequest {
        monitor_id: monitor.monitor_id | COMPANION,
        flags: flags & !FlowMonitorRequest::INITIAL | FlowMonitorRequest::ONLY_OWN,
        ..monitor.clone()
    });
    std::iter::once(FlowMonitorRequest { flags, ..monitor }).chain(companion)
}

/// Marks the numbers of monitors that were not the caller's idea.
const COMPANION: u32 = 1 << 31;
