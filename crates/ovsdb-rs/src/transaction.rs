//! Transactions: operations built one after the other, done by the server together or not at all
//! (RFC 7047 sections 4.1.3 and 5.2).

use serde_json::{Value, json};
use uuid::Uuid;

use crate::condition::Clause;
use crate::datum::{Atom, Datum};
use crate::error::{ParseError, TransactError};
use crate::row::Row;
use crate::schema::Schema;

/// Operations in order. The index of an operation, as in [`TransactError::Refused`], counts the calls of the
/// methods below from 0; each has its own [`OpResult`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    operations: Vec<Operation>,
}

#[derive(Debug, Clone, PartialEq)]
struct Operation {
    json: Value,
    /// The table whose rows come back, for a `select`.
    selects: Option<String>,
}

/// `until` of a `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Until {
    /// The rows are equal to those given.
    Equal,
    /// They differ.
    NotEqual,
}

/// `<mutator>` of RFC 7047 section 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutator {
    /// `+=`, on numbers.
    Add,
    /// `-=`
    Subtract,
    /// `*=`
    Multiply,
    /// `/=`
    Divide,
    /// `%=`, on integers.
    Modulo,
    /// Adds elements or pairs. A pair whose key is there already is **not** changed.
    Insert,
    /// Removes elements; from a map the given keys (a set) or exact pairs (a map).
    Delete,
}

/// What one operation did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpResult {
    /// Rows that an update, mutate or delete matched; otherwise 0.
    pub count: u64,
    /// The row that an insert made.
    pub uuid: Option<Uuid>,
    /// The rows of a select.
    pub rows: Vec<Row>,
}

impl Transaction {
    /// Without any operation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no operation.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// A line for the server's transaction log (section 5.2.9).
    #[must_use]
    pub fn comment(self, text: impl Into<String>) -> Self {
        self.push(json!({ "op": "comment", "comment": text.into() }))
    }

    /// Refuses the whole transaction unless these columns of the matching rows are equal to `rows`, or not
    /// equal (section 5.2.6). It never waits: the timeout is 0, the refusal's error is `timed out`.
    #[must_use]
    pub fn wait<C: Into<String>>(
        self,
        table: &str,
        condition: impl IntoIterator<Item = Clause>,
        columns: impl IntoIterator<Item = C>,
        rows: impl IntoIterator<Item = Row>,
        until: Until,
    ) -> Self {
        let rows: Vec<Value> = rows.into_iter().map(|row| row.to_json()).collect();
        self.push(json!({
            "op": "wait",
            "timeout": 0,
            "table": table,
            "where": clauses(condition),
            "columns": names(columns),
            "until": match until {
                Until::Equal => "==",
                Until::NotEqual => "!=",
            },
            "rows": rows,
        }))
    }

    /// Refuses the whole transaction, with `not owner`, unless this session has the lock (section 5.2.10).
    #[must_use]
    pub fn assert(self, lock: &str) -> Self {
        self.push(json!({ "op": "assert", "lock": lock }))
    }

    /// The same operations with a `wait` before them that holds as long as no row matches.
    pub(crate) fn unless(&self, table: &str, condition: &[Clause]) -> Self {
        let wait = Self::new().wait(table, condition.iter().cloned(), ["_uuid"], [], Until::Equal);
        Self { operations: [wait.operations.as_slice(), &self.operations].concat() }
    }

    /// Inserts a row (section 5.2.1). Other operations refer to it by `named_uuid`, which must look like an
    /// identifier: letters, digits and underscores, no digit first.
    #[must_use]
    pub fn insert<'a>(self, table: &str, named_uuid: impl Into<Option<&'a str>>, row: Row) -> Self {
        let mut insert = json!({ "op": "insert", "table": table, "row": row.to_json() });
        if let Some(name) = named_uuid.into() {
            insert["uuid-name"] = json!(name);
        }
        self.push(insert)
    }

    /// Sets columns of the matching rows (section 5.2.3).
    #[must_use]
    pub fn update(self, table: &str, condition: impl IntoIterator<Item = Clause>, row: Row) -> Self {
        self.push(json!({
            "op": "update", "table": table, "where": clauses(condition), "row": row.to_json(),
        }))
    }

    /// Changes columns of the matching rows in place (section 5.2.4), one mutation after the other.
    #[must_use]
    pub fn mutate<C: Into<String>, D: Into<Datum>>(
        self,
        table: &str,
        condition: impl IntoIterator<Item = Clause>,
        mutations: impl IntoIterator<Item = (C, Mutator, D)>,
    ) -> Self {
        let mutations: Vec<Value> = mutations
            .into_iter()
            .map(|(column, mutator, value)| json!([column.into(), mutator.name(), value.into().to_json()]))
            .collect();
        self.push(json!({
            "op": "mutate", "table": table, "where": clauses(condition), "mutations": mutations,
        }))
    }

    /// Sets keys of a map column, whether or not they are there, and leaves the other keys alone: a mutate
    /// that deletes the keys and inserts the pairs.
    #[must_use]
    pub fn set_keys<K: Into<Atom>, V: Into<Atom>>(
        self,
        table: &str,
        condition: impl IntoIterator<Item = Clause>,
        column: &str,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let Datum::Map(pairs) = Datum::map(pairs) else { return self };
        let keys = Datum::set(pairs.keys().cloned());
        let mutations = [(column, Mutator::Delete, keys), (column, Mutator::Insert, Datum::Map(pairs))];
        self.mutate(table, condition, mutations)
    }

    /// Removes keys from a map column, whatever their values.
    #[must_use]
    pub fn delete_keys<K: Into<Atom>>(
        self,
        table: &str,
        condition: impl IntoIterator<Item = Clause>,
        column: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Self {
        self.mutate(table, condition, [(column, Mutator::Delete, Datum::set(keys))])
    }

    /// Removes pairs from a map column: a key that has another value by now stays.
    #[must_use]
    pub fn delete_pairs<K: Into<Atom>, V: Into<Atom>>(
        self,
        table: &str,
        condition: impl IntoIterator<Item = Clause>,
        column: &str,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.mutate(table, condition, [(column, Mutator::Delete, Datum::map(pairs))])
    }

    /// Deletes the matching rows (section 5.2.5).
    #[must_use]
    pub fn delete(self, table: &str, condition: impl IntoIterator<Item = Clause>) -> Self {
        self.push(json!({ "op": "delete", "table": table, "where": clauses(condition) }))
    }

    /// Reads columns of the matching rows (section 5.2.2); every column when none is named.
    #[must_use]
    pub fn select<C: Into<String>>(
        mut self,
        table: &str,
        condition: impl IntoIterator<Item = Clause>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let mut json = json!({ "op": "select", "table": table, "where": clauses(condition) });
        let columns = names(columns);
        if !columns.is_empty() {
            json["columns"] = json!(columns);
        }
        self.operations.push(Operation { json, selects: Some(table.to_owned()) });
        self
    }

    fn push(mut self, json: Value) -> Self {
        self.operations.push(Operation { json, selects: None });
        self
    }

    /// The `params` of the request.
    pub(crate) fn params(&self, database: &str) -> Value {
        let operations = self.operations.iter().map(|operation| &operation.json);
        std::iter::once(&json!(database)).chain(operations).cloned().collect()
    }

    /// Reads the `result` of the reply (section 4.1.3): one object per operation; an object with an `error`
    /// where one failed, `null` for those not tried; one error more where the commit failed.
    pub(crate) fn results(&self, result: &Value, schema: &Schema) -> Result<Vec<OpResult>, TransactError> {
        let malformed = |error: ParseError| TransactError::Unknown { reason: error.to_string() };
        let results = result.as_array().ok_or_else(|| malformed(ParseError::new("results", result)))?;
        for (index, result) in results.iter().enumerate() {
            if let Some(error) = result.get("error") {
                return Err(refusal((index < self.len()).then_some(index), error, result));
            }
        }
        if results.len() != self.len() {
            return Err(malformed(ParseError::new(format!("{} results", self.len()), result)));
        }
        let pairs = self.operations.iter().zip(results);
        pairs
            .map(|(operation, result)| operation.result(result, schema))
            .collect::<Result<_, _>>()
            .map_err(malformed)
    }
}

/// The error of a transaction that was not done, or of one whose fate a cluster does not know: a server that
/// passes it on can lose the one it passed it to.
pub(crate) fn refusal(op: Option<usize>, error: &Value, result: &Value) -> TransactError {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let details = result.get("details").map(text).unwrap_or_default();
    let error = text(error);
    match error.as_str() {
        "canceled" | "cluster error" => TransactError::Unknown { reason: format!("{error}: {details}") },
        _ => TransactError::Refused { op, error, details },
    }
}

impl Operation {
    fn result(&self, result: &Value, schema: &Schema) -> Result<OpResult, ParseError> {
        let object =
            result.as_object().ok_or_else(|| ParseError::new("the result of an operation", result))?;
        let mut parsed = OpResult {
            count: object.get("count").and_then(Value::as_u64).unwrap_or(0),
            ..OpResult::default()
        };
        if let Some(uuid) = object.get("uuid") {
            parsed.uuid = Atom::from_json(uuid, crate::schema::AtomicType::Uuid)?.as_uuid();
        }
        if let (Some(table), Some(Value::Array(rows))) = (&self.selects, object.get("rows")) {
            parsed.rows =
                rows.iter().map(|row| row_from_json(row, table, schema)).collect::<Result<_, _>>()?;
        }
        Ok(parsed)
    }
}

fn row_from_json(value: &Value, table: &str, schema: &Schema) -> Result<Row, ParseError> {
    let mut row = Row::new();
    for (column, value) in value.as_object().ok_or_else(|| ParseError::new("a row", value))? {
        let ty = schema
            .column(table, column)
            .ok_or_else(|| ParseError::new(format!("a row of {table}"), &json!(column)))?;
        row.set(column.as_str().into(), Datum::from_json(value, ty)?);
    }
    Ok(row)
}

fn clauses(condition: impl IntoIterator<Item = Clause>) -> Vec<Value> {
    condition.into_iter().map(|clause| clause.to_json()).collect()
}

fn names<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Vec<String> {
    columns.into_iter().map(Into::into).collect()
}

impl Mutator {
    /// As it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Subtract => "-=",
            Self::Multiply => "*=",
            Self::Divide => "/=",
            Self::Modulo => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}
