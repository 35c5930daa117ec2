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

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use tokio::sync::watch;

pub(crate) use agent::AgentMetrics;
pub(crate) use controller::{ControllerMetrics, kubevirt_outcomes};
pub(crate) use links::Links;

/// Whether a program can do its work; if not, why.
pub(crate) type Readiness = Result<(), String>;

/// Serves a registry until the program ends.
///
/// Everything runs on one thread: a program that hangs answers `/healthz` no
/// more than anything else.
pub(crate) async fn serve(
    listen: SocketAddr,
    registry: Registry,
    ready: watch::Receiver<Readiness>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (--metrics-listen): is the port taken?"))?;
    let routes = Router::new()
        .route("/metrics", get(metrics).with_state(registry))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(ready));
    tracing::info!(%listen, "metrics are served");
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "metrics are served no more");
        }
    });
    Ok(())
}

async fn metrics(State(registry): State<Registry>) -> impl IntoResponse {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, encoder.format_type().to_owned())], text),
        Err(error) => {
            let plain = "text/plain; charset=utf-8".to_owned();
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, plain)], error.to_string().into())
        }
    }
}

async fn readyz(State(ready): State<watch::Receiver<Readiness>>) -> impl IntoResponse {
    match &*ready.borrow() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

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
