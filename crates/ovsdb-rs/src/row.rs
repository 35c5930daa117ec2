//! One row, read through accessors that never panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::datum::{Atom, Datum};

/// The columns of a row. In a replica: those that are monitored and that the server's schema has.
///
/// A column of another type than the accessor's reads like a column that is not there, so that one accessor
/// serves every release of a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row(BTreeMap<Arc<str>, Datum>);

impl Row {
    pub fn new() -> Self {
        Self::default()
    }

    /// The row with one more column, for an insert or update: `Row::new().with("name", "lsp0")`.
    #[must_use]
    pub fn with(mut self, column: &str, value: impl Into<Datum>) -> Self {
        self.set(column.into(), value.into());
        self
    }

    pub(crate) fn set(&mut self, column: Arc<str>, value: Datum) {
        self.0.insert(column, value);
    }

    pub(crate) fn datum_mut(&mut self, column: &str) -> Option<&mut Datum> {
        self.0.get_mut(column)
    }

    /// Whether the column is monitored and the server's schema has it.
    pub fn has(&self, column: &str) -> bool {
        self.0.contains_key(column)
    }

    pub fn datum(&self, column: &str) -> Option<&Datum> {
        self.0.get(column)
    }

    /// The columns and their values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.0.iter().map(|(column, datum)| (&**column, datum))
    }

    /// The value of a string, or of an optional string that is set.
    pub fn str(&self, column: &str) -> Option<&str> {
        self.scalar(column)?.as_str()
    }

    /// The value of an integer, or of an optional integer that is set.
    pub fn int(&self, column: &str) -> Option<i64> {
        self.scalar(column)?.as_int()
    }

    /// The value of a real, or of an optional real that is set.
    pub fn real(&self, column: &str) -> Option<f64> {
        match self.scalar(column)? {
            Atom::Real(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a boolean, or of an optional boolean that is set.
    pub fn bool(&self, column: &str) -> Option<bool> {
        match self.scalar(column)? {
            Atom::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a reference, or of an optional reference that is set.
    pub fn uuid(&self, column: &str) -> Option<Uuid> {
        self.scalar(column)?.as_uuid()
    }

    /// The strings of a set, in order.
    pub fn strs(&self, column: &str) -> impl Iterator<Item = &str> {
        self.atoms(column).filter_map(Atom::as_str)
    }

    /// The integers of a set, in order.
    pub fn ints(&self, column: &str) -> impl Iterator<Item = i64> {
        self.atoms(column).filter_map(Atom::as_int)
    }

    /// The references of a set, in order.
    pub fn uuids(&self, column: &str) -> impl Iterator<Item = Uuid> {
        self.atoms(column).filter_map(Atom::as_uuid)
    }

    /// A map of strings to strings; empty when there is none.
    pub fn map(&self, column: &str) -> StringMap<'_> {
        match self.datum(column) {
            Some(Datum::Map(pairs)) => StringMap(Some(pairs)),
            _ => StringMap(None),
        }
    }

    /// The value of one key in a map of strings to strings.
    pub fn map_get(&self, column: &str, key: &str) -> Option<&str> {
        self.map(column).get(key)
    }

    pub(crate) fn to_json(&self) -> Value {
        let columns = self.0.iter().map(|(column, datum)| (column.to_string(), datum.to_json()));
        Value::Object(columns.collect::<Map<_, _>>())
    }

    fn scalar(&self, column: &str) -> Option<&Atom> {
        self.datum(column)?.scalar()
    }

    fn atoms(&self, column: &str) -> impl Iterator<Item = &Atom> {
        self.datum(column).map_or_else(Default::default, Datum::atoms).iter()
    }
}

impl Atom {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(value) => Some(*value),
            _ => None,
        }
    }
}

/// A map of strings to strings, such as `external_ids` or `options`.
#[derive(Debug, Clone, Copy)]
pub struct StringMap<'a>(Option<&'a BTreeMap<Atom, Atom>>);

impl<'a> StringMap<'a> {
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.0?.get(&Atom::from(key))?.as_str()
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str()?, value.as_str()?)))
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
