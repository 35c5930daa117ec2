//! A real Prometheus in a lab, what the chart's dashboards and alerts ask it, and
//! `promtool`. Debian's package `prometheus` has both programs.

mod dashboards;
pub mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::demo::Limosa;
use crate::holder::OUTSIDE;
use crate::lab::{CENTRAL, Lab, programs_present};
use crate::process::LabProcess;

pub use dashboards::{Panel, panels};
pub use rules::promtool;

const PROGRAMS: [(&str, &str); 3] =
    [("prometheus", "prometheus"), ("promtool", "prometheus"), ("busybox", "busybox-static")];
/// Where it serves, in the namespace of the databases.
const ADDRESS: &str = "127.0.0.1:9090";
const READY: &str = "Server is ready to receive web requests";
const DEADLINE: Duration = Duration::from_secs(90);
/// How often a question is asked again whose answer is waited for.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A running Prometheus that scrapes Limosa's programs of a lab every second. It
/// ends with the lab.
#[derive(Debug)]
pub struct Prometheus<'a> {
    lab: &'a Lab,
    /// The namespace that it is in.
    ns: &'static str,
    address: String,
    _process: LabProcess,
}

/// A sample of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels, with `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Its value; may be no number.
    pub value: f64,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl<'a> Prometheus<'a> {
    /// Starts it with these rules; `limosa` has to have been started with metrics.
    ///
    /// # Errors
    ///
    /// When a program is missing (the text says what to install), or it does not start.
    pub async fn start(lab: &'a Lab, rules: &[PathBuf]) -> Result<Self> {
        let agents =
            lab.all_chassis().iter().map(|chassis| Limosa::metrics_of(lab, chassis.name())).collect();
        Self::start_in(lab, CENTRAL, ADDRESS.to_owned(), agents, &Limosa::metrics_of(lab, CENTRAL), rules)
            .await
    }

    /// Starts one outside of the lab, at this address, for a controller there.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_outside(lab: &'a Lab, address: String, controller: &str) -> Result<Self> {
        Self::start_in(lab, OUTSIDE, address, Vec::new(), controller, &[]).await
    }

    async fn start_in(
        lab: &'a Lab,
        ns: &'static str,
        address: String,
        agents: Vec<String>,
        controller: &str,
        rules: &[PathBuf],
    ) -> Result<Self> {
        programs_present(&PROGRAMS)?;
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": rules,
            "scrape_configs": [
                { "job_name": "limosa-agent", "static_configs": [{ "targets": agents }] },
                { "job_name": "limosa-controller", "static_configs": [{ "targets": [controller] }] },
            ],
        });
        let dir = lab.dir().join("prometheus");
        let file = lab.dir().join("prometheus.json");
        // YAML has JSON in it.
        std::fs::write(&file, config.to_string()).context("write Prometheus' configuration")?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.display()))
            .arg(format!("--web.listen-address={address}"));
        let process = lab.spawn_in(ns, &command).await?;
        process.wait_log(READY, DEADLINE).await?;
        Ok(Self { lab, ns, address, _process: process })
    }

    async fn api(&self, path: &str) -> Result<String> {
        get_in(self.lab, self.ns, &format!("http://{}/api/v1/{path}", self.address)).await
    }

    /// Asks for the value of an expression now.
    ///
    /// # Errors
    ///
    /// When it does not understand the expression, or this its answer.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", expression).finish();
        let said =
            self.api(&format!("query?{query}")).await.with_context(|| format!("ask for {expression}"))?;
        let answer: Answer = serde_json::from_str(&said)
            .with_context(|| format!("understand the answer to {expression}: {said}"))?;
        let sample = |series: Series| {
            let value = series.value.1.parse().context("a sample is a number")?;
            Ok(Sample { labels: series.metric, value })
        };
        answer.data.result.into_iter().map(sample).collect()
    }

    /// The one value of an expression; `None` if it has none, or several.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn value(&self, expression: &str) -> Result<Option<f64>> {
        let samples = self.query(expression).await?;
        Ok(samples.first().filter(|_| samples.len() == 1).map(|sample| sample.value))
    }

    /// Waits until an expression has a value that satisfies `is`; returns it.
    ///
    /// # Errors
    ///
    /// When it has none for a minute and a half; the text has the last one.
    pub async fn wait_for(&self, expression: &str, is: impl Fn(f64) -> bool) -> Result<f64> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let value = self.value(expression).await?;
            if let Some(value) = value.filter(|value| is(*value)) {
                return Ok(value);
            }
            ensure!(Instant::now() < deadline, "{expression} is still {value:?} after {DEADLINE:?}");
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until each of these alerts has fired.
    ///
    /// # Errors
    ///
    /// When one has not for a minute and a half.
    pub async fn wait_for_alerts(&self, names: &[&str]) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let fired = self.query("last_over_time(ALERTS{alertstate=\"firing\"}[1h])").await?;
            let fired: BTreeSet<&str> =
                fired.iter().filter_map(|alert| Some(&**alert.labels.get("alertname")?)).collect();
            let missing: Vec<_> = names.iter().filter(|name| !fired.contains(**name)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{missing:?} have not fired after {DEADLINE:?}; {fired:?} have"
            );
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// What keeps it from evaluating a rule.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn broken_rules(&self) -> Result<Vec<String>> {
        let said: Value = serde_json::from_str(&self.api("rules").await?).context("understand the rules")?;
        let groups = said["data"]["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let broken = rules.filter(|rule| rule["health"] == "err");
        Ok(broken.map(|rule| format!("{}: {}", rule["name"], rule["lastError"])).collect())
    }
}

/// What a program of the lab serves at this address.
///
/// # Errors
///
/// When it does not answer, or with an error.
pub async fn get(lab: &Lab, url: &str) -> Result<String> {
    get_in(lab, CENTRAL, url).await
}

async fn get_in(lab: &Lab, ns: &str, url: &str) -> Result<String> {
    lab.exec_in(ns, &["busybox", "wget", "-q", "-O", "-", url]).await
}

/// A directory of the chart.
fn chart(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/limosa/files").join(directory)
}

/// The files of a directory of the chart, in order.
fn files(directory: &str, extension: &str) -> Result<Vec<PathBuf>> {
    let directory = chart(directory);
    let entries = std::fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    Ok(files)
}
