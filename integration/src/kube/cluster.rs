//! A cluster without switches: the API server, OVN's databases with northd, the [`Cast`] on its nodes, and real
//! controllers, each behind a [`Door`], which may be killed or stopped as they write.

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
use tokio::task::JoinSet;

use super::cast::Cast;
use super::door::{Door, Moment, Strike, Struck, Traffic};
use super::{ApiServer, DEADLINE, fresh_namespace, kubevirt, limosa, user};
use crate::OUTSIDE;
use crate::demo::Limosa;
use crate::holder::within;
use crate::lab::{Lab, LabOptions};
use crate::process::LabProcess;

/// How a lease is held here, seconds: not for long, since a leader that is stopped has to be waited for.
const LEASE: [&str; 6] = ["--lease-duration", "2", "--lease-renew-deadline", "1.5", "--lease-retry", "0.25"];
/// More than any migration has writes: who begins anew without end is noticed.
const MAX_STRIKES: usize = 100;

/// What becomes of the controllers as they write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// There is one, which is left alone.
    Live,
    /// Each is killed (SIGKILL) when its first write has been carried out, before it hears of that; then comes another.
    KilledAfter,
    /// Each is killed as it asks for its second write, which is never carried out.
    KilledBefore,
    /// There are two. Whichever leads is stopped (SIGSTOP) as it asks for its second write, until the other leads. That
    /// write arrives then, and the writer goes on.
    Deposed,
}

impl Fate {
    const fn strike(self) -> Option<Strike> {
        match self {
            Self::Live => None,
            Self::KilledAfter => Some(Strike { write: 1, moment: Moment::After }),
            Self::KilledBefore | Self::Deposed => Some(Strike { write: 2, moment: Moment::Before }),
        }
    }
}

/// A cluster for one test, or for several in turn. Dropping it ends all of it.
pub struct Cluster {
    /// An administrator's.
    pub client: Client,
    /// Where everything is.
    pub namespace: String,
    pub cast: Cast,
    controllers: [Arc<Controller>; 2],
}

/// One of the controllers, and whoever comes after it in its place.
struct Controller {
    lab: Arc<Lab>,
    leases: Api<Lease>,
    lease: String,
    arguments: Vec<String>,
    door: Door,
    struck: Mutex<mpsc::Receiver<Struck>>,
    process: Mutex<Option<LabProcess>>,
}

/// Controllers at work, until [`Run::end`].
#[derive(Debug)]
pub struct Run<'a> {
    cluster: &'a Cluster,
    fates: JoinSet<Result<usize>>,
    over: watch::Sender<bool>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts it with these chassis, each on the node [`Self::node`]; no controller runs yet. `arguments` are for the
    /// controllers.
    ///
    /// # Errors
    ///
    /// When a program is missing or does not start.
    pub async fn start(server: &ApiServer, chassis: &[&str], arguments: &[&str]) -> Result<Self> {
        // One at a time: the files of users are written anew.
        static ONE: Mutex<()> = Mutex::const_new(());
        let one = ONE.lock().await;
        let client = server.client().await?;
        kubevirt::install(&client).await?;
        limosa::install(&client).await?;
        let agents = server.client_as(limosa::AGENT).await?;
        let doors =
            [server.client_as(limosa::CONTROLLER).await?, server.client_as(limosa::CONTROLLER).await?];
        drop(one);
        let namespace = fresh_namespace(&client).await?;
        let lab = Arc::new(Lab::start(LabOptions { chassis: 0, ..LabOptions::default() }).await?);
        let cast = Cast::start(&lab, &client, &agents, &namespace).await?;
        let [first, second] = doors;
        let controllers = [
            Controller::new(&lab, &client, &namespace, first, arguments).await?,
            Controller::new(&lab, &client, &namespace, second, arguments).await?,
        ];
        let cluster = Self { client, namespace, cast, controllers };
        for chassis in chassis {
            cluster.add_node(chassis).await?;
        }
        Ok(cluster)
    }

    /// The node that a chassis is on.
    pub fn node(&self, chassis: &str) -> String {
        format!("{}-{chassis}", self.namespace)
    }

    /// Registers a chassis and its node.
    ///
    /// # Errors
    ///
    /// When one of them is there already.
    pub async fn add_node(&self, chassis: &str) -> Result<()> {
        let node = self.node(chassis);
        kubevirt::nodes(&self.client, &[&node]).await?;
        self.cast.add_chassis(chassis, &node).await
    }

    /// Starts controllers.
    ///
    /// # Errors
    ///
    /// When they do not start.
    pub async fn run(&self, fate: Fate) -> Result<Run<'_>> {
        let (over, _) = watch::channel(false);
        let mut fates = JoinSet::new();
        for controller in self.controllers.iter().take(if fate == Fate::Deposed { 2 } else { 1 }) {
            controller.launch(fate).await?;
            fates.spawn(Arc::clone(controller).suffer(fate, over.subscribe()));
        }
        Ok(Run { cluster: self, fates, over })
    }

    /// What the controllers that run now have said, the last lines.
    pub async fn log(&self) -> String {
        let mut text = String::new();
        for controller in &self.controllers {
            if let Some(process) = &*controller.process.lock().await {
                text = format!("{text}\n{}", process.log_tail());
            }
        }
        text
    }
}

impl Run<'_> {
    /// Ends them. Returns how often one was struck.
    ///
    /// # Errors
    ///
    /// When one could not be started again.
    pub async fn end(mut self) -> Result<usize> {
        self.over.send_replace(true);
        let mut strikes = 0;
        while let Some(fate) = self.fates.join_next().await {
            strikes += fate.context("a fate")??;
        }
        for controller in &self.cluster.controllers {
            controller.kill().await?;
        }
        Ok(strikes)
    }

    /// What has gone through the doors since they were opened.
    pub fn traffic(&self) -> Traffic {
        self.cluster.controllers.iter().fold(Traffic::default(), |sum, controller| {
            let Traffic { requests, writes } = controller.door.traffic();
            Traffic { requests: sum.requests + requests, writes: sum.writes + writes }
        })
    }

    /// The resident memory of the first controller, bytes.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub async fn memory(&self) -> Result<u64> {
        let [controller, _] = &self.cluster.controllers;
        let process = controller.process.lock().await;
        let pid = process.as_ref().context("there is no controller")?.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("a status without VmRSS")?;
        Ok(kib.trim().parse::<u64>().context("read VmRSS")? * 1024)
    }

    /// Kills the controller, and starts another.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn restart(&self) -> Result<()> {
        let [controller, _] = &self.cluster.controllers;
        controller.kill().await?;
        controller.launch(Fate::Live).await
    }
}

impl Controller {
    async fn new(
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
        let all = [&own[..], &lease, &LEASE, &databases, arguments].concat();
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

    async fn launch(&self, fate: Fate) -> Result<()> {
        self.door.strike(fate.strike());
        let mut command = Command::new(Limosa::binary()?);
        command.args(&self.arguments);
        let process = self.lab.spawn_in(OUTSIDE, &command).await?;
        *self.process.lock().await = Some(process);
        Ok(())
    }

    /// Ends the process, if there is one. What it held of the lease runs out at once: how long that takes otherwise is
    /// no matter of what it has left half done.
    async fn kill(&self) -> Result<()> {
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

    /// Whose the lease is, if there is one.
    async fn holder(&self) -> Result<Option<String>> {
        let lease = self.leases.get_opt(&self.lease).await.context("read the lease")?;
        Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
    }

    /// Meets the fate again and again; returns how often.
    async fn suffer(self: Arc<Self>, fate: Fate, mut over: watch::Receiver<bool>) -> Result<usize> {
        for strikes in 0..MAX_STRIKES {
            let mut next = self.struck.lock().await;
            let struck = tokio::select! {
                struck = next.recv() => struck.context("the door has gone")?,
                _ = over.wait_for(|over| *over) => return Ok(strikes),
            };
            drop(next);
            if fate == Fate::Deposed {
                self.depose(struck, &mut over).await?;
                self.door.strike(fate.strike());
            } else {
                self.kill().await?;
                drop(struck);
                self.launch(fate).await?;
            }
        }
        anyhow::bail!("controllers begin anew without end")
    }

    /// Stops the process until another leads.
    async fn depose(&self, struck: Struck, over: &mut watch::Receiver<bool>) -> Result<()> {
        let process = self.process.lock().await;
        let process = process.as_ref().context("there is no controller")?;
        let before = self.holder().await?;
        process.pause().await?;
        let deposed = async {
            loop {
                let now = self.holder().await?;
                if *over.borrow() || (now.is_some() && now != before) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let deposed = within(DEADLINE, "another to lead", deposed).await;
        struck.go_on();
        process.kill(Signal::CONT)?;
        deposed
    }
}
