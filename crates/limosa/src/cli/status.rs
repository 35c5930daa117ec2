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
        let migration =
            migration.with_context(|| format!("there is no migration {name}: `limosa status` lists them"))?;
        print_one(migration, &args.output)?;
    } else {
        let mut migrations: Vec<&Migration> = snapshot.migrations.values().collect();
        sort(&mut migrations);
        args.output.print(&migrations, || overview(&migrations, Timestamp::now()))?;
    }
    Ok(if snapshot.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The latest stands last, and what has ended before what is under way: there the screen ends.
pub(super) fn sort(migrations: &mut [&Migration]) {
    migrations.sort_by_key(|m| (!m.phase().is_final(), m.metadata.creation_timestamp));
}

/// Prints one migration in full.
pub(super) fn print_one(migration: &Migration, output: &OutputArgs) -> anyhow::Result<()> {
    output.print(migration, || story(migration, Timestamp::now()))
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
fn story(migration: &Migration, now: Timestamp) -> String {
    let course = Course::of(migration);
    let mut text = course.head();
    let entered = migration.status.progress.steps.get(&migration.phase());
    if let Some(entered) = entered.filter(|_| !migration.phase().is_final()) {
        let _ = writeln!(text, "  in this phase for {}", age(now.duration_since(*entered)));
    }
    for Entry { micros, step, who, .. } in course.events.iter().skip(1) {
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

#[cfg(test)]
mod tests {
    use limosa_protocol::Phase;
    use limosa_protocol::object::Spec;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_under_way_stands_last_and_says_for_how_long() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let migration = |name: &str, phase, second| {
            let spec = Spec::new("vm1", "a", Some("b".to_owned()));
            let mut migration = Migration::new(name.to_owned(), Uuid::nil(), spec, at(second));
            migration.status.progress.enter(phase, at(second + 1));
            migration
        };
        let (live, late) = (migration("live", Phase::Armed, 0), migration("late", Phase::Completed, 9));
        let mut all = vec![&live, &late];
        sort(&mut all);
        assert_eq!(all.iter().map(|m| &*m.metadata.name).collect::<Vec<_>>(), ["late", "live"]);
        assert!(
            story(&live, at(3700)).contains("\n  in this phase for 1h 2m\n"),
            "{}",
            story(&live, at(3700))
        );
        assert!(!story(&late, at(3700)).contains("in this phase"));
    }
}
