//! Standing pins: of an instance with the annotation [`PIN`] every port is pinned to the chassis it runs on, also while
//! nobody migrates it, so that no other can claim it in the moment before its migration is seen.
//!
//! Only a port without a pin is pinned, so that what undoes it is known: the option goes. What says that a pin is ours,
//! and what it is, stands beside it; a value that somebody else has put in its place is theirs from then on. A migration
//! takes a standing pin for an operator's: it goes with the guest.

use crate::api::{Pod, Vmi};
use crate::intent::belongs;
use crate::nodes::Nodes;
use crate::resolve;

/// On a VirtualMachineInstance: keep its ports pinned to the chassis it runs on.
pub const PIN: &str = "limosa.io/pin";

/// A pin of ours, as the database has it beside the option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The instance, `NAMESPACE/NAME`.
    pub vmi: String,
    /// What `requested-chassis` was set to.
    pub chassis: String,
}

/// What the database says of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// `options:requested-chassis`.
    pub requested: Option<String>,
    pub pin: Option<Pin>,
    /// The namespace that the CNI has made the port for, if it says so.
    pub namespace: Option<String>,
}

/// What has to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The option, and that it is ours.
    Set(Pin),
    /// The option goes, and what says that it is ours.
    TakeOff,
    /// Somebody else has changed the option, and keeps it: only what says that it is ours goes.
    Yield,
}

/// Whether an instance asks for pins: while it runs.
#[must_use]
pub fn is_asked_for(vmi: &Vmi) -> bool {
    vmi.meta.says(PIN) && !vmi.ended
}

/// The pins of an instance, by port. None while it cannot be told where it runs.
#[must_use]
pub fn pins(vmi: &Vmi, pods: &[&Pod], nodes: &Nodes) -> Vec<(String, Pin)> {
    let here = pods.iter().find(|pod| belongs(pod, vmi) && pod.node == vmi.node && !pod.ended);
    let (Some(pod), Ok(chassis), true) = (here, nodes.chassis(&vmi.node), is_asked_for(vmi)) else {
        return Vec::new();
    };
    let ports = vmi.nics.iter().filter_map(|nic| resolve::port(nic, vmi, pod).ok());
    let pin = Pin { vmi: name(vmi), chassis: chassis.to_owned() };
    ports.map(|port| (port, pin.clone())).collect()
}

/// The name of an instance in a [`Pin`].
#[must_use]
pub fn name(vmi: &Vmi) -> String {
    format!("{}/{}", vmi.meta.namespace, vmi.meta.name)
}

/// What has to be written for a port that nobody migrates; nothing for an instance in another namespace than the
/// port's. `is_asked_for` is about the instance of the pin that was
/// found; while that asks for it, but it cannot be told for where, the pin stays.
#[must_use]
pub fn change(found: &Found, wanted: Option<&Pin>, is_asked_for: bool) -> Option<Change> {
    let requested = found.requested.as_ref();
    let is_theirs = |pin: &&Pin| {
        let namespace = pin.vmi.split_once('/').map(|(namespace, _)| namespace);
        found.namespace.is_none() || found.namespace.as_deref() == namespace
    };
    let wanted = wanted.filter(is_theirs);
    let Some(ours) = &found.pin else {
        return wanted.filter(|_| requested.is_none()).map(|pin| Change::Set(pin.clone()));
    };
    if requested.is_some_and(|requested| *requested != ours.chassis) {
        return Some(Change::Yield);
    }
    match wanted {
        Some(pin) if requested.is_some() && pin == ours => None,
        Some(pin) => Some(Change::Set(pin.clone())),
        None if is_asked_for => None,
        None => Some(Change::TakeOff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_ours_or_nobody_touches_it() {
        let pin = |chassis: &str| Pin { vmi: "ns/vm".to_owned(), chassis: chassis.to_owned() };
        let found = |requested: Option<&str>, ours: Option<&str>| Found {
            requested: requested.map(str::to_owned),
            pin: ours.map(pin),
            namespace: Some("ns".to_owned()),
        };
        let set = |chassis| Some(Change::Set(pin(chassis)));
        // The option, what says that it is ours, where the guest runs, whether its instance asks for it.
        let cases = [
            (None, None, Some("a"), true, set("a")),
            (None, None, None, false, None),
            // An operator's, or a CNI's.
            (Some("a"), None, Some("a"), true, None),
            (Some("b"), None, Some("a"), true, None),
            (Some("b"), None, None, false, None),
            (Some("a"), Some("a"), Some("a"), true, None),
            // It has moved while nobody looked; somebody has taken the option away.
            (Some("a"), Some("a"), Some("b"), true, set("b")),
            (None, Some("a"), Some("a"), true, set("a")),
            // Where it runs cannot be told; it does not run, or asks no more.
            (Some("a"), Some("a"), None, true, None),
            (Some("a"), Some("a"), None, false, Some(Change::TakeOff)),
            (None, Some("a"), None, false, Some(Change::TakeOff)),
            // Somebody else's by now.
            (Some("b"), Some("a"), Some("a"), true, Some(Change::Yield)),
            (Some("b"), Some("a"), None, false, Some(Change::Yield)),
        ];
        for (requested, ours, wanted, asked, change_to) in cases {
            let wanted = wanted.map(pin);
            let change = change(&found(requested, ours), wanted.as_ref(), asked);
            assert_eq!(change, change_to, "{requested:?} {ours:?} {wanted:?} {asked}");
        }
        let somebody_elses = Found { namespace: Some("other".to_owned()), ..Found::default() };
        assert_eq!(change(&somebody_elses, Some(&pin("a")), true), None);
    }
}
