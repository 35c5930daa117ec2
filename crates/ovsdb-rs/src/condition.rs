//! Which rows: the clauses of a `where`, in a transaction or a monitor.

use serde_json::{Value, json};

use crate::datum::Datum;

/// One condition on a row (RFC 7047 section 5.1 `<condition>`, with the booleans of ovsdb-server(7)).
///
/// **An operation of a transaction takes the rows for which all of its clauses hold, a monitor those for
/// which any does.** Without a clause both take every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clause {
    /// A condition on a column.
    Column {
        /// Its name.
        column: String,
        /// How it is compared.
        function: Function,
        /// With what.
        value: Datum,
    },
    /// Every row (`true`) or none (`false`).
    Constant(bool),
}

/// `<function>` of RFC 7047 section 5.1. The order comparisons need a column of at most one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
    /// The column has all of these elements or pairs.
    Includes,
    /// The column has none of these elements or pairs.
    Excludes,
}

impl Clause {
    /// A condition on a column, such as `Clause::new("name", Function::Equal, "vm1")`.
    pub fn new(column: impl Into<String>, function: Function, value: impl Into<Datum>) -> Self {
        Self::Column { column: column.into(), function, value: value.into() }
    }

    /// Every row.
    pub const fn always() -> Self {
        Self::Constant(true)
    }

    /// No row, such as for a table of which nothing is wanted yet.
    pub const fn never() -> Self {
        Self::Constant(false)
    }

    /// The column that the clause is about.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Column { column, .. } => Some(column),
            Self::Constant(_) => None,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Column { column, function, value } => json!([column, function.name(), value.to_json()]),
            Self::Constant(value) => json!(value),
        }
    }
}

impl Function {
    /// As it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}
