//! The replica: an immutable snapshot of the monitored tables, and how updates make the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::datum::Datum;
use crate::error::ParseError;
use crate::monitor::Missing;
use crate::row::Row;
use crate::rows::Rows;
use crate::schema::{ColumnType, Schema};

/// What the server held at one moment, as far as it is monitored. Snapshots share the rows and tables that
/// did not change from one to the next.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// Whether the session was connected: if not, the server may hold something newer.
    pub connected: bool,
    /// Rises with each snapshot of a session; 0 before the first complete one.
    pub generation: u64,
    pub(crate) schema: Arc<Schema>,
    pub(crate) missing: Arc<Missing>,
    pub(crate) tables: Tables,
}

pub(crate) type Tables = BTreeMap<String, Arc<Table>>;

impl Replica {
    /// The rows of a table, by UUID; none when it is not monitored or the schema lacks it.
    pub fn table(&self, name: &str) -> impl Iterator<Item = (&Uuid, &Row)> {
        self.tables.get(name).into_iter().flat_map(|table| table.rows.iter())
    }

    pub fn get(&self, table: &str, uuid: &Uuid) -> Option<&Row> {
        self.tables.get(table)?.rows.get(uuid)
    }

    /// The first row, by UUID, for which `matches` is true.
    pub fn find(&self, table: &str, mut matches: impl FnMut(&Row) -> bool) -> Option<(&Uuid, &Row)> {
        self.table(table).find(|(_, row)| matches(row))
    }

    /// Whether the table is monitored and the server's schema has it.
    pub fn has_table(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// The schema of the server that this snapshot came from; empty before the first.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What is monitored in vain, because that schema lacks it.
    pub fn missing(&self) -> &Missing {
        &self.missing
    }

    /// The replica with one more row, for tests of code that reads one.
    #[must_use]
    pub fn with_row(mut self, table: &str, uuid: Uuid, row: Row) -> Self {
        let table = self.tables.entry(table.to_owned()).or_default();
        Arc::make_mut(table).rows.insert(uuid, row);
        self
    }
}

/// The monitored columns of a table and its rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// The names that all rows share.
    columns: Arc<BTreeMap<Arc<str>, ColumnType>>,
    rows: Rows,
}

/// Empty tables for the `<monitor-cond-requests>` that are sent.
pub(crate) fn empty_tables(requests: &Value, schema: &Schema) -> Tables {
    let mut tables = Tables::new();
    for (name, requests) in requests.as_object().into_iter().flatten() {
        let columns = requests.pointer("/0/columns").and_then(Value::as_array).into_iter().flatten();
        let columns = columns
            .filter_map(Value::as_str)
            .filter_map(|column| Some((column.into(), schema.column(name, column)?.clone())))
            .collect();
        tables.insert(name.clone(), Arc::new(Table { columns: Arc::new(columns), rows: Rows::default() }));
    }
    tables
}

/// Applies `<table-updates2>` (ovsdb-server(7) section 4.1.14). After an error the tables are of no more use:
/// ours and the server's idea of them differ.
pub(crate) fn apply(tables: &mut Tables, updates: &Value) -> Result<(), ParseError> {
    let updates = updates.as_object().ok_or_else(|| ParseError::new("table updates", updates))?;
    for (name, rows) in updates {
        let table = tables
            .get_mut(name)
            .ok_or_else(|| ParseError::new("an update of a monitored table", &json!(name)))?;
        let rows = rows.as_object().ok_or_else(|| ParseError::new("row updates", rows))?;
        let table = Arc::make_mut(table);
        for (uuid, update) in rows {
            let key =
                Uuid::try_parse(uuid).map_err(|_| ParseError::new("the UUID of a row", &json!(uuid)))?;
            table.apply(key, update)?;
        }
    }
    Ok(())
}

impl Table {
    fn apply(&mut self, uuid: Uuid, update: &Value) -> Result<(), ParseError> {
        let unknown = || ParseError::new("an update of a row that is there", &json!(uuid.to_string()));
        let update = update.as_object().ok_or_else(|| ParseError::new("a row update", update))?;
        if let Some(row) = update.get("initial").or_else(|| update.get("insert")) {
            self.rows.insert(uuid, self.new_row(row)?);
        } else if let Some(diff) = update.get("modify") {
            let row = self.rows.get_mut(&uuid).ok_or_else(unknown)?;
            modify(row, &self.columns, diff)?;
        } else if update.contains_key("delete") {
            if !self.rows.remove(&uuid) {
                return Err(unknown());
            }
        } else {
            return Err(ParseError::new("initial, insert, modify or delete", &Value::Object(update.clone())));
        }
        Ok(())
    }

    /// The server leaves out columns that have the default value.
    fn new_row(&self, value: &Value) -> Result<Row, ParseError> {
        let given = value.as_object().ok_or_else(|| ParseError::new("a row", value))?;
        let mut row = Row::new();
        for (column, ty) in &*self.columns {
            let datum = match given.get(&**column) {
                Some(value) => Datum::from_json(value, ty)?,
                None => Datum::default_of(ty),
            };
            row.set(Arc::clone(column), datum);
        }
        Ok(row)
    }
}

fn modify(row: &mut Row, columns: &BTreeMap<Arc<str>, ColumnType>, diff: &Value) -> Result<(), ParseError> {
    for (column, value) in diff.as_object().ok_or_else(|| ParseError::new("a row", diff))? {
        let known = columns.get(column.as_str()).zip(row.datum_mut(column));
        let (ty, datum) = known.ok_or_else(|| ParseError::new("a monitored column", &json!(column)))?;
        datum.apply(Datum::from_json(value, ty)?, ty);
    }
    Ok(())
}
