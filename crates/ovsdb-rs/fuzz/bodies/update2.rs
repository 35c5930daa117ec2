//! Rows come, change and go: the replica, which is told the differences, is what the model holds.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb_rs::fuzzing::Client;
use ovsdb_rs::{Datum, Row, TableMonitor};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::server;

/// A row of the model, in types of the standard library's.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    number: i64,
    text: Option<String>,
    set: BTreeSet<i64>,
    map: BTreeMap<String, i64>,
}

type Table = BTreeMap<u8, Model>;

/// Bytes as choices; zeros when there are no more.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn more(&self) -> bool {
        !self.0.as_slice().is_empty()
    }
}

pub(crate) fn check(data: &[u8]) {
    let mut choices = Choices(data.iter());
    let mut table = Table::new();
    let contents = json!({ "T": step(&mut table, &mut choices, "initial") });
    let mut client = Client::connected("D", vec![TableMonitor::new("T")]);
    while client.replica().generation == 0 {
        server::answer(&mut client, &schema(), &contents);
    }
    compare(&mut client, &table);
    while choices.more() {
        let updates = json!({ "T": step(&mut table, &mut choices, "insert") });
        let message = json!({
            "id": null, "method": "update3", "params": ["replica", Uuid::nil().to_string(), updates],
        });
        client.receive(message.to_string().as_bytes()).expect("an update as a server sends it");
        compare(&mut client, &table);
    }
}

fn schema() -> Value {
    let column = |ty: Value| json!({ "type": ty });
    json!({ "name": "D", "version": "1.0.0", "tables": { "T": { "columns": {
        "number": column(json!("integer")),
        "text": column(json!({ "key": "string", "min": 0, "max": 1 })),
        "set": column(json!({ "key": "integer", "min": 0, "max": "unlimited" })),
        "map": column(json!({ "key": "string", "value": "integer", "min": 0, "max": "unlimited" })),
    } } } })
}

/// Changes some rows; what a server would say of that, each row once.
fn step(table: &mut Table, choices: &mut Choices<'_>, insert: &str) -> Value {
    let before = table.clone();
    for _ in 0..=choices.next() % 4 {
        let key = choices.next() % 8;
        if choices.next().is_multiple_of(4) {
            table.remove(&key);
        } else {
            change(table.entry(key).or_default(), choices);
        }
    }
    let mut updates = Map::new();
    for key in before.keys().chain(table.keys()) {
        let update = match (before.get(key), table.get(key)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(old), Some(new)) => json!({ "modify": difference(old, new) }),
            (None, Some(new)) => json!({ insert: difference(&Model::default(), new) }),
            (Some(_), None) => json!({ "delete": null }),
            (None, None) => continue,
        };
        updates.insert(uuid(*key).to_string(), update);
    }
    Value::Object(updates)
}

fn change(row: &mut Model, choices: &mut Choices<'_>) {
    let (what, value) = (choices.next(), choices.next() % 16);
    let number = i64::from(value) - 8;
    match what % 8 {
        0 => row.number = number,
        1 => row.text = None,
        2 => row.text = Some("é\"\\".repeat(usize::from(value % 4))),
        3 => drop(row.set.insert(number)),
        4 => drop(row.set.remove(&number)),
        5 => drop(row.map.insert(format!("k{}", value % 4), number)),
        6 => drop(row.map.remove(&format!("k{}", value % 4))),
        _ => *row = Model::default(),
    }
}

/// The differing columns, as ovsdb-server(7) section 4.1.14 has it: the new value, or of a set the elements
/// and of a map the pairs that only one of the two has; of a key that both have, the new pair.
fn difference(old: &Model, new: &Model) -> Value {
    let mut columns = Map::new();
    if old.number != new.number {
        columns.insert("number".to_owned(), json!(new.number));
    }
    if old.text != new.text {
        let text = new.text.as_ref().map_or_else(|| json!(["set", []]), |text| json!(text));
        columns.insert("text".to_owned(), text);
    }
    if old.set != new.set {
        let elements: Vec<&i64> = old.set.symmetric_difference(&new.set).collect();
        columns.insert("set".to_owned(), json!(["set", elements]));
    }
    if old.map != new.map {
        let gone = old.map.iter().filter(|(key, _)| !new.map.contains_key(*key));
        let here = new.map.iter().filter(|(key, value)| old.map.get(*key) != Some(*value));
        let pairs: Vec<_> = gone.chain(here).collect();
        columns.insert("map".to_owned(), json!(["map", pairs]));
    }
    Value::Object(columns)
}

fn compare(client: &mut Client, table: &Table) {
    let replica = client.replica();
    assert_eq!(replica.table("T").count(), table.len());
    for (key, model) in table {
        let expected = Row::new()
            .with("number", model.number)
            .with("text", model.text.as_deref().map_or_else(Datum::empty, Datum::from))
            .with("set", Datum::set(model.set.iter().copied()))
            .with("map", Datum::map(model.map.iter().map(|(key, value)| (key.as_str(), *value))));
        assert_eq!(replica.get("T", &uuid(*key)), Some(&expected));
    }
}

fn uuid(key: u8) -> Uuid {
    // In buckets of their own, and together.
    Uuid::from_u128(u128::from(key % 4) << 120 | u128::from(key))
}
