//! A session with a switch that comes and goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ofpacket::{Body, FlowUpdateEvent, Message, OfError};
use openflow_rs::{Client, CloseReason, Config, Error, Session, SessionConfig, SessionEvent};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use crate::{Peer, updates};

/// A session whose other ends come out of a queue, after so many attempts that fail.
fn session(failures: usize) -> (Session, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, streams) = mpsc::unbounded_channel();
    let attempts = Arc::new(AtomicUsize::new(0));
    let connect = move |config: Config| {
        let (sender, fails) = (sender.clone(), attempts.fetch_add(1, Ordering::Relaxed) < failures);
        async move {
            if fails {
                return Err(Error::Timeout { what: "a test" });
            }
            let (ours, theirs) = duplex(1 << 16);
            sender.send(theirs).expect("the test lives");
            Client::over(ours, config).await
        }
    };
    (Session::with(connect, SessionConfig::default(), |_| true), streams)
}

/// The next switch, after the handshake.
async fn switch(streams: &mut mpsc::UnboundedReceiver<DuplexStream>) -> Peer {
    let mut peer = Peer(streams.recv().await.expect("a connection"));
    peer.shake_hands().await;
    peer
}

#[tokio::test(start_paused = true)]
async fn the_waits_grow_and_have_a_limit() {
    let (mut session, mut streams) = session(9);
    let longest = SessionConfig::default().longest_wait;
    let mut step = SessionConfig::default().first_wait;
    for _ in 0..9 {
        let begin = tokio::time::Instant::now();
        let SessionEvent::Lost { reason: Error::Timeout { .. }, retry_in } = session.next().await else {
            panic!()
        };
        assert!(retry_in <= step && retry_in >= step / 2, "{retry_in:?} of {step:?}");
        assert!(begin.elapsed() <= longest);
        assert!(session.try_next().is_none(), "not before the time has come");
        step = (step * 2).min(longest);
    }
    // It may be the work of any thread.
    fn is_send(_: &impl Send) {}
    is_send(&session);
    // The tenth attempt succeeds, but the connection is lost before it was of any use: the waits go on.
    let (event, peer) = tokio::join!(session.next(), switch(&mut streams));
    drop(peer);
    assert!(matches!(event, SessionEvent::Connected(_)));
    let SessionEvent::Lost { retry_in, .. } = session.next().await else { panic!() };
    assert!(retry_in >= longest / 2);
}

#[tokio::test]
async fn half_of_the_flows_replace_nothing() {
    let (mut session, mut streams) = session(0);
    let begin = async |session: &mut Session, streams: &mut _| {
        let (event, told) = tokio::join!(session.next(), switch(streams));
        assert!(matches!(event, SessionEvent::Connected(_)), "{event:?}");
        told
    };
    // The first connection is told ten flows, and then one more.
    let mut peer = begin(&mut session, &mut streams).await;
    let xid = request(&mut session, &mut peer).await;
    peer.send(xid, updates(FlowUpdateEvent::Initial, 0..6, true)).await;
    peer.send(0, updates(FlowUpdateEvent::Added, 8..9, false)).await;
    peer.send(xid, updates(FlowUpdateEvent::Initial, 6..10, false)).await;
    assert!(matches!(session.next().await, SessionEvent::TableReplaced));
    assert_eq!((session.flows().len(), session.is_current()), (10, true));
    peer.send(0, updates(FlowUpdateEvent::Added, 10..11, false)).await;
    peer.send(0, updates(FlowUpdateEvent::Added, 10..11, false)).await;
    for expected in [true, false] {
        let event = session.next().await;
        assert!(
            matches!(&event, SessionEvent::FlowUpdates { updates, changed } if *changed == expected && updates.len() == 1),
            "{event:?}"
        );
    }

    // The second one ends in the middle.
    drop(peer);
    let event = session.next().await;
    assert!(matches!(
        event,
        SessionEvent::Lost { reason: Error::Closed(CloseReason::Eof | CloseReason::Io(_)), .. }
    ));
    let mut peer = begin(&mut session, &mut streams).await;
    let xid = request(&mut session, &mut peer).await;
    peer.send(xid, updates(FlowUpdateEvent::Initial, 50..52, true)).await;
    peer.0.flush().await.expect("somebody reads");
    drop(peer);
    assert!(matches!(session.next().await, SessionEvent::Lost { .. }));
    assert_eq!((session.flows().len(), session.is_current()), (11, false));

    // The third one refuses the monitor, which ends it too.
    let mut peer = begin(&mut session, &mut streams).await;
    let xid = request(&mut session, &mut peer).await;
    peer.send(xid, Body::Error(OfError::standard(1, 2))).await;
    assert!(matches!(session.next().await, SessionEvent::Lost { reason: Error::Refused { .. }, .. }));
    assert_eq!(session.flows().len(), 11);

    // The fourth one has other flows.
    let mut peer = begin(&mut session, &mut streams).await;
    let xid = request(&mut session, &mut peer).await;
    peer.send(xid, updates(FlowUpdateEvent::Initial, 50..52, false)).await;
    assert!(matches!(session.next().await, SessionEvent::TableReplaced));
    assert_eq!((session.flows().len(), session.is_current()), (2, true));
}

/// The xid of the request for the flows, for which the session has to run.
async fn request(session: &mut Session, peer: &mut Peer) -> u32 {
    let asked = async {
        loop {
            if let Message { xid, body: Body::MultipartRequest(_) } = peer.receive().await {
                return xid;
            }
        }
    };
    tokio::select! {
        xid = asked => xid,
        event = session.next() => panic!("{event:?}"),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("no request"),
    }
}
