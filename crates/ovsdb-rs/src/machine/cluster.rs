//! What a server says of itself in its `_Server` database (ovsdb-server(5)): whether it is one to stay with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::ConnectionError;
use crate::replica::{Table, Tables};
use crate::row::Row;
use crate::schema::{AtomicType, ColumnType};
use crate::updates::{Format, apply};

const DATABASES: &str = "Database";

/// The columns of `Database` that are looked at: the same in every release since OVS 2.9, the first with any.
const COLUMNS: [(&str, ColumnType); 6] = [
    ("name", ColumnType::scalar(AtomicType::String)),
    ("model", ColumnType::scalar(AtomicType::String)),
    ("connected", ColumnType::scalar(AtomicType::Boolean)),
    ("leader", ColumnType::scalar(AtomicType::Boolean)),
    ("cid", ColumnType::optional(AtomicType::Uuid)),
    ("index", ColumnType::optional(AtomicType::Integer)),
];

/// What the rows of `_Server` may take, in bytes: a server has a handful of databases.
const MAX_SERVER: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Cluster {
    database: String,
    leader_only: bool,
    /// Of the server that we are connected to.
    databases: Tables,
    /// Whether it had ours.
    found: bool,
    /// The cluster and the last index of its log that was seen on any connection.
    newest: Option<(Uuid, u64)>,
}

impl Cluster {
    pub(super) fn new(database: String, leader_only: bool) -> Self {
        Self { database, leader_only, databases: Tables::new(), found: false, newest: None }
    }

    /// A new connection: what the last server said counts no more.
    pub(super) fn connected(&mut self) {
        let columns = COLUMNS.map(|(column, ty)| (Arc::from(column), ty));
        self.databases = BTreeMap::from([(DATABASES.to_owned(), Arc::new(Table::new(columns.into())))]);
        self.found = false;
    }

    /// The parameters of a plain `monitor`, which every server understands.
    pub(super) fn monitor_params(name: &str) -> Value {
        json!(["_Server", name, { DATABASES: [{ "columns": COLUMNS.map(|(column, _)| column) }] }])
    }

    /// Takes the first contents or an update of them; an error is a reason to leave the server.
    pub(super) fn update(&mut self, updates: &RawValue) -> Result<(), ConnectionError> {
        apply(&mut self.databases, Format::Rows, updates, MAX_SERVER)?;
        let database = self.databases.get(DATABASES).and_then(|table| {
            table.rows().find(|(_, row)| row.str("name") == Some(&self.database)).map(|(_, row)| row.clone())
        });
        match database {
            Some(row) => {
                self.found = true;
                self.check(&row)
            }
            None if self.found => {
                Err(ConnectionError::Protocol("the server no longer serves the database".to_owned()))
            }
            // `get_schema` will say so.
            None => Ok(()),
        }
    }

    fn check(&mut self, row: &Row) -> Result<(), ConnectionError> {
        let model = row.str("model");
        if !matches!(model, Some("clustered" | "relay")) {
            return Ok(());
        }
        if row.bool("connected") != Some(true) {
            return Err(ConnectionError::NotInCluster);
        }
        // A relay is no leader of anything.
        if self.leader_only && (model == Some("relay") || row.bool("leader") != Some(true)) {
            return Err(ConnectionError::NotLeader);
        }
        let index = row.int("index").and_then(|index| u64::try_from(index).ok());
        let (Some(cluster), Some(index)) = (row.uuid("cid"), index) else { return Ok(()) };
        match self.newest {
            // A cluster that was set up anew counts from the start.
            Some((known, seen)) if known == cluster && index < seen => {
                Err(ConnectionError::Stale { index, seen })
            }
            _ => {
                self.newest = Some((cluster, index));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "6a6ae8e8-0001-4000-8000-0000000000c1";
    const ROW: &str = "6a6ae8e8-0001-4000-8000-000000000001";

    fn clustered(leader: bool, connected: bool, cluster: &str, index: u64) -> Value {
        json!({
            "name": "D", "model": "clustered", "connected": connected, "leader": leader,
            "cid": ["uuid", cluster], "index": index,
        })
    }

    /// What a connection to a server that starts with this row comes to.
    fn connect(cluster: &mut Cluster, row: Value) -> Result<(), ConnectionError> {
        cluster.connected();
        update(cluster, json!({ "new": row }))
    }

    fn update(cluster: &mut Cluster, update: Value) -> Result<(), ConnectionError> {
        let updates = json!({ "Database": { ROW: update } }).to_string();
        cluster.update(&RawValue::from_string(updates).unwrap())
    }

    #[test]
    fn the_leader_is_stayed_with_as_long_as_it_is_one() {
        let mut cluster = Cluster::new("D".to_owned(), true);
        let follower = connect(&mut cluster, clustered(false, true, CLUSTER, 5));
        assert_eq!(follower, Err(ConnectionError::NotLeader));
        let cut_off = connect(&mut cluster, clustered(true, false, CLUSTER, 5));
        assert_eq!(cut_off, Err(ConnectionError::NotInCluster));
        connect(&mut cluster, clustered(true, true, CLUSTER, 5)).unwrap();
        let deposed = json!({ "old": { "leader": true }, "new": clustered(false, true, CLUSTER, 6) });
        assert_eq!(update(&mut cluster, deposed), Err(ConnectionError::NotLeader));
    }

    #[test]
    fn any_server_will_do_that_is_not_behind() {
        let mut cluster = Cluster::new("D".to_owned(), false);
        connect(&mut cluster, clustered(false, true, CLUSTER, 5)).unwrap();
        let stale = connect(&mut cluster, clustered(true, true, CLUSTER, 4));
        assert_eq!(stale, Err(ConnectionError::Stale { index: 4, seen: 5 }));
        connect(&mut cluster, clustered(false, true, CLUSTER, 5)).unwrap();
        let another = "6a6ae8e8-0001-4000-8000-0000000000c2";
        connect(&mut cluster, clustered(false, true, another, 1)).unwrap();
    }

    #[test]
    fn a_relay_is_not_a_leader_and_a_standalone_server_needs_none() {
        let relay = json!({ "name": "D", "model": "relay", "connected": true, "leader": false });
        let standalone = json!({ "name": "D", "model": "standalone", "connected": true, "leader": true });
        let mut cluster = Cluster::new("D".to_owned(), true);
        assert_eq!(connect(&mut cluster, relay.clone()), Err(ConnectionError::NotLeader));
        connect(&mut cluster, standalone).unwrap();
        let removed = update(&mut cluster, json!({ "old": {} }));
        assert_eq!(removed.unwrap_err().label(), "protocol");
        connect(&mut Cluster::new("D".to_owned(), false), relay).unwrap();
        connect(&mut Cluster::new("other".to_owned(), true), clustered(false, true, CLUSTER, 1)).unwrap();
    }
}
