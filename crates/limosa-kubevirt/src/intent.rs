//! Which objects should exist, with which `spec`, now.
//!
//! Level-triggered and keyed by the UID of KubeVirt's migration: what is seen
//! now is all that counts, with what the objects already say. Whatever was
//! missed in between, the end is the same, and two things never go back: `to`,
//! once set, and `want`, in the order Complete, Abort, Activate, Return.
//!
//! | what KubeVirt says | objects |
//! |---|---|
//! | phase Pending, no target pod yet | made, without `to`: the port is pinned to the source |
//! | the target pod has a node, or `migrationState.targetNode` | `to` |
//! | `targetNodeDomainReadyTimestamp`, the pod's annotation, `completed`, `nodeName` | `want: Activate` |
//! | phase Failed, and `migrationState` does not say how it ended | `want: Abort` |
//! | `failed`; phase Failed before the hand-off; no guest any more | `want: Return` |
//!
//! `migrationState` stays after the end: it counts only with this migration's
//! UID. Phases may be missed, repeated or unknown.

use jiff::Timestamp;
use limosa_protocol::object::{Guest, Spec};

use crate::api::{Phase, Pod, Vmi, Vmim};
use crate::nodes::Nodes;
use crate::outcome::{Evidence, further};
use crate::{Why, resolve};

/// On a VirtualMachineInstance or a migration of it: carry it out although the
/// port's options say that the CNI does.
pub const TAKE_OVER: &str = "limosa.io/take-over";

/// The longest name that an object may have: a DNS label.
const NAME_MAX: usize = 63;

/// What holds for all migrations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// As if everything had the annotation [`TAKE_OVER`].
    pub take_over: bool,
    /// Instances may ask for [standing pins](crate::pin).
    pub pins: bool,
}

/// What is seen of one migration of KubeVirt.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The UID of the VirtualMachineInstanceMigration.
    pub uid: &'a str,
    /// The migration, unless it is gone. One that has ended may be left out.
    pub vmim: Option<&'a Vmim>,
    /// The instance of the name that the migration (or its objects) says.
    pub vmi: Option<&'a Vmi>,
    /// Launcher pods; others than this instance's are passed over.
    pub pods: &'a [&'a Pod],
    /// The objects of this migration, and those of others that have not ended.
    pub objects: &'a [Existing<'a>],
    /// Objects of this migration have been made, though they may be out of sight by now.
    pub begun: bool,
    pub nodes: &'a Nodes,
}

/// An object in the store.
#[derive(Debug, Clone, Copy)]
pub struct Existing<'a> {
    pub name: &'a str,
    /// The UID of KubeVirt's migration that it was made for; empty if it was made for none.
    pub migration: &'a str,
    pub spec: &'a Spec,
    pub created: Timestamp,
    /// It is in a final phase.
    pub ended: bool,
}

/// What should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    /// One for each port that moves; those that have ended are left out.
    pub objects: Vec<Wanted>,
    /// What nothing is done about.
    pub left_alone: Vec<LeftAlone>,
}

/// An object that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub spec: Spec,
}

/// Something that nothing is done about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftAlone {
    /// The interface; `None` if it is the whole migration.
    pub nic: Option<String>,
    pub why: Why,
}

/// What should be of one migration of KubeVirt.
#[must_use]
pub fn intent(seen: &Seen<'_>, options: Options) -> Intent {
    let own = || seen.objects.iter().filter(|object| object.migration == seen.uid);
    let begun = seen
        .vmim
        .map(|vmim| vmim.meta.created)
        .unwrap_or_else(|| own().map(|o| Some(o.created)).min().flatten());
    let vmi = seen.vmi.filter(|vmi| !vmi.ended && !is_younger(vmi, begun));
    let pods: Vec<&Pod> =
        seen.pods.iter().copied().filter(|pod| vmi.is_some_and(|vmi| belongs(pod, vmi))).collect();
    let target =
        pods.iter().copied().filter(|pod| pod.job == seen.uid).min_by_key(|pod| (pod.ended, &pod.meta.name));
    let evidence = Evidence { uid: seen.uid, vmim: seen.vmim, vmi, target };
    let to = to(&evidence, seen.nodes);

    let mut intent = Intent::default();
    for object in own().filter(|object| !object.ended) {
        let mut spec = object.spec.clone();
        spec.to = spec.to.or_else(|| to.clone()?.ok());
        spec.want = further(spec.want, evidence.want(&spec, seen.nodes));
        intent.objects.push(Wanted { name: object.name.to_owned(), spec });
    }
    let whole = |why| LeftAlone { nic: None, why };
    let (vmim, vmi, source) = match begin(&evidence, &pods) {
        Ok(begun) => begun,
        Err(why) => {
            intent.left_alone.extend((!handled(seen)).then(|| whole(why)));
            return intent;
        }
    };
    let mut missing = Vec::new();
    for nic in &vmi.nics {
        let name = object_name(vmim, &nic.name);
        if own().any(|object| object.name == name) {
            continue;
        }
        let port = resolve::port(nic, vmi, source).and_then(|port| match rival(seen, &port) {
            Some(rival) => Err(Why::PreviousMigration { rival: rival.to_owned() }),
            None => Ok(port),
        });
        match port {
            Ok(port) => missing.push((nic, name, port)),
            Err(why) => intent.left_alone.push(LeftAlone { nic: Some(nic.name.clone()), why }),
        }
    }
    // Where the guest is, and whether OVN is there, matters to none but these.
    if !missing.is_empty() {
        match from(&evidence, vmi, seen.nodes) {
            Ok(from) => {
                let take_over = options.take_over || vmim.meta.says(TAKE_OVER) || vmi.meta.says(TAKE_OVER);
                let to = to.clone().and_then(Result::ok);
                intent.objects.extend(missing.into_iter().map(|(nic, name, port)| {
                    let (vm, nic_name) = (vmi.meta.name.clone(), nic.name.clone());
                    let guest = Guest { vm, nic: nic_name, migration: vmim.meta.name.clone() };
                    let spec = Spec::new(port, from, to.clone());
                    Wanted { name, spec: Spec { mac: nic.mac, guest: Some(guest), take_over, ..spec } }
                }));
            }
            Err(why) => intent.left_alone.extend((!handled(seen)).then(|| whole(why))),
        }
    }
    if let Some(Err(why)) = to {
        intent.left_alone.extend((!intent.objects.is_empty()).then(|| whole(why)));
    }
    intent
}

/// Of a migration that has objects, or had some, there is nothing to complain.
fn handled(seen: &Seen<'_>) -> bool {
    seen.begun || seen.objects.iter().any(|object| object.migration == seen.uid)
}

/// Whether objects that are not there yet should be looked for: the migration,
/// the instance, the source's pod.
fn begin<'a>(evidence: &Evidence<'a>, pods: &[&'a Pod]) -> Result<(&'a Vmim, &'a Vmi, &'a Pod), Why> {
    let vmim = evidence.vmim.ok_or(Why::Ended)?;
    let state = evidence.vmi.and_then(|vmi| vmi.migration(evidence.uid));
    let cancelled = vmim.meta.deleting && state.is_none();
    if vmim.is_final() || cancelled || state.is_some_and(|state| state.failed) {
        return Err(Why::Ended);
    }
    if vmim.decentralized {
        return Err(Why::Decentralized);
    }
    if vmim.phase == Phase::Unset {
        return Err(Why::NotAccepted);
    }
    let vmi = evidence.vmi.ok_or_else(|| Why::NoGuest { vmi: vmim.vmi.clone() })?;
    let source = source_pod(evidence, vmim, vmi, pods).ok_or(Why::NoSourcePod)?;
    Ok((vmim, vmi, source))
}

/// The chassis that the guest leaves, if it has not left yet.
fn from<'a>(evidence: &Evidence<'_>, vmi: &Vmi, nodes: &'a Nodes) -> Result<&'a str, Why> {
    if evidence.is_there() {
        return Err(Why::AlreadyThere);
    }
    let noted = vmi.migration(evidence.uid).map(|state| &state.source_node);
    let node = noted.filter(|node| !node.is_empty()).unwrap_or(&vmi.node);
    if evidence.target_node() == Some(node) {
        return Err(Why::SameNode { node: node.clone() });
    }
    nodes.chassis(node)
}

/// The chassis that the guest goes to, once KubeVirt has chosen a node.
fn to(evidence: &Evidence<'_>, nodes: &Nodes) -> Option<Result<String, Why>> {
    Some(nodes.chassis(evidence.target_node()?).map(str::to_owned))
}

/// A migration that has not ended of the same port.
fn rival<'a>(seen: &Seen<'a>, port: &str) -> Option<&'a str> {
    let others = seen.objects.iter().filter(|object| object.migration != seen.uid && !object.ended);
    others.filter(|object| object.spec.port == port).map(|object| object.name).next()
}

fn source_pod<'a>(evidence: &Evidence<'_>, vmim: &Vmim, vmi: &Vmi, pods: &[&'a Pod]) -> Option<&'a Pod> {
    let state = vmi.migration(evidence.uid);
    let noted = [state.map(|state| &state.source_pod), Some(&vmim.source_pod)];
    let named = |name: &String| pods.iter().find(|pod| pod.meta.name == *name);
    let noted = noted.into_iter().flatten().find_map(named);
    let there = || pods.iter().find(|pod| pod.node == vmi.node && pod.job != evidence.uid && !pod.ended);
    noted.or_else(there).copied()
}

/// An instance that was made after the migration is another of the same name.
fn is_younger(vmi: &Vmi, begun: Option<Timestamp>) -> bool {
    vmi.meta.created.zip(begun).is_some_and(|(made, begun)| made > begun)
}

pub(crate) fn belongs(pod: &Pod, vmi: &Vmi) -> bool {
    pod.vmi == vmi.meta.uid && pod.meta.namespace == vmi.meta.namespace
}

/// The name of the object for one interface: the same whenever it is asked for,
/// another for a later migration of the same name.
#[must_use]
pub fn object_name(vmim: &Vmim, nic: &str) -> String {
    let tail = format!("-{:08x}", fnv1a([&vmim.meta.uid, nic]));
    let head: String = format!("{}-{nic}", vmim.meta.name)
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(NAME_MAX - tail.len())
        .collect();
    format!("{}{tail}", head.trim_matches('-'))
}

/// FNV-1a, 32 bits: stable over releases, unlike the standard library's hashes.
fn fnv1a(parts: [&str; 2]) -> u32 {
    let bytes = parts.into_iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
