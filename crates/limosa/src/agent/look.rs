//! One look at a chassis, for the verbs: what the agent would go by now.

use std::path::{Path, PathBuf};
use std::time::Duration;

use limosa_protocol::object::Problem;
use limosa_protocol::{Facts, Survey};
use ofpacket::FlowStats;
use openflow_rs::{Client, Events};

use super::connections;
use super::local::{Integration, Local};
use super::switch;

/// ovs-vswitchd may be busy, and answers from its main thread.
const DEADLINE: Duration = Duration::from_secs(10);

/// A chassis whose local database answers.
#[derive(Debug)]
pub(crate) struct Look {
    local: Local,
    pub(crate) chassis: String,
    ovs_rundir: PathBuf,
}

/// A chassis' bridge at one instant.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) bridge: String,
    pub(crate) facts: Facts,
    pub(crate) survey: Survey,
    /// Every flow of the bridge, with what it has counted.
    pub(crate) flows: Vec<FlowStats>,
}

/// A bridge whose management socket answers.
#[derive(Debug)]
pub(crate) struct Bridge {
    name: String,
    datapath: String,
    ovs_rundir: PathBuf,
    facts: Facts,
    client: Client,
    /// Dropped, they would close the connection.
    _events: Events,
    socket: String,
}

impl Look {
    /// Opens the local database; without a name the chassis is `external_ids:system-id`.
    pub(crate) async fn open(ovs_rundir: &Path, chassis: Option<&str>) -> Result<Self, Problem> {
        let local = Local::open(ovs_rundir);
        local.ready().await;
        if !local.session().replica().connected {
            local.read(chassis.unwrap_or("(not known yet)"))?;
        }
        let chassis = match chassis {
            Some(chassis) => chassis.to_owned(),
            None => match tokio::time::timeout(Duration::from_millis(100), local.system_id()).await {
                Ok(Ok(chassis)) => chassis,
                _ => {
                    let message = "the local Open_vSwitch database has no external_ids:system-id: name the chassis (--chassis), or set it as ovn-controller needs it";
                    return Err(Problem::new("NoSystemId", message));
                }
            },
        };
        Ok(Self { local, chassis, ovs_rundir: ovs_rundir.to_owned() })
    }

    /// Connects to the integration bridge.
    pub(crate) async fn bridge(&self) -> Result<Bridge, Problem> {
        let (Integration { name, datapath }, facts) = self.local.read(&self.chassis)?;
        let (client, events, socket) = switch::connect(&self.ovs_rundir, &name, None).await?;
        let ovs_rundir = self.ovs_rundir.clone();
        Ok(Bridge { name, datapath, ovs_rundir, facts, client, _events: events, socket })
    }
}

impl Bridge {
    /// Reads all there is: the flows, and where OVN's option is.
    pub(crate) async fn read(&self) -> Result<Reading, Problem> {
        let failed = |error: openflow_rs::Error| switch::unreachable(&self.socket, &error);
        let asked = async {
            let geneve_index = switch::geneve_index(&self.client).await?;
            Ok((geneve_index, self.client.dump_flows(None, 0, 0).await?))
        };
        let (geneve_index, flows) = self.within(asked).await?.map_err(failed)?;
        let survey = Survey::of(flows.iter().map(|stats| &stats.flow));
        let facts = Facts { geneve_index, layout: survey.layout, ..self.facts.clone() };
        Ok(Reading { bridge: self.name.clone(), facts, survey, flows })
    }

    /// The switch's version, as it says it.
    pub(crate) async fn software(&self) -> Result<String, Problem> {
        let desc = self.within(self.client.desc()).await?;
        Ok(desc.map_err(|error| switch::unreachable(&self.socket, &error))?.software)
    }

    /// Whether the bridge's connection tracker compares TCP sequence numbers.
    pub(crate) async fn checks_sequence(&self) -> anyhow::Result<bool> {
        connections::checks_sequence(&self.ovs_rundir, &self.datapath).await
    }

    async fn within<T>(&self, asked: impl Future<Output = T>) -> Result<T, Problem> {
        let late = || {
            let message = format!(
                "{} has not answered for {} s: is ovs-vswitchd stuck?",
                self.socket,
                DEADLINE.as_secs()
            );
            Problem::new("SwitchUnreachable", message)
        };
        tokio::time::timeout(DEADLINE, asked).await.map_err(|_| late())
    }
}
