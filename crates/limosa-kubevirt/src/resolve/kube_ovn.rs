//! Kube-OVN: one port for the virtual machine, whichever pod it is in.
//!
//! With `--keep-vm-ip` (the default) a port is named after the virtual machine
//! instead of the pod: `<vm>.<namespace>` on the pod network,
//! `<vm>.<namespace>.<provider>` on others (`PodNameToPortName` in
//! `pkg/ovs/util.go`). The provider of a network attachment is
//! `<attachment>.<its namespace>.ovn`; where one pod has the same attachment more
//! than once, with `.<interface in the pod>` behind it (`getPodAttachmentNet`
//! in `pkg/controller/pod.go`). The controller notes on every launcher pod what
//! it has done: `<provider>.kubernetes.io/allocated`, and
//! `<provider>.kubernetes.io/virtualmachine` with the name it has used.

use crate::Why;
use crate::api::{Network, Nic, Pod};

/// The provider of the pod network.
const DEFAULT_PROVIDER: &str = "ovn";

/// The port of an interface; `None` if it has none of Kube-OVN.
#[must_use]
pub fn port(nic: &Nic, pod: &Pod) -> Option<Result<String, Why>> {
    providers(nic).into_iter().find_map(|provider| {
        let noted = |what| pod.meta.annotation(&format!("{provider}.kubernetes.io/{what}"));
        match noted("virtualmachine") {
            Some(vm) => Some(Ok(port_name(vm, &pod.meta.namespace, &provider))),
            None if noted("allocated") == Some("true") => {
                Some(Err(Why::PortPerPod { port: port_name(&pod.meta.name, &pod.meta.namespace, &provider) }))
            }
            None => None,
        }
    })
}

/// What the provider of an interface can be, the most special first.
fn providers(nic: &Nic) -> Vec<String> {
    match &nic.network {
        Network::Pod => vec![DEFAULT_PROVIDER.to_owned()],
        Network::Multus { namespace, name, .. } => {
            let provider = format!("{name}.{namespace}.{DEFAULT_PROVIDER}");
            vec![format!("{provider}.{}", nic.pod_interface), provider]
        }
        Network::Unknown => Vec::new(),
    }
}

fn port_name(owner: &str, namespace: &str, provider: &str) -> String {
    if provider == DEFAULT_PROVIDER {
        format!("{owner}.{namespace}")
    } else {
        format!("{owner}.{namespace}.{provider}")
    }
}
