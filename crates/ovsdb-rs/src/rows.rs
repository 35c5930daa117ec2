//! The rows of a table, so that a snapshot and the next one share almost all of them.

use std::sync::Arc;

use immutable_chunkmap::map::Map;
use uuid::Uuid;

use crate::row::Row;

/// Rows by UUID. A change copies the rows' pointers in one chunk and the way to it, if a snapshot still holds
/// those.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    map: Map<Uuid, Arc<Row>, CHUNK>,
    bytes: usize,
}

/// Pointers copied for a change, and the memory of a table of one row: small is good for both.
const CHUNK: usize = 32;

impl Rows {
    /// What they all take, by [`Row::bytes`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, uuid: &Uuid) -> Option<&Row> {
        self.map.get(uuid).map(|row| &**row)
    }

    /// By UUID, in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Uuid, &Row)> {
        self.map.into_iter().map(|(uuid, row)| (uuid, &**row))
    }

    /// Changes a row, if it is there. Only for a row that is: the way to it is copied in any case.
    pub(crate) fn change<T>(&mut self, uuid: &Uuid, edit: impl FnOnce(&mut Row) -> T) -> Option<T> {
        let row = self.map.get_mut_cow(uuid).map(Arc::make_mut)?;
        let before = row.bytes();
        let edited = edit(row);
        self.bytes = self.bytes - before + row.bytes();
        Some(edited)
    }

    pub(crate) fn insert(&mut self, uuid: Uuid, row: Row) {
        self.bytes += row.bytes();
        let old = self.map.insert_cow(uuid, Arc::new(row));
        self.bytes -= old.map_or(0, |old| old.bytes());
    }

    /// Whether the row was there.
    pub(crate) fn remove(&mut self, uuid: &Uuid) -> bool {
        let old = self.map.remove_cow(uuid);
        self.bytes -= old.as_ref().map_or(0, |old| old.bytes());
        old.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_the_original_changes_and_shares_the_rest() {
        let uuid = |first: u8, last: u8| {
            let mut bytes = [0; 16];
            (bytes[0], bytes[15]) = (first, last);
            Uuid::from_bytes(bytes)
        };
        let mut rows = Rows::default();
        for first in [200, 0, 100] {
            for last in [2, 1] {
                rows.insert(uuid(first, last), Row::new().with("n", i64::from(last)));
            }
        }
        let before = rows.clone();
        assert!(rows.remove(&uuid(100, 1)) && !rows.remove(&uuid(100, 3)));
        rows.change(&uuid(100, 2), |row| *row = Row::new().with("text", "x".repeat(1000))).unwrap();
        let order: Vec<Uuid> = before.iter().map(|(uuid, _)| *uuid).collect();
        assert_eq!(order.len(), 6);
        assert!(order.is_sorted());
        assert_eq!(before.get(&uuid(100, 2)).unwrap().int("n"), Some(2));
        assert_eq!(rows.get(&uuid(100, 2)).unwrap().int("n"), None);
        assert_eq!(rows.iter().count(), 5);
        let shared = |rows: &Rows| rows.map.get(&uuid(200, 1)).map(Arc::as_ptr);
        assert_eq!(shared(&before), shared(&rows));

        let sum = |rows: &Rows| rows.iter().map(|(_, row)| row.bytes()).sum::<usize>();
        assert_eq!((before.bytes(), rows.bytes()), (sum(&before), sum(&rows)));
        assert!(rows.bytes() > 1000, "{}", rows.bytes());
        rows.insert(uuid(100, 2), Row::new());
        assert_eq!(rows.bytes(), sum(&rows));
    }
}
