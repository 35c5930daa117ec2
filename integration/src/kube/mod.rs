//! A real Kubernetes API server, and what KubeVirt writes into it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use limosa_lab::kube::{ApiServer, fresh_namespace};
//! use limosa_lab::kube::kubevirt::{self, Guest, GuestSpec, Script, Step};
//!
//! let server = ApiServer::shared().await?;
//! let client = server.client().await?;
//! kubevirt::install(&client).await?;
//! kubevirt::nodes(&client, &["node1", "node2"]).await?;
//! let agent = server.kubeconfig_for("system:serviceaccount:limosa:limosa-agent").await?;
//!
//! let namespace = fresh_namespace(&client).await?;
//! let guest = Guest::create(&client, GuestSpec::new(&namespace, "vm1", "node1")).await?;
//! let migration = guest.migrate("move1", "node2");
//! migration.play(&Script::success().through(Step::DomainDetected)).await?;
//! // Here the guest resumes on node2, and announces itself.
//! migration.play(&Script::success().after(Step::DomainDetected)).await?;
//! # let _ = agent; Ok(())
//! # }
//! ```
//!
//! * [`ApiServer`] is kube-apiserver with an etcd of its own: storage, RBAC, admission, custom resources, server-side
//!   apply, watches. Nothing else of Kubernetes runs: there are no controllers, no scheduler, no garbage
//!   collector and no kubelet. Namespaces never finish being deleted, and a pod lives as long as it is told to.
//! * [`kubevirt`] plays those that are missing, as far as a migration needs them.
//! * [`cast`] plays agents and ovn-controllers, without switches; [`cluster`] has it all with real controllers, whose
//!   [`fate`] it is to be struck as they write, in a [`door`]; an [`actor`](actor) migrates in it.
//! * [`limosa`] installs what the chart does: the definition and the roles.
//! * [`apply`] puts any YAML there, [`wait_for`] waits for an object to become something.

pub mod actor;
mod apply;
pub mod cast;
pub mod cluster;
pub mod door;
pub mod fate;
pub mod kubevirt;
pub mod limosa;
mod server;
mod user;

use apply::ensure_namespace;
pub use apply::{DEADLINE, apply, fresh_namespace, wait_for};
pub use server::ApiServer;

/// The name with which everything here is applied.
const FIELD_MANAGER: &str = "limosa-lab";
