//! What the chart's dashboards ask Prometheus.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::files;

/// One query of a dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    /// The name of the dashboard's file.
    pub dashboard: String,
    /// The panel's, or the variable's.
    pub title: String,
    /// As Prometheus is to be asked.
    pub expression: String,
}

/// Every query of every dashboard, with these values for their variables. Grafana's own (`$__range`,
/// `$__rate_interval`) are long enough for a lab that has just been started.
///
/// # Errors
///
/// When a dashboard cannot be read.
pub fn panels(variables: &BTreeMap<&str, &str>) -> Result<Vec<Panel>> {
    let mut all = Vec::new();
    for file in files("dashboards", "json")? {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let dashboard: Value = serde_json::from_str(&text).with_context(|| format!("understand {name}"))?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut add = |title: &Value, expression: &str| {
            let title = title.as_str().unwrap_or_default().to_owned();
            all.push(Panel { dashboard: name.clone(), title, expression: substitute(expression, variables) });
        };
        for variable in list(&dashboard["templating"]["list"]) {
            let query = variable["query"].as_str().unwrap_or_default();
            if let Some(labels) = query.strip_prefix("label_values(")
                && let Some((series, _label)) = labels.rsplit_once(',')
            {
                add(&variable["name"], series);
            }
        }
        for panel in list(&dashboard["panels"]) {
            for target in list(&panel["targets"]) {
                add(&panel["title"], target["expr"].as_str().unwrap_or_default());
            }
        }
    }
    Ok(all)
}

/// Longer names first: one may begin with another.
fn substitute(expression: &str, variables: &BTreeMap<&str, &str>) -> String {
    let own = [("__rate_interval", "5m"), ("__range", "5m")];
    let all = own.into_iter().chain(variables.iter().rev().map(|(name, value)| (*name, *value)));
    all.fold(expression.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
}
