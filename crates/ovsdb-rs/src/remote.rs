//! Where a server is, in the notation of `--db` (ovsdb(7), "Active connection methods").

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The port IANA has registered for OVSDB, used where a `tcp:` or `ssl:` remote names none.
pub const DEFAULT_PORT: u16 = 6640;

/// One place to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remote {
    /// `unix:/path/of/socket`
    Unix(PathBuf),
    /// `tcp:1.2.3.4:6641`, `tcp:[::1]:6641` or `tcp:ovn-nb.example:6641`
    Tcp(Endpoint),
    /// The same with `ssl:`, by TLS; needs [`Options::tls`](crate::Options).
    Ssl(Endpoint),
}

/// A host, by name or address, and a port. A name is resolved at each connection, and each of its addresses
/// is tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A comma-separated list of remotes, at least one, tried in turn: the servers of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remotes(Vec<Remote>);

/// Text that is not a remote, with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Nothing at all, or nothing between two commas.
    #[error("empty remote; give unix:/path, tcp:host:port or ssl:host:port")]
    Empty,
    /// A connection method that is not one of the three.
    #[error("{0:?} is not a remote; give unix:/path, tcp:host:port or ssl:host:port")]
    Method(String),
    /// What follows the method is no host and port.
    #[error("{0:?}: not a host and port; write tcp:1.2.3.4:6641, tcp:[::1]:6641 or ssl:name:6641")]
    Address(String),
}

impl RemoteError {
    /// A stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Method(_) => "method",
            Self::Address(_) => "address",
        }
    }
}

impl Remotes {
    /// The remotes, in the order in which they are tried.
    pub fn as_slice(&self) -> &[Remote] {
        &self.0
    }
}

impl From<Remote> for Remotes {
    fn from(remote: Remote) -> Self {
        Self(vec![remote])
    }
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RemoteError::Empty);
        }
        let endpoint =
            |address: &str| Endpoint::parse(address).ok_or_else(|| RemoteError::Address(text.to_owned()));
        match text.split_once(':') {
            Some(("unix", "")) => Err(RemoteError::Empty),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => endpoint(address).map(Self::Tcp),
            Some(("ssl", address)) => endpoint(address).map(Self::Ssl),
            _ => Err(RemoteError::Method(text.to_owned())),
        }
    }
}

impl Endpoint {
    /// `host:port`, or a host alone; IPv6 in brackets, which may be left out where there is no port.
    fn parse(text: &str) -> Option<Self> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Some(Self { host: text.to_owned(), port: DEFAULT_PORT });
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => {
                // The zone of a link-local address is the resolver's to understand.
                let plain = address.split('%').next()?;
                plain.parse::<Ipv6Addr>().ok()?;
                (address, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => {
                let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
                let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if host.is_empty() || !host.chars().all(of_a_name) {
                    return None;
                }
                (host, port)
            }
        };
        let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
        Some(Self { host: host.to_owned(), port })
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl FromStr for Remotes {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(endpoint) => write!(f, "tcp:{endpoint}"),
            Self::Ssl(endpoint) => write!(f, "ssl:{endpoint}"),
        }
    }
}

impl fmt::Display for Remotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, remote) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            remote.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_printed_the_same() {
        let text = "unix:/run/ovn/ovnsb_db.sock,tcp:1.2.3.4:6641,ssl:[::1]:6641,ssl:ovn-nb.example:16641";
        let remotes: Remotes = text.parse().unwrap();
        assert_eq!(remotes.as_slice().len(), 4);
        assert_eq!(remotes.to_string(), text);
    }

    #[test]
    fn a_host_alone_gets_the_registered_port() {
        for (text, printed) in [
            ("tcp:::1", "tcp:[::1]:6640"),
            ("tcp:[::1]", "tcp:[::1]:6640"),
            ("tcp:[fe80::1%eth0]:5", "tcp:[fe80::1%eth0]:5"),
            ("tcp:10.0.0.1", "tcp:10.0.0.1:6640"),
            ("ssl:localhost", "ssl:localhost:6640"),
            ("tcp:my_host-1:1", "tcp:my_host-1:1"),
        ] {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_not_a_remote_says_what_to_write() {
        for (text, label) in [
            ("", "empty"),
            ("unix:", "empty"),
            ("unix:/a,", "empty"),
            ("/run/db.sock", "method"),
            ("ptcp:6641", "method"),
            ("tls:host:6641", "method"),
            ("tcp:", "address"),
            ("tcp::6641", "address"),
            ("ssl:two words:6641", "address"),
            ("ssl:[host]:6641", "address"),
            ("ssl:[::1]6641", "address"),
            ("tcp:1.2.3.4:66410", "address"),
            ("tcp:1.2.3.4:0", "address"),
            ("tcp:host:6641:1", "address"),
        ] {
            assert_eq!(text.parse::<Remotes>().unwrap_err().label(), label, "{text}");
        }
    }
}
