//! Bundles, from their opening to whatever end.

use std::time::Duration;

use bytes::Bytes;
use ofpacket::{Body, BundleControlType, Message, OfError, frame_len};
use openflow_rs::machine::{Failure, Output, Request, Response};
use openflow_rs::{BundleError, CloseReason};

use crate::{Rig, bundle, kinds};

#[test]
fn a_bundle_is_committed_when_all_of_it_is_in() {
    let mut rig = Rig::ready();
    let sent = rig.ask(1, Request::Bundle(bundle(3)));
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
    let sent = rig.ask(1, Request::Bundle(bundle(3)));
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
    let sent = rig.ask(1, Request::Bundle(bundle(1)));
    rig.receive(sent[0].xid, Body::Error(OfError::standard(1, 5)));
    rig.receive(sent[1].xid, Body::Error(OfError::standard(1, 5)));
    rig.receive(sent[2].xid, Body::Error(OfError::standard(1, 5)));
    assert!(matches!(rig.answer(1), Err(Failure::Bundle(BundleError::Refused(_)))));
}

#[test]
fn what_became_of_a_bundle_is_known_or_said_to_be_unknown() {
    // No answer before the commit: nothing was changed, and the bundle is thrown away.
    let mut rig = Rig::ready();
    rig.ask(1, Request::Bundle(bundle(2)));
    rig.wait(Duration::from_secs(5));
    assert!(kinds(&rig.sent()).contains(&BundleControlType::DiscardRequest));
    assert!(matches!(rig.answer(1), Err(Failure::Bundle(BundleError::Timeout))));

    // The connection goes before the commit.
    let mut rig = Rig::ready();
    rig.ask(1, Request::Bundle(bundle(2)));
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
        let sent = rig.ask(1, Request::Bundle(bundle(2)));
        rig.bundle_reply(sent[3].xid, BundleControlType::CloseReply);
        lose(&mut rig);
        let outputs = rig.outputs();
        assert!(
            matches!(&outputs[0], Output::Answer(1, Err(Failure::Bundle(BundleError::Unknown { .. })))),
            "{outputs:?}"
        );
    }
}

/// The messages of a large bundle are made as the switch takes them, and its time begins anew with each step.
#[test]
fn a_large_bundle_is_sent_bit_by_bit() {
    let mut rig = Rig::ready();
    rig.machine.handle_request(rig.now, 1, Request::Bundle(bundle(20_000)));
    rig.machine.handle_request(rig.now, 2, Request::Bundle(bundle(1)));
    let mut stream = bytes::BytesMut::new();
    let mut steps = 0;
    loop {
        rig.wait(Duration::from_secs(4));
        rig.receive(0, Body::EchoReply(Bytes::new()));
        let ready = rig.machine.transmit(rig.now);
        if ready.is_empty() {
            break;
        }
        assert!(ready.len() < 256 << 10, "{}", ready.len());
        stream.extend_from_slice(&ready.split());
        steps += 1;
    }
    assert!(steps > 10 && rig.outputs().is_empty());
    let mut adds = 0;
    while let Some(len) = frame_len(&stream) {
        let frame = stream.split_to(len.expect("a header"));
        let message = Message::decode(&frame).expect("what we sent");
        adds += usize::from(matches!(message.body, Body::BundleAdd(_)));
    }
    assert_eq!(adds, 20_001, "one after the other");
    // The switch takes nothing more, and has not even all of it.
    let mut rig = Rig::ready();
    rig.machine.handle_request(rig.now, 1, Request::Bundle(bundle(20_000)));
    assert!(!rig.machine.transmit(rig.now).is_empty());
    rig.wait(Duration::from_secs(5));
    assert!(matches!(rig.answer(1), Err(Failure::Bundle(BundleError::Timeout))));
    let rest = rig.sent();
    assert!(rest.len() < 20_000 && kinds(&rest).last() == Some(&BundleControlType::DiscardRequest));
}

/// A secondary's bundle is not worth sending, and a flood of refusals is not worth keeping.
#[test]
fn a_refused_bundle_is_cut_short() {
    for index in [0, 1] {
        let mut rig = Rig::ready();
        rig.machine.handle_request(rig.now, 1, Request::Bundle(bundle(20_000)));
        let first = rig.machine.transmit(rig.now).split();
        let open = Message::decode(&first[..16]).expect("OPEN");
        for i in 0..2000 {
            let xid = open.xid + index * (1 + i % 500);
            let data = Bytes::from_static(&[7; 5000]);
            rig.receive(xid, Body::Error(OfError { data, ..OfError::standard(1, 10) }));
        }
        let rest = rig.sent();
        assert_eq!((rest.len(), kinds(&rest)), (1, vec![BundleControlType::CloseRequest]));
        rig.bundle_reply(rest[0].xid, BundleControlType::CloseReply);
        match rig.answer(1) {
            Err(Failure::Bundle(BundleError::Refused(error))) if index == 0 => {
                assert_eq!(error.to_string(), "OFPBRC_IS_SECONDARY");
            }
            Err(Failure::Bundle(BundleError::Rejected(errors))) => {
                assert_eq!((errors.len(), errors[0].1.data.len()), (1024, 64));
            }
            other => panic!("{other:?}"),
        }
    }
}
