//! The protocol without sockets: what a switch that is slow, wrong or gone does to those who wait.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ofpacket::{
    AsyncConfig, Body, BundleControl, BundleControlType, Experimenter, Features, Flow, FlowMod,
    FlowMonitorRequest, Hello, Match, Message, MultipartReply, OfError, PacketOut, PortNo, ReplyBody,
    SwitchConfig, frame_len,
};
use openflow_rs::machine::{Failure, Machine, Output, Request, Response};
use openflow_rs::{BundleError, CloseReason, Config, Error, Event};

/// A machine, the messages that it has sent, and the time.
struct Rig {
    machine: Machine,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(Config::default(), now), now }
    }

    /// After the handshake.
    fn ready() -> Self {
        let mut rig = Self::new();
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
        let mut bytes = self.machine.transmit().split();
        let mut messages = Vec::new();
        while let Some(len) = frame_len(&bytes) {
            let frame = bytes.split_to(len.expect("a header"));
            messages.push(Message::decode(&frame).expect("what we sent"));
        }
        messages
    }

    fn receive(&mut self, xid: u32, body: Body) {
        self.machine.handle_message(self.now, Message { xid, body });
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

fn mods(n: u16) -> Vec<FlowMod> {
    (0..n).map(|i| FlowMod::add(Flow::new(1, i, Match::new(), vec![]))).collect()
}

fn kinds(messages: &[Message]) -> Vec<BundleControlType> {
    let control = |message: &Message| match &message.body {
        Body::BundleControl(control) => Some(control.kind),
        _ => None,
    };
    messages.iter().filter_map(control).collect()
}

#[test]
fn the_handshake() {
    let mut rig = Rig::new();
    let [hello] = &rig.sent()[..] else { panic!() };
    assert!(matches!(&hello.body, Body::Hello(hello) if hello.speaks(6) && !hello.speaks(5)));
    rig.receive(99, Body::Hello(Hello::only_1_5()));
    let sent: Vec<_> = rig.sent().into_iter().map(|message| message.body).collect();
    let expected = [
        Body::Experimenter(Experimenter::SetPacketInFormat(2)),
        Body::Experimenter(Experimenter::SetControllerId(Config::default().controller_id)),
        Body::FeaturesRequest,
        Body::GetConfigRequest,
    ];
    assert_eq!(sent, expected);
    // The switch's handling of fragments stays what it is.
    rig.receive(5, Body::GetConfigReply(SwitchConfig { flags: 3, miss_send_len: 0 }));
    let sent = rig.sent();
    let [set_config, set_async, barrier] = &sent[..] else { panic!("{sent:?}") };
    assert!(
        matches!(&set_config.body, Body::SetConfig(config) if config.flags == 3 && config.miss_send_len > 0)
    );
    let Body::SetAsync(wanted) = &set_async.body else { panic!("{set_async:?}") };
    assert_eq!(
        (wanted.get(AsyncConfig::PORT_STATUS), wanted.get(AsyncConfig::FLOW_REMOVED)),
        (Some(7), Some(0))
    );
    assert!(!rig.machine.is_ready());
    rig.receive(barrier.xid, Body::BarrierReply);
    assert!(rig.machine.is_ready());
}

#[test]
fn a_switch_of_another_version_is_refused() {
    let mut rig = Rig::new();
    rig.receive(1, Body::Hello(Hello { version: 1, bitmaps: vec![] }));
    let outputs = rig.outputs();
    let [Output::Failed(Error::Version { offer }), Output::Close(CloseReason::Handshake)] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(offer, "OpenFlow10");

    // It may say so with an error, whose data is a text.
    let mut rig = Rig::new();
    let error = OfError { data: "we support only version 0x01".into(), ..OfError::standard(0, 0) };
    rig.receive(1, Body::Error(error));
    assert!(matches!(&rig.outputs()[..], [Output::Failed(Error::Version { .. }), Output::Close(_)]));
}

#[test]
fn a_silent_switch_is_given_up() {
    let mut rig = Rig::new();
    rig.wait(Config::default().request_timeout);
    assert!(matches!(&rig.outputs()[..], [Output::Failed(Error::Timeout { .. }), Output::Close(_)]));

    let mut rig = Rig::ready();
    rig.wait(Duration::from_secs(6));
    let [Message { xid, body: Body::EchoRequest(_) }] = rig.sent()[..] else { panic!("a probe is due") };
    rig.receive(xid, Body::EchoReply(Bytes::new()));
    rig.wait(Duration::from_secs(6));
    assert_eq!((rig.sent().len(), rig.outputs().len()), (1, 0));
    rig.wait(Duration::from_secs(6));
    assert!(matches!(&rig.outputs()[..], [Output::Close(CloseReason::Unresponsive)]));
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn echoes_are_answered() {
    let mut rig = Rig::ready();
    rig.receive(77, Body::EchoRequest("hello".into()));
    assert_eq!(rig.sent(), [Message { xid: 77, body: Body::EchoReply("hello".into()) }]);
}

#[test]
fn a_bundle_is_committed_when_all_of_it_is_in() {
    let mut rig = Rig::ready();
    let sent = rig.ask(1, Request::Bundle(mods(3)));
    assert_eq!((sent.len(), kinds(&sent).len()), (5, 2), "OPEN, three flow mods, CLOSE");
    rig.bundle_reply(sent[0].xid, BundleControlType::OpenReply);
    assert_eq!(rig.sent(), []);
    rig.bundle_reply(sent[4].xid, BundleControlType::CloseReply);
    let commit = rig.sent();
    assert_eq!(kinds(&commit), [BundleControlType::CommitRequest]);
    assert!(rig.outputs().is_empty());
    rig.bundle_reply(commit[0].xid, BundleControlType::CommitReply);
    assert!(matches!(rig.answer(1), Ok(Response::Done)));
}

#[test]
fn a_bundle_with_a_refused_flow_is_discarded() {
    let mut rig = Rig::ready();
    let sent = rig.ask(1, Request::Bundle(mods(3)));
    rig.receive(sent[1].xid, Body::Error(OfError::standard(2, 15)));
    rig.receive(sent[3].xid, Body::Error(OfError::standard(4, 9)));
    rig.bundle_reply(sent[4].xid, BundleControlType::CloseReply);
    assert_eq!(kinds(&rig.sent()), [BundleControlType::DiscardRequest]);
    let Err(Failure::Bundle(BundleError::Rejected(errors))) = rig.answer(1) else { panic!() };
    let errors: Vec<_> = errors.iter().map(|(i, error)| (*i, error.to_string())).collect();
    assert_eq!(errors, [(0, "OFPBAC_BAD_SET_ARGUMENT".to_owned()), (2, "OFPBMC_BAD_PREREQ".to_owned())]);
}

/// A slave, or a switch without bundles.
#[test]
fn a_refused_bundle_is_an_error_of_its_own() {
    let mut rig = Rig::ready();
    let sent = rig.ask(1, Request::Bundle(mods(1)));
    rig.receive(sent[0].xid, Body::Error(OfError::standard(1, 5)));
    rig.receive(sent[1].xid, Body::Error(OfError::standard(1, 5)));
    rig.receive(sent[2].xid, Body::Error(OfError::standard(1, 5)));
    assert!(matches!(rig.answer(1), Err(Failure::Bundle(BundleError::Rejected(_)))));
}

#[test]
fn what_became_of_a_bundle_is_known_or_said_to_be_unknown() {
    // No answer before the commit: nothing was changed, and the bundle is thrown away.
    let mut rig = Rig::ready();
    rig.ask(1, Request::Bundle(mods(2)));
    rig.wait(Duration::from_secs(5));
    assert!(kinds(&rig.sent()).contains(&BundleControlType::DiscardRequest));
    assert!(matches!(rig.answer(1), Err(Failure::Bundle(BundleError::Timeout))));

    // The connection goes before the commit.
    let mut rig = Rig::ready();
    rig.ask(1, Request::Bundle(mods(2)));
    rig.machine.close(CloseReason::Eof);
    assert!(matches!(
        &rig.outputs()[..],
        [Output::Answer(1, Err(Failure::Bundle(BundleError::Closed(CloseReason::Eof)))), Output::Close(_)]
    ));

    // After the commit nobody can know.
    for lose in [
        |rig: &mut Rig| rig.wait(Duration::from_secs(5)),
        |rig: &mut Rig| rig.machine.close(CloseReason::Eof),
    ] {
        let mut rig = Rig::ready();
        let sent = rig.ask(1, Request::Bundle(mods(2)));
        rig.bundle_reply(sent[3].xid, BundleControlType::CloseReply);
        lose(&mut rig);
        let outputs = rig.outputs();
        assert!(
            matches!(&outputs[0], Output::Answer(1, Err(Failure::Bundle(BundleError::Unknown { .. })))),
            "{outputs:?}"
        );
    }
}

#[test]
fn every_request_is_answered_once() {
    let requests = || {
        [
            Request::DumpFlows(Default::default()),
            Request::TlvTable,
            Request::PortDesc,
            Request::Desc,
            Request::Barrier,
            Request::MonitorFlows(vec![FlowMonitorRequest::everything(1)]),
            Request::Bundle(mods(2)),
            Request::PacketOut(vec![PacketOut::new(PortNo::LOCAL, vec![], vec![0; 60])]),
        ]
    };
    let tickets = |outputs: &[Output]| {
        let ticket = |output: &Output| match output {
            Output::Answer(ticket, Err(_)) => Some(*ticket),
            _ => None,
        };
        let mut tickets: Vec<_> = outputs.iter().filter_map(ticket).collect();
        tickets.sort_unstable();
        tickets
    };
    for end in [
        |rig: &mut Rig| rig.wait(Duration::from_secs(60)),
        |rig: &mut Rig| rig.machine.close(CloseReason::Eof),
    ] {
        let mut rig = Rig::ready();
        for (ticket, request) in (0..).zip(requests()) {
            assert!(!rig.ask(ticket, request).is_empty());
        }
        end(&mut rig);
        assert_eq!(tickets(&rig.outputs()), [0, 1, 2, 3, 4, 5, 6, 7]);
        // Too late.
        for xid in 0..64 {
            rig.receive(xid, Body::BarrierReply);
            rig.receive(xid, Body::Error(OfError::standard(1, 5)));
        }
        assert_eq!(tickets(&rig.outputs()), []);
        // And after the end.
        rig.ask(8, Request::Barrier);
        rig.ask(9, Request::Bundle(mods(1)));
        assert_eq!(tickets(&rig.outputs()), [8, 9]);
    }
}

#[test]
fn a_dump_in_parts_is_put_together() {
    let mut rig = Rig::ready();
    let sent = rig.ask(1, Request::PortDesc);
    let part = |more| Body::MultipartReply(MultipartReply { more, body: ReplyBody::PortDesc(vec![]) });
    rig.receive(sent[0].xid, part(true));
    // Somebody else's, and nobody's.
    rig.receive(sent[0].xid + 1, part(false));
    rig.receive(0, part(false));
    assert!(rig.outputs().is_empty());
    rig.receive(sent[0].xid, part(false));
    assert!(matches!(rig.answer(1), Ok(Response::Ports(_))));
}

#[test]
fn the_first_state_of_a_monitor_has_an_end() {
    let mut rig = Rig::ready();
    let sent = rig.ask(1, Request::MonitorFlows(vec![FlowMonitorRequest::everything(5)]));
    let updates = |more| {
        let update = ofpacket::FlowUpdate::Full {
            event: ofpacket::FlowUpdateEvent::Initial,
            reason: 0,
            flow: Flow::new(1, 1, Match::new(), vec![]),
        };
        Body::MultipartReply(MultipartReply { more, body: ReplyBody::FlowMonitor(vec![update]) })
    };
    rig.receive(sent[0].xid, updates(true));
    // A change that came between.
    rig.receive(0, updates(false));
    assert!(matches!(
        &rig.outputs()[..],
        [Output::Event(Event::FlowUpdates(_)), Output::Event(Event::FlowUpdates(_))]
    ));
    rig.receive(sent[0].xid, updates(false));
    let outputs = rig.outputs();
    let [
        Output::Event(Event::FlowUpdates(_)),
        Output::Event(Event::InitialFlowsDone { monitor_ids }),
        Output::Answer(1, Ok(Response::Done)),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(monitor_ids, &[5]);
}

#[test]
fn a_refused_packet_is_the_answer_of_its_barrier() {
    let mut rig = Rig::ready();
    let packet = PacketOut::new(PortNo::LOCAL, vec![], vec![0; 60]);
    let sent = rig.ask(1, Request::PacketOut(vec![packet.clone(), packet]));
    let [_, second, barrier] = &sent[..] else { panic!("{sent:?}") };
    rig.receive(second.xid, Body::Error(OfError::standard(2, 9)));
    assert!(rig.outputs().is_empty());
    rig.receive(barrier.xid, Body::BarrierReply);
    assert!(matches!(rig.answer(1), Err(Failure::Request(Error::Refused { .. }))));
    // An error that belongs to nothing is told.
    rig.receive(second.xid, Body::Error(OfError::standard(2, 9)));
    assert!(matches!(&rig.outputs()[..], [Output::Event(Event::Error(_))]));
}
