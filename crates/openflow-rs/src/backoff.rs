//! How long to wait before the next attempt to connect.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits that double from the first to the longest; each is shortened by up to half of it at random, so that
/// the clients of a restarted switch do not come all at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first.min(longest) }
    }

    /// The wait after an attempt whose connection was of use for so long: if for longer than the longest
    /// wait, it was a good one, and the waits begin anew.
    pub(crate) fn wait(&mut self, used: Duration) -> Duration {
        if used > self.longest {
            self.next = self.first.min(self.longest);
        }
        let step = self.next;
        self.next = (step * 2).min(self.longest);
        step - step.mul_f64(random() / 2.0)
    }
}

/// From 0 to 1. The standard library seeds its hashers at random.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0);
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_a_good_connection() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(500));
        for (used, step) in [(0, 100), (0, 200), (500, 400), (0, 500), (0, 500), (501, 100), (0, 200)] {
            let wait = backoff.wait(ms(used));
            assert!(wait > ms(step / 2) - ms(1) && wait <= ms(step), "{wait:?} of {step} ms");
        }
    }

    #[test]
    fn waits_differ() {
        let waits: Vec<f64> = (0..8).map(|_| random()).collect();
        assert!(waits.iter().all(|wait| (0.0..=1.0).contains(wait)) && waits.iter().any(|w| *w != waits[0]));
    }
}
