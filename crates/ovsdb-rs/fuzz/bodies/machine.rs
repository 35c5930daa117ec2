//! Whatever a server says, at whatever point: an error or not, but no panic, and no answer out of proportion.

use ovsdb_rs::fuzzing::Client;
use ovsdb_rs::{Clause, TableMonitor};
use serde_json::json;

use crate::server;

/// The first byte says how many times the client's questions are answered before the rest is heard.
pub(crate) fn check(data: &[u8]) {
    let Some((&rounds, stream)) = data.split_first() else { return };
    let monitors = vec![
        TableMonitor::new("T"),
        TableMonitor::new("U").columns(["n", "newer"]).condition(vec![Clause::always()]),
    ];
    let mut client = Client::connected("D", monitors);
    let schema = json!({ "name": "D", "version": "1.0.0", "tables": {
        "T": { "columns": {
            "name": { "type": "string" },
            "set": { "type": { "key": "integer", "min": 0, "max": "unlimited" } },
            "map": { "type": { "key": "string", "value": "string", "min": 0, "max": "unlimited" } },
        } },
        "U": { "columns": { "n": { "type": { "key": "real", "min": 0, "max": 1 } } } },
    } });
    let contents = json!({ "T": { "6a6ae8e8-0001-4000-8000-000000000001": { "initial": { "name": "a" } } } });
    for _ in 0..rounds % 4 {
        server::answer(&mut client, &schema, &contents);
    }
    let generation = client.replica().generation;

    let _ = client.receive(stream);
    let sent = client.sent();
    // It answers each request, and asks a few things of its own; text can become six times as long, escaped.
    assert!(sent.len() <= 4096 + 64 * stream.len(), "{} bytes", sent.len());
    server::messages(&sent);
    client.disconnected();
    let replica = client.replica();
    assert!(replica.generation >= generation && !replica.connected);
}
