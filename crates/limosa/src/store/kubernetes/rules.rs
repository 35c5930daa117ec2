//! What the definition's validation rules let pass, evaluated as an API server of Kubernetes 1.25 or later does; the one
//! of the tests is older and passes over them.

use cel::{Context, Program};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::DEFINITION;

/// The rules of the `spec`, by message.
fn rules() -> Vec<(String, Program)> {
    let definition: CustomResourceDefinition = serde_saphyr::from_str(DEFINITION).unwrap();
    let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    let rules = schema.properties.unwrap()["spec"].x_kubernetes_validations.clone().unwrap();
    let compile = |rule: &str| Program::compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
    rules.into_iter().map(|rule| (rule.message.unwrap_or_default(), compile(&rule.rule))).collect()
}

/// The first words of the messages of the rules that refuse a change.
fn refused(old: &Value, new: &Value) -> Vec<String> {
    let mut context = Context::default();
    context.add_variable("self", cel::to_value(new).unwrap()).unwrap();
    context.add_variable("oldSelf", cel::to_value(old).unwrap()).unwrap();
    let fails = |program: &Program| program.execute(&context).unwrap() != cel::Value::Bool(true);
    let rules = rules();
    let failed = rules.iter().filter(|(_, program)| fails(program));
    failed.map(|(message, _)| message.split(';').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_definition_lets_pass_what_may_change_and_nothing_else() {
    let guest = |vm: &str| json!({ "vm": vm, "nic": "n", "migration": "m" });
    let spec = json!({ "port": "p", "from": "a", "want": "Complete" });
    let with = |base: &Value, field: &str, value: Value| {
        let mut spec = base.clone();
        spec[field] = value;
        spec
    };
    let full =
        with(&with(&with(&spec, "to", json!("b")), "mac", json!("02:00:00:00:00:01")), "guest", guest("v"));
    let returning = with(&full, "want", json!("Return"));
    let (port, from) = ("port cannot be changed", "from cannot be changed");
    let (mac, own) = ("mac cannot be changed", "guest cannot be changed");
    let (to, want) = ("to can be filled in once", "a migration on its way back does not turn round");
    let cases: [(&Value, Value, &[&str]); 17] = [
        (&spec, spec.clone(), &[]),
        (&full, full.clone(), &[]),
        (&spec, with(&spec, "to", json!("b")), &[]),
        (&spec, with(&spec, "want", json!("Abort")), &[]),
        (&full, with(&full, "want", json!("Activate")), &[]),
        (&full, returning.clone(), &[]),
        (&full, with(&full, "takeOver", json!(true)), &[]),
        (&spec, with(&spec, "port", json!("q")), &[port]),
        (&spec, with(&spec, "from", json!("c")), &[from]),
        (&spec, with(&spec, "mac", json!("02:00:00:00:00:01")), &[mac]),
        (&full, with(&full, "mac", json!("02:00:00:00:00:02")), &[mac]),
        (&spec, with(&spec, "guest", guest("v")), &[own]),
        (&full, with(&full, "guest", guest("w")), &[own]),
        (&full, with(&full, "to", json!("c")), &[to]),
        // Everything optional is taken away.
        (&full, spec.clone(), &[mac, own, to]),
        (&returning, full.clone(), &[want]),
        (&returning, with(&with(&returning, "want", json!("Abort")), "to", json!("c")), &[to, want]),
    ];
    for (old, new, refused_by) in cases {
        assert_eq!(refused(old, &new), refused_by, "{old} to {new}");
    }
}
