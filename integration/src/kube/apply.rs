//! Putting objects there, and waiting for them.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use crate::holder::within;

/// How long an object may take to become what is waited for. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Applies every object in `yaml` (documents, and lists of objects) by server-side apply, with force. An object of a
/// namespaced kind that names no namespace goes to `default`. A custom resource's definition serves when this returns.
///
/// # Errors
///
/// When the text is no YAML, when the server does not know a kind, or refuses an object.
pub async fn apply(client: &Client, yaml: &str) -> Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("read YAML")?;
    for document in documents {
        match document.get("items") {
            Some(Value::Array(items)) => {
                for item in items {
                    apply_one(client, item).await?;
                }
            }
            _ => apply_one(client, &document).await?,
        }
    }
    Ok(())
}

async fn apply_one(client: &Client, object: &Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object.clone()).context("read an object")?;
    let name = object.metadata.name.clone().context("an object without a name")?;
    let types = object.types.clone().context("an object without a kind")?;
    let what = format!("{} {name}", types.kind);
    let kind = GroupVersionKind::try_from(&types).with_context(|| format!("read the kind of {what}"))?;
    let (resource, capabilities) =
        pinned_kind(client, &kind).await.with_context(|| format!("look for the kind of {what}"))?;
    let api: Api<DynamicObject> = match (capabilities.scope, &object.metadata.namespace) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
    };
    let forced = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&name, &forced, &Patch::Apply(&object)).await.with_context(|| format!("apply {what}"))?;
    if types == TypeMeta::resource::<CustomResourceDefinition>() {
        let definitions = Api::all(client.clone());
        wait_for(&definitions, &name, "be served", conditions::is_crd_established()).await?;
    }
    Ok(())
}

/// Makes a namespace, unless it is there.
pub(super) async fn ensure_namespace(client: &Client, name: &str) -> Result<()> {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let api: Api<Namespace> = Api::all(client.clone());
    let forced = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &forced, &Patch::Apply(&object))
        .await
        .with_context(|| format!("make namespace {name}"))?;
    Ok(())
}

/// Makes a namespace with a name that nobody had before: a test's own. It stays as long as the server.
///
/// # Errors
///
/// When the server refuses.
pub async fn fresh_namespace(client: &Client) -> Result<String> {
    let object = serde_json::from_value(json!({ "metadata": { "generateName": "test-" } }))?;
    let api: Api<Namespace> = Api::all(client.clone());
    let made = api.create(&PostParams::default(), &object).await.context("make a namespace")?;
    made.metadata.name.context("a namespace without a name")
}

/// Waits until object `name` meets `condition`, which gets none while there is no such object. `what` says for a
/// person what it is to do. Returns it as it was then.
///
/// # Errors
///
/// When it does not within [`DEADLINE`]; the text has what it was last.
pub async fn wait_for<K>(
    api: &Api<K>,
    name: &str,
    what: &str,
    condition: impl Condition<K>,
) -> Result<Option<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let met = async {
        await_condition(api.clone(), name, condition).await.with_context(|| format!("watch {name}"))
    };
    match within(DEADLINE, &format!("{name} to {what}"), met).await {
        Ok(object) => Ok(object),
        Err(e) => Err(e.context(format!("last seen: {:?}", api.get_opt(name).await))),
    }
}
