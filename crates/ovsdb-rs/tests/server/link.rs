//! A wire that the test can take down: between two servers of the cluster, or between clients and a server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes on to a Unix socket what comes in at the other end. While it is down nothing passes, and nobody is
/// told: connections stay, new ones seem to succeed, and all go on where they stopped once it is up again, as
/// TCP does through an outage of the network.
#[derive(Debug)]
pub(crate) struct Link {
    up: watch::Sender<bool>,
    counts: Arc<Counts>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    attempts: AtomicUsize,
    resumed: AtomicUsize,
}

/// Bytes passed on at a time.
const CHUNK: usize = 64 << 10;

/// How ovsdb-server writes that it still knows the transaction from which a monitor is to go on
/// (ovsdb-server(7) section 4.1.15).
const FOUND: &[u8] = b"\"result\":[true,";

impl Link {
    /// From a Unix socket that it makes.
    pub(crate) fn unix(at: &Path, to: PathBuf) -> Self {
        Self::start(Listener::Unix(UnixListener::bind(at).unwrap()), to)
    }

    /// From a free port on loopback, which is given too.
    pub(crate) async fn tcp(to: PathBuf) -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (Self::start(Listener::Tcp(listener), to), port)
    }

    fn start(listener: Listener, to: PathBuf) -> Self {
        let (up, _) = watch::channel(true);
        let counts = Arc::new(Counts::default());
        let mut task = JoinSet::new();
        let (state, counted) = (up.subscribe(), Arc::clone(&counts));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok(near) = listener.accept().await {
                counted.attempts.fetch_add(1, Ordering::Relaxed);
                connections.spawn(connection(near, to.clone(), state.clone(), Arc::clone(&counted)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { up, counts, _task: task }
    }

    pub(crate) fn set(&self, up: bool) {
        self.up.send_replace(up);
    }

    /// Connections that were made to it, whether or not they got through.
    pub(crate) fn attempts(&self) -> usize {
        self.counts.attempts.load(Ordering::Relaxed)
    }

    /// Monitors that went on where an earlier connection had ended; one whose answer came in two pieces may
    /// be missing.
    pub(crate) fn resumed(&self) -> usize {
        self.counts.resumed.load(Ordering::Relaxed)
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream + Unpin>> {
        match self {
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Ends when both sides have closed, or when the far one cannot be reached.
async fn connection(
    near: Box<dyn Stream + Unpin>,
    to: PathBuf,
    up: watch::Receiver<bool>,
    counts: Arc<Counts>,
) {
    let _ = up.clone().wait_for(|up| *up).await;
    let Ok(far) = UnixStream::connect(to).await else { return };
    let (near_in, near_out) = tokio::io::split(near);
    let (far_in, far_out) = far.into_split();
    // An error is how a connection ends here.
    let to_server = pass(near_in, far_out, up.clone(), |_| ());
    let to_client = pass(far_in, near_out, up, |bytes| {
        let found = bytes.windows(FOUND.len()).filter(|window| *window == FOUND).count();
        counts.resumed.fetch_add(found, Ordering::Relaxed);
    });
    let _ = tokio::join!(to_server, to_client);
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut up: watch::Receiver<bool>,
    look: impl Fn(&[u8]),
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = from.read(&mut chunk).await.unwrap_or(0);
        // What was under way when the link went down waits with the rest.
        if up.wait_for(|up| *up).await.is_err() {
            return Ok(());
        }
        if count == 0 {
            return to.shutdown().await;
        }
        look(&chunk[..count]);
        to.write_all(&chunk[..count]).await?;
    }
}
