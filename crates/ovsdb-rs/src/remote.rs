//! Where a server is, in the notation of `--db` (ovsdb(7), "Active connection methods").

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The port IANA has registered for OVSDB, used where a `tcp:` remote names none.
pub const DEFAULT_PORT: u16 = 6640;

/// One place to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remote {
    /// `unix:/path/of/socket`
    Unix(PathBuf),
    /// `tcp:1.2.3.4:6641` or `tcp:[::1]:6641`
    Tcp(SocketAddr),
}

/// A comma-separated list of remotes, at least one, tried in turn: the servers of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remotes(Vec<Remote>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    #[error("empty remote; give unix:/path or tcp:address:port")]
    Empty,
    #[error("{0:?}: ssl: is not supported yet; use unix: or tcp:")]
    Ssl(String),
    #[error("{0:?} is not a remote; give unix:/path or tcp:address:port")]
    Method(String),
    #[error("{0:?}: not an IP address and port; write tcp:1.2.3.4:6641 or tcp:[::1]:6641")]
    Address(String),
}

impl RemoteError {
    /// A stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Ssl(_) => "ssl",
            Self::Method(_) => "method",
            Self::Address(_) => "address",
        }
    }
}

impl Remotes {
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
        match text.split_once(':') {
            Some(("unix", "")) => Err(RemoteError::Empty),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => {
                parse_address(address).map(Self::Tcp).ok_or_else(|| RemoteError::Address(text.to_owned()))
            }
            Some(("ssl", _)) => Err(RemoteError::Ssl(text.to_owned())),
            _ => Err(RemoteError::Method(text.to_owned())),
        }
    }
}

/// `address:port`, or an address alone; IPv6 in brackets.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let bare = || text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    text.parse().or_else(|_| bare().parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DEFAULT_PORT))).ok()
}

impl FromStr for Remotes {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
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
        let text = "unix:/run/ovn/ovnsb_db.sock,tcp:1.2.3.4:6641,tcp:[::1]:6641";
        let remotes: Remotes = text.parse().unwrap();
        assert_eq!(remotes.as_slice().len(), 3);
        assert_eq!(remotes.to_string(), text);
    }

    #[test]
    fn an_address_alone_gets_the_registered_port() {
        assert_eq!("tcp:::1".parse::<Remote>().unwrap().to_string(), "tcp:[::1]:6640");
        assert_eq!("tcp:[::1]".parse::<Remote>().unwrap().to_string(), "tcp:[::1]:6640");
        assert_eq!("tcp:10.0.0.1".parse::<Remote>().unwrap().to_string(), "tcp:10.0.0.1:6640");
    }

    #[test]
    fn what_is_not_a_remote_says_what_to_write() {
        for (text, label) in [
            ("", "empty"),
            ("unix:", "empty"),
            ("unix:/a,", "empty"),
            ("ssl:1.2.3.4:6641", "ssl"),
            ("/run/db.sock", "method"),
            ("ptcp:6641", "method"),
            ("tcp:", "address"),
            ("tcp:host:6641", "address"),
            ("tcp:1.2.3.4:66410", "address"),
        ] {
            assert_eq!(text.parse::<Remotes>().unwrap_err().label(), label, "{text}");
        }
        assert!("ssl:1.2.3.4:6641".parse::<Remotes>().unwrap_err().to_string().contains("not supported yet"));
    }
}
