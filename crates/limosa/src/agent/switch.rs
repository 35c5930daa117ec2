//! The integration bridge, followed: its flows, and what the switch tells.

use std::path::Path;

use limosa_protocol::Survey;
use limosa_protocol::cookie::Cookie;
use limosa_protocol::flows::CONTROLLER_ID;
use limosa_protocol::object::Problem;
use ofpacket::{FlowMod, FlowMonitorRequest};
use openflow_rs::{BundleError, Client, Config, Event, Events, FlowTable, Target};

/// OVN's Geneve option (`ovn/lib/ovn-util.h`, ovn-architecture(7)).
const GENEVE_CLASS: u16 = 0x102;
const GENEVE_TYPE: u8 = 0x80;

/// A connection to the bridge, with a table of the flows that matter to us.
#[derive(Debug)]
pub(super) struct Switch {
    client: Client,
    events: Events,
    flows: FlowTable,
    /// The first state of the table is complete.
    complete: bool,
    socket: String,
}

/// What an event means for the agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Flows have changed, or the table has become complete.
    Flows,
    /// The guest of this migration has announced itself.
    Announced(u32),
    /// Nothing of interest.
    Nothing,
    /// The connection has gone, for this reason.
    Closed(String),
}

impl Switch {
    /// Connects to a bridge's management socket.
    pub(super) async fn connect(ovs_rundir: &Path, bridge: &str) -> Result<Self, Problem> {
        let socket = ovs_rundir.join(format!("{bridge}.mgmt"));
        let unreachable = |error: openflow_rs::Error| {
            Problem::new(
                "SwitchUnreachable",
                format!(
                    "no OpenFlow 1.5 connection to {}: {error}: is ovs-vswitchd running, and is --ovs-rundir its run directory?",
                    socket.display()
                ),
            )
        };
        let target = Target::Unix(socket.clone());
        let config = Config { controller_id: CONTROLLER_ID, ..Config::default() };
        let (client, events) = Client::connect(&target, config).await.map_err(unreachable)?;
        client.monitor_flows(vec![FlowMonitorRequest::everything(1)]).await.map_err(unreachable)?;
        let flows = FlowTable::new(Survey::is_of_interest);
        Ok(Self { client, events, flows, complete: false, socket: socket.display().to_string() })
    }

    /// Waits for the next event and keeps the table up to date.
    pub(super) async fn next(&mut self) -> Told {
        match self.events.next().await {
            Some(event) => self.note(event),
            None => Told::Closed("the connection has ended".to_owned()),
        }
    }

    /// The next event, if one is here already.
    pub(super) fn try_next(&mut self) -> Option<Told> {
        self.events.try_next().map(|event| self.note(event))
    }

    fn note(&mut self, event: Event) -> Told {
        match event {
            Event::FlowUpdates(updates) => {
                let mut changed = false;
                for update in &updates {
                    changed |= self.flows.apply(update);
                }
                if changed { Told::Flows } else { Told::Nothing }
            }
            Event::InitialFlowsDone { .. } => {
                self.complete = true;
                Told::Flows
            }
            Event::PacketIn(packet_in) => {
                let cookie = packet_in.userdata.as_ref().try_into().map(u64::from_be_bytes);
                match cookie.ok().and_then(Cookie::decode) {
                    Some(cookie) => Told::Announced(cookie.migration),
                    None => Told::Nothing,
                }
            }
            Event::Error(error) => {
                tracing::warn!(%error, "the switch reports an error");
                Told::Nothing
            }
            Event::Closed(reason) => Told::Closed(reason.to_string()),
            _ => Told::Nothing,
        }
    }

    /// What the flows say; `None` until the first state is complete.
    pub(super) fn survey(&self) -> Option<Survey> {
        self.complete.then(|| Survey::of(self.flows.iter()))
    }

    /// The `tun_metadata` index of OVN's Geneve option, if it is mapped.
    pub(super) async fn geneve_index(&self) -> Result<Option<u8>, Problem> {
        let maps = self.client.tlv_table().await.map_err(|error| self.lost(&error.to_string()))?;
        let ours = maps.iter().find(|map| map.class == GENEVE_CLASS && map.kind == GENEVE_TYPE);
        Ok(ours.and_then(|map| u8::try_from(map.index).ok()))
    }

    /// Carries out flow mods as one atomic bundle: all of them or none.
    pub(super) async fn bundle(&self, mods: Vec<FlowMod>) -> Result<(), Problem> {
        match self.client.bundle(mods.clone()).await {
            Ok(()) => Ok(()),
            Err(BundleError::Rejected(errors)) => {
                let refused = |(i, error): &(usize, openflow_rs::OfError)| match mods.get(*i) {
                    Some(flow_mod) => format!("{error} for {}", flow_mod.flow),
                    None => error.to_string(),
                };
                let refused: Vec<String> = errors.iter().map(refused).collect();
                let message =
                    format!("{} refused flows, and none was changed: {}", self.socket, refused.join("; "));
                Err(Problem::new("FlowsRefused", message))
            }
            // Done or not, the flow monitor will show it.
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    fn lost(&self, error: &str) -> Problem {
        Problem::new(
            "SwitchUnreachable",
            format!("{} does not answer: {error}: is ovs-vswitchd running?", self.socket),
        )
    }
}
