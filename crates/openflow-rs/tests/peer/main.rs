//! Peers that no real switch would be.

mod faults;
mod replay;
mod session;
#[path = "../../../ofpacket/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use ofpacket::{
    Body, BundleControl, BundleControlType, Features, Flow, FlowMod, FlowUpdate, FlowUpdateEvent, Hello,
    Match, Message, MultipartReply, OxmField, ReplyBody, SwitchConfig, frame_len,
};
use openflow_rs::{Client, CloseReason, Config, Event, Events};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The other end of a connection, after the handshake.
struct Peer(DuplexStream);

impl Peer {
    async fn connect(config: Config) -> (Self, Client, Events) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let mut peer = Self(theirs);
        let (client, ()) = tokio::join!(Client::over(ours, config), peer.shake_hands());
        let (client, events) = client.expect("a connection");
        (peer, client, events)
    }

    async fn shake_hands(&mut self) {
        loop {
            let message = self.receive().await;
            let features =
                Features { datapath_id: 1, n_buffers: 0, n_tables: 254, auxiliary_id: 0, capabilities: 0 };
            match message.body {
                Body::Hello(_) => self.send(1, Body::Hello(Hello::only_1_5())).await,
                Body::FeaturesRequest => self.send(message.xid, Body::FeaturesReply(features)).await,
                Body::GetConfigRequest => {
                    let config = SwitchConfig { flags: 0, miss_send_len: 0 };
                    self.send(message.xid, Body::GetConfigReply(config)).await;
                }
                Body::BarrierRequest => return self.send(message.xid, Body::BarrierReply).await,
                _ => {}
            }
        }
    }

    /// Takes a bundle up to its CLOSE, answers that, and returns how many messages there were.
    async fn take_bundle(&mut self) -> usize {
        for n in 0.. {
            let message = self.receive().await;
            if let Body::BundleControl(BundleControl { kind: BundleControlType::CloseRequest, .. }) =
                message.body
            {
                self.control(message.xid, BundleControlType::CloseReply).await;
                return n - 1;
            }
        }
        unreachable!()
    }

    async fn control(&mut self, xid: u32, kind: BundleControlType) {
        let properties = Default::default();
        let control = BundleControl { bundle_id: 1, kind, flags: 3, properties };
        self.send(xid, Body::BundleControl(control)).await;
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

fn flow(i: u32) -> Flow {
    Flow::new(1, 100, Match::new().with(OxmField::METADATA, u64::from(i)), vec![])
}

fn flow_mods(n: u32) -> Vec<FlowMod> {
    (0..n).map(flow).map(FlowMod::add).collect()
}

/// What a flow monitor tells.
fn updates(event: FlowUpdateEvent, flows: std::ops::Range<u32>, more: bool) -> Body {
    let update = |i| FlowUpdate::Full { event, reason: 0, flow: flow(i) };
    let body = ReplyBody::FlowMonitor(flows.map(update).collect());
    Body::MultipartReply(MultipartReply { more, body })
}
