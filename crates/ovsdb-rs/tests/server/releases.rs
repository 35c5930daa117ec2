//! Releases of OVN whose schemas differ: what one lacks is a feature that is off.

use std::collections::BTreeMap;

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
        up: Option<bool>,
        requested_chassis: Option<Uuid>,
        additional_chassis: Vec<Uuid>,
        requested_additional_chassis: Vec<Uuid>,
        mirror_port: Option<String>,
    }

    struct DatapathBinding in "Datapath_Binding" {
        tunnel_key: i64,
        // Before there was this column, in external_ids.
        nb_uuid: Option<Uuid>,
        external_ids: BTreeMap<String, String>,
    }

    struct ChassisPrivate in "Chassis_Private" {
        name: String,
        nb_cfg: i64,
        nb_cfg_timestamp: i64,
    }
}

const PB: &str = PortBinding::TABLE;

/// Which release brought which of the columns above, or a whole table; the others have been there since 20.03 at
/// least, and none has ever had another type. So say OVN's own schemas of every release until 26.03.
const BROUGHT: [(&str, &str, &[&str]); 6] = [
    ("20.09", ChassisPrivate::TABLE, &[]),
    ("21.03", PB, &["up"]),
    ("21.12", PB, &["requested_chassis"]),
    ("22.06", PB, &["additional_chassis", "requested_additional_chassis"]),
    ("25.09", PB, &["mirror_port"]),
    ("25.09", DatapathBinding::TABLE, &["nb_uuid"]),
];

/// The southbound schema of a release, made of the installed one (OVN 22.06 or later), and what it lacks.
fn release(version: &str) -> (Value, Missing) {
    let (mut schema, mut missing) = (schema(SB_SCHEMA), Missing::default());
    for (table, column, key) in [(PB, "mirror_port", "string"), (DatapathBinding::TABLE, "nb_uuid", "uuid")] {
        let ty = json!({ "type": { "key": key, "min": 0, "max": 1 } });
        columns(&mut schema, table).entry(column).or_insert(ty);
    }
    for (_, table, brought) in BROUGHT.iter().filter(|(since, ..)| *since > version) {
        if brought.is_empty() {
            schema["tables"].as_object_mut().unwrap().remove(*table).expect("the table is there");
            missing.tables.insert((*table).to_owned());
        }
        for column in *brought {
            columns(&mut schema, table).remove(*column).expect("the column is there");
            missing.columns.insert(((*table).to_owned(), (*column).to_owned()));
        }
    }
    (schema, missing)
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

#[tokio::test]
async fn every_release_of_ovn_is_read_as_far_as_it_goes() {
    for version in ["20.06", "20.12", "22.03", "22.06", "23.03", "25.03", "26.03"] {
        let (schema, missing) = release(version);
        let (session, binding) = bound(&schema).await;
        assert_eq!(session.missing_columns(), missing, "{version}");
        assert_eq!((binding.up, binding.additional_chassis.len(), binding.mirror_port), (None, 0, None));
        let replica = session.replica();
        assert!(replica.has_column(PB, "chassis"));
        for (since, table, columns) in BROUGHT {
            assert_eq!(replica.has_table(table), !missing.tables.contains(table), "{version} {table}");
            for column in columns {
                assert_eq!(replica.has_column(table, column), since <= version, "{version} {table} {column}");
            }
        }
    }
}

#[tokio::test]
async fn a_column_of_another_type_is_as_good_as_none() {
    let (mut schema, _) = release("26.03");
    let set = json!({ "key": "integer", "min": 0, "max": "unlimited" });
    for (table, column, ty) in [
        (PB, "up", json!("string")),
        (PB, "mirror_port", set),
        // A scalar is an optional value that is always there.
        (DatapathBinding::TABLE, "nb_uuid", json!("uuid")),
    ] {
        columns(&mut schema, table).insert(column.to_owned(), json!({ "type": ty }));
    }
    let (session, binding) = bound(&schema).await;
    let other_type = ["mirror_port", "up"].map(|column| (PB.to_owned(), column.to_owned())).into();
    assert_eq!(session.missing_columns(), Missing { other_type, ..Missing::default() });
    assert_eq!((binding.up, binding.mirror_port), (None, None));
    assert!(!session.replica().has_column(PB, "up"));
}
