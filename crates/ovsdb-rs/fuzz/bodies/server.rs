//! The other side of a connection: just enough of a server to load a replica.

use ovsdb_rs::Framer;
use ovsdb_rs::fuzzing::Client;
use serde_json::{Value, json};

/// Answers what the client has asked so far: with this schema, and with this as the first contents.
pub(crate) fn answer(client: &mut Client, schema: &Value, contents: &Value) {
    for request in messages(&client.sent()) {
        let params = &request["params"];
        let result = match request["method"].as_str() {
            Some("get_schema") => schema.clone(),
            Some("monitor_cond_since") => json!([false, params[3], contents]),
            _ => json!({}),
        };
        let reply = json!({ "id": request["id"], "result": result, "error": null });
        client.receive(reply.to_string().as_bytes()).expect("an answer as a server gives it");
    }
}

/// What the client sends must be whole messages.
pub(crate) fn messages(bytes: &[u8]) -> Vec<Value> {
    let mut framer = Framer::default();
    framer.push(bytes);
    std::iter::from_fn(|| framer.next_value().expect("a message of the client's")).collect()
}
