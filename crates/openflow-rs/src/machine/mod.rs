//! The protocol of a connection, without sockets and without a clock: bytes, requests and the time go in,
//! bytes, answers and events come out.

mod ask;
mod handshake;
mod pending;
mod reply;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use ofpacket::{Body, EncodeError, Experimenter, Features, HEADER_LEN, Hello, Message, frame_len};

use crate::bundle::{Bundle, FILL, Step};
pub use crate::request::{Failure, Messages, Request, Response};
use crate::{CloseReason, Config, Error, Event};
use pending::{Kind, Pending, PendingRequests};

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
    /// The switch tells something, in a message of so many bytes.
    Event(Event, usize),
    /// The connection is of no use any more.
    Close(CloseReason),
}

/// One connection.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    phase: Phase,
    features: Option<Features>,
    pending: PendingRequests,
    /// The first xids of bundles whose messages are not all sent yet, in the order of sending.
    feeding: VecDeque<u32>,
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

/// Bytes that may wait to be written while the switch asks for more echoes.
const MAX_ECHOES: usize = 1 << 20;

impl Machine {
    /// A new connection, which says HELLO.
    pub fn new(config: Config, now: Instant) -> Self {
        let handshake_deadline = now + config.request_timeout;
        let mut machine = Self {
            config,
            phase: Phase::Hello,
            features: None,
            pending: PendingRequests::default(),
            feeding: VecDeque::new(),
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

    /// What is to be sent; whoever sends takes from the front, and comes again until it is empty.
    pub fn transmit(&mut self, now: Instant) -> &mut BytesMut {
        while self.transmit.len() < FILL
            && let Some(&first_xid) = self.feeding.front()
        {
            let done = match self.pending.owner(first_xid) {
                Some((_, Pending { kind: Kind::Bundle(bundle), .. })) => bundle.feed(&mut self.transmit),
                // It has ended.
                _ => Ok(true),
            };
            if !matches!(done, Ok(false)) {
                self.feeding.pop_front();
            }
            match done {
                Ok(_) => self.pending.extend(first_xid, now + self.config.request_timeout),
                Err((index, error)) => {
                    self.step_bundle(now, first_xid, |bundle| bundle.too_large(index, error));
                }
            }
        }
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
                Some(self.pending.next_deadline().map_or(probe, |request| request.min(probe)))
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
        while let Some(first_xid) = self.pending.overdue(now) {
            if self.feeding.iter().skip(1).any(|&queued| queued == first_xid) {
                // The one before it is still being sent.
                self.pending.extend(first_xid, now + self.config.request_timeout);
            } else if self.is_bundle(first_xid) {
                self.step_bundle(now, first_xid, Bundle::timeout);
            } else if let Some(pending) = self.pending.remove(first_xid) {
                let error = Error::Timeout { what: pending.what };
                self.answer(pending.ticket, Err(Failure::Request(error)));
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

    /// Bytes came from the switch. Takes in the whole messages that they begin with, and says how many bytes
    /// these have; the rest is to be handed in again with what follows.
    pub fn handle_input(&mut self, now: Instant, input: &[u8]) -> usize {
        // It is alive, whatever it says.
        self.last_heard = now;
        self.probed = None;
        let mut rest = input;
        while self.phase != Phase::Closed {
            let len = match frame_len(rest) {
                None => break,
                Some(Ok(len)) => len,
                Some(Err(error)) => {
                    self.close(error.into());
                    break;
                }
            };
            let Some((frame, tail)) = rest.split_at_checked(len) else {
                break;
            };
            match Message::decode(frame) {
                Ok(message) => self.handle_message(now, message, len),
                Err(error) => {
                    tracing::warn!(%error, header = ?&frame[..HEADER_LEN], "an unreadable message");
                    self.close(error.into());
                }
            }
            rest = tail;
        }
        input.len() - rest.len()
    }

    fn handle_message(&mut self, now: Instant, message: Message, len: usize) {
        let Message { xid, body } = message;
        match (self.phase, body) {
            (Phase::Closed, _) => {}
            (_, Body::EchoRequest(data)) => match self.transmit.len() < MAX_ECHOES {
                true => self.send(xid, Body::EchoReply(data)),
                false => self.close(CloseReason::Deaf),
            },
            (Phase::Hello, Body::Hello(hello)) => self.set_up(&hello),
            (Phase::Hello | Phase::Setup, Body::Error(error)) => self.handshake_refused(xid, error),
            (Phase::Hello, _) => {}
            (Phase::Setup, Body::FeaturesReply(features)) => self.features = Some(features),
            (Phase::Setup, Body::GetConfigReply(config)) => self.configure(config),
            (Phase::Setup, Body::BarrierReply) if xid == SETUP_BARRIER_XID => self.set_up_done(),
            (Phase::Setup, body) => self.tell(body, len),
            (Phase::Ready, body) => self.handle_reply(now, xid, body, len),
        }
    }

    /// The connection has gone: what waits is answered, and nothing happens any more.
    pub fn close(&mut self, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        for pending in self.pending.take_all() {
            let failure = match pending.kind {
                Kind::Bundle(bundle) => Failure::Bundle(bundle.lost(reason.clone())),
                _ => Failure::Request(Error::Closed(reason.clone())),
            };
            self.answer(pending.ticket, Err(failure));
        }
        self.out.push_back(Output::Close(reason));
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

    fn event(&mut self, event: Event, len: usize) {
        self.out.push_back(Output::Event(event, len));
    }

    fn is_bundle(&mut self, xid: u32) -> bool {
        matches!(self.pending.owner(xid), Some((_, Pending { kind: Kind::Bundle(_), .. })))
    }

    /// Moves the bundle that this xid belongs to, if it belongs to one.
    fn step_bundle(&mut self, now: Instant, xid: u32, step: impl FnOnce(&mut Bundle) -> Step) {
        let Some((first_xid, Pending { ticket, kind: Kind::Bundle(bundle), .. })) = self.pending.owner(xid)
        else {
            return;
        };
        let ticket = *ticket;
        match step(bundle) {
            Step::Wait => {}
            Step::Send(message) => {
                self.send(message.xid, message.body);
                self.pending.extend(first_xid, now + self.config.request_timeout);
            }
            Step::End(message, result) => {
                self.pending.remove(first_xid);
                if let Some(message) = message {
                    self.send(message.xid, message.body);
                }
                self.answer(ticket, result.map(|()| Response::Done).map_err(Failure::Bundle));
            }
        }
    }

    /// What the switch tells by itself.
    fn tell(&mut self, body: Body, len: usize) {
        let event = match body {
            Body::Experimenter(Experimenter::PacketIn2(packet)) => Event::PacketIn(packet),
            Body::PortStatus(status) => Event::PortStatus(status),
            Body::FlowRemoved(removed) => Event::FlowRemoved(removed),
            Body::EchoReply(_) => return,
            body if is_asynchronous(&body) => Event::Other(body),
            body => {
                tracing::debug!(kind = body.kind(), "an unexpected message was ignored");
                return;
            }
        };
        self.event(event, len);
    }
}

/// Whether a switch sends it by itself (OpenFlow 1.5, section 7.4, and `NXT_PACKET_IN2`).
fn is_asynchronous(body: &Body) -> bool {
    const PACKET_IN: u8 = 10;
    const FLOW_REMOVED: u8 = 11;
    const PORT_STATUS: u8 = 12;
    const ROLE_STATUS: u8 = 30;
    const TABLE_STATUS: u8 = 31;
    const REQUEST_FORWARD: u8 = 32;
    matches!(
        body.kind(),
        PACKET_IN | FLOW_REMOVED | PORT_STATUS | ROLE_STATUS | TABLE_STATUS | REQUEST_FORWARD
    ) || matches!(body, Body::Experimenter(Experimenter::PacketIn2(_)))
}
