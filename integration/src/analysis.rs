//! From what the probers and the sniffers saw to the numbers that count.
//!
//! ```text
//!            guest stops            announces   first packet that reaches
//!            on the source          itself      it on the target
//!   ─────────────┼──────────────────────┼───────────┼──────────────────► time sent
//!   lost_before_pause    lost_in_pause                lost_after_activation
//! ```
//!
//! A packet belongs to the stretch in which it was *sent*. It is lost if it was not
//! seen on the guest's interface, or if the answer that was seen there did not
//! come back. What was seen there and is not answered is the guest's own affair
//! (an emulated one cannot keep up with much): it is counted by itself, and not at
//! all if the guest stopped meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::clock::MS;
use crate::probe::ProbeResult;
use crate::sniff::{Seen, SniffResult};

/// What was seen of one migration. Times are nanoseconds of
/// `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// When the source stopped the guest.
    pub pause_ns: i64,
    /// The guest's MAC address, as sniffers write it.
    pub guest_mac: &'a str,
    /// What passed the guest's tap on the source.
    pub source: &'a SniffResult,
    /// What passed its tap on the target.
    pub target: &'a SniffResult,
    /// Name, address and probes of each peer.
    pub peers: &'a [(String, Ipv4Addr, ProbeResult)],
}

/// The first packet that reached the guest on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct First {
    /// The peer that sent it.
    pub peer: String,
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub sent_ns: i64,
    /// When it reached the guest's tap.
    pub delivered_ns: i64,
}

/// How much later than another's the way of one peer's packets may become
/// passable. Peers are not equally far: what one sends first can come last,
/// and the gate opens in between.
const SKEW_NS: i64 = 5 * MS;

/// What one peer had of the migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerAnalysis {
    /// Packets sent.
    pub sent: u64,
    /// Packets sent before the pause that the network lost, there or back.
    pub lost_before_pause: u64,
    /// Packets lost of those sent from the pause until the peer's first one
    /// that reached the guest on the target was sent, or 5 ms after the
    /// first of any peer.
    pub lost_in_pause: u64,
    /// Packets lost of those sent from then on.
    pub lost_after_activation: u64,
    /// Packets that asked for an answer, reached the guest's interface while it
    /// ran, and were not answered.
    pub unanswered: u64,
    /// Packets that reached the guest again, and answers that came again without
    /// the guest having given them again.
    pub duplicates: u64,
    /// The longest time between two answers, milliseconds.
    pub longest_silence_ms: f64,
    /// Each packet of `lost_before_pause`, `lost_after_activation` and `unanswered`.
    #[serde(skip)]
    pub losses: Vec<Loss>,
}

/// A packet that was lost while the guest ran, and where its trace ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub sent_ns: i64,
    /// Where it was seen last.
    pub last: Trace,
    /// When that was.
    pub last_ns: i64,
}

/// How far a packet was seen to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// Its sender.
    Sent,
    /// The guest's tap, on its way in.
    Reached,
    /// The guest's tap, as an answer.
    Answered,
}

/// The numbers of one migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// When the guest announced itself on the target.
    pub rarp_ns: Option<i64>,
    /// The packet that reached it there first after the pause, if it answered any.
    pub first: Option<First>,
    /// When its first answer to such a packet left.
    pub first_answer_ns: Option<i64>,
    /// Each peer.
    pub peers: BTreeMap<String, PeerAnalysis>,
}

impl Analysis {
    /// From the guest's announcement until the first packet reached it,
    /// milliseconds.
    pub fn activation_ms(&self) -> Option<f64> {
        Some((self.first.as_ref()?.delivered_ns - self.rarp_ns?) as f64 / MS as f64)
    }
}

/// When a packet was seen first, and how often.
type Times = HashMap<u64, (i64, u64)>;

/// One peer's packets on the taps of the guest: that of the source until the
/// pause, that of the target from then on. Until the pause the waiting copy is
/// nobody: what is flooded to it counts for nothing.
struct Taps {
    source_requests: Times,
    source_answers: Times,
    target_requests: Times,
    target_answers: Times,
}

impl Taps {
    fn of(seen: &Observed<'_>, peer: Ipv4Addr) -> Self {
        let times = |passed: &Seen, counts: &dyn Fn(i64) -> bool| {
            let mut times = Times::new();
            for &(number, at) in passed.get(&peer).into_iter().flatten().filter(|(_, at)| counts(*at)) {
                times.entry(number).or_insert((at, 0)).1 += 1;
            }
            times
        };
        let (source, target) = (|_| true, |at| at >= seen.pause_ns);
        Self {
            source_requests: times(&seen.source.requests, &source),
            source_answers: times(&seen.source.answers, &source),
            target_requests: times(&seen.target.requests, &target),
            target_answers: times(&seen.target.answers, &target),
        }
    }

    /// The first of the peer's packets that came to the guest on the target.
    fn first(&self, peer: &str, probe: &ProbeResult) -> Option<First> {
        let (&number, &(delivered_ns, _)) = self.target_requests.iter().min_by_key(|(_, (at, _))| *at)?;
        let sent_ns = *probe.sent.get(usize::try_from(number).ok()?)?;
        Some(First { peer: peer.to_owned(), number, sent_ns, delivered_ns })
    }

    /// When the first answer left that the guest gave on the target to what had
    /// come there: what else it answers was in its memory when it moved.
    fn first_answer(&self) -> Option<i64> {
        let came =
            |number: &u64, at: i64| self.target_requests.get(number).is_some_and(|(came, _)| *came <= at);
        self.target_answers.iter().filter(|(number, (at, _))| came(number, *at)).map(|(_, (at, _))| *at).min()
    }

    /// It came to the source's tap and was still there when the guest stopped.
    fn waited(&self, number: u64) -> bool {
        self.source_requests.contains_key(&number) && !self.source_answers.contains_key(&number)
    }

    /// How far a packet came, and when it was there.
    fn last(&self, number: u64, sent_ns: i64, pause_ns: i64) -> (Trace, i64) {
        let (requests, answers) = if sent_ns < pause_ns && self.source_requests.contains_key(&number) {
            (&self.source_requests, &self.source_answers)
        } else {
            (&self.target_requests, &self.target_answers)
        };
        let seen = |map: &Times, trace| map.get(&number).map(|(at, _)| (trace, *at));
        seen(answers, Trace::Answered)
            .or_else(|| seen(requests, Trace::Reached))
            .unwrap_or((Trace::Sent, sent_ns))
    }

    /// How often packets came to the guest again. What the source's switch
    /// delivers after the pause comes to nobody.
    fn repeated(&self, pause_ns: i64) -> u64 {
        let again = |times: &Times, until: i64| -> u64 {
            times.values().filter(|(at, _)| *at < until).map(|(_, count)| count - 1).sum()
        };
        again(&self.source_requests, pause_ns) + again(&self.target_requests, i64::MAX)
    }

    /// How often an answer left.
    fn answered(&self, number: u64) -> u64 {
        let times = [&self.source_answers, &self.target_answers];
        times.iter().filter_map(|times| times.get(&number)).map(|(_, count)| count).sum()
    }
}

/// Counts.
pub fn analyse(seen: &Observed<'_>) -> Analysis {
    let announced = |(at, mac): &&(i64, String)| *at >= seen.pause_ns && mac == seen.guest_mac;
    let rarp_ns = seen.target.rarps.iter().find(announced).map(|(at, _)| *at);
    let taps: Vec<_> = seen.peers.iter().map(|(_, ip, _)| Taps::of(seen, *ip)).collect();
    let first_answer_ns = taps.iter().filter_map(Taps::first_answer).min();
    let firsts: Vec<Option<First>> = seen
        .peers
        .iter()
        .zip(&taps)
        .map(|((name, _, probe), taps)| first_answer_ns.and_then(|_| taps.first(name, probe)))
        .collect();
    let first = firsts.iter().flatten().min_by_key(|first| first.delivered_ns).cloned();
    let latest = first.as_ref().map_or(i64::MAX, |first| first.sent_ns.saturating_add(SKEW_NS));
    let peers = seen
        .peers
        .iter()
        .zip(firsts.iter().zip(&taps))
        .map(|((name, _, probe), (own, taps))| {
            let active_from = own.as_ref().map_or(latest, |own| own.sent_ns.min(latest));
            (name.clone(), peer(probe, seen.pause_ns, active_from, taps))
        })
        .collect();
    Analysis { rarp_ns, first, first_answer_ns, peers }
}

fn peer(probe: &ProbeResult, pause_ns: i64, active_from: i64, taps: &Taps) -> PeerAnalysis {
    let mut count = PeerAnalysis {
        sent: probe.sent.len() as u64,
        lost_before_pause: 0,
        lost_in_pause: 0,
        lost_after_activation: 0,
        unanswered: 0,
        duplicates: taps.repeated(pause_ns),
        longest_silence_ms: 0.0,
        losses: Vec::new(),
    };
    let mut arrived: HashMap<u64, u64> = HashMap::new();
    let mut last = None;
    let mut longest = 0;
    for &(number, at) in &probe.arrivals {
        *arrived.entry(number).or_default() += 1;
        // By the kernel's stamps, which may be out of order by a little.
        longest = longest.max(at - last.unwrap_or(at));
        last = last.max(Some(at));
    }
    count.longest_silence_ms = longest as f64 / MS as f64;
    count.duplicates += arrived
        .iter()
        .map(|(number, times)| times.saturating_sub(taps.answered(*number).max(1)))
        .sum::<u64>();
    for (number, &sent_ns) in (0..).zip(&probe.sent) {
        if arrived.contains_key(&number) {
            continue;
        }
        let (last, last_ns) = taps.last(number, sent_ns, pause_ns);
        let reached = last == Trace::Reached;
        if reached && !probe.asks(number) {
            continue;
        }
        if sent_ns < active_from && (sent_ns >= pause_ns || taps.waited(number)) {
            count.lost_in_pause += 1;
            continue;
        }
        *(if reached {
            &mut count.unanswered
        } else if sent_ns >= active_from {
            &mut count.lost_after_activation
        } else {
            &mut count.lost_before_pause
        }) += 1;
        count.losses.push(Loss { number, sent_ns, last, last_ns });
    }
    count
}

#[cfg(test)]
mod tests;
