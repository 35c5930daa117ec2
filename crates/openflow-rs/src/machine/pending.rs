//! The requests that wait for their answers, by the xids they have taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ofpacket::{OfError, ReplyBody};

use super::Ticket;
use crate::bundle::Bundle;

/// The xids below are the machine's own.
pub(super) const FIRST_FREE_XID: u32 = 16;

/// A request that waits for its answer, or for the rest of it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) what: &'static str,
    /// When it has taken too long.
    pub(super) deadline: Instant,
    /// The last of the xids it has taken.
    pub(super) last_xid: u32,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Waits for one message.
    Reply,
    /// Waits for the rest of the parts, which have so many bytes until now.
    Parts { parts: Vec<ReplyBody>, bytes: usize },
    /// Waits for the end of the first state of these monitors.
    Monitor(Vec<u32>),
    /// Waits for the barrier; something before it may have been refused.
    Barrier(Option<OfError>),
    /// Waits for what its state says.
    Bundle(Bundle),
}

/// All of them. Their ranges of xids do not overlap.
#[derive(Debug)]
pub(super) struct PendingRequests {
    /// By the first xid.
    requests: BTreeMap<u32, Pending>,
    deadlines: BTreeSet<(Instant, u32)>,
    next_xid: u32,
}

impl Default for PendingRequests {
    fn default() -> Self {
        Self { requests: BTreeMap::new(), deadlines: BTreeSet::new(), next_xid: FIRST_FREE_XID }
    }
}

impl PendingRequests {
    /// The first of so many xids in a row that no waiting request has; none of them is 0, which is what a
    /// switch uses. `None` if there is no such row, which takes requests of billions of messages.
    pub(super) fn take_xids(&mut self, n: u32) -> Option<u32> {
        let mut first = self.next_xid.max(FIRST_FREE_XID);
        let mut wrapped = false;
        loop {
            let last = first.checked_add(n.checked_sub(1)?);
            let taken = last.and_then(|last| {
                let (_, pending) = self.requests.range(..=last).next_back()?;
                (pending.last_xid >= first).then_some(pending.last_xid)
            });
            match (last, taken.map(|taken| taken.checked_add(1))) {
                (Some(last), None) => {
                    self.next_xid = last.wrapping_add(1);
                    return Some(first);
                }
                (Some(_), Some(Some(free))) => first = free,
                (None, _) | (_, Some(None)) if wrapped => return None,
                (None, _) | (_, Some(None)) => {
                    wrapped = true;
                    first = FIRST_FREE_XID;
                }
            }
        }
    }

    pub(super) fn insert(&mut self, first_xid: u32, pending: Pending) {
        self.deadlines.insert((pending.deadline, first_xid));
        self.requests.insert(first_xid, pending);
    }

    /// The request that this xid belongs to, and its first xid.
    pub(super) fn owner(&mut self, xid: u32) -> Option<(u32, &mut Pending)> {
        let (&first, pending) = self.requests.range_mut(..=xid).next_back()?;
        (xid <= pending.last_xid).then_some((first, pending))
    }

    /// The first xid of the flow monitor that has waited longest.
    pub(super) fn oldest_monitor(&self) -> Option<u32> {
        let is_monitor =
            |first: &u32| matches!(self.requests.get(first), Some(Pending { kind: Kind::Monitor(_), .. }));
        self.deadlines.iter().map(|&(_, first)| first).find(is_monitor)
    }

    pub(super) fn remove(&mut self, first_xid: u32) -> Option<Pending> {
        let pending = self.requests.remove(&first_xid)?;
        self.deadlines.remove(&(pending.deadline, first_xid));
        Some(pending)
    }

    /// It makes progress: its time begins anew.
    pub(super) fn extend(&mut self, first_xid: u32, deadline: Instant) {
        if let Some(pending) = self.requests.get_mut(&first_xid) {
            self.deadlines.remove(&(pending.deadline, first_xid));
            pending.deadline = deadline;
            self.deadlines.insert((deadline, first_xid));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// The first xid of a request that has taken too long.
    pub(super) fn overdue(&self, now: Instant) -> Option<u32> {
        self.deadlines.first().filter(|&&(deadline, _)| deadline <= now).map(|&(_, first)| first)
    }

    /// All of them, which are forgotten, as they were asked.
    pub(super) fn take_all(&mut self) -> Vec<Pending> {
        self.deadlines.clear();
        let mut all: Vec<_> = std::mem::take(&mut self.requests).into_values().collect();
        all.sort_unstable_by_key(|pending| pending.ticket);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(requests: &mut PendingRequests, n: u32) -> u32 {
        let first = requests.take_xids(n).unwrap();
        let last_xid = first + (n - 1);
        let deadline = Instant::now();
        requests.insert(first, Pending { ticket: 0, what: "", deadline, last_xid, kind: Kind::Reply });
        first
    }

    #[test]
    fn xids_begin_anew_around_what_waits() {
        let mut requests = PendingRequests::default();
        assert_eq!(wait(&mut requests, 1), 16);
        assert_eq!(wait(&mut requests, 10), 17);
        assert_eq!(requests.owner(20).unwrap().0, 17);
        assert_eq!(requests.owner(26).unwrap().0, 17);
        assert!(requests.owner(27).is_none() && requests.owner(15).is_none());
        requests.next_xid = u32::MAX - 3;
        assert_eq!(wait(&mut requests, 4), u32::MAX - 3, "the last four");
        assert_eq!(wait(&mut requests, 1), 27, "behind those that still wait");
        requests.next_xid = u32::MAX;
        assert_eq!(wait(&mut requests, 1), 28);
        assert!(requests.remove(17).is_some());
        requests.next_xid = u32::MAX - 1;
        assert_eq!(wait(&mut requests, 10), 17, "in a gap that is wide enough");
        requests.next_xid = u32::MAX - 1;
        assert_eq!(wait(&mut requests, 11), 29);
        assert_eq!(requests.take_xids(0), None);
        assert_eq!(requests.take_xids(u32::MAX - 16), None, "there is no such row");
        assert_eq!(wait(&mut requests, 1), 40, "a failure changes nothing");
    }

    #[test]
    fn deadlines_follow_their_requests() {
        let mut requests = PendingRequests::default();
        let (a, b) = (wait(&mut requests, 1), wait(&mut requests, 1));
        let later = Instant::now() + std::time::Duration::from_secs(9);
        assert_eq!(requests.overdue(Instant::now()), Some(a));
        requests.extend(a, later);
        assert_eq!(requests.overdue(Instant::now()), Some(b));
        requests.remove(b);
        assert_eq!((requests.overdue(Instant::now()), requests.next_deadline()), (None, Some(later)));
        assert_eq!(requests.take_all().len(), 1);
        assert_eq!(requests.next_deadline(), None);
    }
}
