//! Logs: to standard error, one line for each step of a migration, in its span.

use std::io::IsTerminal;

use limosa_protocol::Migration;
use tracing::Span;
use tracing_subscriber::EnvFilter;

/// What is logged, as `tracing_subscriber`'s `EnvFilter` reads it.
const FILTER: &str = "LIMOSA_LOG";
/// `text`, which is the default, or `json`: one object a line.
const FORMAT: &str = "LIMOSA_LOG_FORMAT";

/// Begins to log, as the environment says, or from this level on.
pub(crate) fn init(level: &str) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| level.into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match std::env::var(FORMAT).unwrap_or_default().as_str() {
        "" | "text" => builder.init(),
        // The innermost span is the migration's.
        "json" => builder.json().flatten_event(true).with_span_list(false).init(),
        other => anyhow::bail!("{FORMAT} is {other:?}: make it text or json"),
    }
    Ok(())
}

/// What is said within it is said of this migration.
pub(crate) fn span(migration: &Migration) -> Span {
    let spec = &migration.spec;
    tracing::info_span!(
        "migration",
        migration = migration.full_name(),
        port = spec.port,
        from = spec.from,
        to = spec.target()
    )
}
