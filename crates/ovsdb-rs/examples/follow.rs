//! Prints every change of a table: `follow REMOTES DATABASE TABLE [COLUMNS [CA CERTIFICATE KEY]]`, the columns
//! separated by commas, all of them when they are empty.

use std::collections::BTreeMap;
use std::time::Duration;

use ovsdb_rs::{Options, Row, Session, TableMonitor, Tls, Uuid};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [remotes, database, table, rest @ ..] = arguments.as_slice() else {
        return Err("usage: follow REMOTES DATABASE TABLE [COLUMNS [CA CERTIFICATE KEY]]".into());
    };
    let columns = rest.first().map_or("", String::as_str).split(',').filter(|column| !column.is_empty());
    let mut options = Options::default();
    if let [_, ca, certificate, key] = rest {
        options.tls = Some(Tls::new(ca, certificate, key));
    }
    let monitors = vec![TableMonitor::new(table).columns(columns)];
    let session = Session::open_with(remotes.parse()?, database, monitors, options);
    session.ready(Duration::from_secs(10)).await?;
    let mut replicas = session.subscribe();
    let mut known: BTreeMap<Uuid, Row> = BTreeMap::new();
    loop {
        let replica = replicas.borrow_and_update().clone();
        println!("-- {} at generation {}", session.state().label(), replica.generation);
        known.retain(|uuid, _| {
            let stays = replica.get(table, uuid).is_some();
            if !stays {
                println!("- {uuid}");
            }
            stays
        });
        for (uuid, row) in replica.table(table) {
            let old = known.insert(*uuid, row.clone());
            if old.as_ref() != Some(row) {
                let mark = if old.is_some() { '~' } else { '+' };
                println!("{mark} {uuid}");
                for (column, value) in row.iter() {
                    if old.as_ref().and_then(|old| old.datum(column)) != Some(value) {
                        println!("      {column}: {}", value.to_json());
                    }
                }
            }
        }
        replicas.changed().await?;
    }
}
