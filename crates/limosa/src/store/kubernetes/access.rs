//! How the API is reached, and what its refusals mean.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::StoreError;

/// A server that is gone without a word is noticed by then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which cluster, and which part of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// By default what `KUBECONFIG` names, `~/.kube/config`, or the pod's service account.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// By default all namespaces.
    pub(crate) namespace: Option<String>,
}

impl Access {
    async fn config(&self) -> Result<Config, StoreError> {
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|e| StoreError::NoCluster(e.to_string()))?;
                let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
                config.map_err(|e| StoreError::NoCluster(e.to_string()))?
            }
            None => Config::infer().await.map_err(|e| StoreError::NoCluster(e.to_string()))?,
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        Ok(config)
    }

    /// A client, and the namespace that is the pod's own or the kubeconfig's.
    pub(crate) async fn client(&self) -> Result<(Client, String), StoreError> {
        let config = self.config().await?;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|e| StoreError::NoCluster(e.to_string()))?;
        Ok((client, namespace))
    }

    /// Where an object goes whose namespace is not given.
    pub(crate) async fn default_namespace(&self) -> Result<String, StoreError> {
        match &self.namespace {
            Some(namespace) => Ok(namespace.clone()),
            None => Ok(self.config().await?.default_namespace),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "the Kubernetes API, namespace {namespace}"),
            None => write!(f, "the Kubernetes API, all namespaces"),
        }
    }
}

/// What a failed request means for the object `name`.
pub(super) fn explain(name: &str, error: kube::Error) -> StoreError {
    let status = match error {
        kube::Error::Api(status) => status,
        error => return StoreError::Unreachable(chain(&error)),
    };
    let of_an_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
    match status.code {
        401 => StoreError::Unauthorized(status.message),
        403 => StoreError::Forbidden(status.message),
        404 if of_an_object => StoreError::NotFound(name.to_owned()),
        404 => StoreError::NoDefinition,
        409 if status.is_already_exists() => StoreError::Exists(name.to_owned()),
        409 => StoreError::Conflict(name.to_owned()),
        400 | 413 | 422 => StoreError::Refused(status.message),
        code => StoreError::Unreachable(format!("{code} {}", status.message)),
    }
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}
