//! Limosa on the API server, as its chart installs it.
//!
//! [`helm`] is the real one. What the chart puts there, the server keeps; nobody runs it. A test does, with
//! [`Container`]: the very arguments of a pod's container, as a process of the lab, with a token of its service account.

mod container;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
pub use container::{Container, run_job, run_pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{apply, ensure_namespace, server, wait_for};

const DEFINITION: &str = include_str!("../../../charts/limosa/crds/portmigrations.yaml");

/// Who the agents are.
pub const AGENT: &str = "system:serviceaccount:limosa:limosa-agent";
/// Who the controllers are.
pub const CONTROLLER: &str = "system:serviceaccount:limosa:limosa-controller";
/// Where both live.
pub const NAMESPACE: &str = "limosa";

/// The folder of the chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/limosa")
}

/// Runs Helm; what it prints. It reads and writes nothing of the user's.
///
/// # Errors
///
/// When it is not there, or fails; the text has what it said.
pub fn helm<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<String> {
    let program = server::tool("helm", "integration/kubernetes/fetch-tools.sh helm")?;
    let home = tempfile::tempdir().context("make a directory")?;
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .envs(
            ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"].map(|name| (name, home.path())),
        )
        .output()
        .context("run helm")?;
    said(&output)
}

fn said(output: &Output) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "helm: {}{}", text(&output.stderr), text(&output.stdout));
    Ok(text(&output.stdout))
}

/// What the chart makes of `values` (as after `--set`) in release `limosa`, namespace `limosa`, on a server of `version`.
///
/// # Errors
///
/// As [`helm`].
pub fn manifests(version: &str, values: &[&str]) -> Result<String> {
    let mut args = vec!["template", "limosa", "--namespace", NAMESPACE, "--kube-version", version];
    args.extend(values.iter().flat_map(|value| ["--set", value]));
    let chart = chart();
    helm(args.iter().map(OsStr::new).chain([chart.as_os_str()]))
}

/// The same as objects.
///
/// # Errors
///
/// As [`helm`].
pub fn render(version: &str, values: &[&str]) -> Result<Vec<Value>> {
    let text = manifests(version, values)?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).context("read what Helm has made")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Puts the definition there, unless it is, and what the chart has of accounts and roles. Tests have many controllers on
/// one server: theirs may have leases of any name.
///
/// # Errors
///
/// When the server refuses, or the definition is not served in time.
pub async fn install(client: &Client) -> Result<()> {
    install_rights(client, |role| {
        for rule in role["rules"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            rule.remove("resourceNames");
        }
    })
    .await
}

/// The same, after each role has been through `edit`.
///
/// # Errors
///
/// As [`install`].
pub async fn install_rights(client: &Client, edit: impl Fn(&mut Value)) -> Result<()> {
    define(client).await?;
    ensure_namespace(client, NAMESPACE).await?;
    let version = client.apiserver_version().await.context("ask for the server's version")?.git_version;
    let objects = spawn_blocking(move || render(&version, &["cni=kube-ovn"])).await.context("run helm")??;
    let rights = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        if !rights.contains(&kind) {
            continue;
        }
        if kind.ends_with("Role") {
            edit(&mut object);
        }
        apply(client, &object.to_string()).await?;
    }
    Ok(())
}

/// Puts the definition there, unless it is.
///
/// # Errors
///
/// When the server refuses, or does not serve it in time.
pub async fn define(client: &Client) -> Result<()> {
    // A server of before Kubernetes 1.25 does not apply what it does not know; it leaves it out of what is created.
    let definition: CustomResourceDefinition =
        serde_saphyr::from_str(DEFINITION).context("read the definition")?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.metadata.name.clone().context("a definition without a name")?;
    match definitions.create(&PostParams::default(), &definition).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        created => drop(created.context("create the definition")?),
    }
    wait_for(&definitions, &name, "be served", is_crd_established()).await.map(drop)
}

/// A status of `kind` (`Complete`, `Ready`) as Kubernetes writes it, now.
pub(crate) fn condition(kind: &str) -> Value {
    json!({ "type": kind, "status": "True", "lastTransitionTime": jiff::Timestamp::now().strftime("%FT%TZ").to_string() })
}
