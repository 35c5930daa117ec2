//! What has been written, in the order in which it was.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is written once: a second writer, and one that begins anew, finds it and keeps to it.
const ONCE: [&str; 8] = [
    "/spec/port",
    "/spec/from",
    "/spec/to",
    "/spec/mac",
    "/spec/guest",
    "/status/number",
    "/status/subject",
    "/status/restore",
];
/// What is wanted never goes back in this order.
const WANTS: [&str; 4] = ["Complete", "Abort", "Activate", "Return"];

/// Follows every state of every object and of every port's pin.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The last state of each object, by UID.
    last: BTreeMap<String, Value>,
    pins: BTreeMap<String, Vec<Option<String>>>,
    pub(super) contradictions: Vec<String>,
}

impl Ledger {
    /// Takes note of the next state of an object.
    pub(super) fn note(&mut self, object: Value) {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if let Some(before) = self.last.get(&uid) {
            let name = &object["metadata"]["name"];
            let found = contradictions(before, &object).into_iter().map(|what| format!("{name}: {what}"));
            self.contradictions.extend(found);
        }
        self.last.insert(uid, object);
    }

    /// Takes note of a port's `requested-chassis`.
    pub(super) fn note_pin(&mut self, port: &str, pin: Option<String>) {
        let pins = self.pins.entry(port.to_owned()).or_default();
        if pins.last() != Some(&pin) {
            pins.push(pin);
        }
    }

    pub(super) fn pins(&self, port: &str) -> Vec<Option<String>> {
        self.pins.get(port).cloned().unwrap_or_default()
    }
}

fn contradictions(before: &Value, after: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let steps = before.pointer("/status/steps").and_then(Value::as_object).unwrap_or(&empty).keys();
    let steps = steps.map(|step| format!("/status/steps/{step}"));
    let mut found = Vec::new();
    for field in ONCE.into_iter().map(str::to_owned).chain(steps) {
        let was = before.pointer(&field).filter(|was| **was != Value::Null && **was != 0);
        if let Some(was) = was
            && after.pointer(&field) != Some(was)
        {
            found.push(format!("{field} was {was} and is {:?}", after.pointer(&field)));
        }
    }
    let want = |object: &Value| WANTS.iter().position(|want| object["spec"]["want"] == *want);
    if want(after) < want(before) {
        found.push(format!("/spec/want was {} and is {}", before["spec"]["want"], after["spec"]["want"]));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_once_stays() {
        let object = |to: Value, want: &str, steps: Value| {
            json!({
                "metadata": { "uid": "u", "name": "m" }, "spec": { "to": to, "want": want },
                "status": { "number": 0, "steps": steps },
            })
        };
        let mut ledger = Ledger::default();
        ledger.note(object(Value::Null, "Complete", json!({ "Pinning": "1" })));
        ledger.note(object(json!("b"), "Return", json!({ "Pinning": "1", "Arming": "2" })));
        assert_eq!(ledger.contradictions, [""; 0]);
        ledger.note(object(json!("c"), "Abort", json!({ "Arming": "3" })));
        let [to, arming, pinning, want] = &ledger.contradictions[..] else { panic!("{ledger:?}") };
        assert!(to.contains("/spec/to") && arming.contains("Arming") && pinning.contains("Pinning"));
        assert!(want.contains("/spec/want"), "{want}");
        for pin in [None, Some("a"), Some("a"), None] {
            ledger.note_pin("p", pin.map(str::to_owned));
        }
        assert_eq!(ledger.pins("p").len(), 3);
    }
}
