//! Whatever a switch sends, whenever, and however it is asked: no panic, each request is answered once, what is sent
//! are messages, and time passes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ofpacket::{
    Action, Body, Features, Flow, FlowDescRequest, FlowMod, FlowMonitorRequest, HEADER_LEN, Hello, Match,
    Message, PacketOut, PortNo, RequestBody, SwitchConfig, VERSION, frame_len,
};
use openflow_rs::machine::{Machine, Messages, Output, Request};
use openflow_rs::{CloseReason, Config};

/// The first byte says whether the handshake is made; then come steps, each a byte that says what it is, and what
/// it takes.
pub(crate) fn check(data: &[u8]) {
    let Some((&first, mut data)) = data.split_first() else { return };
    let mut rig = Rig::new();
    if first & 1 == 0 {
        rig.shake_hands();
    }
    while let Some((&step, rest)) = data.split_first() {
        data = rig.step(step, rest);
        rig.look();
    }
    rig.machine.close(CloseReason::Eof);
    rig.look();
    assert!(rig.closed, "a closed connection says so");
    assert_eq!(rig.waiting, BTreeSet::new(), "requests without an answer");
    assert_eq!(rig.machine.poll_timeout(), None);
}

/// A machine, the time, and both directions of a connection.
struct Rig {
    machine: Machine,
    now: Instant,
    /// Bytes from the switch of which the machine wants to see more.
    received: Vec<u8>,
    /// Bytes to the switch of which no message has been made yet.
    sent: Vec<u8>,
    /// The xids of what was sent.
    xids: Vec<u32>,
    tickets: u64,
    waiting: BTreeSet<u64>,
    closed: bool,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        let config = Config { max_reply: 4096, ..Config::default() };
        Self {
            machine: Machine::new(config, now),
            now,
            received: Vec::new(),
            sent: Vec::new(),
            xids: Vec::new(),
            tickets: 0,
            waiting: BTreeSet::new(),
            closed: false,
        }
    }

    fn shake_hands(&mut self) {
        let features =
            Features { datapath_id: 1, n_buffers: 0, n_tables: 254, auxiliary_id: 0, capabilities: 0 };
        let config = SwitchConfig { flags: 0, miss_send_len: 0 };
        let answers =
            [Body::Hello(Hello::only_1_5()), Body::FeaturesReply(features), Body::GetConfigReply(config)];
        for body in answers {
            self.receive(&Message { xid: 0, body }.encode().expect("a short message"));
            self.look();
        }
        let barrier = self.xids.last().copied().expect("a barrier");
        self.receive(&Message { xid: barrier, body: Body::BarrierReply }.encode().expect("a short message"));
        self.look();
        assert!(self.machine.is_ready());
    }

    /// Does one thing, and returns the input after it.
    fn step<'a>(&mut self, step: u8, data: &'a [u8]) -> &'a [u8] {
        match (step & 7, data) {
            (0..=2, [kind, xid, len, rest @ ..]) => {
                let (body, rest) = rest.split_at(rest.len().min((*len).into()));
                self.receive(&self.frame(*kind, *xid, body));
                rest
            }
            (3, [len, rest @ ..]) => {
                let (bytes, rest) = rest.split_at(rest.len().min((*len).into()));
                self.receive(bytes);
                rest
            }
            (4, [tenths, rest @ ..]) => {
                self.now += Duration::from_millis(100) * u32::from(*tenths);
                self.machine.handle_timeout(self.now);
                rest
            }
            (5 | 6, [kind, rest @ ..]) => {
                self.tickets += 1;
                self.waiting.insert(self.tickets);
                self.machine.handle_request(self.now, self.tickets, request(*kind));
                rest
            }
            (7, [8, rest @ ..]) => {
                self.machine.close(CloseReason::Eof);
                rest
            }
            (7, _) => {
                self.send();
                data
            }
            _ => &[],
        }
    }

    /// With the xid of something that was sent, or 0.
    fn frame(&self, kind: u8, xid: u8, body: &[u8]) -> Vec<u8> {
        let recent = self.xids.iter().rev().nth(usize::from(xid >> 1));
        let xid = recent.copied().filter(|_| xid & 1 == 0).unwrap_or(0);
        let mut out = vec![VERSION, kind];
        out.extend(((HEADER_LEN + body.len()) as u16).to_be_bytes());
        out.extend(xid.to_be_bytes());
        out.extend(body);
        out
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        let n = self.machine.handle_input(self.now, &self.received);
        self.received.drain(..n);
        if let Some(Ok(len)) = frame_len(&self.received) {
            assert!(self.closed() || self.received.len() < len, "a message was left");
        }
    }

    fn closed(&self) -> bool {
        self.machine.poll_timeout().is_none()
    }

    /// What the machine wants.
    fn look(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            // Who asks after the end is told so.
            assert!(!self.closed || matches!(output, Output::Answer(..)), "{output:?} after the end");
            match output {
                Output::Answer(ticket, _) => assert!(self.waiting.remove(&ticket), "answered twice"),
                Output::Close(_) => self.closed = true,
                _ => {}
            }
        }
        self.send();
        // A shell that sleeps until then and calls again gets on.
        if let Some(next) = self.machine.poll_timeout().filter(|&next| next <= self.now) {
            self.machine.handle_timeout(self.now);
            assert_ne!(self.machine.poll_timeout(), Some(next), "it would turn round and round");
        }
    }

    fn send(&mut self) {
        self.sent.extend(self.machine.transmit(self.now).split());
        while let Some(len) = frame_len(&self.sent) {
            let len = len.expect("a header of ours");
            if self.sent.len() < len {
                break;
            }
            let message = Message::decode(&self.sent[..len]).expect("a message of ours");
            self.xids.push(message.xid);
            self.sent.drain(..len);
        }
    }
}

fn request(kind: u8) -> Request {
    let mods = |n: u16| (0..n).map(|i| FlowMod::add(Flow::new(1, i, Match::new(), Vec::new()))).collect();
    match kind & 7 {
        0 => Request::Multipart(RequestBody::FlowDesc(FlowDescRequest::default())),
        1 => Request::Multipart(RequestBody::Desc),
        2 => Request::MonitorFlows(vec![FlowMonitorRequest::everything(1)]),
        3 => Request::Ask(Body::FeaturesRequest),
        4 => Request::Send(Vec::new()),
        5 => {
            let packet = PacketOut::new(PortNo::LOCAL, vec![Action::output(1u32)], vec![0; 14]);
            Request::Send(vec![Body::PacketOut(packet)])
        }
        _ => Request::Bundle(Messages::Flows(mods(u16::from(kind >> 4)))),
    }
}
