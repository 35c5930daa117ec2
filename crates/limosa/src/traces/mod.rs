//! One trace of each migration that has ended, sent to a collector by OTLP over HTTP.
//! Off unless somebody names one.
//!
//! Nothing waits for it: what the queue has no room for and what the collector
//! does not take is counted, said at times, and gone. It is sent by the
//! controller that writes the end, once.

mod spans;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use limosa_protocol::Migration;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus::IntCounterVec;
use tokio::sync::mpsc;

/// Traces that wait while others are sent.
const QUEUE: usize = 64;
/// How long the collector may take, tries and pauses between them together.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is said that traces are lost.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Of an answer nothing is of interest but its status.
const ANSWER_BYTES: usize = 1 << 16;

/// What became of a trace: labels of `limosa_traces_total`.
pub(crate) const OUTCOMES: [&str; 3] = [SENT, FAILED, DROPPED];
const SENT: &str = "sent";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";

/// Where traces go.
#[derive(Debug)]
pub(crate) struct Traces {
    queue: mpsc::Sender<Vec<SpanData>>,
    outcomes: IntCounterVec,
}

impl Traces {
    /// Sends to this address (`--otlp-endpoint`), or to the one that the environment
    /// names by the variables of OpenTelemetry's specification; `None` without any.
    pub(crate) fn start(address: Option<String>, outcomes: IntCounterVec) -> anyhow::Result<Option<Self>> {
        endpoint(address).map(|endpoint| Self::send_to(&endpoint, outcomes, TIMEOUT)).transpose()
    }

    fn send_to(endpoint: &str, outcomes: IntCounterVec, timeout: Duration) -> anyhow::Result<Self> {
        let uri: Uri = endpoint.parse().with_context(|| format!("the address for traces, {endpoint:?}"))?;
        let host = uri.authority().map(|authority| {
            let port = authority.port_u16().map_or_else(String::new, |port| format!(":{port}"));
            format!("{}{port}", authority.host())
        });
        let is_https = uri.scheme_str() == Some("https");
        ensure!(
            host.is_some() && (is_https || uri.scheme_str() == Some("http")),
            "the address for traces is {endpoint:?}: make it http://HOST:4318 or https://HOST (OTLP over HTTP)"
        );
        let failure = Arc::new(Mutex::new(None));
        let mut exporter = if is_https {
            let connector = kube::Config::new(uri).rustls_https_connector();
            let connector = connector
                .context("TLS to the collector of traces: are authorities known here (SSL_CERT_FILE)?")?;
            exporter(endpoint, connector, &failure, timeout)?
        } else {
            exporter(endpoint, HttpConnector::new(), &failure, timeout)?
        };
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter
            .set_resource(&Resource::builder().with_service_name("limosa").with_attribute(version).build());
        let (queue, waiting) = mpsc::channel(QUEUE);
        let to = host.unwrap_or_default();
        tracing::info!(to, "a trace of each migration is sent when it has ended");
        let sender = Sender { exporter, failure, timeout, to, outcomes: outcomes.clone() };
        tokio::spawn(sender.run(waiting));
        Ok(Self { queue, outcomes })
    }

    /// Has the trace of a migration sent that has just come to its end.
    pub(crate) fn ended(&self, migration: &Migration) {
        if self.queue.try_send(spans::of(migration)).is_err() {
            self.outcomes.with_label_values(&[DROPPED]).inc();
        }
    }
}

/// The URL that is posted to. A general address has a path for each kind of data below it.
fn endpoint(address: Option<String>) -> Option<String> {
    let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let below = |address: String| format!("{}/v1/traces", address.trim_end_matches('/'));
    address
        .map(below)
        .or_else(|| named(opentelemetry_otlp::OTEL_EXPORTER_OTLP_TRACES_ENDPOINT))
        .or_else(|| named(opentelemetry_otlp::OTEL_EXPORTER_OTLP_ENDPOINT).map(below))
}

fn exporter<C: Connect + Debug + Clone + Send + Sync + 'static>(
    endpoint: &str,
    connector: C,
    failure: &Arc<Mutex<Option<String>>>,
    timeout: Duration,
) -> anyhow::Result<SpanExporter> {
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Post { client, failure: Arc::clone(failure) })
        .with_endpoint(endpoint)
        .with_timeout(timeout)
        .build();
    exporter.context("the exporter of traces (OTEL_EXPORTER_OTLP_*)")
}

/// What runs beside the controller.
struct Sender {
    exporter: SpanExporter,
    failure: Arc<Mutex<Option<String>>>,
    timeout: Duration,
    to: String,
    outcomes: IntCounterVec,
}

impl Sender {
    async fn run(self, mut waiting: mpsc::Receiver<Vec<SpanData>>) {
        let mut traces = Vec::new();
        let (mut lost, mut said): (usize, Option<Instant>) = (0, None);
        while waiting.recv_many(&mut traces, QUEUE).await > 0 {
            let count = traces.len();
            let spans = traces.drain(..).flatten().collect();
            let sent = tokio::time::timeout(self.timeout, self.exporter.export(spans)).await;
            let failure = match sent {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(self.why().unwrap_or_else(|| error.to_string())),
                Err(_) => Some(self.why().unwrap_or_else(|| format!("no answer for {:?}", self.timeout))),
            };
            let outcome = if failure.is_some() { FAILED } else { SENT };
            self.outcomes.with_label_values(&[outcome]).inc_by(count as u64);
            let Some(why) = failure else { continue };
            lost += count;
            if said.is_none_or(|said| said.elapsed() > SAY_EVERY) {
                tracing::warn!(
                    to = self.to,
                    lost,
                    "traces are lost: {why}; is an OTLP collector there, for HTTP (port 4318) and not gRPC?"
                );
                (lost, said) = (0, Some(Instant::now()));
            }
        }
    }

    /// What kept the last request from being answered.
    fn why(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Posts what the exporter has encoded.
#[derive(Debug)]
struct Post<C> {
    client: Client<C, Full<Bytes>>,
    /// The exporter makes "network error" of everything that fails here.
    failure: Arc<Mutex<Option<String>>>,
}

#[async_trait]
impl<C: Connect + Debug + Clone + Send + Sync + 'static> HttpClient for Post<C> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answered = async {
            let (head, body) = self.client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?;
            anyhow::Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answered = answered.await;
        let failure = answered.as_ref().err().map(|error| format!("{error:#}"));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        answered.map_err(Into::into)
    }
}
