//! `limosa status`, and how one migration is shown.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args as ClapArgs;
use jiff::{SignedDuration, Timestamp, Unit};
use limosa_protocol::object::{ConditionType, Connections, Migration, Role};

use super::{Output, OutputArgs, StoreArgs};
use crate::store::Which;

#[derive(Debug, ClapArgs)]
pub(super) struct StatusArgs {
    /// Only this migration, with every step on every chassis
    name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let place = args.store.place();
    let name = match &args.name {
        Some(name) => Some(place.full_name(name).await?),
        None => None,
    };
    let store = place.open(name.clone().map_or(Which::All, Which::One)).await?;
    let snapshot = store.watch().borrow().clone();
    for why in &snapshot.unreadable {
        eprintln!("limosa: {why}");
    }
    if let Some(name) = &name {
        let migration = snapshot.migrations.get(name);
        print_one(migration.with_context(|| format!("there is no migration {name}"))?, args.output.output)?;
    } else {
        let mut migrations: Vec<&Migration> = snapshot.migrations.values().collect();
        migrations.sort_by_key(|m| m.metadata.creation_timestamp);
        match args.output.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&migrations)?),
            Output::Text => print!("{}", table(&migrations, Timestamp::now())),
        }
    }
    Ok(if snapshot.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints one migration in full.
pub(super) fn print_one(migration: &Migration, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(migration)?),
        Output::Text => print!("{}", story(migration)),
    }
    Ok(())
}

fn table(migrations: &[&Migration], now: Timestamp) -> String {
    if migrations.is_empty() {
        return "no migrations\n".to_owned();
    }
    let mut rows = vec![["NAME", "PORT", "FROM", "TO", "PHASE", "AGE", "MESSAGE"].map(str::to_owned)];
    rows.extend(migrations.iter().map(|m| {
        let spec = &m.spec;
        let age = age(now.duration_since(m.metadata.creation_timestamp));
        [&m.full_name(), &spec.port, &spec.from, spec.target(), &m.phase().to_string(), &age, &message(m)]
            .map(str::to_owned)
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Every step in the order of time, counted from the first.
fn story(migration: &Migration) -> String {
    let spec = &migration.spec;
    let mut text = format!(
        "{}: {} from {} to {}, {}\n",
        migration.full_name(),
        spec.port,
        spec.from,
        spec.target(),
        migration.phase()
    );
    let message = message(migration);
    if !message.is_empty() {
        let _ = writeln!(text, "  {message}");
    }
    let progress =
        migration.status.progress.steps.iter().map(|(phase, at)| (*at, phase.to_string(), "controller"));
    let nodes = migration.status.nodes.iter().flat_map(|(chassis, node)| {
        node.steps.iter().map(move |(step, at)| (*at, format!("{step:?}"), chassis.as_str()))
    });
    let mut steps: Vec<_> = progress.chain(nodes).collect();
    steps.sort_by_key(|(at, ..)| *at);
    for (at, step, who) in &steps {
        let since = at.duration_since(migration.metadata.creation_timestamp).as_micros();
        let _ = writeln!(text, "  {:>12.3} ms  {step:<12} {who}", since as f64 / 1000.0);
    }
    for (chassis, node) in &migration.status.nodes {
        if let Some(Connections { carried, refused, .. }) = &node.connections {
            let what = if node.role == Role::Target { "found on" } else { "carried from" };
            let _ = write!(text, "  connections {what} {chassis}: {carried}");
            for (reason, count) in refused {
                let _ = write!(text, ", left there: {count} ({reason})");
            }
            text.push('\n');
        }
    }
    text
}

fn message(migration: &Migration) -> String {
    let progress = &migration.status.progress;
    let ended = migration.phase().is_final();
    let kind = if ended { ConditionType::Succeeded } else { ConditionType::Progressing };
    progress.condition(kind).map_or_else(String::new, |condition| condition.message.clone())
}

fn age(age: SignedDuration) -> String {
    let unit = if age >= SignedDuration::from_hours(1) { Unit::Minute } else { Unit::Second };
    age.round(unit).map_or_else(|_| "?".to_owned(), |age| format!("{age:#}"))
}
