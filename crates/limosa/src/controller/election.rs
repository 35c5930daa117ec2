//! Several controllers on one cluster, of which one works.

use anyhow::Context;
use uuid::Uuid;

use super::Desk;
use super::kubevirt::Kubevirt;
use crate::lease::{Elector, Timing};
use crate::shutdown::Shutdown;
use crate::store::{Access, Kubernetes, Place, Which, open_when_there};

/// How they agree which.
#[derive(Debug)]
pub(crate) struct LeaseOptions {
    /// By default the pod's, or the kubeconfig's.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) timing: Timing,
}

/// Works while the lease is ours, and stands by while it is not. Whatever was on
/// its way when the lease was lost is dropped; the next leader decides anew.
pub(super) async fn run(
    mut desk: Desk,
    access: &Access,
    lease: &LeaseOptions,
    kubevirt: Option<limosa_kubevirt::Options>,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let place = Place::Kubernetes(access.clone());
    let opened = async {
        tokio::join!(
            open_when_there(&place, || Kubernetes::open(access, Which::Live)),
            desk.databases.ready()
        )
    };
    let (store, ()) = tokio::select! {
        opened = opened => opened,
        () = shutdown.asked() => return Ok(()),
    };
    let registry = &desk.metrics.registry;
    desk.kubevirt =
        kubevirt.map(|options| Kubevirt::new(store.client(), access.namespace.as_deref(), options, registry));
    let namespace = lease.namespace.as_deref().unwrap_or_else(|| store.home());
    let mut elector = Elector::new(store.client(), namespace, &lease.name, identity(), lease.timing);
    tracing::info!(store = %place, lease = format!("{namespace}/{}", lease.name), "controller started");
    loop {
        // One that stands by is as ready as it can be.
        desk.ready.send_modify(|ready| *ready = Ok(()));
        let mut leadership = tokio::select! {
            leadership = elector.lead() => leadership,
            () = shutdown.asked() => return Ok(()),
        };
        let fence = leadership.fence();
        let mut controller = desk.controller(Box::new(store.fenced(fence.clone())), Some(fence));
        tokio::select! {
            result = controller.follow() => {
                result.context("the controller's work has ended")?;
                drop(controller);
                // The northbound database knows a later leader. A lease that is won anew counts more.
                leadership.release().await;
                if let Some(later) = desk.databases.later_term() {
                    elector.exceed(later);
                }
            }
            () = leadership.lost() => {}
            () = shutdown.asked() => {
                leadership.release().await;
                return Ok(());
            }
        }
    }
}

/// Where this process runs, and which one it is: a restarted one is another.
pub(crate) fn identity() -> String {
    let host = rustix::system::uname();
    format!("{}_{}", host.nodename().to_string_lossy(), Uuid::new_v4())
}
