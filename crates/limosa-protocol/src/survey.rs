//! A bridge's flows, reduced to what a migration has to know of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ofpacket::Flow;

use crate::cookie::Cookie;
use crate::layout::{Layout, VifOutput, vif_input, vif_output};

/// What the flows of an integration bridge say.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// OVN's table numbers.
    pub layout: Layout,
    /// Every flow that carries our cookie.
    pub ours: Vec<Flow>,
    /// Ports from which OVN's own flows take packets into a pipeline.
    pub inputs: BTreeSet<u32>,
    /// Logical ports that OVN's own flows give an interface.
    pub outputs: BTreeSet<VifOutput>,
    /// When a guest's announcement put its flows in place, by migration, as far
    /// as the switch could be asked. The flows themselves do not say it.
    pub announced_at: BTreeMap<u32, Timestamp>,
    /// When our flows of a migration were last seen to change, by migration; see [`Self::since`].
    pub changed_at: BTreeMap<u32, Timestamp>,
}

impl Survey {
    /// Reads a bridge's flows.
    pub fn of<'a>(flows: impl Iterator<Item = &'a Flow> + Clone) -> Self {
        let foreign = flows.clone().filter(|flow| !Cookie::is_ours(flow.cookie));
        Self {
            layout: Layout::find(flows.clone()),
            ours: flows.filter(|flow| Cookie::is_ours(flow.cookie)).cloned().collect(),
            inputs: foreign.clone().filter_map(vif_input).collect(),
            outputs: foreign.filter_map(vif_output).collect(),
            announced_at: BTreeMap::new(),
            changed_at: BTreeMap::new(),
        }
    }

    /// The same with [`Self::changed_at`], by comparison with what was seen `before`.
    #[must_use]
    pub fn since(mut self, before: Option<&Self>, now: Timestamp) -> Self {
        let numbers: BTreeSet<u32> = self.ours.iter().map(|flow| Cookie::migration_of(flow.cookie)).collect();
        let stood = |number: u32| {
            let before = before?;
            let (old, new) = (before.of_migration(number), self.of_migration(number));
            let same = old.clone().count() == new.clone().count()
                && new.clone().all(|flow| old.clone().any(|there| there == flow));
            before.changed_at.get(&number).copied().filter(|_| same)
        };
        self.changed_at = numbers.iter().map(|&number| (number, stood(number).unwrap_or(now))).collect();
        self
    }

    /// True for a flow that [`Self::of`] might draw a conclusion from; an agent
    /// need not hold the others.
    #[must_use]
    pub fn is_of_interest(flow: &Flow) -> bool {
        flow.table_id == 0 || Cookie::is_ours(flow.cookie) || Layout::is_evidence(flow)
    }

    /// Our flows of one migration.
    pub fn of_migration(&self, number: u32) -> impl Iterator<Item = &Flow> + Clone {
        let cookie = Cookie::of_migration(number);
        self.ours.iter().filter(move |flow| flow.cookie & crate::cookie::MIGRATION_MASK == cookie)
    }
}
