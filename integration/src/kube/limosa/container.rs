//! A pod's container as a process: the kubelet's part.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodSpec, ServiceAccount};
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;

use super::condition;
use crate::demo::Limosa;
use crate::holder::within;
use crate::kube::{ApiServer, DEADLINE};

/// The first container of a pod, with what the lab has in the place of what a node has.
#[derive(Debug, Clone)]
pub struct Container {
    namespace: String,
    spec: PodSpec,
    replaced: Vec<(String, String)>,
}

impl Container {
    /// Of a pod (template) in `namespace`.
    pub fn new(namespace: &str, spec: PodSpec) -> Self {
        Self { namespace: namespace.to_owned(), spec, replaced: Vec::new() }
    }

    /// The lab has `ours` where an argument says `theirs`: an address, or a path that is mounted.
    #[must_use]
    pub fn with(mut self, theirs: &str, ours: &str) -> Self {
        self.replaced.push((theirs.to_owned(), ours.to_owned()));
        self
    }

    /// What runs in it, as its service account.
    ///
    /// # Errors
    ///
    /// When there is no such account, or an argument lacks what was to be replaced.
    pub async fn command(&self, server: &ApiServer) -> Result<Command> {
        let account = self.spec.service_account_name.clone().context("a pod without an account")?;
        let accounts: Api<ServiceAccount> = Api::namespaced(server.client().await?, &self.namespace);
        accounts.get(&account).await.with_context(|| format!("look for service account {account}"))?;
        let user = format!("system:serviceaccount:{}:{account}", self.namespace);
        let container = self.spec.containers.first().context("a pod without a container")?;
        let mut args = container.args.clone().unwrap_or_default();
        for (theirs, ours) in &self.replaced {
            ensure!(args.iter().any(|arg| arg.contains(theirs)), "{args:?} have no {theirs}");
            args = args.iter().map(|arg| arg.replace(theirs, ours)).collect();
        }
        let mut command = Command::new(Limosa::binary()?);
        command.args(args).env("KUBECONFIG", server.kubeconfig_for(&user).await?);
        for variable in container.env.iter().flatten() {
            command.env(&variable.name, variable.value.as_deref().unwrap_or_default());
        }
        Ok(command)
    }

    /// Runs it to its end; what it printed.
    async fn run(&self, server: &ApiServer) -> Result<String> {
        let command = self.command(server).await?;
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = within(DEADLINE, "a container to end", async { output.await.context("run it") }).await?;
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        ensure!(output.status.success(), "{}: {text}", output.status);
        Ok(text)
    }
}

/// Waits for a job, runs it and says that it is complete. What it printed.
///
/// # Errors
///
/// When it does not come, or fails.
pub async fn run_job(server: &ApiServer, client: &Client, namespace: &str, name: &str) -> Result<String> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let there = await_condition(jobs.clone(), name, |job: Option<&Job>| job.is_some());
    let found = within(DEADLINE, &format!("job {name}"), async { there.await.context("watch jobs") }).await?;
    let job = found.context("a job that is there")?;
    let spec = job.spec.context("a job without a spec")?.template.spec.context("a job without a pod")?;
    let said = Container::new(namespace, spec).run(server).await?;
    let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let status = json!({ "status": {
        "succeeded": 1, "startTime": now, "completionTime": now, "conditions": [condition("Complete")],
    } });
    jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.context("end the job")?;
    Ok(said)
}

/// The same for a pod.
///
/// # Errors
///
/// When it does not come, or fails.
pub async fn run_pod(server: &ApiServer, client: &Client, namespace: &str, name: &str) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let there = await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_some());
    let found = within(DEADLINE, &format!("pod {name}"), async { there.await.context("watch pods") }).await?;
    let spec = found.and_then(|pod| pod.spec).context("a pod without a spec")?;
    let said = Container::new(namespace, spec).run(server).await?;
    let status = json!({ "status": { "phase": "Succeeded" } });
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.context("end the pod")?;
    Ok(said)
}
