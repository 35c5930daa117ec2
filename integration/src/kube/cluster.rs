//! A cluster without switches: the API server, OVN's databases with northd, the [`Cast`] on its nodes, and real
//! controllers, each of which meets a [`Fate`].

use std::sync::Arc;

use anyhow::{Context, Result};
use kube::Client;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use super::cast::Cast;
use super::door::Traffic;
use super::fate::{Blow, Controller, Fate};
use super::{ApiServer, fresh_namespace, kubevirt, limosa};
use crate::lab::{Lab, LabOptions};
use crate::memory::Memory;

/// A cluster for one test, or for several in turn. Dropping it ends all of it.
pub struct Cluster {
    /// An administrator's.
    pub client: Client,
    /// Where everything is.
    pub namespace: String,
    pub cast: Cast,
    controllers: [Arc<Controller>; 2],
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

    /// Where everything but the API server runs.
    pub fn lab(&self) -> &Lab {
        &self.controllers[0].lab
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
        let [first, second] = &self.controllers;
        first.launch(fate).await?;
        fates.spawn(Arc::clone(first).suffer(fate, over.subscribe()));
        if fate.blow() == Some(Blow::Deposed) {
            first.until_led().await?;
            second.launch(fate.after()).await?;
            fates.spawn(Arc::clone(second).suffer(fate.after(), over.subscribe()));
        }
        Ok(Run { cluster: self, fates, over })
    }

    /// Waits until the first controller has said this.
    ///
    /// # Errors
    ///
    /// When it has not in time.
    pub async fn until_said(&self, text: &str) -> Result<()> {
        let [first, _] = &self.controllers;
        first.until_said(text).await
    }

    /// What the controllers that run now have said, the last lines.
    pub async fn log(&self) -> String {
        let mut text = String::new();
        for controller in &self.controllers {
            if let Some(tail) = controller.log_tail().await {
                text = format!("{text}\n{tail}");
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
            let Traffic { requests, writes } = controller.traffic();
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
        Ok(Memory::of(controller.pid().await?)?.now)
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
