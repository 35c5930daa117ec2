//! Releases of OVN whose schemas differ: what one lacks is a feature that is off.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb_rs::{Missing, Session, TableMonitor, Transaction, Typed};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{SB, SB_SCHEMA, Server, open, schema};

ovsdb_rs::table! {
    /// Every column that a program might use, whichever release brought it.
    struct PortBinding in "Port_Binding" {
        logical_port: String,
        r#type: String,
        tunnel_key: i64,
        tag: Option<i64>,
        chassis: Option<Uuid>,
        mac: Vec<String>,
        options: BTreeMap<String, String>,
        // OVN 21.03
        up: Option<bool>,
        // OVN 21.12
        requested_chassis: Option<Uuid>,
        // OVN 22.09
        additional_chassis: Vec<Uuid>,
        requested_additional_chassis: Vec<Uuid>,
        // OVN 25.09
        mirror_port: Option<String>,
    }
}

ovsdb_rs::table! {
    struct DatapathBinding in "Datapath_Binding" {
        tunnel_key: i64,
        // OVN 26.03; until then in external_ids.
        nb_uuid: Option<Uuid>,
        external_ids: BTreeMap<String, String>,
    }
}

ovsdb_rs::table! {
    struct ChassisPrivate in "Chassis_Private" {
        name: String,
        nb_cfg: i64,
        // OVN 20.09
        nb_cfg_timestamp: i64,
    }
}

/// The southbound schema of a release: the installed one, of OVN 22.09 or later, without these columns and
/// with those.
fn release(gone: &[(&str, &[&str])], new: &[(&str, &str, Value)]) -> Value {
    let mut schema = schema(SB_SCHEMA);
    // The installed one may be newer than the release.
    for (table, column) in [("Port_Binding", "mirror_port"), ("Datapath_Binding", "nb_uuid")] {
        columns(&mut schema, table).remove(column);
    }
    for (table, removed) in gone {
        if removed.is_empty() {
            schema["tables"].as_object_mut().unwrap().remove(*table).expect("the table is there");
        }
        for column in *removed {
            columns(&mut schema, table).remove(*column).expect("the column is there");
        }
    }
    for (table, column, ty) in new {
        columns(&mut schema, table).insert((*column).to_owned(), json!({ "type": ty }));
    }
    schema
}

fn columns<'a>(schema: &'a mut Value, table: &str) -> &'a mut serde_json::Map<String, Value> {
    schema["tables"][table]["columns"].as_object_mut().unwrap()
}

/// Opens a session on such a database, binds a port there, and reads it back.
async fn bound(schema: &Value) -> (Session, PortBinding) {
    let server = Server::start_with(schema);
    let monitors = vec![
        TableMonitor::of::<PortBinding>(),
        TableMonitor::of::<DatapathBinding>(),
        TableMonitor::of::<ChassisPrivate>(),
    ];
    let session = open(&server.remote(), SB, monitors).await;
    let datapath = r#"{"op":"insert","table":"Datapath_Binding","uuid-name":"dp","row":{"tunnel_key":3}}"#;
    let port = r#"{"op":"insert","table":"Port_Binding","row":{"logical_port":"p","tunnel_key":7,"tag":5,
        "type":"vtep","datapath":["named-uuid","dp"],"mac":["set",["b","a"]],"options":["map",[["k","v"]]]}}"#;
    let transaction = format!(r#"["{SB}",{datapath},{port}]"#);
    crate::fixture::run("ovsdb-client", ["--timeout=10", "transact", &server.remote(), &transaction]);
    session.transact(Transaction::new().comment("everything before this")).await.unwrap();
    let replica = session.replica();
    let bindings: Vec<PortBinding> = replica.rows().collect();
    let [binding] = bindings.as_slice() else { panic!("{bindings:?}") };
    assert_eq!((binding.logical_port.as_str(), binding.r#type.as_str()), ("p", "vtep"));
    assert_eq!((binding.tunnel_key, binding.tag, binding.chassis), (7, Some(5), None));
    assert_eq!(binding.mac, ["a", "b"]);
    assert_eq!(binding.options, BTreeMap::from([("k".to_owned(), "v".to_owned())]));
    assert_eq!(replica.row(&binding.uuid).as_ref(), Some(binding));
    let datapaths: Vec<i64> = replica.rows().map(|datapath: DatapathBinding| datapath.tunnel_key).collect();
    assert_eq!(datapaths, [3]);
    (session, binding.clone())
}

fn missing(tables: &[&str], columns: &[(&str, &str)], other_type: &[(&str, &str)]) -> Missing {
    let pairs = |pairs: &[(&str, &str)]| -> BTreeSet<(String, String)> {
        pairs.iter().map(|(table, column)| ((*table).to_owned(), (*column).to_owned())).collect()
    };
    Missing {
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        columns: pairs(columns),
        other_type: pairs(other_type),
    }
}

const PB: &str = PortBinding::TABLE;
const BIND_TWICE: [&str; 3] = ["additional_chassis", "requested_additional_chassis", "requested_chassis"];

#[tokio::test]
async fn ovn_20_12_cannot_bind_a_port_twice() {
    let gone =
        ["up", "additional_chassis", "additional_encap", "requested_chassis", "requested_additional_chassis"];
    let (session, binding) = bound(&release(&[(PB, &gone)], &[])).await;
    let mut lacks: Vec<_> = BIND_TWICE.map(|column| (PB, column)).to_vec();
    lacks.extend([(PB, "up"), (PB, "mirror_port"), (DatapathBinding::TABLE, "nb_uuid")]);
    assert_eq!(session.missing_columns(), missing(&[], &lacks, &[]));
    assert_eq!((binding.up, binding.additional_chassis.len()), (None, 0));
    let replica = session.replica();
    assert!(BIND_TWICE.iter().all(|column| !replica.has_column(PB, column)));
    assert!(replica.has_column(PB, "chassis"));
}

#[tokio::test]
async fn before_ovn_20_09_there_is_no_chassis_private() {
    let gone: [(&str, &[&str]); 2] = [(ChassisPrivate::TABLE, &[]), (PB, &["up"])];
    let (session, _) = bound(&release(&gone, &[])).await;
    assert_eq!(session.missing_columns().tables, BTreeSet::from([ChassisPrivate::TABLE.to_owned()]));
    assert_eq!(session.replica().rows::<ChassisPrivate>().count(), 0);
}

#[tokio::test]
async fn ovn_25_03_binds_a_port_twice() {
    let (session, _) = bound(&release(&[], &[])).await;
    let lacks = [(PB, "mirror_port"), (DatapathBinding::TABLE, "nb_uuid")];
    assert_eq!(session.missing_columns(), missing(&[], &lacks, &[]));
    let replica = session.replica();
    assert!(BIND_TWICE.iter().all(|column| replica.has_column(PB, column)));
}

#[tokio::test]
async fn ovn_26_03_lacks_nothing() {
    let optional = |ty: &str| json!({ "key": ty, "min": 0, "max": 1 });
    let new = [
        (PB, "mirror_port", optional("string")),
        (DatapathBinding::TABLE, "type", optional("string")),
        (DatapathBinding::TABLE, "nb_uuid", optional("uuid")),
    ];
    let (session, binding) = bound(&release(&[], &new)).await;
    assert_eq!((session.missing_columns(), binding.mirror_port), (Missing::default(), None));
}

#[tokio::test]
async fn a_column_of_another_type_is_as_good_as_none() {
    let set = json!({ "key": "integer", "min": 0, "max": "unlimited" });
    let new = [
        (PB, "up", json!("string")),
        (PB, "mirror_port", set),
        (DatapathBinding::TABLE, "nb_uuid", json!("uuid")),
    ];
    let (session, binding) = bound(&release(&[], &new)).await;
    // A scalar is an optional value that is always there.
    assert_eq!(session.missing_columns(), missing(&[], &[], &[(PB, "mirror_port"), (PB, "up")]));
    assert_eq!((binding.up, binding.mirror_port), (None, None));
    assert!(!session.replica().has_column(PB, "up"));
}
