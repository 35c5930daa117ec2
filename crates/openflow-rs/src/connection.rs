//! The shell around [`Machine`]: moves bytes, keeps time, hands out answers and events.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use ofpacket::{Features, HEADER_LEN, Message, frame_len};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::machine::{Failure, Machine, Output, Request, Response, Ticket};
use crate::{CloseReason, Error, Event};

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Result<Response, Failure>>,
}

/// Bytes that may wait to be written before new requests are left waiting instead. A bundle is one request,
/// however large.
const WRITE_HIGH: usize = 1 << 20;
/// Bytes to make room for before reading; a message has at most 64 KiB.
const READ_CHUNK: usize = 64 << 10;

/// One connection, as long as it lasts.
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    pub(crate) machine: Machine,
    pub(crate) calls: mpsc::Receiver<Call>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) ready: Option<oneshot::Sender<Result<Features, Error>>>,
    pub(crate) closed: watch::Sender<Option<CloseReason>>,
    pub(crate) io: Io,
}

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Io {
    input: BytesMut,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Response, Failure>>>,
    next_ticket: Ticket,
    features: Option<Features>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Runs until the connection ends, and says why to everybody who waits.
    ///
    /// It always reads while it writes: Open vSwitch stops reading when a hundred replies wait for us.
    pub(crate) async fn run(mut self) {
        let mut calls_open = true;
        let reason = loop {
            if let Some(reason) = self.drain_machine() {
                break reason;
            }
            if !calls_open && self.events.is_closed() {
                break CloseReason::Unused;
            }
            let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
            let to_write = self.machine.transmit().len();
            let timeout = self.machine.poll_timeout().map(tokio::time::Instant::from_std);
            self.io.input.reserve(READ_CHUNK);
            tokio::select! {
                read = reader.read_buf(&mut self.io.input) => match read {
                    Ok(0) => self.machine.close(CloseReason::Eof),
                    Ok(_) => self.take_messages(),
                    Err(error) => self.machine.close(CloseReason::Io(Arc::new(error))),
                },
                written = writer.write_buf(self.machine.transmit()), if to_write > 0 => match written {
                    Ok(0) => self.machine.close(CloseReason::Io(Arc::new(io::ErrorKind::WriteZero.into()))),
                    Ok(_) => {}
                    Err(error) => self.machine.close(CloseReason::Io(Arc::new(error))),
                },
                call = self.calls.recv(), if calls_open && to_write < WRITE_HIGH => match call {
                    Some(call) => self.call(call),
                    None => calls_open = false,
                },
                () = sleep_until(timeout) => self.machine.handle_timeout(Instant::now()),
                () = self.events.closed(), if !calls_open => {}
            }
        };
        self.end(reason);
    }

    fn call(&mut self, Call { request, answer }: Call) {
        let ticket = self.io.next_ticket;
        self.io.next_ticket += 1;
        self.io.waiting.insert(ticket, answer);
        self.machine.handle_request(Instant::now(), ticket, request);
    }

    /// Cuts what was read into messages.
    fn take_messages(&mut self) {
        let now = Instant::now();
        self.machine.heard(now);
        loop {
            let len = match frame_len(&self.io.input) {
                None => return,
                Some(Ok(len)) => len,
                Some(Err(error)) => return self.machine.close(error.into()),
            };
            if self.io.input.len() < len {
                return;
            }
            let frame = self.io.input.split_to(len);
            match Message::decode(&frame) {
                Ok(message) => self.machine.handle_message(now, message),
                Err(error) => {
                    tracing::warn!(%error, header = ?&frame[..HEADER_LEN], "an unreadable message");
                    return self.machine.close(error.into());
                }
            }
        }
    }

    /// Does what the machine wants; `Some` if that is the end.
    fn drain_machine(&mut self) -> Option<CloseReason> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Ready(features) => self.io.features = Some(features),
                Output::Failed(error) => {
                    if let Some(ready) = self.ready.take() {
                        let _ = ready.send(Err(error));
                    }
                }
                Output::Answer(ticket, result) => {
                    if let Some(answer) = self.io.waiting.remove(&ticket) {
                        let _ = answer.send(result);
                    }
                }
                Output::Event(event) => match self.events.try_send(event) {
                    Ok(()) | Err(TrySendError::Closed(_)) => {}
                    Err(TrySendError::Full(_)) => self.machine.close(CloseReason::EventOverflow),
                },
                Output::Close(reason) => return Some(reason),
            }
        }
        if self.machine.is_ready()
            && let Some(features) = self.io.features.take()
            && let Some(ready) = self.ready.take()
        {
            let _ = ready.send(Ok(features));
        }
        None
    }

    fn end(mut self, reason: CloseReason) {
        self.machine.close(reason.clone());
        while let Some(output) = self.machine.poll_output() {
            if let Output::Answer(ticket, result) = output
                && let Some(answer) = self.io.waiting.remove(&ticket)
            {
                let _ = answer.send(result);
            }
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(Error::Closed(reason.clone())));
        }
        // Before the queues close, so that whoever finds them closed finds the reason.
        self.closed.send_replace(Some(reason.clone()));
        self.calls.close();
        while let Ok(Call { request, answer }) = self.calls.try_recv() {
            let _ = answer.send(Err(request.closed(reason.clone())));
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
