//! Peers that are wrong, silent, deaf, or too much.

use std::time::Duration;

use ofpacket::{Body, BundleControlType, FlowUpdateEvent, Hello, Message, OfError};
use openflow_rs::{BundleError, Client, CloseReason, Config, Error, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::{Peer, closed, flow_mods, updates};

#[tokio::test]
async fn garbage_ends_the_connection() {
    for garbage in [&[6, 2, 0, 7, 0, 0, 0, 0][..], &[4, 2, 0, 8, 0, 0, 0, 0], &[6, 14, 0, 9, 0, 0, 0, 0, 1]] {
        let (mut peer, client, mut events) = Peer::connect(Config::default()).await;
        let asking = tokio::spawn({
            let client = client.clone();
            async move { client.barrier().await }
        });
        peer.receive().await;
        peer.0.write_all(garbage).await.expect("somebody reads");
        let error = asking.await.expect("no panic").expect_err("no answer");
        assert!(matches!(error, Error::Closed(CloseReason::Protocol(_))), "{error:?}");
        assert!(matches!(closed(&mut events).await, CloseReason::Protocol(_)));
        assert_eq!(client.closed().map(|reason| reason.label()), Some("protocol"));
    }
}

#[tokio::test]
async fn a_message_in_pieces_is_one() {
    let (mut peer, client, _events) = Peer::connect(Config::default()).await;
    let switch = async {
        let request = peer.receive().await;
        let reply = Message { xid: request.xid, body: Body::BarrierReply };
        for byte in reply.encode().expect("it fits") {
            peer.0.write_all(&[byte]).await.expect("somebody reads");
            peer.0.flush().await.expect("somebody reads");
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(client.barrier(), switch);
    answer.expect("an answer");
}

#[tokio::test]
async fn events_that_nobody_reads_end_the_connection() {
    let packet = ofpacket::PacketIn2 { packet: vec![0; 60_000].into(), ..Default::default() };
    let config = Config { max_event_bytes: 250_000, ..Config::default() };
    let (mut peer, client, mut events) = Peer::connect(config).await;
    let message = Message { xid: 0, body: Body::Experimenter(ofpacket::Experimenter::PacketIn2(packet)) };
    let bytes = message.encode().expect("it fits");
    for _ in 0..5 {
        peer.0.write_all(&bytes).await.expect("somebody reads");
    }
    assert_eq!(client.barrier().await.expect_err("no answer").label(), "event_overflow");
    for _ in 0..4 {
        assert!(matches!(events.next().await, Some(Event::PacketIn(_))));
    }
    assert!(matches!(closed(&mut events).await, CloseReason::EventOverflow));
}

#[tokio::test]
async fn a_connection_that_nobody_holds_ends() {
    let (mut peer, client, events) = Peer::connect(Config::default()).await;
    drop(events);
    let another = client.clone();
    drop(client);
    let switch = async {
        let request = peer.receive().await;
        peer.send(request.xid, Body::BarrierReply).await;
    };
    let (answer, ()) = tokio::join!(another.barrier(), switch);
    answer.expect("a client is enough");
    drop(another);
    let end = tokio::time::timeout(Duration::from_secs(20), peer.0.read(&mut [0])).await;
    assert_eq!(end.expect("an end in time").expect("an end"), 0);
}

/// Accepts, and never says a word; or says HELLO, and nothing after that.
#[tokio::test(start_paused = true)]
async fn a_silent_switch_is_given_up() {
    for hello in [false, true] {
        let (ours, theirs) = duplex(64);
        let mut peer = Peer(theirs);
        if hello {
            peer.send(1, Body::Hello(Hello::only_1_5())).await;
        }
        let begin = tokio::time::Instant::now();
        let error = Client::over(ours, Config::default()).await.map(|_| ()).expect_err("no answer");
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        assert_eq!(begin.elapsed().as_secs(), Config::default().request_timeout.as_secs());
    }

    let (_peer, client, mut events) = Peer::connect(Config::default()).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(client.barrier().await.expect_err("no answer").label(), "timeout");
    assert!(matches!(closed(&mut events).await, CloseReason::Unresponsive));
    assert_eq!(begin.elapsed().as_secs(), 2 * Config::default().probe_interval.as_secs());

    let (ours, theirs) = duplex(64);
    drop(theirs);
    let error = Client::over(ours, Config::default()).await.map(|_| ()).expect_err("nobody is there");
    assert!(matches!(error, Error::Closed(_)), "{error:?}");
}

/// Answers echoes, and at some point of a bundle nothing else any more.
#[tokio::test(start_paused = true)]
async fn an_unanswered_bundle_says_whether_it_may_have_been_done() {
    for commit in [false, true] {
        let (mut peer, client, _events) = Peer::connect(Config::default()).await;
        let switch = tokio::spawn(async move {
            if commit {
                assert_eq!(peer.take_bundle().await, 100);
            }
            loop {
                let message = peer.receive().await;
                if let Body::EchoRequest(data) = message.body {
                    peer.send(message.xid, Body::EchoReply(data)).await;
                }
            }
        });
        let begin = tokio::time::Instant::now();
        let error = client.bundle(flow_mods(100)).await.expect_err("no answer");
        match commit {
            false => assert!(matches!(error, BundleError::Timeout), "{error:?}"),
            true => assert!(matches!(error, BundleError::Unknown { .. }), "{error:?}"),
        }
        assert_eq!(begin.elapsed().as_secs(), 5);
        assert_eq!(client.closed().map(|reason| reason.label()), None, "the connection lives");
        switch.abort();
    }
}

/// Stops reading in the middle of a bundle.
#[tokio::test(start_paused = true)]
async fn a_deaf_switch_gets_no_more_than_it_takes() {
    let (mut peer, client, mut events) = Peer::connect(Config::default()).await;
    let bundle = tokio::spawn({
        let client = client.clone();
        async move { client.bundle(flow_mods(50_000)).await }
    });
    for _ in 0..1000 {
        peer.receive().await;
    }
    let error = bundle.await.expect("no panic").expect_err("no answer");
    assert!(matches!(error, BundleError::Timeout), "{error:?}");
    // Nothing comes from it either: it is given up.
    assert!(matches!(closed(&mut events).await, CloseReason::Unresponsive));
    assert!(matches!(client.bundle(flow_mods(1)).await, Err(BundleError::Closed(_))));
}

/// 100,000 changes of flows from a switch that takes nothing of a bundle before it has told them all: as many
/// bytes wait as [`Config::max_event_bytes`] allows, 128 KiB to be sent, and 128 KiB that were read.
#[tokio::test]
async fn a_flood_of_changes_does_not_stop_a_bundle() {
    const CHANGES: u32 = 100_000;
    let (mut peer, client, mut events) = Peer::connect(Config::default()).await;
    let switch = tokio::spawn(async move {
        for i in 0..CHANGES / 10 {
            peer.send(0, updates(FlowUpdateEvent::Added, 10 * i..10 * (i + 1), false)).await;
        }
        assert_eq!(peer.take_bundle().await, 20_000);
        let commit = peer.receive().await;
        peer.control(commit.xid, BundleControlType::CommitReply).await;
        peer
    });
    client.bundle(flow_mods(20_000)).await.expect("a bundle");
    let _peer = switch.await.expect("no panic");
    let mut told = 0;
    while let Some(Event::FlowUpdates(updates)) = events.try_next() {
        told += updates.len();
    }
    assert_eq!(told, CHANGES as usize);

    // The same, where not so much may wait.
    let config = Config { max_event_bytes: 1 << 20, ..Config::default() };
    let (mut peer, client, mut events) = Peer::connect(config).await;
    let switch = tokio::spawn(async move {
        let change = Message { xid: 0, body: updates(FlowUpdateEvent::Added, 0..100, false) };
        let change = change.encode().expect("it fits");
        while peer.0.write_all(&change).await.is_ok() {}
    });
    let error = client.bundle(flow_mods(20_000)).await.expect_err("the end");
    assert!(matches!(error, BundleError::Closed(CloseReason::EventOverflow)), "{error:?}");
    assert!(matches!(closed(&mut events).await, CloseReason::EventOverflow));
    switch.await.expect("no panic");
}

/// Errors for nothing, or for a bundle.
#[tokio::test]
async fn a_flood_of_errors_has_an_end() {
    let error = |xid| {
        let data = vec![0; 1000].into();
        Message { xid, body: Body::Error(OfError { data, ..OfError::standard(1, 6) }) }
            .encode()
            .expect("it fits")
    };
    let (mut peer, client, mut events) = Peer::connect(Config::default()).await;
    let switch = tokio::spawn(async move { while peer.0.write_all(&error(0x7000_0000)).await.is_ok() {} });
    let refused = client.barrier().await.expect_err("the end");
    assert!(matches!(refused, Error::Closed(CloseReason::EventOverflow)), "{refused:?}");
    assert!(matches!(closed(&mut events).await, CloseReason::EventOverflow));
    switch.await.expect("no panic");

    let (mut peer, client, mut events) = Peer::connect(Config::default()).await;
    let switch = tokio::spawn(async move {
        let open = peer.receive().await;
        for i in 0..100_000 {
            peer.0.write_all(&error(open.xid + 1 + i % 200)).await.expect("somebody reads");
        }
        peer.take_bundle().await;
        peer
    });
    let error = client.bundle(flow_mods(50_000)).await.expect_err("a refusal");
    let BundleError::Rejected(errors) = error else { panic!("{error:?}") };
    assert_eq!(errors.len(), 1024);
    assert!(errors.iter().all(|(_, error)| error.data.len() == 64));
    let _peer = switch.await.expect("no panic");
    assert!(events.try_next().is_none(), "they all belong to the bundle");
}

/// Echo upon echo, whose answers are not read.
#[tokio::test]
async fn a_flood_of_echoes_has_an_end() {
    let (mut peer, _client, mut events) = Peer::connect(Config::default()).await;
    let switch = tokio::spawn(async move {
        let echo = Message { xid: 1, body: Body::EchoRequest(vec![0; 60_000].into()) };
        let echo = echo.encode().expect("it fits");
        while peer.0.write_all(&echo).await.is_ok() {}
    });
    assert!(matches!(closed(&mut events).await, CloseReason::Deaf));
    switch.await.expect("no panic");
}
