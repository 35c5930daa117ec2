//! The switch's flows, kept up to date by what its monitors tell.

use std::collections::BTreeMap;
use std::fmt;

use ofpacket::{Flow, FlowKey, FlowUpdate, FlowUpdateEvent};

/// The flows that the caller cares for, as they are now. Pure: it is fed [`FlowUpdate`]s.
pub struct FlowTable {
    filter: Box<dyn Fn(&Flow) -> bool + Send + Sync>,
    flows: BTreeMap<FlowKey, Flow>,
    paused: bool,
}

impl FlowTable {
    /// Holds the flows for which `filter` is true; it may look at anything but the statistics.
    pub fn new(filter: impl Fn(&Flow) -> bool + Send + Sync + 'static) -> Self {
        Self { filter: Box::new(filter), flows: BTreeMap::new(), paused: false }
    }

    /// Takes the update in; true if the table is another one than before.
    pub fn apply(&mut self, update: &FlowUpdate) -> bool {
        match update {
            FlowUpdate::Full { event: FlowUpdateEvent::Removed, flow, .. } => self.remove(flow),
            FlowUpdate::Full { flow, .. } if (self.filter)(flow) => {
                let old = self.flows.insert(flow.key(), flow.clone());
                old.as_ref() != Some(flow)
            }
            // What is not of interest may take the place of what was.
            FlowUpdate::Full { flow, .. } => self.remove(flow),
            FlowUpdate::Paused => {
                self.paused = true;
                false
            }
            FlowUpdate::Resumed => {
                self.paused = false;
                false
            }
            _ => false,
        }
    }

    fn remove(&mut self, flow: &Flow) -> bool {
        !self.flows.is_empty() && self.flows.remove(&flow.key()).is_some()
    }

    /// The flow with this key.
    pub fn get(&self, key: &FlowKey) -> Option<&Flow> {
        self.flows.get(key)
    }

    /// The flows, by table, priority and match.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> + Clone {
        self.flows.values()
    }

    /// How many flows it holds.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether the switch has stopped telling of new flows because we read too slowly; it will tell of them
    /// later, and then this is false again.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Forgets everything, for a new connection.
    pub fn clear(&mut self) {
        self.flows.clear();
        self.paused = false;
    }
}

impl fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowTable")
            .field("flows", &self.flows.len())
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ofpacket::{Action, Match, OxmField};

    use super::*;

    fn full(event: FlowUpdateEvent, flow: &Flow) -> FlowUpdate {
        FlowUpdate::Full { event, reason: 0, flow: flow.clone() }
    }

    fn flow(cookie: u64, port: u32) -> Flow {
        let m = Match::new().with(OxmField::reg(15), 2u32);
        Flow::new(65, 100, m, vec![Action::output(port)]).with_cookie(cookie)
    }

    #[test]
    fn follows_what_it_cares_for() {
        let mut table = FlowTable::new(|flow| flow.cookie != 0);
        assert!(table.apply(&full(FlowUpdateEvent::Initial, &flow(1, 5))));
        assert!(!table.apply(&full(FlowUpdateEvent::Added, &flow(1, 5))), "the same again is no change");
        assert!(table.apply(&full(FlowUpdateEvent::Modified, &flow(1, 6))));
        assert_eq!(table.iter().collect::<Vec<_>>(), [&flow(1, 6)]);
        assert_eq!(table.get(&flow(9, 9).key()), Some(&flow(1, 6)));
        // A removal names the flow in whatever form the switch prefers.
        let m = Match::new().with_masked(OxmField::xreg(7), 2u64, 0xffff_ffffu64);
        assert!(table.apply(&full(FlowUpdateEvent::Removed, &Flow::new(65, 100, m, vec![]))));
        assert!(table.is_empty());
    }

    #[test]
    fn a_foreign_flow_takes_the_place_of_ours() {
        let mut table = FlowTable::new(|flow| flow.cookie != 0);
        assert!(!table.apply(&full(FlowUpdateEvent::Added, &flow(0, 5))));
        assert!(table.apply(&full(FlowUpdateEvent::Added, &flow(1, 5))));
        assert!(table.apply(&full(FlowUpdateEvent::Added, &flow(0, 5))));
        assert!(table.is_empty());
    }

    #[test]
    fn knows_when_it_may_lack_flows() {
        let mut table = FlowTable::new(|_| true);
        table.apply(&FlowUpdate::Paused);
        assert!(table.is_paused());
        table.apply(&FlowUpdate::Resumed);
        assert!(!table.is_paused());
    }
}
