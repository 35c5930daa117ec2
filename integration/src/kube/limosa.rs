//! Limosa on the API server: the chart's definition, and what its agents and
//! controllers may do.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{apply, ensure_namespace, wait_for};

const DEFINITION: &str = include_str!("../../../charts/limosa/crds/portmigrations.yaml");
const RULES: [(&str, &str); 2] = [
    ("limosa-agent", include_str!("../../../charts/limosa/files/agent-rules.yaml")),
    ("limosa-controller", include_str!("../../../charts/limosa/files/controller-rules.yaml")),
];

/// Who the agents are.
pub const AGENT: &str = "system:serviceaccount:limosa:limosa-agent";
/// Who the controllers are.
pub const CONTROLLER: &str = "system:serviceaccount:limosa:limosa-controller";
/// Where both live.
pub const NAMESPACE: &str = "limosa";

/// Puts the definition there, unless it is, and the roles of both.
///
/// # Errors
///
/// When the server refuses, or the definition is not served in time.
pub async fn install(client: &Client) -> Result<()> {
    // A server of before Kubernetes 1.25 does not apply what it does not know; it leaves it out of what is created.
    let definition: CustomResourceDefinition =
        serde_saphyr::from_str(DEFINITION).context("read the definition")?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.metadata.name.clone().context("a definition without a name")?;
    match definitions.create(&PostParams::default(), &definition).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        created => drop(created.context("create the definition")?),
    }
    wait_for(&definitions, &name, "be served", is_crd_established()).await?;
    ensure_namespace(client, NAMESPACE).await?;
    for (name, rules) in RULES {
        let rules: Value = serde_saphyr::from_str(rules).context("read the rules")?;
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": name }, "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": NAMESPACE }],
        });
        apply(client, &role.to_string()).await?;
        apply(client, &binding.to_string()).await?;
    }
    Ok(())
}
