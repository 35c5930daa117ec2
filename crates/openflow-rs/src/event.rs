//! What the switch tells by itself.

use ofpacket::{FlowRemoved, FlowUpdate, OfError, PacketIn2, PortStatus};
use tokio::sync::mpsc;
use tokio::sync::watch;

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
    /// An error that belongs to no request of ours that still waits.
    Error(OfError),
    /// The connection has ended. Nothing follows.
    Closed(CloseReason),
}

/// The stream of events of one connection.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
    /// Set when the connection ends, before the queue's sender goes.
    closed: watch::Receiver<Option<CloseReason>>,
    told: bool,
}

impl Events {
    pub(crate) fn new(queue: mpsc::Receiver<Event>, closed: watch::Receiver<Option<CloseReason>>) -> Self {
        Self { queue, closed, told: false }
    }

    /// The next event, [`Event::Closed`] as the last one, then `None`. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Event> {
        match self.queue.recv().await {
            Some(event) => Some(event),
            None => self.last(),
        }
    }

    /// The next event, if one is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.queue.try_recv() {
            Ok(event) => Some(event),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => self.last(),
        }
    }

    fn last(&mut self) -> Option<Event> {
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        let reason = self.closed.borrow().clone();
        Some(Event::Closed(reason.unwrap_or(CloseReason::Unused)))
    }
}
