//! Controllers that are killed, or deposed, as they write: each is behind a [`Door`], which knows the moment.

use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::{Mutex, mpsc, watch};

use super::door::{Door, Moment, Strike, Struck, Traffic};
use super::{DEADLINE, limosa, user};
use crate::OUTSIDE;
use crate::demo::Limosa;
use crate::holder::within;
use crate::lab::Lab;
use crate::process::LabProcess;

/// How a lease is held here, seconds: long enough for a busy machine.
const LEASE: [&str; 6] = ["--lease-duration", "6", "--lease-renew-deadline", "5", "--lease-retry", "0.25"];
/// The same where a leader that is stopped has to be waited for.
const SHORT: [&str; 6] = ["--lease-duration", "2", "--lease-renew-deadline", "1.5", "--lease-retry", "0.25"];
/// More than any migration has writes: who begins anew without end is noticed.
const MAX_STRIKES: usize = 100;

/// What befalls a controller as it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// It is killed (SIGKILL) when the write has been carried out, before it hears of that; then comes another.
    KilledAfter,
    /// It is killed as it asks for the write, which is never carried out; then comes another.
    KilledBefore,
    /// There are two. The leader is stopped (SIGSTOP) as it asks for the write, until the other leads. The write arrives
    /// then, and the writer goes on.
    Deposed,
}

/// What becomes of the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// There is one, which is left alone.
    Live,
    /// Each is struck: the first at this of its writes, counted from 1, and whoever comes after it at that one.
    Struck { blow: Blow, first: u64, then: u64 },
}

impl Blow {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KilledAfter, Self::KilledBefore, Self::Deposed];

    const fn moment(self) -> Moment {
        match self {
            Self::KilledAfter => Moment::After,
            Self::KilledBefore | Self::Deposed => Moment::Before,
        }
    }

    /// Falls at each write that is carried out.
    pub const fn at_each(self) -> Fate {
        // What is not carried out is asked for again.
        let write = if matches!(self, Self::KilledAfter) { 1 } else { 2 };
        Fate::Struck { blow: self, first: write, then: write }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KilledAfter => "killed after",
            Self::KilledBefore => "killed before",
            Self::Deposed => "deposed at",
        })
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("left alone"),
            Self::Struck { blow, .. } if *self == blow.at_each() => write!(f, "{blow} each write"),
            Self::Struck { blow, first, then } => {
                write!(f, "{blow} write {first} and every {then}th after it")
            }
        }
    }
}

impl Fate {
    pub(super) const fn blow(self) -> Option<Blow> {
        match self {
            Self::Live => None,
            Self::Struck { blow, .. } => Some(blow),
        }
    }

    /// Of whoever comes after one that was struck.
    pub(super) const fn after(self) -> Self {
        match self {
            Self::Live => self,
            Self::Struck { blow, then, .. } => Self::Struck { blow, first: then, then },
        }
    }

    const fn strike(self) -> Option<Strike> {
        match self {
            Self::Live => None,
            Self::Struck { blow, first, .. } => Some(Strike { write: first, moment: blow.moment() }),
        }
    }
}

/// One of the controllers, and whoever comes after it in its place.
pub(super) struct Controller {
    pub(super) lab: Arc<Lab>,
    leases: Api<Lease>,
    lease: String,
    arguments: Vec<String>,
    door: Door,
    struck: Mutex<mpsc::Receiver<Struck>>,
    process: Mutex<Option<LabProcess>>,
}

impl Controller {
    pub(super) async fn new(
        lab: &Arc<Lab>,
        client: &Client,
        namespace: &str,
        own: Client,
        arguments: &[&str],
    ) -> Result<Arc<Self>> {
        let (sender, struck) = mpsc::channel(1);
        let door = Door::open(own, sender).await?;
        let kubeconfig = lab.dir().join(format!("{}.kubeconfig", door.url().replace(['/', ':'], "_")));
        // Who asks is known at the door.
        std::fs::write(&kubeconfig, user::kubeconfig(&json!({ "server": door.url() }), &json!({})))
            .context("write a kubeconfig")?;
        let (nb, sb) = (lab.nb(), lab.sb());
        let kubeconfig = kubeconfig.to_string_lossy();
        let own = ["controller", "--kubernetes", "--kubeconfig", &kubeconfig, "--namespace", namespace];
        let lease = ["--lease-namespace", limosa::NAMESPACE, "--lease-name", namespace];
        let databases = ["--nb", &nb, "--sb", &sb];
        let all = [&own[..], &lease, &databases, arguments].concat();
        Ok(Arc::new(Self {
            lab: Arc::clone(lab),
            leases: Api::namespaced(client.clone(), limosa::NAMESPACE),
            lease: namespace.to_owned(),
            arguments: all.into_iter().map(str::to_owned).collect(),
            door,
            struck: Mutex::new(struck),
            process: Mutex::default(),
        }))
    }

    pub(super) async fn launch(&self, fate: Fate) -> Result<()> {
        self.door.strike(fate.strike());
        let mut command = Command::new(Limosa::binary()?);
        let is_short = fate.blow() == Some(Blow::Deposed);
        command.args(&self.arguments).args(if is_short { SHORT } else { LEASE });
        let process = self.lab.spawn_in(OUTSIDE, &command).await?;
        *self.process.lock().await = Some(process);
        Ok(())
    }

    /// Ends the process, if there is one. What it held of the lease runs out at once: how long that takes otherwise is
    /// no matter of what it has left half done.
    pub(super) async fn kill(&self) -> Result<()> {
        self.door.strike(None);
        let Some(process) = self.process.lock().await.take() else { return Ok(()) };
        process.kill(Signal::KILL)?;
        process.wait_exit(DEADLINE).await?;
        // What stood in the door is turned away, unless somebody waits for it.
        if let Ok(mut struck) = self.struck.try_lock() {
            while struck.try_recv().is_ok() {}
        }
        if self.holder().await?.is_some() {
            let nobody = Patch::Merge(json!({ "spec": { "holderIdentity": "" } }));
            self.leases
                .patch(&self.lease, &PatchParams::default(), &nobody)
                .await
                .context("free the lease")?;
        }
        Ok(())
    }

    /// Waits until somebody leads.
    pub(super) async fn until_led(&self) -> Result<()> {
        self.until_held("a controller to lead", |holder| holder.is_some()).await
    }

    async fn until_held(&self, what: &str, is_so: impl Fn(Option<String>) -> bool) -> Result<()> {
        let held = async {
            while !is_so(self.holder().await?) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        within(DEADLINE, what, held).await
    }

    /// Whose the lease is, if there is one.
    async fn holder(&self) -> Result<Option<String>> {
        let lease = self.leases.get_opt(&self.lease).await.context("read the lease")?;
        Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
    }

    /// Meets the fate again and again; returns how often.
    pub(super) async fn suffer(
        self: Arc<Self>,
        fate: Fate,
        mut over: watch::Receiver<bool>,
    ) -> Result<usize> {
        for strikes in 0..MAX_STRIKES {
            let mut next = self.struck.lock().await;
            let struck = tokio::select! {
                struck = next.recv() => struck.context("the door has gone")?,
                _ = over.wait_for(|over| *over) => return Ok(strikes),
            };
            drop(next);
            if fate.blow() == Some(Blow::Deposed) {
                self.depose(struck, &over).await?;
                self.door.strike(fate.after().strike());
            } else {
                self.kill().await?;
                drop(struck);
                self.launch(fate.after()).await?;
            }
        }
        anyhow::bail!("controllers begin anew without end")
    }

    /// Stops the process until another leads.
    async fn depose(&self, struck: Struck, over: &watch::Receiver<bool>) -> Result<()> {
        let process = self.process.lock().await;
        let process = process.as_ref().context("there is no controller")?;
        let before = self.holder().await?;
        process.pause().await?;
        let deposed =
            self.until_held("another to lead", |now| *over.borrow() || (now.is_some() && now != before));
        let deposed = deposed.await;
        struck.go_on();
        process.kill(Signal::CONT)?;
        deposed
    }

    /// What has gone through its door.
    pub(super) fn traffic(&self) -> Traffic {
        self.door.traffic()
    }

    pub(super) async fn until_said(&self, text: &str) -> Result<()> {
        let process = self.process.lock().await;
        process.as_ref().context("there is no controller")?.wait_log(text, DEADLINE).await
    }

    /// The last lines of what the present one has said, if there is one.
    pub(super) async fn log_tail(&self) -> Option<String> {
        self.process.lock().await.as_ref().map(LabProcess::log_tail)
    }

    pub(super) async fn pid(&self) -> Result<i32> {
        let process = self.process.lock().await;
        process.as_ref().map(LabProcess::pid).context("there is no controller")
    }
}
