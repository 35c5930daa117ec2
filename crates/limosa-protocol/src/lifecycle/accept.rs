//! Whether a request makes sense on this OVN; if not, what is wrong with it
//! and what to do about it.

use crate::object::{Migration, Problem, Restore, Subject, Want};

use super::World;

/// What makes this request impossible, or what moves.
pub(super) fn accept(migration: &Migration, world: &World) -> Result<(Subject, Restore), Problem> {
    let spec = &migration.spec;
    let (port, from, to) = (&spec.port, &spec.from, spec.to.as_ref());
    let refuse = |reason, message: String| Err(Problem::new(reason, message));
    if spec.want == Want::Abort {
        return refuse("Aborted", "aborted before anything was done".to_owned());
    }
    if Some(from) == to {
        return refuse(
            "SameChassis",
            format!("source and target are both {from}: name another chassis as the target"),
        );
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
    for chassis in [Some(from), to].into_iter().flatten() {
        match world.chassis.get(chassis) {
            None => {
                return refuse(
                    "UnknownChassis",
                    format!(
                        "the southbound database has no chassis {chassis}: `ovn-sbctl show` lists them; the name is Open_vSwitch external_ids:system-id"
                    ),
                );
            }
            Some(encaps) if !encaps.contains("geneve") => {
                return refuse(
                    "NoGeneve",
                    format!(
                        "chassis {chassis} has no geneve encapsulation; other tunnels carry no option to mark mirrored packets with (external_ids:ovn-encap-type)"
                    ),
                );
            }
            Some(_) => {}
        }
    }
    match &binding.chassis {
        None => {
            return refuse(
                "NotBound",
                format!("{port} is bound to no chassis: is the guest running on {from}?"),
            );
        }
        Some(chassis) if chassis != from => {
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
    if !world.can_bind_twice {
        return refuse("OvnTooOld", "this OVN cannot bind a port to two chassis (Port_Binding.additional_chassis, OVN 22.09 and later): upgrade it".to_owned());
    }
    if let Some(pin) = lsp.requested_chassis.as_ref().filter(|pin| *pin != from) {
        return refuse(
            "ConflictingOptions",
            format!(
                "options:requested-chassis of {port} is {pin}, not {from}: something else (a CNI's live migration?) is moving the port, or left this behind"
            ),
        );
    }
    if let Some(strategy) = &lsp.activation_strategy {
        return refuse(
            "ConflictingOptions",
            format!(
                "options:activation-strategy of {port} is {strategy}: something else (a CNI's live migration?) is moving the port, or left this behind"
            ),
        );
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
        Restore { requested_chassis: lsp.requested_chassis.clone() },
    ))
}
