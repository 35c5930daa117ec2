//! The door between a controller and the API server: it counts what goes through, and tells of the very write at which
//! its writer is to be struck.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use kube::Client;
use kube::client::Body as KubeBody;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// When a writer is struck, in the middle of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has asked for the write, and the server has not heard of it.
    Before,
    /// The server has carried it out, and the writer has not heard of that.
    After,
}

/// At which of the writes that follow, counted from 1, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    pub write: u64,
    pub moment: Moment,
}

/// A write of an object stands in the door until it is let go on, and is turned away if this is dropped.
#[derive(Debug)]
pub struct Struck(oneshot::Sender<()>);

impl Struck {
    /// Lets it go on: the write to the server, or the server's answer to the writer.
    pub fn go_on(self) {
        // The writer may have hung up.
        let _ = self.0.send(());
    }
}

/// What has gone through.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Requests of any kind; a watch is one.
    pub requests: u64,
    /// Of those, writes of Limosa's objects.
    pub writes: u64,
}

/// An HTTP server on loopback that passes everything on. It ends when this is dropped.
pub struct Door {
    address: SocketAddr,
    passage: Arc<Passage>,
    server: JoinHandle<()>,
}

struct Passage {
    upstream: Client,
    state: Mutex<(Traffic, Option<Strike>)>,
    struck: mpsc::Sender<Struck>,
}

impl Door {
    /// Opens one. What comes through has the rights of `upstream`; strikes are told to `struck`.
    ///
    /// # Errors
    ///
    /// When there is no port.
    pub async fn open(upstream: Client, struck: mpsc::Sender<Struck>) -> Result<Self> {
        let passage = Arc::new(Passage { upstream, state: Mutex::default(), struck });
        let listener =
            tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("open a door")?;
        let address = listener.local_addr().context("open a door")?;
        let routes = Router::new().fallback(pass).with_state(Arc::clone(&passage));
        let server = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { address, passage, server })
    }

    /// Where it is, as a kubeconfig names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Counts writes anew, and strikes at one of them.
    pub fn strike(&self, strike: Option<Strike>) {
        let mut state = self.passage.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.writes = 0;
        state.1 = strike;
    }

    /// What has gone through so far.
    pub fn traffic(&self) -> Traffic {
        self.passage.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Passage {
    /// Counts a request; the moment at which its writer is to be struck, if it is.
    fn count(&self, request: &Request) -> Option<Moment> {
        // A lease is renewed from time to time, and nothing depends on an event.
        let is_write = request.method() != Method::GET && request.uri().path().contains("/portmigrations");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (traffic, strike) = &mut *state;
        traffic.requests += 1;
        traffic.writes += u64::from(is_write);
        let due = strike.take_if(|strike| is_write && strike.write == traffic.writes);
        due.map(|strike| strike.moment)
    }

    /// Waits until what stands in the door may go on; false if it is turned away.
    async fn hold(&self) -> bool {
        let (go_on, waits) = oneshot::channel();
        self.struck.send(Struck(go_on)).await.is_ok() && waits.await.is_ok()
    }

    async fn pass(&self, request: Request) -> Response {
        let moment = self.count(&request);
        if moment == Some(Moment::Before) && !self.hold().await {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        let answer = self.forward(request).await;
        if moment == Some(Moment::After) && !self.hold().await {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        answer
    }

    async fn forward(&self, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        // The client has its own word for who asks and for where.
        parts.headers.remove("authorization");
        parts.headers.remove("host");
        let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let request = http::Request::from_parts(parts, KubeBody::from(body.to_vec()));
        match self.upstream.send(request).await {
            Ok(response) => response.map(Body::new),
            Err(_) => StatusCode::BAD_GATEWAY.into_response(),
        }
    }
}

async fn pass(State(passage): State<Arc<Passage>>, request: Request) -> Response {
    // Whoever does not wait for the answer is struck all the same.
    let passed = tokio::spawn(async move { passage.pass(request).await }).await;
    passed.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
}
