//! The protocol without sockets: what a switch that is slow, wrong or gone does to those who wait.

mod bundles;
mod requests;

use std::time::{Duration, Instant};

use bytes::Bytes;
use ofpacket::{
    Body, BundleControl, BundleControlType, Features, Flow, FlowMod, Hello, Match, Message, PacketOut,
    PortNo, SwitchConfig, frame_len,
};
use openflow_rs::Config;
use openflow_rs::machine::{Failure, Machine, Messages, Output, Request, Response};

/// A machine, the messages that it has sent, and the time.
struct Rig {
    machine: Machine,
    now: Instant,
}

impl Rig {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(config, now), now }
    }

    /// After the handshake.
    fn ready() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let mut rig = Self::new(config);
        rig.sent();
        rig.receive(1, Body::Hello(Hello::only_1_5()));
        rig.sent();
        rig.receive(4, Body::FeaturesReply(features()));
        rig.receive(5, Body::GetConfigReply(SwitchConfig { flags: 0, miss_send_len: 0 }));
        rig.sent();
        rig.receive(8, Body::BarrierReply);
        assert!(matches!(&rig.outputs()[..], [Output::Ready(_)]));
        assert!(rig.machine.is_ready());
        rig
    }

    /// What the machine has sent since the last time.
    fn sent(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let mut bytes = self.machine.transmit(self.now).split();
            if bytes.is_empty() {
                return messages;
            }
            while let Some(len) = frame_len(&bytes) {
                let frame = bytes.split_to(len.expect("a header"));
                messages.push(Message::decode(&frame).expect("what we sent"));
            }
        }
    }

    fn receive(&mut self, xid: u32, body: Body) {
        assert_eq!(self.receive_all(xid, body), 0, "bytes left");
    }

    /// Returns how many bytes of the message were not taken.
    fn receive_all(&mut self, xid: u32, body: Body) -> usize {
        let bytes = Message { xid, body }.encode().expect("it fits");
        bytes.len() - self.machine.handle_input(self.now, &bytes)
    }

    fn ask(&mut self, ticket: u64, request: Request) -> Vec<Message> {
        self.machine.handle_request(self.now, ticket, request);
        self.sent()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.machine.poll_output()).collect()
    }

    /// The only output, which is the answer to this request.
    fn answer(&mut self, ticket: u64) -> Result<Response, Failure> {
        let mut outputs = self.outputs();
        match (outputs.pop(), outputs.len()) {
            (Some(Output::Answer(t, answer)), 0) if t == ticket => answer,
            (last, _) => panic!("{outputs:?}, {last:?}"),
        }
    }

    /// Lets the time go by, in steps as a shell would.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.machine.poll_timeout().filter(|&next| next <= end) {
            self.now = next;
            self.machine.handle_timeout(next);
        }
        self.now = end;
    }

    fn bundle_reply(&mut self, xid: u32, kind: BundleControlType) {
        let properties = Bytes::new();
        self.receive(xid, Body::BundleControl(BundleControl { bundle_id: 1, kind, flags: 0, properties }));
    }
}

fn features() -> Features {
    Features { datapath_id: 1, n_buffers: 0, n_tables: 254, auxiliary_id: 0, capabilities: 0 }
}

fn bundle(n: u16) -> Messages {
    Messages::Flows((0..n).map(|i| FlowMod::add(Flow::new(1, i, Match::new(), vec![]))).collect())
}

fn packet() -> Body {
    Body::PacketOut(PacketOut::new(PortNo::LOCAL, vec![], vec![0; 60]))
}

const BARRIER: Request = Request::Send(Vec::new());

fn kinds(messages: &[Message]) -> Vec<BundleControlType> {
    let control = |message: &Message| match &message.body {
        Body::BundleControl(control) => Some(control.kind),
        _ => None,
    };
    messages.iter().filter_map(control).collect()
}
