//! OVN-Kubernetes: one port for each launcher pod.
//!
//! A port is named `<namespace>_<pod>` on the default network and
//! `<attachment>_<namespace>_<pod>` on a user-defined one (layer 2 or localnet,
//! also as primary network), with `.` for every `-` and `/` in the attachment's
//! `<namespace>/<name>` (`composePortName` in `go-controller/pkg/util/util.go`,
//! `GetUserDefinedNetworkPrefix` in `multi_network.go`). Source and target
//! therefore have two ports with the same addresses, and with interconnect two
//! northbound databases; OVN-Kubernetes enables one and disables the other.
//! There is no port to hand over. An annotation may name one all the same.

use serde_json::Value;

use crate::Why;
use crate::api::{Network, Nic, OVN_KUBERNETES, Pod};

/// Why the interface's port cannot be handed over, with its name on the source;
/// `None` if it has none of OVN-Kubernetes.
#[must_use]
pub fn port(nic: &Nic, pod: &Pod) -> Option<Result<String, Why>> {
    let networks: Value = serde_json::from_str(pod.meta.annotation(OVN_KUBERNETES)?).ok()?;
    let networks = networks.as_object()?;
    let primary = |(_, network): &(&String, &Value)| network.get("role") == Some(&Value::from("primary"));
    let key = match &nic.network {
        Network::Pod => networks.iter().find(primary).map_or("default", |(key, _)| key).to_owned(),
        Network::Multus { namespace, name, .. } => format!("{namespace}/{name}"),
        Network::Unknown => return None,
    };
    networks
        .contains_key(&key)
        .then(|| Err(Why::PortPerPod { port: port_name(&key, &pod.meta.namespace, &pod.meta.name) }))
}

fn port_name(network: &str, namespace: &str, pod: &str) -> String {
    if network == "default" {
        format!("{namespace}_{pod}")
    } else {
        format!("{}_{namespace}_{pod}", network.replace(['-', '/'], "."))
    }
}
