//! The caller's end of a connection.

use std::sync::Arc;
use std::time::Instant;

use ofpacket::{
    Features, FlowDescRequest, FlowMod, FlowMonitorRequest, FlowStats, PacketOut, PortDesc, SwitchDesc,
    TABLE_ALL, TlvMap,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::connection::{Call, Connection, Io};
use crate::machine::{Failure, Machine, Request, Response};
use crate::{BundleError, CloseReason, Config, Error, Event, Events, Target};

/// Requests that may wait to be taken up; more of them wait in their callers.
const CALLS: usize = 64;

/// A connection to a switch. Cheap to clone; the connection ends when all clones and its [`Events`] are gone.
///
/// Every request fails with [`Error::Closed`] once the connection has ended; to have another one is the
/// caller's affair.
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
        let (event_sender, event_queue) = mpsc::channel::<Event>(config.max_events.max(1));
        let (closed_sender, closed) = watch::channel(None);
        let (ready_sender, ready) = oneshot::channel();
        let connection = Connection {
            stream,
            machine: Machine::new(config, Instant::now()),
            calls: call_queue,
            events: event_sender,
            ready: Some(ready_sender),
            closed: closed_sender,
            io: Io::default(),
        };
        tokio::spawn(connection.run());
        let features = ready.await.map_err(|_| Error::Closed(CloseReason::Unused))??;
        let events = Events::new(event_queue, closed.clone());
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
        let request = FlowDescRequest { table_id, cookie, cookie_mask, ..FlowDescRequest::default() };
        match self.ask(Request::DumpFlows(request)).await? {
            Response::Flows(flows) => Ok(flows),
            _ => Ok(Vec::new()),
        }
    }

    /// The tunnel options that the bridge has mapped to fields.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tlv_table(&self) -> Result<Vec<TlvMap>, Error> {
        match self.ask(Request::TlvTable).await? {
            Response::TlvTable(table) => Ok(table.maps),
            _ => Ok(Vec::new()),
        }
    }

    /// The ports.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn port_desc(&self) -> Result<Vec<PortDesc>, Error> {
        match self.ask(Request::PortDesc).await? {
            Response::Ports(ports) => Ok(ports),
            _ => Ok(Vec::new()),
        }
    }

    /// Who made the switch, and which version it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn desc(&self) -> Result<SwitchDesc, Error> {
        match self.ask(Request::Desc).await? {
            Response::Desc(desc) => Ok(*desc),
            _ => Ok(SwitchDesc::default()),
        }
    }

    /// Waits until the switch has finished what was asked before.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn barrier(&self) -> Result<(), Error> {
        self.ask(Request::Barrier).await.map(|_| ())
    }

    /// Asks to be told of flows. What is there already comes as [`Event::FlowUpdates`], then
    /// [`Event::InitialFlowsDone`], then what changes, one's own changes included; this returns when the second
    /// of these is queued.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn monitor_flows(&self, monitors: Vec<FlowMonitorRequest>) -> Result<(), Error> {
        self.ask(Request::MonitorFlows(monitors)).await.map(|_| ())
    }

    /// Carries out flow mods in order as one bundle: all of them or none, and no packet sees a part of them.
    ///
    /// # Errors
    /// See [`BundleError`]: in all cases but [`BundleError::Unknown`] nothing was changed.
    pub async fn bundle(&self, mods: Vec<FlowMod>) -> Result<(), BundleError> {
        match self.call(Request::Bundle(mods)).await {
            Ok(_) => Ok(()),
            Err(Failure::Bundle(error)) => Err(error),
            Err(Failure::Request(reason)) => Err(BundleError::Unknown { reason: Box::new(reason) }),
        }
    }

    /// Sends a packet, and waits until the switch has taken it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn packet_out(&self, packet: PacketOut) -> Result<(), Error> {
        self.packet_outs(vec![packet]).await
    }

    /// Sends packets, and waits until the switch has taken them. If it refuses some, the others are sent
    /// all the same, and the first refusal is the answer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn packet_outs(&self, packets: Vec<PacketOut>) -> Result<(), Error> {
        self.ask(Request::PacketOut(packets)).await.map(|_| ())
    }
}
