//! What a session replicates, and what of it the server's schema does not have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::condition::Clause;
use crate::schema::Schema;

/// One table to replicate. A session has at most one of each table; of two the later counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMonitor {
    table: String,
    /// Empty: every column of the schema.
    columns: BTreeSet<String>,
    /// Any of them must hold; empty: every row.
    condition: Vec<Clause>,
}

/// What was asked for that the server's schema lacks: an older or newer release than the one in mind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    pub tables: BTreeSet<String>,
    /// Pairs of table and column.
    pub columns: BTreeSet<(String, String)>,
}

impl TableMonitor {
    /// Every row and column of the table.
    pub fn new(table: impl Into<String>) -> Self {
        Self { table: table.into(), columns: BTreeSet::new(), condition: Vec::new() }
    }

    /// Only these columns.
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns.extend(columns.into_iter().map(Into::into));
        self
    }

    /// Only the rows for which any of these clauses holds. A clause about a column that the server's schema
    /// lacks holds for no row.
    #[must_use]
    pub fn condition(mut self, condition: Vec<Clause>) -> Self {
        self.condition = condition;
        self
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn wanted(&self) -> &[Clause] {
        &self.condition
    }

    pub(crate) fn set_condition(&mut self, condition: Vec<Clause>) {
        self.condition = condition;
    }
}

/// The monitors of a session, by table.
pub(crate) type Monitors = BTreeMap<String, TableMonitor>;

/// The `<monitor-cond-requests>` of what there is in the schema (ovsdb-server(7) section 4.1.12).
pub(crate) fn monitor_requests(monitors: &Monitors, schema: &Schema) -> (Value, Missing) {
    let mut requests = Map::new();
    let mut missing = Missing::default();
    for (name, monitor) in monitors {
        let Some(table) = schema.tables.get(name) else {
            missing.tables.insert(name.clone());
            continue;
        };
        let columns: Vec<&String> = if monitor.columns.is_empty() {
            table.columns.keys().collect()
        } else {
            let (present, absent) =
                monitor.columns.iter().partition(|column| schema.column(name, column).is_some());
            let absent: Vec<&String> = absent;
            missing.columns.extend(absent.into_iter().map(|column| (name.clone(), column.clone())));
            present
        };
        for column in monitor.condition.iter().filter_map(Clause::column) {
            if schema.column(name, column).is_none() {
                missing.columns.insert((name.clone(), column.to_owned()));
            }
        }
        let request = json!({ "columns": columns, "where": condition_json(monitor, schema) });
        requests.insert(name.clone(), json!([request]));
    }
    (Value::Object(requests), missing)
}

/// The `where` of a monitored table. Clauses about columns that do not exist hold for no row; leaving them out
/// must not turn the condition into the empty one, which holds for all.
pub(crate) fn condition_json(monitor: &TableMonitor, schema: &Schema) -> Value {
    let exists = |clause: &&Clause| {
        clause.column().is_none_or(|column| schema.column(&monitor.table, column).is_some())
    };
    let clauses: Vec<Value> = monitor.condition.iter().filter(exists).map(Clause::to_json).collect();
    if clauses.is_empty() { json!([monitor.condition.is_empty()]) } else { Value::Array(clauses) }
}
