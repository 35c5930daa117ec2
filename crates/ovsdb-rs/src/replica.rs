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

/// Most that the rows of a replica take in memory unless another limit is given, in bytes: twice the largest
/// message.
pub const DEFAULT_MAX_REPLICA: usize = 1 << 30;

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
        self.tables.get(name).into_iter().flat_map(|table| table.rows())
    }

    /// One row.
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

/// An empty table for each with these columns.
pub(crate) fn empty_tables(requests: &BTreeMap<String, Vec<String>>, schema: &Schema) -> Tables {
    let table = |(name, columns): (&String, &Vec<String>)| {
        let columns = columns
            .iter()
            .filter_map(|column| Some((column.as_str().into(), schema.column(name, column)?.clone())));
        (name.clone(), Arc::new(Table::new(columns.collect())))
    };
    requests.iter().map(table).collect()
}

/// Whether both have the same tables with the same columns, so that an update of one is one of the other.
pub(crate) fn same_columns(one: &Tables, other: &Tables) -> bool {
    let columns = |tables: &Tables| -> Vec<_> {
        tables.iter().map(|(name, table)| (name.clone(), Arc::clone(&table.columns))).collect()
    };
    columns(one) == columns(other)
}

impl Table {
    pub(crate) fn new(columns: BTreeMap<Arc<str>, ColumnType>) -> Self {
        Self { columns: Arc::new(columns), rows: Rows::default() }
    }

    pub(crate) fn has_column(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// What the rows take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Uuid, &Row)> {
        self.rows.iter()
    }

    /// Applies a `<row-update>` (RFC 7047 section 4.1.6).
    pub(crate) fn apply_rows(&mut self, uuid: Uuid, update: &Value) -> Result<(), ParseError> {
        let was_there = update.get("old").is_some();
        if was_there != self.rows.get(&uuid).is_some() {
            return Err(unknown(uuid));
        }
        match update.get("new") {
            Some(row) => self.rows.insert(uuid, self.new_row(row)?),
            None if was_there => drop(self.rows.remove(&uuid)),
            None => return Err(ParseError::new("old or new", update)),
        }
        Ok(())
    }

    /// Applies a `<row-update2>` (ovsdb-server(7) section 4.1.14).
    pub(crate) fn apply_difference(&mut self, uuid: Uuid, update: &Value) -> Result<(), ParseError> {
        let update = update.as_object().ok_or_else(|| ParseError::new("a row update", update))?;
        if let Some(row) = update.get("initial").or_else(|| update.get("insert")) {
            self.rows.insert(uuid, self.new_row(row)?);
        } else if let Some(diff) = update.get("modify") {
            let changed = self.rows.change(&uuid, |row| modify(row, &self.columns, diff));
            changed.ok_or_else(|| unknown(uuid))??;
        } else if update.contains_key("delete") {
            if !self.rows.remove(&uuid) {
                return Err(unknown(uuid));
            }
        } else {
            return Err(ParseError::new("initial, insert, modify or delete", &Value::Object(update.clone())));
        }
        Ok(())
    }

    /// The server leaves out columns that have the default value.
    fn new_row(&self, value: &Value) -> Result<Row, ParseError> {
        let given = value.as_object().ok_or_else(|| ParseError::new("a row", value))?;
        let mut row = Row::with_capacity(self.columns.len());
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

fn unknown(uuid: Uuid) -> ParseError {
    ParseError::new("an update that fits the row as it is known", &json!(uuid.to_string()))
}

fn modify(row: &mut Row, columns: &BTreeMap<Arc<str>, ColumnType>, diff: &Value) -> Result<(), ParseError> {
    for (column, value) in diff.as_object().ok_or_else(|| ParseError::new("a row", diff))? {
        let known = columns.get(column.as_str()).zip(row.datum_mut(column));
        let (ty, datum) = known.ok_or_else(|| ParseError::new("a monitored column", &json!(column)))?;
        datum.apply(Datum::from_json(value, ty)?, ty);
    }
    Ok(())
}
