//! A proxy in front of a real server, on the level of messages: it sees what is said, refuses what an older
//! server would not know, and loses connections at chosen moments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ovsdb_rs::Framer;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What to do with the next transaction that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lose {
    Nothing,
    /// The connection, before the server has heard of it.
    Request,
    /// The connection, when the server has answered.
    Reply,
}

pub(crate) struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    refused: Vec<&'static str>,
    lose: Mutex<Lose>,
    /// Methods that were asked for, with the reply.
    seen: Mutex<Vec<(Value, Value)>>,
    /// Whether connections pass; a change ends those that there are.
    open: watch::Sender<bool>,
}

impl Proxy {
    /// `server` is a `unix:` remote.
    pub(crate) async fn start(server: &str, refused: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            server: server.strip_prefix("unix:").unwrap().to_owned(),
            refused: refused.to_vec(),
            lose: Mutex::new(Lose::Nothing),
            seen: Mutex::default(),
            open: watch::channel(true).0,
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&accepting).serve(client));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn remote(&self) -> String {
        format!("tcp:{}", self.address)
    }

    /// Ends the connections and lets no other through, or lets them pass again.
    pub(crate) fn set_open(&self, open: bool) {
        self.shared.open.send_replace(open);
    }

    pub(crate) fn lose(&self, lose: Lose) {
        *self.shared.lose.lock().unwrap() = lose;
    }

    /// The requests of a method and their replies so far.
    pub(crate) fn seen(&self, method: &str) -> Vec<(Value, Value)> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|(request, _)| request["method"] == method).cloned().collect()
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        let mut open = self.open.subscribe();
        if !*open.borrow_and_update() {
            return;
        }
        let Ok(mut server) = UnixStream::connect(&self.server).await else { return };
        let (mut from_client, mut from_server) = (Framer::default(), Framer::default());
        let mut requests = BTreeMap::new();
        let mut doomed = false;
        loop {
            tokio::select! {
                _ = open.changed() => return,
                message = next(&mut client, &mut from_client) => {
                    let Some(message) = message else { return };
                    let lose = *self.lose.lock().unwrap();
                    if message["method"] == "transact" && lose != Lose::Nothing {
                        self.lose.lock().unwrap().clone_from(&Lose::Nothing);
                        if lose == Lose::Request {
                            return;
                        }
                        doomed = true;
                    }
                    if self.refused.iter().any(|refused| message["method"] == *refused) {
                        let refusal = json!({ "id": message["id"], "result": null, "error": "unknown method" });
                        self.seen.lock().unwrap().push((message, refusal.clone()));
                        if client.write_all(refusal.to_string().as_bytes()).await.is_err() { return }
                        continue;
                    }
                    if message["method"].is_string() {
                        requests.insert(message["id"].to_string(), message.clone());
                    }
                    if server.write_all(message.to_string().as_bytes()).await.is_err() { return }
                }
                message = next(&mut server, &mut from_server) => {
                    let Some(message) = message else { return };
                    if let Some(request) = requests.remove(&message["id"].to_string()) {
                        if doomed && request["method"] == "transact" {
                            return;
                        }
                        self.seen.lock().unwrap().push((request, message.clone()));
                    }
                    if client.write_all(message.to_string().as_bytes()).await.is_err() { return }
                }
            }
        }
    }
}

/// The next message; safe to be cancelled between two reads.
async fn next(stream: &mut (impl AsyncRead + Unpin), framer: &mut Framer) -> Option<Value> {
    loop {
        if let Some(value) = framer.next_value().ok()? {
            return Some(value);
        }
        let mut buffer = [0; 16 << 10];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        framer.push(&buffer[..count]);
    }
}
