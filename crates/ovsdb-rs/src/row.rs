//! One row, read through accessors that never panic.

use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::datum::{Atom, Datum};
use crate::pairs::Pairs;

/// The columns of a row. In a replica: those that are monitored and that the server's schema has.
///
/// A column of another type than the accessor's reads like a column that is not there, so that one accessor
/// serves every release of a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row(
    /// By column. Rows are many and their columns few: a sorted list is the smallest.
    Vec<(Arc<str>, Datum)>,
);

impl Row {
    /// Without any column.
    pub fn new() -> Self {
        Self::default()
    }

    /// The row with one more column, for an insert or update: `Row::new().with("name", "lsp0")`.
    #[must_use]
    pub fn with(mut self, column: &str, value: impl Into<Datum>) -> Self {
        self.set(column.into(), value.into());
        self
    }

    pub(crate) fn with_capacity(columns: usize) -> Self {
        Self(Vec::with_capacity(columns))
    }

    pub(crate) fn set(&mut self, column: Arc<str>, value: Datum) {
        match self.place(&column) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.0.insert(place, (column, value)),
        }
    }

    /// What it takes in a replica, in bytes: a little less than it really does.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.0.iter().map(|(_, datum)| size_of::<(Arc<str>, Datum)>() + datum.heap());
        size_of::<Uuid>() + size_of::<Self>() + columns.sum::<usize>()
    }

    fn place(&self, column: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(column))
    }

    pub(crate) fn datum_mut(&mut self, column: &str) -> Option<&mut Datum> {
        let place = self.place(column).ok()?;
        Some(&mut self.0.get_mut(place)?.1)
    }

    /// Whether the column is monitored and the server's schema has it.
    pub fn has(&self, column: &str) -> bool {
        self.place(column).is_ok()
    }

    /// The value of a column of any type.
    pub fn datum(&self, column: &str) -> Option<&Datum> {
        Some(&self.0.get(self.place(column).ok()?)?.1)
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
    /// The value if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// The value if this is an integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The value if this is a UUID.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(value) => Some(*value),
            _ => None,
        }
    }
}

/// A map of strings to strings, such as `external_ids` or `options`.
#[derive(Debug, Clone, Copy)]
pub struct StringMap<'a>(Option<&'a Pairs>);

impl<'a> StringMap<'a> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.0?.get(&Atom::from(key))?.as_str()
    }

    /// Whether there is such a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0
            .into_iter()
            .flat_map(Pairs::iter)
            .filter_map(|(key, value)| Some((key.as_str()?, value.as_str()?)))
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
