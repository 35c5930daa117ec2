//! `limosa status`, and how one migration is shown.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args as ClapArgs;
use jiff::{SignedDuration, Timestamp, Unit};
use limosa_protocol::object::{Connections, Migration, Role};

use super::args::StoreArgs;
use super::output::{OutputArgs, table};
use crate::store::Which;
use crate::view::timeline::{Course, Entry, message};

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
        print_one(migration.with_context(|| format!("there is no migration {name}"))?, &args.output)?;
    } else {
        let mut migrations: Vec<&Migration> = snapshot.migrations.values().collect();
        migrations.sort_by_key(|m| m.metadata.creation_timestamp);
        args.output.print(&migrations, || overview(&migrations, Timestamp::now()))?;
    }
    Ok(if snapshot.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints one migration in full.
pub(super) fn print_one(migration: &Migration, output: &OutputArgs) -> anyhow::Result<()> {
    output.print(migration, || story(migration))
}

/// One line for each migration.
pub(super) fn overview(migrations: &[&Migration], now: Timestamp) -> String {
    if migrations.is_empty() {
        return "no migrations\n".to_owned();
    }
    let rows = migrations.iter().map(|m| {
        let spec = &m.spec;
        let age = age(now.duration_since(m.metadata.creation_timestamp));
        [&m.full_name(), &spec.port, &spec.from, spec.target(), &m.phase().to_string(), &age, &message(m)]
            .map(str::to_owned)
    });
    table(["NAME", "PORT", "FROM", "TO", "PHASE", "AGE", "MESSAGE"], rows)
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
    for Entry { micros, step, who, .. } in Course::of(migration).events.iter().skip(1) {
        let _ = writeln!(text, "  {:>12.3} ms  {step:<12} {who}", *micros as f64 / 1000.0);
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

fn age(age: SignedDuration) -> String {
    let unit = if age >= SignedDuration::from_hours(1) { Unit::Minute } else { Unit::Second };
    age.round(unit).map_or_else(|_| "?".to_owned(), |age| format!("{age:#}"))
}
