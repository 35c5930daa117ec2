//! Connections that a load balancer has sent on: what the guest calls one
//! address and port, another one answers.

use std::net::SocketAddr;

use crate::{COMMITS, Connection, Refusal, Transport};

/// The backends of a port's connections, each with a TTL of its own in the
/// packets that make an entry: no flow can take from a packet what to translate
/// its address to, so that there is one for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backends(Vec<SocketAddr>);

impl Backends {
    /// More are not known by one port.
    pub const MAX: usize = 32;

    /// The TTL that the first packet of a backend's connections has, by its place
    /// in [`Self::as_slice`].
    #[must_use]
    pub const fn ttl(place: u8) -> u8 {
        COMMITS + 1 + place
    }

    #[must_use]
    pub fn as_slice(&self) -> &[SocketAddr] {
        &self.0
    }

    /// The TTL for a connection to this one, which may be new.
    pub(crate) fn ttl_of(&mut self, backend: SocketAddr) -> Result<u8, Refusal> {
        let known = self.0.iter().position(|known| *known == backend);
        let place = known.unwrap_or(self.0.len());
        if place >= Self::MAX {
            return Err(Refusal::Translated);
        }
        if known.is_none() {
            self.0.push(backend);
        }
        Ok(Self::ttl(place as u8))
    }
}

/// As many as there may be; others are unknown.
impl FromIterator<SocketAddr> for Backends {
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(backends: I) -> Self {
        Self(backends.into_iter().take(Self::MAX).collect())
    }
}

impl Connection {
    /// Who answers, if it is another than was called. Of the translations that
    /// OVN makes in a VIF's zone this is the one that concerns the destination
    /// alone.
    pub(crate) fn backend(&self) -> Result<Option<SocketAddr>, Refusal> {
        if self.reply == self.orig.inverse() {
            return Ok(None);
        }
        match (self.orig.transport, self.reply.transport) {
            (Transport::Ports { src: port, .. }, Transport::Ports { src, dst })
                if port == dst && self.orig.src == self.reply.dst =>
            {
                let is_itself = self.reply.src == self.orig.src;
                if is_itself { Err(Refusal::Hairpin) } else { Ok(Some(SocketAddr::new(self.reply.src, src))) }
            }
            _ => Err(Refusal::Translated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(backend: &str) -> Connection {
        let (address, port) = backend.split_once(' ').unwrap();
        let line = format!(
            "udp,orig=(src=10.0.0.1,dst=10.9.9.9,sport=53,dport=80),reply=(src={address},dst=10.0.0.1,sport={port},dport=53),zone=1"
        );
        line.parse().unwrap()
    }

    #[test]
    fn each_backend_has_a_place() {
        let mut backends = Backends::default();
        assert_eq!(to("10.9.9.9 80").backend(), Ok(None));
        let backend = to("10.0.0.7 8080").backend().unwrap().unwrap();
        assert_eq!(backend, "10.0.0.7:8080".parse().unwrap());
        assert_eq!(backends.ttl_of(backend), Ok(65));
        let only_the_port = to("10.9.9.9 81").backend().unwrap().unwrap();
        assert_eq!((backends.ttl_of(only_the_port), backends.ttl_of(backend)), (Ok(66), Ok(65)));
        assert_eq!(backends.as_slice(), [backend, only_the_port]);
        let again: Backends = backends.as_slice().iter().copied().collect();
        assert_eq!(again, backends);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let all = (0..40).map(|n| SocketAddr::new("10.0.0.7".parse().unwrap(), n));
        let mut backends: Backends = all.clone().collect();
        assert_eq!(backends.as_slice().len(), Backends::MAX);
        let results: Vec<_> = all.map(|backend| backends.ttl_of(backend)).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), Backends::MAX);
        assert_eq!(results.last(), Some(&Err(Refusal::Translated)));
    }

    #[test]
    fn a_translated_source_is_none() {
        let mut masqueraded = to("10.0.0.7 8080");
        masqueraded.reply.dst = "10.0.0.254".parse().unwrap();
        assert_eq!(masqueraded.backend(), Err(Refusal::Translated));
    }

    #[test]
    fn who_answers_itself_is_told_apart() {
        assert_eq!(to("10.0.0.1 8080").backend(), Err(Refusal::Hairpin));
    }
}
