//! What a session replicates, and what of it the server's schema does not have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::condition::Clause;
use crate::schema::Schema;
use crate::typed::{Shape, Typed};

/// One table to replicate. A session has at most one of each table; of two the later counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMonitor {
    table: String,
    /// With the type that is expected, if any. Empty: every column of the schema.
    columns: BTreeMap<String, Option<Shape>>,
    /// Any of them must hold; empty: every row.
    condition: Vec<Clause>,
}

/// What was asked for that the server's schema lacks: an older or newer release than the one in mind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Tables that are not there.
    pub tables: BTreeSet<String>,
    /// Pairs of table and column.
    pub columns: BTreeSet<(String, String)>,
    /// Columns, likewise, of another type than a [`Typed`] row has for them. They are not monitored.
    pub other_type: BTreeSet<(String, String)>,
}

impl TableMonitor {
    /// Every row and column of the table.
    pub fn new(table: impl Into<String>) -> Self {
        Self { table: table.into(), columns: BTreeMap::new(), condition: Vec::new() }
    }

    /// The columns of a typed row, every row of its table.
    pub fn of<T: Typed>() -> Self {
        let columns = T::COLUMNS.iter().map(|(column, shape)| ((*column).to_owned(), Some(*shape)));
        Self { columns: columns.collect(), ..Self::new(T::TABLE) }
    }

    /// Only these columns.
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns.extend(columns.into_iter().map(|column| (column.into(), None)));
        self
    }

    /// Only the rows for which any of these clauses holds. A clause about a column that the server's schema
    /// lacks holds for no row.
    #[must_use]
    pub fn condition(mut self, condition: Vec<Clause>) -> Self {
        self.condition = condition;
        self
    }

    /// The name of the table.
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

/// The columns to ask for, of each table that there is in the schema.
pub(crate) fn present_columns(
    monitors: &Monitors,
    schema: &Schema,
) -> (BTreeMap<String, Vec<String>>, Missing) {
    let mut present = BTreeMap::new();
    let mut missing = Missing::default();
    for (name, monitor) in monitors {
        let Some(table) = schema.tables.get(name) else {
            missing.tables.insert(name.clone());
            continue;
        };
        let mut columns: Vec<String> = Vec::new();
        if monitor.columns.is_empty() {
            columns.extend(table.columns.keys().cloned());
        }
        for (column, shape) in &monitor.columns {
            let pair = || (name.clone(), column.clone());
            match schema.column(name, column) {
                None => drop(missing.columns.insert(pair())),
                Some(ty) if shape.is_some_and(|shape| !shape.fits(ty)) => {
                    missing.other_type.insert(pair());
                }
                Some(_) => columns.push(column.clone()),
            }
        }
        for column in monitor.condition.iter().filter_map(Clause::column) {
            if schema.column(name, column).is_none() {
                missing.columns.insert((name.clone(), column.to_owned()));
            }
        }
        present.insert(name.clone(), columns);
    }
    (present, missing)
}

/// The `<monitor-requests>` of RFC 7047 section 4.1.5, or with conditions the `<monitor-cond-requests>` of
/// ovsdb-server(7) section 4.1.12.
pub(crate) fn requests_json(
    present: &BTreeMap<String, Vec<String>>,
    conditions: Option<(&Monitors, &Schema)>,
) -> Value {
    let request = |(name, columns): (&String, &Vec<String>)| {
        let mut request = json!({ "columns": columns });
        if let Some((monitor, schema)) = conditions.and_then(|(all, schema)| Some((all.get(name)?, schema))) {
            request["where"] = condition_json(monitor, schema);
        }
        (name.clone(), json!([request]))
    };
    Value::Object(present.iter().map(request).collect::<Map<_, _>>())
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
