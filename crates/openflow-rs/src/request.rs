//! What can be asked, and what is answered.

use ofpacket::{
    FlowDescRequest, FlowMod, FlowMonitorRequest, FlowStats, PacketOut, PortDesc, SwitchDesc, TlvTable,
};

use crate::{BundleError, CloseReason, Error};

/// Something to ask of the switch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Request {
    /// Its flows.
    DumpFlows(FlowDescRequest),
    /// Its tunnel options.
    TlvTable,
    /// Its ports.
    PortDesc,
    /// Who made it.
    Desc,
    /// To finish what was asked before.
    Barrier,
    /// To tell of flows.
    MonitorFlows(Vec<FlowMonitorRequest>),
    /// To change flows, all or none.
    Bundle(Vec<FlowMod>),
    /// To send packets.
    PacketOut(Vec<PacketOut>),
}

impl Request {
    /// Its failure, if it was never sent.
    pub(crate) fn closed(&self, reason: CloseReason) -> Failure {
        match self {
            Self::Bundle(_) => Failure::Bundle(BundleError::Closed(reason)),
            _ => Failure::Request(Error::Closed(reason)),
        }
    }

    /// A name for errors.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::DumpFlows(_) => "the request for its flows",
            Self::TlvTable => "the request for its tunnel options",
            Self::PortDesc => "the request for its ports",
            Self::Desc => "the request for its description",
            Self::Barrier => "a barrier",
            Self::MonitorFlows(_) => "a flow monitor",
            Self::Bundle(_) => "a bundle",
            Self::PacketOut(_) => "a packet",
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Response {
    /// To [`Request::DumpFlows`].
    Flows(Vec<FlowStats>),
    /// To [`Request::TlvTable`].
    TlvTable(TlvTable),
    /// To [`Request::PortDesc`].
    Ports(Vec<PortDesc>),
    /// To [`Request::Desc`].
    Desc(Box<SwitchDesc>),
    /// To the others: done.
    Done,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum Failure {
    /// Of a request other than a bundle.
    Request(Error),
    /// Of a bundle.
    Bundle(BundleError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Request(error)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}
