//! Which chassis is on which node.

use std::collections::{BTreeMap, BTreeSet};

use crate::Why;

/// The chassis of the southbound database by the nodes they run on.
///
/// `Chassis.name` is Open vSwitch's `system-id`, with Kube-OVN and
/// OVN-Kubernetes a random UUID. What they share with Kubernetes is
/// `Chassis.hostname` (`external_ids:hostname`), which both set to the node's
/// name. Where the chassis itself has the node's name that serves too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    by_hostname: BTreeMap<String, BTreeSet<String>>,
    names: BTreeSet<String>,
}

impl Nodes {
    /// From `(Chassis.name, Chassis.hostname)`.
    pub fn new<N: Into<String>, H: Into<String>>(chassis: impl IntoIterator<Item = (N, H)>) -> Self {
        let mut nodes = Self::default();
        for (name, hostname) in chassis {
            let name = name.into();
            nodes.by_hostname.entry(hostname.into()).or_default().insert(name.clone());
            nodes.names.insert(name);
        }
        nodes
    }

    /// The name of the chassis on a node.
    ///
    /// # Errors
    ///
    /// There is none, or (a node was installed anew under its old name) there
    /// are several.
    pub fn chassis(&self, node: &str) -> Result<&str, Why> {
        let unknown = || Why::UnknownNode { node: node.to_owned() };
        let hosts = self.by_hostname.get(node).filter(|_| !node.is_empty());
        match hosts {
            Some(names) if names.len() > 1 => Err(Why::AmbiguousNode { node: node.to_owned() }),
            Some(names) => names.first().map(String::as_str).ok_or_else(unknown),
            None => self.names.get(node).map(String::as_str).ok_or_else(unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_hostname_and_never_guessed() {
        let nodes = Nodes::new([("6f9619ff", "n1"), ("11111111", "n2"), ("22222222", "n2"), ("n3", "")]);
        assert_eq!(nodes.chassis("n1"), Ok("6f9619ff"));
        assert_eq!(nodes.chassis("n3"), Ok("n3"));
        assert_eq!(nodes.chassis("n2").unwrap_err().label(), "AmbiguousNode");
        assert_eq!(nodes.chassis("n1.example.org").unwrap_err().label(), "UnknownNode");
        assert_eq!(nodes.chassis("").unwrap_err().label(), "UnknownNode");
    }
}
