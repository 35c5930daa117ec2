//! Where a switch listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a switch listens: `unix:/run/openvswitch/br-int.mgmt`, `tcp:192.0.2.1:6653`, `tcp:[2001:db8::1]:6653`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// A text that names no [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not where a switch can listen: give unix:PATH or tcp:ADDRESS:PORT")]
pub struct TargetError(String);

impl TargetError {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        "bad_target"
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let bad = || TargetError(text.to_owned());
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", addr)) => addr.parse().map(Self::Tcp).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(addr) => write!(f, "tcp:{addr}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["unix:/run/br.mgmt", "tcp:127.0.0.1:6653", "tcp:[::1]:6653"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "tcp:127.0.0.1", "ssl:127.0.0.1:6653", "/run/br.mgmt", "tcp:host:6653"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.to_string().contains("unix:PATH"), "{error}");
        }
    }
}
