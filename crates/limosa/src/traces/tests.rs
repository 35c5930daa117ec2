//! What a collector is told, and what becomes of traces that it does not take.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use jiff::Timestamp;
use limosa_protocol::object::{ConditionType, NodeStatus, Problem, Spec, Truth};
use limosa_protocol::{Phase, Role, Step};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::*;
use crate::metrics::ControllerMetrics;

const PATIENCE: Duration = Duration::from_secs(30);

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(1_700_000_000_000_000 + micros).unwrap()
}

/// A migration that was taken back. The target's clock is behind.
fn migration() -> Migration {
    let spec = Spec::new("vm1", "a", Some("b".to_owned()));
    let mut migration = Migration::new("m".into(), Uuid::from_u128(7), spec, at(0));
    let progress = &mut migration.status.progress;
    for (phase, micros) in
        [(Phase::Pinning, 10), (Phase::Arming, 150), (Phase::RollingBack, 300), (Phase::RolledBack, 900)]
    {
        progress.enter(phase, at(micros));
    }
    let why = |reason: &str, message: &str| Problem::new(reason, message);
    progress.set_condition(
        ConditionType::OnSource,
        Truth::False,
        why("Stolen", "b has claimed vm1"),
        at(200),
    );
    progress.set_condition(
        ConditionType::Succeeded,
        Truth::False,
        why("Aborted", "taken back on request"),
        at(900),
    );
    let (mut source, mut target) = (NodeStatus::new(Role::Source), NodeStatus::new(Role::Target));
    target.take(Step::Armed, at(100));
    target.problem = Some(why("InterfaceMissing", "there is no interface"));
    source.take(Step::Armed, at(250));
    source.take(Step::Cleaned, at(700));
    migration.status.nodes = [("a".to_owned(), source), ("b".to_owned(), target)].into();
    migration
}

/// A collector on this machine that answers what it takes with this status, or not at all.
async fn collector(status: Option<StatusCode>) -> (String, mpsc::UnboundedReceiver<Bytes>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (taken, received) = mpsc::unbounded_channel();
    let take = move |body: Bytes| {
        let _ = taken.send(body);
        async move {
            match status {
                Some(status) => status,
                None => std::future::pending().await,
            }
        }
    };
    let routes = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, received)
}

async fn next(received: &mut mpsc::UnboundedReceiver<Bytes>) -> ExportTraceServiceRequest {
    let body = tokio::time::timeout(PATIENCE, received.recv()).await.unwrap().unwrap();
    ExportTraceServiceRequest::decode(body).unwrap()
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// Waits until so many traces have come to this outcome.
async fn counted(metrics: &ControllerMetrics, outcome: &str, count: u64) {
    let counter = metrics.traces.with_label_values(&[outcome]);
    let reached = async {
        while counter.get() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{outcome}: {}", counter.get()));
    assert_eq!(counter.get(), count, "{outcome}");
}

#[tokio::test]
async fn a_migration_is_one_trace() {
    let (address, mut received) = collector(Some(StatusCode::OK)).await;
    let metrics = ControllerMetrics::new();
    let traces = Traces::send_to(&address, metrics.traces.clone(), PATIENCE).unwrap();
    let migration = migration();
    traces.ended(&migration);
    let request = next(&mut received).await;
    let resource = request.resource_spans[0].resource.clone().unwrap();
    let named: BTreeSet<&str> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert!(named.contains("service.name") && named.contains("service.version"), "{named:?}");
    let spans = spans(request);

    let ids: BTreeMap<&[u8], &Span> = spans.iter().map(|span| (span.span_id.as_slice(), span)).collect();
    assert_eq!(ids.len(), spans.len(), "every id is another");
    assert!(spans.iter().all(|span| span.trace_id == migration.metadata.uid.as_bytes()));
    let nano = |micros| u64::try_from(at(micros).as_nanosecond()).unwrap();
    let seen: Vec<_> = spans
        .iter()
        .map(|span| {
            let parent = ids.get(span.parent_span_id.as_slice()).map_or("", |parent| parent.name.as_str());
            (parent, span.name.as_str(), span.start_time_unix_nano, span.end_time_unix_nano)
        })
        .collect();
    let wanted = [
        ("", "migration", 0, 900),
        ("migration", "controller", 0, 900),
        ("controller", "Pinning", 0, 10),
        ("controller", "Arming", 10, 150),
        ("controller", "RollingBack", 150, 300),
        ("controller", "RolledBack", 700, 900),
        ("migration", "source", 100, 700),
        ("source", "Armed", 100, 250),
        ("source", "Cleaned", 300, 700),
        ("migration", "target", 0, 100),
        ("target", "Armed", 0, 100),
    ]
    .map(|(parent, name, start, end)| (parent, name, nano(start), nano(end)));
    assert_eq!(seen, wanted);
    let of = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let failed = |name: &str| {
        let status = of(name).status.clone().unwrap_or_default();
        (status.code() == SpanStatus::Error).then_some(status.message)
    };
    assert_eq!(failed("migration").as_deref(), Some("taken back on request"));
    assert_eq!(failed("target").as_deref(), Some("there is no interface"));
    assert_eq!(failed("source"), None);
    let events: Vec<_> = of("migration").events.iter().map(|e| (e.name.as_str(), e.time_unix_nano)).collect();
    assert_eq!(events, [("Stolen", nano(200))]);
    let cause = &of("Cleaned").links[0].span_id;
    assert_eq!(ids[cause.as_slice()].name, "RollingBack");
    counted(&metrics, SENT, 1).await;

    // Whoever sends it again, it is the same trace.
    traces.ended(&migration);
    let again = self::spans(next(&mut received).await);
    assert_eq!(again, spans);
}

/// It answers with an error, hangs, or is not there: each is counted, and nobody waits.
#[tokio::test]
async fn a_collector_that_takes_nothing_is_counted() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = format!("http://{}/v1/traces", nobody.local_addr().unwrap());
    drop(nobody);
    let (errs, _errors) = collector(Some(StatusCode::INTERNAL_SERVER_ERROR)).await;
    let (hangs, _hanging) = collector(None).await;
    for address in [refuses, errs, hangs] {
        let metrics = ControllerMetrics::new();
        let traces = Traces::send_to(&address, metrics.traces.clone(), Duration::from_millis(50)).unwrap();
        traces.ended(&migration());
        counted(&metrics, FAILED, 1).await;
        assert_eq!(metrics.traces.with_label_values(&[SENT]).get(), 0, "{address}");
    }
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let (address, mut received) = collector(None).await;
    let metrics = ControllerMetrics::new();
    let traces = Traces::send_to(&address, metrics.traces.clone(), PATIENCE).unwrap();
    let migration = migration();
    traces.ended(&migration);
    next(&mut received).await;
    // The first one hangs; nobody takes anything from the queue.
    for _ in 0..QUEUE + 3 {
        traces.ended(&migration);
    }
    counted(&metrics, DROPPED, 3).await;
}

#[tokio::test]
async fn an_address_is_checked_before_anything_is_sent() {
    for address in ["collector:4317", "grpc://collector:4317", "http://", "/v1/traces", ""] {
        let refused = Traces::send_to(address, ControllerMetrics::new().traces, TIMEOUT).unwrap_err();
        assert!(format!("{refused:#}").contains("address for traces"), "{address}: {refused:#}");
    }
    Traces::send_to("https://collector", ControllerMetrics::new().traces, TIMEOUT).unwrap();
    assert_eq!(endpoint(Some("http://a:4318/".to_owned())).as_deref(), Some("http://a:4318/v1/traces"));
}
