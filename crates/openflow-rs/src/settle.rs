//! What became of a bundle whose commit was not answered.

use std::collections::{HashMap, HashSet};

use ofpacket::{FlowDescRequest, FlowKey, FlowMod, FlowModCommand, FlowStats, GROUP_ANY, PortNo, TABLE_ALL};

use crate::{Client, Error};

/// What the switch shows of a bundle of flow mods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Everything is as the flow mods ask for it.
    Done,
    /// Nothing of what they add or change is there, or all of what they remove.
    NotDone,
    /// Some of it is there: it was so before, or somebody has changed flows since.
    Mixed {
        /// The indices of the flow mods that the switch does not show to be done.
        missing: Vec<usize>,
    },
}

/// What the switch shows of one flow mod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Done,
    /// It removes what is not there, and may not have been before.
    Absent,
    Missing,
    /// A later one decides, or it would change nothing either way.
    Nothing,
}

impl Client {
    /// After [`BundleError::Unknown`](crate::BundleError::Unknown): reads back the flows that these mods are
    /// about, and says whether the bundle was carried out. If it was not, or not all of it is there any more,
    /// sending it again does what it was to do.
    ///
    /// On the connection of the bundle the answer is certain, since a switch works in order. On a new connection
    /// it is as certain as that the switch has finished with the old one; Open vSwitch has, on a Unix socket, by
    /// the time it has answered the new one's handshake. Flows that time out, or that somebody else changes, can
    /// make a bundle look undone.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn settle(&self, mods: &[FlowMod]) -> Result<Settled, Error> {
        let strict = match selection_of_all(mods) {
            Some(request) => self.flow_desc(request).await?,
            None => Vec::new(),
        };
        let mut loose = HashMap::new();
        for (index, flow_mod) in mods.iter().enumerate().filter(|(_, flow_mod)| is_loose(flow_mod)) {
            loose.insert(index, self.flow_desc(selection(flow_mod)).await?);
        }
        Ok(judge(mods, strict, &loose))
    }
}

/// Whether it is about more than one flow, or about one under conditions: the switch selects.
fn is_loose(flow_mod: &FlowMod) -> bool {
    let conditions = flow_mod.out_port != PortNo::ANY || flow_mod.out_group != GROUP_ANY;
    match flow_mod.command {
        FlowModCommand::Add => false,
        FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict => conditions,
        _ => true,
    }
}

/// The flows that a flow mod selects, but for its priority.
fn selection(flow_mod: &FlowMod) -> FlowDescRequest {
    FlowDescRequest {
        table_id: flow_mod.flow.table_id,
        out_port: flow_mod.out_port,
        out_group: flow_mod.out_group,
        cookie: flow_mod.flow.cookie,
        cookie_mask: flow_mod.cookie_mask,
        match_: flow_mod.flow.match_.clone(),
    }
}

/// One request for the flows of all mods that are about one flow each: in the table that they have in common, with
/// the bits of the cookie that they have in common.
fn selection_of_all(mods: &[FlowMod]) -> Option<FlowDescRequest> {
    let mut strict = mods.iter().filter(|flow_mod| !is_loose(flow_mod)).map(|flow_mod| {
        let mask = if flow_mod.command == FlowModCommand::Add { u64::MAX } else { flow_mod.cookie_mask };
        (flow_mod.flow.table_id, flow_mod.flow.cookie, mask)
    });
    let first = strict.next()?;
    let (table_id, cookie, cookie_mask) = strict.fold(first, |all, one| {
        let table_id = if all.0 == one.0 { all.0 } else { TABLE_ALL };
        (table_id, all.1, all.2 & one.2 & !(all.1 ^ one.1))
    });
    Some(FlowDescRequest { table_id, cookie, cookie_mask, ..FlowDescRequest::default() })
}

/// From the last flow mod to the first, since a later one overrides an earlier one.
fn judge(mods: &[FlowMod], strict: Vec<FlowStats>, loose: &HashMap<usize, Vec<FlowStats>>) -> Settled {
    let there: HashMap<FlowKey, FlowStats> =
        strict.into_iter().map(|stats| (stats.flow.key(), stats)).collect();
    let mut decided = HashSet::new();
    let mut changed_since: Vec<&FlowMod> = Vec::new();
    let mut shown = vec![Shown::Nothing; mods.len()];
    for (index, flow_mod) in mods.iter().enumerate().rev() {
        if let Some(selected) = loose.get(&index) {
            let key = flow_mod.flow.key();
            let is_strict =
                matches!(flow_mod.command, FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict);
            let mut flows = selected
                .iter()
                .map(|stats| (stats, stats.flow.key()))
                .filter(|(_, flow)| !decided.contains(flow) && (!is_strict || *flow == key));
            shown[index] = match flow_mod.command {
                FlowModCommand::Delete | FlowModCommand::DeleteStrict => match flows.next() {
                    Some(_) => Shown::Missing,
                    None => Shown::Absent,
                },
                _ => changed(flow_mod, flows.map(|(stats, _)| stats)),
            };
            changed_since.push(flow_mod);
            continue;
        }
        let key = flow_mod.flow.key();
        let removes = flow_mod.command == FlowModCommand::DeleteStrict;
        let undone = !removes && changed_since.iter().any(|later| may_cover(later, flow_mod));
        if undone || decided.contains(&key) {
            continue;
        }
        let flow = there.get(&key);
        shown[index] = match (flow_mod.command, flow) {
            (FlowModCommand::Add, Some(stats)) if stats.flow.same_as(&flow_mod.flow) => Shown::Done,
            (FlowModCommand::Add, _) => Shown::Missing,
            (FlowModCommand::DeleteStrict, Some(stats)) if has_cookie(stats, flow_mod) => Shown::Missing,
            (FlowModCommand::DeleteStrict, _) => Shown::Absent,
            (_, flow) => changed(flow_mod, flow.into_iter().filter(|stats| has_cookie(stats, flow_mod))),
        };
        decided.insert(key);
    }
    sum_up(mods, &shown)
}

/// Whether these flows have the instructions of a change.
fn changed<'a>(flow_mod: &FlowMod, flows: impl Iterator<Item = &'a FlowStats>) -> Shown {
    let instructions = &flow_mod.flow.instructions;
    flows.fold(Shown::Nothing, |shown, stats| {
        let wanted = ofpacket::Flow { instructions: instructions.clone(), ..stats.flow.clone() };
        match stats.flow.same_as(&wanted) && shown != Shown::Missing {
            true => Shown::Done,
            false => Shown::Missing,
        }
    })
}

fn has_cookie(stats: &FlowStats, flow_mod: &FlowMod) -> bool {
    (stats.flow.cookie ^ flow_mod.flow.cookie) & flow_mod.cookie_mask == 0
}

/// Whether a later flow mod may have changed what this one did; said too often rather than too rarely.
fn may_cover(later: &FlowMod, flow_mod: &FlowMod) -> bool {
    (later.flow.table_id == TABLE_ALL || later.flow.table_id == flow_mod.flow.table_id)
        && (later.flow.cookie ^ flow_mod.flow.cookie) & later.cookie_mask == 0
}

fn sum_up(mods: &[FlowMod], shown: &[Shown]) -> Settled {
    let missing: Vec<usize> =
        shown.iter().enumerate().filter(|&(_, shown)| *shown == Shown::Missing).map(|(i, _)| i).collect();
    if missing.is_empty() {
        return Settled::Done;
    }
    let removes =
        |&index: &usize| matches!(mods[index].command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
    // That a flow is not there says something only if nothing else does.
    let absent_counts = missing.iter().all(removes);
    match shown.contains(&Shown::Done) || absent_counts && shown.contains(&Shown::Absent) {
        true => Settled::Mixed { missing },
        false => Settled::NotDone,
    }
}
