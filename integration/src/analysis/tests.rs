use super::*;
use crate::clock::ClockPair;

const CLOCK: ClockPair = ClockPair { realtime_ns: 0, monotonic_ns: 0 };
const MAC: &str = "02:00:00:00:01:01";
const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 21);

fn tap(requests: &[(u64, i64)], answers: &[(u64, i64)]) -> SniffResult {
    let seen = |list: &[(u64, i64)]| Seen::from([(PEER, list.to_vec())]);
    SniffResult {
        clock: CLOCK,
        rarps: Vec::new(),
        requests: seen(requests),
        answers: seen(answers),
        missed: 0,
    }
}

/// Ten packets, one a millisecond; the guest stops at 3.5 ms, runs on the
/// target from 5.2 ms on, and what is sent from 7 ms on reaches it.
fn migration(arrivals: &[(u64, i64)], source: &SniffResult, extra: &[(u64, i64)]) -> Analysis {
    let sent = (0..10).map(|n| n * MS).collect();
    let probe = ProbeResult { clock: CLOCK, sent, every: 1, arrivals: arrivals.to_vec() };
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
        ProbeResult {
            clock: CLOCK,
            sent: (0..20).map(|n| n * MS).collect(),
            every: 1,
            arrivals: arrived(&kept),
        }
    };
    let (near, far) = (PEER, Ipv4Addr::new(192, 168, 7, 22));
    let came = |first: u64| (first..20).map(|n| (n, n as i64 * MS + 300_000)).collect::<Vec<_>>();
    let both = |near_from, far_from| Seen::from([(near, came(near_from)), (far, came(far_from))]);
    // The far one's packet 5 and the near one's 7 are the first that come.
    let lost_after = |near_from: u64| {
        let seen = both(near_from, 5);
        let target =
            SniffResult { clock: CLOCK, rarps: Vec::new(), requests: seen.clone(), answers: seen, missed: 0 };
        let lost: Vec<u64> = (3..near_from).collect();
        let peers = [("near".to_owned(), near, probe(&lost)), ("far".to_owned(), far, probe(&[3, 4]))];
        let (pause_ns, source) = (2_500_000, tap(&[], &[]));
        let observed = Observed { pause_ns, guest_mac: MAC, source: &source, target: &target, peers: &peers };
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
    let probe = ProbeResult { clock: CLOCK, sent, every: 1, arrivals: arrived(&[0, 1, 2, 3]) };
    let (empty, peers) = (tap(&[], &[]), [("p1".to_owned(), PEER, probe)]);
    let seen =
        Observed { pause_ns: 3_500_000, guest_mac: MAC, source: &empty, target: &empty, peers: &peers };
    let analysis = analyse(&seen);
    assert_eq!((analysis.first.as_ref(), analysis.rarp_ns, analysis.activation_ms()), (None, None, None));
    assert_eq!(analysis.peers["p1"].lost_in_pause, 6);
}

/// Each fifth packet asks for an answer; the guest runs on the target all the time.
#[test]
fn what_asks_for_no_answer_counts_where_the_guest_is() {
    let sent = (0..20).map(|n| n * MS).collect();
    let all = |but: &[u64]| -> Vec<(u64, i64)> {
        (0..20).filter(|n| !but.contains(n)).map(|n| (n, n.cast_signed() * MS + 300_000)).collect()
    };
    // 5 does not come, 7 neither, 8 twice; 10 comes and is not answered, the answer to 15 is lost.
    let requests = [all(&[5, 7]), vec![(8, 9 * MS)]].concat();
    let target = tap(&requests, &[(0, MS), (15, 16 * MS)]);
    let probe = ProbeResult { clock: CLOCK, sent, every: 5, arrivals: arrived(&[0]) };
    let peers = [("p1".to_owned(), PEER, probe)];
    let observed =
        Observed { pause_ns: 0, guest_mac: MAC, source: &tap(&[], &[]), target: &target, peers: &peers };
    let peer = analyse(&observed).peers["p1"].clone();
    assert_eq!((peer.lost_after_activation, peer.unanswered, peer.duplicates), (3, 1, 1), "{peer:?}");
    let traces: Vec<_> = peer.losses.iter().map(|loss| (loss.number, loss.last)).collect();
    let expected = [(5, Trace::Sent), (7, Trace::Sent), (10, Trace::Reached), (15, Trace::Answered)];
    assert_eq!(traces, expected);
}
