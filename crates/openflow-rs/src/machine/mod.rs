//! The protocol of a connection, without sockets and without a clock: messages, requests and the time go
//! in, messages, answers and events come out.

mod ask;
mod handshake;
mod reply;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use ofpacket::{Body, EncodeError, Experimenter, Features, FlowStats, Hello, Message, OfError, PortDesc};

use crate::bundle::{Bundle, Step};
pub use crate::request::{Failure, Request, Response};
use crate::{CloseReason, Config, Error, Event};

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
