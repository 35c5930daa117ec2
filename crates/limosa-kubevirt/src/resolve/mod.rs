//! Which logical port belongs to an interface of a virtual machine.
//!
//! A port can be handed over only if it is the same before and after, so what
//! is looked for is a name that the source and the target pod share. In this
//! order:
//!
//! 1. the annotation `limosa.io/logical-port.<interface>`, or
//!    `limosa.io/logical-port` for the first interface, on the
//!    VirtualMachineInstance or on the source pod. The value is the name of the
//!    port, which is `external_ids:iface-id` of the interface in Open vSwitch
//!    whoever plugs it;
//! 2. [`kube_ovn`];
//! 3. [`ovn_kubernetes`], only to say why it cannot be.

pub mod kube_ovn;
pub mod ovn_kubernetes;

use crate::Why;
use crate::api::{ALLOW_BRIDGE, Binding, Network, Nic, Pod, Vmi};

/// The annotation that names the logical port of the first interface; followed
/// by `.` and an interface's name, of that one.
pub const LOGICAL_PORT: &str = "limosa.io/logical-port";

/// The network binding plugin of OVN-Kubernetes, wired like the bridge binding.
const L2_BRIDGE: &str = "l2bridge";

/// The name of the logical port of an interface whose source is `pod`.
///
/// # Errors
///
/// Why the interface has none that could be handed over.
pub fn port(nic: &Nic, vmi: &Vmi, pod: &Pod) -> Result<String, Why> {
    let stated = stated(nic, vmi, pod);
    if nic.absent {
        return Err(Why::Unplugged);
    }
    let allowed = vmi.meta.annotations.contains_key(ALLOW_BRIDGE);
    match &nic.binding {
        Binding::Masquerade => return Err(Why::Masquerade),
        Binding::Passt => return Err(Why::Passt),
        Binding::Sriov => return Err(Why::Sriov),
        Binding::Bridge if nic.network == Network::Pod && !allowed => return Err(Why::BridgeNotAllowed),
        Binding::Plugin(name) if name == "passt" => return Err(Why::Passt),
        Binding::Plugin(name) if name != L2_BRIDGE && stated.is_none() => return Err(Why::UnknownBinding),
        Binding::Unknown if stated.is_none() => return Err(Why::UnknownBinding),
        Binding::Bridge | Binding::Plugin(_) | Binding::Unknown => {}
    }
    if let Some(port) = stated {
        return Ok(port.to_owned());
    }
    let found = kube_ovn::port(nic, pod).or_else(|| ovn_kubernetes::port(nic, pod));
    found.unwrap_or_else(|| Err(Why::NotOvn { pod: pod.meta.name.clone() }))
}

/// The port that an annotation names.
fn stated<'a>(nic: &Nic, vmi: &'a Vmi, pod: &'a Pod) -> Option<&'a str> {
    let own = format!("{LOGICAL_PORT}.{}", nic.name);
    let first = vmi.nics.first().is_some_and(|first| first.name == nic.name);
    let keys = [Some(own.as_str()), first.then_some(LOGICAL_PORT)];
    let keys = || keys.into_iter().flatten();
    [&vmi.meta, &pod.meta].into_iter().find_map(|meta| keys().find_map(|key| meta.annotation(key)))
}
