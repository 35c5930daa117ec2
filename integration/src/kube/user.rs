//! Who may talk to an API server, as kubeconfig files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::{FIELD_MANAGER, ensure_namespace};

/// How a user of a service account is called.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// For how long a token of a service account serves, seconds: longer than any test.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// A kubeconfig as text: JSON, which YAML includes. `cluster` and `user` are the objects of that name in it.
pub(super) fn kubeconfig(cluster: &Value, user: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "lab", "cluster": cluster }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "user" } }],
        "current-context": "lab",
    })
    .to_string()
}

/// A client of who is named in the kubeconfig at `path`. It belongs to the runtime that makes it.
pub(super) async fn client(path: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("understand {}", path.display()))?;
    Client::try_from(config).context("make a client")
}

/// Writes a kubeconfig for `user` into `dir`, given the administrator's. A service account
/// (`system:serviceaccount:NAMESPACE:NAME`) is made and gets a token; anybody else is impersonated.
pub(super) async fn kubeconfig_for(dir: &Path, admin: &Path, user: &str) -> Result<PathBuf> {
    let path = dir.join(format!("{}.kubeconfig", user.replace([':', '/'], "_")));
    let file = std::fs::read_to_string(admin).with_context(|| format!("read {}", admin.display()))?;
    let mut config = serde_saphyr::from_str::<Value>(&file).context("read the administrator's kubeconfig")?;
    let account = user.strip_prefix(SERVICE_ACCOUNT).and_then(|account| account.split_once(':'));
    let current = &mut config["users"][0]["user"];
    match account {
        Some((namespace, name)) => {
            *current = json!({ "token": token(&client(admin).await?, namespace, name).await? });
        }
        None => {
            current["as"] = json!(user);
        }
    }
    std::fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// A token of a service account, which is made if there is none.
async fn token(client: &Client, namespace: &str, name: &str) -> Result<String> {
    ensure_namespace(client, namespace).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
    accounts
        .patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&account))
        .await
        .with_context(|| format!("make service account {namespace}/{name}"))?;
    let wanted: TokenRequest =
        serde_json::from_value(json!({ "spec": { "audiences": [], "expirationSeconds": TOKEN_SECONDS } }))
            .context("ask for a token")?;
    let granted = accounts
        .create_token_request(name, &PostParams::default(), &wanted)
        .await
        .with_context(|| format!("get a token of service account {namespace}/{name}"))?;
    granted.status.and_then(|status| status.token).context("a token request without an answer")
}
