//! `limosa watch`: migrations, followed live.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use jiff::Timestamp;
use limosa_protocol::{Migration, Phase};

use super::args::StoreArgs;
use super::output::{OutputArgs, print};
use super::status::{overview, sort};
use crate::shutdown::Shutdown;
use crate::store::{Snapshot, Which};
use crate::view::timeline::{Course, message};

/// How often ages and clocks are drawn anew.
const REDRAW: Duration = Duration::from_secs(1);
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, ClapArgs)]
pub(super) struct WatchArgs {
    /// Only this migration, with every step, until it has ended
    name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// On a terminal the picture is drawn in place; elsewhere each change is a line,
/// or an object.
pub(super) async fn watch(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let mut shutdown = Shutdown::new()?;
    let place = args.store.place();
    let name = match &args.name {
        Some(name) => Some(place.full_name(name).await?),
        None => None,
    };
    let store = place.open(name.clone().map_or(Which::All, Which::One)).await?;
    let mut watch = store.watch();
    let draws = args.output.is_text() && io::stdout().is_terminal();
    let mut shown = Snapshot::default();
    loop {
        let snapshot = watch.borrow_and_update().clone();
        let one = name.as_ref().map(|name| (name, snapshot.migrations.get(name)));
        if let Some((name, None)) = one {
            anyhow::ensure!(
                !shown.migrations.is_empty(),
                "there is no migration {name}: `limosa status` lists them"
            );
            anyhow::bail!("migration {name} has been deleted");
        }
        if draws {
            let (head, text) = picture(&snapshot, one.and_then(|(_, one)| one));
            print(&format!("{CLEAR}{}", fit(head, &text, size())))?;
        } else {
            for migration in news(&shown, &snapshot) {
                args.output.print(migration, || line(migration))?;
            }
        }
        if let Some((_, Some(migration))) = one.filter(|(_, one)| one.is_some_and(|m| m.phase().is_final())) {
            let completed = migration.phase() == Phase::Completed;
            return Ok(if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        shown = Snapshot { migrations: snapshot.migrations.clone(), ..Snapshot::default() };
        tokio::select! {
            changed = watch.changed() => changed.context("the store has gone")?,
            () = tokio::time::sleep(REDRAW), if draws => {}
            () = shutdown.asked() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// What is drawn, and how many lines of it are its head.
fn picture(snapshot: &Snapshot, one: Option<&Migration>) -> (usize, String) {
    let (head, mut text) = match one {
        Some(migration) => {
            let course = Course::of(migration);
            (course.head_lines(), course.text())
        }
        None => {
            let mut migrations: Vec<&Migration> = snapshot.migrations.values().collect();
            sort(&mut migrations);
            (1, overview(&migrations, Timestamp::now()))
        }
    };
    for why in snapshot.unreadable.iter().chain(&snapshot.trouble) {
        let _ = writeln!(text, "‼ {why}");
    }
    (head, text)
}

/// What has changed in a way that people see.
fn news<'a>(shown: &Snapshot, now: &'a Snapshot) -> impl Iterator<Item = &'a Migration> {
    let seen: Vec<String> = shown.migrations.values().map(line).collect();
    now.migrations.values().filter(move |migration| !seen.contains(&line(migration)))
}

fn line(migration: &Migration) -> String {
    let spec = &migration.spec;
    let (name, message) = (migration.full_name(), message(migration));
    format!("{name}  {}  {} -> {}  {}  {message}\n", spec.port, spec.from, spec.target(), migration.phase())
}

/// Columns and rows of the terminal, if it knows.
fn size() -> (usize, usize) {
    let known =
        rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

/// Cuts a picture to the terminal: a line that wraps would move everything below
/// it. The head stays, and of the rest what is newest.
fn fit(head: usize, text: &str, (columns, rows): (usize, usize)) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let head = head.min(rows).min(lines.len());
    // The last row is the cursor's.
    let room = rows.saturating_sub(head + 1);
    let newest = lines.len().saturating_sub(room).max(head);
    let shown = lines[..head].iter().chain(&lines[newest..]);
    shown.map(|line| line.chars().take(columns).collect::<String>() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_terminal_shows_the_head_and_what_is_newest() {
        let text = "head\n1\n2\n3\n4 and more\n";
        assert_eq!(fit(1, text, (80, 24)), text);
        assert_eq!(fit(1, text, (5, 4)), "head\n3\n4 and\n");
        assert_eq!(fit(1, text, (5, 1)), "head\n");
        assert_eq!(fit(3, "", (5, 4)), "");
    }
}
