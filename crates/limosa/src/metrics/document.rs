//! `docs/metrics.md`, which says of every metric what the registries say.

use std::fmt::Write as _;
use std::path::Path;

use prometheus::Registry;
use prometheus::proto::MetricType;

use super::{AgentMetrics, ControllerMetrics, kubevirt_outcomes};

const INTRODUCTION: &str = "# Metrics

Agents and controllers serve `/metrics`, `/healthz` and `/readyz` where `--metrics-listen` says. This list is written by
`LIMOSA_RENEW=1 cargo test -p limosa metrics`, and a test compares it with what the programs register.

Times are seconds, and counters begin at 0 with the program. No label names a migration, a port or a guest: their number has
no bound. Which chassis an agent is of says `limosa_agent_info`. The alerts are in `charts/limosa/files/rules`, and
[runbooks.md](runbooks.md) tells what to do about each. The dashboards are in `charts/limosa/files/dashboards`; what they show of
three migrations between three chassis: [cluster](pictures/cluster.png), [one migration](pictures/migration.png), [node](pictures/node.png).

What the flows count is read every ten seconds, and before a flow is taken away. Open vSwitch itself brings the counters of
flows up to date about twice a second. So what passed in the last moment before a flow goes may be missing, and what a gate
drops in the moment before it opens is counted as diverted (`divert_in`). The counters of ports have no such delay:
`limosa_agent_activation_seconds` and `limosa_agent_silence_seconds` are taken from those.

Logs go to standard error: one line for each step of a migration, in a span that has its name, its port, source and target.
`LIMOSA_LOG` filters them (`info`, `debug`, `limosa::agent=debug`, …), `LIMOSA_LOG_FORMAT=json` makes each an object.

A trace of each migration that has ended is sent where `limosa controller --otlp-endpoint` says, or the variables that OpenTelemetry
has for it (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`): OTLP over HTTP, to
any collector that takes it. It is the timeline of the object in another form. The span of the migration has one below it for the
controller and for each chassis, and these have one for each step, which begins where the last thing that it had to wait for had
come, and links to that. The trace's id is the object's `metadata.uid` without the hyphens. Other than metrics a trace names the
migration, its port and the chassis. The controller that writes the end sends it, once and beside its work: what a collector has
not taken after ten seconds is lost, and counted as such (`limosa_traces_total`).
";

fn table(title: &str, registry: &Registry) -> String {
    let mut text = format!("\n## {title}\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n");
    for family in registry.gather() {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            other => panic!("{} is a {other:?}", family.name()),
        };
        let mut labels: Vec<String> = Vec::new();
        for label in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
            let name = format!("`{}`", label.name());
            if !labels.contains(&name) {
                labels.push(name);
            }
        }
        let (name, labels) = (family.name(), labels.join(", "));
        writeln!(text, "| `{name}` | {kind} | {labels} | {} |", family.help()).unwrap();
    }
    text
}

#[test]
fn every_metric_is_in_the_documentation() {
    let (agent, controller) = (AgentMetrics::new(), ControllerMetrics::new());
    agent.chassis("ch1");
    kubevirt_outcomes(&controller.registry);
    let text =
        [INTRODUCTION, &table("Agent", &agent.registry), &table("Controller", &controller.registry)].concat();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("LIMOSA_RENEW").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/metrics.md is not up to date: LIMOSA_RENEW=1 cargo test -p limosa metrics"
    );
}
