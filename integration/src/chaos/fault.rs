//! What can be done to a cluster in the middle of a migration, and when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::process::Signal;

use super::objects::{Objects, has_reached};
use crate::daemon::Daemon;
use crate::demo::{Limosa, Object, PORT};
use crate::lab::Lab;
use crate::process::Process;

/// How long a process that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The chassis that the guest leaves.
    Source,
    /// The chassis that it goes to.
    Target,
    /// A chassis that it neither leaves nor goes to.
    Bystander,
}

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, to compare with.
    Nothing,
    /// `limosa agent` is killed.
    Agent(Role),
    /// `limosa controller` is killed.
    Controller,
    /// ovn-controller is killed. When it is back it deletes every flow of the
    /// bridge before it writes its own.
    OvnController(Role),
    /// ovs-vswitchd is killed: the data plane itself.
    Vswitchd(Role),
    /// Limosa's store is not there.
    StoreGone,
    /// Limosa's store is full.
    StoreFull,
    /// ovn-controller stands still (SIGSTOP).
    OvnControllerFrozen(Role),
    /// br-int is deleted; ovn-controller makes it anew.
    BridgeRecreated(Role),
    /// The guest's interface gets another port number.
    Replugged(Role),
    /// The tunnel between source and target is deleted on one of them;
    /// ovn-controller makes it anew, with another port number.
    TunnelRecreated(Role),
}

use Fault::{
    Agent, BridgeRecreated, Controller, Nothing, OvnController, OvnControllerFrozen, Replugged, StoreFull,
    StoreGone, TunnelRecreated, Vswitchd,
};
use Role::{Bystander, Source, Target};

impl Fault {
    /// Each process of the matrix; each is killed at every boundary.
    pub const KILLED: [Self; 9] = [
        Agent(Source),
        Agent(Target),
        Agent(Bystander),
        Controller,
        OvnController(Source),
        OvnController(Target),
        Vswitchd(Target),
        StoreGone,
        StoreFull,
    ];

    /// The others that there are besides [`Self::KILLED`].
    const OTHERS: [Self; 11] = [
        Nothing,
        OvnControllerFrozen(Target),
        OvnController(Bystander),
        Vswitchd(Source),
        BridgeRecreated(Source),
        BridgeRecreated(Target),
        BridgeRecreated(Bystander),
        Replugged(Source),
        Replugged(Target),
        TunnelRecreated(Source),
        TunnelRecreated(Target),
    ];

    /// One word of it, for the command line and for file names.
    pub(super) fn slug(self) -> String {
        self.to_string().replace(" on the ", "-").replace(' ', "-")
    }

    /// Whether it breaks the data plane itself, in more ways than a flow monitor
    /// shows: ports, tunnels and what the switch has cached.
    pub(super) fn breaks_data_plane(self) -> bool {
        matches!(self, Vswitchd(_) | BridgeRecreated(_) | Replugged(_) | TunnelRecreated(_))
    }

    /// Whether whoever supervises the process has it back at once. (ovs-vswitchd
    /// brings its own supervisor, `--monitor`.) The others stay away until the
    /// migration has gone on without them, or cannot.
    pub(super) fn is_short(self) -> bool {
        matches!(self, Nothing | Vswitchd(_) | BridgeRecreated(_) | Replugged(_) | TunnelRecreated(_))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source => "source",
            Target => "target",
            Bystander => "bystander",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, role) = match self {
            Nothing => ("nothing", None),
            Agent(role) => ("agent", Some(role)),
            Controller => ("controller", None),
            OvnController(role) => ("ovn-controller", Some(role)),
            Vswitchd(role) => ("ovs-vswitchd", Some(role)),
            StoreGone => ("store gone", None),
            StoreFull => ("store full", None),
            OvnControllerFrozen(role) => ("frozen ovn-controller", Some(role)),
            BridgeRecreated(role) => ("br-int re-created", Some(role)),
            Replugged(role) => ("interface re-plugged", Some(role)),
            TunnelRecreated(role) => ("tunnel re-created", Some(role)),
        };
        let text = role.map_or_else(|| what.to_owned(), |role| format!("{what} on the {role}"));
        f.pad(&text)
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = || Self::KILLED.into_iter().chain(Self::OTHERS);
        let known = || all().map(Self::slug).collect::<Vec<_>>().join(", ");
        let found = all().find(|fault| fault.slug() == text);
        found.with_context(|| format!("{text:?} is no fault; one of {}", known()))
    }
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Boundary {
    /// The migration is accepted, the port is being pinned.
    BeforeArm,
    /// Mirror and gate stand.
    Armed,
    /// The guest stands still and resumes as soon as the fault has struck: its
    /// announcement finds the cluster so.
    AtResume,
    /// The agent on the target has reported the announcement.
    Activated,
    /// OVN has the port on both chassis.
    Bound,
    /// OVN's own flows carry the traffic.
    Switched,
    /// OVN has the port on the target alone.
    Released,
    /// Every flow is gone, the source's interface and the pin are not.
    Cleaned,
}

impl Boundary {
    /// Each, in order.
    pub const ALL: [Self; 8] = [
        Self::BeforeArm,
        Self::Armed,
        Self::AtResume,
        Self::Activated,
        Self::Bound,
        Self::Switched,
        Self::Released,
        Self::Cleaned,
    ];

    /// The phase in which the fault strikes.
    pub(super) fn phase(self) -> &'static str {
        match self {
            Self::BeforeArm => "Pinning",
            Self::Armed | Self::AtResume => "Armed",
            Self::Activated => "Activated",
            Self::Bound => "Bound",
            Self::Switched => "Switched",
            Self::Released | Self::Cleaned => "Released",
        }
    }

    /// Whether a migration is past this boundary.
    pub(super) fn is_passed(self, object: &Object) -> bool {
        has_reached(object, self.phase()) && object.phase() != self.phase()
    }

    /// One word of it.
    pub(super) fn slug(self) -> &'static str {
        match self {
            Self::BeforeArm => "before-arm",
            Self::Armed => "armed",
            Self::AtResume => "at-resume",
            Self::Activated => "activated",
            Self::Bound => "bound",
            Self::Switched => "switched",
            Self::Released => "released",
            Self::Cleaned => "cleaned",
        }
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.slug().replace('-', " "))
    }
}

/// The chassis of one migration.
#[derive(Debug, Clone)]
pub(super) struct Chassis {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) other: String,
}

impl Chassis {
    pub(super) fn of(&self, role: Role) -> &str {
        match role {
            Source => &self.from,
            Target => &self.to,
            Bystander => &self.other,
        }
    }
}

/// A fault that is about to strike.
#[derive(Debug)]
pub(super) struct Injury<'a> {
    pub(super) fault: Fault,
    pub(super) chassis: Chassis,
    pub(super) lab: &'a Lab,
    pub(super) limosa: &'a mut Limosa,
    pub(super) objects: &'a Objects,
    /// Held beforehand: to find a daemon takes longer than some steps do.
    daemon: Option<Process>,
}

impl<'a> Injury<'a> {
    pub(super) fn prepare(
        fault: Fault,
        chassis: Chassis,
        lab: &'a Lab,
        limosa: &'a mut Limosa,
        objects: &'a Objects,
    ) -> Result<Self> {
        let mut injury = Self { fault, chassis, lab, limosa, objects, daemon: None };
        if let Some((place, daemon)) = injury.daemon() {
            let process = lab.daemon(place, daemon).process()?;
            injury.daemon =
                Some(process.with_context(|| format!("{} of {place} is not there", daemon.name()))?);
        }
        Ok(injury)
    }

    fn daemon(&self) -> Option<(&str, Daemon)> {
        match self.fault {
            OvnController(role) | OvnControllerFrozen(role) => {
                Some((self.chassis.of(role), Daemon::OvnController))
            }
            Vswitchd(role) => Some((self.chassis.of(role), Daemon::Vswitchd)),
            _ => None,
        }
    }

    /// Strikes; what was killed is gone when this returns.
    pub(super) async fn strike(&self) -> Result<()> {
        let Self { lab, limosa, objects, chassis, .. } = self;
        match (self.fault, &self.daemon) {
            (Nothing, _) => Ok(()),
            (OvnControllerFrozen(_), Some(process)) => process.kill(Signal::STOP),
            (_, Some(process)) => {
                process.kill(Signal::KILL)?;
                process.wait_exit(GONE).await
            }
            (Agent(role), _) => kill(limosa.agent(chassis.of(role))).await,
            (Controller, _) => kill(limosa.controller()).await,
            (StoreGone, _) => objects.take_away(lab).await,
            (StoreFull, _) => objects.fill(lab).await,
            (BridgeRecreated(role), _) => {
                lab.vsctl(chassis.of(role), &["--no-wait", "del-br", "br-int"]).await.map(drop)
            }
            (Replugged(role), _) => self.replug(chassis.of(role)).await,
            (TunnelRecreated(role), _) => {
                let peer = if role == Source { &chassis.to } else { &chassis.from };
                let tunnel = self.tunnel(chassis.of(role), peer).await?;
                lab.vsctl(chassis.of(role), &["del-port", "br-int", &tunnel]).await.map(drop)
            }
            (OvnController(_) | OvnControllerFrozen(_) | Vswitchd(_), None) => Ok(()),
        }
    }

    /// Mends what it did.
    pub(super) async fn mend(&mut self) -> Result<()> {
        let (lab, objects, chassis) = (self.lab, self.objects, self.chassis.clone());
        match self.fault {
            Nothing | Replugged(_) | TunnelRecreated(_) => Ok(()),
            Agent(role) => self.limosa.start_agent(lab, chassis.of(role)).await,
            Controller => self.limosa.start_controller(lab).await,
            OvnController(role) => lab.daemon(chassis.of(role), Daemon::OvnController).start().await,
            Vswitchd(role) => lab.daemon(chassis.of(role), Daemon::Vswitchd).start().await,
            OvnControllerFrozen(role) => lab.daemon(chassis.of(role), Daemon::OvnController).resume(),
            StoreGone => objects.give_back(lab).await,
            StoreFull => objects.make_room(lab).await,
            BridgeRecreated(role) => {
                // As the CNI does when it finds its interface missing.
                let name = chassis.of(role);
                let args = ["wait-until", "bridge", "br-int", "name=br-int"];
                lab.vsctl(name, &args).await?;
                let peer = format!("p{}", name.trim_start_matches("ch"));
                lab.plug(name, &format!("v-{peer}"), &peer).await?;
                if role == Bystander {
                    return Ok(());
                }
                lab.plug(name, &tap(), PORT).await
            }
        }
    }

    /// Asks for a port number that nobody has.
    async fn replug(&self, chassis: &str) -> Result<()> {
        let tap = tap();
        let old = self.lab.vsctl(chassis, &["get", "interface", &tap, "ofport"]).await?;
        let old: u32 = old.trim().parse().context("a port without a number")?;
        let number = format!("ofport_request={}", old + 1000);
        self.lab.vsctl(chassis, &["set", "interface", &tap, &number]).await.map(drop)
    }

    async fn tunnel(&self, chassis: &str, peer: &str) -> Result<String> {
        let find = ["--bare", "--columns=name,external_ids", "find", "port"];
        let ports = self.lab.vsctl(chassis, &find).await?;
        let mut lines = ports.lines();
        while let Some(name) = lines.next() {
            if lines.next().is_some_and(|ids| ids.contains(&format!("ovn-chassis-id={peer}@"))) {
                return Ok(name.to_owned());
            }
            lines.next();
        }
        anyhow::bail!("{chassis} has no tunnel to {peer}")
    }
}

/// The guest's interface, on either side.
fn tap() -> String {
    format!("t-{PORT}")
}

async fn kill(process: Option<&crate::process::LabProcess>) -> Result<()> {
    let process = process.context("it was never started")?;
    process.kill(Signal::KILL)?;
    process.wait_exit(GONE).await.map(drop)
}
