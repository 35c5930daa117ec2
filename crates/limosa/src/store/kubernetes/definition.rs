//! The definition of the resource, made from the Rust types; the file in `charts` is what comes out.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::schema::StructuralSchemaRewriter;
use limosa_protocol::object::{API_VERSION, KIND, Spec, Status};
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::{DEFINITION, resource};

const HEADER: &str = "# Made from the Rust types by `LIMOSA_RENEW=1 cargo test -p limosa definition`.\n";

/// Rules on a change of the spec, which servers before Kubernetes 1.25 do not know.
fn rules() -> Value {
    let fixed = |field: &str| {
        let rule = format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        );
        json!({ "rule": rule, "message": format!("{field} cannot be changed; ask for another migration") })
    };
    let always = |field: &str| {
        json!({
            "rule": format!("self.{field} == oldSelf.{field}"),
            "message": format!("{field} cannot be changed; ask for another migration"),
        })
    };
    json!([
        always("port"),
        always("from"),
        fixed("mac"),
        fixed("guest"),
        {
            "rule": "!has(oldSelf.to) || (has(self.to) && self.to == oldSelf.to)",
            "message": "to can be filled in once; abort this migration and ask for another",
        },
        {
            "rule": "oldSelf.want != 'Return' || self.want == 'Return'",
            "message": "a migration on its way back does not turn round; ask for another",
        },
    ])
}

fn column(name: &str, path: &str, description: &str, wide: bool) -> Value {
    let mut column = json!({ "name": name, "type": "string", "jsonPath": path, "description": description });
    if wide {
        column["priority"] = json!(1);
    }
    column
}

fn columns() -> Value {
    let message = |kind: &str| format!(".status.conditions[?(@.type==\"{kind}\")].message");
    let mut number =
        column("Number", ".status.number", "In the cookies of its flows, in hexadecimal there.", true);
    number["type"] = json!("integer");
    let mut age = column("Age", ".metadata.creationTimestamp", "Since when it has been asked for.", false);
    age["type"] = json!("date");
    json!([
        column("VM", ".spec.guest.vm", "The virtual machine.", false),
        column("NIC", ".spec.guest.nic", "Its network interface.", false),
        column("From", ".spec.from", "The chassis that the guest leaves.", false),
        column("To", ".spec.to", "The chassis that it goes to.", false),
        column("Phase", ".status.phase", "The last step that is done.", false),
        age,
        column("Port", ".spec.port", "The logical switch port.", true),
        number,
        column("Want", ".spec.want", "What is wanted of it.", true),
        column("Waiting", &message("Progressing"), "What it waits for.", true),
        column("Outcome", &message("Succeeded"), "How it ended.", true),
    ])
}

fn definition() -> Value {
    let (group, version) = API_VERSION.split_once('/').unwrap();
    let plural = resource().plural;
    let mut spec = schema::<Spec>();
    spec["x-kubernetes-validations"] = rules();
    let mut status = schema::<Status>();
    without_defaults(&mut status);
    status["description"] =
        json!("How far the migration has come: written by the controller, and below nodes by the agents.");
    let selectable = [".spec.port", ".spec.from", ".spec.to", ".status.phase"];
    let selectable = selectable.map(|path| json!({ "jsonPath": path }));
    let description = "One logical port on its way from one chassis to another. The spec says what is wanted; the status is written by the controller and, below nodes, by the agent of each chassis.";
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": plural,
                "singular": KIND.to_lowercase(),
                "shortNames": ["pmig"],
                "categories": ["limosa"],
            },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "selectableFields": selectable,
                "additionalPrinterColumns": columns(),
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "description": description,
                    "required": ["spec"],
                    "properties": { "spec": spec, "status": status },
                } },
            }],
        },
    })
}

/// The structural schema of a type, without anything about nulls: nobody writes them.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms.clear();
    });
    let generator = settings
        .with_transform(without_null)
        .with_transform(StructuralSchemaRewriter)
        .with_transform(RecursiveTransform(tidy))
        .into_generator();
    let mut schema = json!(generator.into_root_schema_for::<T>());
    schema.as_object_mut().unwrap().remove("title");
    schema
}

/// `Option<T>` is T, left out if there is none.
fn without_null(schema: &mut Schema) {
    transform_subschemas(&mut without_null, schema);
    let null = json!("null");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| *kind != null);
        if let [kind] = types.as_slice() {
            *schema.get_mut("type").unwrap() = kind.clone();
        }
    }
    let Some(Value::Array(any)) = schema.get("anyOf") else { return };
    let some: Vec<Value> = any.iter().filter(|any| any.get("type") != Some(&null)).cloned().collect();
    if let [Value::Object(only)] = some.as_slice() {
        schema.remove("anyOf");
        for (key, value) in only {
            let object = schema.ensure_object();
            // What is said of the field says more than what is said of its type.
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Enums whose values have a description each, formats that Kubernetes does not know, and line breaks of the source.
fn tidy(schema: &mut Schema) {
    if let Some(Value::Array(one)) = schema.get("oneOf")
        && let Some(values) = one.iter().map(|value| value.get("const").cloned()).collect::<Option<Vec<_>>>()
    {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), json!("string"));
        schema.insert("enum".to_owned(), json!(values));
    }
    if let Some(Value::String(format)) = schema.get("format")
        && !["date-time", "int32", "int64"].contains(&format.as_str())
    {
        schema.remove("format");
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("[`", "`").replace("`]", "`").split('\n').collect::<Vec<_>>().join(" ");
    }
}

/// Nobody asks for a status, and what is not there yet needs no value.
fn without_defaults(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("default");
            fields.values_mut().for_each(without_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

/// The API's types have floating-point bounds.
fn with_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(with_floats).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), with_floats(value))).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn the_definition_in_the_chart_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/limosa/crds/portmigrations.yaml");
    let made = format!("{HEADER}{}", serde_saphyr::to_string(&definition()).unwrap());
    if std::env::var_os("LIMOSA_RENEW").is_some() {
        std::fs::write(path, &made).unwrap();
    } else {
        assert!(made == DEFINITION, "{path} is not what the types say: renew it as its first line says");
    }
    // The API's own types take it without a loss.
    let read: CustomResourceDefinition = serde_saphyr::from_str(&made).unwrap();
    assert_eq!(with_floats(&json!(read)), with_floats(&definition()));
}
