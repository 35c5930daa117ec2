//! The caller's end of a connection.

use std::sync::Arc;

use ofpacket::{
    AsyncConfig, Body, Experimenter, Features, FlowDescRequest, FlowMod, FlowMonitorCommand,
    FlowMonitorRequest, FlowStats, PacketOut, PortDesc, PortNo, ReplyBody, RequestBody, RoleMessage,
    SwitchConfig, SwitchDesc, TABLE_ALL, TlvMap,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::connection::{Call, Connection, now};
use crate::event::events;
use crate::machine::{Failure, Machine, Messages, Request, Response};
use crate::{BundleError, CloseReason, Config, Error, Events, Target};

/// Requests that may wait to be taken up; more of them wait in their callers.
const CALLS: usize = 64;

/// A connection to a switch. Cheap to clone; the connection ends when all clones and its [`Events`] are gone.
///
/// Every request fails with [`Error::Closed`] once the connection has ended; [`Session`](crate::Session) makes
/// another one. A request whose future is dropped has been made all the same.
#[derive(Debug, Clone)]
pub struct Client {
    calls: mpsc::Sender<Call>,
    closed: watch::Receiver<Option<CloseReason>>,
    features: Features,
}

impl Client {
    /// Connects, agrees upon OpenFlow 1.5, and asks for the asynchronous messages that [`Config`] names.
    /// The role stays "equal", the handling of fragments what it was.
    ///
    /// # Errors
    /// Nobody listens there, or whoever does speaks another version, refuses, or does not answer.
    pub async fn connect(target: &Target, config: Config) -> Result<(Self, Events), Error> {
        let failed = |error| Error::Connect { target: target.to_string(), source: Arc::new(error) };
        let limit = config.request_timeout;
        let timeout = |_| Error::Timeout { what: "the connection" };
        match target {
            Target::Unix(path) => {
                let stream = tokio::time::timeout(limit, UnixStream::connect(path)).await;
                Self::over(stream.map_err(timeout)?.map_err(failed)?, config).await
            }
            Target::Tcp(addr) => {
                let stream = tokio::time::timeout(limit, TcpStream::connect(addr)).await;
                let stream = stream.map_err(timeout)?.map_err(failed)?;
                // Requests are small and waited for.
                stream.set_nodelay(true).map_err(failed)?;
                Self::over(stream, config).await
            }
        }
    }

    /// As [`connect`](Client::connect), over a stream that is connected already.
    ///
    /// # Errors
    /// Whoever is at the other end speaks another version, refuses, or does not answer.
    pub async fn over<S>(stream: S, config: Config) -> Result<(Self, Events), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (calls, call_queue) = mpsc::channel(CALLS);
        let (closed_sender, closed) = watch::channel(None);
        let (ready_sender, ready) = oneshot::channel();
        let (event_sender, events) = events(config.max_event_bytes, closed.clone());
        let machine = Machine::new(config, now());
        let connection =
            Connection::new(stream, machine, call_queue, event_sender, ready_sender, closed_sender);
        tokio::spawn(connection.run());
        let features = ready.await.map_err(|_| Error::Closed(CloseReason::Unused))??;
        Ok((Self { calls, closed, features }, events))
    }

    /// What the switch said of itself.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether the connection has ended, and why.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed.borrow().clone()
    }

    async fn call(&self, request: Request) -> Result<Response, Failure> {
        let (answer, answered) = oneshot::channel();
        if let Err(mpsc::error::SendError(call)) = self.calls.send(Call { request, answer }).await {
            return Err(call.request.closed(self.reason()));
        }
        // The connection answers whatever it takes; that it was torn down by force is all that is left.
        answered.await.unwrap_or_else(|_| Err(Failure::Request(Error::Closed(self.reason()))))
    }

    fn reason(&self) -> CloseReason {
        self.closed().unwrap_or(CloseReason::Unused)
    }

    async fn ask(&self, request: Request) -> Result<Response, Error> {
        self.call(request).await.map_err(|failure| match failure {
            Failure::Request(error) => error,
            Failure::Bundle(_) => Error::Closed(self.reason()),
        })
    }

    /// Asks anything that is answered by one message of the same xid, and returns that message. For answers in
    /// parts there is [`multipart`](Self::multipart).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn request(&self, body: Body) -> Result<Body, Error> {
        let request = Request::Ask(body);
        let what = request.what();
        match self.ask(request).await? {
            Response::Message(body) => Ok(body),
            _ => Err(Error::Unexpected { what }),
        }
    }

    /// Asks anything whose answer may come in parts, and returns them all, in their order. The parts of a flow
    /// monitor are events, and not among them.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::ReplyTooLong`] if the parts have more than [`Config::max_reply`] bytes.
    pub async fn multipart(&self, body: RequestBody) -> Result<Vec<ReplyBody>, Error> {
        match self.ask(Request::Multipart(body)).await? {
            Response::Parts(parts) => Ok(parts),
            _ => Ok(Vec::new()),
        }
    }

    /// As [`multipart`](Self::multipart), for parts that must all be of the kind that `list` takes apart.
    async fn list<T>(
        &self,
        body: RequestBody,
        list: impl Fn(ReplyBody) -> Option<Vec<T>>,
    ) -> Result<Vec<T>, Error> {
        let request = Request::Multipart(body);
        let what = request.what();
        let Response::Parts(parts) = self.ask(request).await? else {
            return Err(Error::Unexpected { what });
        };
        let parts: Option<Vec<_>> = parts.into_iter().map(list).collect();
        let parts = parts.ok_or(Error::Unexpected { what })?;
        let mut all = Vec::with_capacity(parts.iter().map(Vec::len).sum());
        parts.into_iter().for_each(|part| all.extend(part));
        Ok(all)
    }

    /// The flows of a table, or of all tables, whose cookie agrees in the bits of `cookie_mask`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dump_flows(
        &self,
        table: Option<u8>,
        cookie: u64,
        cookie_mask: u64,
    ) -> Result<Vec<FlowStats>, Error> {
        let table_id = table.unwrap_or(TABLE_ALL);
        self.flow_desc(FlowDescRequest { table_id, cookie, cookie_mask, ..FlowDescRequest::default() }).await
    }

    /// The flows that the request names.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn flow_desc(&self, request: FlowDescRequest) -> Result<Vec<FlowStats>, Error> {
        let flows = |part| match part {
            ReplyBody::FlowDesc(flows) => Some(flows),
            _ => None,
        };
        self.list(RequestBody::FlowDesc(request), flows).await
    }

    /// The ports.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn port_desc(&self) -> Result<Vec<PortDesc>, Error> {
        let ports = |part| match part {
            ReplyBody::PortDesc(ports) => Some(ports),
            _ => None,
        };
        self.list(RequestBody::PortDesc(PortNo::ANY), ports).await
    }

    /// Who made the switch, and which version it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn desc(&self) -> Result<SwitchDesc, Error> {
        match self.multipart(RequestBody::Desc).await?.pop() {
            Some(ReplyBody::Desc(desc)) => Ok(*desc),
            _ => Err(Error::Unexpected { what: "the request for its description" }),
        }
    }

    /// The tunnel options that the bridge has mapped to fields.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tlv_table(&self) -> Result<Vec<TlvMap>, Error> {
        match self.request(Body::Experimenter(Experimenter::TlvTableRequest)).await? {
            Body::Experimenter(Experimenter::TlvTableReply(table)) => Ok(table.maps),
            _ => Err(Error::Unexpected { what: "the request for its tunnel options" }),
        }
    }

    /// What the switch does with fragments, and how much of a packet it sends. The former is the whole
    /// bridge's: to change it is to change it for everybody.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn switch_config(&self) -> Result<SwitchConfig, Error> {
        match self.request(Body::GetConfigRequest).await? {
            Body::GetConfigReply(config) => Ok(config),
            _ => Err(Error::Unexpected { what: "the request for its configuration" }),
        }
    }

    /// Asks for a role, and returns the one that the connection has now; with [`Role::NoChange`] it stays as it
    /// is. A connection begins as [`Role::Equal`]. Who becomes primary makes every other primary a secondary
    /// one, which may change nothing: on a bridge that others work on, such as OVN's, stay equal.
    ///
    /// [`Role::NoChange`]: ofpacket::Role::NoChange
    /// [`Role::Equal`]: ofpacket::Role::Equal
    ///
    /// # Errors
    /// See [`Error`]; the switch refuses a generation older than one it has seen.
    pub async fn role(&self, role: RoleMessage) -> Result<RoleMessage, Error> {
        match self.request(Body::RoleRequest(role)).await? {
            Body::RoleReply(role) => Ok(role),
            _ => Err(Error::Unexpected { what: "the request for a role" }),
        }
    }

    /// Which asynchronous messages the connection gets.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn async_config(&self) -> Result<AsyncConfig, Error> {
        match self.request(Body::GetAsyncRequest).await? {
            Body::GetAsyncReply(config) => Ok(config),
            _ => Err(Error::Unexpected { what: "the request for its choice of asynchronous messages" }),
        }
    }

    /// Asks for other asynchronous messages than [`Config`] did. Kinds that are left out stay as they are.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_async_config(&self, config: AsyncConfig) -> Result<(), Error> {
        self.send(vec![Body::SetAsync(config)]).await
    }

    /// Waits until the switch has finished what was sent before. A bundle that is under way is not among that:
    /// it is committed only after its own last answer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn barrier(&self) -> Result<(), Error> {
        self.send(Vec::new()).await
    }

    /// Sends messages that are not answered (group mods, meter mods, packet-outs, anything), and a barrier, and
    /// waits for that. If the switch refuses some, the others are carried out all the same, and the first refusal
    /// is the answer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send(&self, bodies: Vec<Body>) -> Result<(), Error> {
        self.ask(Request::Send(bodies)).await.map(|_| ())
    }

    /// Sends a packet, and waits until the switch has taken it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn packet_out(&self, packet: PacketOut) -> Result<(), Error> {
        self.packet_outs(vec![packet]).await
    }

    /// Sends packets, as [`send`](Self::send) does.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn packet_outs(&self, packets: Vec<PacketOut>) -> Result<(), Error> {
        self.send(packets.into_iter().map(Body::PacketOut).collect()).await
    }

    /// Asks to be told of flows. What is there already comes as [`Event::FlowUpdates`], then
    /// [`Event::InitialFlowsDone`], then what changes, one's own changes included; this returns when the second
    /// of these is queued. Read the events meanwhile if the first state may have more than
    /// [`Config::max_event_bytes`].
    ///
    /// The numbers of the monitors are the caller's, below 2³¹: for each of them there is a second one with the
    /// highest bit set, which makes Open vSwitch tell one's own changes in full.
    ///
    /// [`Event::FlowUpdates`]: crate::Event::FlowUpdates
    /// [`Event::InitialFlowsDone`]: crate::Event::InitialFlowsDone
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn monitor_flows(&self, monitors: Vec<FlowMonitorRequest>) -> Result<(), Error> {
        self.ask(Request::MonitorFlows(monitors)).await.map(|_| ())
    }

    /// Ends monitors, by their numbers. What they saw before may still come.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unmonitor_flows(&self, monitor_ids: &[u32]) -> Result<(), Error> {
        let delete = |&id| FlowMonitorRequest {
            command: FlowMonitorCommand::Delete,
            ..FlowMonitorRequest::everything(id)
        };
        self.monitor_flows(monitor_ids.iter().map(delete).collect()).await
    }

    /// Carries out flow mods in order as one bundle: all of them or none, and no packet sees a part of them.
    ///
    /// Bundles are sent one after the other, in the order in which they were asked. Other requests may overtake
    /// them.
    ///
    /// # Errors
    /// See [`BundleError`]: in all cases but [`BundleError::Unknown`] nothing was changed. Settle that one with
    /// [`settle`](Self::settle).
    pub async fn bundle(&self, mods: Vec<FlowMod>) -> Result<(), BundleError> {
        self.commit(Messages::Flows(mods)).await
    }

    /// As [`bundle`](Self::bundle), with flow mods, group mods and packet-outs in any order.
    ///
    /// Open vSwitch takes nothing else into an atomic bundle (`lib/ofp-bundle.c`, `ofproto/ofproto.c`): meter
    /// mods, table mods and tunnel option mods are refused when they are added, port mods when the bundle is
    /// committed. [`send`](Self::send) those.
    ///
    /// # Errors
    /// As [`bundle`](Self::bundle).
    pub async fn bundle_of(&self, bodies: Vec<Body>) -> Result<(), BundleError> {
        self.commit(Messages::Any(bodies)).await
    }

    async fn commit(&self, messages: Messages) -> Result<(), BundleError> {
        match self.call(Request::Bundle(messages)).await {
            Ok(_) => Ok(()),
            Err(Failure::Bundle(error)) => Err(error),
            // Not for want of an answer: it was never sent.
            Err(Failure::Request(Error::TooLarge(error))) => Err(BundleError::TooLarge { index: 0, error }),
            Err(Failure::Request(reason)) => Err(BundleError::Unknown { reason: Box::new(reason) }),
        }
    }
}
