//! From what the probers and the sniffers saw to the numbers that count.
//!
//! ```text
//!            guest stops            announces   first packet that it
//!            on the source          itself      answers on the target
//!   ─────────────┼──────────────────────┼───────────┼──────────────────► time sent
//!   lost_before_pause    lost_in_pause                lost_after_activation
//! ```
//!
//! A packet belongs to the stretch in which it was *sent*. One exception: what
//! was sent before the pause, reached the guest's interface on the source and
//! was not answered was waiting there when the guest stopped; it is lost in
//! the pause, and no network could have saved it.

use std::collections::{BTreeMap, HashMap, HashSet};
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

/// A packet that the guest answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The peer that sent it.
    pub peer: String,
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub sent_ns: i64,
    /// When it reached the guest's tap.
    pub delivered_ns: i64,
    /// When the guest's answer left there.
    pub answered_ns: i64,
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
    /// that the guest answered on the target was sent, or 5 ms after the
    /// first of any peer.
    pub lost_in_pause: u64,
    /// Packets lost of those sent from then on.
    pub lost_after_activation: u64,
    /// Answers beyond the first, of all packets.
    pub duplicates: u64,
    /// The longest time between two answers, milliseconds.
    pub longest_silence_ms: f64,
    /// Each packet of `lost_before_pause` and `lost_after_activation`.
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
    /// Of the packets that reached the guest on the target after the pause
    /// and were answered, the one that came first.
    pub first: Option<Answered>,
    /// Each peer.
    pub peers: BTreeMap<String, PeerAnalysis>,
}

impl Analysis {
    /// From the guest's announcement until the first packet that it answers
    /// reached it, milliseconds.
    pub fn activation_ms(&self) -> Option<f64> {
        Some((self.first.as_ref()?.delivered_ns - self.rarp_ns?) as f64 / MS as f64)
    }
}

/// When each of a peer's packets was seen last on a tap.
fn times(seen: &Seen, peer: Ipv4Addr) -> HashMap<u64, i64> {
    seen.get(&peer).into_iter().flatten().copied().collect()
}

/// One peer's packets on both taps.
struct Taps {
    source_requests: HashMap<u64, i64>,
    source_answers: HashMap<u64, i64>,
    target_requests: HashMap<u64, i64>,
    target_answers: HashMap<u64, i64>,
}

impl Taps {
    fn of(seen: &Observed<'_>, peer: Ipv4Addr) -> Self {
        Self {
            source_requests: times(&seen.source.requests, peer),
            source_answers: times(&seen.source.answers, peer),
            target_requests: times(&seen.target.requests, peer),
            target_answers: times(&seen.target.answers, peer),
        }
    }

    /// It came to the source's tap and was still there when the guest stopped.
    fn waited(&self, number: u64) -> bool {
        self.source_requests.contains_key(&number) && !self.source_answers.contains_key(&number)
    }

    fn loss(&self, number: u64, sent_ns: i64, pause_ns: i64) -> Loss {
        // Until the pause the waiting copy is nobody: what is flooded to it counts for nothing.
        let (requests, answers) = if sent_ns < pause_ns && self.source_requests.contains_key(&number) {
            (&self.source_requests, &self.source_answers)
        } else {
            (&self.target_requests, &self.target_answers)
        };
        let seen = |map: &HashMap<u64, i64>, trace| map.get(&number).map(|at| (trace, *at));
        let last = seen(answers, Trace::Answered).or_else(|| seen(requests, Trace::Reached));
        let (last, last_ns) = last.unwrap_or((Trace::Sent, sent_ns));
        Loss { number, sent_ns, last, last_ns }
    }
}

/// The first packet of a peer that came to the guest on the target and was
/// answered. What came before the pause was flooded to the waiting copy, and
/// what was answered without having come was in the guest's memory when it
/// moved.
fn first_answered(seen: &Observed<'_>, peer: &str, ip: Ipv4Addr, probe: &ProbeResult) -> Option<Answered> {
    let answers: HashMap<u64, i64> =
        seen.target.answers.get(&ip).into_iter().flatten().rev().copied().collect();
    let came = seen.target.requests.get(&ip).into_iter().flatten();
    came.filter(|(_, at)| *at >= seen.pause_ns).find_map(|&(number, delivered_ns)| {
        let answered_ns = answers.get(&number).copied().filter(|at| *at >= delivered_ns)?;
        let sent_ns = *probe.sent.get(usize::try_from(number).ok()?)?;
        Some(Answered { peer: peer.to_owned(), number, sent_ns, delivered_ns, answered_ns })
    })
}

/// Counts.
pub fn analyse(seen: &Observed<'_>) -> Analysis {
    let announced = |(at, mac): &&(i64, String)| *at >= seen.pause_ns && mac == seen.guest_mac;
    let rarp_ns = seen.target.rarps.iter().find(announced).map(|(at, _)| *at);
    let firsts: Vec<_> =
        seen.peers.iter().map(|(name, ip, probe)| first_answered(seen, name, *ip, probe)).collect();
    let first = firsts.iter().flatten().min_by_key(|first| first.delivered_ns).cloned();
    let latest = first.as_ref().map_or(i64::MAX, |first| first.sent_ns.saturating_add(SKEW_NS));
    let peers = seen
        .peers
        .iter()
        .zip(&firsts)
        .map(|((name, ip, probe), own)| {
            let active_from = own.as_ref().map_or(latest, |own| own.sent_ns.min(latest));
            (name.clone(), peer(probe, seen.pause_ns, active_from, &Taps::of(seen, *ip)))
        })
        .collect();
    Analysis { rarp_ns, first, peers }
}

fn peer(probe: &ProbeResult, pause_ns: i64, active_from: i64, taps: &Taps) -> PeerAnalysis {
    let mut count = PeerAnalysis {
        sent: probe.sent.len() as u64,
        lost_before_pause: 0,
        lost_in_pause: 0,
        lost_after_activation: 0,
        duplicates: 0,
        longest_silence_ms: 0.0,
        losses: Vec::new(),
    };
    let mut arrived = HashSet::new();
    let mut last = None;
    let mut longest = 0;
    for &(number, at) in &probe.arrivals {
        if !arrived.insert(number) {
            count.duplicates += 1;
        }
        // By the kernel's stamps, which may be out of order by a little.
        longest = longest.max(at - last.unwrap_or(at));
        last = last.max(Some(at));
    }
    count.longest_silence_ms = longest as f64 / MS as f64;
    for (number, &sent) in (0..).zip(&probe.sent) {
        if arrived.contains(&number) {
            continue;
        }
        if sent >= active_from {
            count.lost_after_activation += 1;
        } else if sent >= pause_ns || taps.waited(number) {
            count.lost_in_pause += 1;
            continue;
        } else {
            count.lost_before_pause += 1;
        }
        count.losses.push(taps.loss(number, sent, pause_ns));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ClockPair;

    const CLOCK: ClockPair = ClockPair { realtime_ns: 0, monotonic_ns: 0 };
    const MAC: &str = "02:00:00:00:01:01";
    const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 21);

    fn tap(requests: &[(u64, i64)], answers: &[(u64, i64)]) -> SniffResult {
        let seen = |list: &[(u64, i64)]| Seen::from([(PEER, list.to_vec())]);
        SniffResult { clock: CLOCK, rarps: Vec::new(), requests: seen(requests), answers: seen(answers) }
    }

    /// Ten packets, one a millisecond; the guest stops at 3.5 ms, runs on the
    /// target from 5.2 ms on, and what is sent from 7 ms on reaches it.
    fn migration(arrivals: &[(u64, i64)], source: &SniffResult, extra: &[(u64, i64)]) -> Analysis {
        let sent = (0..10).map(|n| n * MS).collect();
        let probe = ProbeResult { clock: CLOCK, sent, arrivals: arrivals.to_vec() };
        let at = |number: u64, us: i64| (number, number.cast_signed() * MS + us * 1_000);
        let mut target = tap(&[at(7, 300), at(8, 300), at(9, 300)], &[at(7, 600), at(8, 600), at(9, 600)]);
        target.requests.get_mut(&PEER).unwrap().splice(..0, extra.iter().copied());
        target.answers.get_mut(&PEER).unwrap().splice(..0, extra.iter().map(|(n, _)| (*n, 6 * MS)));
        target.rarps =
            vec![(2 * MS, MAC.into()), (5_300_000, "02:00:00:00:09:09".into()), (5_500_000, MAC.into())];
        let peers = [("p1".to_owned(), PEER, probe)];
        analyse(&Observed { pause_ns: 3_500_000, guest_mac: MAC, source, target: &target, peers: &peers })
    }

    fn arrived(numbers: &[u64]) -> Vec<(u64, i64)> {
        numbers.iter().map(|n| (*n, n.cast_signed() * MS + 900_000)).collect()
    }

    #[test]
    fn losses_go_where_the_packet_was_sent() {
        let analysis = migration(&arrived(&[0, 1, 2, 3, 7, 9]), &tap(&[], &[]), &[]);
        let peer = &analysis.peers["p1"];
        assert_eq!(
            (peer.sent, peer.lost_before_pause, peer.lost_in_pause, peer.lost_after_activation),
            (10, 0, 3, 1)
        );
        let lost = Loss { number: 8, sent_ns: 8 * MS, last: Trace::Answered, last_ns: 8 * MS + 600_000 };
        assert_eq!((peer.duplicates, peer.losses.as_slice()), (0, [lost].as_slice()));
        assert!((peer.longest_silence_ms - 4.0).abs() < 1e-9, "{}", peer.longest_silence_ms);
        let first = analysis.first.as_ref().unwrap();
        assert_eq!((first.number, first.sent_ns), (7, 7 * MS));
        // From the guest's own announcement after the pause: 5.5 to 7.3 ms.
        assert!((analysis.activation_ms().unwrap() - 1.8).abs() < 1e-9);
    }

    #[test]
    fn what_waited_for_the_guest_when_it_stopped_is_lost_in_the_pause() {
        let all_but_two = arrived(&[0, 1, 7, 8, 9]);
        // 2 came to the source's tap and was answered: its answer was lost.
        // 3 came there and was not.
        let source = tap(&[(2, 2_300_000), (3, 3_300_000)], &[(2, 2_600_000)]);
        let peer = migration(&all_but_two, &source, &[]).peers["p1"].clone();
        assert_eq!((peer.lost_before_pause, peer.lost_in_pause, peer.lost_after_activation), (1, 4, 0));
    }

    #[test]
    fn a_packet_that_was_flooded_to_the_waiting_copy_does_not_open_the_gate() {
        let analysis = migration(&arrived(&[0, 1, 2, 3, 7, 8, 9]), &tap(&[], &[]), &[(1, 1_300_000)]);
        assert_eq!(analysis.first.unwrap().number, 7);
    }

    #[test]
    fn a_second_answer_is_a_duplicate() {
        let twice = [arrived(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), arrived(&[8, 9])].concat();
        let peer = migration(&twice, &tap(&[], &[]), &[]).peers["p1"].clone();
        assert_eq!((peer.duplicates, peer.lost_in_pause, peer.lost_after_activation), (2, 0, 0));
    }

    #[test]
    fn the_gate_opens_for_everybody_within_the_skew() {
        let probe = |missing: &[u64]| {
            let kept: Vec<u64> = (0..20).filter(|n| !missing.contains(n)).collect();
            ProbeResult { clock: CLOCK, sent: (0..20).map(|n| n * MS).collect(), arrivals: arrived(&kept) }
        };
        let (near, far) = (PEER, Ipv4Addr::new(192, 168, 7, 22));
        let came = |first: u64| (first..20).map(|n| (n, n as i64 * MS + 300_000)).collect::<Vec<_>>();
        let both = |near_from, far_from| Seen::from([(near, came(near_from)), (far, came(far_from))]);
        // The far one's packet 5 and the near one's 7 are the first that come.
        let lost_after = |near_from: u64| {
            let seen = both(near_from, 5);
            let target =
                SniffResult { clock: CLOCK, rarps: Vec::new(), requests: seen.clone(), answers: seen };
            let lost: Vec<u64> = (3..near_from).collect();
            let peers = [("near".to_owned(), near, probe(&lost)), ("far".to_owned(), far, probe(&[3, 4]))];
            let (pause_ns, source) = (2_500_000, tap(&[], &[]));
            let observed =
                Observed { pause_ns, guest_mac: MAC, source: &source, target: &target, peers: &peers };
            let peers = analyse(&observed).peers;
            assert_eq!((peers["far"].lost_in_pause, peers["far"].lost_after_activation), (2, 0));
            peers["near"].lost_after_activation
        };
        assert_eq!(lost_after(7), 0, "2 ms later");
        assert_eq!(lost_after(13), 3, "8 ms later: 10, 11 and 12 are more than 5 ms behind");
    }

    #[test]
    fn nothing_answered_on_the_target_is_all_pause() {
        let sent = (0..10).map(|n| n * MS).collect();
        let probe = ProbeResult { clock: CLOCK, sent, arrivals: arrived(&[0, 1, 2, 3]) };
        let (empty, peers) = (tap(&[], &[]), [("p1".to_owned(), PEER, probe)]);
        let seen =
            Observed { pause_ns: 3_500_000, guest_mac: MAC, source: &empty, target: &empty, peers: &peers };
        let analysis = analyse(&seen);
        assert_eq!((analysis.first.as_ref(), analysis.rarp_ns, analysis.activation_ms()), (None, None, None));
        assert_eq!(analysis.peers["p1"].lost_in_pause, 6);
    }
}
