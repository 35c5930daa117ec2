//! How long to wait before the next attempt to connect.

use std::time::{Duration, Instant};

/// Exponential, with jitter; one round through the list of remotes costs one wait.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    remotes: usize,
    attempts_in_round: usize,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration, remotes: usize) -> Self {
        Self { first, most, remotes, attempts_in_round: 0, next: first }
    }

    /// The wait after a failure: none while there are remotes not yet tried in this round, else between half
    /// of the current step and all of it, so that the clients of a restarted server do not come all at once.
    ///
    /// A connection that was in use since `since` and lasted longer than the longest wait was a good one:
    /// the steps and the round start over.
    pub(crate) fn after_failure(&mut self, in_use_since: Option<Instant>, now: Instant) -> Duration {
        if in_use_since.is_some_and(|since| now.duration_since(since) >= self.most) {
            self.next = self.first;
            self.attempts_in_round = 0;
        }
        self.attempts_in_round += 1;
        if self.attempts_in_round < self.remotes {
            return Duration::ZERO;
        }
        self.attempts_in_round = 0;
        let step = self.next;
        self.next = (step * 2).min(self.most);
        step.mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_to_the_cap_and_start_over_after_a_good_connection() {
        let now = Instant::now();
        let mut backoff = Backoff::new(SECOND, 8 * SECOND, 1);
        for step in [1, 2, 4, 8, 8] {
            let wait = backoff.after_failure(None, now);
            assert!(wait >= step * SECOND / 2 && wait <= step * SECOND, "{wait:?} for step {step}");
        }
        let wait = backoff.after_failure(Some(now), now + 7 * SECOND);
        assert!(wait >= 4 * SECOND, "a short connection changes nothing: {wait:?}");
        let wait = backoff.after_failure(Some(now), now + 8 * SECOND);
        assert!(wait <= SECOND, "{wait:?}");
    }

    #[test]
    fn the_other_remotes_are_tried_at_once() {
        let now = Instant::now();
        let mut backoff = Backoff::new(SECOND, 8 * SECOND, 3);
        let waits: Vec<bool> = (0..6).map(|_| backoff.after_failure(None, now).is_zero()).collect();
        assert_eq!(waits, [true, true, false, true, true, false]);
        // The leader of a cluster goes away: every other server is asked at once.
        assert!(backoff.after_failure(None, now).is_zero() && backoff.after_failure(None, now).is_zero());
        assert!(backoff.after_failure(Some(now), now + 8 * SECOND).is_zero());
        assert!(backoff.after_failure(None, now).is_zero() && !backoff.after_failure(None, now).is_zero());
    }
}
