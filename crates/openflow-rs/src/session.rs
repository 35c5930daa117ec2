//! A connection that is made again whenever it is lost, and the table of flows that survives it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ofpacket::{Features, Flow, FlowMonitorRequest, FlowUpdate};
use tokio::time::{Instant, Sleep, sleep};

use crate::backoff::Backoff;
use crate::{Client, CloseReason, Config, Error, Event, Events, FlowTable, Target};

/// How to keep a connection.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Of each connection.
    pub connection: Config,
    /// What is asked for on each connection, and fills the table; nothing if there are none.
    pub monitors: Vec<FlowMonitorRequest>,
    /// The wait after the first failure; it doubles with each one that follows.
    pub first_wait: Duration,
    /// The longest wait. After a connection that lasted longer the waits begin anew.
    pub longest_wait: Duration,
}

impl Default for SessionConfig {
    /// Everything about all flows.
    fn default() -> Self {
        Self {
            connection: Config::default(),
            monitors: vec![FlowMonitorRequest::everything(1)],
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(5),
        }
    }
}

/// What happens in a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionEvent {
    /// There is a connection, [`Session::client`]. The table is still that of the connection before.
    Connected(Features),
    /// The table has been replaced by the flows that this connection has found.
    TableReplaced,
    /// Flows have changed, and the table with them.
    FlowUpdates {
        /// In order.
        updates: Vec<FlowUpdate>,
        /// Whether the table is another one than before: not if its filter cares for none of them.
        changed: bool,
    },
    /// Anything else that the switch tells.
    Event(Event),
    /// There is no connection: the last one was lost, or none could be made.
    Lost {
        /// Why.
        reason: Error,
        /// When the next attempt will be made.
        retry_in: Duration,
    },
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Connect = Box<dyn FnMut(Config) -> BoxFuture<Result<(Client, Events), Error>> + Send>;
type Filter = Arc<dyn Fn(&Flow) -> bool + Send + Sync>;

/// A connection that is made again whenever it is lost, with its flow monitors, and the table that these
/// fill.
///
/// It has no task of its own: it connects, reads and waits while [`next`](Self::next) is awaited, which is to
/// be done all the time.
///
/// ```no_run
/// use openflow_rs::{Session, SessionConfig, SessionEvent};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let target = "unix:/run/openvswitch/br-int.mgmt".parse()?;
/// let mut session = Session::new(target, SessionConfig::default(), |flow| flow.table_id == 65);
/// loop {
///     match session.next().await {
///         SessionEvent::TableReplaced | SessionEvent::FlowUpdates { changed: true, .. } => {
///             println!("{} flows in table 65", session.flows().len());
///         }
///         SessionEvent::Lost { reason, retry_in } => println!("{reason}; next attempt in {retry_in:?}"),
///         _ => {}
///     }
/// }
/// # }
/// ```
pub struct Session {
    config: SessionConfig,
    connect: Connect,
    filter: Filter,
    state: State,
    backoff: Backoff,
    table: FlowTable,
}

enum State {
    Waiting(Pin<Box<Sleep>>),
    Connecting(BoxFuture<Result<(Client, Events), Error>>),
    Connected(Box<Connected>),
}

struct Connected {
    client: Client,
    events: Events,
    since: Instant,
    /// The request for the monitors, until it is answered.
    subscribing: Option<BoxFuture<Result<(), Error>>>,
    /// What this connection has found, until that is complete.
    found: Option<FlowTable>,
}

impl Session {
    /// Of this switch, with a table of the flows for which `filter` is true.
    pub fn new(
        target: Target,
        config: SessionConfig,
        filter: impl Fn(&Flow) -> bool + Send + Sync + 'static,
    ) -> Self {
        let connect = move |config| {
            let target = target.clone();
            async move { Client::connect(&target, config).await }
        };
        Self::with(connect, config, filter)
    }

    /// As [`new`](Self::new), with connections that `connect` makes, for instance with [`Client::over`].
    pub fn with<F>(
        mut connect: impl FnMut(Config) -> F + Send + 'static,
        config: SessionConfig,
        filter: impl Fn(&Flow) -> bool + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(Client, Events), Error>> + Send + 'static,
    {
        let filter: Filter = Arc::new(filter);
        let mut connect: Connect = Box::new(move |config| Box::pin(connect(config)));
        Self {
            state: State::Connecting(connect(config.connection.clone())),
            backoff: Backoff::new(config.first_wait, config.longest_wait),
            table: table(&filter),
            config,
            connect,
            filter,
        }
    }

    /// The connection, while there is one.
    pub fn client(&self) -> Option<&Client> {
        match &self.state {
            State::Connected(connected) => Some(&connected.client),
            _ => None,
        }
    }

    /// The flows, as the last [`SessionEvent`] has left them: while there is no connection, and until the next one
    /// has found all of them, those of the last one.
    pub fn flows(&self) -> &FlowTable {
        &self.table
    }

    /// Whether [`flows`](Self::flows) is what the switch has, as far as it has told: there is a connection, which
    /// has found all flows and is not paused.
    pub fn is_current(&self) -> bool {
        match &self.state {
            State::Connected(connected) => connected.found.is_none() && !self.table.is_paused(),
            _ => false,
        }
    }

    /// What happens next; it never ends. May be cancelled without loss.
    pub async fn next(&mut self) -> SessionEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What has happened already, if anything has.
    pub fn try_next(&mut self) -> Option<SessionEvent> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    /// Gives up the connection, if there is one, and makes another one at once: for a caller who knows that the
    /// table cannot be right.
    pub fn reconnect(&mut self) {
        self.state = State::Connecting((self.connect)(self.config.connection.clone()));
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<SessionEvent> {
        loop {
            let told = match &mut self.state {
                State::Waiting(wait) => {
                    std::task::ready!(wait.as_mut().poll(cx));
                    self.reconnect();
                    continue;
                }
                State::Connecting(connect) => match std::task::ready!(connect.as_mut().poll(cx)) {
                    Ok((client, events)) => return Poll::Ready(self.connected(client, events)),
                    Err(reason) => return Poll::Ready(self.lost(reason, Duration::ZERO)),
                },
                State::Connected(connected) => {
                    std::task::ready!(connected.poll_next(cx, &mut self.table))
                }
            };
            match told {
                Ok(Some(event)) => return Poll::Ready(event),
                Ok(None) => {}
                Err(reason) => {
                    let State::Connected(connected) = &self.state else { continue };
                    let used = connected.since.elapsed();
                    return Poll::Ready(self.lost(reason, used));
                }
            }
        }
    }

    fn connected(&mut self, client: Client, events: Events) -> SessionEvent {
        let features = *client.features();
        let (mut subscribing, mut found) = (None, None);
        if !self.config.monitors.is_empty() {
            let (client, monitors) = (client.clone(), self.config.monitors.clone());
            let request = async move { client.monitor_flows(monitors).await };
            subscribing = Some(Box::pin(request) as BoxFuture<_>);
            found = Some(table(&self.filter));
        }
        let since = Instant::now();
        self.state = State::Connected(Box::new(Connected { client, events, since, subscribing, found }));
        SessionEvent::Connected(features)
    }

    fn lost(&mut self, reason: Error, used: Duration) -> SessionEvent {
        let retry_in = self.backoff.wait(used);
        self.state = State::Waiting(Box::pin(sleep(retry_in)));
        SessionEvent::Lost { reason, retry_in }
    }
}

impl Connected {
    /// The next thing that happens on the connection, `None` if it is nothing to tell; an error when it is to
    /// be given up.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        table: &mut FlowTable,
    ) -> Poll<Result<Option<SessionEvent>, Error>> {
        if let Some(subscribing) = &mut self.subscribing
            && let Poll::Ready(subscribed) = subscribing.as_mut().poll(cx)
        {
            self.subscribing = None;
            return Poll::Ready(subscribed.map(|()| None));
        }
        let event = std::task::ready!(self.events.poll_next(cx));
        Poll::Ready(Ok(match event {
            None => return Poll::Ready(Err(Error::Closed(CloseReason::Unused))),
            Some(Event::Closed(reason)) => return Poll::Ready(Err(Error::Closed(reason))),
            Some(Event::FlowUpdates(updates)) => match &mut self.found {
                Some(found) => {
                    apply(found, &updates);
                    None
                }
                None => {
                    let changed = apply(table, &updates);
                    Some(SessionEvent::FlowUpdates { updates, changed })
                }
            },
            Some(Event::InitialFlowsDone { .. }) => self.found.take().map(|found| {
                *table = found;
                SessionEvent::TableReplaced
            }),
            Some(event) => Some(SessionEvent::Event(event)),
        }))
    }
}

fn apply(table: &mut FlowTable, updates: &[FlowUpdate]) -> bool {
    updates.iter().filter(|update| table.apply(update)).count() > 0
}

fn table(filter: &Filter) -> FlowTable {
    let filter = Arc::clone(filter);
    FlowTable::new(move |flow| filter(flow))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting(_) => "waiting",
            State::Connecting(_) => "connecting",
            State::Connected(connected) if connected.found.is_some() => "finding flows",
            State::Connected(_) => "connected",
        };
        f.debug_struct("Session").field("state", &state).field("table", &self.table).finish_non_exhaustive()
    }
}
