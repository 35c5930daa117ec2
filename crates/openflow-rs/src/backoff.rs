//! How long to wait before the next attempt to connect.

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
        step - step.mul_f64(fastrand::f64() / 2.0)
    }
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
        let second = Duration::from_secs(1);
        let waits: Vec<f64> =
            (0..8).map(|_| Backoff::new(second, second).wait(Duration::ZERO).as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (0.5..=1.0).contains(wait)) && waits.iter().any(|w| *w != waits[0]));
    }
}
