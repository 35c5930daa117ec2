//! A schema, and values read by the types of its columns.

use ovsdb_rs::{Datum, Framer, Schema};

/// A stream of values: the schema, and what to read as a value of each of its columns.
pub(crate) fn check(data: &[u8]) {
    let mut framer = Framer::new(data.len());
    framer.push(data);
    let Ok(Some(first)) = framer.next_value() else { return };
    let schema = match Schema::from_json(&first) {
        Ok(schema) => schema,
        // An excerpt of what was there, however much that was.
        Err(error) => return assert!(error.to_string().len() < 4096, "{error}"),
    };
    let mut values = Vec::new();
    while let Ok(Some(value)) = framer.next_value() {
        values.push(value);
    }
    for (name, table) in &schema.tables {
        for (column, ty) in &table.columns {
            assert!(schema.column(name, column).is_some());
            let default = Datum::default_of(ty);
            assert_eq!(Datum::from_json(&default.to_json(), ty).as_ref(), Ok(&default));
            for value in &values {
                if let Ok(datum) = Datum::from_json(value, ty) {
                    assert_eq!(Datum::from_json(&datum.to_json(), ty).as_ref(), Ok(&datum));
                }
            }
        }
    }
}
