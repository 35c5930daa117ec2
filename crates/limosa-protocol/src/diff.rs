//! What has to be told to the switch so that it holds exactly the flows that
//! are wanted. Flows that are not ours are neither looked at nor touched.

use std::collections::BTreeMap;

use ofpacket::{Flow, FlowKey, FlowMod};

use crate::cookie::Cookie;

/// The flow mods that turn `actual` into `wanted`; empty if they are the same.
///
/// Removals come first, but the order does not matter as long as the caller
/// sends them as one atomic bundle.
pub fn diff<'a>(wanted: &[Flow], actual: impl Iterator<Item = &'a Flow>) -> Vec<FlowMod> {
    let mut missing: BTreeMap<FlowKey, &Flow> = wanted.iter().map(|flow| (flow.key(), flow)).collect();
    debug_assert_eq!(missing.len(), wanted.len(), "two wanted flows with one key: {wanted:#?}");
    let mut mods = Vec::new();
    for flow in actual.filter(|flow| Cookie::is_ours(flow.cookie)) {
        match missing.get(&flow.key()) {
            Some(wanted) if wanted.same_as(flow) => {
                missing.remove(&flow.key());
            }
            // Adding replaces whatever has the same table, priority and match.
            Some(_) => {}
            None => mods.push(FlowMod::delete_strict(flow)),
        }
    }
    mods.extend(missing.into_values().map(|flow| FlowMod::add(flow.clone())));
    mods
}
