//! Whether a request makes sense on this OVN; if not, what is wrong with it
//! and what to do about it.

use crate::object::{Migration, Problem, Restore, Spec, Subject, Want};

use super::{LogicalPort, World};

/// What makes this request impossible, or what moves.
pub(super) fn accept(migration: &Migration, world: &World) -> Result<(Subject, Restore), Problem> {
    let spec = &migration.spec;
    let (port, from) = (&spec.port, &spec.from);
    let refuse = |reason, message: String| Err(Problem::new(reason, message));
    let is_stolen = thief(spec, world).is_some();
    if spec.want == Want::Abort || (spec.want == Want::Return && !is_stolen) {
        return refuse("Aborted", "aborted before anything was done".to_owned());
    }
    let Some(lsp) = &world.port else {
        return refuse(
            "UnknownPort",
            format!("the northbound database has no logical switch port {port}: `ovn-nbctl show` lists them"),
        );
    };
    let Some(binding) = &world.binding else {
        return refuse(
            "NoBinding",
            format!("the southbound database has no Port_Binding for {port}: is ovn-northd running?"),
        );
    };
    if !lsp.kind.is_empty() {
        return refuse(
            "NotAVif",
            format!("{port} is a port of type {}; only a VM's port (type \"\") can migrate", lsp.kind),
        );
    }
    if let Some(why) = not_theirs(migration, lsp) {
        return Err(why);
    }
    sides(spec, world)?;
    match &binding.chassis {
        None => {
            return refuse(
                "NotBound",
                format!("{port} is bound to no chassis: is the guest running on {from}?"),
            );
        }
        Some(chassis) if chassis != from && !is_stolen => {
            return refuse(
                "NotOnSource",
                format!("{port} is bound to chassis {chassis}, not to {from}: migrate it from there"),
            );
        }
        Some(_) => {}
    }
    if let Some(rival) = &world.rival {
        return refuse(
            "Busy",
            format!("{port} is already being moved by migration {rival}: wait for its end or abort it"),
        );
    }
    if !world.cluster.can_bind_twice {
        return refuse("OvnTooOld", "this OVN cannot bind a port to two chassis (Port_Binding.additional_chassis, OVN 22.09 and later): upgrade it".to_owned());
    }
    if let Some(why) = conflict(spec, lsp, world) {
        return Err(why);
    }
    let Some(mac) = spec.mac.or_else(|| lsp.macs.first().copied()) else {
        return refuse(
            "NoMac",
            format!("{port} has no Ethernet address among its addresses: name the guest's (spec.mac)"),
        );
    };
    let (Ok(datapath_key), Ok(port_key @ 1..=0x7fff)) =
        (u32::try_from(binding.datapath_key), u16::try_from(binding.port_key))
    else {
        return refuse(
            "BadKeys",
            format!(
                "{port} has tunnel keys out of range: datapath {}, port {}",
                binding.datapath_key, binding.port_key
            ),
        );
    };
    Ok((
        Subject { mac, datapath_key, port_key },
        Restore {
            requested_chassis: lsp.requested_chassis.clone(),
            activation_strategy: lsp.activation_strategy.clone(),
        },
    ))
}

/// An object moves ports of its own namespace only: who may write there, or
/// annotate a guest there, names no port of somebody else's.
fn not_theirs(migration: &Migration, lsp: &LogicalPort) -> Option<Problem> {
    let ours = migration.metadata.namespace.as_ref()?;
    let owner = lsp.namespace.as_ref().filter(|owner| *owner != ours)?;
    let port = &migration.spec.port;
    Some(Problem::new(
        "OtherNamespace",
        format!(
            "{port} belongs to namespace {owner} (its external_ids say so): ask for its migration there, not in {ours}"
        ),
    ))
}

/// Whether the two sides are two, are there, and can carry a mark.
pub(super) fn sides(spec: &Spec, world: &World) -> Result<(), Problem> {
    if Some(&spec.from) == spec.to.as_ref() {
        return Err(Problem::new(
            "SameChassis",
            format!("source and target are both {}: name another chassis as the target", spec.from),
        ));
    }
    for chassis in [Some(&spec.from), spec.to.as_ref()].into_iter().flatten() {
        let Some(encaps) = world.cluster.chassis.get(chassis) else {
            return Err(Problem::new(
                "UnknownChassis",
                format!(
                    "the southbound database has no chassis {chassis}: `ovn-sbctl show` lists them; the name is Open_vSwitch external_ids:system-id"
                ),
            ));
        };
        if !encaps.contains("geneve") {
            return Err(Problem::new(
                "NoGeneve",
                format!(
                    "chassis {chassis} has no geneve encapsulation; other tunnels carry no option to mark mirrored packets with (external_ids:ovn-encap-type)"
                ),
            ));
        }
    }
    Ok(())
}

/// The chassis that has claimed the port although nothing says that the guest
/// runs there: its interface appeared before the pin. Only an orchestrator
/// knows where the guest runs; a person may just have named the wrong source.
pub(super) fn thief<'a>(spec: &Spec, world: &'a World) -> Option<&'a str> {
    let chassis = world.binding.as_ref()?.chassis.as_deref()?;
    let may_be_target = spec.to.as_deref().is_none_or(|to| to == chassis);
    let is_thief =
        spec.guest.is_some() && spec.want != Want::Activate && chassis != spec.from && may_be_target;
    is_thief.then_some(chassis)
}

/// Options of the port that say that someone else moves it.
fn conflict(spec: &Spec, lsp: &LogicalPort, world: &World) -> Option<Problem> {
    if spec.take_over {
        return None;
    }
    let (port, from) = (&spec.port, &spec.from);
    let pin = lsp.requested_chassis.as_ref().filter(|pin| !world.cluster.is_named(pin, from));
    let pin = pin.map(|pin| format!("options:requested-chassis of {port} is {pin}, not {from}"));
    let strategy = lsp.activation_strategy.as_ref();
    let found =
        pin.or_else(|| strategy.map(|how| format!("options:activation-strategy of {port} is {how}")))?;
    Some(match &spec.guest {
        None => Problem::new(
            "ConflictingOptions",
            format!(
                "{found}: something else (a CNI's live migration?) is moving the port, or left this behind"
            ),
        ),
        Some(_) => Problem::new(
            "ManagedElsewhere",
            format!(
                "{found}: it seems that the CNI moves the port by OVN's own live migration (Kube-OVN sets these options), or has left this behind; Limosa only observes this migration: switch the CNI's off, or set spec.takeOver"
            ),
        ),
    })
}
