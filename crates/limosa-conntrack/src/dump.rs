//! The text of `dpctl/dump-conntrack -m` (OVS `lib/ct-dpif.c`, `ct_dpif_format_entry`):
//!
//! ```text
//! tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=1000),
//!     id=0,zone=7,status=0,mark=2,labels=0x1,protoinfo=(state_orig=ESTABLISHED,state_reply=ESTABLISHED,…)
//! ```

use std::net::IpAddr;
use std::str::FromStr;

use crate::{Connection, Progress, Transport, Tuple};

/// A line is no entry of a connection tracker as Open vSwitch prints them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {what} in the connection {line:?}")]
pub struct NotAConnection {
    what: &'static str,
    line: String,
}

/// The entries of a whole dump, a line each.
pub fn parse(dump: &str) -> impl Iterator<Item = Result<Connection, NotAConnection>> {
    dump.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::parse)
}

impl FromStr for Connection {
    type Err = NotAConnection;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        read(line).map_err(|what| NotAConnection { what, line: line.chars().take(400).collect() })
    }
}

fn read(line: &str) -> Result<Connection, &'static str> {
    let (name, rest) = line.split_once(',').ok_or("a protocol")?;
    let protocol = protocol(name).ok_or("the protocol")?;
    let (mut orig, mut reply) = (None, None);
    let mut progress = Progress::Open;
    let (mut zone, mut mark, mut label, mut tags) = (0, 0, 0, [0; 2]);
    let (mut helper, mut is_child) = (None, false);
    for field in Fields(rest) {
        let (key, value) = field?;
        match key {
            "orig" => orig = Some(tuple(value)?),
            "reply" => reply = Some(tuple(value)?),
            "zone" => zone = value.parse().map_err(|_| "the zone")?,
            "mark" => mark = value.parse().map_err(|_| "the mark")?,
            "labels" => label = hexadecimal(value).ok_or("the labels")?,
            "protoinfo" => (progress, tags) = (state(value)?, verification_tags(value)?),
            "helper" => helper = Some(value.to_owned()),
            "parent" => is_child = true,
            _ => {}
        }
    }
    let (orig, reply) = (orig.ok_or("the original direction")?, reply.ok_or("the reply direction")?);
    Ok(Connection { protocol, orig, reply, zone, mark, label, progress, tags, helper, is_child })
}

/// As `ct_dpif_format_ipproto` names them.
fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "icmpv6" => 58,
        "sctp" => 132,
        "udplite" => 136,
        number => number.parse().ok()?,
    })
}

/// `key=value` with commas between; a value in parentheses may have commas of its own.
struct Fields<'a>(&'a str);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a str, &'a str), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0 = self.0.trim_start_matches(',');
        if self.0.is_empty() {
            return None;
        }
        let Some((key, rest)) = self.0.split_once('=') else {
            self.0 = "";
            return Some(Err("a key and its value"));
        };
        let value = match rest.strip_prefix('(') {
            Some(inner) => inner.split_once(')'),
            None => Some(rest.split_once(',').unwrap_or((rest, ""))),
        };
        let Some((value, rest)) = value else {
            self.0 = "";
            return Some(Err("a closing parenthesis"));
        };
        self.0 = rest;
        Some(Ok((key, value)))
    }
}

fn tuple(text: &str) -> Result<Tuple, &'static str> {
    let (mut src, mut dst) = (None, None);
    let (mut ports, mut icmp) = ((0, 0), None::<(u16, u8, u8)>);
    for field in Fields(text) {
        let (key, value) = field?;
        let port = || value.parse::<u16>().map_err(|_| "a port");
        let byte = || value.parse::<u8>().map_err(|_| "an ICMP type or code");
        match key {
            "src" => src = Some(value.parse::<IpAddr>().map_err(|_| "a source address")?),
            "dst" => dst = Some(value.parse::<IpAddr>().map_err(|_| "a destination address")?),
            "sport" => ports.0 = port()?,
            "dport" => ports.1 = port()?,
            "id" => icmp.get_or_insert_default().0 = port()?,
            "type" => icmp.get_or_insert_default().1 = byte()?,
            "code" => icmp.get_or_insert_default().2 = byte()?,
            _ => {}
        }
    }
    let transport = match icmp {
        Some((id, kind, code)) => Transport::Icmp { id, kind, code },
        None => Transport::Ports { src: ports.0, dst: ports.1 },
    };
    Ok(Tuple { src: src.ok_or("a source address")?, dst: dst.ok_or("a destination address")?, transport })
}

/// `0x…`, as `ds_put_hex` prints it: the most significant digit first, without leading zeros.
fn hexadecimal(text: &str) -> Option<u128> {
    u128::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn verification_tags(text: &str) -> Result<[u32; 2], &'static str> {
    let mut tags = [0; 2];
    for field in Fields(text) {
        let (key, value) = field?;
        if let Some(place) = ["vtag_orig", "vtag_reply"].iter().position(|name| *name == key) {
            tags[place] = value.parse().map_err(|_| "a verification tag")?;
        }
    }
    Ok(tags)
}

/// The kernel has one state for both directions, the userspace tracker one for each.
fn state(text: &str) -> Result<Progress, &'static str> {
    let mut states = Vec::new();
    for field in Fields(text) {
        if let ("state" | "state_orig" | "state_reply", state) = field? {
            states.push(state);
        }
    }
    let is_over = |state: &&str| {
        matches!(
            *state,
            // TCP: FIN_WAIT_1, FIN_WAIT_2 and CLOSE_WAIT still let one side send.
            "LAST_ACK" | "CLOSING" | "TIME_WAIT" | "SHUTDOWN_SENT" | "SHUTDOWN_RECD" | "SHUTDOWN_ACK_SENT"
        )
    };
    let opens = |state: &&str| {
        matches!(*state, "SYN_SENT" | "SYN_SENT2" | "LISTEN" | "CLOSED" | "COOKIE_WAIT" | "COOKIE_ECHOED")
    };
    Ok(
        if states.iter().any(is_over) || (!states.is_empty() && states.iter().all(|state| *state == "CLOSED"))
        {
            Progress::Over
        } else if !states.is_empty() && states.iter().all(opens) {
            Progress::Opening
        } else {
            Progress::Open
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backends;
    use proptest::prelude::*;

    const TCP: &str = "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=1000),id=0,zone=7,status=0,mark=2,labels=0x66778899aabb001122334455,protoinfo=(state_orig=ESTABLISHED,state_reply=ESTABLISHED,flags_orig=BE_LIBERAL,flags_reply=BE_LIBERAL)";

    #[test]
    fn an_entry_of_the_userspace_tracker() {
        let entry: Connection = TCP.parse().unwrap();
        assert_eq!((entry.protocol, entry.zone, entry.mark), (6, 7, 2));
        assert_eq!(entry.label, 0x6677_8899_aabb_0011_2233_4455);
        assert_eq!(entry.orig.transport, Transport::Ports { src: 1000, dst: 80 });
        assert_eq!(entry.reply, entry.orig.inverse());
        assert_eq!(entry.progress, Progress::Open);
    }

    #[test]
    fn an_entry_of_the_kernel() {
        let line = "icmpv6,orig=(src=fe80::1,dst=fe80::2,id=77,type=128,code=0,packets=1,bytes=2),reply=(src=fe80::2,dst=fe80::1,id=77,type=129,code=0),id=3,status=SEEN_REPLY|CONFIRMED,helper=ftp,parent=(src=fe80::1,dst=fe80::2,sport=1,dport=2)";
        let entry: Connection = line.parse().unwrap();
        assert_eq!(entry.orig.transport, Transport::Icmp { id: 77, kind: 128, code: 0 });
        assert_eq!(entry.reply, entry.orig.inverse());
        assert_eq!((entry.helper.as_deref(), entry.is_child), (Some("ftp"), true));
    }

    #[test]
    fn an_sctp_entry_of_the_kernel() {
        let line = "sctp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=5,dport=6),reply=(src=10.0.0.2,dst=10.0.0.1,sport=6,dport=5),protoinfo=(state=ESTABLISHED,vtag_orig=4278190081,vtag_reply=2)";
        let entry: Connection = line.parse().unwrap();
        assert_eq!((entry.progress, entry.tags), (Progress::Open, [0xff00_0001, 2]));
        let tags =
            entry.frames(&mut Backends::default()).unwrap().into_iter().map(|frame| frame[38..42].to_vec());
        assert_eq!(tags.collect::<Vec<_>>(), [[0xff, 0, 0, 1], [0, 0, 0, 2], [0xff, 0, 0, 1]]);
    }

    #[test]
    fn how_far_it_has_come() {
        for (states, progress) in [
            ("state_orig=SYN_SENT,state_reply=CLOSED", Progress::Opening),
            ("state=SYN_SENT", Progress::Opening),
            ("state_orig=ESTABLISHED,state_reply=SYN_SENT", Progress::Open),
            ("state_orig=FIN_WAIT_1,state_reply=ESTABLISHED", Progress::Open),
            ("state=TIME_WAIT", Progress::Over),
            ("state_orig=CLOSED,state_reply=CLOSED", Progress::Over),
            ("state=ESTABLISHED,vtag_orig=1,vtag_reply=2", Progress::Open),
        ] {
            assert_eq!(state(states), Ok(progress), "{states}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, what) in [
            ("", "a protocol"),
            ("quic,orig=()", "the protocol"),
            ("udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1,dport=2)", "the reply direction"),
            ("udp,orig=(src=10.0.0.1", "a closing parenthesis"),
            ("udp,orig=(src=10.0.0.x,dst=10.0.0.2)", "a source address"),
            ("udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=65536)", "a port"),
            ("sctp,protoinfo=(state=ESTABLISHED,vtag_orig=x)", "a verification tag"),
        ] {
            assert_eq!(line.parse::<Connection>().unwrap_err().what, what, "{line}");
        }
        assert_eq!(parse("\n  \n").count(), 0);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[a-z0-9=(),.:x\n]{0,200}") {
            for entry in parse(&text) {
                drop(entry);
            }
        }
    }
}
