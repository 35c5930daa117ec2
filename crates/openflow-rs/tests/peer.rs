//! Peers that no real switch would be.

use std::time::Duration;

use ofpacket::{Body, Features, Hello, Message, SwitchConfig, frame_len};
use openflow_rs::{Client, CloseReason, Config, Error, Event, Events};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The other end of a connection, after the handshake.
struct Peer(DuplexStream);

impl Peer {
    async fn connect(config: Config) -> (Self, Client, Events) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let mut peer = Self(theirs);
        let switch = async {
            loop {
                let message = peer.receive().await;
                let features = Features {
                    datapath_id: 1,
                    n_buffers: 0,
                    n_tables: 254,
                    auxiliary_id: 0,
                    capabilities: 0,
                };
                match message.body {
                    Body::Hello(_) => peer.send(1, Body::Hello(Hello::only_1_5())).await,
                    Body::FeaturesRequest => peer.send(message.xid, Body::FeaturesReply(features)).await,
                    Body::GetConfigRequest => {
                        let config = SwitchConfig { flags: 0, miss_send_len: 0 };
                        peer.send(message.xid, Body::GetConfigReply(config)).await;
                    }
                    Body::BarrierRequest => break peer.send(message.xid, Body::BarrierReply).await,
                    _ => {}
                }
            }
        };
        let (client, ()) = tokio::join!(Client::over(ours, config), switch);
        let (client, events) = client.expect("a connection");
        (peer, client, events)
    }

    async fn receive(&mut self) -> Message {
        let mut frame = vec![0; 8];
        self.0.read_exact(&mut frame).await.expect("a header");
        let len = frame_len(&frame).expect("a header").expect("a length");
        frame.resize(len, 0);
        self.0.read_exact(&mut frame[8..]).await.expect("a message");
        Message::decode(&frame).expect("a message that can be read")
    }

    async fn send(&mut self, xid: u32, body: Body) {
        let bytes = Message { xid, body }.encode().expect("it fits");
        self.0.write_all(&bytes).await.expect("somebody reads");
    }
}

async fn closed(events: &mut Events) -> CloseReason {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
        if let Event::Closed(reason) = event.expect("an event in time").expect("one more event") {
            assert!(events.next().await.is_none(), "nothing follows");
            return reason;
        }
    }
}

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
    let config = Config { max_events: 4, ..Config::default() };
    let (mut peer, client, mut events) = Peer::connect(config).await;
    let packet = ofpacket::PacketIn2::default();
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

#[tokio::test]
async fn a_silent_switch_is_given_up() {
    let short = Duration::from_millis(20);
    let config = Config { request_timeout: short, probe_interval: 3 * short, ..Config::default() };
    let (_peer, client, mut events) = Peer::connect(config.clone()).await;
    assert_eq!(client.barrier().await.expect_err("no answer").label(), "timeout");
    assert!(matches!(closed(&mut events).await, CloseReason::Unresponsive));

    let (ours, _theirs) = tokio::io::duplex(64);
    let error = Client::over(ours, config).await.map(|_| ()).expect_err("no answer");
    assert_eq!(error.label(), "timeout", "{error}");
    let (ours, theirs) = tokio::io::duplex(64);
    drop(theirs);
    let error = Client::over(ours, Config::default()).await.map(|_| ()).expect_err("nobody is there");
    assert!(matches!(error, Error::Closed(_)), "{error:?}");
}
