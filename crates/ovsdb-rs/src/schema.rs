//! The schema of a database, as `get_schema` returns it (RFC 7047 section 3.2).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::error::ParseError;

/// The part of a database schema that a client needs: which columns there are and of what type.
///
/// Constraints (ranges, enumerations, immutability) are the server's to enforce and are not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Of the database.
    pub name: String,
    /// `x.y.z`; empty where the server gives none (ovsdb-server(7), section 3.2).
    pub version: String,
    /// By name.
    pub tables: BTreeMap<String, TableSchema>,
}

/// The columns of one table, without the implicit `_uuid` and `_version`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSchema {
    /// By name.
    pub columns: BTreeMap<String, ColumnType>,
}

/// The type of a column (RFC 7047 section 3.2, `<type>`): between `min` and `max` values of `key`, each with
/// a `value` when the column is a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnType {
    /// The type of the elements, or of the keys of a map.
    pub key: BaseType,
    /// The type of the values of a map.
    pub value: Option<BaseType>,
    /// How many values there are at least: 0 or 1.
    pub min: u64,
    /// `None` is `"unlimited"`.
    pub max: Option<u64>,
}

/// The type of an atom, with the table it refers to when it is a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseType {
    /// What the atom is.
    pub atomic: AtomicType,
    /// The table of the rows that it refers to.
    pub ref_table: Option<String>,
}

/// `<atomic-type>` of RFC 7047 section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomicType {
    /// 64 bits, with a sign.
    Integer,
    /// IEEE 754, 64 bits.
    Real,
    /// True or false.
    Boolean,
    /// UTF-8.
    String,
    /// A row.
    Uuid,
}

impl Schema {
    /// Reads the result of `get_schema`, or the contents of an `.ovsschema` file.
    pub fn from_json(value: &Value) -> Result<Self, ParseError> {
        let schema = object(value, "a database schema")?;
        let mut tables = BTreeMap::new();
        for (name, table) in object(field(schema, "tables", "a database schema")?, "\"tables\"")? {
            tables.insert(name.clone(), TableSchema::from_json(table)?);
        }
        let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self { name: text("name"), version: text("version"), tables })
    }

    /// The type of a column; `None` when the table or the column does not exist.
    /// `_uuid` and `_version` exist in every table (RFC 7047 section 3.1).
    pub fn column(&self, table: &str, column: &str) -> Option<&ColumnType> {
        static IMPLICIT: ColumnType = ColumnType::scalar(AtomicType::Uuid);
        let table = self.tables.get(table)?;
        match column {
            "_uuid" | "_version" => Some(&IMPLICIT),
            _ => table.columns.get(column),
        }
    }
}

impl TableSchema {
    fn from_json(value: &Value) -> Result<Self, ParseError> {
        let table = object(value, "a table schema")?;
        let mut columns = BTreeMap::new();
        for (name, column) in object(field(table, "columns", "a table schema")?, "\"columns\"")? {
            let column = object(column, "a column schema")?;
            columns.insert(name.clone(), ColumnType::from_json(field(column, "type", "a column schema")?)?);
        }
        Ok(Self { columns })
    }
}

impl ColumnType {
    /// Exactly one value.
    pub const fn scalar(atomic: AtomicType) -> Self {
        Self { key: BaseType::plain(atomic), value: None, min: 1, max: Some(1) }
    }

    /// No value or one.
    pub const fn optional(atomic: AtomicType) -> Self {
        Self { key: BaseType::plain(atomic), value: None, min: 0, max: Some(1) }
    }

    /// Any number of values.
    pub const fn set(atomic: AtomicType) -> Self {
        Self { key: BaseType::plain(atomic), value: None, min: 0, max: None }
    }

    /// Any number of pairs.
    pub const fn map(key: AtomicType, value: AtomicType) -> Self {
        Self { key: BaseType::plain(key), value: Some(BaseType::plain(value)), min: 0, max: None }
    }

    /// Whether the values are pairs.
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// Whether a `modify` update carries the difference of this column rather than its new value
    /// (`ovsdb_type_is_composite` of lib/ovsdb-types.h).
    pub fn is_composite(&self) -> bool {
        self.max.is_none_or(|max| max > 1)
    }

    fn from_json(value: &Value) -> Result<Self, ParseError> {
        if value.is_string() {
            return Ok(Self::scalar(AtomicType::from_json(value)?));
        }
        let ty = object(value, "a column type")?;
        let min = match ty.get("min") {
            None => 1,
            Some(min) => min.as_u64().ok_or_else(|| ParseError::new("\"min\" of a column type", min))?,
        };
        let max = match ty.get("max") {
            None => Some(1),
            Some(Value::String(text)) if text == "unlimited" => None,
            Some(max) => Some(max.as_u64().ok_or_else(|| ParseError::new("\"max\" of a column type", max))?),
        };
        Ok(Self {
            key: BaseType::from_json(field(ty, "key", "a column type")?)?,
            value: ty.get("value").map(BaseType::from_json).transpose()?,
            min,
            max,
        })
    }
}

impl BaseType {
    const fn plain(atomic: AtomicType) -> Self {
        Self { atomic, ref_table: None }
    }

    fn from_json(value: &Value) -> Result<Self, ParseError> {
        if value.is_string() {
            return Ok(Self::plain(AtomicType::from_json(value)?));
        }
        let base = object(value, "a base type")?;
        Ok(Self {
            atomic: AtomicType::from_json(field(base, "type", "a base type")?)?,
            ref_table: base.get("refTable").and_then(Value::as_str).map(str::to_owned),
        })
    }
}

impl AtomicType {
    /// As it stands in a schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    fn from_json(value: &Value) -> Result<Self, ParseError> {
        match value.as_str() {
            Some("integer") => Ok(Self::Integer),
            Some("real") => Ok(Self::Real),
            Some("boolean") => Ok(Self::Boolean),
            Some("string") => Ok(Self::String),
            Some("uuid") => Ok(Self::Uuid),
            _ => Err(ParseError::new("an atomic type", value)),
        }
    }
}

impl fmt::Display for AtomicType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn object<'a>(value: &'a Value, expected: &'static str) -> Result<&'a Map<String, Value>, ParseError> {
    value.as_object().ok_or_else(|| ParseError::new(expected, value))
}

fn field<'a>(
    object: &'a Map<String, Value>,
    key: &str,
    expected: &'static str,
) -> Result<&'a Value, ParseError> {
    object.get(key).ok_or_else(|| ParseError::missing(expected, key))
}
