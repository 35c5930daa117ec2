//! The HTTP server of `/metrics`, `/healthz` and `/readyz`, which whoever reaches
//! its port may use as badly as they like.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Connections at a time. One more closes the oldest: those that only wait make
/// room for a scrape, which is over within milliseconds.
const MAX_CONNECTIONS: usize = 64;
/// From a connection to the end of its answer; it serves one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// Of a request, to the end of its headers; hyper answers a longer one with 431.
const MAX_REQUEST: usize = 16 << 10;
/// The pause after a connection that could not be accepted: most likely there
/// are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a program can do its work; if not, why.
pub(crate) type Readiness = Result<(), String>;

/// Serves a registry until the program ends.
///
/// Everything runs on one thread: a program that hangs answers `/healthz` no
/// more than anything else.
pub(crate) async fn serve(
    listen: SocketAddr,
    registry: Registry,
    ready: watch::Receiver<Readiness>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (--metrics-listen): is the port taken?"))?;
    tracing::info!(%listen, "metrics are served");
    tokio::spawn(accept(listener, registry, ready, DEADLINE));
    Ok(())
}

async fn accept(
    listener: TcpListener,
    registry: Registry,
    ready: watch::Receiver<Readiness>,
    deadline: Duration,
) {
    let mut open = VecDeque::<AbortHandle>::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() == MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let answered = tokio::time::timeout(deadline, answer(stream, registry.clone(), ready.clone()));
        // Whoever breaks off has broken off.
        open.push_back(tokio::spawn(async { drop(answered.await) }).abort_handle());
        // What has come with a connection is looked at before the next one can close it.
        tokio::task::yield_now().await;
    }
}

async fn answer(
    stream: TcpStream,
    registry: Registry,
    ready: watch::Receiver<Readiness>,
) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, &registry, &ready);
        async { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .max_header_size(MAX_REQUEST)
        .max_buf_size(MAX_REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond<B>(
    request: &Request<B>,
    registry: &Registry,
    ready: &watch::Receiver<Readiness>,
) -> Response<String> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => metrics(registry),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match &*ready.borrow() {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz or /readyz\n"),
    }
}

fn metrics(registry: &Registry) -> Response<String> {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(metrics) => {
            let mut response = Response::new(metrics);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::TEXT_FORMAT));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<String> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server whose connections last as long as `deadline`.
    async fn server(deadline: Duration) -> SocketAddr {
        let registry = Registry::new();
        super::super::Maker(&registry).build_info();
        let (ready, readiness) = watch::channel(Err("it has just started".to_owned()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            accept(listener, registry, readiness, deadline).await;
            drop(ready);
        });
        address
    }

    /// Everything that comes until the other end closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
        // What a closed connection had not read makes it a reset one.
        let _ = read.expect("the connection is not closed");
        String::from_utf8(answer).unwrap()
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    async fn assert_a_scrape_works(address: SocketAddr) {
        let scrape = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(scrape.starts_with("HTTP/1.1 200 OK\r\n"), "{scrape}");
        assert!(scrape.contains("content-type: text/plain; version=0.0.4"), "{scrape}");
        assert!(scrape.contains("\nlimosa_build_info{"), "{scrape}");
    }

    #[tokio::test]
    async fn what_is_asked_is_answered() {
        let address = server(DEADLINE).await;
        assert_a_scrape_works(address).await;
        for (request, answer) in [
            ("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"),
            ("GET /readyz HTTP/1.1\r\n\r\n", "HTTP/1.1 503 Service Unavailable"),
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
            (
                "POST /metrics HTTP/1.1\r\ncontent-length: 1000000000\r\n\r\n",
                "HTTP/1.1 405 Method Not Allowed",
            ),
            ("\x16\x03\x01 no TLS here\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ] {
            let answered = ask(address, request).await;
            assert!(answered.starts_with(answer), "{request}: {answered}");
        }
        let large = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(2 * MAX_REQUEST));
        let refused = ask(address, &large).await;
        assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
        assert_a_scrape_works(address).await;
    }

    #[tokio::test]
    async fn who_dawdles_is_cut_off_and_a_flood_keeps_no_scrape_away() {
        let address = server(Duration::from_secs(600)).await;
        // They say a little and then wait.
        let mut slow = Vec::new();
        for _ in 0..10 * MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nx-").await.unwrap();
            slow.push(stream);
        }
        assert_a_scrape_works(address).await;
        // The oldest had to go.
        for stream in &mut slow[..9 * MAX_CONNECTIONS] {
            assert_eq!(rest(stream).await, "");
        }
        // All others are still there, and one of them finishes its request.
        let mut last = slow.pop().unwrap();
        last.write_all(b"y: z\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(rest(&mut last).await.starts_with("HTTP/1.1 200 OK"));

        // A deadline for those that nobody pushes out.
        let address = server(Duration::from_millis(50)).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\nx-").await.unwrap();
        assert_eq!(rest(&mut slow).await, "");
    }
}
