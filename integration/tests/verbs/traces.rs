//! The trace of a real migration, as a collector gets it; and controllers whose
//! collector does not answer.

use std::collections::BTreeMap;
use std::process::Command;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use jiff::Timestamp;
use limosa_lab::OUTSIDE;
use limosa_lab::demo::Limosa;
use limosa_protocol::Migration;
use limosa_protocol::timeline::{Timeline, Who};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::{CENTRAL, DEADLINE, GUEST_MAC, Stage};

/// A collector in this process: each request, and what it answers, which is nothing at all while there is nothing.
struct Collector {
    address: String,
    requests: mpsc::UnboundedReceiver<Bytes>,
    answer: watch::Sender<Option<StatusCode>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let (answer, answers) = watch::channel(Some(StatusCode::OK));
        let take = move |body: Bytes| {
            let _ = sender.send(body);
            let mut answers = answers.clone();
            async move {
                let answer = answers.wait_for(Option::is_some).await.ok().and_then(|answer| *answer);
                answer.unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
        };
        let routes = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, requests, answer }
    }

    async fn next(&mut self) -> Vec<Span> {
        let body = tokio::time::timeout(DEADLINE, self.requests.recv()).await.expect("a request").unwrap();
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

fn nano(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap()
}

fn text<'a>(span: &'a Span, key: &str) -> &'a str {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let value = span.attributes.iter().find(|attribute| attribute.key == key);
    match value.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

/// The trace tells just what the object does, to the microsecond.
fn assert_is_of(spans: &[Span], migration: &Migration) {
    let timeline = Timeline::of(migration);
    let uid = migration.metadata.uid;
    assert!(spans.iter().all(|span| span.trace_id == uid.as_bytes()), "the trace's id is the object's UID");
    let ids: BTreeMap<_, _> = spans.iter().map(|span| (&span.span_id, span)).collect();
    assert_eq!(ids.len(), spans.len());
    let root = spans.iter().find(|span| span.parent_span_id.is_empty()).unwrap();
    assert_eq!(text(root, "limosa.migration"), migration.full_name());
    let end = migration.status.progress.steps[&migration.phase()];
    assert_eq!(
        (root.start_time_unix_nano, root.end_time_unix_nano),
        (nano(migration.metadata.creation_timestamp), nano(end))
    );
    // One for the migration, one for each who took a step, one for each step.
    assert_eq!(spans.len(), 1 + timeline.lanes().len() + timeline.events.len() - 1);
    for event in &timeline.events[1..] {
        let chassis = match &event.who {
            Who::Controller => "",
            Who::Chassis(_, chassis) => chassis,
        };
        let is_it = |span: &&Span| span.name == event.what.name() && text(span, "limosa.chassis") == chassis;
        let span = spans.iter().find(is_it).unwrap_or_else(|| panic!("{event:?} has no span: {spans:#?}"));
        let wait = event.wait.unwrap();
        let start = timeline.events[wait.after].at.min(event.at);
        assert_eq!(
            (span.start_time_unix_nano, span.end_time_unix_nano),
            (nano(start), nano(event.at)),
            "{event:?}"
        );
        assert_eq!(text(span, "limosa.waited_for"), wait.what);
        let taker = ids[&span.parent_span_id];
        assert_eq!((text(taker, "limosa.chassis"), &taker.parent_span_id), (chassis, &root.span_id));
    }
}

async fn object(stage: &Stage, name: &str) -> Migration {
    let (_, object) = stage.json(CENTRAL, &["status", name]).await;
    serde_json::from_value(object).unwrap()
}

#[tokio::test]
async fn a_migration_is_traced_and_nobody_waits_for_the_collector() {
    let stage = Stage::new(2).await;
    let lab = &stage.lab;
    let mut collector = Collector::start().await;
    let other = stage.limosa.controller().unwrap();
    other.kill(Signal::TERM).unwrap();
    other.wait_exit(DEADLINE).await.unwrap();
    // The collector is outside of the lab.
    let mut command = Command::new(Limosa::binary().unwrap());
    command.args(["controller", "--nb", &lab.nb(), "--sb", &lab.sb(), "--store"]).arg(stage.limosa.store());
    command.args(["--otlp-endpoint", &collector.address]);
    let controller = lab.spawn_in(OUTSIDE, &command).await.unwrap();

    let migrate =
        |name| ["vm1", "--from", "ch1", "--to", "ch2", "--name", name, "--wait=arming", "--timeout", "30"];
    stage.limosa.object(lab, "migrate", &migrate("m1")).await.unwrap();
    stage.text(CENTRAL, &["abort", "m1"]).await;
    stage.limosa.wait(lab, "m1", "rolledback").await.unwrap();
    let spans = collector.next().await;
    assert_is_of(&spans, &object(&stage, "m1").await);
    let status = spans[0].status.clone().unwrap();
    assert_eq!(status.code(), SpanStatus::Error, "{status:?}");

    // While the collector hangs, a migration goes its whole way, and another is refused.
    collector.answer.send_replace(None);
    stage.limosa.ask(lab, "m2", "nothing", "ch1", "ch2").await.unwrap();
    let hanging = collector.next().await;
    stage.limosa.object(lab, "migrate", &migrate("m3")).await.unwrap();
    let target = lab.endpoint_unbound("ch2", "vm1").await.unwrap();
    stage.limosa.wait(lab, "m3", "armed").await.unwrap();
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    stage.limosa.wait(lab, "m3", "released").await.unwrap();
    lab.unplug("ch1", &stage.source.iface).await.unwrap();
    stage.limosa.wait(lab, "m3", "completed").await.unwrap();
    assert_is_of(&hanging, &object(&stage, "m2").await);
    collector.answer.send_replace(Some(StatusCode::OK));
    // What was given up meanwhile is not sent again.
    let spans = collector.next().await;
    let completed = object(&stage, "m3").await;
    assert_is_of(&spans, &completed);
    let status = spans[0].status.clone().unwrap();
    assert_eq!(status.code(), SpanStatus::Ok, "{status:?}");
    let activated = nano(completed.target().unwrap().steps[&limosa_protocol::Step::Activated]);
    let events: Vec<_> = spans[0].events.iter().map(|e| (e.name.as_str(), e.time_unix_nano)).collect();
    assert!(events.contains(&("activated", activated)), "{events:?}");

    // Nobody is there any more: it is said, and nothing else changes.
    collector.answer.send_replace(Some(StatusCode::BAD_REQUEST));
    stage.limosa.ask(lab, "m4", "nothing", "ch1", "ch2").await.unwrap();
    stage.limosa.object(lab, "wait", &["m4", "--for", "rejected", "--timeout", "30"]).await.unwrap();
    controller.wait_log("traces are lost", DEADLINE).await.unwrap();
    controller.kill(Signal::TERM).unwrap();
    assert!(controller.wait_exit(DEADLINE).await.unwrap().success(), "{}", controller.log());
    assert!(collector.next().await.iter().all(|span| !span.name.is_empty()));
    assert!(collector.requests.try_recv().is_err(), "each migration is sent once");
}
