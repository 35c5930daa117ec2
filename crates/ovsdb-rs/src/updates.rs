//! Updates of monitored tables, applied row by row as they are read: of a first message of 100 MB there is
//! never more in memory than its text and the rows.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::{ConnectionError, ParseError};
use crate::replica::{Table, Tables};

/// How a server writes updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `<table-updates>` of RFC 7047 section 4.1.6: rows before and after.
    Rows,
    /// `<table-updates2>` of ovsdb-server(7) section 4.1.14: differences.
    Differences,
}

/// Applies updates, until the rows of all tables take more than `max` bytes. After an error the tables are of no
/// more use: ours and the server's idea of them differ.
pub(crate) fn apply(
    tables: &mut Tables,
    format: Format,
    updates: &RawValue,
    max: usize,
) -> Result<(), ConnectionError> {
    let mut deserializer = serde_json::Deserializer::from_str(updates.get());
    let mut too_large = false;
    let applied =
        TableUpdates { tables, format, max, too_large: &mut too_large }.deserialize(&mut deserializer);
    applied.map_err(|error| match too_large {
        true => ConnectionError::ReplicaTooLarge(max),
        false => ConnectionError::Protocol(error.to_string()),
    })
}

struct TableUpdates<'a> {
    tables: &'a mut Tables,
    format: Format,
    max: usize,
    /// Whether that is what went wrong.
    too_large: &'a mut bool,
}

struct RowUpdates<'a> {
    table: &'a mut Table,
    format: Format,
    /// What the other tables leave to this one, in bytes.
    max: usize,
    too_large: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for TableUpdates<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TableUpdates<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("table updates")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut tables: A) -> Result<(), A::Error> {
        while let Some(name) = tables.next_key::<String>()? {
            let unknown = || A::Error::custom(format_args!("an update of {name:?}, which is not monitored"));
            let all: usize = self.tables.values().map(|table| table.bytes()).sum();
            let table = Arc::make_mut(self.tables.get_mut(&name).ok_or_else(unknown)?);
            let max = self.max.saturating_sub(all - table.bytes());
            let too_large = &mut *self.too_large;
            tables.next_value_seed(RowUpdates { table, format: self.format, max, too_large })?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for RowUpdates<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowUpdates<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("row updates")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(uuid) = rows.next_key::<String>()? {
            let uuid = Uuid::try_parse(&uuid)
                .map_err(|_| A::Error::custom(format_args!("{uuid:?} where a row's UUID must be")))?;
            let update = rows.next_value::<Value>()?;
            let applied = match self.format {
                Format::Rows => self.table.apply_rows(uuid, &update),
                Format::Differences => self.table.apply_difference(uuid, &update),
            };
            applied.map_err(|error: ParseError| A::Error::custom(error))?;
            if self.table.bytes() > self.max {
                *self.too_large = true;
                return Err(A::Error::custom("too large"));
            }
        }
        Ok(())
    }
}
