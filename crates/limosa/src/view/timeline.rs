//! A migration's course, as data and drawn as text.

use std::fmt::Write as _;

use jiff::Timestamp;
use limosa_protocol::object::{ConditionType, Migration};
use limosa_protocol::timeline::{Event, Timeline, Who};
use limosa_protocol::{Phase, Role};
use serde::Serialize;

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
    /// What it waits for now, or how it ended.
    pub(crate) message: String,
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
        Self {
            name: migration.full_name(),
            port: spec.port.clone(),
            from: spec.from.clone(),
            to: spec.to.clone(),
            phase: migration.phase(),
            started: timeline.started,
            micros: timeline.events.iter().map(|event| timeline.micros(event)).max().unwrap_or_default(),
            message: message(migration),
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

    /// One line for each step, with a lane for everybody who took one.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.title());
        if !self.message.is_empty() {
            let _ = writeln!(text, "  {}", self.message);
        }
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
        2 + usize::from(!self.message.is_empty()) + self.lanes.len()
    }

    /// The event that a step waited for, with who took it.
    fn cause(&self, waited: &Waited) -> String {
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

/// What a migration waits for, or how it has ended.
pub(crate) fn message(migration: &Migration) -> String {
    let kind =
        if migration.phase().is_final() { ConditionType::Succeeded } else { ConditionType::Progressing };
    migration.status.progress.condition(kind).map_or_else(String::new, |condition| condition.message.clone())
}

#[cfg(test)]
mod tests;
