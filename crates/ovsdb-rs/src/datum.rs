//! Values of columns and their JSON form (RFC 7047 section 5.1, Notation).

use std::cmp::Ordering;

use serde_json::{Number, Value, json};
use uuid::Uuid;

use crate::error::ParseError;
use crate::pairs::{Pairs, toggle};
use crate::schema::{AtomicType, BaseType, ColumnType};

/// `<atom>`: one value. Atoms are ordered by type, then by value (reals by IEEE 754 total order).
#[derive(Debug, Clone)]
pub enum Atom {
    /// `<integer>`
    Integer(i64),
    /// A number that is not finite has no JSON form; it is sent as `null`, which the server refuses.
    Real(f64),
    /// `<boolean>`
    Boolean(bool),
    /// `<string>`
    String(String),
    /// `<uuid>`: the row, or a reference to one.
    Uuid(Uuid),
    /// A row that the same transaction inserts under this name. Never found in a replica.
    NamedUuid(String),
}

/// `<value>`: what a column holds. A scalar is a set of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datum {
    /// Sorted and without duplicates, as every constructor here leaves it.
    Set(Vec<Atom>),
    /// By key.
    Map(Pairs),
}

impl Atom {
    /// The value that a column has when none is given (RFC 7047 section 5.2.1).
    pub fn default_of(ty: AtomicType) -> Self {
        match ty {
            AtomicType::Integer => Self::Integer(0),
            AtomicType::Real => Self::Real(0.0),
            AtomicType::Boolean => Self::Boolean(false),
            AtomicType::String => Self::String(String::new()),
            AtomicType::Uuid => Self::Uuid(Uuid::nil()),
        }
    }

    /// As it stands in a message.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Integer(value) => json!(value),
            Self::Real(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
            Self::Boolean(value) => json!(value),
            Self::String(value) => json!(value),
            Self::Uuid(value) => json!(["uuid", value.to_string()]),
            Self::NamedUuid(name) => json!(["named-uuid", name]),
        }
    }

    /// Reads an atom of the given type. The type is needed: OVS writes the real 1.0 as `1`.
    pub fn from_json(value: &Value, ty: AtomicType) -> Result<Self, ParseError> {
        let atom = match ty {
            AtomicType::Integer => value.as_i64().map(Self::Integer),
            AtomicType::Real => value.as_f64().map(Self::Real),
            AtomicType::Boolean => value.as_bool().map(Self::Boolean),
            AtomicType::String => value.as_str().map(|text| Self::String(text.to_owned())),
            AtomicType::Uuid => match tagged(value) {
                Some(("uuid", Value::String(text))) => Uuid::try_parse(text).ok().map(Self::Uuid),
                Some(("named-uuid", Value::String(name))) => Some(Self::NamedUuid(name.clone())),
                _ => None,
            },
        };
        atom.ok_or_else(|| ParseError::new(format!("a value of type {ty}"), value))
    }

    /// What its text takes on the heap.
    fn heap(&self) -> usize {
        match self {
            Self::String(text) | Self::NamedUuid(text) => text.capacity(),
            _ => 0,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Integer(_) => 0,
            Self::Real(_) => 1,
            Self::Boolean(_) => 2,
            Self::String(_) => 3,
            Self::Uuid(_) => 4,
            Self::NamedUuid(_) => 5,
        }
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) | (Self::NamedUuid(a), Self::NamedUuid(b)) => a.cmp(b),
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Atom {}

macro_rules! atom_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Atom {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }

        impl From<$from> for Datum {
            fn from(value: $from) -> Self {
                Self::Set(vec![Atom::from(value)])
            }
        }
    )*};
}
atom_from!(
    i64 => Integer, f64 => Real, bool => Boolean, &str => String, &String => String, String => String,
    Uuid => Uuid,
);

impl From<Atom> for Datum {
    fn from(atom: Atom) -> Self {
        Self::Set(vec![atom])
    }
}

impl Datum {
    /// An empty set, which is also how an optional column is cleared.
    pub const fn empty() -> Self {
        Self::Set(Vec::new())
    }

    /// A set of any atoms: `Datum::set(["a", "b"])`, `Datum::set([uuid])`.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self::Set(atoms)
    }

    /// A map; of two pairs with the same key the later counts.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// A reference to a row inserted by the same transaction.
    pub fn named_uuid(name: impl Into<String>) -> Self {
        Self::Set(vec![Atom::NamedUuid(name.into())])
    }

    /// What it takes on the heap, in bytes.
    pub(crate) fn heap(&self) -> usize {
        match self {
            Self::Set(atoms) => size_of_val(atoms.as_slice()) + atoms.iter().map(Atom::heap).sum::<usize>(),
            Self::Map(pairs) => {
                pairs.iter().map(|(key, value)| size_of::<(Atom, Atom)>() + key.heap() + value.heap()).sum()
            }
        }
    }

    /// The value that a column has when none is given (RFC 7047 section 5.2.1).
    pub fn default_of(ty: &ColumnType) -> Self {
        match (&ty.value, ty.min) {
            (Some(_), _) => Self::Map(Pairs::default()),
            (None, 0) => Self::empty(),
            (None, _) => Self::Set(vec![Atom::default_of(ty.key.atomic)]),
        }
    }

    /// The only element of a set of one, which is what a scalar is.
    pub fn scalar(&self) -> Option<&Atom> {
        match self {
            Self::Set(atoms) => match atoms.as_slice() {
                [atom] => Some(atom),
                _ => None,
            },
            Self::Map(_) => None,
        }
    }

    /// The elements of a set; none for a map.
    pub fn atoms(&self) -> &[Atom] {
        match self {
            Self::Set(atoms) => atoms,
            Self::Map(_) => &[],
        }
    }

    /// The number of elements or pairs.
    pub fn len(&self) -> usize {
        match self {
            Self::Set(atoms) => atoms.len(),
            Self::Map(pairs) => pairs.len(),
        }
    }

    /// Whether there is no element and no pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As it stands in a message.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Set(atoms) => match atoms.as_slice() {
                [atom] => atom.to_json(),
                atoms => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            },
            Self::Map(pairs) => {
                let pairs: Vec<Value> =
                    pairs.iter().map(|(k, v)| json!([k.to_json(), v.to_json()])).collect();
                json!(["map", pairs])
            }
        }
    }

    /// Reads a value of a column of the given type. How many elements there are is not checked: a difference
    /// may have more or fewer than its column.
    pub fn from_json(value: &Value, ty: &ColumnType) -> Result<Self, ParseError> {
        match (&ty.value, tagged(value)) {
            (Some(value_type), Some(("map", Value::Array(pairs)))) => pairs
                .iter()
                .map(|pair| pair_from_json(pair, &ty.key, value_type))
                .collect::<Result<_, _>>()
                .map(Self::Map),
            (Some(_), _) => Err(ParseError::new("a map", value)),
            (None, Some(("set", Value::Array(atoms)))) => {
                let atoms = atoms.iter().map(|atom| Atom::from_json(atom, ty.key.atomic));
                Ok(Self::set(atoms.collect::<Result<Vec<_>, _>>()?))
            }
            (None, _) => Ok(Self::Set(vec![Atom::from_json(value, ty.key.atomic)?])),
        }
    }

    /// Applies what a `modify` update says of a column: the new value, or for a column that can hold more
    /// than one element the difference from the old one (ovsdb-server(7) section 4.1.14).
    pub(crate) fn apply(&mut self, diff: Self, ty: &ColumnType) {
        match (self, diff) {
            (Self::Set(atoms), Self::Set(diff)) if ty.is_composite() => toggle(atoms, diff),
            (Self::Map(pairs), Self::Map(diff)) if ty.is_composite() => pairs.apply(diff),
            (old, new) => *old = new,
        }
    }
}

fn pair_from_json(pair: &Value, key: &BaseType, value: &BaseType) -> Result<(Atom, Atom), ParseError> {
    match pair.as_array().map(Vec::as_slice) {
        Some([k, v]) => Ok((Atom::from_json(k, key.atomic)?, Atom::from_json(v, value.atomic)?)),
        _ => Err(ParseError::new("a pair of a map", pair)),
    }
}

/// `["tag", value]`, the form of everything that plain JSON cannot say.
fn tagged(value: &Value) -> Option<(&str, &Value)> {
    match value.as_array()?.as_slice() {
        [Value::String(tag), value] => Some((tag, value)),
        _ => None,
    }
}
