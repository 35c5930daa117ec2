//! A session with a real switch, recorded once and played again with every fault at every place.

use std::time::Duration;

use ofpacket::{
    Action, Body, Experimenter, Flow, FlowMod, FlowMonitorRequest, FlowUpdateEvent, Match, Message, OxmField,
    PacketIn2, Role, RoleMessage, frame_len,
};
use openflow_rs::{BundleError, Client, Config, Error, Event};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;

use crate::support::Ovs;
use crate::{flow_mods, updates};

/// What the switch said, each piece with the number of bytes that it had read before.
type Recording = Vec<(usize, Vec<u8>)>;

/// Passes on what client and switch say to each other, and notes what the switch says, until the client goes.
async fn overhear(mut client: DuplexStream, mut switch: UnixStream) -> Recording {
    let (mut recording, mut written) = (Recording::new(), 0);
    let (mut asked, mut said) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read.expect("a pipe") {
                0 => return recording,
                n => {
                    switch.write_all(&asked[..n]).await.expect("the switch lives");
                    written += n;
                }
            },
            read = switch.read(&mut said) => {
                let n = read.expect("the switch lives");
                assert!(n > 0, "the switch lives");
                recording.push((written, said[..n].to_vec()));
                // The client may have gone.
                let _ = client.write_all(&said[..n]).await;
            }
        }
    }
}

/// One of everything, some of it at the same time. How each of them ended: "ok", or the label of its error.
async fn converse<S>(stream: S) -> Vec<&'static str>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, mut events) = match Client::over(stream, Config::default()).await {
        Ok(connection) => connection,
        Err(error) => return vec![error.label()],
    };
    fn request<T>(result: Result<T, Error>) -> &'static str {
        result.map_or_else(|error| error.label(), |_| "ok")
    }
    fn bundle(result: Result<(), BundleError>) -> &'static str {
        result.map_or_else(|error| error.label(), |()| "ok")
    }
    let bad = Flow::new(1, 1, Match::new(), vec![Action::set_field(OxmField::ETH_TYPE, 5u16)]);
    let mut bad_bundle = flow_mods(3);
    bad_bundle.push(FlowMod::add(bad));
    let role = RoleMessage { role: Role::NoChange, generation_id: 0 };
    let mut ends = vec![
        "ok",
        request(client.desc().await),
        request(client.role(role).await),
        bundle(client.bundle(flow_mods(4)).await),
        bundle(client.bundle(bad_bundle).await),
        request(client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await),
    ];
    let (a, b, c, d) = tokio::join!(
        client.dump_flows(None, 0, 0),
        client.bundle(flow_mods(2)),
        client.tlv_table(),
        client.barrier()
    );
    ends.extend([request(a), bundle(b), request(c), request(d)]);
    drop(client);
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, Event::Error(_)), "{event:?}");
    }
    ends
}

const ALL_WELL: [&str; 10] = ["ok", "ok", "ok", "ok", "rejected", "ok", "ok", "ok", "ok", "ok"];

/// Records [`converse`] with Open vSwitch.
async fn record() -> Recording {
    let ovs = Ovs::start();
    let switch = UnixStream::connect(ovs.socket()).await.expect("a socket");
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (ends, recording) = tokio::join!(converse(ours), overhear(theirs, switch));
    assert_eq!(ends, ALL_WELL);
    recording
}

/// The other end of a replay.
struct Player {
    stream: DuplexStream,
    read: usize,
}

impl Player {
    /// Reads until so many bytes have come in all.
    async fn read_up_to(&mut self, n: usize) {
        let mut buf = vec![0; n.saturating_sub(self.read)];
        self.stream.read_exact(&mut buf).await.expect("what was written when it was recorded");
        self.read = self.read.max(n);
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("somebody reads");
        // Others run on this thread too: what was written is read before more is.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
}

/// Plays a recording up to the byte `at`, does something, and plays the rest unless that was to be the end.
async fn replay(recording: &Recording, at: usize, insert: Option<&[u8]>, end: bool) -> Vec<&'static str> {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let play = async {
        let mut player = Player { stream: theirs, read: 0 };
        let mut played = 0;
        for (after, bytes) in recording {
            player.read_up_to(*after).await;
            let cut = at.checked_sub(played).filter(|&cut| cut < bytes.len());
            let (head, tail) = bytes.split_at(cut.unwrap_or(bytes.len()));
            player.write(head).await;
            if cut.is_some() {
                if end {
                    return;
                }
                if let Some(insert) = insert {
                    player.write(insert).await;
                }
                player.write(tail).await;
            }
            played += bytes.len();
        }
        // Until the client goes.
        let _ = player.stream.read_to_end(&mut Vec::new()).await;
    };
    let both = async { tokio::join!(converse(ours), play).0 };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap_or_else(|_| panic!("byte {at}: it hangs"))
}

fn len(recording: &Recording) -> usize {
    recording.iter().map(|(_, bytes)| bytes.len()).sum()
}

#[tokio::test]
async fn a_cut_at_any_byte_fails_all_that_wait() {
    let recording = record().await;
    let mut best = 0;
    for at in 0..len(&recording) {
        let ends = replay(&recording, at, None, true).await;
        let well = ends.iter().zip(ALL_WELL).take_while(|(end, well)| *end == well).count();
        assert!(well + 1 >= best, "byte {at}: {ends:?}");
        best = best.max(well);
        for end in ends.iter().filter(|end| !ALL_WELL.contains(end)) {
            assert!(["eof", "io", "unknown"].contains(end), "byte {at}: {ends:?}");
        }
        assert!(ends.iter().any(|end| ["eof", "io", "unknown"].contains(end)), "byte {at}: {ends:?}");
    }
    assert!(len(&recording) > 2000 && best >= 6, "{} bytes, {best}", len(&recording));
}

#[tokio::test]
async fn a_read_may_end_at_any_byte() {
    let recording = record().await;
    for at in 0..len(&recording) {
        assert_eq!(replay(&recording, at, None, false).await, ALL_WELL, "byte {at}");
    }
}

/// What the switch tells by itself may come between any two messages, with any xid.
#[tokio::test]
async fn anything_may_be_told_between_any_two_messages() {
    let recording = record().await;
    let stream: Vec<u8> = recording.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let packet_in = Body::Experimenter(Experimenter::PacketIn2(PacketIn2::default()));
    let role_status = Body::Unknown { kind: 30, body: vec![0; 16].into() };
    let told = [packet_in, updates(FlowUpdateEvent::Added, 0..3, false), role_status];
    let mut at = 0;
    let mut places = 0;
    while let Some(header) = stream.get(at..) {
        let Some(len) = frame_len(header) else { break };
        // Of the request whose answer comes next, and of none.
        let next = u32::from_be_bytes(header[4..8].try_into().expect("four bytes"));
        for xid in [0, next] {
            let bytes = told.iter().cloned().filter_map(|body| {
                // A monitor's own xid says that its first state is told.
                let own = xid != 0 && matches!(body, Body::MultipartReply(_));
                (!own).then(|| Message { xid, body }.encode().expect("it fits"))
            });
            let bytes: Vec<u8> = bytes.flatten().collect();
            assert_eq!(replay(&recording, at, Some(&bytes), false).await, ALL_WELL, "byte {at}");
        }
        places += 1;
        at += len.expect("a length");
    }
    assert!(places > 20, "{places}");
}
