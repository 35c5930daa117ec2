//! Questions to a running ovs-vswitchd, as `ovs-appctl` asks them: JSON-RPC on
//! the daemon's control socket (OVS `lib/unixctl.c`, ovs-appctl(8)).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ovsdb_rs::Framer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A dump of 100,000 connections is about 20 MB.
const MAX_REPLY: usize = 64 << 20;
/// ovs-vswitchd answers from its main thread, which may be busy.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs one command of ovs-vswitchd's; returns what `ovs-appctl` would print.
///
/// # Errors
///
/// The daemon is not there, does not answer in ten seconds, or refuses.
pub(super) async fn call(ovs_rundir: &Path, method: &str, args: &[&str]) -> anyhow::Result<String> {
    let asked = async {
        let pidfile = ovs_rundir.join("ovs-vswitchd.pid");
        let pid = tokio::fs::read_to_string(&pidfile)
            .await
            .with_context(|| format!("cannot read {}: is ovs-vswitchd running?", pidfile.display()))?;
        // The second is what people choose who start it with --unixctl.
        let named = ovs_rundir.join(format!("ovs-vswitchd.{}.ctl", pid.trim()));
        let plain = ovs_rundir.join("ovs-vswitchd.ctl");
        let socket = if !named.exists() && plain.exists() { plain } else { named };
        ask(&socket, method, args).await.with_context(|| format!("{method} on {}", socket.display()))
    };
    tokio::time::timeout(DEADLINE, asked)
        .await
        .with_context(|| format!("ovs-vswitchd did not answer {method} in {} s", DEADLINE.as_secs()))?
}

/// How many decisions the datapaths have in their caches.
///
/// # Errors
///
/// As [`call`], or the answer does not say it.
pub(super) async fn cached(ovs_rundir: &Path) -> anyhow::Result<u32> {
    let text = call(ovs_rundir, "upcall/show", &[]).await?;
    cached_in(&text).with_context(|| format!("upcall/show does not say how many flows there are: {text}"))
}

/// The same, of an answer to `upcall/show` (OVS `ofproto/ofproto-dpif-upcall.c`).
fn cached_in(text: &str) -> Option<u32> {
    let count = |line: &str| {
        let (_, rest) = line.trim_start().strip_prefix("flows")?.split_once("(current ")?;
        rest.split_once(')')?.0.parse::<u32>().ok()
    };
    text.lines().filter_map(count).reduce(u32::saturating_add)
}

async fn ask(socket: &Path, method: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = json!({"id": 0, "method": method, "params": args});
    stream.write_all(request.to_string().as_bytes()).await?;
    let mut framer = Framer::new(MAX_REPLY);
    let mut buffer = vec![0; 1 << 16];
    let reply = loop {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the daemon closed the connection");
        framer.push(&buffer[..read]);
        if let Some(reply) = framer.next_value()? {
            break reply;
        }
    };
    let Value::Object(mut reply) = reply else { bail!("what came back is no reply") };
    let mut take = |key| reply.remove(key).unwrap_or_default();
    match (take("error"), take("result")) {
        (Value::Null, Value::String(text)) => Ok(text),
        (Value::String(error), _) => bail!("refused: {}", error.trim()),
        _ => bail!("neither a result nor an error came back"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    async fn answered_with(reply: &'static str) -> anyhow::Result<String> {
        answered(async |stream| stream.write_all(reply.as_bytes()).await.unwrap()).await
    }

    /// What is made of an answer that a daemon writes in this way.
    async fn answered(write: impl AsyncFnOnce(&mut UnixStream)) -> anyhow::Result<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ovs-vswitchd.pid"), "7\n").unwrap();
        let listener = UnixListener::bind(dir.path().join("ovs-vswitchd.7.ctl")).unwrap();
        let server = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1000];
            let read = stream.read(&mut request).await.unwrap();
            let request: Value = serde_json::from_slice(&request[..read]).unwrap();
            assert_eq!(
                (&request["method"], &request["params"][0]),
                (&json!("dpctl/dump-conntrack"), &json!("-m"))
            );
            write(&mut stream).await;
        };
        tokio::join!(call(dir.path(), "dpctl/dump-conntrack", &["-m"]), server).0
    }

    #[tokio::test]
    async fn an_answer_a_refusal_and_nonsense() {
        assert_eq!(answered_with(r#"{"id":0,"error":null,"result":"tcp\n"}"#).await.unwrap(), "tcp\n");
        let refused = answered_with(r#"{"id":0,"error":"no such zone\n","result":null}"#).await;
        assert!(format!("{:#}", refused.unwrap_err()).ends_with("refused: no such zone"));
        assert!(answered_with("[]").await.is_err());
        assert!(answered_with("HTTP/1.1").await.is_err());
        assert!(answered_with("").await.is_err());
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up() {
        let mut sent = 0;
        let flood = answered(async |stream| {
            let chunk = [b'x'; 1 << 16];
            stream.write_all(b"{\"id\":0,\"result\":\"").await.unwrap();
            while sent < 2 * MAX_REPLY && stream.write_all(&chunk).await.is_ok() {
                sent += chunk.len();
            }
        });
        let error = format!("{:#}", flood.await.unwrap_err());
        assert!(error.contains(&format!("a message of more than {MAX_REPLY} bytes")), "{error}");
        assert!((MAX_REPLY..MAX_REPLY + (1 << 22)).contains(&sent), "{sent} bytes were taken");
    }

    #[test]
    fn the_caches_of_all_datapaths() {
        let show = |name: &str, flows: u32| {
            format!(
                "{name}:\n  flows         : (current {flows}) (avg 60) (max 102) (limit 200000)\n  offloaded flows : 3\n  dump duration : 1ms\n  ufid enabled : true\n\n  12: (keys 34)\n"
            )
        };
        assert_eq!(cached_in(&show("netdev@ovs-netdev", 34)), Some(34));
        assert_eq!(cached_in(&(show("netdev@ovs-netdev", 34) + &show("system@ovs-system", 8))), Some(42));
        assert_eq!(cached_in("12: (keys 34)"), None);
    }

    #[tokio::test]
    async fn no_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let error = call(dir.path(), "version", &[]).await.unwrap_err();
        assert!(format!("{error:#}").contains("is ovs-vswitchd running?"), "{error:#}");
    }
}
