//! Our text is `ovs-ofctl`'s.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;

use bytes::Bytes;
use ofpacket::*;

use crate::samples::samples;

/// What `ovs-ofctl` prints for each of the messages, with one run for all of them: barrier requests between them
/// show where the text of one ends.
pub(crate) fn ofctl_texts(messages: &[Vec<u8>]) -> Vec<String> {
    const MARK: u32 = 0x6d61_0000;
    let mut file = tempfile::NamedTempFile::new_in("/tmp").expect("a file in /tmp");
    for (i, message) in (MARK..).zip(messages) {
        let mark = Message { xid: i, body: Body::BarrierRequest }.encode().expect("it fits");
        file.write_all(message).and_then(|()| file.write_all(&mark)).expect("room in /tmp");
    }
    // ofp-parse adds one to the verbosity, and one more: what differs between 1 and 2 is the payload of an echo.
    let out = Command::new("ovs-ofctl")
        .arg("ofp-parse")
        .arg(file.path())
        .output()
        .unwrap_or_else(|error| panic!("cannot run ovs-ofctl: {error}: install openvswitch-switch"));
    let all = String::from_utf8_lossy(&out.stdout);
    let mut rest = &all[..];
    let mut texts = Vec::new();
    for (i, message) in (MARK..).zip(messages) {
        let mark = format!("OFPT_BARRIER_REQUEST (OF1.5) (xid={i:#x}):\n");
        let at = rest.find(&mark).unwrap_or_else(|| panic!("no text for {message:02x?} in {rest}"));
        texts.push(rest[..at].strip_suffix('\n').unwrap_or(&rest[..at]).to_owned());
        rest = &rest[at + mark.len()..];
    }
    texts
}

/// Decodes and encodes each message, and compares its text; all differences at once.
pub(crate) fn compare(messages: &[Vec<u8>]) {
    let mut wrong = Vec::new();
    for (bytes, theirs) in messages.iter().zip(ofctl_texts(messages)) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                wrong.push(format!("{error}\n{bytes:02x?}\n{theirs}"));
                continue;
            }
        };
        assert_eq!(message.encode().expect("it came in a message"), bytes, "{message:?}");
        let ours = message.to_string();
        if ours != theirs {
            wrong.push(format!("--- theirs\n{theirs}\n--- ours\n{ours}\n"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} texts differ:\n{}", wrong.len(), messages.len(), wrong.join("\n"));
}

#[test]
fn texts_are_those_of_ovs_ofctl() {
    let samples = samples();
    let messages: Vec<_> = samples
        .iter()
        .map(|message| {
            let bytes = message.encode().expect("it fits");
            assert_eq!(&Message::decode(&bytes).expect("what we wrote"), message);
            bytes.to_vec()
        })
        .collect();
    let distinct: BTreeSet<_> = messages.iter().map(|bytes| &bytes[8..]).collect();
    assert!(distinct.len() >= 170, "{} samples are too few", distinct.len());
    compare(&messages);
}

/// At verbosity 1, which is the one that our text has.
#[test]
fn echoes_are_printed_without_their_payload() {
    for (body, len) in [(Body::EchoRequest("hello".into()), 5), (Body::EchoReply("".into()), 0)] {
        let message = Message { xid: 3, body };
        let bytes = message.encode().expect("it fits");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let out =
            Command::new("ovs-ofctl").args(["ofp-print", &hex, "1"]).output().expect("openvswitch-switch");
        assert_eq!(String::from_utf8_lossy(&out.stdout), format!("{message}\n"));
        assert!(message.to_string().ends_with(&format!(": {len} bytes of payload")));
    }
}

/// The differences that the documentation of `Message` names: what `ovs-ofctl` refuses to decode, or gets wrong.
#[test]
fn what_ovs_ofctl_refuses_is_printed_as_what_it_says() {
    let group = |command, kind| GroupMod {
        command,
        ..GroupMod::new(command, Group { kind, ..GroupMod::delete(1).group })
    };
    let band = MeterBand::Other { kind: 9, body: Bytes::from_static(&[0; 12]) };
    let meter = MeterConfig { flags: 3, meter_id: 5, bands: vec![band] };
    let eviction = vec![TableProperty::Eviction(5)];
    let other = |body| Body::MultipartReply(MultipartReply { more: false, body });
    let update = FlowUpdate::Other { event: 77, body: Bytes::from_static(&[0; 4]) };
    let cases = [
        (
            Body::RoleRequest(RoleMessage { role: Role::Other(9), generation_id: 1 }),
            " role=9 generation_id=1",
        ),
        (
            Body::GroupMod(group(GroupModCommand::Other(77), GroupType::Other(9))),
            "\n cmd:77 group_id=1,type=unknown",
        ),
        (
            Body::MeterMod(MeterMod { command: MeterModCommand::Other(7), meter }),
            " cmd:7 meter=5 kbps pktps bands=\ntype=9",
        ),
        (
            Body::TableMod(TableMod { table_id: 1, config: 4, properties: eviction }),
            " table_id=1, eviction=on eviction_flags=OTHER|LIFETIME, vacancy=off",
        ),
        (
            Body::TableStatus(TableStatus {
                reason: 9,
                table: TableDesc { table_id: 1, config: 0, properties: vec![] },
            }),
            " reason=9\ntable_desc:-\n  table 1:\n   eviction=off eviction_flags=(default)\n   vacancy=off",
        ),
        (Body::Error(OfError::standard(99, 3)), " error type 99 code 3\nOpenFlow message is empty"),
        (Body::Experimenter(Experimenter::SetPacketInFormat(9)), " format=9"),
        (other(ReplyBody::FlowMonitor(vec![update])), "\n event=77"),
    ];
    for (body, expected) in cases {
        let message = Message { xid: 1, body };
        let bytes = message.encode().expect("it fits");
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        let text = message.to_string();
        let (_, says) = text.split_once("(xid=0x1):").expect("a header");
        assert_eq!(says, expected);
        let [theirs] = &ofctl_texts(&[bytes.to_vec()])[..] else { panic!("one text for one message") };
        assert_ne!(theirs, &text, "no difference any more: say so in the documentation");
    }
    // Padding that is not zero: the message is kept as it was.
    let mut bytes =
        Message { xid: 1, body: Body::RoleRequest(RoleMessage { role: Role::Equal, generation_id: 1 }) }
            .encode()
            .expect("it fits")
            .to_vec();
    bytes[13] = 1;
    let message = Message::decode(&bytes).expect("a message");
    assert!(matches!(message.body, Body::Unknown { kind: 24, .. }));
    assert_eq!(message.encode().expect("it fits"), bytes);
    assert!(
        message.to_string().starts_with("OFPT_ROLE_REQUEST (OF1.5) (xid=0x1):\n00000000  06 18"),
        "{message}"
    );
}
