//! Some thousand schedules, every mutation, and the same schedule twice.
//! A million schedules: `cargo run --release -p limosa-sim -- --seeds 1000000`.

use std::sync::atomic::{AtomicU64, Ordering};

use limosa_sim::{Coverage, Mutation, Options, play};

/// Plays the seeds on two threads; the first one that fails, and what happened.
fn first_failure(seeds: u64, options: Options) -> (Option<u64>, Coverage) {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let mut coverage = Coverage::default();
    std::thread::scope(|scope| {
        let work = || {
            let mut coverage = Coverage::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds || failed.load(Ordering::Relaxed) != u64::MAX {
                    return coverage;
                }
                let outcome = play(seed, &options);
                coverage.add(&outcome.coverage);
                if outcome.violation.is_some() {
                    failed.fetch_min(seed, Ordering::Relaxed);
                }
            }
        };
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().for_each(|thread| coverage.add(&thread.join().expect("a schedule panicked")));
    });
    let failed = failed.into_inner();
    ((failed != u64::MAX).then_some(failed), coverage)
}

#[test]
fn no_schedule_violates_anything() {
    let (failed, coverage) = first_failure(2_500, Options::default());
    if let Some(seed) = failed {
        let outcome = play(seed, &Options { trace: true, ..Options::default() });
        panic!("seed {seed}: {:?}\n{}", outcome.violation, outcome.trace.join("\n"));
    }
    for what in [
        "agent killed",
        "agent killed while it waits",
        "aborted",
        "announced",
        "bound to no chassis",
        "controller killed",
        "controller killed while it waits",
        "databases away",
        "delivered twice",
        "northd killed",
        "options overwritten",
        "options set again",
        "OVN deletes and adds later",
        "ovs-vswitchd killed",
        "port stolen",
        "re-plugged",
        "store away",
        "told to activate",
        "told to return",
        "tunnel re-created",
        "vouched",
        "wiped by ovn-controller",
    ] {
        assert!(coverage.total(what) > 10, "{what:?} hardly ever happens:\n{coverage}");
    }
}

/// Where nothing fails, each packet takes one way at the switch.
#[test]
fn nothing_comes_twice_where_nothing_fails() {
    let (failed, coverage) = first_failure(1_000, Options { no_faults: true, ..Options::default() });
    assert_eq!(failed, None);
    assert_eq!(coverage.total("delivered twice"), 0, "{coverage}");
    assert!(coverage.total("delivered by one way") > 1_000, "{coverage}");
}

/// What takes more schedules than a test has time for; `limosa-sim --mutation all` plays them.
const RARE: [Mutation; 2] = [Mutation::NoFence, Mutation::TrustClaim];

#[test]
fn every_mutation_is_caught() {
    for mutation in Mutation::ALL.iter().filter(|mutation| !RARE.contains(mutation)) {
        let options = Options { mutation: Some(*mutation), ..Options::default() };
        let (failed, coverage) = first_failure(2_000, options);
        assert!(failed.is_some(), "{mutation} is not noticed:\n{coverage}");
    }
}

#[test]
fn the_same_seed_is_the_same_schedule() {
    for seed in 0..20 {
        let options = Options { trace: true, ..Options::default() };
        let (first, second) = (play(seed, &options), play(seed, &options));
        assert!(first.trace.len() > 20, "seed {seed} has only {} lines", first.trace.len());
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.coverage, second.coverage, "seed {seed}");
        let silent = play(seed, &Options::default());
        assert_eq!(silent.coverage, first.coverage, "seed {seed}: looking changes nothing");
    }
}
