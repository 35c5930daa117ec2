//! Two clocks and how to get from one to the other.
//!
//! Everything the lab measures is in nanoseconds of `CLOCK_MONOTONIC`, which
//! all namespaces of one machine share. QEMU's events and the objects of
//! Limosa carry the time of day; a [`ClockPair`] puts them on the same axis.

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds in a millisecond.
pub const MS: i64 = 1_000_000;

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * SECOND + time.tv_nsec
}

/// Now on `CLOCK_MONOTONIC`, in nanoseconds.
pub fn monotonic_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Now on `CLOCK_REALTIME`, in nanoseconds since 1970.
pub fn realtime_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// One moment, read on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPair {
    /// `CLOCK_REALTIME`, nanoseconds since 1970.
    pub realtime_ns: i64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: i64,
}

impl ClockPair {
    /// Reads both clocks. Of a few tries the one in which the two readings
    /// lie closest together is kept, so that a preemption between them does
    /// not become an error.
    pub fn now() -> Self {
        let read = || {
            let before = monotonic_ns();
            let realtime_ns = realtime_ns();
            let after = monotonic_ns();
            (after - before, Self { realtime_ns, monotonic_ns: before + (after - before) / 2 })
        };
        let mut best = read();
        for _ in 0..4 {
            let next = read();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// The monotonic time of a time of day.
    pub fn monotonic_of(&self, realtime_ns: i64) -> i64 {
        realtime_ns - self.realtime_ns + self.monotonic_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_lands_on_the_monotonic_axis() {
        let pair = ClockPair { realtime_ns: 1_000, monotonic_ns: 70 };
        assert_eq!(pair.monotonic_of(1_030), 100);
        let now = ClockPair::now();
        assert!((now.monotonic_of(realtime_ns()) - monotonic_ns()).abs() < SECOND);
    }
}
