//! One migration of a guest, step by step.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::guest::replaced;
use super::{Guest, Script, Step, key, migrations, node_lost, node_removed, now, pod};

/// A migration of a guest to another node. It remembers no more than names and UIDs: everything else is read from the
/// server, and so a step needs none of the others in this process.
#[derive(Debug)]
pub struct Migration {
    guest: Guest,
    name: String,
    target_node: String,
    target_pod: String,
    pod_annotations: BTreeMap<String, String>,
    uid: OnceLock<String>,
    /// Where the guest ran when the migration was made: name of the pod, and node.
    source: OnceLock<(String, String)>,
}

impl Migration {
    pub(super) fn new(guest: Guest, name: &str, target_node: &str) -> Self {
        let target_pod = guest.new_pod_name();
        Self {
            guest,
            name: name.to_owned(),
            target_node: target_node.to_owned(),
            target_pod,
            pod_annotations: BTreeMap::new(),
            uid: OnceLock::new(),
            source: OnceLock::new(),
        }
    }

    /// The migration, with an annotation more on the target's pod: what a network plugin notes there.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.pod_annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The name of its object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The UID of its object; none before [`Step::Create`].
    pub fn uid(&self) -> Option<&str> {
        self.uid.get().map(String::as_str)
    }

    /// The name of the target's pod, which is there from [`Step::TargetPod`] on.
    pub fn target_pod(&self) -> &str {
        &self.target_pod
    }

    /// The name of the source's pod; none before [`Step::Create`].
    pub fn source_pod(&self) -> Option<&str> {
        self.source.get().map(|(pod, _)| pod.as_str())
    }

    pub(super) fn pod_annotations(&self) -> &BTreeMap<String, String> {
        &self.pod_annotations
    }

    /// Migration objects in its namespace.
    pub fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.guest.client.clone(), self.guest.namespace(), &migrations())
    }

    /// Makes every step of a script, in order.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step); the text has the step.
    pub async fn play(&self, script: &Script) -> Result<()> {
        for step in script {
            self.step(step).await?;
        }
        Ok(())
    }

    /// Makes one step.
    ///
    /// # Errors
    ///
    /// When the server refuses, or when what the step is about is not there.
    pub async fn step(&self, step: Step) -> Result<()> {
        self.write(step).await.with_context(|| format!("migration {}, {step:?}", self.name))
    }

    async fn write(&self, step: Step) -> Result<()> {
        let (guest, pods, pod) = (&self.guest, self.guest.pods(), self.target_pod.as_str());
        match step {
            Step::Create => self.create().await,
            Step::Pending => self.pending().await,
            Step::Scheduling
            | Step::Scheduled
            | Step::PreparingTarget
            | Step::TargetReady
            | Step::Running
            | Step::Succeeded
            | Step::Failed => self.status(step.phase(), json!({})).await,
            Step::TargetPod => self.make_target_pod().await,
            Step::TargetBound => pod::bind(&pods, pod, &self.target_node).await,
            Step::ActivePods => guest.note_active_pods().await,
            Step::TargetPodRunning => pod::running(&pods, pod, &guest.spec).await,
            Step::Handoff => self.hand_off().await,
            Step::TargetAddress => {
                let ports = json!({ "49152": 41721, "49153": 35683 });
                self.state(
                    json!({ "targetNodeAddress": "10.0.0.2", "targetDirectMigrationNodePorts": ports }),
                    None,
                )
                .await
            }
            Step::Start => self.state(json!({ "mode": "PreCopy" }), Some("startTimestamp")).await,
            Step::DomainDetected => self.state(json!({ "targetNodeDomainDetected": true }), None).await,
            Step::GuestResumes => Ok(()),
            Step::DomainReady => self.state(json!({}), Some("targetNodeDomainReadyTimestamp")).await,
            Step::ReadyAnnotation => self.annotate_ready(&pods).await,
            Step::End => self.end().await,
            Step::TargetPodReady => pod::gate(&pods, pod, true).await,
            Step::Completed => self.state(json!({ "completed": true }), None).await,
            Step::LabelRemoved => {
                guest.patch(json!({ "metadata": { "labels": { key::TARGET_NODE: null } } })).await
            }
            Step::StateCopied => self.copy_state().await,
            Step::Finalized => self.patch(json!({ "metadata": { "finalizers": null } })).await,
            Step::SourcePodEnded => pod::ended(&pods, &self.source()?.0, "Succeeded").await,
            Step::SourcePodDeleted => pod::delete(&pods, &self.source()?.0).await,
            Step::Delete => {
                self.api().delete(&self.name, &DeleteParams::default()).await?;
                Ok(())
            }
            Step::AbortCondition => self.abort_condition(None).await,
            Step::Cancelled => self.abort_condition(step.phase()).await,
            Step::AbortRequested => self.state(json!({ "abortRequested": true }), None).await,
            Step::Aborting => self.state(json!({ "abortStatus": "Aborting" }), None).await,
            Step::AbortFailed => self.state(json!({ "abortStatus": "Failed" }), None).await,
            Step::AbortSucceeded => {
                self.fail(json!({ "abortStatus": "Succeeded", "failureReason": "Live migration aborted" }))
                    .await
            }
            Step::MigrationFailed => self.fail(json!({ "failureReason": "Live migration failed" })).await,
            Step::StateCleared => guest.patch(json!({ "status": { "migrationState": null } })).await,
            Step::GuestFailed => guest.patch(json!({ "status": { "phase": "Failed" } })).await,
            Step::PostCopy => self.state(json!({ "mode": "PostCopy" }), None).await,
            Step::PausedByMigration => self.state(json!({ "mode": "Paused" }), None).await,
            Step::Unschedulable => pod::unschedulable(&pods, pod).await,
            Step::TargetPodFailed => pod::ended(&pods, pod, "Failed").await,
            Step::TargetPodDeleted => pod::delete(&pods, pod).await,
            Step::SourceNodeLost => node_lost(&guest.client, &self.source()?.1).await,
            Step::TargetNodeLost => node_lost(&guest.client, &self.target_node).await,
            Step::SourceNodeRemoved => node_removed(&guest.client, &self.source()?.1).await,
            Step::TargetNodeRemoved => node_removed(&guest.client, &self.target_node).await,
        }
    }

    fn known_uid(&self) -> Result<&str> {
        self.uid().context("it has not been created yet")
    }

    fn source(&self) -> Result<&(String, String)> {
        self.source.get().context("it has not been created yet")
    }

    async fn create(&self) -> Result<()> {
        let runs_in = self.guest.pod().await?;
        let node = runs_in.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {
                "name": self.name,
                "labels": { key::VMI_NAME: self.guest.name() },
                "finalizers": [key::MIGRATION_FINALIZER],
            },
            "spec": { "vmiName": self.guest.name() },
        }))?;
        let made = self.api().create(&PostParams::default(), &object).await?;
        // Made once: the server refuses a second object of this name.
        let _ = self.uid.set(made.uid().context("a migration without a UID")?);
        let _ = self.source.set((runs_in.name_any(), node));
        Ok(())
    }

    async fn pending(&self) -> Result<()> {
        let state = json!({ "migrationState": { "sourcePod": self.source()?.0 } });
        self.status(Step::Pending.phase(), state).await
    }

    async fn make_target_pod(&self) -> Result<()> {
        let (guest, pods) = (&self.guest, self.guest.pods());
        if pods.get_opt(&self.target_pod).await?.is_some() {
            return Ok(());
        }
        let labels = json!(guest.get().await?.labels());
        let made_for = Some((self, self.known_uid()?));
        let pod = pod::launcher(&guest.spec, guest.uid(), &labels, &self.target_pod, made_for)?;
        pods.create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    /// virt-controller does it once.
    async fn hand_off(&self) -> Result<()> {
        let (uid, source) = (self.known_uid()?, self.source()?);
        let before = self.read_state().await?;
        if before["migrationUid"] == uid {
            return Ok(());
        }
        let state = json!({
            "migrationUid": uid,
            "sourceNode": source.1,
            "sourcePod": source.0,
            "targetNode": self.target_node,
            "targetPod": self.target_pod,
        });
        self.guest
            .patch(json!({
                "metadata": { "labels": { key::TARGET_NODE: self.target_node } },
                "status": { "migrationState": replaced(&before, state) },
            }))
            .await
    }

    async fn annotate_ready(&self, pods: &Api<Pod>) -> Result<()> {
        let ready = &self.read_state().await?["targetNodeDomainReadyTimestamp"];
        let ready: jiff::Timestamp =
            ready.as_str().context("the guest is not known to run there")?.parse()?;
        // As Go prints a time, and not as Kubernetes writes one.
        let text = ready.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
        pod::annotate(pods, &self.target_pod, key::READY_TIMESTAMP, &text).await
    }

    async fn end(&self) -> Result<()> {
        let ended = self.first_time("endTimestamp").await?;
        self.guest
            .patch(json!({
                "metadata": { "labels": { key::NODE_NAME: self.target_node } },
                "status": { "nodeName": self.target_node, "migrationState": { "endTimestamp": ended } },
            }))
            .await
    }

    async fn fail(&self, mut how: Value) -> Result<()> {
        how["failed"] = json!(true);
        how["completed"] = json!(true);
        self.state(how, Some("endTimestamp")).await
    }

    /// Changes the guest's `migrationState`; the time `first`, if there is one, becomes now, unless it is there already.
    async fn state(&self, mut state: Value, first: Option<&str>) -> Result<()> {
        if let Some(field) = first {
            state[field] = self.first_time(field).await?;
        }
        self.guest.patch(json!({ "status": { "migrationState": state } })).await
    }

    async fn first_time(&self, field: &str) -> Result<Value> {
        let before = self.read_state().await?;
        Ok(before.get(field).cloned().unwrap_or_else(|| json!(now().to_string())))
    }

    async fn read_state(&self) -> Result<Value> {
        Ok(self.guest.get().await?.data["status"]["migrationState"].take())
    }

    async fn abort_condition(&self, phase: Option<&str>) -> Result<()> {
        let condition = json!({
            "type": "migrationAbortRequested", "status": "True", "lastProbeTime": now().to_string(),
            "lastTransitionTime": null,
        });
        let object = self.api().get(&self.name).await?;
        let before = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let has_it = before.iter().any(|condition| condition["type"] == "migrationAbortRequested");
        let conditions = if has_it { before } else { [before, vec![condition]].concat() };
        self.status(phase, json!({ "conditions": conditions })).await
    }

    async fn copy_state(&self) -> Result<()> {
        let state = self.read_state().await?;
        let object = self.api().get(&self.name).await?;
        let before = &object.data["status"]["migrationState"];
        self.status(None, json!({ "migrationState": replaced(before, state) })).await
    }

    /// Changes the status of the migration object, and its phase.
    async fn status(&self, phase: Option<&str>, mut status: Value) -> Result<()> {
        if let Some(phase) = phase {
            let object = self.api().get(&self.name).await?;
            let times = &object.data["status"]["phaseTransitionTimestamps"];
            let mut times = times.as_array().cloned().unwrap_or_default();
            if times.iter().all(|time| time["phase"] != phase) {
                times.push(json!({ "phase": phase, "phaseTransitionTimestamp": now().to_string() }));
            }
            status["phase"] = json!(phase);
            status["phaseTransitionTimestamps"] = json!(times);
        }
        let patch = Patch::Merge(json!({ "status": status }));
        self.api().patch_status(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Changes the migration object itself. That it is gone is no error: its end was waited for.
    async fn patch(&self, patch: Value) -> Result<()> {
        match self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}
