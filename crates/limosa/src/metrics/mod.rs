//! What a program tells Prometheus and its orchestrator, over HTTP:
//! `/metrics`, `/healthz` and `/readyz`.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>. No
//! label names an object: their number has no bound. Every series that there
//! can be is there from the start, so that the first increase of a counter is
//! seen as one. `docs/metrics.md` is written from what is registered here.

mod agent;
mod controller;
#[cfg(test)]
mod document;
mod flows;
mod links;
mod serve;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

pub(crate) use agent::AgentMetrics;
pub(crate) use controller::{ControllerMetrics, kubevirt_outcomes};
pub(crate) use links::Links;
pub(crate) use serve::{Readiness, serve};

/// A label and the values that it begins with.
type Label<'a> = (&'a str, &'a [&'a str]);

/// Makes metrics and adds them to a registry. Names and labels are constants of
/// this crate, of which a test makes every one.
#[derive(Clone, Copy)]
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn add<C: Collector + Clone + 'static>(self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("a metric with a valid name and labels");
        self.0.register(Box::new(metric.clone())).expect("a metric with a name of its own");
        metric
    }

    fn counter(self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn counters(self, name: &str, help: &str, labels: &[Label<'_>]) -> IntCounterVec {
        let counters = self.add(IntCounterVec::new(Opts::new(name, help), &names(labels)));
        combinations(labels, |values| drop(counters.with_label_values(values)));
        counters
    }

    fn gauge(self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(self, name: &str, help: &str, labels: &[Label<'_>]) -> IntGaugeVec {
        let gauges = self.add(IntGaugeVec::new(Opts::new(name, help), &names(labels)));
        combinations(labels, |values| drop(gauges.with_label_values(values)));
        gauges
    }

    /// Buckets in seconds.
    fn histogram(self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    fn histograms(self, name: &str, help: &str, buckets: &[f64], labels: &[Label<'_>]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histograms = self.add(HistogramVec::new(opts, &names(labels)));
        combinations(labels, |values| drop(histograms.with_label_values(values)));
        histograms
    }

    /// Something that is said in labels; the value is 1.
    fn info(self, name: &str, help: &str, label: &str, value: &str) {
        self.add(IntGauge::with_opts(Opts::new(name, help).const_label(label, value))).set(1);
    }

    /// Objects that the store has and this program does not follow.
    fn left_out(self) -> IntGauge {
        self.gauge(
            "limosa_store_left_out_objects",
            "Objects of the store that are not followed, because there are too many (docs/security.md).",
        )
    }

    fn build_info(self) {
        self.info("limosa_build_info", "The version of this program.", "version", env!("CARGO_PKG_VERSION"));
    }
}

fn names<'a>(labels: &[Label<'a>]) -> Vec<&'a str> {
    labels.iter().map(|(name, _)| *name).collect()
}

/// Calls `make` with every combination of the labels' values.
fn combinations(labels: &[Label<'_>], mut make: impl FnMut(&[&str])) {
    let mut all = vec![Vec::new()];
    for (_, values) in labels {
        all = all
            .iter()
            .flat_map(|begun: &Vec<&str>| values.iter().map(|value| [&begun[..], &[*value]].concat()))
            .collect();
    }
    for values in &all {
        make(values);
    }
}
