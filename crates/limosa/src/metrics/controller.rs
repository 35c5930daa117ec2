//! What the controller counts, from the time-stamped steps of the objects.

use limosa_protocol::Phase;
use limosa_protocol::object::{ConditionType, Migration, Progress, Truth};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{build_info, register};
use crate::store::Snapshot;

/// From a step in a quiet lab (some 20 ms) to one that waits for its deadline (30 s).
const SECONDS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, Clone)]
pub(crate) struct ControllerMetrics {
    pub(crate) registry: Registry,
    migrations: IntGaugeVec,
    ended: IntCounterVec,
    phase: HistogramVec,
    unannounced: IntCounter,
    late: IntCounter,
    unreadable: IntGauge,
    store: IntGauge,
    /// The databases that are connected, by name.
    pub(crate) connected: IntGaugeVec,
    /// What could not be written, by where to.
    pub(crate) write_errors: IntCounterVec,
}

impl ControllerMetrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        build_info(&registry);
        let vec = |name, help, label| register(&registry, IntGaugeVec::new(Opts::new(name, help), &[label]));
        let counters =
            |name, help, label| register(&registry, IntCounterVec::new(Opts::new(name, help), &[label]));
        let metrics = Self {
            migrations: vec("limosa_migrations", "Migrations in the store, by phase.", "phase"),
            ended: counters(
                "limosa_migrations_ended_total",
                "Migrations that have ended, by outcome.",
                "outcome",
            ),
            phase: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "limosa_migration_phase_seconds",
                        "Time from the phase before until a migration reached this one.",
                    )
                    .buckets(SECONDS.to_vec()),
                    &["phase"],
                ),
            ),
            unannounced: register(
                &registry,
                IntCounter::new(
                    "limosa_migrations_unannounced_total",
                    "Guests that were taken to run on the target although nobody heard them announce themselves.",
                ),
            ),
            late: register(
                &registry,
                IntCounter::new(
                    "limosa_barrier_deadlines_missed_total",
                    "Changes of the northbound options that some chassis did not follow in time.",
                ),
            ),
            unreadable: register(
                &registry,
                IntGauge::new("limosa_store_unreadable_objects", "Objects of the store that cannot be read."),
            ),
            store: register(
                &registry,
                IntGauge::new("limosa_store_connected", "Whether the store can be read now."),
            ),
            connected: vec("limosa_database_connected", "Whether a database is followed.", "database"),
            write_errors: counters(
                "limosa_write_errors_total",
                "Writes that failed and are tried again.",
                "to",
            ),
            registry,
        };
        for phase in Phase::ALL {
            metrics.migrations.with_label_values(&[&phase.to_string()]);
            if phase.is_final() {
                metrics.ended.with_label_values(&[&phase.to_string()]);
            }
        }
        for to in ["store", "northbound"] {
            metrics.write_errors.with_label_values(&[to]);
        }
        metrics
    }

    /// What the store holds.
    pub(crate) fn see(&self, snapshot: &Snapshot) {
        for phase in Phase::ALL {
            let count = snapshot.migrations.values().filter(|m| m.phase() == phase).count();
            self.migrations.with_label_values(&[&phase.to_string()]).set(count as i64);
        }
        self.unreadable.set(snapshot.unreadable.len() as i64);
        self.store.set(snapshot.trouble.is_none().into());
    }

    /// What has become of a migration.
    pub(crate) fn note(&self, before: &Migration, after: &Progress) {
        let became_false = |kind| {
            let is_false =
                |progress: &Progress| progress.condition(kind).is_some_and(|c| c.status == Truth::False);
            !is_false(&before.status.progress) && is_false(after)
        };
        self.unannounced.inc_by(became_false(ConditionType::Announced).into());
        self.late.inc_by(became_false(ConditionType::CaughtUp).into());
        let phase = after.phase;
        if phase == before.phase() {
            return;
        }
        let name = phase.to_string();
        let since = before.status.progress.steps.get(&before.phase());
        let since = since.unwrap_or(&before.metadata.creation_timestamp);
        if let Some(reached) = after.steps.get(&phase) {
            let seconds = reached.duration_since(*since).as_secs_f64();
            self.phase.with_label_values(&[&name]).observe(seconds.max(0.0));
        }
        if phase.is_final() {
            self.ended.with_label_values(&[&name]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use limosa_protocol::object::Spec;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_phase_takes_the_time_since_the_one_before() {
        let metrics = ControllerMetrics::new();
        let spec = Spec::new("p", "a", Some("b".to_owned()));
        let start = Timestamp::UNIX_EPOCH;
        let mut migration = Migration::new("m".into(), Uuid::nil(), spec, start);
        for (phase, after) in [(Phase::Pinning, 2), (Phase::Arming, 5), (Phase::RolledBack, 6)] {
            let mut progress = migration.status.progress.clone();
            progress.enter(phase, start + SignedDuration::from_secs(after));
            metrics.note(&migration, &progress);
            metrics.note(
                &Migration {
                    status: limosa_protocol::object::Status {
                        progress: progress.clone(),
                        ..Default::default()
                    },
                    ..migration.clone()
                },
                &progress,
            );
            migration.status.progress = progress;
        }
        let sum = |phase: &str| metrics.phase.with_label_values(&[phase]).get_sample_sum();
        assert_eq!(["Pinning", "Arming", "RolledBack"].map(sum), [2.0, 3.0, 1.0]);
        assert_eq!(metrics.ended.with_label_values(&["RolledBack"]).get(), 1);
        assert_eq!(metrics.ended.with_label_values(&["Completed"]).get(), 0);
    }
}
