//! A guest that migrates: KubeVirt's writes, and what goes with them on the nodes.

use anyhow::{Context, Result, ensure};
use limosa_protocol::{Migration as PortMigration, Phase};

use super::cast::{Objects, Options};
use super::cluster::Cluster;
use super::kubevirt::{Binding, Guest, GuestSpec, Migration, Nic, Script, Step, nodes};

/// The key of a port's external_ids that says whose pin it has.
pub const MARK: &str = "limosa-migration";
/// A network that the second NIC of a guest is on.
const NETWORK: &str = "net";

/// A guest, and the ports that it has.
#[derive(Debug)]
pub struct Actor<'a> {
    pub cluster: &'a Cluster,
    pub guest: Guest,
    pub ports: Vec<String>,
}

/// A migration of it from one chassis to another.
#[derive(Debug)]
pub struct Move<'a> {
    pub actor: &'a Actor<'a>,
    pub migration: Migration,
    from: String,
    to: String,
    /// Whether the guest announces itself on the target.
    announces: bool,
    /// KubeVirt waits for nobody.
    hurried: bool,
}

/// What everybody's port has, and must keep.
pub fn untouched() -> Options {
    let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    Options { options: pair("mcast_flood", "true"), external_ids: pair("owner", "cms") }
}

/// The same, pinned by its operator.
pub fn pinned_to(chassis: &str) -> Options {
    let mut options = untouched();
    options.options.insert("requested-chassis".to_owned(), chassis.to_owned());
    options
}

impl<'a> Actor<'a> {
    /// A guest with so many NICs, which Kube-OVN has given ports with these options; it runs on `chassis`.
    ///
    /// # Errors
    ///
    /// When a database or the API server refuses, or nobody binds the ports.
    pub async fn new(
        cluster: &'a Cluster,
        name: &str,
        chassis: &str,
        nics: usize,
        options: &Options,
    ) -> Result<Self> {
        let namespace = &cluster.namespace;
        let provider = format!("{NETWORK}.{namespace}.ovn");
        let ports = [format!("{name}.{namespace}"), format!("{name}.{namespace}.{provider}")];
        let mut spec = GuestSpec::new(namespace, name, &cluster.node(chassis))
            .pod_annotation("ovn.kubernetes.io/virtualmachine", name);
        if nics > 1 {
            spec.nics.push(Nic::new("second", Binding::Bridge, "02:00:00:00:01:02").on(NETWORK));
            spec = spec.pod_annotation(&format!("{provider}.kubernetes.io/virtualmachine"), name);
        }
        let ports = ports[..nics].to_vec();
        cluster.cast.add_ports(&ports, options).await?;
        for port in &ports {
            cluster.cast.plug(port, chassis);
            cluster.cast.until_bound(port, chassis).await?;
        }
        let guest = Guest::create(&cluster.client, spec).await?;
        Ok(Self { cluster, guest, ports })
    }

    /// A migration of it, which begins with its first step.
    pub fn migrate(&'a self, name: &str, from: &str, to: &str) -> Move<'a> {
        let migration = self.guest.migrate(name, &self.cluster.node(to));
        Move {
            actor: self,
            migration,
            from: from.to_owned(),
            to: to.to_owned(),
            announces: true,
            hurried: false,
        }
    }

    /// Nothing is left on any port but what is to be, and `requested-chassis` has had none but these values, in this
    /// order. One that was replaced at once may not have been seen.
    ///
    /// # Errors
    ///
    /// What is left, or which values it has had.
    pub fn check_options(&self, now: &Options, pins: &[Option<&str>]) -> Result<()> {
        for port in &self.ports {
            let found = self.cluster.cast.options(port);
            ensure!(found == *now, "{port} is left with {found:?}");
            let seen = self.cluster.cast.pins(port);
            let mut expected = pins.iter();
            let in_order = seen.iter().all(|pin| expected.any(|value| *value == pin.as_deref()));
            ensure!(in_order, "{port} was pinned in turn to {seen:?}, expected {pins:?}");
        }
        Ok(())
    }
}

impl Move<'_> {
    /// The guest says nothing on the target: its user has paused it, or its announcement is lost.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.announces = false;
        self
    }

    /// All of it within a moment, whether or not anything is ready for it.
    #[must_use]
    pub fn hurried(mut self) -> Self {
        self.hurried = true;
        self
    }

    /// With an annotation that the target's pod alone has.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.migration = self.migration.annotated(key, value);
        self
    }

    /// Plays KubeVirt's writes, and on the nodes what goes with them. KubeVirt does not wait for anybody; what takes
    /// it seconds is waited for here.
    ///
    /// # Errors
    ///
    /// When a step cannot be made, or what it takes is not there in time.
    pub async fn play(&self, script: &Script) -> Result<()> {
        for step in script {
            match step {
                Step::TargetPodRunning if !self.hurried => self.reach(Phase::Arming).await?,
                Step::GuestResumes if !self.hurried => self.reach(Phase::Armed).await?,
                _ => {}
            }
            self.migration.step(step).await?;
            self.on_the_nodes(step).await.with_context(|| format!("after {step:?}"))?;
        }
        Ok(())
    }

    async fn on_the_nodes(&self, step: Step) -> Result<()> {
        let cast = &self.actor.cluster.cast;
        let ports = self.actor.ports.iter();
        match step {
            Step::Pending if !self.hurried => {
                self.reach(Phase::Pinning).await?;
                for port in ports {
                    cast.until_options(port, |found| {
                        let pin = found.options.get("requested-chassis");
                        pin == Some(&self.from) && found.external_ids.contains_key(MARK)
                    })
                    .await?;
                }
            }
            Step::TargetPodRunning => ports.for_each(|port| cast.plug(port, &self.to)),
            Step::GuestResumes if self.announces => {
                ports.for_each(|port| cast.announce(port, &self.to));
                if !self.hurried {
                    self.reach(Phase::Activated).await?;
                }
            }
            Step::SourcePodEnded | Step::SourcePodDeleted => {
                ports.for_each(|port| cast.unplug(port, &self.from))
            }
            Step::TargetPodFailed | Step::TargetPodDeleted => {
                ports.for_each(|port| cast.unplug(port, &self.to))
            }
            Step::SourceNodeLost => cast.lose_chassis(&self.from),
            Step::TargetNodeLost => cast.lose_chassis(&self.to),
            Step::SourceNodeRemoved => cast.remove_chassis(&self.from).await?,
            Step::TargetNodeRemoved => cast.remove_chassis(&self.to).await?,
            _ => {}
        }
        Ok(())
    }

    /// Its objects, if there is one for every port.
    fn objects<'o>(&self, objects: &'o Objects) -> Vec<&'o PortMigration> {
        let name = self.migration.name();
        let ours = |m: &&PortMigration| m.spec.guest.as_ref().is_some_and(|g| g.migration == name);
        objects.values().map(AsRef::as_ref).filter(ours).collect()
    }

    /// Waits until all its objects have come that far, or have ended.
    ///
    /// # Errors
    ///
    /// When they have not in time.
    pub async fn reach(&self, phase: Phase) -> Result<()> {
        let what = format!("{} to be {phase}", self.migration.name());
        let there = |all: &Objects| {
            let ours = self.objects(all);
            let enough = ours.len() == self.actor.ports.len();
            (enough && ours.iter().all(|m| m.phase() >= phase)).then_some(())
        };
        self.actor.cluster.cast.until(&what, there).await
    }

    /// Waits until all its objects have ended in `phase` and are let go.
    ///
    /// # Errors
    ///
    /// When they have not in time, or otherwise.
    pub async fn end(&self, phase: Phase) -> Result<()> {
        let what = format!("{} to end", self.migration.name());
        let ended = |all: &Objects| {
            let ours = self.objects(all);
            // A chassis that is no more never says that its flows are gone: the object stays in sight.
            let over = |m: &&PortMigration| m.phase().is_final() && m.metadata.finalizers.is_empty();
            (ours.len() == self.actor.ports.len() && ours.iter().all(&over))
                .then(|| ours.iter().map(|m| m.phase()).collect::<Vec<_>>())
        };
        let phases = self.actor.cluster.cast.until(&what, ended).await?;
        ensure!(phases.iter().all(|end| *end == phase), "ended {phases:?}, not {phase}");
        Ok(())
    }

    /// Its nodes as they were before `script`, for the next.
    ///
    /// # Errors
    ///
    /// When the server or the database refuses.
    pub async fn repair(&self, script: &Script) -> Result<()> {
        let cluster = self.actor.cluster;
        for (step, chassis) in [(Step::SourceNodeRemoved, &self.from), (Step::TargetNodeRemoved, &self.to)] {
            if script.steps().contains(&step) {
                nodes(&cluster.client, &[&cluster.node(chassis)]).await?;
                cluster.cast.add_chassis(chassis, &cluster.node(chassis)).await?;
            }
        }
        Ok(())
    }
}
