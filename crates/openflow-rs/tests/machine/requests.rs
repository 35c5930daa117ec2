//! The handshake, and everything that is asked or told.

use std::time::Duration;

use bytes::Bytes;
use ofpacket::{
    AsyncConfig, Body, BundleControlType, Experimenter, Flow, FlowMonitorRequest, Hello, Match, Message,
    MultipartReply, OfError, PortNo, ReplyBody, RequestBody, SwitchConfig,
};
use openflow_rs::machine::{Failure, Output, Request, Response};
use openflow_rs::{BundleError, CloseReason, Config, Error, Event};

use crate::{BARRIER, Rig, bundle, features, kinds, packet};

#[test]
fn the_handshake() {
    let mut rig = Rig::new(Config::default());
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
    rig.receive(4, Body::FeaturesReply(features()));
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
    let mut rig = Rig::new(Config::default());
    rig.receive(1, Body::Hello(Hello::new(1, &[])));
    assert_eq!(offer(&mut rig), "OpenFlow10");

    // It may say so with an error, whose data is a text.
    let mut rig = Rig::new(Config::default());
    let error = OfError { data: "we support only version 0x01".into(), ..OfError::standard(0, 0) };
    rig.receive(1, Body::Error(error));
    assert_eq!(offer(&mut rig), "we support only version 0x01");
}

/// What a switch speaks that is refused for it.
fn offer(rig: &mut Rig) -> String {
    match &rig.outputs()[..] {
        [Output::Failed(Error::Version { offer }), Output::Close(CloseReason::Handshake)] => offer.clone(),
        outputs => panic!("{outputs:?}"),
    }
}

/// Without a bitmap that can be read, the version in the header counts, at once (OpenFlow 1.5, section 7.5.1).
#[test]
fn elements_that_cannot_be_read_do_not_keep_a_hello_from_being_one() {
    let broken: [&[u8]; 6] = [
        &[0],                                              // no element
        &[0, 1, 0, 3, 0, 0, 0, 0],                         // shorter than its header
        &[0, 1, 0, 16, 0, 0, 0, 0x40],                     // longer than the message
        &[0, 1, 0, 4, 0, 0, 0, 0],                         // a bitmap without bits
        &[0, 1, 0, 6, 0, 0x40, 1, 1],                      // a half of one
        &[0, 9, 0, 6, 1, 2, 3, 4, 0xff, 0xff, 0, 0, 0, 0], // of a type that nobody knows, and rubbish
    ];
    for elements in broken.map(Bytes::copy_from_slice) {
        let mut rig = Rig::new(Config::default());
        rig.receive(1, Body::Hello(Hello { version: 4, elements: elements.clone() }));
        assert_eq!(offer(&mut rig), "OpenFlow10, OpenFlow11, OpenFlow12, OpenFlow13", "{elements:02x?}");

        let mut rig = Rig::new(Config::default());
        rig.sent();
        rig.receive(1, Body::Hello(Hello { version: 6, elements: elements.clone() }));
        assert_eq!(rig.sent().len(), 4, "it is asked on: {elements:02x?}");
    }
    // A bitmap that can be read counts, whatever else there is.
    let elements = [&broken[5][..8], &[0, 1, 0, 8, 0, 0, 0, 0x10], &[1]].concat().into();
    let mut rig = Rig::new(Config::default());
    rig.receive(1, Body::Hello(Hello { version: 6, elements }));
    assert_eq!(offer(&mut rig), "OpenFlow13");
}

#[test]
fn a_silent_switch_is_given_up() {
    let mut rig = Rig::new(Config::default());
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
fn every_request_is_answered_once() {
    let requests = || {
        [
            Request::Multipart(RequestBody::FlowDesc(Default::default())),
            Request::Ask(Body::Experimenter(Experimenter::TlvTableRequest)),
            Request::Multipart(RequestBody::PortDesc(PortNo::ANY)),
            Request::Multipart(RequestBody::Desc),
            BARRIER,
            Request::MonitorFlows(vec![FlowMonitorRequest::everything(1)]),
            Request::Bundle(bundle(2)),
            Request::Send(vec![packet()]),
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
            rig.receive_all(xid, Body::BarrierReply);
            rig.receive_all(xid, Body::Error(OfError::standard(1, 5)));
        }
        assert_eq!(tickets(&rig.outputs()), []);
        // And after the end.
        rig.ask(8, BARRIER);
        rig.ask(9, Request::Bundle(bundle(1)));
        assert_eq!(tickets(&rig.outputs()), [8, 9]);
    }
}

#[test]
fn a_dump_in_parts_is_put_together() {
    let mut rig = Rig::ready();
    let sent = rig.ask(1, Request::Multipart(RequestBody::PortDesc(PortNo::ANY)));
    let part = |more| Body::MultipartReply(MultipartReply { more, body: ReplyBody::PortDesc(vec![]) });
    rig.receive(sent[0].xid, part(true));
    // Somebody else's, and nobody's.
    rig.receive(sent[0].xid + 1, part(false));
    rig.receive(0, part(false));
    assert!(rig.outputs().is_empty());
    rig.receive(sent[0].xid, part(false));
    assert!(matches!(rig.answer(1), Ok(Response::Parts(parts)) if parts.len() == 2));
}

#[test]
fn an_answer_of_another_kind_or_without_end_is_an_error() {
    let part = |kind, more| {
        let body = Bytes::from_static(&[0; 1000]);
        Body::MultipartReply(MultipartReply { more, body: ReplyBody::Other { kind, body } })
    };
    let question = || {
        let body = RequestBody::Other { kind: 0x7777, body: Bytes::new() };
        Request::Multipart(body)
    };
    let mut rig = Rig::ready();
    let sent = rig.ask(1, question());
    rig.receive(sent[0].xid, part(0x7777, true));
    rig.receive(sent[0].xid, part(0x7776, true));
    assert!(matches!(rig.answer(1), Err(Failure::Request(Error::Unexpected { .. }))));

    let mut rig = Rig::with(Config { max_reply: 10_000, ..Config::default() });
    let sent = rig.ask(1, question());
    for _ in 0..9 {
        rig.receive(sent[0].xid, part(0x7777, true));
        assert!(rig.outputs().is_empty());
    }
    rig.receive(sent[0].xid, part(0x7777, true));
    assert!(matches!(rig.answer(1), Err(Failure::Request(Error::ReplyTooLong { limit: 10_000, .. }))));
    rig.receive(sent[0].xid, part(0x7777, false));
    assert!(rig.outputs().is_empty(), "nobody waits for the rest");
}

/// As long as the switch answers, it has all the time it needs.
#[test]
fn what_makes_progress_is_not_given_up() {
    let part = |more| Body::MultipartReply(MultipartReply { more, body: ReplyBody::PortDesc(vec![]) });
    let mut rig = Rig::ready();
    let dump = rig.ask(1, Request::Multipart(RequestBody::PortDesc(PortNo::ANY)));
    let sent = rig.ask(2, Request::Bundle(bundle(2)));
    for _ in 0..5 {
        rig.wait(Duration::from_secs(4));
        rig.receive(dump[0].xid, part(true));
        if let Some(Message { xid, .. }) = rig.sent().into_iter().find(|sent| sent.body.kind() == 2) {
            rig.receive(xid, Body::EchoReply(Bytes::new()));
        }
    }
    assert!(matches!(rig.answer(2), Err(Failure::Bundle(BundleError::Timeout))), "that one was forgotten");
    rig.receive(dump[0].xid, part(false));
    assert!(matches!(rig.answer(1), Ok(Response::Parts(parts)) if parts.len() == 6));
    // Too late.
    rig.bundle_reply(sent[3].xid, BundleControlType::CloseReply);
    assert_eq!((kinds(&rig.sent()).len(), rig.outputs().len()), (0, 0));
}

#[test]
fn who_asks_for_echoes_must_read_them() {
    let mut rig = Rig::ready();
    let data = Bytes::from(vec![0; 60_000]);
    for _ in 0..100 {
        rig.receive_all(0, Body::EchoRequest(data.clone()));
    }
    assert!(matches!(&rig.outputs()[..], [Output::Close(CloseReason::Deaf)]));
    assert!(rig.machine.transmit(rig.now).len() < 2 << 20);
}

/// Asynchronous messages come whenever they like, and with whatever xid.
#[test]
fn what_is_told_is_not_taken_for_an_answer() {
    let mut rig = Rig::ready();
    let sent = rig.ask(1, Request::Ask(Body::GetConfigRequest));
    let xid = sent[0].xid;
    rig.receive(xid, Body::Experimenter(Experimenter::PacketIn2(Default::default())));
    rig.receive(xid, Body::Unknown { kind: 30, body: Bytes::from_static(&[0; 16]) });
    let outputs = rig.outputs();
    assert!(
        matches!(
            &outputs[..],
            [Output::Event(Event::PacketIn(_), _), Output::Event(Event::Other(body), _)] if body.kind() == 30
        ),
        "{outputs:?}"
    );
    rig.receive(xid, Body::GetConfigReply(SwitchConfig { flags: 1, miss_send_len: 128 }));
    assert!(matches!(rig.answer(1), Ok(Response::Message(Body::GetConfigReply(_)))));
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
        [Output::Event(Event::FlowUpdates(_), _), Output::Event(Event::FlowUpdates(_), _)]
    ));
    rig.receive(sent[0].xid, updates(false));
    let outputs = rig.outputs();
    let [
        Output::Event(Event::FlowUpdates(_), _),
        Output::Event(Event::InitialFlowsDone { monitor_ids }, _),
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
    let sent = rig.ask(1, Request::Send(vec![packet(), packet()]));
    let [_, second, barrier] = &sent[..] else { panic!("{sent:?}") };
    rig.receive(second.xid, Body::Error(OfError::standard(2, 9)));
    assert!(rig.outputs().is_empty());
    rig.receive(barrier.xid, Body::BarrierReply);
    assert!(matches!(rig.answer(1), Err(Failure::Request(Error::Refused { .. }))));
    // An error that belongs to nothing is told.
    rig.receive(second.xid, Body::Error(OfError::standard(2, 9)));
    assert!(matches!(&rig.outputs()[..], [Output::Event(Event::Error(_), _)]));
}
