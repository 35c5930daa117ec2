//! What a program tells Prometheus and its orchestrator, over HTTP:
//! `/metrics`, `/healthz` and `/readyz`.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>. No
//! label names an object: their number has no bound.

mod agent;
mod controller;

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::core::Collector;
use prometheus::{Encoder, IntGauge, Opts, Registry, TextEncoder};
use tokio::sync::watch;

pub(crate) use agent::AgentMetrics;
pub(crate) use controller::ControllerMetrics;

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

/// Adds a metric to a registry. Names and labels are constants of this crate,
/// of which a test makes every one.
pub(crate) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let metric = made.expect("a metric with a valid name and labels");
    registry.register(Box::new(metric.clone())).expect("a metric with a name of its own");
    metric
}

/// `limosa_build_info`, which is always 1.
fn build_info(registry: &Registry) {
    let opts = Opts::new("limosa_build_info", "The version of this program.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    register(registry, IntGauge::with_opts(opts)).set(1);
}
