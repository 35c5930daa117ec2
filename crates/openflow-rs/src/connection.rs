//! The shell around [`Machine`]: moves bytes, keeps time, hands out answers and events.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Buf;
use ofpacket::Features;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Sleep;

use crate::event::EventSender;
use crate::machine::{Failure, Machine, Output, Request, Response, Ticket};
use crate::{CloseReason, Error};

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Result<Response, Failure>>,
}

/// Bytes that may wait to be written before new requests are left waiting instead.
const WRITE_HIGH: usize = 1 << 20;
/// A message has at most 64 KiB: there is always room for the rest of one, and for as much again.
const INPUT: usize = 128 << 10;

/// One connection, as long as it lasts.
pub(crate) struct Connection<S> {
    stream: S,
    machine: Machine,
    calls: mpsc::Receiver<Call>,
    calls_open: bool,
    events: EventSender,
    ready: Option<oneshot::Sender<Result<Features, Error>>>,
    closed: watch::Sender<Option<CloseReason>>,
    input: Input,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Response, Failure>>>,
    next_ticket: Ticket,
    timer: Pin<Box<Sleep>>,
}

/// What was read and not yet taken in: `buffer[from..to]`.
struct Input {
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Input {
    fn new() -> Self {
        Self { buffer: vec![0; INPUT].into_boxed_slice(), from: 0, to: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }

    fn take(&mut self, n: usize) {
        self.from += n;
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.buffer.len() - self.to < self.buffer.len() / 2 {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, stream: impl AsyncRead + Unpin) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(&mut self.buffer[self.to..]);
        ready!(Pin::new(&mut { stream }).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.to += read;
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(
        stream: S,
        machine: Machine,
        calls: mpsc::Receiver<Call>,
        events: EventSender,
        ready: oneshot::Sender<Result<Features, Error>>,
        closed: watch::Sender<Option<CloseReason>>,
    ) -> Self {
        let now = tokio::time::Instant::now();
        Self {
            stream,
            machine,
            calls,
            calls_open: true,
            events,
            ready: Some(ready),
            closed,
            input: Input::new(),
            waiting: HashMap::new(),
            next_ticket: 0,
            timer: Box::pin(tokio::time::sleep_until(now)),
        }
    }

    /// Runs until the connection ends, and says why to everybody who waits.
    pub(crate) async fn run(mut self) {
        let reason = loop {
            if let Some(reason) = self.drain_machine() {
                break reason;
            }
            if !self.calls_open && self.events.is_closed() {
                break CloseReason::Unused;
            }
            poll_fn(|cx| self.poll_progress(cx)).await;
        };
        self.end(reason);
    }

    /// Does what can be done now; pending if that is nothing. It always reads while it writes: Open vSwitch
    /// stops reading when a hundred replies wait for us.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let calls = self.poll_calls(cx);
        let wrote = self.poll_write(cx);
        let read = self.poll_read(cx);
        let time = self.poll_time(cx);
        let unused = !self.calls_open && self.events.poll_closed(cx).is_ready();
        match calls || wrote || read || time || unused {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn poll_calls(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.calls_open || self.machine.transmit(now()).len() >= WRITE_HIGH {
            return false;
        }
        match self.calls.poll_recv(cx) {
            Poll::Ready(Some(Call { request, answer })) => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.waiting.insert(ticket, answer);
                self.machine.handle_request(now(), ticket, request);
                true
            }
            Poll::Ready(None) => {
                self.calls_open = false;
                true
            }
            Poll::Pending => false,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let transmit = self.machine.transmit(now());
        if transmit.is_empty() {
            return false;
        }
        match Pin::new(&mut self.stream).poll_write(cx, transmit) {
            Poll::Ready(Ok(0)) => self.failed(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => transmit.advance(n),
            Poll::Ready(Err(error)) => self.failed(error),
            Poll::Pending => return false,
        }
        true
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        match self.input.poll_read(cx, &mut self.stream) {
            Poll::Ready(Ok(0)) => self.machine.close(CloseReason::Eof),
            Poll::Ready(Ok(_)) => {
                let taken = self.machine.handle_input(now(), self.input.bytes());
                self.input.take(taken);
            }
            Poll::Ready(Err(error)) => self.failed(error),
            Poll::Pending => return false,
        }
        true
    }

    /// The timer may go off early, since most deadlines are put off before they come: that is cheaper than
    /// setting it each time.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.machine.poll_timeout().map(tokio::time::Instant::from_std) else {
            return false;
        };
        if self.timer.is_elapsed() || self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.machine.handle_timeout(now());
        true
    }

    fn failed(&mut self, error: io::Error) {
        self.machine.close(CloseReason::Io(Arc::new(error)));
    }

    /// Does what the machine wants; `Some` if that is the end.
    fn drain_machine(&mut self) -> Option<CloseReason> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Ready(features) => self.tell_ready(Ok(features)),
                Output::Failed(error) => self.tell_ready(Err(error)),
                Output::Answer(ticket, result) => {
                    if let Some(answer) = self.waiting.remove(&ticket) {
                        let _ = answer.send(result);
                    }
                }
                Output::Event(event, len) => {
                    if !self.events.send(event, len) {
                        self.machine.close(CloseReason::EventOverflow);
                    }
                }
                Output::Close(reason) => return Some(reason),
            }
        }
        None
    }

    fn tell_ready(&mut self, result: Result<Features, Error>) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(result);
        }
    }

    fn end(mut self, reason: CloseReason) {
        self.machine.close(reason.clone());
        // The answers come before the end.
        self.drain_machine();
        self.tell_ready(Err(Error::Closed(reason.clone())));
        // Before the queues close, so that whoever finds them closed finds the reason.
        self.closed.send_replace(Some(reason.clone()));
        self.calls.close();
        while let Ok(Call { request, answer }) = self.calls.try_recv() {
            let _ = answer.send(Err(request.closed(reason.clone())));
        }
    }
}

/// The runtime's time, which a test may stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
