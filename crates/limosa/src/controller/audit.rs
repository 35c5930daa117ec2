//! Ports that Limosa has pinned for a migration that is no more: an object was
//! deleted by hand, or its file was lost. Nothing is done about them, because
//! nobody knows what their options were; they are counted and named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use limosa_protocol::object::Migration;

use super::databases::Databases;
use crate::metrics::ControllerMetrics;
use crate::store::{Key, Snapshot};

/// How often all ports are looked at: that costs as much as reading their names.
const EVERY: Duration = Duration::from_secs(600);
/// The same while there is something to be mended, or the database did not answer.
const AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Audit {
    /// The migrations that were under way after the last turn.
    live: BTreeSet<Key>,
    due: Option<Instant>,
    /// What was found, and said: the port and the migration that its mark names.
    left: BTreeMap<String, String>,
}

impl Audit {
    /// Looks if it is time, or if a migration has vanished of those that were under way; how long until the
    /// next time.
    pub(super) async fn turn(
        &mut self,
        snapshot: &Snapshot,
        migrations: &[Migration],
        databases: &Databases,
        metrics: &ControllerMetrics,
    ) -> Duration {
        let seen: BTreeSet<Key> = migrations.iter().map(Key::of).collect();
        let vanished = self.live.iter().any(|key| !seen.contains(key));
        self.live = migrations.iter().filter(|m| !m.phase().is_final()).map(Key::of).collect();
        let due = self.due.filter(|due| *due > Instant::now() && !vanished);
        if let Some(due) = due {
            return due.saturating_duration_since(Instant::now());
        }
        let is_live = |name: &String| {
            snapshot.migrations.get(name).is_some_and(|migration| !migration.phase().is_final())
        };
        let wait = match databases.marks().await {
            // A store that cannot be read hides what is live, and so does one that holds too much.
            _ if snapshot.trouble.is_some() || snapshot.left_out > 0 => AGAIN,
            Ok(marks) => {
                let left: BTreeMap<String, String> =
                    marks.into_iter().filter(|(_, migration)| !is_live(migration)).collect();
                for (port, migration) in left.iter().filter(|(port, _)| !self.left.contains_key(*port)) {
                    tracing::warn!(
                        port,
                        migration,
                        "the port is pinned for a migration that is no more: look at its options, then clear \
                         its external_ids:limosa-migration"
                    );
                }
                self.left = left;
                if self.left.is_empty() { EVERY } else { AGAIN }
            }
            Err(error) => {
                tracing::debug!(%error, "the ports cannot be looked at");
                AGAIN
            }
        };
        metrics.left_pinned.set(self.left.len() as i64);
        self.due = Some(Instant::now() + wait);
        wait
    }
}
