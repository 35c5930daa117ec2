//! A stream that can be made to stand still, to force upon a real switch what it does not do by itself.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Opens and shuts the way from the switch.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    shut: bool,
    reader: Option<Waker>,
    commit: Commit,
}

/// What happens to the COMMIT of a bundle.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Commit {
    #[default]
    Passes,
    /// The gate shuts behind it, and the answer does not come.
    Shuts,
    /// It never reaches the switch.
    IsLost,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.0.lock().expect("no panic").shut = true;
    }

    pub(crate) fn open(&self) {
        let mut state = self.0.lock().expect("no panic");
        state.shut = false;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    pub(crate) fn on_commit(&self, commit: Commit) {
        self.0.lock().expect("no panic").commit = commit;
    }

    pub(crate) fn before(&self, stream: UnixStream) -> Gated {
        Gated { stream, gate: self.clone() }
    }
}

/// A stream with a gate before its reader.
pub(crate) struct Gated {
    stream: UnixStream,
    gate: Gate,
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut state = self.gate.0.lock().expect("no panic");
            if state.shut {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Sent alone: BUNDLE_CONTROL of 16 bytes with the type 4.
        if let [6, 33, 0, 16, _, _, _, _, _, _, _, _, 0, 4, _, _] = buf {
            let commit = self.gate.0.lock().expect("no panic").commit;
            if commit == Commit::IsLost {
                return Poll::Ready(Ok(buf.len()));
            }
            if commit == Commit::Shuts {
                self.gate.shut();
            }
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
