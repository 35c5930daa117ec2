//! What kinds of connections there are, and what became of one.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    Tcp,
    Udp,
    Icmp,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opener {
    Guest,
    /// The guest, which calls a load balancer's address.
    Balanced,
    Peer,
}

/// What is said on it, and who speaks first once the guest has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Talk {
    /// Nothing is, until the guest speaks.
    GuestSpeaks,
    /// Nothing is, until the peer speaks.
    PeerSpeaks,
    /// A message of the peer's, its echo, and so on.
    Chatty,
    /// The guest sends a stream.
    BulkFromGuest,
    /// The peer sends a stream, and the guest sends it back.
    BulkToGuest,
}

/// A kind of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    pub transport: Transport,
    pub ip6: bool,
    pub opener: Opener,
    pub talk: Talk,
}

impl Kind {
    /// Every kind of one family of addresses.
    pub fn all(ip6: bool) -> Vec<Self> {
        let by = |openers: &[Opener], transport, talks: &[Talk]| {
            let each = |&talk: &Talk| {
                openers.iter().map(move |&opener| Self { transport, ip6, opener, talk }).collect::<Vec<_>>()
            };
            talks.iter().flat_map(each).collect::<Vec<_>>()
        };
        let of = |transport, talks: &[Talk]| by(&[Opener::Guest, Opener::Peer], transport, talks);
        let idle = [Talk::GuestSpeaks, Talk::PeerSpeaks];
        [
            of(Transport::Tcp, &idle),
            of(Transport::Tcp, &[Talk::Chatty, Talk::BulkFromGuest, Talk::BulkToGuest]),
            of(Transport::Udp, &idle),
            of(Transport::Udp, &[Talk::Chatty]),
            of(Transport::Icmp, &[Talk::Chatty]),
            by(&[Opener::Balanced], Transport::Tcp, &[idle[0], idle[1], Talk::Chatty]),
        ]
        .concat()
    }

    /// Whether the one speaks next whom the policy lets answer, but not begin:
    /// only what the chassis remembers lets that pass.
    pub fn is_hard(self) -> bool {
        matches!(
            (self.opener, self.talk),
            (Opener::Guest | Opener::Balanced, Talk::PeerSpeaks) | (Opener::Peer, Talk::GuestSpeaks)
        )
    }

    /// Whether nothing is said on it while the guest moves.
    pub fn is_idle(self) -> bool {
        matches!(self.talk, Talk::GuestSpeaks | Talk::PeerSpeaks)
    }

    /// Whether a tracker remembers it for long though nothing is said.
    pub fn is_lasting(self) -> bool {
        self.transport == Transport::Tcp
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, ip6, opener, talk } = self;
        let transport = match transport {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
            Transport::Icmp => "ICMP",
        };
        let opener = match opener {
            Opener::Guest => "the guest",
            Opener::Balanced => "the guest through a load balancer",
            Opener::Peer => "the peer",
        };
        let talk = match talk {
            Talk::GuestSpeaks => "idle, then the guest speaks",
            Talk::PeerSpeaks => "idle, then the peer speaks",
            Talk::Chatty => "chatty",
            Talk::BulkFromGuest => "a stream from the guest",
            Talk::BulkToGuest => "a stream each way",
        };
        write!(f, "{transport} over IPv{}, opened by {opener}, {talk}", if *ip6 { 6 } else { 4 })
    }
}

/// What became of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub kind: Kind,
    /// The peer's name.
    pub peer: String,
    /// What was said next arrived, and all that was said before, whole and in order.
    pub went_on: bool,
    /// How long that took, milliseconds.
    pub answered_ms: Option<f64>,
    /// What is known of a connection that did not go on.
    pub error: Option<String>,
}
