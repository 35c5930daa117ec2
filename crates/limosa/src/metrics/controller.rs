//! What the controller counts, from the time-stamped steps of the objects.

use jiff::Timestamp;
use limosa_protocol::object::{ConditionType, Migration, NodeStatus, Progress, Truth};
use limosa_protocol::{Phase, Role, Step};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{Links, Maker};
use crate::store::Snapshot;
use crate::traces;

/// From a step in a quiet lab (some 20 ms) to one that waits for its deadline (30 s).
const SECONDS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// From a guest without memory to one that is copied for hours.
const DURATION: [f64; 10] = [1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];

/// The steps that agents take by what the cluster does, each with the roles that
/// take it. When a guest announces itself is its hypervisor's affair.
const TIMED: [(Role, Step); 13] = [
    (Role::Source, Step::Armed),
    (Role::Target, Step::Armed),
    (Role::Target, Step::Bound),
    (Role::Source, Step::Carried),
    (Role::Source, Step::Held),
    (Role::Target, Step::Held),
    (Role::Bystander, Step::Held),
    (Role::Target, Step::Opened),
    (Role::Target, Step::Switched),
    (Role::Source, Step::Redirected),
    (Role::Bystander, Step::Redirected),
    (Role::Source, Step::Cleaned),
    (Role::Target, Step::Cleaned),
];

#[derive(Debug, Clone)]
pub(crate) struct ControllerMetrics {
    pub(crate) registry: Registry,
    /// The connections: `northbound`, `southbound`, `store`.
    pub(crate) links: Links,
    migrations: IntGaugeVec,
    oldest: IntGaugeVec,
    ended: IntCounterVec,
    phase: HistogramVec,
    step: HistogramVec,
    duration: HistogramVec,
    unannounced: IntCounter,
    late: IntCounter,
    fallbacks: IntCounterVec,
    contested: IntCounterVec,
    unreadable: IntGauge,
    left_out: IntGauge,
    unheard: IntGauge,
    leads: IntGauge,
    /// Chassis in the southbound database.
    pub(crate) chassis: IntGauge,
    /// Those that are behind with what OVN asks of them.
    pub(crate) behind: IntGauge,
    /// Migrations whose next try has to wait.
    pub(crate) waiting: IntGauge,
    /// Ports that have the mark of a migration which is no more.
    pub(crate) left_pinned: IntGauge,
    /// Traces of ended migrations, by outcome.
    pub(crate) traces: IntCounterVec,
}

impl ControllerMetrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        make.build_info();
        let every = Phase::ALL.map(|phase| phase.to_string());
        let every = every.each_ref().map(String::as_str);
        let ends = ["Completed", "RolledBack", "Rejected"];
        let live: Vec<&str> = every.iter().copied().filter(|phase| !ends.contains(phase)).collect();
        let metrics = Self {
            links: Links::new(&registry, &["northbound", "southbound", "store"]),
            migrations: make.gauges(
                "limosa_migrations",
                "Migrations in the store, by phase.",
                &[("phase", &every)],
            ),
            oldest: make.gauges(
                "limosa_migration_oldest_timestamp_seconds",
                "When the migration that has been in a phase for the longest entered it; 0 if there is none.",
                &[("phase", &live)],
            ),
            ended: make.counters(
                "limosa_migrations_ended_total",
                "Migrations that have ended, by outcome.",
                &[("outcome", &ends)],
            ),
            phase: make.histograms(
                "limosa_migration_phase_seconds",
                "Time from the phase before until a migration reached this one.",
                &SECONDS,
                &[("phase", &every[1..])],
            ),
            step: make.add(HistogramVec::new(
                prometheus::HistogramOpts::new(
                    "limosa_migration_step_seconds",
                    "Time that an agent took for a step, from what it had to wait for; observed at the end of a migration.",
                )
                .buckets(SECONDS.to_vec()),
                &["role", "step"],
            )),
            duration: make.histograms(
                "limosa_migration_duration_seconds",
                "Time from the request for a migration to its end, by outcome.",
                &DURATION,
                &[("outcome", &ends)],
            ),
            unannounced: make.counter(
                "limosa_migrations_unannounced_total",
                "Guests that were taken to run on the target although nobody heard them announce themselves.",
            ),
            late: make.counter(
                "limosa_barrier_deadlines_missed_total",
                "Changes of the northbound options that some chassis did not follow in time.",
            ),
            fallbacks: make.counters(
                "limosa_migration_fallbacks_total",
                "Migrations that went on in a lesser way: ovn_alone (no agent on the target), both_paths (mirrored packets taken to the end), without_connections (the target opened without the source's tracked connections).",
                &[("fallback", &["ovn_alone", "both_paths", "without_connections"])],
            ),
            contested: make.counters(
                "limosa_ports_contested_total",
                "Times that somebody else interfered with a port: stolen (its target claimed it before the guest ran there), overwritten (the options were changed).",
                &[("how", &["stolen", "overwritten"])],
            ),
            left_out: make.left_out(),
            unreadable: make
                .gauge("limosa_store_unreadable_objects", "Objects of the store that cannot be read."),
            unheard: make.gauge(
                "limosa_agents_unheard",
                "Sources and targets of migrations under way whose agents have not said anything of them.",
            ),
            leads: make.gauge(
                "limosa_controller_leads",
                "Whether this controller is the one that works; the others stand by.",
            ),
            chassis: make.gauge("limosa_chassis", "Chassis in the southbound database."),
            behind: make.gauge(
                "limosa_chassis_behind",
                "Chassis that have not carried out the last change that every chassis was asked for (nb_cfg).",
            ),
            waiting: make
                .gauge("limosa_controller_retries_waiting", "Migrations whose next try has to wait a moment."),
            left_pinned: make.gauge(
                "limosa_ports_left_pinned",
                "Logical switch ports whose options Limosa has changed for a migration that is no more.",
            ),
            traces: make.counters(
                "limosa_traces_total",
                "Traces of ended migrations: sent, failed (the collector did not take it), dropped (too many were waiting); with --otlp-endpoint.",
                &[("outcome", &traces::OUTCOMES)],
            ),
            registry,
        };
        for (role, step) in TIMED {
            metrics.step.with_label_values(&[format!("{role:?}"), format!("{step:?}")]);
        }
        metrics
    }

    /// This controller works, or stands by and knows nothing.
    pub(crate) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
        if !leads {
            self.see_objects(&Snapshot::default());
            for gauge in [&self.chassis, &self.behind, &self.waiting, &self.left_pinned] {
                gauge.set(0);
            }
        }
    }

    /// What the store holds, and whether it can be read.
    pub(crate) fn see(&self, snapshot: &Snapshot) {
        self.see_objects(snapshot);
        self.links.set("store", snapshot.trouble.is_none());
    }

    fn see_objects(&self, snapshot: &Snapshot) {
        for phase in Phase::ALL {
            let name = phase.to_string();
            let inside = || snapshot.migrations.values().filter(|m| m.phase() == phase);
            self.migrations.with_label_values(&[&name]).set(inside().count() as i64);
            if !phase.is_final() {
                let oldest = inside().map(entered).min().map_or(0, Timestamp::as_second);
                self.oldest.with_label_values(&[&name]).set(oldest);
            }
        }
        let unheard = |m: &Migration| [m.source(), m.target()].into_iter().filter(Option::is_none).count();
        let under_way = snapshot.migrations.values().filter(|m| m.phase().wants_flows());
        let all: usize = under_way.map(unheard).sum();
        self.unheard.set(all as i64);
        self.unreadable.set(snapshot.unreadable.len() as i64);
        self.left_out.set(snapshot.left_out as i64);
    }

    /// What has become of a migration.
    pub(crate) fn note(&self, before: &Migration, after: &Progress) {
        let was = &before.status.progress;
        let is_false = |progress: &Progress, kind| progress.truth(kind) == Some(Truth::False);
        let became_false = |kind| !is_false(was, kind) && is_false(after, kind);
        self.unannounced.inc_by(became_false(ConditionType::Announced).into());
        self.late.inc_by(became_false(ConditionType::CaughtUp).into());
        for (how, before, after) in
            [("stolen", was.stolen, after.stolen), ("overwritten", was.overwritten, after.overwritten)]
        {
            self.contested.with_label_values(&[how]).inc_by(after.saturating_sub(before).into());
        }
        let phase = after.phase;
        if phase == before.phase() {
            return;
        }
        if let Some(fallback) = fallback(before, after, is_false(after, ConditionType::CaughtUp)) {
            self.fallbacks.with_label_values(&[fallback]).inc();
        }
        let Some(reached) = after.steps.get(&phase).copied() else { return };
        let name = phase.to_string();
        self.phase.with_label_values(&[&name]).observe(seconds(entered(before), reached));
        if phase.is_final() {
            self.ended.with_label_values(&[&name]).inc();
            let began = before.metadata.creation_timestamp;
            self.duration.with_label_values(&[&name]).observe(seconds(began, reached));
            self.note_steps(before);
        }
    }

    /// How long the agents took; what they report is complete at the end.
    fn note_steps(&self, migration: &Migration) {
        for node in migration.status.nodes.values() {
            for (step, at) in &node.steps {
                if let Some(from) =
                    awaited(migration, node, *step).filter(|_| TIMED.contains(&(node.role, *step)))
                {
                    let labels = [format!("{:?}", node.role), format!("{step:?}")];
                    self.step.with_label_values(&labels).observe(seconds(from, *at));
                }
            }
        }
    }
}

/// When a migration entered its phase.
fn entered(migration: &Migration) -> Timestamp {
    let since = migration.status.progress.steps.get(&migration.phase());
    since.copied().unwrap_or(migration.metadata.creation_timestamp)
}

/// The clocks of two nodes may differ by more than the step took.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// What an agent had to wait for before a step.
fn awaited(migration: &Migration, node: &NodeStatus, step: Step) -> Option<Timestamp> {
    let phase = |phase| migration.status.progress.steps.get(&phase).copied();
    let target = |step| migration.target()?.steps.get(&step).copied();
    match step {
        Step::Armed if node.role == Role::Source => target(Step::Armed),
        Step::Armed => phase(Phase::Arming),
        Step::Activated | Step::Returned => None,
        Step::Bound => target(Step::Activated),
        Step::Carried | Step::Held | Step::Opened => phase(Phase::Bound),
        Step::Switched | Step::Redirected => target(Step::Opened),
        Step::Cleaned => phase(Phase::RollingBack).or_else(|| phase(Phase::Released)),
    }
}

/// The lesser way on which a migration enters a phase, if it does.
fn fallback(before: &Migration, after: &Progress, is_late: bool) -> Option<&'static str> {
    let carried = || before.source().is_some_and(|source| source.has(Step::Carried));
    match (before.phase(), after.phase) {
        (Phase::Arming, Phase::Switched) => Some("ovn_alone"),
        (_, Phase::Bound) if is_late => Some("both_paths"),
        (Phase::Bound, Phase::Switched) if !carried() => Some("without_connections"),
        _ => None,
    }
}

/// What becomes of KubeVirt's migrations, where they are carried out.
pub(crate) fn kubevirt_outcomes(registry: &Registry) -> IntCounterVec {
    Maker(registry).counters(
        "limosa_kubevirt_outcomes_total",
        "What was done about KubeVirt's migrations and interfaces: made, or the reason why nothing was.",
        &[("outcome", &["Made"])],
    )
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use limosa_protocol::object::{Problem, Spec};
    use uuid::Uuid;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn migration() -> Migration {
        Migration::new("m".into(), Uuid::nil(), Spec::new("p", "a", Some("b".to_owned())), at(0))
    }

    /// Takes the migration to a phase, as the controller does: it writes once, and sees what it has written.
    fn enter(metrics: &ControllerMetrics, migration: &mut Migration, phase: Phase, second: i64) {
        let mut progress = migration.status.progress.clone();
        progress.enter(phase, at(second));
        metrics.note(migration, &progress);
        migration.status.progress = progress.clone();
        metrics.note(migration, &progress);
    }

    #[test]
    fn a_phase_takes_the_time_since_the_one_before() {
        let (metrics, mut migration) = (ControllerMetrics::new(), migration());
        for (phase, second) in [(Phase::Pinning, 2), (Phase::Arming, 5), (Phase::RolledBack, 6)] {
            enter(&metrics, &mut migration, phase, second);
        }
        let sum = |phase: &str| metrics.phase.with_label_values(&[phase]).get_sample_sum();
        assert_eq!(["Pinning", "Arming", "RolledBack"].map(sum), [2.0, 3.0, 1.0]);
        assert_eq!(metrics.ended.with_label_values(&["RolledBack"]).get(), 1);
        assert_eq!(metrics.ended.with_label_values(&["Completed"]).get(), 0);
        assert_eq!(metrics.duration.with_label_values(&["RolledBack"]).get_sample_sum(), 6.0);
    }

    #[test]
    fn the_oldest_of_each_phase_and_agents_that_say_nothing() {
        let metrics = ControllerMetrics::new();
        let mut snapshot = Snapshot::default();
        for (name, second) in [("x", 7), ("y", 4)] {
            let mut migration = migration();
            migration.status.progress.enter(Phase::Arming, at(second));
            migration.status.nodes.insert("a".into(), NodeStatus::new(Role::Source));
            snapshot.migrations.insert(name.into(), migration);
        }
        metrics.see(&snapshot);
        let oldest = |phase: &str| metrics.oldest.with_label_values(&[phase]).get();
        assert_eq!((oldest("Arming"), oldest("Armed"), metrics.unheard.get()), (4, 0, 2));
        metrics.leads(false);
        assert_eq!((oldest("Arming"), metrics.unheard.get()), (0, 0), "another controller says it");
    }

    #[test]
    fn steps_are_timed_from_what_they_waited_for() {
        let (metrics, mut migration) = (ControllerMetrics::new(), migration());
        for (phase, second) in [(Phase::Arming, 1), (Phase::Armed, 4), (Phase::Bound, 20)] {
            enter(&metrics, &mut migration, phase, second);
        }
        let (mut source, mut target) = (NodeStatus::new(Role::Source), NodeStatus::new(Role::Target));
        for (step, second) in [
            (Step::Armed, 2),
            (Step::Activated, 10),
            (Step::Bound, 13),
            (Step::Held, 22),
            (Step::Opened, 25),
            (Step::Switched, 26),
        ] {
            target.take(step, at(second));
        }
        source.take(Step::Armed, at(3));
        source.take(Step::Redirected, at(24));
        migration.status.nodes.extend([("a".to_owned(), source), ("b".to_owned(), target)]);
        enter(&metrics, &mut migration, Phase::Switched, 27);
        enter(&metrics, &mut migration, Phase::Completed, 30);
        let sum = |(role, step): &(Role, Step)| {
            let labels = [format!("{role:?}"), format!("{step:?}")];
            metrics.step.with_label_values(&labels).get_sample_sum()
        };
        // The source has no step Carried, and a clock that is a second behind.
        let wanted = [1.0, 1.0, 3.0, 0.0, 0.0, 2.0, 0.0, 5.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(TIMED.iter().map(sum).collect::<Vec<_>>(), wanted);
        assert_eq!(metrics.fallbacks.with_label_values(&["without_connections"]).get(), 1);
    }

    #[test]
    fn lesser_ways_are_counted_once() {
        let (metrics, mut late, mut alone) = (ControllerMetrics::new(), migration(), migration());
        enter(&metrics, &mut late, Phase::Activated, 1);
        let mut progress = late.status.progress.clone();
        let why = Problem::new("DeadlinePassed", "a chassis did not follow");
        progress.set_condition(ConditionType::CaughtUp, Truth::False, why, at(2));
        progress.overwritten = 2;
        metrics.note(&late, &progress);
        late.status.progress = progress;
        enter(&metrics, &mut late, Phase::Bound, 2);
        enter(&metrics, &mut alone, Phase::Arming, 1);
        enter(&metrics, &mut alone, Phase::Switched, 2);
        let of = |fallback| metrics.fallbacks.with_label_values(&[fallback]).get();
        assert_eq!(["ovn_alone", "both_paths", "without_connections"].map(of), [1, 1, 0]);
        assert_eq!((metrics.late.get(), metrics.contested.with_label_values(&["overwritten"]).get()), (1, 2));
    }
}
