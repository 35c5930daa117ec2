//! The connections of a program: whether they are there, how often they had to
//! be made, what failed on them, how long answers took.

use std::future::Future;
use std::time::Instant;

use ovsdb_rs::{Session, State};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::Maker;

/// From an answer of a process on the same machine to one that does not come.
const SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// What is counted of connections, by where they lead to.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    connected: IntGaugeVec,
    connects: IntCounterVec,
    errors: IntCounterVec,
    requests: HistogramVec,
}

impl Links {
    pub(super) fn new(registry: &Registry, to: &[&str]) -> Self {
        let make = Maker(registry);
        let to = ("to", to);
        Self {
            connected: make.gauges(
                "limosa_connected",
                "Whether the connection is there, by where it leads to.",
                &[to],
            ),
            connects: make.counters("limosa_connects_total", "Connections that were made.", &[to]),
            errors: make.counters(
                "limosa_errors_total",
                "Connections that ended or could not be made, and requests that failed, by error.",
                &[to, ("error", &["connect"])],
            ),
            requests: make.histograms(
                "limosa_request_seconds",
                "Time until a request that changes something was answered, by outcome.",
                &SECONDS,
                &[to, ("outcome", &["done", "failed"])],
            ),
        }
    }

    /// Whether the connection is there now.
    pub(crate) fn set(&self, to: &str, is_connected: bool) {
        let connected = self.connected.with_label_values(&[to]);
        if is_connected && connected.get() == 0 {
            self.connects.with_label_values(&[to]).inc();
        }
        connected.set(is_connected.into());
    }

    /// Something failed; `error` is the label of an error's variant.
    pub(crate) fn error(&self, to: &str, error: &str) {
        self.errors.with_label_values(&[to, error]).inc();
    }

    /// Awaits the answer to a request, and counts it.
    pub(crate) async fn timed<T, E>(
        &self,
        to: &str,
        label: impl FnOnce(&E) -> &'static str,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begun = Instant::now();
        let result = request.await;
        let outcome = if result.is_ok() { "done" } else { "failed" };
        self.requests.with_label_values(&[to, outcome]).observe(begun.elapsed().as_secs_f64());
        if let Err(error) = &result {
            self.error(to, label(error));
        }
        result
    }

    /// Follows the state of a database's session until it ends.
    pub(crate) fn follow(&self, to: &'static str, session: &Session) {
        let (links, mut states) = (self.clone(), session.subscribe_state());
        tokio::spawn(async move {
            loop {
                links.note(to, &states.borrow_and_update());
                if states.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn note(&self, to: &str, state: &State) {
        self.set(to, matches!(state, State::Connected { .. }));
        if let State::Connecting { last_error: Some(failure) } = state {
            self.error(to, failure.cause.label());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_comes_again_is_counted_again() {
        let links = Links::new(&Registry::new(), &["store", "switch"]);
        for is_connected in [true, true, false, true] {
            links.set("switch", is_connected);
        }
        let counts = |to| {
            (links.connected.with_label_values(&[to]).get(), links.connects.with_label_values(&[to]).get())
        };
        assert_eq!((counts("switch"), counts("store")), ((1, 2), (0, 0)));
        let failed = links.timed("store", |()| "conflict", async { Err::<(), _>(()) }).await;
        assert!(failed.is_err());
        assert_eq!(links.errors.with_label_values(&["store", "conflict"]).get(), 1);
        assert_eq!(links.requests.with_label_values(&["store", "failed"]).get_sample_count(), 1);
    }
}
