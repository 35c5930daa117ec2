//! Flows of ours that belong to no migration the store knows.
//!
//! Somebody has deleted an object by hand, or a chassis was away while its
//! migration ended. Such flows are taken away, but not at once: a store that
//! has lost an object for a moment must not cost a guest its network.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use ofpacket::Flow;

use crate::cookie::Cookie;
use crate::survey::Survey;

/// How long flows without an object are left alone.
pub const STRAY_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// Since when flows have been without an object, by migration.
#[derive(Debug, Default)]
pub struct Strays {
    since: BTreeMap<u32, Timestamp>,
}

impl Strays {
    /// The flows without an object that are to stay for now, and when to look
    /// again.
    ///
    /// `owners` are the numbers of the objects that the store has. While some
    /// objects cannot be read (`all_readable` is false) nothing is taken away.
    pub fn keep(
        &mut self,
        survey: &Survey,
        owners: &BTreeSet<u32>,
        all_readable: bool,
        now: Timestamp,
    ) -> (Vec<Flow>, Option<Timestamp>) {
        let number = |flow: &Flow| Cookie::migration_of(flow.cookie);
        let strays: Vec<&Flow> = survey.ours.iter().filter(|flow| !owners.contains(&number(flow))).collect();
        let numbers: BTreeSet<u32> = strays.iter().map(|flow| number(flow)).collect();
        self.since.retain(|number, _| numbers.contains(number));
        for number in numbers {
            let since = self.since.entry(number).or_insert(now);
            if !all_readable {
                *since = now;
            }
        }
        let due = |number: &u32| self.since[number] + STRAY_DELAY;
        let kept = strays.into_iter().filter(|flow| now < due(&number(flow))).cloned().collect();
        (kept, self.since.keys().map(due).filter(|due| now < *due).min())
    }
}
