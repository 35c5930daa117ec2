//! What can be asked, and what is answered.

use ofpacket::{Body, Experimenter, FlowMod, FlowMonitorRequest, ReplyBody, RequestBody};

use crate::{BundleError, CloseReason, Error};

/// Something to ask of the switch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Request {
    /// A message that is answered by one message: features, configuration, role, tunnel options.
    Ask(Body),
    /// A question whose answer may come in parts.
    Multipart(RequestBody),
    /// To tell of flows.
    MonitorFlows(Vec<FlowMonitorRequest>),
    /// Messages that are not answered unless they are refused; a barrier after them is.
    Send(Vec<Body>),
    /// To carry out messages as one, all or none.
    Bundle(Messages),
}

/// The messages of a bundle, in order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Messages {
    /// Flow mods.
    Flows(Vec<FlowMod>),
    /// What [`Client::bundle_of`](crate::Client::bundle_of) takes.
    Any(Vec<Body>),
}

impl Messages {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Flows(mods) => mods.len(),
            Self::Any(bodies) => bodies.len(),
        }
    }
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
            Self::Ask(Body::RoleRequest(_)) => "the request for a role",
            Self::Ask(Body::GetConfigRequest) => "the request for its configuration",
            Self::Ask(Body::GetAsyncRequest) => "the request for its choice of asynchronous messages",
            Self::Ask(Body::Experimenter(Experimenter::TlvTableRequest)) => {
                "the request for its tunnel options"
            }
            Self::Ask(_) => "a request",
            Self::Multipart(RequestBody::FlowDesc(_)) => "the request for its flows",
            Self::Multipart(RequestBody::PortDesc(_)) => "the request for its ports",
            Self::Multipart(RequestBody::Desc) => "the request for its description",
            Self::Multipart(RequestBody::FlowMonitor(_)) | Self::MonitorFlows(_) => "a flow monitor",
            Self::Multipart(_) => "a multipart request",
            Self::Send(bodies) if bodies.is_empty() => "a barrier",
            Self::Send(bodies) if bodies.iter().all(|body| matches!(body, Body::PacketOut(_))) => "a packet",
            Self::Send(_) => "a message",
            Self::Bundle(_) => "a bundle",
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Response {
    /// To [`Request::Ask`].
    Message(Body),
    /// To [`Request::Multipart`], in the order in which they came.
    Parts(Vec<ReplyBody>),
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
