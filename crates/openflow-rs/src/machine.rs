//! The protocol of a connection, without sockets and without a clock: messages, requests and the time go
//! in, messages, answers and events come out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use ofpacket::{
    AsyncConfig, Body, EncodeError, Experimenter, Features, FlowMod, FlowMonitorCommand, FlowMonitorRequest,
    FlowStats, Hello, Message, MultipartReply, MultipartRequest, OfError, PortDesc, PortNo, ReplyBody,
    RequestBody, SwitchConfig,
};

use crate::bundle::{Bundle, Step, is_bad_bundle};
pub use crate::request::{Failure, Request, Response};
use crate::{BundleError, CloseReason, Config, Error, Event};

/// The caller's number for a request.
pub type Ticket = u64;

/// What is to be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// The handshake is over; requests may be made.
    Ready(Features),
    /// The handshake failed; the connection is of no use.
    Failed(Error),
    /// A request has been answered.
    Answer(Ticket, Result<Response, Failure>),
    /// The switch tells something.
    Event(Event),
    /// The connection is of no use any more.
    Close(CloseReason),
}

/// One connection.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    phase: Phase,
    next_xid: u32,
    pending: HashMap<u32, Pending>,
    bundles: Vec<(Ticket, Bundle)>,
    /// When requests, by ticket, have taken too long.
    deadlines: BTreeMap<(Instant, Ticket), Waiting>,
    handshake_deadline: Instant,
    last_heard: Instant,
    probed: Option<Instant>,
    out: VecDeque<Output>,
    transmit: BytesMut,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Waits for the switch's HELLO.
    Hello,
    /// Waits for FEATURES, CONFIG and a barrier.
    Setup,
    Ready,
    Closed,
}

/// Where the request of a deadline is found.
#[derive(Debug, Clone, Copy)]
enum Waiting {
    Pending(u32),
    Bundle,
}

/// A request that waits for its answer, or for the rest of it.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    what: &'static str,
    deadline: Instant,
    kind: PendingKind,
}

#[derive(Debug)]
enum PendingKind {
    Flows(Vec<FlowStats>),
    Ports(Vec<PortDesc>),
    Desc,
    TlvTable,
    Monitor(Vec<u32>),
    /// A barrier, and the first error of the requests before it, which begin with that xid.
    Barrier {
        first_xid: u32,
        error: Option<OfError>,
    },
}

/// The reasons for packet-ins that actions cause: `OFPR_APPLY_ACTION`, `_ACTION_SET`, `_GROUP`, `_PACKET_OUT`.
const PACKET_IN_REASONS: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5;
/// Added, removed, changed.
const PORT_REASONS: u32 = 0b111;
/// All six reasons.
const FLOW_REMOVED_REASONS: u32 = 0b11_1111;
/// Ours is a connection of the kind that `ovs-ofctl` makes: without a length other than 0 it would get no
/// asynchronous messages. There are no table misses that would use it.
const MISS_SEND_LEN: u16 = 128;

/// Answers to these do not interest; those to requests of the caller begin above.
const HELLO_XID: u32 = 1;
const FORMAT_XID: u32 = 2;
const CONTROLLER_ID_XID: u32 = 3;
const FEATURES_XID: u32 = 4;
const GET_CONFIG_XID: u32 = 5;
const SET_CONFIG_XID: u32 = 6;
const SET_ASYNC_XID: u32 = 7;
const SETUP_BARRIER_XID: u32 = 8;
const PROBE_XID: u32 = 9;
const FIRST_FREE_XID: u32 = 16;

impl Machine {
    /// A new connection, which says HELLO.
    pub fn new(config: Config, now: Instant) -> Self {
        let handshake_deadline = now + config.request_timeout;
        let mut machine = Self {
            config,
            phase: Phase::Hello,
            next_xid: FIRST_FREE_XID,
            pending: HashMap::new(),
            bundles: Vec::new(),
            deadlines: BTreeMap::new(),
            handshake_deadline,
            last_heard: now,
            probed: None,
            out: VecDeque::new(),
            transmit: BytesMut::new(),
        };
        machine.send(HELLO_XID, Body::Hello(Hello::only_1_5()));
        machine
    }

    /// What is to be done next; until it is `None`, after every other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// What is to be sent; whoever sends takes from the front.
    pub fn transmit(&mut self) -> &mut BytesMut {
        &mut self.transmit
    }

    /// Whether the handshake is over and the connection is of use.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// When to call [`handle_timeout`](Machine::handle_timeout), at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::Hello | Phase::Setup => Some(self.handshake_deadline),
            Phase::Ready => {
                let probe = self.probed.unwrap_or(self.last_heard) + self.config.probe_interval;
                let request = self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline);
                Some(request.map_or(probe, |request| request.min(probe)))
            }
        }
    }

    /// The time has come that [`poll_timeout`](Machine::poll_timeout) named, or any other.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Closed => return,
            Phase::Hello | Phase::Setup => {
                if now >= self.handshake_deadline {
                    self.fail(Error::Timeout { what: "the handshake" });
                }
                return;
            }
            Phase::Ready => {}
        }
        while let Some((&(deadline, ticket), &waiting)) = self.deadlines.first_key_value() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(&(deadline, ticket));
            match waiting {
                Waiting::Pending(xid) => {
                    if let Some(pending) = self.pending.remove(&xid) {
                        let error = Error::Timeout { what: pending.what };
                        self.answer(ticket, Err(Failure::Request(error)));
                    }
                }
                Waiting::Bundle => self.step_bundle(|t, _| t == ticket, Bundle::timeout),
            }
        }
        match self.probed {
            Some(probed) if now >= probed + self.config.probe_interval => {
                self.close(CloseReason::Unresponsive);
            }
            None if now >= self.last_heard + self.config.probe_interval => {
                self.probed = Some(now);
                self.send(PROBE_XID, Body::EchoRequest(Bytes::new()));
            }
            _ => {}
        }
    }

    /// Bytes came from the switch: it is alive, whatever they say.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.probed = None;
    }

    /// A message came from the switch.
    pub fn handle_message(&mut self, now: Instant, message: Message) {
        self.heard(now);
        let Message { xid, body } = message;
        match (self.phase, body) {
            (Phase::Closed, _) => {}
            (_, Body::EchoRequest(data)) => self.send(xid, Body::EchoReply(data)),
            (Phase::Hello, Body::Hello(hello)) => self.set_up(&hello),
            (Phase::Hello | Phase::Setup, Body::Error(error)) => self.handshake_refused(xid, error),
            (Phase::Hello, _) => {}
            (Phase::Setup, Body::FeaturesReply(features)) => self.out.push_back(Output::Ready(features)),
            (Phase::Setup, Body::GetConfigReply(config)) => self.configure(config),
            (Phase::Setup, Body::BarrierReply) if xid == SETUP_BARRIER_XID => self.phase = Phase::Ready,
            (Phase::Setup, body) => self.tell(body),
            (Phase::Ready, Body::Error(error)) => self.refused(xid, error),
            (Phase::Ready, Body::MultipartReply(reply)) => self.multipart(xid, reply),
            (Phase::Ready, Body::BarrierReply) => self.barrier(xid),
            (Phase::Ready, Body::BundleControl(control)) => {
                self.step_bundle(|_, bundle| bundle.owns(xid), |bundle| bundle.reply(control.kind));
            }
            (Phase::Ready, Body::Experimenter(Experimenter::TlvTableReply(table))) => {
                if let Some(pending) = self.finish(xid, |kind| matches!(kind, PendingKind::TlvTable)) {
                    self.answer(pending.ticket, Ok(Response::TlvTable(table)));
                }
            }
            (Phase::Ready, body) => self.tell(body),
        }
    }

    /// The connection has gone: what waits is answered, and nothing happens any more.
    pub fn close(&mut self, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        let mut waiting: Vec<_> = self.pending.drain().map(|(_, pending)| pending.ticket).collect();
        waiting.sort_unstable();
        for ticket in waiting {
            self.answer(ticket, Err(Failure::Request(Error::Closed(reason.clone()))));
        }
        for (ticket, bundle) in std::mem::take(&mut self.bundles) {
            self.answer(ticket, Err(Failure::Bundle(bundle.lost(reason.clone()))));
        }
        self.deadlines.clear();
        self.out.push_back(Output::Close(reason));
    }

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

    /// So many xids in a row, none of them 0, which is what a switch uses.
    fn take_xids(&mut self, n: u32) -> u32 {
        if self.next_xid.checked_add(n).is_none() {
            self.next_xid = FIRST_FREE_XID;
        }
        let first = self.next_xid;
        self.next_xid += n;
        first
    }

    fn put(&mut self, message: Message) -> Result<(), EncodeError> {
        message.encode_into(&mut self.transmit)
    }

    /// A message of the machine's own, all of which fit: an ECHO's data came in a message.
    fn send(&mut self, xid: u32, body: Body) {
        let sent = self.put(Message { xid, body });
        debug_assert!(sent.is_ok());
    }

    fn answer(&mut self, ticket: Ticket, result: Result<Response, Failure>) {
        self.out.push_back(Output::Answer(ticket, result));
    }

    /// Takes a pending request out, if it is of the kind that the reply belongs to.
    fn finish(&mut self, xid: u32, is: impl Fn(&PendingKind) -> bool) -> Option<Pending> {
        let pending = self.pending.remove(&xid)?;
        if !is(&pending.kind) {
            self.pending.insert(xid, pending);
            return None;
        }
        self.deadlines.remove(&(pending.deadline, pending.ticket));
        Some(pending)
    }

    fn fail(&mut self, error: Error) {
        self.out.push_back(Output::Failed(error));
        self.close(CloseReason::Handshake);
    }

    fn set_up(&mut self, hello: &Hello) {
        if !hello.speaks(ofpacket::VERSION) {
            let offer = describe_versions(hello);
            return self.fail(Error::Version { offer });
        }
        self.phase = Phase::Setup;
        let format = Experimenter::SetPacketInFormat(Experimenter::PACKET_IN_FORMAT_NXT2);
        self.send(FORMAT_XID, Body::Experimenter(format));
        let id = Experimenter::SetControllerId(self.config.controller_id);
        self.send(CONTROLLER_ID_XID, Body::Experimenter(id));
        self.send(FEATURES_XID, Body::FeaturesRequest);
        self.send(GET_CONFIG_XID, Body::GetConfigRequest);
    }

    /// The flags are the whole bridge's, so they are sent back as they came.
    fn configure(&mut self, config: SwitchConfig) {
        let config = SwitchConfig { flags: config.flags, miss_send_len: MISS_SEND_LEN };
        self.send(SET_CONFIG_XID, Body::SetConfig(config));
        let flow_removed = if self.config.flow_removed { FLOW_REMOVED_REASONS } else { 0 };
        let wanted = AsyncConfig(vec![
            (AsyncConfig::PACKET_IN, PACKET_IN_REASONS),
            (AsyncConfig::PORT_STATUS, PORT_REASONS),
            (AsyncConfig::FLOW_REMOVED, flow_removed),
            (AsyncConfig::ROLE_STATUS, 0),
            (AsyncConfig::TABLE_STATUS, 0),
            (AsyncConfig::REQUEST_FORWARD, 0),
        ]);
        self.send(SET_ASYNC_XID, Body::SetAsync(wanted));
        self.send(SETUP_BARRIER_XID, Body::BarrierRequest);
    }

    fn handshake_refused(&mut self, xid: u32, error: OfError) {
        if error.number.is_hello_failed() {
            // The data of this error is a text.
            let offer = String::from_utf8_lossy(&error.data).trim_end_matches('\0').to_owned();
            return self.fail(Error::Version { offer });
        }
        let what = match xid {
            FORMAT_XID => "to send packet-ins in its own extensible form",
            CONTROLLER_ID_XID => "a controller id",
            FEATURES_XID => "the request for its features",
            GET_CONFIG_XID | SET_CONFIG_XID => "to be configured",
            SET_ASYNC_XID => "a choice of asynchronous messages",
            _ => "the handshake",
        };
        self.fail(Error::Refused { what, error });
    }

    fn refused(&mut self, xid: u32, error: OfError) {
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

    fn barrier(&mut self, xid: u32) {
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

    fn multipart(&mut self, xid: u32, reply: MultipartReply) {
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

    /// Moves the first bundle for which `which` holds.
    fn step_bundle(
        &mut self,
        which: impl Fn(Ticket, &Bundle) -> bool,
        step: impl FnOnce(&mut Bundle) -> Step,
    ) {
        let Some(i) = self.bundles.iter().position(|(ticket, bundle)| which(*ticket, bundle)) else {
            return;
        };
        let (ticket, bundle) = &mut self.bundles[i];
        let ticket = *ticket;
        match step(bundle) {
            Step::Wait => {}
            Step::Send(message) => self.send(message.xid, message.body),
            Step::End(message, result) => {
                self.bundles.remove(i);
                self.deadlines.retain(|(_, t), _| *t != ticket);
                if let Some(message) = message {
                    self.send(message.xid, message.body);
                }
                self.answer(ticket, result.map(|()| Response::Done).map_err(Failure::Bundle));
            }
        }
    }

    /// What the switch tells by itself.
    fn tell(&mut self, body: Body) {
        let event = match body {
            Body::Experimenter(Experimenter::PacketIn2(packet)) => Event::PacketIn(packet),
            Body::PortStatus(status) => Event::PortStatus(status),
            Body::FlowRemoved(removed) => Event::FlowRemoved(removed),
            Body::EchoReply(_) => return,
            body => {
                tracing::debug!(kind = body.kind(), "an unexpected message was ignored");
                return;
            }
        };
        self.out.push_back(Output::Event(event));
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

/// Names for the versions that a switch speaks.
fn describe_versions(hello: &Hello) -> String {
    const NAMES: [(u8, &str); 6] = [
        (1, "OpenFlow10"),
        (2, "OpenFlow11"),
        (3, "OpenFlow12"),
        (4, "OpenFlow13"),
        (5, "OpenFlow14"),
        (6, "OpenFlow15"),
    ];
    let spoken: Vec<_> =
        NAMES.iter().filter(|(version, _)| hello.speaks(*version)).map(|(_, name)| *name).collect();
    match spoken.is_empty() {
        true => format!("version {:#04x}", hello.version),
        false => spoken.join(", "),
    }
}
