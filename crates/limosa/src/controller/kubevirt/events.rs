//! What `kubectl describe` shows of a migration's network: one event for each
//! thing that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use limosa_kubevirt::LeftAlone;
use limosa_kubevirt::api::Meta;
use limosa_protocol::object::{API_VERSION, ConditionType, KIND, Migration, Phase};
use tokio::sync::mpsc;

use super::view::Watched;

/// What waits to be published; more is dropped, since nothing depends on it.
const QUEUE: usize = 256;
/// A server that hangs holds up nothing but the next event.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest note that the API takes, in bytes.
const NOTE_MAX: usize = 1024;

/// One thing that has happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct News {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) note: String,
}

/// What is new of a migration in its present phase, if anything is.
pub(super) fn news(migration: &Migration) -> Option<News> {
    let spec = &migration.spec;
    let progress = &migration.status.progress;
    let why = progress.condition(ConditionType::Succeeded).map(|c| c.message.as_str()).unwrap_or_default();
    let port = &spec.port;
    let (warning, reason, note) = match progress.phase {
        Phase::Armed => {
            let note =
                format!("port {port} is ready on {} and {}: the guest may resume", spec.from, spec.target());
            (false, "NetworkPrepared", note)
        }
        Phase::Switched | Phase::Released | Phase::Completed => {
            let at = |phase| progress.steps.get(&phase);
            let took = at(Phase::Activated).zip(at(Phase::Switched));
            let took = took.map(|(from, to)| {
                format!(" {} ms after the guest ran there", to.duration_since(*from).as_millis())
            });
            let note = format!("port {port} was switched to {}{}", spec.target(), took.unwrap_or_default());
            (false, "NetworkSwitched", note)
        }
        Phase::RolledBack => {
            (true, "NetworkRolledBack", format!("port {port} stays on {}: {why}", spec.from))
        }
        Phase::Rejected => (true, "NetworkNotHandled", format!("port {port} is not handed over: {why}")),
        _ => return None,
    };
    Some(News { warning, reason, note })
}

/// Why nothing is done about a migration or some of its interfaces, if
/// anybody should know.
pub(super) fn left_alone(left: &[LeftAlone]) -> Option<News> {
    let told: Vec<&LeftAlone> = left.iter().filter(|left| !left.why.is_quiet()).collect();
    let note = |left: &&LeftAlone| match &left.nic {
        Some(nic) => format!("interface {nic}: {}", left.why),
        None => left.why.to_string(),
    };
    let notes: Vec<String> = told.iter().map(note).collect();
    (!notes.is_empty()).then(|| News {
        warning: told.iter().any(|left| left.why.is_warning()),
        reason: "NetworkLeftAlone",
        note: notes.join("; "),
    })
}

/// The reference to one of KubeVirt's objects.
pub(super) fn reference<T: Watched>(meta: &Meta) -> ObjectReference {
    let (group, version, _) = T::RESOURCE;
    ObjectReference {
        api_version: Some(format!("{group}/{version}")),
        kind: Some(T::KIND.to_owned()),
        namespace: Some(meta.namespace.clone()),
        name: Some(meta.name.clone()),
        uid: Some(meta.uid.clone()),
        ..ObjectReference::default()
    }
}

/// The reference to an object of our own.
pub(super) fn own_reference(migration: &Migration) -> ObjectReference {
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(KIND.to_owned()),
        namespace: migration.metadata.namespace.clone(),
        name: Some(migration.metadata.name.clone()),
        uid: Some(migration.metadata.uid.to_string()),
        ..ObjectReference::default()
    }
}

/// An event on one object.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) news: News,
    pub(super) on: ObjectReference,
    pub(super) about: Option<ObjectReference>,
}

/// Says each thing once.
#[derive(Debug)]
pub(super) struct Herald {
    posts: mpsc::Sender<Post>,
    /// What has been said, by what it was about.
    said: BTreeMap<String, BTreeSet<News>>,
}

impl Herald {
    pub(super) fn new(posts: mpsc::Sender<Post>) -> Self {
        Self { posts, said: BTreeMap::new() }
    }

    /// Takes note that there is something of this name; true if that is new.
    pub(super) fn meet(&mut self, about: &str) -> bool {
        let is_new = !self.said.contains_key(about);
        self.said.entry(about.to_owned()).or_default();
        is_new
    }

    /// Notes what has been said already, by whoever was there before.
    pub(super) fn hush(&mut self, about: &str, news: News) -> bool {
        self.said.entry(about.to_owned()).or_default().insert(news)
    }

    /// Says it on these objects; false if it has been said before.
    pub(super) fn say(
        &mut self,
        about: &str,
        news: News,
        on: &[ObjectReference],
        object: Option<&ObjectReference>,
    ) -> bool {
        if !self.hush(about, news.clone()) {
            return false;
        }
        for on in on {
            let post = Post { news: news.clone(), on: on.clone(), about: object.cloned() };
            if self.posts.try_send(post).is_err() {
                tracing::debug!(reason = news.reason, "too many events wait; this one is dropped");
            }
        }
        true
    }

    /// Forgets what was said of anything else.
    pub(super) fn keep(&mut self, is_about: impl Fn(&str) -> bool) {
        self.said.retain(|about, _| is_about(about));
    }
}

/// Where events go that are to be published, and what publishes them.
pub(super) fn publisher(client: Client) -> (mpsc::Sender<Post>, impl Future<Output = ()>) {
    let (sender, mut posts) = mpsc::channel::<Post>(QUEUE);
    let reporter = Reporter { controller: "limosa-controller".to_owned(), instance: None };
    let recorder = Recorder::new(client, reporter);
    let publish = async move {
        while let Some(Post { news, on, about }) = posts.recv().await {
            let note = shorten(news.note);
            let event = Event {
                type_: if news.warning { EventType::Warning } else { EventType::Normal },
                reason: news.reason.to_owned(),
                note: Some(note),
                action: "HandOver".to_owned(),
                secondary: about,
            };
            match tokio::time::timeout(TIMEOUT, recorder.publish(&event, &on)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, reason = news.reason, "an event was not published"),
                Err(_) => tracing::debug!(reason = news.reason, "an event was not published in time"),
            }
        }
    };
    (sender, publish)
}

/// As much of a note as the API takes.
fn shorten(mut note: String) -> String {
    let ends = note.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= NOTE_MAX).last();
    note.truncate(end.unwrap_or_default());
    note
}
