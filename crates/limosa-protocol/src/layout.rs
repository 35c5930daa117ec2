//! OVN's table numbers, found from OVN's own flows.
//!
//! They differ by release (`ovn/controller/lflow.h`), and nothing announces
//! them. Three tables matter, and `ovn/controller/physical.c` puts flows into
//! or before each of them that are there on every chassis, whatever is bound:
//!
//! | table | how it is recognised |
//! |---|---|
//! | LOCAL_OUTPUT | table 0, priority 100, `in_port=TUNNEL`: the last action resubmits there |
//! | REMOTE_OUTPUT | holds, at priority 150, a flow on reg10 alone (packets from a VTEP ramp) that only resubmits to LOCAL_OUTPUT |
//! | LOG_TO_PHY | outputs what matches exactly `reg15,metadata`; or follows the last table whose catch-all flow does nothing but resubmit to the next table (SAVE_INPORT) |

use std::fmt;

use ofpacket::{Action, Flow, Instruction, Oxm, OxmField};

use crate::cookie::Cookie;

/// The tables that Limosa writes to, besides table 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    pub remote_output: Option<u8>,
    pub local_output: Option<u8>,
    pub log_to_phy: Option<u8>,
}

/// A table that was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "OVN's table {0} was not found among the flows of the integration bridge: is ovn-controller running and connected here? (`ovs-ofctl dump-flows` must show flows that it installed)"
)]
pub struct MissingTable(pub &'static str);

impl Layout {
    /// Finds the tables among a bridge's flows; flows of ours are passed over.
    pub fn find<'a>(flows: impl Iterator<Item = &'a Flow> + Clone) -> Self {
        let flows = flows.filter(|flow| !Cookie::is_ours(flow.cookie));
        let local_output = flows.clone().find_map(tunnel_resubmit);
        let remote_output =
            local_output.and_then(|local| flows.clone().find_map(|flow| ramp_to(flow, local)));
        let log_to_phy = flows
            .clone()
            .find_map(port_output)
            .or_else(|| flows.filter_map(pass_to_next).filter(|table| Some(*table) > local_output).max());
        Self { remote_output, local_output, log_to_phy }
    }

    /// True for a flow that [`Self::find`] might draw a conclusion from.
    pub(crate) fn is_evidence(flow: &Flow) -> bool {
        pass_to_next(flow).is_some() || vif_output(flow).is_some() || is_ramp(flow)
    }

    pub fn remote_output(&self) -> Result<u8, MissingTable> {
        self.remote_output.ok_or(MissingTable("REMOTE_OUTPUT"))
    }

    pub fn local_output(&self) -> Result<u8, MissingTable> {
        self.local_output.ok_or(MissingTable("LOCAL_OUTPUT"))
    }

    pub fn log_to_phy(&self) -> Result<u8, MissingTable> {
        self.log_to_phy.ok_or(MissingTable("LOG_TO_PHY"))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |table: Option<u8>| table.map_or_else(|| "not found".to_owned(), |t| t.to_string());
        write!(
            f,
            "REMOTE_OUTPUT {}, LOCAL_OUTPUT {}, LOG_TO_PHY {}",
            show(self.remote_output),
            show(self.local_output),
            show(self.log_to_phy)
        )
    }
}

/// The actions of a flow that does nothing but apply actions.
#[must_use]
pub fn actions(flow: &Flow) -> &[Action] {
    match flow.instructions.as_slice() {
        [Instruction::ApplyActions(actions)] => actions,
        _ => &[],
    }
}

fn fields(flow: &Flow) -> Vec<OxmField> {
    flow.match_.canonical().iter().map(|oxm| oxm.field).collect()
}

const fn resubmits_to(action: &Action) -> Option<u8> {
    match action {
        Action::Resubmit { table, .. } => *table,
        _ => None,
    }
}

fn tunnel_resubmit(flow: &Flow) -> Option<u8> {
    let from_port = flow.table_id == 0 && flow.priority == 100 && fields(flow) == [OxmField::IN_PORT];
    let actions = actions(flow);
    let reads_tunnel =
        actions.iter().any(|a| matches!(a, Action::CopyField { src, .. } if *src == OxmField::TUNNEL_ID));
    if from_port && reads_tunnel { actions.last().and_then(resubmits_to) } else { None }
}

fn is_ramp(flow: &Flow) -> bool {
    flow.priority == 150 && fields(flow) == [OxmField::reg(10)]
}

fn ramp_to(flow: &Flow, local_output: u8) -> Option<u8> {
    let only = matches!(actions(flow), [action] if resubmits_to(action) == Some(local_output));
    (is_ramp(flow) && only).then_some(flow.table_id)
}

fn port_output(flow: &Flow) -> Option<u8> {
    vif_output(flow).map(|_| flow.table_id)
}

/// A logical port that a flow of OVN's gives its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VifOutput {
    pub datapath_key: u32,
    pub port_key: u16,
    pub ofport: u32,
}

/// Reads a flow of LOG_TO_PHY that outputs one logical port of one datapath
/// to one interface, and does nothing else.
#[must_use]
pub fn vif_output(flow: &Flow) -> Option<VifOutput> {
    let [Action::Output { port, .. }] = actions(flow) else { return None };
    if flow.priority != 100 {
        return None;
    }
    let match_ = flow.match_.canonical();
    let metadata = match_.get(OxmField::METADATA).filter(|oxm| oxm.mask.is_none())?;
    let reg15 = match_.get(OxmField::reg(15)).filter(|oxm| oxm.mask.is_none())?;
    if match_.iter().count() != 2 {
        return None;
    }
    Some(VifOutput {
        datapath_key: u32::try_from(number(metadata)).ok()?,
        port_key: u16::try_from(number(reg15)).ok()?,
        ofport: port.0,
    })
}

/// Reads a flow of table 0 through which OVN takes packets from an interface:
/// its port number.
#[must_use]
pub fn vif_input(flow: &Flow) -> Option<u32> {
    // A tunnel's flow reads the tunnel's key, a VIF's loads its own.
    let loads = |action: &Action| matches!(action, Action::SetField(oxm) if oxm.field == OxmField::METADATA);
    if flow.table_id != 0 || flow.priority != 100 || !actions(flow).iter().any(loads) {
        return None;
    }
    u32::try_from(number(flow.match_.canonical().get(OxmField::IN_PORT)?)).ok()
}

fn number(oxm: &Oxm) -> u64 {
    oxm.value.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn pass_to_next(flow: &Flow) -> Option<u8> {
    match actions(flow) {
        [action] if flow.priority == 0 && flow.match_.iter().next().is_none() => {
            resubmits_to(action).filter(|next| flow.table_id.checked_add(1) == Some(*next))
        }
        _ => None,
    }
}
