//! What the switch tells by itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use ofpacket::{Body, FlowRemoved, FlowUpdate, OfError, PacketIn2, PortStatus};
use tokio::sync::{mpsc, oneshot, watch};

use crate::CloseReason;

/// Something that the switch told by itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// What flow monitors saw, in order.
    FlowUpdates(Vec<FlowUpdate>),
    /// All flows that were there when monitors were made have been told.
    InitialFlowsDone {
        /// The monitors' numbers.
        monitor_ids: Vec<u32>,
    },
    /// A packet for us.
    PacketIn(PacketIn2),
    /// A port came, went or changed.
    PortStatus(PortStatus),
    /// A flow went that had asked for it.
    FlowRemoved(FlowRemoved),
    /// Another asynchronous message, which was asked for with [`Client::set_async_config`]: of roles, tables,
    /// or requests of other controllers.
    ///
    /// [`Client::set_async_config`]: crate::Client::set_async_config
    Other(Body),
    /// An error that belongs to no request of ours that still waits.
    Error(OfError),
    /// The connection has ended. Nothing follows.
    Closed(CloseReason),
}

/// The stream of events of one connection.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::UnboundedReceiver<(Event, usize)>,
    waiting: Arc<AtomicUsize>,
    /// Set when the connection ends, before the queue's sender goes.
    closed: watch::Receiver<Option<CloseReason>>,
    told: bool,
    /// Tells the connection that nobody reads any more.
    _held: oneshot::Sender<()>,
}

/// The other end: the connection's.
#[derive(Debug)]
pub(crate) struct EventSender {
    queue: mpsc::UnboundedSender<(Event, usize)>,
    /// What waits in the queue, in bytes as [`cost`] counts them.
    waiting: Arc<AtomicUsize>,
    limit: usize,
    dropped: oneshot::Receiver<()>,
}

/// What an event counts for: its message's bytes, and something for itself.
fn cost(len: usize) -> usize {
    len + size_of::<Event>()
}

/// A queue for events of so many bytes.
pub(crate) fn events(limit: usize, closed: watch::Receiver<Option<CloseReason>>) -> (EventSender, Events) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (held, dropped) = oneshot::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let events = Events { queue: receiver, waiting: Arc::clone(&waiting), closed, told: false, _held: held };
    (EventSender { queue: sender, waiting, limit, dropped }, events)
}

impl EventSender {
    /// False if there is no room for it.
    pub(crate) fn send(&self, event: Event, len: usize) -> bool {
        let cost = cost(len);
        if self.waiting.load(Ordering::Relaxed).saturating_add(cost) > self.limit {
            return false;
        }
        self.waiting.fetch_add(cost, Ordering::Relaxed);
        // If nobody reads any more, nobody misses it.
        let _ = self.queue.send((event, cost));
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Ready when nobody reads any more; not to be asked again then.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.dropped).poll(cx).map(drop)
    }
}

impl Events {
    /// The next event, [`Event::Closed`] as the last one, then `None`. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for who writes futures by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let received = ready!(self.queue.poll_recv(cx));
        Poll::Ready(self.taken(received))
    }

    /// The next event, if one is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.queue.try_recv() {
            Ok(received) => self.taken(Some(received)),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => self.taken(None),
        }
    }

    fn taken(&mut self, received: Option<(Event, usize)>) -> Option<Event> {
        if let Some((event, cost)) = received {
            self.waiting.fetch_sub(cost, Ordering::Relaxed);
            return Some(event);
        }
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        let reason = self.closed.borrow().clone();
        Some(Event::Closed(reason.unwrap_or(CloseReason::Unused)))
    }
}
