//! The trace of a migration, made from its timeline: the migration, below it the
//! controller and each chassis, below these what they did. A step begins where
//! the last thing that it had to wait for had come.
//!
//! Ids follow from the object: whoever sends the trace again sends the same one,
//! and who has the object's UID has the trace's.

use std::borrow::Cow;
use std::time::SystemTime;

use limosa_protocol::object::{ConditionType, Migration, Truth};
use limosa_protocol::{Role, Step};
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use uuid::Uuid;

use crate::view::timeline::{Course, Entry, out_of_the_ordinary};

/// Every span of a migration, the migration's own first.
pub(super) fn of(migration: &Migration) -> Vec<SpanData> {
    let uid = migration.metadata.uid;
    let course = Course::of(migration);
    let mut spans = vec![root(migration, &course)];
    for (lane, _) in course.lanes.iter().enumerate() {
        // The request is where the migration's own span begins.
        let taken = || course.events.iter().skip(1).filter(|entry| entry.lane == lane);
        let Some(first) = taken().next() else { continue };
        let begin = taken().map(|entry| begin(&course, entry)).min().unwrap_or_else(|| course.started.into());
        let end = taken().map(|entry| entry.at.into()).max().unwrap_or(begin);
        let mut whole = span(uid, (&first.who, ""), spans[0].span_context.span_id(), role(first), begin, end);
        whole.attributes = place(first);
        if let Some(problem) = migration.status.nodes.get(&first.who).and_then(|node| node.problem.as_ref()) {
            whole.status = Status::error(problem.message.clone());
            whole.attributes.push(KeyValue::new("limosa.reason", problem.reason.clone()));
        }
        let parent = whole.span_context.span_id();
        spans.push(whole);
        spans.extend(taken().map(|entry| step(uid, &course, entry, parent)));
    }
    spans
}

fn root(migration: &Migration, course: &Course) -> SpanData {
    let progress = &migration.status.progress;
    let last = course.events.iter().map(|entry| entry.at).max().unwrap_or(course.started);
    let end = progress.steps.get(&migration.phase()).copied().unwrap_or(last);
    let uid = migration.metadata.uid;
    let name = Cow::Borrowed("migration");
    let mut root = span(uid, ("", ""), SpanId::INVALID, name, course.started.into(), end.into());
    let text = |key, value: &str| KeyValue::new(key, value.to_owned());
    root.attributes = vec![
        text("limosa.migration", &course.name),
        text("limosa.port", &course.port),
        text("limosa.from", &course.from),
        text("limosa.phase", &course.phase.to_string()),
        text("limosa.reason", &course.reason),
        text("limosa.message", &course.message),
    ];
    root.attributes.extend(course.to.as_deref().map(|to| text("limosa.to", to)));
    root.status = match progress.truth(ConditionType::Succeeded) {
        Some(Truth::False) => Status::error(course.message.clone()),
        Some(Truth::True) => Status::Ok,
        _ => Status::Unset,
    };
    let activated = migration.target().and_then(|target| target.steps.get(&Step::Activated));
    let activated = activated.map(|at| Event::new("activated", (*at).into(), Vec::new(), 0));
    let unusual = out_of_the_ordinary(migration).map(|condition| {
        let said = vec![
            text("limosa.condition", &format!("{:?}", condition.kind)),
            text("limosa.message", &condition.message),
        ];
        Event::new(condition.reason.clone(), condition.last_transition_time.into(), said, 0)
    });
    root.events.events = activated.into_iter().chain(unusual).collect();
    root.events.events.sort_by_key(|event| event.timestamp);
    root
}

fn step(uid: Uuid, course: &Course, entry: &Entry, parent: SpanId) -> SpanData {
    let begin = begin(course, entry);
    let name = Cow::Owned(entry.step.clone());
    let mut step = span(uid, (&entry.who, &entry.step), parent, name, begin, entry.at.into());
    step.attributes = place(entry);
    if let Some(waited) = &entry.waited {
        step.attributes.extend([
            KeyValue::new("limosa.waited_for", waited.what),
            KeyValue::new("limosa.waited_since", course.cause(waited)),
        ]);
        let cause = course.events.get(waited.after).filter(|_| waited.after > 0);
        let cause = cause.map(|cause| Link::new(context(uid, (&cause.who, &cause.step)), Vec::new(), 0));
        step.links.links.extend(cause);
    }
    step
}

/// When nothing but this step's own condition was missing any more. Where clocks differ that may seem to be later
/// than the step.
fn begin(course: &Course, entry: &Entry) -> SystemTime {
    let cause = entry.waited.as_ref().and_then(|waited| course.events.get(waited.after));
    cause.map_or(entry.at, |cause| cause.at.min(entry.at)).into()
}

fn role(entry: &Entry) -> Cow<'static, str> {
    Cow::Borrowed(match entry.role {
        None => "controller",
        Some(Role::Source) => "source",
        Some(Role::Target) => "target",
        Some(Role::Bystander) => "bystander",
    })
}

/// Who it was.
fn place(entry: &Entry) -> Vec<KeyValue> {
    let chassis = entry.role.map(|_| KeyValue::new("limosa.chassis", entry.who.clone()));
    [KeyValue::new("limosa.role", role(entry))].into_iter().chain(chassis).collect()
}

fn span(
    uid: Uuid,
    what: (&str, &str),
    parent: SpanId,
    name: Cow<'static, str>,
    start_time: SystemTime,
    end_time: SystemTime,
) -> SpanData {
    SpanData {
        span_context: context(uid, what),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name,
        start_time,
        end_time,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("limosa").build(),
    }
}

fn context(uid: Uuid, what: (&str, &str)) -> SpanContext {
    let trace = TraceId::from_bytes(uid.into_bytes());
    SpanContext::new(trace, span_id(uid, what), TraceFlags::SAMPLED, false, TraceState::NONE)
}

/// FNV-1a of 64 bits over the UID, who, and the step; of the same migration always the same.
fn span_id(uid: Uuid, (who, step): (&str, &str)) -> SpanId {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let separated = [who.as_bytes(), &[0], step.as_bytes()].concat();
    let bytes = uid.into_bytes().into_iter().chain(separated);
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    SpanId::from_bytes(hash.to_be_bytes())
}
