//! A migration's course, as data and drawn as text.

use std::fmt::Write as _;

use jiff::Timestamp;
use limosa_protocol::object::{Condition, ConditionType, Migration, Truth};
use limosa_protocol::timeline::{Event, Timeline, Who};
use limosa_protocol::{Phase, Role};
use serde::Serialize;

/// What is worth telling once it has become false.
const OUT_OF_THE_ORDINARY: [ConditionType; 4] =
    [ConditionType::Announced, ConditionType::CaughtUp, ConditionType::OnSource, ConditionType::Undisturbed];

/// What there is to say of a request that is new.
const UNSEEN: &str = "no controller has looked at it yet; `limosa check` tells whether one does";

/// A timeline, as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Course {
    pub(crate) name: String,
    pub(crate) port: String,
    pub(crate) from: String,
    pub(crate) to: Option<String>,
    pub(crate) phase: Phase,
    pub(crate) started: Timestamp,
    /// Microseconds from the request to the last step.
    pub(crate) micros: i64,
    /// What it waits for now, or how it ended: a word, and for people.
    pub(crate) reason: String,
    pub(crate) message: String,
    /// What else a person should know of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remarks: Vec<String>,
    /// Everybody who took a step, in the order of the drawing.
    pub(crate) lanes: Vec<String>,
    pub(crate) events: Vec<Entry>,
}

/// A step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    /// Microseconds since the request.
    pub(crate) micros: i64,
    pub(crate) step: String,
    pub(crate) who: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
    /// Its place in [`Course::lanes`].
    #[serde(skip)]
    pub(crate) lane: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waited: Option<Waited>,
}

/// What a step waited for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Waited {
    #[serde(rename = "for")]
    pub(crate) what: &'static str,
    /// The event after which nothing else was missing, by its place in [`Course::events`].
    pub(crate) after: usize,
    /// Microseconds since then.
    pub(crate) micros: i64,
}

impl Course {
    pub(crate) fn of(migration: &Migration) -> Self {
        let timeline = Timeline::of(migration);
        let lanes = timeline.lanes();
        let entry = |event: &Event| Entry {
            at: event.at,
            micros: timeline.micros(event),
            step: event.what.name(),
            who: name(&event.who),
            role: match &event.who {
                Who::Controller => None,
                Who::Chassis(role, _) => Some(*role),
            },
            lane: lanes.iter().position(|lane| **lane == event.who).unwrap_or_default(),
            waited: event.wait.map(|w| Waited { what: w.what, after: w.after, micros: w.micros }),
        };
        let spec = &migration.spec;
        let (reason, message) = standing(migration);
        Self {
            name: migration.full_name(),
            port: spec.port.clone(),
            from: spec.from.clone(),
            to: spec.to.clone(),
            phase: migration.phase(),
            started: timeline.started,
            micros: timeline.events.iter().map(|event| timeline.micros(event)).max().unwrap_or_default(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            remarks: remarks(migration),
            lanes: lanes.iter().map(|who| lane(who)).collect(),
            events: timeline.events.iter().map(entry).collect(),
        }
    }

    /// One line that says which migration it is and how far it has come.
    pub(crate) fn title(&self) -> String {
        let Self { name, port, from, phase, .. } = self;
        let to = self.to.as_deref().unwrap_or("a target not known yet");
        format!("{name}: {port} from {from} to {to}, {phase} after {}", seconds(self.micros))
    }

    /// Which migration it is, how far it has come, and what is to be said of that.
    pub(crate) fn head(&self) -> String {
        let mut text = format!("{}\n", self.title());
        if !self.message.is_empty() {
            let _ = writeln!(text, "  {}", with_reason(&self.message, &self.reason));
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "  ‼ {remark}");
        }
        text
    }

    /// One line for each step, with a lane for everybody who took one.
    pub(crate) fn text(&self) -> String {
        let mut text = self.head();
        text.push('\n');
        // The heads of the lanes, each with its line down to them.
        for (index, lane) in self.lanes.iter().enumerate() {
            let _ = writeln!(text, "{:>17}  {}┌ {lane}", "", "│ ".repeat(index));
        }
        for entry in &self.events {
            let lanes: String =
                (0..self.lanes.len()).map(|lane| if lane == entry.lane { "● " } else { "│ " }).collect();
            let at = seconds(entry.micros);
            let _ = write!(text, "{at:>17}  {lanes} {:<11}", entry.step);
            if let Some(waited) = &entry.waited {
                let took = milliseconds(waited.micros);
                let _ = write!(text, " {took:>14} for {} (since {})", waited.what, self.cause(waited));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// How many lines of [`Self::text`] stand above the first step.
    pub(crate) fn head_lines(&self) -> usize {
        self.head().lines().count() + 1 + self.lanes.len()
    }

    /// The event that a step waited for, with who took it.
    pub(crate) fn cause(&self, waited: &Waited) -> String {
        match self.events.get(waited.after) {
            Some(Entry { role: Some(_), step, who, .. }) => format!("{step} on {who}"),
            Some(Entry { step, .. }) if waited.after > 0 => step.clone(),
            _ => "the request".to_owned(),
        }
    }
}

/// Microseconds as seconds.
pub(super) fn seconds(micros: i64) -> String {
    format!(
        "{}{}.{:06} s",
        sign(micros),
        micros.unsigned_abs() / 1_000_000,
        micros.unsigned_abs() % 1_000_000
    )
}

/// Microseconds as milliseconds.
pub(super) fn milliseconds(micros: i64) -> String {
    format!("{}{}.{:03} ms", sign(micros), micros.unsigned_abs() / 1000, micros.unsigned_abs() % 1000)
}

const fn sign(micros: i64) -> &'static str {
    if micros < 0 { "-" } else { "" }
}

fn name(who: &Who) -> String {
    match who {
        Who::Controller => "controller".to_owned(),
        Who::Chassis(_, chassis) => chassis.clone(),
    }
}

fn lane(who: &Who) -> String {
    match who {
        Who::Controller => "controller".to_owned(),
        Who::Chassis(Role::Bystander, chassis) => chassis.clone(),
        Who::Chassis(role, chassis) => format!("{chassis} ({})", format!("{role:?}").to_lowercase()),
    }
}

/// What a migration waits for, or how it has ended: the reason, and the message.
fn standing(migration: &Migration) -> (&str, &str) {
    let phase = migration.phase();
    let kind = if phase.is_final() { ConditionType::Succeeded } else { ConditionType::Progressing };
    match migration.status.progress.condition(kind) {
        Some(Condition { reason, message, .. }) => (reason, message),
        None if phase == Phase::Pending => ("", UNSEEN),
        None => ("", ""),
    }
}

/// The same for people, with the word that the documentation explains.
pub(crate) fn message(migration: &Migration) -> String {
    let (reason, message) = standing(migration);
    with_reason(message, reason)
}

fn with_reason(message: &str, reason: &str) -> String {
    if reason.is_empty() { message.to_owned() } else { format!("{message} ({reason})") }
}

/// What was not as it should be.
pub(crate) fn out_of_the_ordinary(migration: &Migration) -> impl Iterator<Item = &Condition> {
    let conditions = OUT_OF_THE_ORDINARY.iter().filter_map(|kind| migration.status.progress.condition(*kind));
    conditions.filter(|condition| condition.status == Truth::False)
}

/// That, and what keeps a chassis from its next step where the migration does not say so itself.
fn remarks(migration: &Migration) -> Vec<String> {
    let unusual = out_of_the_ordinary(migration).map(|said| with_reason(&said.message, &said.reason));
    let (_, stands) = standing(migration);
    let problems = migration.status.nodes.iter().filter(|_| !migration.phase().is_final());
    let problems = problems.filter_map(|(chassis, node)| Some((chassis, node.problem.as_ref()?)));
    let problems = problems.filter(|(_, problem)| !stands.contains(&problem.message));
    let problems = problems
        .map(|(chassis, problem)| format!("{chassis}: {}", with_reason(&problem.message, &problem.reason)));
    unusual.chain(problems).collect()
}

#[cfg(test)]
mod tests;
